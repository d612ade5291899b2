"""Table 1 of the paper: sentiment of Amazon reviews, small models of four kinds in front of a language model.

8,000 reviews of four categories. 1,000 of them are asked about: by each large model once (`ask`), answers in the
cache. TextCNN, LSTM, TF-IDF and a MiniLM head learn from the other 7,000. A seed draws which 400 of the 1,000 choose
the threshold; the other 600 are reported. IMDB reviews with recorded answers of GPT-3.5 stand beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import data
from benchmarks.harness import Context
from benchmarks.paper import ask_each

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGE = {"qwen_0_5b": "qwen2.5-coder-0.5b", "qwen_1_5b": "qwen2.5-coder-1.5b"}
ASKED = {"qwen_0_5b": 1000, "qwen_1_5b": 500}
LABELS = ["negative", "positive"]
WORDS = 60


def split(context: Context) -> tuple[list[data.SourceRow], list[data.SourceRow]]:
    """The 1,000 reviews that are asked about, a quarter of each category, and the 7,000 that train."""
    rng = context.random("reviews")
    rows = data.amazon_multidomain()
    rng.shuffle(rows)
    asked: list[data.SourceRow] = []
    rest: list[data.SourceRow] = []
    taken: dict[tuple[str, str], int] = {}
    for row in rows:
        key = (row.source, row.label)
        taken[key] = taken.get(key, 0) + 1
        (asked if taken[key] <= 125 else rest).append(row)
    return asked, rest


def shorten(text: str) -> str:
    """The first words: a small machine reads some 40 tokens a second."""
    return " ".join(text.split()[:WORDS])


def ask(context: Context, rows: Sequence[data.SourceRow], model: str) -> list[Any]:
    """The language model's replies, with log-probabilities."""
    return ask_each(
        context,
        LARGE[model],
        [shorten(row.text) for row in rows],
        lambda text: [("human", f"Review: {text}\n\nIs this review positive or negative? Answer with one word.")],
        max_tokens=3,
        logprobs=True,
        top_logprobs=5,
    )
