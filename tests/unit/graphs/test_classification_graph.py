"""The classification graph against the router that it spells out, with scripted models."""

import asyncio
import itertools
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models.fake_chat_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, RetryPolicy
from typing_extensions import TypedDict

from langchain_dsplus import ConfidenceRouter, CostLedger, FakeSmallModel, LabelParser, Outcomes, Price, PromptPruner
from langchain_dsplus.answer import MismatchError
from langchain_dsplus.graphs import ClassificationState, GraphContext, GraphRouter, create_dsplus_graph
from langchain_dsplus.monitoring import BudgetPacer
from langchain_dsplus.prompts import ConformalCandidates
from langchain_dsplus.routing.decision import SettingsError
from langchain_dsplus.threshold.certify import certify

LABELS = ["pos", "neg", "odd"]
SURE, DOUBT = {"pos": 0.98, "neg": 0.01, "odd": 0.01}, {"pos": 0.5, "neg": 0.3, "odd": 0.2}
TABLE = {"easy": SURE, "middling": DOUBT, "hard": DOUBT}
LEARNED = {"easy": SURE, "middling": {"pos": 0.02, "neg": 0.97, "odd": 0.01}, "hard": DOUBT}
USAGE = {"input_tokens": 30, "output_tokens": 1, "total_tokens": 31}


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def async_(request):
    return request.param


async def call(graph, value, async_, config=None, **kwargs):
    return await graph.ainvoke(value, config, **kwargs) if async_ else graph.invoke(value, config, **kwargs)


def pruner(pruning="soft", **kwargs):
    return PromptPruner.from_messages([("human", "{text}")], labels=LABELS, pruning=pruning, **kwargs)


class Large:
    """Says a label that depends on the prompt; fails where it is told to."""

    def __init__(self, error=None):
        self.prompts, self.error = [], error

    def __call__(self, prompt):
        messages = prompt.to_messages() if hasattr(prompt, "to_messages") else prompt
        self.prompts.append([m.text for m in messages])
        if self.error is not None:
            raise self.error
        offered = [label for label in LABELS if f"- {label}" in messages[-1].text]
        return offered[len(messages[-1].text) % len(offered)]

    @property
    def runnable(self):
        return RunnableLambda(self)


def two():
    return FakeSmallModel(TABLE), FakeSmallModel(LEARNED, name="learned")


def saver():
    return InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=None))


def plain(route):
    return {key: value for key, value in route.items() if key != "route_id"}


# --- the same as the router -----------------------------------------------------------------------------------------

probability = st.floats(0.0, 1.0, allow_nan=False)


class Short:
    """A `RouteScore`: the longer a text, the less it says of it."""

    name, version = "short", "1"

    def __init__(self, *, before):
        self.before = before

    def fit(self, outcomes, inputs=None):
        del outcomes, inputs
        return self

    def __call__(self, inputs, answers=None):
        assert (answers is None) == self.before
        return [1.0 / len(value["text"]) for value in inputs]


@st.composite
def rows(draw):
    """What a small model says about one text: probabilities, nothing usable, or an error."""
    kind = draw(st.sampled_from(["fine", "fine", "fine", "nan", "error"]))
    if kind == "nan":
        return dict.fromkeys(LABELS, float("nan"))
    if kind == "error":
        return ValueError("broken")
    weights = [draw(st.integers(0, 20)) for _ in LABELS]
    weights[draw(st.integers(0, 2))] += 1
    return {label: weight / sum(weights) for label, weight in zip(LABELS, weights, strict=True)}


