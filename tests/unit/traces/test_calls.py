"""Past LLM calls: as files have them, and as LangChain and LangSmith themselves write runs."""

import json
import random
import string
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.langchain import LangChainTracer
from langsmith.schemas import Run

from langchain_dsplus.identity import identify
from langchain_dsplus.small_models.fake import FakeSmallModel
from langchain_dsplus.traces.calls import default_input, outcomes_from_calls
from langchain_dsplus.traces.collect import collect_outcomes
from langchain_dsplus.traces.logs import Columns, read_calls
from langchain_dsplus.traces.store import TraceStore

TABLE = {"good": {"pos": 0.9, "neg": 0.1}, "bad": {"pos": 0.2, "neg": 0.8}}


def small(table=TABLE, **options):
    return FakeSmallModel(table, **options)


def write(path, *rows):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return path


# --- pairs ----------------------------------------------------------------------------------------------------------


def test_pairs(tmp_path):
    path = write(
        tmp_path / "calls.jsonl",
        {"input": "good", "output": "pos", "id": 7, "gold": "pos", "group": "c", "time": "2026-01-02T03:04:05"},
        {"input": {"text": "bad"}, "output": {"role": "assistant", "content": "neg"}, "time": 0},
        {
            "input": [["system", "s"], ["user", "bad"]],
            "output": "neg",
            "usage": {"input_tokens": 1, "output_tokens": 2},
        },
    )
    one, two, three = read_calls(path)
    assert one == {
        "kind": "call", "route_id": "7", "uid": one["uid"], "input": "good", "output": "pos", "gold": "pos", "group": "c",
        "time": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    assert (two["output"], two["time"]) == ({"type": "ai", "content": "neg"}, "1970-01-01T00:00:00+00:00")
    assert three["input"] == [{"type": "system", "content": "s"}, {"type": "human", "content": "bad"}]
    assert three["usage"] == {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}


def test_other_keys_and_a_json_list(tmp_path):
    path = tmp_path / "calls.json"
    path.write_text(
        "\ufeff " + json.dumps([{"q": "good", "a": "pos"}, {"q": "bad", "a": "neg"}], indent=1), encoding="utf-8"
    )
    assert [c["output"] for c in read_calls(path, Columns("q", "a"))] == ["pos", "neg"]


def test_equal_calls_are_calls_of_their_own_and_keep_their_ids(tmp_path):
    rows = [{"input": "good", "output": "pos"}] * 3 + [{"input": "bad", "output": "pos"}]
    first = [c["route_id"] for c in read_calls(write(tmp_path / "a", *rows))]
    assert len(set(first)) == 4
    assert [c["route_id"] for c in read_calls(write(tmp_path / "b", *rows))] == first


def test_lines_that_cannot_be_used_are_skipped_and_counted(tmp_path):
    path = write(
        tmp_path / "c",
        {"input": "good", "output": "pos"},
        '{"cut',
        "",
        [1],
        {"input": "x"},
        {"id": {}, "input": 1, "output": 2},
    )
    with pytest.warns(UserWarning, match=r"4 rows of .* were skipped"):
        assert len(list(read_calls(path))) == 1


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([], "among 0 rows"),
        ([{"question": "a secret"}], r"1 .*lack input or output.*question"),
        ([{"run_type": "chain", "inputs": {}, "outputs": {}}], "1 runs are of another `run_type`"),
    ],
)
def test_a_file_of_something_else(tmp_path, rows, match):
    with pytest.raises(ValueError, match=match) as caught:
        list(read_calls(write(tmp_path / "c", *rows)))
    assert "secret" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(
    item=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(string.printable, max_size=8),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["inputs", "outputs", "messages", "generations", "choices", "message", "content", "role", "kwargs", "lc",
                 "id", "usage", "run_type", "text", "extra", "metadata", "input", "output", "type", "error", "data"]
            ),
            inner,
            max_size=5,
        ),
        max_leaves=20,
    )
)  # fmt: skip
def test_no_strange_run_breaks_the_import(tmp_path_factory, item):
    run = {"run_type": "llm", "id": "1", "inputs": item, "outputs": item, "extra": item, "error": item}
    pair = {"input": item, "output": item, "usage": item}
    path = write(tmp_path_factory.mktemp("x") / "c", run, pair, {"input": "good", "output": "pos"})
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        calls = list(read_calls(path))
    json.dumps(calls, allow_nan=False)
    assert calls[-1]["output"] == "pos"


# --- LangSmith ------------------------------------------------------------------------------------------------------


class Client:
    """Keeps the runs that LangChain would send."""

    tracing_queue = None

    def __init__(self):
        self.runs = {}

    def create_run(self, **run):
        self.runs[run["id"]] = run

    def update_run(self, run_id, **run):
        self.runs[run_id].update(run)

    def flush(self):
        pass


