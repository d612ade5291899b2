"""`PromptPruner` with conformal candidates, alone and in a router: what is kept, why not, and conflicts."""

from __future__ import annotations

import json
import warnings

import pytest
from langchain_core._api import LangChainBetaWarning
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langchain_core.load import dumpd, dumps, loads
from langchain_core.messages import AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.prompts import ChatPromptTemplate, HumanMessagePromptTemplate, PromptTemplate
from langchain_core.runnables import RunnableLambda

from langchain_dsplus.answer import EscalationContext, note_later
from langchain_dsplus.identity import identify
from langchain_dsplus.prompts.conformal import ConformalCandidates
from langchain_dsplus.prompts.pruner import PromptPruner
from langchain_dsplus.routing.decision import Item, Settings
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.small_models.fake import FakeSmallModel
from langchain_dsplus.traces.recorder import JSONLRecorder

LABELS = ["cat", "dog", "owl", "ant", "bee", "elk"]
UNSURE = {"cat": 0.4, "dog": 0.35, "owl": 0.05, "ant": 0.1, "bee": 0.05, "elk": 0.05}
SAID = {
    "unsure": UNSURE,
    "sure": {"cat": 0.98, "dog": 0.02, "owl": 0.0, "ant": 0.0, "bee": 0.0, "elk": 0.0},
    "lost": dict.fromkeys(LABELS, 1 / 6),
    "wide": {"cat": 0.35, "dog": 0.33, "owl": 0.32, "ant": 0.0, "bee": 0.0, "elk": 0.0},
    "elk": {"elk": 0.99, "cat": 0.01, "dog": 0.0, "owl": 0.0, "ant": 0.0, "bee": 0.0},
}


def fitted(least=0.3, labels=LABELS):
    """Keeps what has at least this probability, whatever the confidence."""
    probabilities = {label: (1 - least) / (len(labels) - 1) for label in labels} | {labels[0]: least}
    rows = [{"probabilities": probabilities, "confidence": 0.5, "gold": labels[0]}] * 60
    return ConformalCandidates.fit(rows, bands=1, labels=labels)


def pruner(pruning="keep", **kwargs):
    kwargs = {"labels": LABELS, "conformal": fitted(), **kwargs}
    return PromptPruner.from_messages([("human", "{text}")], pruning=pruning, **kwargs)


def answer(probabilities=UNSURE, confidence=0.4, choice="cat"):
    return {"choice": choice, "probabilities": probabilities, "confidence": confidence}


def fed(said="unsure", reason="unsure"):
    probabilities = SAID[said]
    top = max(probabilities, key=probabilities.__getitem__)
    said = answer(probabilities, probabilities[top], top)
    return {"text": "x", "dsplus": EscalationContext(said, probabilities, reason)}


# --- the prompt alone -----------------------------------------------------------------------------------------------


def test_keep_offers_the_set():
    value = fed()
    assert pruner().offered(value) == ["cat", "dog"]
    text = pruner().invoke(value).to_string()
    assert "- cat\n- dog\n\n" in text
    assert value["dsplus"].notes == {"pruning": "keep", "candidates": ["cat", "dog"], "conformal_set": ["cat", "dog"]}
    assert pruner(order="probability").offered({"text": "x", "probabilities": answer()}) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("said", "reason", "why"),
    [
        ("lost", "unsure", "the conformal set is empty"),
        ("unsure", "never_local", "escalated for another reason (never_local)"),
        ("unsure", "budget", "escalated for another reason (budget)"),
    ],
)
def test_all_labels_where_the_set_says_nothing(said, reason, why):
    value = fed(said, reason)
    assert pruner().invoke(value) == pruner("none").invoke({"text": "x"})
    assert value["dsplus"].notes == {"pruning": f"keep: all offered, {why}"}
    assert not value["dsplus"].later


