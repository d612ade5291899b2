"""A batch, 70 % of it easy, with the real sentence encoder and a large model that answers at once.

`vs_encoder` is the router's throughput as a share of what the bare encoder manages on the same texts: 1 would
mean that routing costs nothing beside encoding. The encoder runs on the backend that `auto` takes here (`facts`);
`int8.vs_encoder` is the same on `onnx-int8`, the fastest one, beside which routing weighs most. The encoder is
ours, which is the stricter comparison; `vs_sentence_transformers` takes `SentenceTransformer.encode` instead.
`vs_branch` is its throughput in multiples of a hand-written `RunnableBranch`, which encodes one text at a time.
`concurrent` is what 64 callers in one event loop see, with and without the router's own batching across them
(`batch_wait`).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks import data
from benchmarks.harness import (
    Context,
    Figures,
    Table,
    interleave,
    interval,
    number,
    quartiles,
    ratio,
)

EASY_SHARE = 0.7
CALLERS = 64
WAIT = 0.005  # seconds that a concurrent caller may wait for others
NOT_RECHECKED = "every figure is a time, or a ratio of times, of the machine that it was measured on"


def texts_and_labels(context: Context) -> tuple[list[str], list[str], list[str]]:
    """Training texts with labels (twenty intents), and the texts to route."""
    context.hash_file(data.find("clinc150") / "data_full.json")
    rows = data.clinc150("train")
    intents = sorted({row.label for row in rows})[:20]
    rng = context.random("rows")
    train = [row for row in rows if row.label in intents]
    rng.shuffle(train)
    train = train[: context.pick(1000, 400)]
    inputs = [row.text for row in data.clinc150("test")]
    rng.shuffle(inputs)
    return [row.text for row in train], [row.label for row in train], inputs[: context.pick(1000, 250)]


def threshold_for(confidences: list[float], share: float) -> float:
    """A threshold that keeps the wanted share, in the widest gap within a point of it.

    In a wide gap, since an encoder's last digits depend on which texts stand beside a text.
    """
    ordered = sorted(confidences, reverse=True)
    slack = max(1, len(ordered) // 100)
    middle = round(share * len(ordered))
    place = max(range(middle - slack, middle + slack + 1), key=lambda i: ordered[i - 1] - ordered[i])
    return (ordered[place - 1] + ordered[place]) / 2


def run(context: Context) -> Figures:
    from langchain_core.runnables import RunnableBranch, RunnableLambda
    from sentence_transformers import SentenceTransformer

    from langchain_dsplus import ConfidenceRouter, SentenceClassifier
    from langchain_dsplus.small_models.encoder import installed_backends

    train, labels, inputs = texts_and_labels(context)
    context.say("training the head")
    small = SentenceClassifier()
    small.fit(train, labels)
    encoder = small.encoder
    context.facts["backend"] = encoder.backend
    plain = SentenceTransformer(str(encoder.path), local_files_only=True)

    def ask(_text: str) -> str:
        return "large"

    large = RunnableLambda(ask).with_types(output_type=str)
    threshold = threshold_for([answer["confidence"] for answer in small.batch(inputs)], EASY_SHARE)
    router = ConfidenceRouter(small=small, large=large, threshold=threshold)

    def ask_small(text: str) -> dict[str, Any]:
        return {"text": text, "answer": small.invoke(text)}

    def confident(state: dict[str, Any]) -> bool:
        return bool(state["answer"]["confidence"] > threshold)

    def local(state: dict[str, Any]) -> str:
        return str(state["answer"]["choice"])

    def get_text(state: dict[str, Any]) -> str:
        return str(state["text"])

    branch = RunnableLambda(ask_small) | RunnableBranch(
        (confident, RunnableLambda(local)), RunnableLambda(get_text) | large
    )
    outputs = router.batch(inputs)
    if outputs != branch.batch(inputs):
        msg = "the router and the hand-written branch disagree"
        raise RuntimeError(msg)

    figures: Figures = {
        "n": len(inputs),
        "threshold": threshold,
        "accepted": 100 * (1 - outputs.count("large") / len(outputs)),
    }
    calls = {
        "encoder": lambda: encoder.encode(inputs),
        "sentence_transformers": lambda: plain.encode(inputs, show_progress_bar=False),
        "router": lambda: router.batch(inputs),
        "branch": lambda: branch.batch(inputs),
    }
    if "onnx-int8" in installed_backends():
        fast = SentenceClassifier(backend="onnx-int8").fit(train, labels)
        fast_router = ConfidenceRouter(small=fast, large=large, threshold=threshold)
        calls |= {"int8": lambda: fast.encoder.encode(inputs), "int8_router": lambda: fast_router.batch(inputs)}
    rounds = context.pick(7, 3)
    with context.progress("batches", rounds) as advance:
        seconds = interleave(
            calls,
            rounds=rounds,
            number=1,
            rng=context.random("order"),
            advance=advance,
        )
    figures |= ratio("vs_encoder", seconds["encoder"], seconds["router"])
    if "int8" in seconds:
        figures |= ratio("int8.vs_encoder", seconds["int8"], seconds["int8_router"])
    figures |= ratio("vs_sentence_transformers", seconds["sentence_transformers"], seconds["router"])
    figures |= ratio("vs_branch", seconds["branch"], seconds["router"])
    for name, values in seconds.items():
        figures[f"per_second.{name}"] = len(inputs) / quartiles(values)[1]

    shared = ConfidenceRouter(small=small, large=large, threshold=threshold, batch_wait=WAIT, batch_size=CALLERS)
    figures |= asyncio.run(concurrent(context, {"single": router, "shared": shared, "branch": branch}, inputs))
    return figures


async def concurrent(context: Context, routers: dict[str, Any], inputs: list[str]) -> Figures:
    """64 callers at once: seconds until all are answered, and the latency that one of them sees."""
    rounds = context.pick(9, 4)
    rng = context.random("concurrent")
    texts = inputs[:CALLERS]

    async def call(router: Any, text: str) -> tuple[Any, float]:
        start = time.perf_counter()
        output = await router.ainvoke(text)
        return output, time.perf_counter() - start

    walls: dict[str, list[float]] = {name: [] for name in routers}
    latencies: dict[str, list[float]] = {name: [] for name in routers}
    answers: dict[str, list[Any]] = {}
    names = list(routers)
    with context.progress("concurrent", rounds + 1) as advance:
        for turn in range(rounds + 1):
            rng.shuffle(names)
            for name in names:
                start = time.perf_counter()
                done = await asyncio.gather(*(call(routers[name], text) for text in texts))
                answers[name] = [output for output, _ in done]
                if turn > 0:
                    walls[name].append(time.perf_counter() - start)
                    latencies[name].extend(seconds for _, seconds in done)
            advance(1)
    if any(outputs != answers["single"] for outputs in answers.values()):
        msg = "concurrent callers got other answers with batching than without"
        raise RuntimeError(msg)
    # One caller alone pays the wait: its bound is the promise of `batch_wait`.
    alone: dict[str, list[float]] = {"single": [], "shared": []}
    for _ in range(context.pick(31, 11)):
        for name, values in alone.items():
            values.append((await call(routers[name], texts[0]))[1])
    figures = ratio("concurrent.shared_vs_single", walls["single"], walls["shared"])
    figures |= ratio("concurrent.shared_vs_branch", walls["branch"], walls["shared"])
    for name in routers:
        figures[f"concurrent.per_second.{name}"] = len(texts) / quartiles(walls[name])[1]
        figures[f"concurrent.p50_milliseconds.{name}"] = 1000 * quartiles(latencies[name])[1]
    added = [b - a for a, b in zip(alone["single"], alone["shared"], strict=True)]
    figures["concurrent.alone_added_milliseconds"] = 1000 * quartiles(added)[1]
    return figures


def tables(figures: Figures) -> list[Table]:
    def row(name: str, title: str, against: str) -> list[str]:
        return [
            title,
            number(figures, f"per_second.{name}", 0),
            interval(figures, against, 2) if against else "",
        ]

    batch = Table(
        "throughput.batch",
        f"One batch of {number(figures, 'n', 0)} texts, {number(figures, 'accepted', 0)} % kept local",
        ["", "texts per second", "router's throughput as a multiple (quartiles)"],
        [
            row("router", "`ConfidenceRouter.batch`", ""),
            row("encoder", "our encoder alone", "vs_encoder"),
            row("sentence_transformers", "sentence-transformers alone", "vs_sentence_transformers"),
            row("branch", "`RunnableBranch.batch`", "vs_branch"),
            *(
                [
                    row("int8_router", "`ConfidenceRouter.batch`, encoder in 8 bits", ""),
                    row("int8", "that encoder alone", "int8.vs_encoder"),
                ]
                if "int8.vs_encoder" in figures
                else []
            ),
        ],
    )
    rows = [
        [
            title,
            number(figures, f"concurrent.per_second.{name}", 0),
            number(figures, f"concurrent.p50_milliseconds.{name}", 0),
        ]
        for name, title in (
            ("shared", f"router, `batch_wait={WAIT}`"),
            ("single", "router"),
            ("branch", "`RunnableBranch`"),
        )
    ]
    together = Table(
        "throughput.concurrent",
        f"{CALLERS} concurrent `ainvoke`s",
        ["", "answers per second", "median latency, ms"],
        rows,
        f"With `batch_wait`, {interval(figures, 'concurrent.shared_vs_single')} times the throughput; a caller who is "
        f"alone waits {number(figures, 'concurrent.alone_added_milliseconds', 1)} ms longer.",
    )
    return [batch, together]
