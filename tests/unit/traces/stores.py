"""What the tests of a trace store share, whichever database it keeps its rows in."""

from __future__ import annotations

import signal
import subprocess
import sys

WRITER = """
import sys
from langchain_dsplus.traces.store import TraceStore
store, who = TraceStore(sys.argv[1]), sys.argv[2]
for number in range(int(sys.argv[3])):
    store.record({"kind": "route", "route_id": f"{who}-{number}", "router": "r", "input": "x" * 2000})
    if number % 10 == 9:
        assert store.flush(60)
        print(number, flush=True)
assert not (store.errors or store.dropped), (store.errors, store.dropped)
"""


def row(number, **more):
    return {"kind": "route", "route_id": str(number), "router": "r", "input": "text", "output": "label", **more}


def ids(store, **where):
    return [r["route_id"] for r in store.rows(**where)]


def write_and_kill(where, rows, flushed):
    """Let three processes write at once, and kill one after so many rows; the ids that must be there."""

    def start(who, count):
        return subprocess.Popen(
            [sys.executable, "-c", WRITER, str(where), who, str(count)], stdout=subprocess.PIPE, text=True
        )

    victim, others = start("victim", 10**6), [start(who, rows) for who in "ab"]
    last = -1
    while last < flushed:
        last = int(victim.stdout.readline())
    victim.send_signal(signal.SIGKILL)
    last = max([last, *(int(n) for n in victim.stdout.read().split())])
    victim.wait()
    victim.stdout.close()
    for process in others:
        process.stdout.read()
        process.stdout.close()
        assert process.wait(60) == 0
    return {f"victim-{n}" for n in range(last + 1)} | {f"{who}-{n}" for who in "ab" for n in range(rows)}
