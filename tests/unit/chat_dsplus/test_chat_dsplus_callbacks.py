"""What callbacks, streams, traces and counters hear: one answer, every token once, every run in its place."""

import asyncio
import uuid

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.callbacks.usage import get_usage_metadata_callback
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langchain_core.tracers.base import BaseTracer
from typing_extensions import TypedDict

from langchain_dsplus import CostLedger, Price
from langchain_dsplus.chat_dsplus.model import ChatDSPlus

DRAFT, ANSWER = "the draft in five words", "what the large model says here"
WAYS = ["invoke", "ainvoke", "batch", "abatch", "stream", "astream"]
BOTH = pytest.mark.parametrize("accepted", [True, False])


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def make(scripted, accepted=True, **kwargs):
    models = [
        scripted(name="tiny", model_name="tiny-1", text=DRAFT),
        scripted(name="big", model_name="big-1", text=ANSWER, usage=(20, 7)),
    ]
    return ChatDSPlus(models=models, threshold=0.5 if accepted else 0.95, **kwargs)


async def collect(found):
    return [item async for item in found]


def run(model, way, config, value="Hi"):
    """All that comes back, in a list."""
    method = getattr(model, way)
    if way in ("invoke", "stream", "batch"):
        found = method([value] if way == "batch" else value, config)
        return [found] if way == "invoke" else list(found)
    if way == "astream":
        return asyncio.run(collect(method(value, config)))

    async def wait():
        return await method([value] if way == "abatch" else value, config)

    found = asyncio.run(wait())
    return list(found) if way == "abatch" else [found]


class Watcher(BaseCallbackHandler):
    """Writes down every event with the run's place in the tree."""

    def __init__(self):
        self.events = []

    def _note(self, kind, kwargs, what=None):
        self.events.append((kind, kwargs["run_id"], kwargs.get("parent_run_id"), tuple(kwargs.get("tags") or ()), what))

    def on_chat_model_start(self, serialized, messages, **kwargs):
        self._note("start", kwargs, kwargs["metadata"])

    def on_llm_new_token(self, token, **kwargs):
        self._note("token", kwargs, token)

    def on_llm_end(self, response, **kwargs):
        self._note("end", kwargs, response.generations[0][0].message)

    def on_llm_error(self, error, **kwargs):
        self._note("error", kwargs)

    def on_chain_start(self, serialized, inputs, **kwargs):
        self._note("chain", kwargs, kwargs.get("name"))

    def on_chain_end(self, outputs, **kwargs):
        self._note("chain end", kwargs)

    def on_custom_event(self, name, data, **kwargs):
        self.events.append(("custom", kwargs["run_id"], None, (), (name, data)))


class AsyncWatcher(AsyncCallbackHandler):
    def __init__(self):
        self.inner = Watcher()

    @property
    def events(self):
        return self.inner.events

    async def on_chat_model_start(self, *args, **kwargs):
        self.inner.on_chat_model_start(*args, **kwargs)

    async def on_llm_new_token(self, *args, **kwargs):
        self.inner.on_llm_new_token(*args, **kwargs)

    async def on_llm_end(self, *args, **kwargs):
        self.inner.on_llm_end(*args, **kwargs)

    async def on_chain_start(self, *args, **kwargs):
        self.inner.on_chain_start(*args, **kwargs)

    async def on_chain_end(self, *args, **kwargs):
        self.inner.on_chain_end(*args, **kwargs)

    async def on_custom_event(self, *args, **kwargs):
        self.inner.on_custom_event(*args, **kwargs)


# --- events -------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [Watcher, AsyncWatcher])
def test_events_come_once_in_order_and_nested(scripted, way, accepted, kind):
    if kind is AsyncWatcher and not way.startswith("a"):
        pytest.skip("an async handler is for async calls")
    watcher, outer = kind(), uuid.uuid4()
    config = {"callbacks": [watcher], "run_id": outer, "tags": ["mine"], "metadata": {"user": "x"}}
    run(make(scripted, accepted), way, config)
    events = watcher.events
    kinds = [event[0] for event in events if event[0] != "token"]
    inner = ["start", "end"] * (1 if accepted else 2)
    if way in ("stream", "astream") and not accepted:  # the route stands before the first token
        assert kinds == ["start", "chain", "start", "end", "start", "custom", "end", "chain end", "end"]
    else:
        assert kinds == ["start", "chain", *inner, "custom", "chain end", "end"]
    runs = {event[1]: event for event in reversed(events) if event[0] in ("start", "chain")}
    first, chain, *models = sorted(runs.values(), key=events.index)
    assert (first[1], first[2]) == (outer, None)
    assert (chain[2], chain[4]) == (outer, "ChatDSPlus cascade")
    assert all(model[2] == chain[1] for model in models)
    assert [set(model[3]) for model in models] == [{"mine", "tiny", "nostream"}, {"mine", "large"}][
        : 1 + (not accepted)
    ]
    assert first[3] == ("mine",)
    assert all(event[4]["user"] == "x" for event in (first, *models))
    assert first[4]["ls_provider"] == "dsplus"
    assert first[4]["ls_model_name"] == "tiny-1 > big-1"
    assert [model[4]["ls_model_name"] for model in models] == ["tiny-1", "big-1"][: 1 + (not accepted)]
    tokens = [event for event in events if event[0] == "token"]
    assert {event[1] for event in tokens} <= {outer}
    assert "".join(event[4] for event in tokens) == ((DRAFT if accepted else ANSWER) if "stream" in way else "")
    (route,) = [event[4][1] for event in events if event[0] == "custom"]
    assert route["accepted"] is accepted