def test_a_set_that_is_too_big_is_not_offered_and_still_finds_conflicts():
    value = fed("wide")
    prompt = pruner(max_share=0.4)
    assert prompt.invoke(value) == pruner("none").invoke({"text": "x"})
    assert value["dsplus"].notes == {
        "pruning": "keep: all offered, the conformal set is too big",
        "conformal_set": ["cat", "dog", "owl"],
    }
    assert value["dsplus"].later["conflict"]("elk") is True
    assert pruner().offered(fed("wide")) == ["cat", "dog", "owl"]


def test_without_a_confidence_all_are_offered():
    assert pruner().offered({"text": "x", "probabilities": UNSURE}) == LABELS
    assert pruner().offered({"text": "x", "dsplus": {"answer": None, "probabilities": UNSURE}}) == LABELS
    assert pruner().offered({"text": "x", "dsplus": {"answer": {"confidence": "?"}, "probabilities": UNSURE}}) == LABELS


def test_proficient_classes_go_from_the_set():
    assert pruner(proficient=["owl", "bee"]).offered(fed("wide")) == ["cat", "dog"]
    assert pruner(proficient=["dog"]).offered(fed()) == ["cat", "dog"]


@pytest.mark.parametrize("pruning", ["soft", "none", "hard"])
def test_other_modes_only_watch(pruning):
    value = fed()
    with_set, without = (pruner(pruning, proficient=["bee"], conformal=c) for c in (fitted(), None))
    assert with_set.invoke(value) == without.invoke(fed())
    assert value["dsplus"].notes["conformal_set"] == ["cat", "dog"]
    later = value["dsplus"].later["conflict"]
    assert [later("elk"), later("dog"), later("?")] == [True, False, None]


def test_the_plain_prompt_stays_plain():
    for context in (EscalationContext(None, {}), EscalationContext(answer(), {}, "shadow")):
        value = {"text": "x", "dsplus": context}
        assert pruner().invoke(value) == pruner("none").invoke({"text": "x"})
        assert context.notes == {"pruning": "none"}
        assert not context.later
    for watched in (EscalationContext(answer(), {}, "unsure"), EscalationContext(None, {}, "unsure", watched=answer())):
        assert pruner().invoke({"text": "x", "dsplus": watched}) == pruner("none").invoke({"text": "x"})
        assert watched.notes == {"pruning": "none", "conformal_set": ["cat", "dog"]}
        assert watched.later["conflict"]("elk") is True
    strange = EscalationContext(answer({"yak": 1.0}), {}, "unsure")
    assert pruner().offered({"text": "x", "dsplus": strange}) == LABELS


def test_other_labels_are_refused():
    with pytest.raises(ValueError, match="other labels"):
        pruner(labels=[*LABELS, "yak"])
    with pytest.raises(ValueError, match="other labels"):
        pruner(labels=LABELS[:-1])
    assert pruner(labels=LABELS[::-1]).offered(fed()) == ["dog", "cat"]
    with pytest.raises(ValueError, match="max_share"):
        pruner(max_share=0.0)
    with pytest.raises(ValueError, match="conformal"):
        pruner(conformal="set.json")


def test_dumps_loads_and_identity():
    prompt = pruner()
    json.dumps(dumpd(prompt), allow_nan=False)
    assert dumpd(prompt)["kwargs"]["conformal"] == fitted().to_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainBetaWarning)
        again = loads(
            dumps(prompt),
            allowed_objects=[PromptPruner, ChatPromptTemplate, HumanMessagePromptTemplate, PromptTemplate],
            valid_namespaces=["langchain_dsplus"],
        )
    assert again == prompt
    assert again.offered(fed()) == ["cat", "dog"]
    assert prompt.partial(text="y").conformal == fitted()
    same, other = identify(pruner()), identify(pruner(conformal=fitted(0.25)))
    assert not same.unverifiable
    assert same == identify(prompt)
    assert same.prompt != other.prompt


def test_under_a_plain_certificate_the_set_only_watches():
    item = Item(None, {}, None, Settings((0.9,), "live", 0.0, plain=True), "id", answers=[answer()])
    context = item.escalation()
    assert context == {"answer": None, "probabilities": {}}
    value = {"text": "x", "dsplus": context}
    assert pruner().invoke(value) == pruner("none").invoke({"text": "x"})
    route = item.route(["small"])
    assert (route["pruning"], route["conformal_set"]) == ("none", ["cat", "dog"])
    item.note_output(route, "elk")
    assert route["conflict"] is True


