# ruff: noqa: T201
"""Draw the picture of the report that the README shows, from recorded answers: `python scripts/screenshot_report.py`.

Needs the data set `banking77_gpt` (`python -m benchmarks.data banking77_gpt`), selenium, and Chromium with chromedriver
(Debian: `apt-get install chromium chromium-driver`). The small model is TF-IDF and logistic regression on 1,000 gold
rows; the large one is GPT-4, as recorded. A random two thirds of the test rows make the certificate, the page
shows the other third. With `--chosen` (the picture of the documentation) only what `to_label` asks for has gold: the
disagreements and one in twenty of the other rows.
"""

from __future__ import annotations

import argparse
import base64
import io
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

FLAGS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
]


def make_page(path: Path, *, chosen: bool) -> Path:
    """Write the report of the recorded answers; `chosen`: of a table that was labelled where it was asked for."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from benchmarks import data
    from langchain_dsplus import Outcomes, SklearnClassifier
    from langchain_dsplus.report import write_report
    from langchain_dsplus.threshold.certify import certify

    train = data.shuffled(data.banking77_gpt("train"), 1)[:1000]
    test = data.shuffled(data.banking77_gpt("test"), 2)
    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=30, max_iter=200, random_state=0)
    )
    pipeline.fit([row.text for row in train], [row.label for row in train])
    small = SklearnClassifier(pipeline, score="margin")
    answers = small.answers([row.text for row in test])
    rows = [
        {
            "id": str(place),
            "small": answer["choice"],
            "confidence": answer["confidence"],
            "probabilities": answer["probabilities"],
            "large": row.large["gpt-4"],
            "gold": row.label,
        }
        for place, (answer, row) in enumerate(zip(answers, test, strict=True))
        if not isinstance(answer, Exception)
    ]
    about = {"score": "margin", "labels": small.labels, "small": small.version}
    about |= {"large": "GPT-4, recorded answers", "prompt": "as recorded"}
    texts = {str(place): row.text for place, row in enumerate(test)}
    if chosen:
        truth = {row["id"]: row["gold"] for row in rows}
        table = Outcomes.from_records([{**row, "gold": None} for row in rows], about=about)
        outcomes = table.with_gold([{**line, "gold": truth[line["id"]]} for line in table.to_label()])
        title = f"Banking questions: labels for {int(outcomes.known_gold().sum())} of {len(rows):,}"
        return write_report(path, outcomes, certify(outcomes, "2 points", error_cost=1.0), inputs=texts, title=title)
    outcomes = Outcomes.from_records(rows, about=about)
    certify_rows, fresh = outcomes.split(0.65, seed=3)
    certificate = certify(certify_rows, 0.005)
    return write_report(path, fresh, certificate, inputs=texts, title="Banking questions: what may stay local")


def take(page: Path, picture: Path, *, width: int, height: int, dark: bool) -> None:
    """Photograph the top of the page."""
    from PIL import Image
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
            size = {"width": width, "height": height, "deviceScaleFactor": 1.25, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            browser.get(page.resolve().as_uri())
            shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        finally:
            browser.quit()
    image = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(picture, optimize=True)


def main() -> int:
    """Make the page and the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "report.png")
    parser.add_argument("--page", type=Path, help="keep the page here")
    parser.add_argument("--width", type=int, default=1120)
    parser.add_argument("--height", type=int, default=1345)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--chosen", action="store_true", help="labels where they are asked for")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = make_page(arguments.page or Path(folder) / "report.html", chosen=arguments.chosen)
        take(page, arguments.output, width=arguments.width, height=arguments.height, dark=arguments.dark)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
