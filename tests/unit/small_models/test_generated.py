"""A model that writes as a small model: Eq. 9 against the formula, what is no answer, and the router."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_dsplus.answer import InvalidAnswerError
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.small_models.generated import GeneratedText

sure = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20)


def message(text, probabilities, reason="stop"):
    content = [{"token": "w", "logprob": math.log(p) if p else -math.inf} for p in probabilities]
    return AIMessage(text, response_metadata={"logprobs": {"content": content}, "finish_reason": reason})


def wanted(probabilities, kind):
    if kind == "arithmetic":
        return sum(probabilities) / len(probabilities)
    return math.prod(p ** (1 / len(probabilities)) for p in probabilities)


@pytest.mark.parametrize("kind", ["arithmetic", "geometric"])
@pytest.mark.parametrize("form", ["pair", "message"])
@given(probabilities=sure)
def test_confidence_is_the_mean_of_the_tokens(kind, form, probabilities):
    written = ("a dog", probabilities) if form == "pair" else message("a dog", probabilities)
    answer = GeneratedText(runnable=lambda _: written, kind=kind).invoke("x")
    assert (answer["choice"], answer["probabilities"]) == ("a dog", {})
    assert answer["confidence"] == pytest.approx(wanted(probabilities, kind), abs=1e-9)


NO_ANSWERS = [
    None, "a dog", ("a dog",), ("a dog", []), ("a dog", None), ("a dog", [1.2]), ("a dog", [math.nan]),
    ("a dog", ["secret"]), ("", [0.9]), (" ", [0.9]), (7, [0.9]), AIMessage("a dog"), message("", [0.9]),
    message("a dog", []), message("a dog", [0.9], "length"), {"text": "a dog"}, ("a", [0.5], "secret"),
]  # fmt: skip


@pytest.mark.parametrize("is_async", [False, True])
def test_what_is_no_answer_escalates_and_spoils_no_other(is_async):
    written = [*NO_ANSWERS, ("secret", [0.9, 0.7])]

    def write(place):
        if place < 0:
            raise RuntimeError("secret")
        return written[place]

    small = GeneratedText(runnable=RunnableLambda(write))
    places = [*range(len(written)), -1]
    found = small.batch(places, return_exceptions=True)
    good = len(NO_ANSWERS)
    assert all(isinstance(found[place], InvalidAnswerError) for place in range(good))
    assert not any("secret" in str(found[place]) for place in range(good))
    assert found[good]["confidence"] == pytest.approx(0.8)
    large = RunnableLambda(lambda _: "large").with_types(output_type=str)
    with ConfidenceRouter(
        small=small, large=large, threshold=0.55, include_route=True, to_output=lambda answer, _: answer["choice"]
    ) as router:
        results = asyncio.run(router.abatch(places)) if is_async else router.batch(places)
    assert [item["output"] for item in results] == ["large"] * good + ["secret", "large"]
    assert [item["route"]["reason"] for item in results] == ["error"] * good + ["confident", "error"]
    assert results[good]["route"]["answers"][0]["probabilities"] == {}


@given(one=sure, two=sure)
def test_the_router_keeps_to_the_threshold(one, two):
    small = GeneratedText(runnable=lambda place: ("text", [one, two][place]))
    large = RunnableLambda(lambda _: "large").with_types(output_type=str)
    cut = small.invoke(0)["confidence"]
    with ConfidenceRouter(small=small, large=large, threshold=cut, to_output=lambda answer, _: answer["choice"]) as r:
        assert r.invoke(0) == "large"  # not above the threshold
        if abs(wanted(two, "arithmetic") - cut) > 1e-9:
            assert r.invoke(1) == ("text" if wanted(two, "arithmetic") > cut else "large")