@pytest.fixture
def exported(tmp_path):
    """Runs as LangChain's own tracer makes them and LangSmith's own schema writes them."""
    client = Client()
    tracer = LangChainTracer(client=client, project_name="p")
    usage = {"input_tokens": 9, "output_tokens": 1, "total_tokens": 10, "input_token_details": {"cache_read": 4}}
    replies = [AIMessage("pos", usage_metadata=usage), AIMessage([{"type": "text", "text": "neg"}])]
    llm = FakeMessagesListChatModel(responses=replies).with_config(metadata={"ls_model_name": "big-1"})
    chain = (ChatPromptTemplate.from_messages([("system", "Sort."), ("human", "{text}")]) | llm).with_config(
        run_name="triage"
    )
    for text in ("good", "bad"):
        chain.invoke({"text": text}, {"callbacks": [tracer]})

    def broken(_):
        raise TimeoutError("a customer's words")

    with pytest.raises(TimeoutError):
        RunnableLambda(broken, name="triage").invoke({"text": "good"}, {"callbacks": [tracer]})
    tracer.wait_for_futures()
    runs = [Run(**run) for run in client.runs.values()]
    return write(tmp_path / "runs.jsonl", *(run.model_dump_json() for run in runs))


def test_the_bare_calls_of_langsmith(exported):
    good, bad = read_calls(exported)
    assert good["input"] == [{"type": "system", "content": "Sort."}, {"type": "human", "content": "good"}]
    assert good["output"] == {"type": "ai", "content": "pos"}
    assert good["usage"]["input_token_details"] == {"cache_read": 4}
    assert good["model"] == "big-1"
    assert 0 <= good["large_seconds"] < 60
    assert abs(datetime.fromisoformat(good["time"]) - datetime.now(UTC)).total_seconds() < 600
    assert bad["output"] == {"type": "ai", "content": [{"type": "text", "text": "neg"}]}
    outcomes = outcomes_from_calls(small(), [good, bad])
    assert outcomes.values("large") == ["pos", "neg"]
    assert outcomes.values("small") == ["pos", "neg"]
    assert outcomes.values("tokens_cached") == [4, None]
    assert outcomes.about["large_reported"] == ["big-1"]


def test_the_chains_of_langsmith(exported):
    good, bad, failed = read_calls(exported, run_type="chain", run_name="triage")
    assert (good["input"], good["output"]) == ({"text": "good"}, {"type": "ai", "content": "pos"})
    assert failed["error"] == "large: TimeoutError"
    assert "customer" not in json.dumps(failed)
    outcomes = outcomes_from_calls(small(input_key="text"), [good, bad, failed])
    assert outcomes.values("large") == ["pos", "neg", None]
    assert outcomes.values("error") == [None, None, "TimeoutError"]
    assert len(list(read_calls(exported, run_type=None))) > 5


def run(inputs, outputs, **more):
    return {"id": "1", "run_type": "llm", "name": "x", "inputs": inputs, "outputs": outputs, **more}


USER = {"role": "user", "content": "good"}