@BOTH
@pytest.mark.parametrize("way", WAYS)
def test_who_does_not_count_hears_one_call(scripted, way, accepted):
    heard = []

    class Printer(BaseCallbackHandler):
        def on_chat_model_start(self, serialized, messages, **kwargs):
            heard.append("start")

        def on_llm_new_token(self, token, **kwargs):
            heard.append(token)

        def on_custom_event(self, name, data, **kwargs):
            heard.append((name, data["answers"][0]["choice"]))

    run(make(scripted, accepted, streaming=True), way, {"callbacks": [Printer()]})
    assert heard.count("start") == 1
    assert [one for one in heard if isinstance(one, tuple)] == [("dsplus_route", "")]
    assert "".join(one for one in heard[1:] if isinstance(one, str)) == (DRAFT if accepted else ANSWER)


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
def test_a_failure_ends_every_run(scripted, way):
    model = make(scripted, accepted=False)
    model.models[1].error = RuntimeError("down")
    watcher = Watcher()
    with pytest.raises(RuntimeError, match="down"):
        run(model, way, {"callbacks": [watcher]})
    kinds = [event[0] for event in watcher.events]
    assert kinds == ["start", "chain", "start", "end", "start", "error", "error"]


@BOTH
@pytest.mark.parametrize("way", WAYS)
def test_models_with_something_bound_hang_in_the_right_place(scripted, way, accepted):
    """LangChain's bindings take handlers and parents out of the context, too: in a chain there are some."""
    watcher = Watcher()
    model = make(scripted, accepted)
    bound = ChatDSPlus(models=[m.with_retry(stop_after_attempt=2) for m in model.models], threshold=model.threshold)
    chain = RunnableParallel(raw=bound.bind_tools([add])) | RunnableLambda(lambda found: found["raw"])
    run(chain, way, {"callbacks": [watcher]})
    starts = [event for event in watcher.events if event[0] == "start"]
    (cascade,) = [event for event in watcher.events if event[0] == "chain" and event[4] == "ChatDSPlus cascade"]
    assert len(starts) == 2 + (not accepted)
    assert cascade[2] == starts[0][1]
    parents = {event[1]: event[2] for event in watcher.events if event[0] in ("start", "chain")}
    for start in starts[1:]:
        above = start[2]
        while above is not None and above != cascade[1]:
            above = parents[above]
        assert above == cascade[1]


