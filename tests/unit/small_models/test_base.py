"""What every kind of small model does alike."""

import asyncio
import json
import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langchain_dsplus.answer import InvalidAnswerError
from langchain_dsplus.small_models import base
from langchain_dsplus.small_models.base import UNVERIFIABLE, SmallModel, read_text
from langchain_dsplus.small_models.fake import FakeSmallModel
from langchain_dsplus.small_models.sentence import SentenceClassifier
from langchain_dsplus.small_models.sklearn import SklearnClassifier


class Lengths(SmallModel):
    """Sure of long texts; counts its batches; a text with `!` breaks its whole batch, `nan` gives a row of NaN."""

    labels: list[str] = ["short", "long"]
    batches: list = []

    def read(self, value):
        return read_text(super().read(value))

    def predict_proba(self, inputs):
        self.batches.append(list(inputs))
        if any("!" in text for text in inputs):
            msg = "cannot read this"
            raise ValueError(msg)
        rows = [[1 / (1 + len(t)), len(t) / (1 + len(t))] for t in inputs]
        return np.array([[math.nan] * 2 if t == "nan" else row for t, row in zip(inputs, rows, strict=True)])


class Letters:
    """An encoder without weights: counts of letters."""

    version = "letters-1"

    def encode(self, texts):
        rows = np.array([[text.count(c) for c in "aeiounrst"] + [len(text) ** 0.5] for text in texts], dtype=np.float32)
        return rows / 10


def duck(texts):
    return [[1 / (1 + len(t)), len(t) / (1 + len(t))] for t in texts]


def lengths(**options):
    return Lengths(batches=[], **options)


def fake(**options):
    return FakeSmallModel(
        lambda t: {"short": 1 / (1 + len(read_text(t))), "long": 1 - 1 / (1 + len(read_text(t)))},
        labels=["short", "long"],
        **options,
    )


def sklearn(**options):
    return SklearnClassifier(SimpleNamespace(predict_proba=duck, classes_=np.array(["short", "long"])), **options)


def sentence(**options):
    texts = [
        "a",
        "no",
        "is it",
        "a rather long text",
        "another of the longer texts",
        "the longest of all the texts here",
    ]
    return SentenceClassifier(Letters(), **options).fit(texts, ["short"] * 3 + ["long"] * 3)


KINDS = {"own": lengths, "fake": fake, "sklearn": sklearn, "sentence": sentence}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
both = pytest.mark.parametrize("async_", [False, True], ids=["sync", "async"])


def ask(model, value, async_, **options):
    return asyncio.run(model.ainvoke(value, **options)) if async_ else model.invoke(value, **options)


def ask_batch(model, values, async_, **options):
    return asyncio.run(model.abatch(values, **options)) if async_ else model.batch(values, **options)


@kinds
@both
def test_an_answer_is_plain_and_adds_up(kind, async_):
    answer = ask(kind(), "some text", async_)
    assert list(answer) == ["choice", "probabilities", "confidence"]
    assert set(answer["probabilities"]) == {"short", "long"}
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0)
    assert answer["choice"] == max(answer["probabilities"], key=answer["probabilities"].get)
    assert answer["confidence"] == max(answer["probabilities"].values())
    assert {type(answer["confidence"]), *map(type, answer["probabilities"].values())} == {float}
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    assert serde.loads_typed(serde.dumps_typed(answer)) == answer


@kinds
@both
def test_an_empty_batch_asks_nothing(kind, async_):
    assert ask_batch(kind(), [], async_) == []
    model = lengths()
    assert ask_batch(model, [], async_) == []
    assert model.batches == []


@kinds
@both
def test_a_batch_is_the_map_of_invoke(kind, async_):
    model = kind()
    texts = ["one", "", "three of them", "one", "x" * 50_000, "\n\t", "雪", "{brace}"]
    assert ask_batch(model, texts, async_) == [ask(model, text, async_) for text in texts]


@both
def test_a_batch_is_one_call(async_):
    model = lengths()
    ask_batch(model, ["a", "b", "c"], async_)
    assert model.batches == [["a", "b", "c"]]