@pytest.mark.parametrize(
    ("inputs", "outputs", "usage"),
    [
        ({"prompts": ["good"]}, {"generations": [[{"text": "pos"}]], "llm_output": {"token_usage": {"prompt_tokens": 3, "completion_tokens": 1}}}, 3),
        ({"messages": [USER], "model": "m"}, {"choices": [{"message": {"role": "assistant", "content": "pos"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}, 3),
        ({"messages": [USER]}, {"role": "assistant", "type": "message", "content": [{"type": "text", "text": "pos"}], "usage": {"input_tokens": 3, "output_tokens": 1}}, 3),
        ({"messages": [USER]}, {"message": {"role": "assistant", "content": "pos"}, "usage_metadata": {"input_tokens": 3, "output_tokens": 1}}, 3),
        ({"input": "good"}, {"output": "pos"}, None),
        ({"input": [{"type": "human", "data": {"content": "good"}}]}, {"output": {"lc": 1, "type": "constructor", "id": ["AIMessage"], "kwargs": {"content": "pos"}}}, None),
        (json.dumps({"input": "good"}), json.dumps({"output": "pos"}), None),
    ],
)  # fmt: skip
def test_forms_of_runs(tmp_path, inputs, outputs, usage):
    (call,) = read_calls(write(tmp_path / "c", run(inputs, outputs)))
    assert call.get("usage", {}).get("input_tokens") == usage
    outcomes = outcomes_from_calls(small(), [call])
    assert (outcomes.values("small"), outcomes.values("large")) == (["pos"], ["pos"])


def test_examples_of_a_data_set(tmp_path):
    path = write(tmp_path / "c", *[{"inputs": {"text": "good"}, "outputs": {"label": "pos"}, "metadata": {}}] * 2)
    assert outcomes_from_calls(small(input_key="text"), read_calls(path)).values("large") == ["pos", "pos"]


def test_tokens_that_langsmith_counted(tmp_path):
    more = {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "prompt_token_details": {"cache_read": 1},
        "start_time": "2026-01-01T00:00:00",
        "end_time": "2026-01-01T00:00:01.500000",
    }
    (call,) = read_calls(write(tmp_path / "c", run({"input": "good"}, {"output": "pos"}, **more)))
    assert call["usage"] == {
        "input_tokens": 5,
        "output_tokens": 2,
        "total_tokens": 7,
        "input_token_details": {"cache_read": 1},
    }
    assert (call["time"], call["large_seconds"]) == ("2026-01-01T00:00:00+00:00", 1.5)


KEY = "a key for these tests"

# --- outcomes -------------------------------------------------------------------------------------------------------


def calls(number, seed=0):
    draw = random.Random(seed)
    return [
        {"kind": "call", "route_id": str(n), "input": draw.choice(list(TABLE)), "output": draw.choice(["pos", "neg"])}
        for n in range(number)
    ]


@pytest.mark.parametrize("several", [False, True])
def test_the_same_table_as_asking_again(several):
    """What `collect_outcomes` gives when the LLM says now what it said then."""
    past = calls(50)
    models = [small(name="one"), small(name="two", table={"good": TABLE["bad"]})] if several else small()
    replies = iter([c["output"] for c in past])
    large = RunnableLambda(lambda _: next(replies))
    rows = [{"id": c["route_id"], "input": c["input"]} for c in past]
    asked = collect_outcomes(models, large, rows, max_concurrency=1, progress=False, version="v", key=KEY)
    told = outcomes_from_calls(models, past, large=large, version="v", chunk_size=7, key=KEY)
    assert told.about == asked.about
    apart = {"latency_small", "latency_large", "latency_small.one", "latency_small.two"}

    def rows_of(outcomes):
        return [{k: v for k, v in r.items() if k not in apart} for r in outcomes.to_records()]

    assert rows_of(told) == rows_of(asked)
    assert asked.about["large"] == "v" == identify(large, version="v").large


def test_gold_from_the_call_and_later(tmp_path):
    with TraceStore(tmp_path / "t.db") as store:
        path = write(
            tmp_path / "c", *({"id": str(n), "input": "good", "output": "pos", "gold": "neg"} for n in range(3))
        )
        assert store.import_calls(path) == 3
        store.add_gold("1", "pos")
        store.record({"kind": "route", "route_id": "x", "router": "r"})
        outcomes = outcomes_from_calls(small(), store.rows(kind=("call", "gold")), about={"data": "d"})
    assert outcomes.values("gold") == ["neg", "pos", "neg"]
    assert outcomes.about["data"] == "d"


def test_import_into_a_store(tmp_path, exported):
    def redact(body):
        return {**body, "input": "***"}

    with TraceStore(tmp_path / "t.db", redact=redact, retention_days=10_000) as store:
        assert store.import_calls(exported) == 2
        assert store.import_calls(exported) == 0, "nothing twice"
        assert [(r["kind"], r["input"], r["model"]) for r in store.rows()] == [("call", "***", "big-1")] * 2
        assert len(list(store.rows(since="2020-01-01T00:00:00Z"))) == 2
    with TraceStore(tmp_path / "t2.db", texts=False) as store:
        store.import_calls(exported)
        with pytest.raises(ValueError, match="no `input`"):
            outcomes_from_calls(small(), store.rows())


def test_outputs_that_cannot_be_read():
    past = [{"kind": "call", "route_id": "1", "input": "good", "output": {"a": 1, "b": 2}}]
    with pytest.raises(ValueError, match=r"could be read as a label \(TypeError\): pass `to_label=`"):
        outcomes_from_calls(small(), past)
    assert outcomes_from_calls(small(), past, to_label=lambda o: "pos").values("large") == ["pos"]
    mixed = [*past, {**past[0], "route_id": "2", "output": "neg"}]
    assert outcomes_from_calls(small(), mixed).values("error") == ["TypeError", None]


def test_a_small_model_that_fails_leaves_its_row(tmp_path):
    past = [*calls(3), {"kind": "call", "route_id": "z", "input": "strange", "output": "pos"}]
    found = outcomes_from_calls(small(), past).to_records()[-1]
    assert (found["small"], found["small_error"], found["large"]) == (None, "KeyError", "pos")


@pytest.mark.parametrize(
    ("rows", "error", "match"),
    [
        ([3], TypeError, "row 1 of `calls` is int"),
        ([{"kind": "call"}], ValueError, "row 1 of `calls`, 'route_id'"),
        (calls(1) * 2, ValueError, "row 2 of `calls` repeats"),
    ],
)
def test_rows_of_something_else_are_named(rows, error, match):
    with pytest.raises(error, match=match):
        outcomes_from_calls(small(), rows)


def test_no_calls_no_rows():
    outcomes = outcomes_from_calls(small(), [])
    assert len(outcomes) == 0
    assert outcomes.about["labels"] == small().labels
    with pytest.raises(ValueError, match="chunk_size"):
        outcomes_from_calls(small(), [], chunk_size=0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "a"),
        ({"text": "a"}, {"text": "a"}),
        ([{"type": "human", "content": "a"}], "a"),
        ({"type": "human", "content": "a"}, "a"),
        ([{"type": "human", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], "ab"),
        ([{"type": "human", "content": [{"type": "image", "url": "x"}]}],) * 2,
        ([{"type": "human", "content": "a"}, {"type": "ai", "content": "b"}, {"type": "human", "content": "c"}],) * 2,
        ([],) * 2,
        (None, None),
    ],
)
def test_what_a_small_model_is_asked(value, expected):
    assert default_input(value) == expected