# --- streams ------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_stream_shows_one_answer(scripted, way, accepted):
    chunks = run(make(scripted, accepted), way, None)
    assert all(isinstance(chunk, AIMessageChunk) for chunk in chunks)
    assert len(chunks) > 5
    assert "".join(chunk.text for chunk in chunks) == (DRAFT if accepted else ANSWER)
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.chunk_position for chunk in chunks] == [None] * (len(chunks) - 1) + ["last"]
    assert [chunk.usage_metadata is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[0].response_metadata["dsplus"]["accepted"] is accepted


def test_a_large_model_streams_as_it_speaks(scripted):
    seen = []

    class Slow(scripted):
        def _stream(self, messages, **kwargs):
            for chunk in super()._stream(messages, **kwargs):
                seen.append(chunk.message.content)
                yield chunk

    model = ChatDSPlus(models=[scripted(), Slow(text=ANSWER)], threshold=None)
    source = model.stream("Hi")
    assert next(source).text == "what"
    assert seen == ["what"]
    assert next(source).text == " the"
    source.close()
    assert seen == ["what", " the"]


def graph_of(model, node=None):
    from langgraph.graph import END, START, MessagesState, StateGraph

    def talk(state):
        return {"messages": [model.invoke(state["messages"])]}

    async def atalk(state):
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("talk", RunnableLambda(talk, afunc=atalk) if node is None else node)
    graph.add_edge(START, "talk")
    graph.add_edge("talk", END)
    return graph.compile()


@BOTH
@pytest.mark.parametrize("async_", [False, True])
@pytest.mark.parametrize("accept", ["sequence", "consistency"])
def test_a_graphs_message_stream_shows_each_token_once(scripted, accepted, async_, accept):
    model = make(scripted, accepted, accept=accept, samples=2)
    if accept == "consistency" and not accepted:
        model.threshold = 1.0
    graph = graph_of(model)
    value = {"messages": [("human", "Hi")]}
    if async_:
        found = asyncio.run(collect(graph.astream(value, stream_mode=["messages", "values"])))
    else:
        found = list(graph.stream(value, stream_mode=["messages", "values"]))
    shown = [message for mode, (message, _) in ((m, c) for m, c in found if m == "messages")]
    assert len(shown) > 5
    assert "".join(message.text for message in shown) == (DRAFT if accepted else ANSWER)
    last = [content for mode, content in found if mode == "values"][-1]["messages"][-1]
    assert {message.id for message in shown} == {last.id}
    assert last.text == (DRAFT if accepted else ANSWER)
    assert last.usage_metadata["total_tokens"] >= 15


@BOTH
def test_a_graphs_message_stream_of_events_v2(scripted, accepted):
    graph = graph_of(make(scripted, accepted))
    events = asyncio.run(collect(graph.astream_events({"messages": [("human", "Hi")]}, version="v2")))
    models = [event for event in events if event["event"].startswith("on_chat_model")]
    assert {event["name"] for event in models} == {"ChatDSPlus"}
    shown = "".join(e["data"]["chunk"].text for e in models if e["event"] == "on_chat_model_stream")
    assert shown == (DRAFT if accepted else ANSWER)
    (route,) = [event for event in events if event["event"] == "on_custom_event"]
    assert route["data"]["accepted"] is accepted
    assert DRAFT not in str([event for event in events if not accepted])


@BOTH
@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_events_v3_carry_text_and_usage(scripted, accepted):
    async def ask():
        stream = await make(scripted, accepted).astream_events("Hi", version="v3")
        return await stream.output

    for message in (make(scripted, accepted).stream_events("Hi", version="v3").output, asyncio.run(ask())):
        assert message.text == (DRAFT if accepted else ANSWER)
        assert message.usage_metadata["total_tokens"] == (15 if accepted else 42)
    strict = {"configurable": {"dsplus_threshold": None, "dsplus_mode": "off"}}
    assert make(scripted).stream_events("Hi", strict, version="v3").output.text == ANSWER


# --- tokens -------------------------------------------------------------------------------------------------------


def wanted(accepted):
    tiny = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    return (
        {"tiny": tiny}
        if accepted
        else {"tiny": tiny, "large": {"input_tokens": 20, "output_tokens": 7, "total_tokens": 27}}
    )


@BOTH
@pytest.mark.parametrize("way", WAYS)
def test_usage_is_the_sum_and_counted_once_by_everyone(scripted, way, accepted):
    model = make(scripted, accepted)
    counter, ledger = UsageMetadataCallbackHandler(), CostLedger(Price(input=1.0, output=2.0))
    with get_usage_metadata_callback() as hooked, CostLedger(Price(input=1.0, output=2.0)) as around:
        found = run(model, way, {"callbacks": [counter, ledger]})
    message = found[0]
    for chunk in found[1:]:
        message = message + chunk
    usage = wanted(accepted)
    assert message.response_metadata["dsplus"]["usage"] == usage
    total = sum(one["total_tokens"] for one in usage.values())
    assert message.usage_metadata["total_tokens"] == total
    by_model = {{"tiny": "tiny-1", "large": "big-1"}[name]: one for name, one in usage.items()}
    assert counter.usage_metadata == hooked.usage_metadata == by_model
    for one in (ledger, around):
        rows = {
            row["side"]: (row["model"], row["calls"], row["input_tokens"], row["output_tokens"]) for row in one.table()
        }
        sides = {"small": ("tiny-1", 1, 10, 5)} | ({} if accepted else {"large": ("big-1", 1, 20, 7)})
        assert rows == sides
        assert one.total()["input_tokens"] + one.total()["output_tokens"] == total
        saved = one.saved()
        assert (saved["accepted"], saved["escalated"]) == (int(accepted), int(not accepted))


@pytest.mark.parametrize("way", WAYS)
def test_a_cascade_in_a_cascade_counts_once(scripted, way):
    inner = make(scripted, accepted=False)
    model = ChatDSPlus(models=[scripted(name="first", model_name="first-1", p=0.1), inner], threshold=0.5)
    ledger, counter = CostLedger(), UsageMetadataCallbackHandler()
    found = run(model, way, {"callbacks": [ledger, counter]})
    message = found[0]
    for chunk in found[1:]:
        message = message + chunk
    assert message.text == ANSWER
    assert message.usage_metadata["total_tokens"] == 15 + 15 + 27
    assert {name: one["total_tokens"] for name, one in message.response_metadata["dsplus"]["usage"].items()} == {
        "first": 15,
        "large": 42,
    }
    assert ledger.total()["calls"] == 3
    assert {name: one["total_tokens"] for name, one in counter.usage_metadata.items()} == {
        "first-1": 15,
        "tiny-1": 15,
        "big-1": 27,
    }


def test_shadow_and_audits_are_no_cost_of_the_answer(scripted):
    for kwargs, sides in [
        ({"mode": "shadow"}, {"small": 15, "large": 27}),
        ({"audit_rate": 1.0}, {"small": 15, "audit": 27}),
    ]:
        for background in (True, False):
            model, ledger = make(scripted, background=background, **kwargs), CostLedger()
            message = model.invoke("Hi", {"callbacks": [ledger]})
            assert model.drain(10)
            shown = message.response_metadata["dsplus"]["usage"]
            assert list(shown) == (["large"] if kwargs.get("mode") else ["tiny"])
            assert {row["side"]: row["input_tokens"] + row["output_tokens"] for row in ledger.table()} == sides


def test_drafts_that_were_thrown_away_count(scripted):
    model = make(scripted)
    model.models[0].metadata_extra = {"finish_reason": "length"}
    message = model.invoke("Hi")
    assert message.response_metadata["dsplus"]["reason"] == "error"
    assert message.usage_metadata["total_tokens"] == 42


# --- traces -------------------------------------------------------------------------------------------------------


class Tracer(BaseTracer):
    def __init__(self):
        super().__init__(_schema_format="original+chat")
        self.roots = []

    def _persist_run(self, run):
        self.roots.append(run)


class State(TypedDict):
    text: str


@BOTH
@pytest.mark.parametrize("way", WAYS)
def test_the_run_tree(scripted, way, accepted):
    tracer = Tracer()
    run(make(scripted, accepted, name="helper"), way, {"callbacks": [tracer], "tags": ["mine"]})
    (root,) = tracer.roots
    assert root.run_type in ("llm", "chat_model")
    (cascade,) = root.child_runs
    assert (cascade.name, cascade.run_type) == ("helper cascade", "chain")
    models = cascade.child_runs
    assert [set(model.tags) - {"mine", "nostream"} for model in models] == [{"tiny"}, {"large"}][: 1 + (not accepted)]

    def usage(one):
        (generation,) = one.outputs["generations"][0]
        message = generation["message"]
        return getattr(message, "usage_metadata", None) or message["kwargs"].get("usage_metadata")

    assert usage(root) is None
    assert [usage(model)["total_tokens"] for model in models] == [15, 27][: 1 + (not accepted)]
    assert root.extra["metadata"]["ls_provider"] == "dsplus"
    assert [model.extra["metadata"]["ls_model_name"] for model in models] == ["tiny-1", "big-1"][: 1 + (not accepted)]
    params = root.extra["invocation_params"]
    assert params["_type"] == "dsplus"
    assert "dsplus_call" not in params
    assert root.error is None
    assert root.end_time is not None


def test_tools_stand_in_the_trace(scripted):
    tracer = Tracer()
    make(scripted).bind_tools([add]).invoke("Hi", {"callbacks": [tracer]})
    assert tracer.roots[0].extra["invocation_params"]["tools"][0]["function"]["name"] == "add"


@pytest.mark.parametrize("way", ["batch", "abatch"])
def test_calls_at_the_same_time_do_not_mix(scripted, way):
    def sure(messages, draft):
        return float(int(messages[-1].text) % 2)

    model, ledger = make(scripted, accept=sure), CostLedger()
    values, config = [str(number) for number in range(40)], {"callbacks": [ledger], "max_concurrency": 16}
    found = model.batch(values, config) if way == "batch" else asyncio.run(model.abatch(values, config))
    assert [message.usage_metadata["total_tokens"] for message in found] == [42, 15] * 20
    assert {row["side"]: row["calls"] for row in ledger.table()} == {"small": 40, "large": 20}
    assert len({message.response_metadata["dsplus"]["route_id"] for message in found}) == 40


@BOTH
def test_generate_itself_is_nested_and_told(scripted, accepted):
    watcher = Watcher()
    model = make(scripted, accepted)
    result = model.generate([[HumanMessage("Hi")], [HumanMessage("Ho")]], callbacks=[watcher])
    asyncio.run(model.agenerate([[HumanMessage("Hi")]]))
    for (generation,) in result.generations:
        assert generation.message.usage_metadata["total_tokens"] == (15 if accepted else 42)
    starts = [event for event in watcher.events if event[0] == "start"]
    roots = {event[1] for event in starts if event[2] is None}
    chains = {event[1]: event[2] for event in watcher.events if event[0] == "chain"}
    assert len(roots) == 2
    assert set(chains.values()) == roots
    assert all(event[2] in chains for event in starts if event[2] is not None)