@settings(max_examples=60)
@given(
    tables=st.lists(st.lists(rows(), min_size=3, max_size=3), min_size=1, max_size=2),
    thresholds=st.lists(st.one_of(st.none(), probability), min_size=2, max_size=2),
    pruning=st.sampled_from(["soft", "none", "keep", "hard"]),
    score=st.sampled_from([None, "margin", "entropy", "before", "after"]),
    never_local=st.sets(st.sampled_from(LABELS)),
    mode=st.sampled_from(["live", "live", "live", "off", "shadow"]),
    twin=st.booleans(),
)
def test_it_answers_as_the_router_does(tables, thresholds, pruning, score, never_local, mode, twin):
    texts = ["a", "bb", "ccc"]
    score = Short(before=score == "before") if score in ("before", "after") else score

    def smalls():
        return [
            FakeSmallModel(dict(zip(texts, table, strict=True)), labels=LABELS, name=name)
            for table, name in zip(tables, ("specific", "learned"), strict=False)
        ]

    settings_ = {
        "threshold": thresholds[: len(tables)],
        "score": score,
        "never_local": sorted(never_local),
        "mode": mode,
        "background": False,
    }
    prompt = pruner(pruning, top_k=2, **({"proficient": ["odd"]} if pruning == "hard" else {}))
    asked, spelled = Large(), Large()
    router = ConfidenceRouter(
        small=smalls(), large=prompt.chain(asked.runnable), include_route=True, **settings_
    )  # fmt: skip
    specific, learned = (*smalls(), None)[:2]
    graph = create_dsplus_graph(specific, spelled.runnable, learnable=learned, prompt=prompt, **settings_)
    for text in texts:
        wanted = router.invoke({"text": text})
        state = asyncio.run(graph.ainvoke({"text": text})) if twin else graph.invoke({"text": text})
        assert state["label"] == wanted["output"]
        assert plain(state["route"]) == plain(wanted["route"])
    assert spelled.prompts == asked.prompts


async def test_the_same_recorder_rows_but_for_the_times(async_):
    heard = {"router": [], "graph": []}

    def recorder(name):
        return type("R", (), {"record": lambda _, row: heard[name].append(row)})()

    smalls = two()
    router = ConfidenceRouter(
        small=list(smalls), large=pruner().chain(Large().runnable), threshold=0.9, recorder=recorder("router")
    )
    graph = create_dsplus_graph(
        smalls[0], Large().runnable, learnable=smalls[1], prompt=pruner(), threshold=0.9, recorder=recorder("graph")
    )
    for text in TABLE:
        router.invoke({"text": text})
        await call(graph, {"text": text}, async_)
    clean = [
        [
            {
                **{k: v for k, v in row.items() if k not in {"route_id", "router", "small_seconds", "large_seconds"}},
                "route": plain(row["route"]),
            }
            for row in rows
        ]
        for rows in heard.values()
    ]
    assert clean[0] == clean[1]
    assert len(clean[0]) == 3
    assert not any("small_seconds" in row for row in heard["graph"])
    steps = GraphRouter(
        small=smalls[0], large=pruner().chain(Large().runnable), threshold=0.9, recorder=recorder("graph")
    )
    await call(steps, {"text": "hard"}, async_)
    assert heard["graph"][-1]["large_seconds"] > 0.0, "as a router it knows"


async def test_shadow_answers_and_audits_are_recorded_too(async_):
    rows = []
    recorder = type("R", (), {"record": lambda _, row: rows.append(row)})()
    steps = GraphRouter(
        small=list(two()), large=pruner().chain(Large().runnable), threshold=0.9, mode="shadow", recorder=recorder,
        background=False,
    )  # fmt: skip
    state = await call(create_dsplus_graph(steps), {"text": "easy"}, async_)
    assert (state["route"]["reason"], state["route"]["answers"]) == ("shadow", [])
    assert [row["kind"] for row in rows] == ["shadow", "route"]
    assert rows[0]["route"]["accepted"] is True
    assert len({row["route_id"] for row in rows}) == 1
    rows.clear()
    steps = GraphRouter(
        small=list(two()), large=pruner().chain(Large().runnable), threshold=0.9, audit_rate=1.0, recorder=recorder,
        background=False,
    )  # fmt: skip
    for text in ("easy", "middling"):
        await call(create_dsplus_graph(steps), {"text": text}, async_)
    assert [row["kind"] for row in rows] == ["route", "audit"] * 2
    assert rows[1]["output"] in LABELS


async def test_conformal_conflicts_reach_the_route(async_):
    table = [
        {"id": str(i), "small": "pos", "confidence": 0.9, "large": "pos", "gold": "pos", "probabilities": SURE}
        for i in range(60)
    ]
    conformal = ConformalCandidates.fit(Outcomes.from_records(table), alpha=0.1)
    prompt = pruner("none", conformal=conformal)
    small = FakeSmallModel({"x": SURE})
    large = RunnableLambda(lambda _: "neg")
    router = ConfidenceRouter(small=small, large=prompt.chain(large), threshold=0.99, include_route=True)
    wanted = router.invoke({"text": "x"})["route"]
    state = await call(create_dsplus_graph(small, large, prompt=prompt, threshold=0.99), {"text": "x"}, async_)
    assert wanted["conflict"] is True
    assert plain(state["route"]) == plain(wanted)


