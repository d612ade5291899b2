"""The report in a real browser: the slider is moved, the numbers are read back and compared with the rows."""

from __future__ import annotations

import csv
import http.server
import json
import re
import shutil
import threading

import numpy as np
import pytest

from langchain_dsplus.calibration import aurc, auroc, e_aurc, expected_calibration_error
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.report import write_report
from langchain_dsplus.threshold.certify import certify

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1200,1400",
]
EVIL = "</script><img src=x onerror=\"document.title='RAN'\"><script>document.title='RAN'</script>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium with chromedriver on this machine (Debian: chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


def outcomes_of(n=1500, seed=0):
    draw = np.random.default_rng(seed)
    sure = np.round(draw.random(n), 3)  # ties
    gold = draw.integers(0, 4, n)
    small = np.where(draw.random(n) < 0.35 + 0.65 * np.sqrt(sure), gold, (gold + 1) % 4)
    large = np.where(draw.random(n) < 0.88, gold, (gold + 2) % 4)
    return Outcomes(
        {
            "id": [f"row {row}" for row in range(n)],
            "small": [f"class {x}" for x in small],
            "confidence": sure.tolist(),
            "large": [f"class {x}" for x in large],
            "gold": [f"class {x}" for x in gold],
            "slices": [{"language": "de" if x < 0.4 else "en"} for x in draw.random(n)],
            "cost_large": np.round(0.001 + 0.002 * draw.random(n), 5).tolist(),
            "cost_small": [0.00001] * n,
        },
        about={"score": "max_probability", "labels": [f"class {k}" for k in range(4)], "currency": "USD"},
    )


def expected(outcomes, threshold):
    """The same numbers, row by row."""
    rows = outcomes.to_records()
    accepted = [row for row in rows if row["confidence"] > threshold]
    right = sum((row["small"] if row["confidence"] > threshold else row["large"]) == row["gold"] for row in rows)
    lost = {row["id"] for row in accepted if row["small"] != row["gold"] and row["large"] == row["gold"]}
    won = sum(row["small"] == row["gold"] != row["large"] for row in accepted)
    cost = sum(row["cost_small"] + (0 if row["confidence"] > threshold else row["cost_large"]) for row in rows)
    return {
        "n": len(rows),
        "accepted": len(accepted),
        "accuracy": right / len(rows),
        "lost": lost,
        "won": won,
        "cost": 1000 * cost / len(rows),
    }


def number(words):
    return float(re.search(r"[-+]?[\d.,]+", words.replace("\u2212", "-"))[0].replace(",", ""))


def limit(shown):
    """The threshold that the page names."""
    if shown == "accept nothing":
        return float("inf")
    if shown.startswith("just below"):
        return np.nextafter(float(shown.split()[-1]), -np.inf)
    return float(shown)


def read(browser, name):
    return browser.execute_script("return document.getElementById(arguments[0]).textContent", name)


def move(browser, step):
    browser.execute_script(
        "const s = document.getElementById('slider'); s.value = arguments[0]; s.dispatchEvent(new Event('input'));",
        str(step),
    )


