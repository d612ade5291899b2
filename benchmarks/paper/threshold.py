"""Figure 7 of the paper: accuracy and calls at every threshold, for small models of four kinds.

The same models and answers as `paper_sentiment`, from its cache where that was run: their time counts there. The paper
advises a threshold in [.97, .99]: here it stands beside the one chosen on other rows, and the best in hindsight.
"""

from __future__ import annotations

from benchmarks.harness import Context, Figures, Table
from benchmarks.paper import sentiment, table

PAPER = {
    "lstm.0_97.accuracy": 94.20,
    "lstm.0_97.calls": 54.66,
    "lstm.0_99.accuracy": 94.45,
    "lstm.0_99.calls": 80.00,
    "who": "with TextCNN or LSTM the cascade passes ChatGPT (94.43) above .97, with BERT above .85",
}
DIFFERS = sentiment.DIFFERS
NOT_RECHECKED = sentiment.NOT_RECHECKED
SIZES = sentiment.SIZES
LARGE = "qwen_1_5b"
ARMS = {
    f"{kind}.{cut:g}".replace("0.", "0_"): f"{name}, threshold {cut:g}"
    for kind, name in sentiment.SMALL.items()
    for cut in sentiment.GRID
} | {"large": sentiment.NAMES[LARGE]}


def run(context: Context) -> Figures:
    inner = Context("paper_sentiment", context.quick, context.seed, context.console, context.full)
    found = sentiment.run(inner)
    context.seeds, context.hashes = inner.seeds, inner.hashes
    large = LARGE if f"{LARGE}.large.accuracy" in found else "qwen_0_5b"
    figures: Figures = {
        key.removeprefix(f"{large}."): v for key, v in found.items() if key.startswith(f"{large}.large")
    }
    for key, value in found.items():
        if key.startswith(f"{large}.curve."):
            kind, cut, what = key.removeprefix(f"{large}.curve.").split(".", 2)
            figures[f"{kind}.{cut}.{what.replace('right', 'accuracy').replace('asked', 'calls')}"] = value
    for kind in sentiment.SMALL:
        figures[f"{kind}.chosen.accuracy"] = found[f"{large}.{kind}.accuracy"]
        figures[f"{kind}.chosen.accuracy.low"] = found[f"{large}.{kind}.accuracy.low"]
        figures[f"{kind}.chosen.accuracy.high"] = found[f"{large}.{kind}.accuracy.high"]
        figures[f"{kind}.chosen.calls"] = found[f"{large}.{kind}.calls"]
    return figures


def verdict(figures: Figures) -> str:
    parts = []
    for kind, name in sentiment.SMALL.items():
        cuts = [f"{cut:g}".replace(".", "_") for cut in sentiment.GRID]
        above = [c for c in cuts if figures[f"{kind}.{c}.accuracy"] > figures["large.accuracy"]]
        best = max(cuts, key=lambda c: figures[f"{kind}.{c}.accuracy"])
        where = (
            f"above the large model from {above[0].replace('_', '.')} on" if above else "never above the large model"
        )
        parts.append(
            f"{name}: {where}, best at {best.replace('_', '.')} ({figures[f'{kind}.{best}.accuracy']:.1f} % at "
            f"{figures[f'{kind}.{best}.calls']:.0f} % of the calls)"
        )
    return "; ".join(parts) + "."


def tables(figures: Figures) -> list[Table]:
    names = ARMS | {f"{kind}.chosen": f"{name}, chosen on other rows" for kind, name in sentiment.SMALL.items()}
    return table("threshold", "Every threshold (Figure 7)", figures, PAPER, names)