@kinds
@both
def test_a_bad_input_harms_only_itself(kind, async_):
    model = kind()
    results = ask_batch(model, ["good text", 7, None, b"bytes", ["list"], "more text"], async_, return_exceptions=True)
    alone = [ask(model, text, async_) for text in ("good text", "more text")]
    assert [results[0], results[-1]] == alone
    if kind is not sklearn:  # a table model may well take numbers
        assert all(isinstance(result, TypeError) for result in results[1:-1])
        with pytest.raises(TypeError):
            ask_batch(model, ["good", 7], async_)
        with pytest.raises(TypeError):
            ask(model, 7, async_)


@both
def test_a_text_that_breaks_the_batch_harms_only_itself(async_):
    model = lengths()
    texts = ["bad!"] * 7 + ["good"] + ["nan"] + ["fine text"] * 3
    results = ask_batch(model, texts, async_, return_exceptions=True)
    assert [type(result) for result in results[:9]] == [ValueError] * 7 + [dict, InvalidAnswerError]
    assert results[9:] == [ask(model, "fine text", async_)] * 3


def test_one_bad_text_among_many_costs_few_calls():
    model = lengths()
    texts = ["fine"] * 1000
    texts[617] = "bad!"
    results = model.batch(texts, return_exceptions=True)
    assert [place for place, result in enumerate(results) if isinstance(result, Exception)] == [617]
    assert len(model.batches) <= 25


def test_a_broken_model_is_given_up(monkeypatch):
    monkeypatch.setattr(base, "_PATIENCE", 0.05)

    class Slow(Lengths):
        def predict_proba(self, inputs):
            self.batches.append(list(inputs))
            time.sleep(0.02)
            msg = "out of memory"
            raise RuntimeError(msg)

    model = Slow(batches=[])
    results = model.batch([str(i) for i in range(500)], return_exceptions=True)
    assert all(isinstance(result, RuntimeError) for result in results)
    assert len(model.batches) < 60


@kinds
@both
def test_dicts_with_a_key(kind, async_):
    model = kind(input_key="text")
    plain = kind()
    assert ask(model, {"text": "some text", "other": "more"}, async_) == ask(plain, "some text", async_)
    with pytest.raises(TypeError, match="'text'"):
        ask(model, {"other": "some secret"}, async_)
    results = ask_batch(model, [{"text": "a"}, {}], async_, return_exceptions=True)
    assert isinstance(results[1], TypeError)
    assert "secret" not in str(results[1])


@pytest.mark.parametrize("kind", [lengths, fake, sentence])
@pytest.mark.parametrize(
    "value",
    [
        HumanMessage("some text"),
        [AIMessage("before"), HumanMessage("some text")],
        {"question": "some text"},
        {"question": "some text", "dsplus": {"answer": None, "probabilities": {}}, "k": 3},
    ],
)
def test_where_a_text_may_be(kind, value):
    assert kind().invoke(value) == kind().invoke("some text")


@pytest.mark.parametrize("value", [3, None, b"x", [], ["x"], {}, {"a": "x", "b": "y"}, {"dsplus": "x"}])
def test_where_no_text_is(value):
    with pytest.raises(TypeError):
        read_text(value)


def raw(rows, **options):
    class Raw(SmallModel):
        labels: list[str] = ["a", "b"]

        def predict_proba(self, inputs):
            return rows

    return Raw(**options)


@both
@pytest.mark.parametrize(
    "row",
    [
        [math.nan, 1.0],
        [math.inf, 0.0],
        [-0.5, 1.5],
        [0.4, 0.4],
        [0.5, 0.2, 0.3],
        [1.0],
        [],
        [None, 1.0],
        [[0.5, 0.5]],
    ],
)
def test_a_row_that_is_no_distribution_is_no_answer(row, async_):
    with pytest.raises(InvalidAnswerError):
        ask(raw([row]), "x", async_)


@pytest.mark.parametrize("rows", [[], [[0.5, 0.5]] * 2, 0.5, None, np.zeros((1, 3)), np.full(2, 0.5)])
def test_a_wrong_shape_is_no_answer(rows):
    with pytest.raises(InvalidAnswerError):
        raw(rows).invoke("x")


@pytest.mark.parametrize(
    "rows",
    [
        [[0.25, 0.75]],
        [(0.25, 0.75)],
        np.array([[0.25, 0.75]], dtype=np.float32),
    ],
)
def test_rows_may_come_in_many_types(rows):
    assert raw(rows).invoke("x")["probabilities"] == {"a": 0.25, "b": 0.75}


