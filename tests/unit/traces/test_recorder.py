"""The JSONL recorder: whole lines, whatever happens."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompt_values import StringPromptValue
from pydantic import BaseModel

from langchain_dsplus.routing.rows import Recorder
from langchain_dsplus.traces.recorder import JSONLRecorder, plain


def row(number, **more):
    return {"kind": "route", "route_id": str(number), "router": "r", "input": "text", "output": "label", **more}


def test_it_is_a_recorder(tmp_path):
    assert isinstance(JSONLRecorder(tmp_path / "x.jsonl"), Recorder)


def test_threads_do_not_mix_their_lines(tmp_path):
    path = tmp_path / "routes.jsonl"
    recorders = [JSONLRecorder(path), JSONLRecorder(path)]  # two writers of one file, as two processes would be
    text = "x" * 5000

    def work(worker):
        for number in range(50):
            recorders[worker % 2].record(row(f"{worker}-{number}", input=text))

    threads = [threading.Thread(target=work, args=(w,)) for w in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for recorder in recorders:
        recorder.close()
    lines = path.read_bytes().splitlines()
    assert len(lines) == 400
    assert {json.loads(line)["route_id"] for line in lines} == {f"{w}-{n}" for w in range(8) for n in range(50)}


WRITER = """
import sys
from langchain_dsplus.traces.recorder import JSONLRecorder
recorder = JSONLRecorder(sys.argv[1])
number = 0
while True:
    recorder.record({"kind": "route", "route_id": str(number), "router": "r", "input": "x" * 2000})
    print(number, flush=True)
    number += 1
"""


@pytest.mark.skipif(os.name == "nt", reason="needs kill -9")
def test_kill_9_loses_nothing_that_was_recorded(tmp_path):
    path = tmp_path / "routes.jsonl"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = -1
    while last < 200:
        last = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split()
    last = max([last, *(int(n) for n in rest)])
    process.wait()
    process.stdout.close()
    recorded = [int(r["route_id"]) for r in JSONLRecorder.read(path)]
    assert recorded[: last + 1] == list(range(last + 1))


def test_a_cut_line_is_skipped_and_the_next_row_starts_on_a_line_of_its_own(tmp_path):
    path = tmp_path / "routes.jsonl"
    path.write_text('{"route_id": "whole"}\n{"route_id": "cut', encoding="utf-8")
    with JSONLRecorder(path) as recorder:
        recorder.record(row("next"))
    assert [r["route_id"] for r in JSONLRecorder.read(path)] == ["whole", "next"]


def test_texts_may_be_left_out_and_rows_redacted_or_dropped(tmp_path):
    path = tmp_path / "routes.jsonl"
    JSONLRecorder(path, texts=False).record(row(1))
    JSONLRecorder(path, redact=lambda r: {**r, "input": "***"}).record(row(2))
    JSONLRecorder(path, redact=lambda _: None).record(row(3))
    rows = list(JSONLRecorder.read(path))
    assert ["input" in r for r in rows] == [False, True]
    assert rows[1]["input"] == "***"


class Model(BaseModel):
    label: str


class Opaque:
    def __repr__(self):
        return "a secret"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (AIMessage("hi"), {"type": "ai", "content": "hi"}),
        ([HumanMessage("a")], [{"type": "human", "content": "a"}]),
        (StringPromptValue(text="p"), [{"type": "human", "content": "p"}]),
        (Model(label="x"), {"label": "x"}),
        (float("nan"), None),
        (np.float32(0.5), 0.5),
        ({1: (np.int64(2),)}, {"1": [2]}),
        (Opaque(), "<Opaque>"),
        (b"bytes", "<bytes>"),
    ],
    ids=repr,
)
def test_everything_becomes_strict_json(value, expected):
    assert plain(value) == expected
    json.dumps(plain(value), allow_nan=False)


def test_a_lone_surrogate_in_a_text_is_written(tmp_path):
    path = tmp_path / "routes.jsonl"
    JSONLRecorder(path).record(row(1, input="\ud800 x"))
    assert [r["route_id"] for r in JSONLRecorder.read(path)] == ["1"]


def test_the_file_is_the_owners_only(tmp_path):
    path = tmp_path / "routes.jsonl"
    JSONLRecorder(path).record(row(1))
    assert path.stat().st_mode & 0o077 == 0


EXIT = """
import sys, time
from langchain_core.runnables import RunnableLambda
from langchain_dsplus import ConfidenceRouter, FakeSmallModel, JSONLRecorder

