"""The backends of the sentence encoder against torch in 32 bits: sentences per second, and what a head loses.

The encoder is all-MiniLM-L6-v2 but for `static`, which is WordLlama's table; `openvino` is there where it is
installed. `vs_torch` is a ratio of sentences per
second, in batches and one at a time, timed side by side. `accuracy_vs_torch` is in points on the same held-out rows:
each backend trains its own head on its own vectors, as `fit` does.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks import data
from benchmarks.harness import Context, Figures, Table, interleave, interval, number, paired, quartiles, ratio

BACKENDS = ("onnx", "onnx-int8", "openvino", "static")
SETS = {
    "banking77": lambda split: data.banking77_gpt("test" if split == "test" else "few_shot_train"),
    "clinc150": data.clinc150,
    "trec": data.trec,
}
NOT_RECHECKED = "every figure needs the encoder's weights, and most are ratios of times of one machine"


def encoders() -> dict[str, Any]:
    """One encoder for each backend, loaded."""
    from langchain_dsplus.small_models.encoder import Encoder, installed_backends

    here = [name for name in ("torch", *BACKENDS[:-1]) if name in installed_backends()]
    made = {name: Encoder("minilm", backend=name) for name in here}
    return {name: encoder.load() for name, encoder in {**made, "static": Encoder("wordllama")}.items()}


def rows_of(context: Context, name: str) -> tuple[list[Any], list[Any]]:
    """Training and test rows, drawn at random."""
    chosen = []
    for split, n in (("train", context.pick(1000, 200)), ("test", context.pick(600, 100))):
        rows = list(SETS[name](split))
        context.random(f"{name} {split}").shuffle(rows)
        chosen.append(rows[:n])
    return chosen[0], chosen[1]


def run(context: Context) -> Figures:
    from langchain_dsplus.small_models.sentence import SentenceClassifier

    made = encoders()
    figures: Figures = {}
    for name in SETS:
        train, test = rows_of(context, name)
        hits: dict[str, list[bool]] = {}
        for backend, encoder in made.items():
            context.say(f"{name}: a head on {backend}")
            small = SentenceClassifier(encoder, l2=0.1)
            small.fit([row.text for row in train], [row.label for row in train])
            answers = small.batch([row.text for row in test])
            hits[backend] = [answer["choice"] == row.label for answer, row in zip(answers, test, strict=True)]
        figures[f"{name}.n"] = len(test)
        figures[f"torch.{name}.accuracy"] = 100 * sum(hits["torch"]) / len(test)
        for backend in BACKENDS:
            if backend not in made:
                continue
            key = f"{backend}.{name}.accuracy_vs_torch"
            figures |= paired(key, hits[backend], hits["torch"], context.random(key))
    return figures | speed(context, made)


def speed(context: Context, made: dict[str, Any]) -> Figures:
    """Texts in one batch, and one at a time; each call has texts that were not asked before."""
    texts = list(dict.fromkeys(row.text for row in data.clinc150("train")))
    context.random("texts").shuffle(texts)
    figures: Figures = {}
    for mode, size, rounds in (
        ("batch", context.pick(200, 60), context.pick(7, 3)),
        ("single", 20, context.pick(9, 3)),
    ):
        places = dict.fromkeys(made, 0)

        def ask(name: str, mode: str = mode, size: int = size, places: dict[str, int] = places) -> None:
            chunk = texts[places[name] : places[name] + size]
            places[name] += size
            for part in [chunk] if mode == "batch" else [[text] for text in chunk]:
                made[name].encode(part)

        calls = {name: partial(ask, name) for name in made}
        seconds = interleave(calls, rounds=rounds, number=1, rng=context.random(mode))
        for name in (backend for backend in BACKENDS if backend in made):
            figures |= ratio(f"{name}.{mode}.vs_torch", seconds["torch"], seconds[name])
        for name, values in seconds.items():
            figures[f"{name}.{mode}.per_second"] = size / quartiles(values)[1]
    return figures


def tables(figures: Figures) -> list[Table]:
    speeds = [
        [name, *(interval(figures, f"{name}.{mode}.vs_torch") for mode in ("batch", "single"))]
        + [number(figures, f"{name}.{mode}.per_second", 0) for mode in ("batch", "single")]
        for name in BACKENDS
        if f"{name}.batch.vs_torch" in figures
    ]
    losses = [
        [name, *(interval(figures, f"{name}.{data_set}.accuracy_vs_torch", sign=True) for data_set in SETS)]
        for name in BACKENDS
        if f"{name}.batch.vs_torch" in figures
    ]
    return [
        Table(
            "encoder.speed",
            "Sentences per second against torch",
            ("backend", "batch", "single", "batch, per second", "single, per second"),
            speeds,
            "Ratios are medians of rounds with their quartiles.",
        ),
        Table("encoder.accuracy", "Accuracy of a head against torch, in points", ("backend", *SETS), losses),
    ]