async def test_a_pacer_keeps_an_unsure_answer_only_after_the_last_small_model(async_):
    pacer = BudgetPacer(per_1000=0.001, on_conflict="budget")
    specific, learned = two()
    graph = create_dsplus_graph(
        specific, Large().runnable, learnable=learned, prompt=pruner(), threshold=0.9, pacer=pacer
    )
    state = await call(graph, {"text": "middling"}, async_)
    assert (state["route"]["model"], state["route"]["reason"]) == ("learned", "confident")
    state = await call(graph, {"text": "hard"}, async_)
    assert (state["label"], state["route"]["reason"], state["route"]["model"]) == ("pos", "budget", "learned")


# --- state ----------------------------------------------------------------------------------------------------------


async def test_the_state_passes_strict_checkpoints_and_json(async_):
    checkpointer = saver()
    specific, learned = two()
    graph = create_dsplus_graph(
        specific, FakeListChatModel(responses=["neg"]), learnable=learned, threshold=0.9, checkpointer=checkpointer
    )
    config = {"configurable": {"thread_id": "1"}}
    state = await call(graph, {"text": "hard"}, async_, config)
    saved = graph.get_state(config).values
    assert saved == state
    assert set(state) == {"text", "route", "prompt", "candidates", "reply", "label"}
    strict = JsonPlusSerializer(allowed_msgpack_modules=None)
    assert strict.loads_typed(strict.dumps_typed(state)) == state
    told = {key: state[key] for key in ("text", "route", "candidates", "label")}
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    # A further input of the thread leaves nothing of the first behind.
    state = await call(graph, {"text": "easy"}, async_, config)
    assert (state["label"], state["prompt"], state["candidates"], state["reply"]) == ("pos", None, None, None)
    state = await call(graph, {"text": "hard"}, async_, config)
    assert state["reply"].text == "neg"


async def test_time_travel_asks_only_what_follows(async_):
    large = Large()
    specific, learned = two()
    graph = create_dsplus_graph(specific, large.runnable, learnable=learned, threshold=0.9, checkpointer=saver())
    config = {"configurable": {"thread_id": "1"}}
    state = await call(graph, {"text": "hard"}, async_, config)
    history = {s.next: s for s in graph.get_state_history(config)}
    assert [s for s in history if s] == [("parse",), ("large",), ("prune",), ("learnable",), ("small",), ("__start__",)]
    again = await call(graph, None, async_, history["parse",].config)
    assert (again["label"], len(large.prompts)) == (state["label"], 1)
    again = await call(graph, None, async_, history["large",].config)
    assert (again["label"], len(large.prompts), len(specific.calls)) == (state["label"], 2, 1)
    # Another way from the same place: the learnable model's answer is changed by hand.
    changed = graph.update_state(history["learnable",].config, {"text": "easy"})
    again = await call(graph, None, async_, changed)
    assert (again["label"], again["route"]["model"], len(large.prompts)) == ("pos", "learned", 2)


def certified(**more):
    """A certificate whose threshold is about 0.7, for the plain prompt."""
    rows = [
        {"small": "neg" if i < 700 else "pos", "confidence": i / 1000, "large": "pos", "gold": "pos"}
        for i in range(1000)
    ]
    about = {"score": "max_probability", "labels": LABELS, "small": "1", "large": "v1", "prompt": "v1"}
    return certify(Outcomes.from_records(rows, about=about), **more)


async def test_a_certificate_holds_in_every_node(async_):
    certificate = certified()
    small = FakeSmallModel(TABLE, version="1")
    large = Large()
    graph = create_dsplus_graph(small, large.runnable, prompt=pruner(), threshold=certificate, version="v1")
    router = ConfidenceRouter(
        small=small,
        large=pruner().chain(Large().runnable),
        threshold=certificate,
        version="v1",
        include_route=True,
    )
    for text in ("easy", "hard"):
        state, wanted = await call(graph, {"text": text}, async_), router.invoke({"text": text})
        assert (state["label"], plain(state["route"])) == (wanted["output"], plain(wanted["route"]))
        assert state["route"]["certificate"] == certificate.id
    assert "probability" not in large.prompts[0][-1], "the certificate is about the plain prompt"
    with pytest.raises(SettingsError, match="looser than the certificate"):
        await call(graph, {"text": "hard"}, async_, context=GraphContext(dsplus_threshold=0.1))
    state = await call(graph, {"text": "easy"}, async_, context=GraphContext(dsplus_threshold=0.999))
    assert state["route"]["accepted"] is False
    with pytest.raises(MismatchError):
        create_dsplus_graph(small, large.runnable, prompt=pruner(), threshold=certificate, version="v2")