def ask(text) -> str:
    return "LARGE"

small = FakeSmallModel({"x": {"a": 1.0}}, latency=0.3)
router = ConfidenceRouter(small=small, large=RunnableLambda(ask), mode="shadow", recorder=JSONLRecorder(sys.argv[1]))
router.invoke("x")
"""


def test_background_work_is_finished_at_exit(tmp_path):
    path = tmp_path / "routes.jsonl"
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", EXIT, str(path)], check=True, timeout=60)
    assert time.perf_counter() - started < 60
    assert [r["kind"] for r in JSONLRecorder.read(path)] == ["route", "shadow"]


@pytest.mark.parametrize("seed", range(20))
def test_an_acknowledged_row_is_never_glued_to_a_stump(tmp_path, monkeypatch, seed):
    """Writes that are cut short (a full disk), others that leave stumps, files that are cut: what returned is there."""
    draw = random.Random(seed)
    path = tmp_path / "routes.jsonl"
    recorders = [JSONLRecorder(path), JSONLRecorder(path)]
    whole = os.write
    budget = [None]

    def write(file, data):
        if budget[0] is None:
            return whole(file, bytes(data[: draw.randint(1, len(data))]))  # a signal may cut any write
        if budget[0] == 0:
            raise OSError(28, "No space left on device")
        part = bytes(data[: min(budget[0], len(data))])
        budget[0] -= len(part)
        return whole(file, part)

    monkeypatch.setattr(os, "write", write)
    kept = []
    for number in range(60):
        event = draw.choice(["full", "stump", "close", "none", "none"])
        recorder = draw.choice(recorders)
        if event == "stump":
            with path.open("ab") as file:
                file.write(b'{"kind": "route", "route_id": "stu'[: draw.randint(1, 34)])
        elif event == "close":
            recorder.close()
        budget[0] = draw.randint(0, 80) if event == "full" else None
        try:
            recorder.record(row(number))
        except OSError:
            continue
        kept.append(str(number))
    found = [one["route_id"] for one in JSONLRecorder.read(path)]
    assert [one for one in found if one in kept] == kept


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_fork_writes_lines_of_its_own(tmp_path):
    recorder = JSONLRecorder(tmp_path / "routes.jsonl")
    recorder.record(row("parent"))
    script = "import os\nchild = os.fork()\nfor n in range(200): recorder.record(row(n))\nif child == 0: os._exit(0)\nos.wait()"
    head = f"from tests.unit.traces.test_recorder import row, JSONLRecorder\nrecorder = JSONLRecorder({str(recorder.path)!r})\n"
    subprocess.run([sys.executable, "-c", head + "recorder.record(row('first'))\n" + script], check=True, timeout=60)
    assert len(list(JSONLRecorder.read(recorder.path))) == 402


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value] if depth % 2 else {"in": value}
    return value


@pytest.mark.parametrize(
    "value", [10**400, -(10**309), [10**400], nested(101), nested(10_001)], ids=["huge", "low", "in", "101", "deep"]
)
def test_what_no_reader_takes_is_refused(tmp_path, value):
    path = tmp_path / "routes.jsonl"
    with JSONLRecorder(path) as recorder:
        recorder.record(row("one"))
        with pytest.raises(ValueError, match="a row"):
            recorder.record(row("bad", input=value))
        with pytest.raises(ValueError, match="a row"):
            JSONLRecorder(path, redact=lambda body: {**body, "x": value}).record(row("bad"))
        recorder.record(row("two"))
    assert [one["route_id"] for one in JSONLRecorder.read(path)] == ["one", "two"]


def test_reading_skips_what_is_nested_too_deep(tmp_path):
    path = tmp_path / "routes.jsonl"
    path.write_text("[" * 100_000 + "\n" + json.dumps(row("one")) + "\n", encoding="utf-8")
    assert [one["route_id"] for one in JSONLRecorder.read(path)] == ["one"]