def compare(browser, outcomes):
    shown = read(browser, "threshold")
    want = expected(outcomes, limit(shown))
    n = want["n"]
    assert read(browser, "coverage-rows") == f"{want['accepted']:,} of {n:,} inputs"
    assert number(read(browser, "coverage")) == pytest.approx(100 * want["accepted"] / n, abs=0.0501)
    assert number(read(browser, "escalated")) == pytest.approx(100 - 100 * want["accepted"] / n, abs=0.0501)
    assert number(read(browser, "accuracy")) == pytest.approx(100 * want["accuracy"], abs=0.0501)
    assert int(number(read(browser, "harms"))) == len(want["lost"])
    assert int(number(read(browser, "gains"))) == want["won"]
    gain = 100 * (want["won"] - len(want["lost"])) / n
    assert number(read(browser, "gain")) == pytest.approx(gain, abs=0.0501)
    assert number(read(browser, "cost")) == pytest.approx(want["cost"], rel=1e-3)
    low, high = (number(part) for part in read(browser, "accuracy-range").split(" to "))
    assert low <= 100 * want["accuracy"] + 0.06
    assert high >= 100 * want["accuracy"] - 0.06
    assert 0.5 < high - low < 8
    ids = browser.execute_script(
        "return Array.from(document.querySelectorAll('#lost tbody tr')).filter((r) => r.checkVisibility())"
        ".map((r) => r.cells[0].textContent)"
    )
    assert set(ids) == want["lost"]
    for table, key in (
        ("classes", lambda row: row["gold"]),
        ("slices", lambda row: f"language={row['slices']['language']}"),
    ):
        cells = browser.execute_script(
            "return Array.from(document.querySelectorAll('#' + arguments[0] + ' tbody tr'))"
            ".map((r) => Array.from(r.cells).map((c) => c.textContent))",
            table,
        )
        assert cells
        for name, rows, coverage, accuracy, _, harms, gains, _ in cells:
            inside = Outcomes.from_records([row for row in outcomes.to_records() if key(row) == name])
            part = expected(inside, limit(shown))
            assert int(number(rows)) == part["n"]
            assert number(coverage) == pytest.approx(100 * part["accepted"] / part["n"], abs=0.0501)
            assert number(accuracy) == pytest.approx(100 * part["accuracy"], abs=0.0501)
            assert (int(number(harms)), int(number(gains))) == (len(part["lost"]), part["won"])
    return want


def logs(browser):
    """Errors of the console, and addresses that were asked for, since the last call."""
    console = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    asked = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            if not url.startswith("chrome://"):  # the browser's own first page, still loading
                asked.append(url)
    return console, asked


