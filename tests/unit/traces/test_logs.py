"""`Log`: every kind of file says the same calls, and nothing that stands in a file breaks a reading."""

from __future__ import annotations

import csv
import json
import math
import sqlite3
import types
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_dsplus.estimate.tasks import answers_of, prompt_of
from langchain_dsplus.traces.logs import Columns, Log, dig

TEXTS = [f"text number {place} of some\nlength" for place in range(7)]
LABELS = [f"label {place % 3}" for place in range(7)]
SYSTEM = "Sort the mail."
USAGE = {"prompt_tokens": 12, "completion_tokens": 2, "total_tokens": 14}


def request(text):
    roles = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
    return {"model": "gpt-4o-mini", "messages": roles}


def reply(label):
    message = {"role": "assistant", "content": label}
    return {"id": "x", "model": "gpt-4o-mini-2024-07-18", "choices": [{"index": 0, "message": message}], "usage": USAGE}


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def langsmith(folder):
    def run(text, label):
        lc = {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", "AIMessage"]}
        message = lc | {"kwargs": {"content": label, "type": "ai"}}
        return {
            "id": f"run-{text}",
            "name": "ChatOpenAI",
            "run_type": "llm",
            "inputs": {"messages": [request(text)["messages"]]},
            "outputs": {"generations": [[{"text": label, "message": message}]], "llm_output": {"token_usage": USAGE}},
            "extra": {"metadata": {"ls_model_name": "gpt-4o-mini"}},
            "start_time": "2026-11-01T10:00:00",
            "end_time": "2026-11-01T10:00:01.5",
        }

    return Log(lines(folder / "runs.jsonl", [run(t, label) for t, label in zip(TEXTS, LABELS, strict=True)]))


def openai_pairs(folder):
    rows = [{"request": request(t), "response": reply(label)} for t, label in zip(TEXTS, LABELS, strict=True)]
    return Log(lines(folder / "log.jsonl", rows))


def openai_flat(folder):
    rows = [request(t) | reply(label) for t, label in zip(TEXTS, LABELS, strict=True)]
    return Log(lines(folder / "log.jsonl", rows))


def openai_array(folder):
    path = folder / "log.json"
    path.write_text(json.dumps([request(t) | reply(label) for t, label in zip(TEXTS, LABELS, strict=True)]))
    return Log(path)


def openai_tuning(folder):
    rows = []
    for text, label in zip(TEXTS, LABELS, strict=True):
        messages = request(text)["messages"]
        rows.append({"model": "gpt-4o-mini", "messages": [*messages, {"role": "assistant", "content": label}]})
    return Log(lines(folder / "log.jsonl", rows))


def openai_responses(folder):
    rows = []
    for text, label in zip(TEXTS, LABELS, strict=True):
        content = [{"type": "output_text", "text": label}]
        output = [{"type": "reasoning", "summary": []}, {"type": "message", "role": "assistant", "content": content}]
        asked = {"model": "gpt-4o-mini", "input": request(text)["messages"]}
        usage = {"input_tokens": 12, "output_tokens": 2}
        rows.append({"request": asked, "response": {"output": output, "usage": usage, "model": "gpt-4o-mini"}})
    return Log(lines(folder / "log.jsonl", rows))


def openai_tool(folder):
    rows = []
    for text, label in zip(TEXTS, LABELS, strict=True):
        call = {"type": "function", "function": {"name": "sort", "arguments": json.dumps({"label": label})}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        rows.append({"request": request(text), "response": reply("") | {"choices": [{"message": message}]}})
    return Log(lines(folder / "log.jsonl", rows))


def openai_batch(folder):
    asked = [
        {"custom_id": f"c{n}", "method": "POST", "url": "/v1/chat/completions", "body": request(t)}
        for n, t in enumerate(TEXTS)
    ]
    said = [
        {"id": "b", "custom_id": f"c{n}", "error": None, "response": {"status_code": 200, "body": reply(label)}}
        for n, label in enumerate(LABELS)
    ]
    one, two = lines(folder / "in.jsonl", asked), lines(folder / "out.jsonl", said[::-1])
    return Log([two, one])


def as_csv(folder):
    with (folder / "log.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "said", "llm", "took"])
        for text, label in zip(TEXTS, LABELS, strict=True):
            writer.writerow([json.dumps(request(text)["messages"]), label, "gpt-4o-mini", 1.5])
    return Log(folder / "log.csv", Columns("prompt", "said", model="llm", seconds="took"))


def as_parquet(folder):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [
        {"attributes.llm.in": request(t)["messages"], "out": {"a": [label]}}
        for t, label in zip(TEXTS, LABELS, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "log.parquet")
    return Log(folder / "log.parquet", Columns("attributes.llm.in", "out.a.0"))


def as_cache(folder):
    """A cache that LangChain's own class wrote, where there is one; else the same table."""
    path = folder / "cache.db"
    llm = '{"lc": 1, "kwargs": {"model_name": "gpt-4o-mini"}}---[(\'stop\', None)]'
    from langchain_core.load import dumps

    rows = []
    for text, label in zip(TEXTS, LABELS, strict=True):
        message = AIMessage(label, usage_metadata={"input_tokens": 12, "output_tokens": 2, "total_tokens": 14})
        rows.append((dumps([SystemMessage(SYSTEM), HumanMessage(text)]), ChatGeneration(message=message)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it is being sunset
            from langchain_community.cache import SQLiteCache
    except ImportError:
        with sqlite3.connect(path) as base:
            base.execute(
                "CREATE TABLE full_llm_cache (prompt VARCHAR NOT NULL, llm VARCHAR NOT NULL, idx INTEGER NOT NULL, "
                "response VARCHAR, PRIMARY KEY (prompt, llm, idx))"
            )
            base.executemany(
                "INSERT INTO full_llm_cache VALUES (?, ?, 0, ?)", [(prompt, llm, dumps(said)) for prompt, said in rows]
            )
        base.close()
    else:
        cache = SQLiteCache(str(path))
        for prompt, said in rows:
            cache.update(prompt, llm, [said])
        cache.engine.dispose()
    return Log(path)


KINDS = [
    langsmith, openai_pairs, openai_flat, openai_array, openai_tuning, openai_responses, openai_tool, openai_batch,
    as_csv, as_parquet, as_cache,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_says_the_same(kind, tmp_path):
    log = kind(tmp_path)
    for _ in range(2):  # it may be read again
        calls = list(log)
        said = {prompt_of(call)[1]: next(iter(answers_of(call["output"]).values())) for call in calls}
        assert said == {f"{SYSTEM}\n\n{t}": label for t, label in zip(TEXTS, LABELS, strict=True)}
        assert log.calls == len(TEXTS)
        assert log.unreadable == log.failed == 0
        assert len({call["id"] for call in calls}) == (
            1 if kind in (openai_pairs, openai_flat, openai_array, openai_tool) else 7
        )
    if kind is not as_parquet:
        assert all(call["model"].startswith("gpt-4o-mini") for call in calls)
    if kind in (langsmith, openai_pairs, openai_batch, openai_responses, as_cache):
        assert calls[0]["usage"]["input_tokens"] == 12
    if kind in (langsmith, as_csv):
        assert calls[0]["large_seconds"] == 1.5


def test_a_plain_prompt_of_the_cache(tmp_path):
    from langchain_core.load import dumps

    path = tmp_path / "cache.sqlite"
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE full_llm_cache (prompt VARCHAR, llm VARCHAR, idx INTEGER, response VARCHAR)")
        base.execute("INSERT INTO full_llm_cache VALUES ('Human: hi', '[]', 0, ?)", (dumps(Generation(text="a")),))
        base.execute("INSERT INTO full_llm_cache VALUES ('Human: ho', '[]', 0, 'torn')")
    base.close()
    log = Log(path)
    assert [(c["input"], c["output"]) for c in log] == [("Human: hi", "a")]
    assert log.unreadable == 1


@pytest.mark.parametrize("name", ["other.db", "torn.db"])
def test_another_sqlite_file_is_refused(name, tmp_path):
    path = tmp_path / name
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE secret (a)")
    base.close()
    if name == "torn.db":
        path.write_bytes(path.read_bytes()[:100] + b"\xff" * 200)
    with pytest.raises(ValueError, match=name) as caught:
        list(Log(path))
    assert "secret" not in str(caught.value)


def test_a_torn_parquet_file_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + b"\0" * 50)
    with pytest.raises(ValueError, match=r"a\.parquet"):
        list(Log(tmp_path / "a.parquet"))


def test_a_project_of_langsmith(tmp_path, monkeypatch):
    import langsmith as library

    asked = []

    class Run:
        def __init__(self, body):
            self.body = body

        def model_dump(self, mode):
            assert mode == "json"
            return self.body

    class Client:
        def list_runs(self, **kwargs):
            asked.append(kwargs)
            lines_ = (langsmith(tmp_path) and (tmp_path / "runs.jsonl")).read_text().splitlines()
            return [Run(json.loads(line)) for line in lines_]

    for name in ("LANGSMITH_API_KEY", "LANGCHAIN_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="LANGSMITH_API_KEY"):
        Log("langsmith:mail")
    monkeypatch.setenv("LANGSMITH_API_KEY", "lsv2-secret")
    monkeypatch.setattr(library, "Client", Client)
    log = Log("langsmith:mail", run_type="llm")
    assert len(list(log)) == len(list(log)) == len(TEXTS)
    assert asked == [{"project_name": "mail", "run_type": "llm"}]  # once


def test_runs_of_another_type_are_passed_over_and_errors_counted(tmp_path):
    good = {"run_type": "llm", "inputs": {"input": "a"}, "outputs": {"output": "b"}}
    rows = [
        good,
        good | {"run_type": "chain"},
        good | {"outputs": None, "error": "RateLimitError(my secret)"},
        {"a": 1},
    ]
    log = Log(lines(tmp_path / "runs.jsonl", rows), run_type="llm")
    assert len(list(log)) == 1
    assert (log.rows, log.calls, log.failed, log.passed, log.unreadable) == (4, 1, 1, 1, 1)


def test_batch_lines_that_failed_or_lack_their_request(tmp_path):
    said = [
        {"custom_id": "a", "response": {"status_code": 500, "body": {"error": {}}}, "error": None},
        {"custom_id": "b", "response": None, "error": {"code": "expired"}},
        {"custom_id": "c", "response": {"status_code": 200, "body": reply("x")}},
    ]
    log = Log(lines(tmp_path / "out.jsonl", said))
    assert list(log) == []
    assert (log.failed, log.unreadable) == (2, 1)


def test_what_the_rows_have_is_named_where_nothing_can_be_read(tmp_path):
    log = Log(lines(tmp_path / "log.jsonl", [{"question": "my secret", "said": "b", "very secret text!": 1}] * 3))
    assert list(log) == []
    assert "question, said" in log.nothing()
    assert "secret" not in log.nothing()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a", {"b": [1, {"c": "x"}]}),
        ("a.b.-1.c", "x"),
        ("a.b.1.c", "x"),
        ("a.b.5", None),
        ("a.b.x", None),
        ("d.e", 3),
        ("d.e.f", None),
        ("j.0.k", 4),
        ("t.k", None),
        ("", None),
        ("a..b", None),
    ],
)
def test_dig(path, found):
    row = {"a": {"b": [1, {"c": "x"}]}, "d.e": 3, "j": '[{"k": 4}]', "t": "no json"}
    assert dig(row, path) == found


@pytest.mark.parametrize("where", ["langsmith", "langsmith output", "cache"])
def test_a_structured_output_is_the_only_tool_call(where, tmp_path):
    from langchain_core.load import dumpd, dumps

    message = AIMessage("", tool_calls=[{"name": "sort", "args": {"label": "refund"}, "id": "c1"}])
    if where == "cache":
        path = tmp_path / "cache.db"
        with sqlite3.connect(path) as base:
            base.execute("CREATE TABLE full_llm_cache (prompt VARCHAR, llm VARCHAR, idx INTEGER, response VARCHAR)")
            said = dumps(ChatGeneration(message=message))
            base.execute("INSERT INTO full_llm_cache VALUES ('hi', '[]', 0, ?)", (said,))
        base.close()
    else:
        body = {"generations": [[{"text": "", "message": dumpd(message)}]]}
        if where == "langsmith output":
            body = {"output": message.model_dump(mode="json")}
        path = lines(tmp_path / "runs.jsonl", [{"run_type": "llm", "inputs": {"input": "hi"}, "outputs": body}])
    (call,) = Log(path)
    assert answers_of(call["output"]) == {"label": "refund"}


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        (  # Langfuse
            {
                "type": "GENERATION",
                "input": {"messages": request("hi")["messages"]},
                "output": reply("a")["choices"][0]["message"],
            },
            {"input": "input", "output": "output"},
        ),
        (  # Phoenix, flat and nested
            {
                "attributes.llm.input_messages": [
                    {"message.role": "system", "message.content": "x"},
                    {"message.content": "hi"},
                ],
                "attributes.llm.output_messages": [{"message.content": "a"}],
            },
            {
                "input": "attributes.llm.input_messages.-1.message.content",
                "output": "attributes.llm.output_messages.0.message.content",
            },
        ),
        (
            {
                "attributes": {
                    "input": {"value": json.dumps(request("hi"))},
                    "output": {"value": json.dumps(reply("a"))},
                }
            },
            {"input": "attributes.input.value", "output": "attributes.output.value.choices.0.message"},
        ),
    ],
    ids=["langfuse", "phoenix", "phoenix request"],
)
def test_exports_that_the_docs_name(row, columns, tmp_path):
    (call,) = Log(lines(tmp_path / "log.jsonl", [row]), Columns(**columns))
    assert prompt_of(call)[1].endswith("hi")
    assert answers_of(call["output"]) == {"": "a"}


def test_hostile_lines_of_a_csv_are_read_or_counted(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"\xef\xbb\xbfinput;output\na;b\ncaf\xe9;c\nonly one\n;\nd;\ne;f;g\n")
    log = Log(path)
    assert [call["output"] for call in log] == ["b", "c"]
    assert log.unreadable == 3


def test_a_project_that_cannot_be_read_leaks_nothing(monkeypatch):
    import langsmith as library

    class Client:
        def list_runs(self, **kwargs):
            raise RuntimeError("lsv2-secret")

    monkeypatch.setenv("LANGSMITH_API_KEY", "lsv2-secret")
    monkeypatch.setattr(library, "Client", Client)
    with pytest.raises(ValueError, match="RuntimeError") as caught:
        Log("langsmith:mail")
    assert "secret" not in str(caught.value)


def test_half_a_column_map_is_refused():
    with pytest.raises(ValueError, match="both"):
        Columns(input="a")
    with pytest.raises(ValueError, match="empty"):
        Log([])


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["input", "output", "inputs", "outputs", "run_type", "messages", "choices", "message", "role", "content",
             "custom_id", "response", "body", "request", "generations", "text", "prompt", "llm", "usage", "model", "id",
             "gold", "group", "error", "tool_calls", "kwargs", "lc", "seconds", "start_time", "end_time", "extra"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=14,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(rows=st.lists(JSONS | st.binary(max_size=20), min_size=1, max_size=6), mapped=st.booleans())
def test_whatever_a_line_holds_it_is_a_call_or_counted(rows, mapped, tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    body = [
        row.replace(b"\n", b" ").replace(b"\r", b" ") if isinstance(row, bytes) else json.dumps(row).encode()
        for row in rows
    ]
    path.write_bytes(b"{}\n" + b"\n".join(body) + b"\n")
    log = Log(path, Columns("input.content", "output") if mapped else None)
    for call in log:
        assert isinstance(call["id"], str)
        json.dumps(call, allow_nan=False)
        prompt_of(call)
        answers_of(call["output"])
        assert call.get("large_seconds") is None or math.isfinite(call["large_seconds"])
    assert log.rows >= log.calls + log.failed + log.unreadable + log.passed
    assert isinstance(log.nothing(), str)


def test_lines_are_read_one_by_one(tmp_path):
    log = Log(lines(tmp_path / "log.jsonl", [{"input": "a", "output": "b"}] * 5))
    found = iter(log)
    assert isinstance(found, types.GeneratorType)
    next(found)
    assert log.rows == 1


KINDS = {
    "pairs": lambda text, label: {"input": text, "output": label},
    "OpenAI": lambda text, label: {"request": request(text), "response": reply(label)},
    "messages": lambda text, label: {"messages": request(text)["messages"], "response": label},
    "LangSmith": lambda text, label: {
        "run_type": "llm", "inputs": {"messages": [request(text)["messages"]]}, "outputs": {"output": label},
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_true_is_read_beside_a_call_of_any_kind(kind, tmp_path):
    rows = [
        KINDS[kind](text, label) | {"meta": {"truth": label if place else None}}
        for place, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True))
    ]
    log = Log(lines(tmp_path / "log.jsonl", rows), columns=Columns(gold="meta.truth"))
    calls = list(log)
    assert [call.get("gold") for call in calls] == [None, *LABELS[1:]]
    assert log.empty_columns == []
    log = Log(lines(tmp_path / "log.jsonl", rows), columns=Columns(gold="meta.truht", group="meta.customer"))
    assert len(list(log)) == len(TEXTS)
    assert log.empty_columns == ["gold", "group"]
