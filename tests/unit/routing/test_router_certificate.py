"""A router under a certificate: what it accepts, what the large chain gets, what is held against it."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from langchain_dsplus import ConfidenceRouter, FakeSmallModel, Outcomes, collect_outcomes
from langchain_dsplus.answer import MismatchError
from langchain_dsplus.routing.decision import SettingsError
from langchain_dsplus.threshold.certificate import Certificate
from langchain_dsplus.threshold.certify import certify

SURE = {"text": "sure"}
UNSURE = {"text": "unsure"}


def small(*, version: str | None = "1", **more: Any) -> FakeSmallModel:
    answers = {"sure": {"a": 0.95, "b": 0.05}, "unsure": {"a": 0.55, "b": 0.45}}
    return FakeSmallModel(lambda value: answers[value["text"]], labels=["a", "b"], version=version, **more)


seen: list[Any] = []


def answer(value: Any) -> str:
    seen.append(value)
    return "b"


@pytest.fixture(autouse=True)
def _clear() -> None:
    seen.clear()


def make(n: int = 1000, wrong_below: float = 0.0, *, about: dict[str, Any] | None = None, **more: Any) -> Certificate:
    rows = [
        {
            "small": "b" if i / n < wrong_below else "a",
            "confidence": i / n,
            "large": "a",
            "gold": "a",
            "large_pruned": "a",
        }
        for i in range(n)
    ]
    facts = {"score": "max_probability", "labels": ["a", "b"], "small": small().version, "large": "v1", "prompt": "v1"}
    return certify(Outcomes.from_records(rows, about=facts if about is None else about), **more)


def router(certificate: Certificate, **more: Any) -> ConfidenceRouter:
    settings = {"small": small(), "large": RunnableLambda(answer), "version": "v1", "include_route": True, **more}
    return ConfidenceRouter(threshold=certificate, **settings)


async def call(part: Runnable[Any, Any], value: Any, way: str, config: RunnableConfig | None = None) -> Any:
    if way == "ainvoke":
        return await part.ainvoke(value, config)
    if way == "batch":
        return part.batch([value], config)[0]
    return part.invoke(value, config)


WAYS = pytest.mark.parametrize("way", ["invoke", "ainvoke", "batch"])


@WAYS
async def test_the_certified_threshold_is_used_with_the_plain_prompt(way: str) -> None:
    certificate = make(wrong_below=0.7)
    assert certificate.threshold is not None
    assert 0.6 < certificate.threshold < 0.8
    part = router(certificate)
    local, asked = await call(part, SURE, way), await call(part, UNSURE, way)
    assert local["route"]["accepted"]
    assert local["route"]["certificate"] == certificate.id
    assert asked["output"] == "b"
    assert asked["route"]["reason"] == "unsure"
    assert asked["route"]["threshold"] == certificate.threshold
    assert seen == [{**UNSURE, "dsplus": {"answer": None, "probabilities": {}}}]
    assert part.certificate is certificate
    assert part.unverifiable == ()


async def test_a_certificate_for_the_pruned_prompt_passes_the_probabilities() -> None:
    part = router(make(wrong_below=0.7, prompt="pruned", start=0.9))
    part.invoke(UNSURE)
    assert seen[0]["dsplus"]["probabilities"] == {"a": 0.55, "b": 0.45}


def test_a_pruned_prompt_of_another_chain_is_the_one_compared() -> None:
    about = {"score": "max_probability", "labels": ["a", "b"], "large": "plain", "large_pruned": "v1"}
    certificate = make(about=about, prompt="pruned", start=0.9)
    assert router(certificate).void == ()
    with pytest.raises(MismatchError, match="large"):
        router(certificate, version="plain")


@WAYS
async def test_a_refusal_sends_everything_on_with_the_plain_prompt(way: str) -> None:
    found = await call(router(make(100)), SURE, way)
    assert found["route"]["reason"] == "not_certified"
    assert found["route"]["threshold"] is None
    assert seen[0]["dsplus"]["probabilities"] == {}


def test_a_refusal_needs_no_names() -> None:
    assert router(make(100, about={})).invoke(SURE)["output"] == "b"


def test_score_and_labels_must_be_named_and_right() -> None:
    unnamed = make(about={})
    with pytest.raises(MismatchError, match="bind"):
        router(unnamed, on_mismatch="warn")
    named = unnamed.bind(score="max_probability", labels=["b", "a"])
    assert router(named).invoke(SURE)["route"]["accepted"]
    with pytest.raises(MismatchError, match="score"):
        router(unnamed.bind(score="margin", labels=["a", "b"]), on_mismatch="warn")
    with pytest.raises(MismatchError, match="labels"):
        router(unnamed.bind(score="max_probability", labels=["a", "c"]), on_mismatch="escalate_all")
    with pytest.raises(MismatchError, match="score"):
        router(make(), score="margin")


def test_a_score_function_is_known_by_its_name() -> None:
    def own(probabilities: Any) -> float:
        return max(probabilities.values())

    about = {"score": f"{own.__module__}.{own.__qualname__}", "labels": ["a", "b"]}
    assert router(make(about=about), score=own).invoke(SURE)["route"]["accepted"]


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({"small": small(name="other", version="2")}, "small"),
        ({"version": "v2"}, "large"),
        ({"never_local": ["b"]}, "never_local"),
    ],
)
def test_other_parts_raise_warn_or_escalate(more: dict[str, Any], part: str) -> None:
    certificate = make()
    with pytest.raises(MismatchError, match=part):
        router(certificate, **more)
    with pytest.warns(UserWarning, match=part):
        warned = router(certificate, on_mismatch="warn", **more)
    assert warned.invoke(SURE)["route"]["accepted"]
    with pytest.warns(UserWarning, match=part):
        void = router(certificate, on_mismatch="escalate_all", allow_override=True, **more)
    route = void.invoke(SURE, {"configurable": {"dsplus_threshold": 0.1}})["route"]
    assert (route["accepted"], route["reason"], route["threshold"]) == (False, "mismatch", None)
    assert "certificate" not in route
    assert seen[-1]["dsplus"]["probabilities"] == {}
    assert part in void.void


def test_never_local_is_part_of_the_promise() -> None:
    certificate = make(never_local=["b"])
    assert router(certificate, never_local=["b"]).invoke(SURE)["route"]["accepted"]


def test_what_cannot_be_seen_into_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        part = router(make(), version=None)
    assert part.unverifiable == ("large", "prompt")
    assert "large, prompt" in caplog.text
    assert "large" in router(make(), to_large=lambda value, _: value, version=None).unverifiable


def test_thresholds_looser_than_the_certificate_are_refused() -> None:
    certificate = make(wrong_below=0.7)
    part = router(certificate)
    with pytest.raises(SettingsError, match="looser"):
        part.invoke(UNSURE, {"configurable": {"dsplus_threshold": 0.5}})
    stricter = part.invoke(SURE, {"configurable": {"dsplus_threshold": 0.99}})["route"]
    assert not stricter["accepted"]
    assert "certificate" not in stricter
    loose = router(certificate, allow_override=True).invoke(UNSURE, {"configurable": {"dsplus_threshold": 0.5}})
    assert loose["route"]["accepted"]
    assert "certificate" not in loose["route"]


def test_a_certificate_for_other_small_models_is_refused() -> None:
    facts = {"score": "max_probability", "labels": ["a", "b"]}
    certificate = dataclasses.replace(make(about=facts), threshold=None, thresholds={"one": 0.5, "two": 0.5})
    with pytest.raises(MismatchError, match="one"):
        router(certificate)
    both = router(certificate, small=[small(name="one"), small(name="two")], on_mismatch="warn")
    assert both.invoke(SURE)["route"]["accepted"]


def test_a_certificate_set_later_takes_effect() -> None:
    part = router(make(100))
    assert not part.invoke(SURE)["route"]["accepted"]
    part.threshold = make()
    assert part.invoke(SURE)["route"]["accepted"]
    with pytest.raises(MismatchError):
        part.threshold = make(about={})
    assert part.invoke(SURE)["route"]["accepted"]


def chat(name: str) -> GenericFakeChatModel:
    message = AIMessage("b", response_metadata={"model_name": name})
    return GenericFakeChatModel(messages=iter([message] * 20))


@pytest.mark.parametrize("on_mismatch", ["raise", "escalate_all", "warn"])
@WAYS
async def test_a_large_model_with_a_new_name_voids_the_certificate(
    way: str, on_mismatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    about = {"score": "max_probability", "labels": ["a", "b"], "large_reported": ["big-1"]}
    certificate = make(about=about, wrong_below=0.7)
    prompt = ChatPromptTemplate.from_messages([("human", "{text}")])
    same = router(certificate, large=prompt | chat("big-1"), on_mismatch=on_mismatch)
    await call(same, UNSURE, way)
    assert same.void == ()
    other = router(certificate, large=prompt | chat("big-2"), on_mismatch=on_mismatch)
    assert (await call(other, SURE, way))["route"]["accepted"]
    with caplog.at_level(logging.WARNING):
        assert (await call(other, UNSURE, way))["output"].text == "b"  # paid for, and not lost
    assert "big-2" in caplog.text
    route = (await call(other, SURE, way))["route"]
    assert route["accepted"] == (on_mismatch == "warn")
    if on_mismatch != "warn":
        assert route["reason"] == "mismatch"


def test_from_collecting_to_routing() -> None:
    """The parts name themselves: what was collected with these parts is accepted by a router with these parts."""
    model = FakeSmallModel(
        lambda value: {"a": 0.5 + value["i"] / 2000, "b": 0.5 - value["i"] / 2000}, labels=["a", "b"]
    )
    prompt = ChatPromptTemplate.from_messages([("human", "{i}")])
    large = prompt | GenericFakeChatModel(messages=iter([AIMessage("a")] * 700))
    rows = [({"i": i}, None) for i in range(650)]
    table = collect_outcomes(model, large, rows, version="2026-11", progress=False)
    certificate = certify(table)
    assert certificate.status == "CERTIFIED"
    assert certificate.unverifiable == () or set(certificate.unverifiable) <= {"small"}
    part = ConfidenceRouter(small=model, large=large, threshold=certificate, version="2026-11", include_route=True)
    accepted = [part.invoke(value)["route"]["accepted"] for value, _ in rows[:20]]
    assert accepted == [bool(c > (certificate.threshold or 0)) for c in table["confidence"][:20]]
    with pytest.raises(MismatchError, match="large"):
        ConfidenceRouter(small=model, large=large, threshold=certificate, version="2026-12")


def test_from_shadow_to_a_certificate_that_fits() -> None:
    """What a router in shadow mode records, and says it is about, certifies a router with the same parts."""
    rows: list[Any] = []

    class Rows:
        def record(self, row: Any) -> None:
            rows.append(row)

    model = FakeSmallModel(
        lambda value: {"a": 0.5 + value["i"] / 2000, "b": 0.5 - value["i"] / 2000}, labels=["a", "b"], version="1"
    )
    large = RunnableLambda(lambda _: "a").with_types(output_type=str)
    parts = {"small": model, "large": large, "version": "v1"}
    shadow = ConfidenceRouter(**parts, mode="shadow", recorder=Rows(), background=False)
    shadow.batch([{"i": i} for i in range(650)])
    table = Outcomes.from_traces(rows, about=shadow.about)
    assert table.about == {
        "score": "max_probability", "labels": ["a", "b"], "small": model.version, "large": "v1", "prompt": "v1",
    }  # fmt: skip
    certificate = certify(table)
    assert certificate.certified
    live = ConfidenceRouter(**parts, threshold=certificate)
    assert live.unverifiable == ()
    assert live.invoke({"i": 500}) == "a"
    hidden = ConfidenceRouter(small=model, large=large, to_large=lambda value, _: value)
    assert set(hidden.about) == {"score", "labels", "small"}