def test_the_slider_moves_the_numbers(browser, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    outcomes = outcomes_of()
    certificate = certify(outcomes, 0.02)
    assert certificate.certified
    texts = {name: f"text of {name}" for name in outcomes.values("id")}
    path = write_report(tmp_path / "report.html", outcomes, certificate, inputs=texts, max_lost=5000)
    logs(browser)
    browser.get(path.as_uri())

    # It opens at the certificate's threshold.
    assert float(read(browser, "threshold")) == certificate.threshold
    assert read(browser, "state") == "Promise holds"
    want = compare(browser, outcomes)
    assert want["accepted"] == round(certificate.coverage * certificate.n)
    assert len(want["lost"]) == certificate.harms

    # By keyboard: one step to the lax side is beyond the promise.
    slider = browser.find_element(By.ID, "slider")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert read(browser, "state") == "No promise here"
    assert float(read(browser, "threshold")) < certificate.threshold
    compare(browser, outcomes)
    assert "No promise here" in slider.get_attribute("aria-valuetext")
    slider.send_keys(Keys.HOME)
    assert read(browser, "state") == "Nothing stays local"
    assert read(browser, "lost-count") == "Nothing is lost at this threshold."
    compare(browser, outcomes)
    slider.send_keys(Keys.END)
    assert compare(browser, outcomes)["accepted"] == len(outcomes)

    last = int(slider.get_attribute("max"))
    assert last <= 500 + len(certificate.steps)
    for step in np.random.default_rng(1).integers(0, last + 1, 8).tolist():
        move(browser, step)
        compare(browser, outcomes)

    # A button, a click on the curve, a sorted table.
    button = next(
        b for b in browser.find_elements(By.CSS_SELECTOR, "button[data-step]") if b.text == "Certified threshold"
    )
    button.click()
    assert float(read(browser, "threshold")) == certificate.threshold
    from selenium.webdriver.common.action_chains import ActionChains

    chart = browser.find_element(By.ID, "quality")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    ActionChains(browser).move_to_element(chart).click().perform()
    assert 40 < number(read(browser, "escalated")) < 60
    compare(browser, outcomes)
    browser.execute_script("document.querySelectorAll('#classes th button')[5].click()")
    lost = browser.execute_script(
        "return Array.from(document.querySelectorAll('#classes tbody tr')).map((r) => r.cells[5].textContent)"
    )
    assert [int(x) for x in lost] == sorted(map(int, lost), reverse=True)
    compare(browser, outcomes)  # the rows keep their numbers wherever they stand

    console, asked = logs(browser)
    assert console == []
    assert asked == [path.as_uri()] or asked == [path.as_uri(), "data:,"]
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_what_others_typed_does_not_run(browser, tmp_path):
    rows = [
        {
            "id": f"{EVIL}{row}",
            "small": f"{EVIL}a",
            "confidence": row / 100,
            "large": f"{EVIL}{'ab'[row % 2]}",
            "gold": f"{EVIL}{'ab'[row % 3 % 2]}",
            "slices": {EVIL: EVIL},
        }
        for row in range(100)
    ]
    outcomes = Outcomes.from_records(rows, about={EVIL: EVIL})
    certificate = certify(outcomes, "40 points")
    texts = dict.fromkeys(outcomes.values("id"), EVIL)
    path = write_report(tmp_path / "evil.html", outcomes, certificate, inputs=texts, title=EVIL)
    logs(browser)
    browser.get(path.as_uri())
    for step in range(0, 101, 20):
        move(browser, step)
    assert browser.title == EVIL
    assert browser.execute_script("return document.images.length") == 0
    assert browser.execute_script("return document.scripts.length") == 2
    assert browser.execute_script("return document.querySelector('h1').textContent") == EVIL
    assert browser.execute_script("return document.querySelector('#lost tbody td.text').textContent") == EVIL
    assert logs(browser)[0] == []


def test_the_policy_stops_what_would_get_in(browser, tmp_path):
    """Were something not escaped, it could neither run nor call home."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_address[1]}"
    path = write_report(tmp_path / "broken.html", outcomes_of(100))
    planted = (
        f"<img src='{home}/image' onerror=\"document.title='RAN'\"><script>document.title='RAN'</script>"
        f"<script src='{home}/script'></script><link rel=stylesheet href='{home}/style'><iframe src='{home}/frame'></iframe>"
    )
    path.write_text(path.read_text(encoding="utf-8").replace("<main>", "<main>" + planted), encoding="utf-8")
    browser.get(path.as_uri())
    move(browser, 3)
    browser.execute_async_script("const done = arguments[0]; setTimeout(done, 300);")
    title = browser.title
    server.shutdown()
    server.server_close()
    assert title == "What may stay local"
    assert asked == []
    assert logs(browser)[0]  # the browser says what it refused


def test_it_works_in_the_dark_on_paper_and_on_a_phone(browser, tmp_path):
    path = write_report(tmp_path / "report.html", outcomes_of(300))
    browser.get(path.as_uri())

    def contrast(selector):
        """WCAG 2 contrast of an element's text against the card it is on."""
        return browser.execute_script(
            """
            const rgb = (text) => text.match(/[0-9.]+/g).slice(0, 3).map(Number);
            const light = (color) => {
              const [r, g, b] = rgb(color).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
              return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const element = document.querySelector(arguments[0]);
            let back = element;
            while (/, 0\\)$/.test(getComputedStyle(back).backgroundColor)) back = back.parentElement;
            const pair = [light(getComputedStyle(element).color), light(getComputedStyle(back).backgroundColor)];
            return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
            """,
            selector,
        )

    for scheme in ("light", "dark"):
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        for selector in (
            ".soft",
            ".tile .small",
            ".tile .big",
            "th button",
            "h1",
            "#classes .bad, #classes .good",
            "button",
        ):
            assert contrast(selector) >= 4.5, (scheme, selector)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert browser.execute_script("return getComputedStyle(document.querySelector('.jumps')).display") == "none"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def truths(outcomes, threshold):
    """The figures of a table with all gold, by the name of the place where the page shows them."""
    small, large = outcomes.correct("small"), outcomes.correct("large")
    sure = np.asarray(outcomes["confidence"])
    local = sure > threshold
    cascade = np.where(local, small, large)
    said = np.array(outcomes.values("large"))
    language = np.array([row["language"] for row in outcomes.values("slices")])
    found = {
        "accuracy": cascade.mean(),
        "large-accuracy": large.mean(),
        "calibration-error": expected_calibration_error(sure, small),
        "aurc": aurc(sure, small),
        "e-aurc": e_aurc(sure, small),
        "auroc": auroc(sure, small),
    }
    if local.any():
        found["local-errors"] = 1.0 - small[local].mean()
    for table, column, prefix in (("classes", said, ""), ("slices", language, "language=")):
        for name in set(column.tolist()):
            mine = column == name
            found[f"{table} {prefix}{name}"] = cascade[mine].mean()
            found[f"{table} {prefix}{name} large"] = large[mine].mean()
    return found


def shown_figures(browser):
    """Every figure of accuracy type on the page, by the same names: its text."""
    found = {}
    for name in ("large-accuracy", "calibration-error", "local-errors", "aurc", "e-aurc", "auroc"):
        if browser.execute_script("return document.getElementById(arguments[0]) !== null", name):
            found[name] = read(browser, name)
    if browser.execute_script("return document.getElementById('accuracy') !== null"):
        found["accuracy"] = f"{read(browser, 'accuracy')} ({read(browser, 'accuracy-range')})"
    else:
        found["accuracy"] = read(browser, "accuracy-needs")
    for table in ("classes", "slices"):
        cells = browser.execute_script(
            "return Array.from(document.querySelectorAll('#' + arguments[0] + ' tbody tr'))"
            ".map((r) => Array.from(r.cells).map((c) => c.textContent))",
            table,
        )
        for name, _, _, accuracy, large, *_ in cells:
            found[f"{table} {name}"], found[f"{table} {name} large"] = accuracy, large
    return found


def covers(words, truth):
    """Whether a figure that is shown covers the truth; None where the page says what it needs instead."""
    ends = re.search(r"\(([\d.]+)\D+ to ([\d.]+)", words)
    assert ends, words
    low, high = (float(end) / 100 for end in ends.groups())
    inside = low - 6e-4 <= truth <= high + 6e-4
    if words.startswith("needs about"):
        assert inside, (words, truth)  # then these are bounds
        return None
    assert high - low <= 0.201
    return inside


def by_labels(whole, folder, agreements, seed):
    """The table as a person leaves it who labels what `to_label` asks for, through its file, sorted in a spreadsheet."""
    truth = dict(zip(whole.values("id"), whole.values("gold"), strict=True))
    empty = Outcomes({name: whole.values(name) for name in whole.columns if name != "gold"}, about=whole.about)
    empty.to_label(folder / "todo.csv", agreements=agreements, seed=seed)
    with (folder / "todo.csv").open(encoding="utf-8-sig", newline="") as file:
        lines = sorted(csv.DictReader(file), key=lambda line: line["id"])
    with (folder / "done.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows({**line, "gold": truth[line["id"]]} for line in lines)
    return empty.with_gold(folder / "done.csv")


@pytest.mark.parametrize(("agreements", "seed"), [(0.0, 0), (0.02, 1), (0.1, 2), (0.1, 3), (0.3, 4)])
def test_labels_that_were_chosen_mislead_nobody(browser, tmp_path, agreements, seed):
    whole = outcomes_of(2500, seed=seed)
    part = by_labels(whole, tmp_path, agreements, seed)
    part.to_jsonl(tmp_path / "part.jsonl")
    path = write_report(tmp_path / "chosen.html", Outcomes.from_jsonl(tmp_path / "part.jsonl"))
    logs(browser)
    browser.get(path.as_uri())
    hits, needs = [], 0
    last = int(browser.execute_script("return document.getElementById('slider').max"))
    for step in (0, last // 3, last // 2, last):
        move(browser, step)
        shown = read(browser, "threshold")
        want = truths(whole, limit(shown))
        found = shown_figures(browser)
        if step == 0:
            assert found.pop("local-errors") == "\u2013"
        assert found.keys() == want.keys()
        for name, words in found.items():
            inside = covers(words, want[name])
            needs += inside is None
            hits += [] if inside is None else [(name, inside)]
    if agreements == 0:
        # The calibration error of a part without labels may still be bounded; nothing else is a figure.
        assert hits == []
    else:
        assert np.mean([inside for _, inside in hits]) >= 0.9, [name for name, inside in hits if not inside]
    if agreements >= 0.1:
        assert {"accuracy", "large-accuracy", "local-errors", "auroc"} <= {name for name, _ in hits}
    assert logs(browser)[0] == []


def collapsed(seed, n=4000):
    """A table on which one class is lost however sure the small model is, under a fine average."""
    whole = outcomes_of(n, seed=seed)
    rows = whole.to_records()
    draw = np.random.default_rng((seed, 1))
    for row in rows:
        sure = row["confidence"]
        lost = row["gold"] == "class 2" and draw.random() < 0.5
        row["small"] = "class 0" if lost else row["gold"] if draw.random() < 0.8 + 0.2 * sure else "class 3"
    return Outcomes.from_records(
        [row for row in rows if row["gold"] != "class 2" or draw.random() < 0.25], about=whole.about
    )


@pytest.mark.parametrize(("seed", "kind"), [(0, "parquet"), (1, "csv"), (2, "jsonl")])
def test_a_certificate_on_chosen_labels_is_read_back_figure_by_figure(browser, tmp_path, seed, kind):
    """The headline names the class that is lost, the alternatives stand side by side, and every figure holds."""
    from langchain_dsplus.losses import parse_loss

    whole = collapsed(seed)
    part = by_labels(whole, tmp_path, 0.1, seed)
    getattr(part, f"to_{kind}")(tmp_path / f"part.{kind}")
    part = getattr(Outcomes, f"from_{kind}")(tmp_path / f"part.{kind}", about=part.about)
    certificate = certify(part, "5 points", error_cost=2.0)
    assert certificate.certified
    browser.get(write_report(tmp_path / "chosen.html", part, certificate).as_uri())

    # The headline: the class that is lost, with its numbers, before what is promised and before any share.
    rows = whole.to_records()
    local = [row for row in rows if row["confidence"] > certificate.threshold]
    mine = [row for row in local if row["gold"] == "class 2"]
    lost = sum(row["small"] != row["gold"] and row["large"] == row["gold"] for row in mine)
    won = sum(row["small"] == row["gold"] != row["large"] for row in mine)
    title = browser.execute_script("return document.querySelector('#verdict').textContent")
    assert title.startswith("Certified, but not for every class: 'class 2' loses ")
    assert f"{lost} lost, {won} won" in title
    card = browser.execute_script("return document.querySelector('section.verdict').textContent")
    assert card.index("'class 2'") < card.index("locally")
    assert "falls from" not in card  # the labelled rows alone are no sample of the class

    # The three certified thresholds, each counted on all gold.
    cells = browser.execute_script(
        "return Array.from(document.querySelectorAll('#alternatives ~ div tbody tr'))"
        ".map((r) => Array.from(r.cells).map((c) => c.textContent))"
    )
    assert [cell[0] for cell in cells] == [item.name for item in certificate.alternatives]
    assert len(cells) == 3
    for (_, shown, calls, gap), item in zip(cells, certificate.alternatives, strict=True):
        assert limit(shown) == pytest.approx(next(iter(item.thresholds.values())), rel=1e-5)
        want = expected(whole, next(iter(item.thresholds.values())))
        assert number(calls) == pytest.approx(100 - 100 * want["accepted"] / want["n"], abs=0.0501)
        gain = 100 * (want["won"] - len(want["lost"])) / want["n"]
        assert number(gap) == pytest.approx(gain, abs=0.0501)
        low, high = (number(end) for end in re.search(r"\((.*) to (.*)\)", gap).groups())
        assert low <= gain + 0.06
        assert high >= gain - 0.06
        assert gain > -100 * parse_loss("5 points")

    # Everything else, at the certificate's threshold and at others.
    hits, last = [], int(browser.execute_script("return document.getElementById('slider').max"))
    for step in (None, last // 2, last):
        if step is not None:
            move(browser, step)
        want = truths(whole, limit(read(browser, "threshold")))
        found = shown_figures(browser)
        assert found.keys() == want.keys()
        hits += [(name, inside) for name in want if (inside := covers(found[name], want[name])) is not None]
        there = expected(whole, limit(read(browser, "threshold")))
        assert int(number(read(browser, "harms"))) == len(there["lost"])
        assert int(number(read(browser, "gains"))) == there["won"]
        assert read(browser, "coverage-rows") == f"{there['accepted']:,} of {there['n']:,} inputs"
    assert len(hits) >= 30
    assert np.mean([inside for _, inside in hits]) >= 0.9, [name for name, inside in hits if not inside]
    assert logs(browser)[0] == []
