"""What the fidelity check of prompt transfer catches, and what it refuses without need, on labeled pairs.

`fidelity_pairs.json` holds statements of one party with faithful paraphrases and with rewrites that have one fault each
(swapped roles, a dropped negation, a changed number, an invented detail, a dropped act, added blame, a claim told
as a fact), in English and Chinese, written for this project. Settings were chosen on `tune`; the figures are those of
`locked`. `rules` is the default check, `encoder` the same with the sentence encoder. A false refusal costs the tokens
that the rewrite would have saved; a fault that passes reaches the large model.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import Context, Figures, Table, interval, number, share

FILE = Path(__file__).parent / "fidelity_pairs.json"
CHECKS = {"rules": "rules", "encoder": "rules and sentence encoder"}
LANGUAGES = {"en": "English", "zh": "Chinese"}


def run(context: Context) -> Figures:
    from langchain_dsplus.fidelity.check import Fidelity
    from langchain_dsplus.small_models.sentence import Encoder

    items = json.loads(context.hash_file(FILE).read_text(encoding="utf-8"))["items"]
    checks = {"rules": Fidelity(), "encoder": Fidelity(encoder=Encoder())}
    figures: Figures = {}
    with context.progress("pairs", len(items) * len(checks)) as advance:
        for name, check in checks.items():
            for language in LANGUAGES:
                rows = [i for i in items if i["language"] == language]
                rows = rows[:: context.pick(1, 4)] if name == "encoder" else rows  # encoding takes nearly all the time
                figures |= score(f"{name}.{language}", check, [i for i in rows if i["split"] == "locked"])
                tuned = score(f"{name}.{language}.tune", check, [i for i in rows if i["split"] == "tune"])
                figures |= {key: value for key, value in tuned.items() if not key.endswith((".low", ".high"))}
                advance(len(rows))
    return figures


def score(key: str, check: Callable[[str, str], Any], items: list[dict[str, Any]]) -> Figures:
    """Shares in percent, with the number of pairs."""
    good = [not check(i["text"], rewrite)["faithful"] for i in items for rewrite in i["faithful"]]
    bad = [not check(i["text"], rewrite)["faithful"] for i in items for rewrite in i["unfaithful"].values()]
    return {
        **share(f"{key}.caught", bad),
        **share(f"{key}.false_refusals", good),
        f"{key}.faults": len(bad),
        f"{key}.paraphrases": len(good),
    }


def tables(figures: Figures) -> list[Table]:
    rows = [
        [
            title,
            language,
            interval(figures, f"{name}.{key}.caught"),
            interval(figures, f"{name}.{key}.false_refusals"),
            number(figures, f"{name}.{key}.faults", 0),
            number(figures, f"{name}.{key}.paraphrases", 0),
            number(figures, f"{name}.{key}.tune.caught", 1),
            number(figures, f"{name}.{key}.tune.false_refusals", 1),
        ]
        for name, title in CHECKS.items()
        for key, language in LANGUAGES.items()
    ]
    columns = [
        "check", "language", "faults caught, %", "paraphrases refused, %", "faults", "paraphrases",
        "caught (tuning half)", "refused (tuning half)",
    ]  # fmt: skip
    note = "Locked half, Wilson intervals; pairs of one statement are not independent."
    return [Table("fidelity", "The fidelity check on labeled rewrites", columns, rows, note)]