def test_a_note_that_fails_costs_nothing(caplog):
    item = Item(None, {}, None, Settings((0.9,), "live", 0.0), "id", answers=[answer()])
    note_later(item.escalation(), conflict=lambda output: 1 / output, other=lambda output: None)
    route = item.route(["small"])
    item.note_output(route, 0)
    assert not {"conflict", "other"} & route.keys()
    assert "ZeroDivisionError" in caplog.text
    note_later({}, conflict=bool)


# --- in a router ----------------------------------------------------------------------------------------------------


class Counting(FakeListChatModel):
    """Answers by the text: what follows `say `, whatever it was offered."""

    def _call(self, messages, stop=None, run_manager=None, **kwargs):
        return messages[-1].text.split("say ")[1].split(".")[0]

    async def _acall(self, messages, stop=None, run_manager=None, **kwargs):
        return self._call(messages)

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        for letter in self._call(messages):
            yield ChatGenerationChunk(message=AIMessageChunk(letter))

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        for chunk in self._stream(messages):
            yield chunk


def small():
    return FakeSmallModel(lambda value: SAID[value["text"].split(":")[0]], labels=LABELS)


def router(large, **kwargs):
    return ConfidenceRouter(**{"small": small(), "large": large, "threshold": 0.9, "include_route": True, **kwargs})


def llm():
    return Counting(responses=["unused"])


CHAINS = {
    "message": lambda p: p | llm(),
    "text": lambda p: p | llm() | StrOutputParser(),
    "label": lambda p: p.chain(llm(), fallback="bee"),
}


async def ask(made, texts, how):
    values = [{"text": text} for text in texts]
    if how == "invoke":
        return [made.invoke(value) for value in values]
    if how == "ainvoke":
        return [await made.ainvoke(value) for value in values]
    if how == "batch":
        return made.batch(values)
    if how == "abatch":
        return await made.abatch(values)
    return [result for _, result in sorted(made.batch_as_completed(values), key=lambda pair: pair[0])]


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "batch", "abatch", "batch_as_completed"])
@pytest.mark.parametrize("kind", CHAINS)
async def test_a_conflict_is_in_the_route(kind, how):
    """Everything is offered; the set only watches."""
    made = router(CHAINS[kind](pruner("none")))
    results = await ask(made, ["unsure: say elk.", "unsure: say dog.", "sure: say elk.", "lost: say elk."], how)
    routes = [result["route"] for result in results]
    assert [route.get("conflict") for route in routes] == [True, False, None, None]
    assert [route.get("conformal_set") for route in routes] == [["cat", "dog"], ["cat", "dog"], None, None]
    assert [route["accepted"] for route in routes] == [False, False, True, False]
    if kind == "message":
        assert results[0]["output"].response_metadata["dsplus"]["conflict"] is True
        assert results[0]["output"].text == "elk"
    json.dumps(routes, allow_nan=False)


@pytest.mark.parametrize("how", ["invoke", "abatch"])
async def test_an_answer_that_names_no_label_is_no_conflict(how):
    made = router(pruner("soft") | llm())
    (result,) = await ask(made, ["unsure: say nothing at all."], how)
    assert "conflict" not in result["route"]
    assert result["route"]["conformal_set"] == ["cat", "dog"]


async def test_keep_in_a_router():
    made = router(CHAINS["label"](pruner()))
    results = await ask(made, ["unsure: say dog.", "wide: say elk.", "lost: say elk."], "batch")
    assert [r["output"] for r in results] == ["dog", "bee", "elk"]  # an elk was not offered to the second
    assert [r["route"].get("candidates") for r in results] == [["cat", "dog"], ["cat", "dog", "owl"], None]
    assert [r["route"]["pruning"] for r in results] == ["keep", "keep", "keep: all offered, the conformal set is empty"]
    assert [r["route"].get("conflict") for r in results] == [False, True, None]