@pytest.mark.parametrize("how", ["context", "dict", "config", "none"])
async def test_a_run_sets_its_threshold(async_, how):
    graph = create_dsplus_graph(FakeSmallModel(TABLE), Large().runnable, threshold=0.9)
    kwargs = {
        "context": {"context": GraphContext(dsplus_threshold=0.999)},
        "dict": {"context": {"dsplus_threshold": 0.999}},
    }
    config = {"configurable": {"dsplus_threshold": 0.999}} if how == "config" else None
    state = await call(graph, {"text": "easy"}, async_, config, **kwargs.get(how, {}))
    assert state["route"]["accepted"] is (how == "none")
    assert state["route"]["threshold"] == (0.9 if how == "none" else 0.999)
    with pytest.raises(SettingsError, match="looser than the router"):  # whoever calls a graph may only tighten it
        await call(graph, {"text": "hard"}, async_, context=GraphContext(dsplus_threshold=0.4))


async def test_the_kill_switch_holds_in_the_middle_of_a_run(async_, monkeypatch):
    large = Large()
    specific, learned = two()
    graph = create_dsplus_graph(specific, large.runnable, learnable=learned, threshold=0.9, checkpointer=saver())
    config = {"configurable": {"thread_id": "1"}}
    await call(graph, {"text": "middling"}, async_, config, interrupt_after=["small"])
    monkeypatch.setenv("DSPLUS_MODE", "off")
    state = await call(graph, None, async_, config)
    assert (state["route"]["reason"], learned.calls) == ("off", [])
    assert "probability" not in large.prompts[0][-1]


async def test_another_schema_and_more_variables(async_):
    class State(ClassificationState):
        question: str

    prompt = PromptPruner.from_messages([("human", "{question}\n{text}")], labels=LABELS)
    small = FakeSmallModel(TABLE, input_key="text")
    large = Large()
    with pytest.raises(ValueError, match=r"\['question'\]"):
        create_dsplus_graph(small, large.runnable, prompt=prompt)
    graph = create_dsplus_graph(small, large.runnable, prompt=prompt, state_schema=State, threshold=0.9)
    state = await call(graph, {"text": "hard", "question": "Which?"}, async_)
    assert state["label"] in LABELS
    assert large.prompts[0][0].startswith("Which?\nhard")


def test_bad_arguments():
    small, large = FakeSmallModel(TABLE), Large().runnable
    with pytest.raises(ValueError, match="`large` is needed"):
        create_dsplus_graph(small)
    with pytest.raises(ValueError, match="`prompt` is needed"):
        create_dsplus_graph(RunnableLambda(lambda _: {"choice": "x", "probabilities": {}, "confidence": 1.0}), large)
    with pytest.raises(ValueError, match="Extra inputs"):
        create_dsplus_graph(small, large, treshold=0.9)
    with pytest.raises(TypeError, match="PrunedChain"):
        GraphRouter(small=small, large=RunnableLambda(lambda _: "x").with_types(output_type=str))
    with pytest.raises(ValueError, match="at most two"):
        GraphRouter(small=[small, small, small], large=pruner().chain(large))
    steps = GraphRouter(small=small, large=pruner().chain(large))
    with pytest.raises(ValueError, match="`step` must be one of"):
        steps.node("learnable")
    for step in ("prune", "large", "parse"):
        with pytest.raises(KeyError, match="follows the small models"):
            steps.node(step).invoke({"text": "x"})
    with pytest.raises(TypeError, match="dict as state"):
        steps.node("small").invoke("x")


# --- money ----------------------------------------------------------------------------------------------------------


class Flaky(GenericFakeChatModel):
    """Fails as often as it is told to, with a status that costs nothing."""

    failures: list = []

    def _generate(self, *args, **kwargs):
        if self.failures:
            raise self.failures.pop()
        return super()._generate(*args, **kwargs)

    def _stream(self, *args, **kwargs):
        raise NotImplementedError


def chat(*failures):
    messages = (
        AIMessage("neg", usage_metadata=USAGE, response_metadata={"model_name": "m"}) for _ in itertools.count()
    )
    return Flaky(messages=messages, failures=list(failures))


def counted(ledger):
    total = ledger.total()
    return {name: total[name] for name in ("input_tokens", "output_tokens", "failed")}


