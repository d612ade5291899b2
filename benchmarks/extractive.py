"""What a text shortened to its own sentences keeps of the decisive act, beside cheap ways to shorten.

`accounts.json` holds twenty first-person accounts of about 300 words, written for this project before the summarizer
was: self-praise, side stories and feelings around the two or three sentences in which somebody does what the dispute is
about. Ten are for development; the ten locked ones were scored when all was decided. Kept means that every decisive
sentence is in the shortened text, whole. Truncation keeps the first tokens, and may cut a sentence. The decisive
sentences stand mostly in the second half, which flatters whoever keeps the end: so the end is an arm of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Context, Figures, Table, interval, number, share

FILE = Path(__file__).parent / "accounts.json"
HALVES = ("locked", "development")
RATIOS = {"50": 0.5, "35": 0.35}
ARMS = {
    "encoder": "extractive, MiniLM",
    "lexical": "extractive, words alone",
    "truncation": "truncation",
    "leading": "leading sentences",
    "trailing": "trailing sentences",
    "random": "random sentences",
}


def run(context: Context) -> Figures:
    from langchain_dsplus.small_models.encoder import Encoder

    return measure(context, Encoder(backend="torch"))


def recheck(context: Context, figures: Figures) -> Figures:
    """Every arm but that of the encoder."""
    del figures
    return measure(context, None)


def measure(context: Context, encoder: Any) -> Figures:
    """All arms; without an encoder, those that need none."""
    from langchain_dsplus.prompts.extractive import ExtractiveSummarizer
    from langchain_dsplus.prompts.tokens import estimate_tokens

    items = json.loads(context.hash_file(FILE).read_text(encoding="utf-8"))
    rng = context.random("sentences")
    draws = context.pick(20, 5)
    figures: Figures = {}
    with context.progress("accounts", len(RATIOS) * len(items)) as advance:
        for size, ratio in RATIOS.items():
            arms: dict[str, Callable[[str], str]] = {
                **({"encoder": ExtractiveSummarizer(encoder, ratio=ratio).summarize} if encoder is not None else {}),
                "lexical": ExtractiveSummarizer("lexical", ratio=ratio).summarize,
                "truncation": lambda text, ratio=ratio: text[: int(ratio * len(text))],
                "leading": lambda text, ratio=ratio: fitting(text, ratio, lambda s: s),
                "trailing": lambda text, ratio=ratio: fitting(text, ratio, lambda s: s[::-1]),
                "random": lambda text, ratio=ratio: fitting(text, ratio, lambda s: rng.sample(s, len(s))),
            }
            for half in HALVES:
                rows = [item for item in items if item["half"] == half]
                for arm, shorten in arms.items():
                    made = [(i, shorten(i["text"])) for i in rows for _ in range(draws if arm == "random" else 1)]
                    acts = [act in text for i, text in made for act in i["decisive"]]
                    whole = [all(act in text for act in i["decisive"]) for i, text in made]
                    key = f"{half}.{arm}.{size}"
                    # The draws of one account are not independent: no interval there.
                    all_kept = share(f"{key}.accounts", whole)
                    figures |= all_kept if arm != "random" else {f"{key}.accounts": all_kept[f"{key}.accounts"]}
                    figures[f"{key}.acts"] = 100 * sum(acts) / len(acts)
                    tokens = [(estimate_tokens(text), estimate_tokens(i["text"])) for i, text in made]
                    figures[f"{key}.tokens"] = 100 * sum(a for a, _ in tokens) / sum(b for _, b in tokens)
                figures[f"{half}.n"] = len(rows)
                advance(len(rows))
    return figures


def fitting(text: str, ratio: float, order: Callable[[list[Any]], Sequence[Any]]) -> str:
    """Sentences in an order of choice while they fit, put back in the order of the text."""
    from langchain_dsplus.fidelity.sentences import split_sentences
    from langchain_dsplus.prompts.tokens import estimate_tokens

    left, kept = ratio * estimate_tokens(text), []
    for place, sentence in order(list(enumerate(split_sentences(text)))):
        left -= estimate_tokens(sentence + " ")
        if left < 0:
            break
        kept.append((place, sentence))
    return " ".join(sentence for _, sentence in sorted(kept))


def tables(figures: Figures) -> list[Table]:
    rows = [
        [
            title,
            f"{size} %",
            interval(figures, f"locked.{arm}.{size}.accounts"),
            number(figures, f"locked.{arm}.{size}.acts", 1),
            number(figures, f"locked.{arm}.{size}.tokens", 1),
            number(figures, f"development.{arm}.{size}.accounts", 1),
        ]
        for size in RATIOS
        for arm, title in ARMS.items()
    ]
    columns = [
        "arm",
        "budget",
        "accounts with every decisive sentence, %",
        "decisive sentences, %",
        "tokens, %",
        "accounts, development half, %",
    ]
    note = (
        f"{number(figures, 'locked.n', 0)} locked accounts, scored once; {number(figures, 'development.n', 0)} for "
        "development. Wilson intervals. Tokens are estimated."
    )
    return [Table("extractive", "The decisive act in shortened accounts", columns, rows, note)]