def test_another_reason_than_unsure():
    made = router(pruner() | llm(), never_local=("elk",))
    route = made.invoke({"text": "elk: say cat."})["route"]
    assert route["reason"] == "never_local"
    assert route["pruning"] == "keep: all offered, escalated for another reason (never_local)"
    assert not {"candidates", "conformal_set", "conflict"} & route.keys()
    for mode in ("shadow", "off"):
        with router(pruner() | llm(), mode=mode) as quiet:
            route = quiet.invoke({"text": "unsure: say elk."})["route"]
        assert route["pruning"] == "none"
        assert not {"candidates", "conformal_set", "conflict"} & route.keys()


def test_a_small_model_that_fails_leaves_the_plain_prompt():
    def fail(_):
        raise RuntimeError

    route = router(pruner() | llm(), small=FakeSmallModel(fail, labels=LABELS)).invoke({"text": "x: say elk."})["route"]
    assert route["reason"] == "error"
    assert route["pruning"] == "none"
    assert "conflict" not in route


def test_the_small_answer_in_place_of_a_failed_large_one_is_no_conflict():
    def fail(_):
        raise RuntimeError

    large = (pruner() | RunnableLambda(fail)).with_types(output_type=str)
    route = router(large, on_large_error="small").invoke({"text": "unsure: say elk."})["route"]
    assert route["degraded"]
    assert "conflict" not in route


def test_to_large_keeps_the_reason_and_the_notes():
    def to_large(value, said):
        return {
            "text": value["text"],
            "dsplus": {"answer": said, "probabilities": said["probabilities"] if said else {}},
        }

    made = router(pruner() | llm(), to_large=to_large, never_local=("elk",))
    assert made.invoke({"text": "unsure: say owl."})["route"]["conflict"] is True
    assert "never_local" in made.invoke({"text": "elk: say owl."})["route"]["pruning"]


class Routes(BaseCallbackHandler):
    def __init__(self):
        self.seen = []

    def on_custom_event(self, name, data, **kwargs):
        self.seen.append(dict(data))


@pytest.mark.parametrize("async_", [False, True])
async def test_a_stream_s_conflict_reaches_the_recorder(async_, tmp_path):
    recorder, heard = JSONLRecorder(tmp_path / "routes.jsonl"), Routes()
    made = router(pruner("none") | llm(), recorder=recorder)
    value, config = {"text": "unsure: say elk."}, {"callbacks": [heard]}
    chunks = [c async for c in made.astream(value, config)] if async_ else list(made.stream(value, config))
    recorder.close()
    assert chunks[0]["route"]["conformal_set"] == ["cat", "dog"]
    assert "conflict" not in chunks[0]["route"]
    assert "conflict" not in heard.seen[0]
    assert "".join(c["output"].text for c in chunks[1:]) == "elk"
    (row,) = JSONLRecorder.read(tmp_path / "routes.jsonl")
    assert row["route"]["conflict"] is True


def test_a_stream_that_was_cut_short_says_nothing(tmp_path):
    recorder = JSONLRecorder(tmp_path / "routes.jsonl")
    made = router(pruner("none") | llm(), recorder=recorder)
    stream = made.stream({"text": "unsure: say elk."})
    for chunk in stream:
        if "output" in chunk:
            break
    stream.close()
    recorder.close()
    (row,) = JSONLRecorder.read(tmp_path / "routes.jsonl")
    assert "conflict" not in row["route"]


def test_conflicts_reach_handlers_and_recorders(tmp_path):
    recorder, heard = JSONLRecorder(tmp_path / "routes.jsonl"), Routes()
    made = router(pruner("none") | llm(), recorder=recorder)
    made.batch([{"text": "unsure: say elk."}, {"text": "unsure: say cat."}], {"callbacks": [heard]})
    recorder.close()
    assert [route["conflict"] for route in heard.seen] == [True, False]
    assert [row["route"]["conflict"] for row in JSONLRecorder.read(tmp_path / "routes.jsonl")] == [True, False]