async def test_retries_are_counted_once(async_):
    ledger = CostLedger(Price(input=1.0, output=1.0))
    retry = RetryPolicy(max_attempts=3, initial_interval=0.01, retry_on=ConnectionError)
    model = chat(ConnectionError(), ConnectionError())
    graph = create_dsplus_graph(FakeSmallModel(TABLE), model, threshold=0.9, retry_policy=retry)
    state = await call(graph, {"text": "hard"}, async_, {"callbacks": [ledger]})
    assert state["label"] == "neg"
    assert counted(ledger) == {"input_tokens": 30, "output_tokens": 1, "failed": 2}
    sides = {(row["side"], row["calls"]) for row in ledger.table()}
    assert sides == {("small", 1), ("large", 1)}


async def test_a_cache_hit_costs_nothing_and_keeps_the_route_its_own(async_):
    ledger = CostLedger(Price(input=1.0, output=1.0))
    graph = create_dsplus_graph(
        FakeSmallModel(TABLE), chat(), threshold=0.9, cache_policy=CachePolicy(), cache=InMemoryCache()
    )
    states = [await call(graph, {"text": t}, async_, {"callbacks": [ledger]}) for t in ("hard", "hard", "middling")]
    assert [s["label"] for s in states] == ["neg"] * 3
    assert len({s["route"]["route_id"] for s in states}) == 3
    assert counted(ledger) == {"input_tokens": 60, "output_tokens": 2, "failed": 0}
    # Another graph with the same cache and another model does not get this one's answer.
    cache = InMemoryCache()
    for label in ("neg", "odd"):
        large = RunnableLambda(lambda _, label=label: label)
        other = create_dsplus_graph(
            FakeSmallModel(TABLE), large, threshold=0.9, prompt=pruner(), cache_policy=CachePolicy(), cache=cache
        )
        assert (await call(other, {"text": "hard"}, async_))["label"] == label
    # A key function of one's own is left alone.
    graph = create_dsplus_graph(
        FakeSmallModel(TABLE), chat(), threshold=0.9, cache_policy=CachePolicy(key_func=lambda _: "1"),
        cache=InMemoryCache(),
    )  # fmt: skip
    ledger.reset()
    for text in ("hard", "middling"):
        await call(graph, {"text": text}, async_, {"callbacks": [ledger]})
    assert counted(ledger)["input_tokens"] == 30


async def test_the_ledgers_savings_are_those_of_a_router(async_):
    smalls = two()
    router = ConfidenceRouter(small=list(smalls), large=pruner().chain(chat()), threshold=0.9)
    graph = create_dsplus_graph(smalls[0], chat(), learnable=smalls[1], prompt=pruner(), threshold=0.9)
    found = []
    for part in (router, graph):
        ledger = CostLedger(Price(input=1.0, output=1.0))
        for text in [*TABLE, "easy", "hard"]:
            await call(part, {"text": text}, async_, {"callbacks": [ledger]})
        saved = ledger.saved()
        saved.pop("overhead")  # seconds of the small models
        found.append(saved)
    assert (found[1]["accepted"], found[1]["escalated"]) == (3, 2)
    assert found[0]["avoided"] == found[1]["avoided"]
    assert found[0].keys() == found[1].keys()


async def test_the_small_answer_stands_in_after_all_retries(async_):
    model = chat(*[ConnectionError() for _ in range(5)])
    retry = RetryPolicy(max_attempts=2, initial_interval=0.01, retry_on=ConnectionError)
    rows = []
    recorder = type("R", (), {"record": lambda _, row: rows.append(row)})()
    graph = create_dsplus_graph(
        FakeSmallModel(TABLE), model, threshold=0.9, retry_policy=retry, on_large_error="small", recorder=recorder
    )
    state = await call(graph, {"text": "hard"}, async_)
    assert (state["label"], state["route"]["degraded"], state["route"]["model"]) == ("pos", True, "small")
    assert state["route"]["error"] == "large: ConnectionError"
    assert len(model.failures) == 3
    assert [row["route"]["degraded"] for row in rows] == [True]
    # A reply that names no label is an error of the large side too; and where nothing may stand in, it is raised.
    broken = RunnableLambda(lambda _: "the moon")
    graph = create_dsplus_graph(FakeSmallModel(TABLE), broken, threshold=0.9, on_large_error="small")
    assert (await call(graph, {"text": "hard"}, async_))["route"]["error"] == "large: OutputParserException"
    graph = create_dsplus_graph(
        FakeSmallModel(TABLE), broken, threshold=0.9, on_large_error="small", never_local=["pos"]
    )
    with pytest.raises(Exception, match="names none"):
        await call(graph, {"text": "hard"}, async_)