def test_a_tie_goes_to_the_first_label():
    assert raw([[0.5, 0.5]]).invoke("x")["choice"] == "a"


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        ("max_probability", 0.75),
        ("margin", 0.5),
        ("entropy", 0.25 * math.log(0.25) + 0.75 * math.log(0.75)),
        (len, 2.0),
    ],
)
def test_scores(score, expected):
    assert raw([[0.25, 0.75]], score=score).invoke("x")["confidence"] == pytest.approx(expected)


@pytest.mark.parametrize("score", [lambda _: math.nan, lambda _: 1 / 0, lambda _: "high"])
def test_a_score_that_fails_is_no_answer(score):
    (result,) = raw([[0.25, 0.75]], score=score).batch(["x"], return_exceptions=True)
    assert isinstance(result, Exception)


def test_bad_settings_are_refused_at_construction():
    with pytest.raises(ValueError, match="distinct"):
        raw([], labels=["a", "a"])
    with pytest.raises(ValueError, match="score"):
        raw([], score="sure")
    with pytest.raises(ValueError, match="treshold"):
        raw([], treshold=0.5)


def test_version():
    assert raw([]).version == UNVERIFIABLE
    assert raw([], version="v7").version == "v7"
    one, two = (FakeSmallModel({"x": {"a": p, "b": 1 - p}}) for p in (0.5, 0.6))
    assert len(one.version) == 64
    assert one.version == FakeSmallModel({"x": {"a": 0.5, "b": 0.5}}).version
    assert one.version != two.version
    assert one.version != FakeSmallModel({"x": {"a": 0.5, "b": 0.5}}, score="margin").version
    assert one.version != FakeSmallModel({"x": {"a": 0.5, "b": 0.5}}, labels=["b", "a"]).version


@kinds
@both
def test_one_traced_run(kind, async_):
    class Handler(BaseCallbackHandler):
        run_inline = True

        def __init__(self):
            self.seen = []

        def on_chain_start(self, serialized, inputs, *, name=None, parent_run_id=None, **kwargs):
            self.seen.append((name, parent_run_id))

        def on_chain_end(self, outputs, **kwargs):
            self.seen.append("end")

        def on_chain_error(self, error, **kwargs):
            self.seen.append("error")

    handler = Handler()
    ask(kind(name="tiny"), "some text", async_, config={"callbacks": [handler]})
    assert handler.seen == [("tiny", None), "end"]
    handler.seen.clear()
    ask_batch(kind(), ["some text", object()], async_, config={"callbacks": [handler]}, return_exceptions=True)
    ends = [entry for entry in handler.seen if isinstance(entry, str)]
    assert sorted(ends) == ["end", "error"]


@kinds
def test_it_is_a_runnable(kind):
    model = kind()
    chain = model | (lambda answer: answer["choice"])
    assert chain.invoke("some text") == model.invoke("some text")["choice"]
    assert list(model.stream("some text")) == [model.invoke("some text")]
    assert model.with_config(tags=["x"]).batch(["a", "b"]) == model.batch(["a", "b"])
    assert model.map().invoke(["a", "b"]) == model.batch(["a", "b"])
    assert dict(model.batch_as_completed(["a", "b"])) == dict(enumerate(model.batch(["a", "b"])))


@kinds
def test_a_clone_answers_alike_and_is_untied(kind):
    model = kind()
    copy = model.clone()
    assert copy is not model
    assert copy.invoke("some text") == model.invoke("some text")
    copy.labels.reverse()
    assert model.labels != copy.labels


def test_what_cannot_be_saved_says_so(tmp_path):
    with pytest.raises(NotImplementedError, match="Raw cannot be saved"):
        raw([]).save(tmp_path)
    with pytest.raises(NotImplementedError, match="Lengths cannot be loaded"):
        Lengths.load(tmp_path)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.one_of(st.text(max_size=5), st.sampled_from(["bad!", "nan", 7, None])), max_size=12))
def test_batch_is_map_of_invoke_whatever_comes(values):
    model = lengths()

    def one(value):
        try:
            return model.invoke(value)
        except Exception as error:
            return type(error)

    results = model.batch(values, return_exceptions=True)
    assert [type(r) if isinstance(r, Exception) else r for r in results] == [one(value) for value in values]


async def test_async_does_not_block_the_loop():
    model = FakeSmallModel(default={"a": 1.0}, latency=0.2)
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticker = asyncio.create_task(tick())
    await model.ainvoke("x")
    ticker.cancel()
    assert ticks >= 5