# --- picture, streams, nodes alone ----------------------------------------------------------------------------------


def test_the_picture_shows_the_branches():
    specific, learned = two()
    graph = create_dsplus_graph(specific, Large().runnable, learnable=learned)
    drawn = {(e.source, e.target, e.data if e.conditional else None) for e in graph.get_graph().edges}
    assert drawn == {
        ("__start__", "small", None),
        ("small", "__end__", "accept"),
        ("small", "learnable", "unsure"),
        ("small", "prune", "escalate"),
        ("learnable", "__end__", "accept"),
        ("learnable", "prune", "escalate"),
        ("prune", "large", None),
        ("large", "parse", None),
        ("parse", "__end__", None),
    }
    picture = graph.get_graph().draw_mermaid()
    for branch in ("accept", "unsure", "escalate"):
        assert f"&nbsp;{branch}&nbsp;" in picture
    assert "learnable" not in create_dsplus_graph(specific, Large().runnable).get_graph().draw_mermaid()


async def test_streams_tell_what_happens(async_):
    specific, learned = two()
    graph = create_dsplus_graph(specific, FakeListChatModel(responses=["neg"]), learnable=learned, threshold=0.9)
    modes = ["updates", "messages", "custom"]
    value = {"text": "hard"}
    chunks = (
        [c async for c in graph.astream(value, stream_mode=modes)]
        if async_
        else list(graph.stream(value, stream_mode=modes))
    )
    updates = [(name, sorted(update)) for mode, c in chunks if mode == "updates" for name, update in c.items()]
    assert updates == [
        ("small", ["route"]),
        ("learnable", ["route"]),
        ("prune", ["candidates", "prompt", "route"]),
        ("large", ["reply"]),
        ("parse", ["label", "route"]),
    ]
    custom = [c for mode, c in chunks if mode == "custom"]
    assert [c["node"] for c in custom] == ["small", "learnable", "large"]
    tokens = [(c[0].text, c[1]["langgraph_node"]) for mode, c in chunks if mode == "messages"]
    assert "".join(text for text, node in tokens if node == "large") == "neg"


async def test_the_nodes_work_in_a_graph_of_your_own(async_):
    class State(TypedDict, total=False):
        text: str
        route: dict
        label: str
        by: str

    steps = GraphRouter(small=FakeSmallModel(TABLE), large=pruner().chain(Large().runnable), threshold=0.9)
    graph = StateGraph(State)
    graph.add_node("look", steps.node("small"))
    graph.add_node("person", lambda _: {"label": "odd", "by": "person"})
    graph.add_edge(START, "look")
    graph.add_conditional_edges("look", steps.branch, {"accept": END, "escalate": "person"})
    graph = graph.compile()
    assert (await call(graph, {"text": "easy"}, async_))["label"] == "pos"
    assert (await call(graph, {"text": "hard"}, async_))["by"] == "person"
    # Outside of any graph, step by step.
    state = {"text": "hard"}
    for step in ("small", "prune", "large", "parse"):
        state |= await call(steps.node(step), state, async_)
    assert state["label"] == steps.invoke({"text": "hard"})


async def test_a_parser_of_your_own(async_):
    parser = LabelParser(LABELS, fallback="odd")
    graph = create_dsplus_graph(
        FakeSmallModel(TABLE), RunnableLambda(lambda _: "???"), prompt=pruner(), parser=parser, threshold=0.9
    )
    assert (await call(graph, {"text": "hard"}, async_))["label"] == "odd"


async def test_batches(async_):
    specific, learned = two()
    graph = create_dsplus_graph(specific, Large().runnable, learnable=learned, threshold=0.9)
    inputs = [{"text": t} for t in TABLE] * 3
    states = await graph.abatch(inputs) if async_ else graph.batch(inputs)
    assert [s["route"]["model"] for s in states] == ["small", "learned", "large"] * 3


async def test_a_model_that_raises_stop_iteration_is_no_answer(async_):
    graph = create_dsplus_graph(FakeSmallModel(TABLE), GenericFakeChatModel(messages=iter([])), threshold=0.9)
    with pytest.raises(RuntimeError):
        await call(graph, {"text": "hard"}, async_)


def test_importing_does_not_import_langgraph():
    code = "import sys, langchain_dsplus.graphs.classification; assert 'langgraph' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
