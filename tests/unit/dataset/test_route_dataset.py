import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import ConfidenceRouter, FakeSmallModel
from langchain_dsplus._inputs import hash_of
from langchain_dsplus.costs.ledger import CostLedger
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.costs.usage import Usage
from langchain_dsplus.dataset import Routed, SpentError, route_dataset
from langchain_dsplus.dataset.desk import AskOnce, pack, unpack
from langchain_dsplus.identity import identify
from langchain_dsplus.traces.recorder import JSONLRecorder

pytest.importorskip("langchain_openai")
HERE = Path(__file__).parent
ROWS = 96
BUDGET = 5


def module(name):
    spec = importlib.util.spec_from_file_location(f"dataset_{name}", HERE / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


victim, Provider = module("victim"), module("provider").Provider


@pytest.fixture
def provider():
    made = Provider()
    yield made
    made.close()


def start(provider, folder, where):
    command = [sys.executable, str(HERE / "victim.py"), provider.url, str(folder), str(ROWS), where]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def plain(provider):
    """What `router.batch` says about the same inputs, with the same ids of decisions."""
    router = victim.make_router(provider.url)
    router.include_route = True
    data = victim.texts(ROWS)
    ids = [uuid.uuid5(uuid.NAMESPACE_OID, f" {i} {hash_of(text)}") for i, text in enumerate(data)]
    both = json.loads(json.dumps(router.batch(data, [{"run_id": name} for name in ids])))
    return {"outputs": [b["output"] for b in both], "routes": [b["route"] for b in both]}


def escalated():
    return [text for text in victim.texts(ROWS) if max(victim.small_says(text).values()) <= 0.8]


def test_as_the_router_itself_and_counted_to_the_token(provider, tmp_path):
    alone = plain(provider)
    provider.asked.clear()
    provider.tokens = 0
    make = functools.partial(victim.make_router, provider.url)
    routed = route_dataset(victim.texts(ROWS), make, tmp_path / "out", block_size=16, progress=False)
    assert routed.outputs() == alone["outputs"]
    assert json.loads(json.dumps(routed.routes())) == alone["routes"]
    assert provider.asked == Counter(escalated())
    table = {row["side"]: row for row in routed.ledger().table()}
    assert (table["large"]["calls"], table["large"]["input_tokens"]) == (len(escalated()), provider.tokens)
    assert table["small"]["calls"] == ROWS
    assert len(routed) == ROWS
    # The same call again does nothing.
    assert route_dataset(victim.texts(ROWS), make, tmp_path / "out", block_size=16, progress=False).outputs()
    assert provider.asked == Counter(escalated())


def test_goes_on_after_a_kill_and_asks_nothing_twice(provider, tmp_path):
    provider.seconds, provider.enough = 0.05, len(escalated()) // 3
    process = start(provider, tmp_path / "out", "here")
    assert provider.reached.wait(120)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    time.sleep(0.3)  # what was under way at the server ends there
    answered = provider.done
    kept = len((tmp_path / "out" / "replies.jsonl").read_text().splitlines()) - 1
    assert 0 <= answered - kept <= 4, "beyond the calls under way"
    provider.seconds = 0.0
    make = functools.partial(victim.make_router, provider.url)
    routed = route_dataset(victim.texts(ROWS), make, tmp_path / "out", block_size=16, max_concurrency=4, progress=False)
    assert provider.done == len(escalated()) + (answered - kept)
    total = routed.ledger().total()
    assert total["calls"] == ROWS + len(escalated())
    assert total["input_tokens"] == sum(map(len, escalated()))
    alone = plain(provider)
    assert (routed.outputs(), json.loads(json.dumps(routed.routes()))) == (alone["outputs"], alone["routes"])


@pytest.mark.ray
@pytest.mark.timeout(280)
def test_on_ray_with_a_killed_worker(provider, tmp_path):
    pytest.importorskip("ray")
    psutil = pytest.importorskip("psutil")
    provider.seconds, provider.enough = 0.05, len(escalated()) // 3
    process = start(provider, tmp_path / "out", "ray")
    while not provider.reached.wait(1):
        assert process.poll() is None, process.stderr.read()[-3000:]
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if any("BlockRouter" in part for part in child.cmdline())
    ]
    assert len(workers) == 2
    workers[0].kill()
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err[-3000:]
    found = json.loads(next(line for line in out.splitlines() if line.startswith("{")))  # Ray prints beside it
    assert found["paid"] == BUDGET
    extra = provider.done - BUDGET - len(escalated())
    assert 0 <= extra <= 4, "only what was under way at the kill is asked again"
    assert found["total"]["calls"] == ROWS + len(escalated())
    assert found["total"]["input_tokens"] == sum(map(len, escalated()))
    alone = plain(provider)
    assert (found["outputs"], found["routes"]) == (alone["outputs"], alone["routes"])


# --- without a process of its own -------------------------------------------------------------------------------------


def router(says, **options):
    small = FakeSmallModel(victim.small_says, labels=["even", "odd"], version="1")
    return ConfidenceRouter(small=small, large=RunnableLambda(says), threshold=0.8, version="large 1", **options)


def route(tmp_path, says, ds=None, router_options=None, **options):
    data = victim.texts(24) if ds is None else ds
    options = {"block_size": 8, "progress": False, **options}
    return route_dataset(data, lambda: router(says, **(router_options or {})), tmp_path / "out", **options)


def test_tries_again_and_counts_every_attempt(provider, tmp_path):
    provider.refuse = 2
    make = functools.partial(victim.make_router, provider.url)
    routed = route_dataset(victim.texts(8), make, tmp_path / "out", progress=False, max_concurrency=1)
    row = next(row for row in routed.ledger().table() if row["side"] == "large")
    assert (row["calls"], row["failed"]) == (provider.done, 2)


def test_what_failed_is_written_and_asked_again_alone(tmp_path):
    broken, asked = {"text 4"}, []

    def says(text: str) -> str:
        asked.append(text)
        if text in broken:
            raise RuntimeError
        return "even"

    hard = [text for text in victim.texts(24) if max(victim.small_says(text).values()) <= 0.8]
    broken &= set(hard) or {hard[0]}
    broken.add(hard[0])
    routed = route(tmp_path, says, attempts=1)
    failed = [row for row in routed.rows() if "error" in row]
    assert [row["input"] for row in failed] == sorted(broken, key=lambda text: int(text.split()[1]))
    assert Counter(asked) == Counter(hard)
    again = sorted(broken)
    broken.clear()
    routed = route(tmp_path, says, attempts=1)
    assert Counter(asked) == Counter(hard) + Counter(again)
    assert None not in routed.outputs()


@pytest.mark.parametrize("per_call", [0.4, 1.0])
def test_the_budget_ends_it_and_more_money_goes_on(provider, tmp_path, per_call):
    price = Price(input=0.0, output=1e6 * per_call)  # one token of output a call
    make = functools.partial(victim.make_router, provider.url)
    options = {"prices": price, "block_size": 16, "progress": False}
    with pytest.raises(SpentError):
        route_dataset(victim.texts(ROWS), make, tmp_path / "out", max_cost=4.0, **options)
    assert provider.done == round(4.0 / per_call)
    routed = route_dataset(victim.texts(ROWS), make, tmp_path / "out", max_cost=1e3, **options)
    assert provider.asked == Counter(escalated())
    assert routed.ledger(price).total()["cost"] == pytest.approx(per_call * len(escalated()))


def test_the_rate_holds(provider, tmp_path):
    make = functools.partial(victim.make_router, provider.url)
    route_dataset(victim.texts(24), make, tmp_path / "out", progress=False, per_second=20.0, max_concurrency=8)
    begun = sorted(provider.begun)
    assert len(begun) > 4
    assert begun[-1] - begun[0] >= 0.8 * (len(begun) - 1) / 20.0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ds": victim.texts(23)}, "other inputs"),
        ({"block_size": 4}, "`block_size`"),
        ({"run": "b"}, "`run`"),
        ({"router_options": {"never_local": ("odd",)}}, "`router`"),
    ],
)
def test_another_data_set_or_router_is_refused(tmp_path, change, named):
    def says(text: str) -> str:
        return "even"

    route(tmp_path, says)
    with pytest.raises(ValueError, match=named):
        route(tmp_path, says, **change)


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"ds": "a text"}, TypeError, "`ds`"),
        ({"block_size": 0}, ValueError, "`block_size`"),
        ({"per_second": 0.0}, ValueError, "`per_second`"),
        ({"max_cost": -1.0}, ValueError, "`max_cost`"),
        ({"input_column": "text"}, ValueError, "`input_column`"),
    ],
)
def test_errors_name_the_field(tmp_path, options, error, named):
    with pytest.raises(error, match=named):
        route(
            tmp_path, lambda text: "even", router_options={"to_output": lambda answer, _: answer["choice"]}, **options
        )


def test_no_router_is_refused(tmp_path):
    with pytest.raises(TypeError, match="make_router"):
        route_dataset([], dict, tmp_path / "out")


def test_rows_are_those_of_a_recorder(tmp_path):
    def says(text: str) -> str:
        return "even"

    routed = route(tmp_path, says, router_options={"mode": "shadow", "recorder": JSONLRecorder(tmp_path / "r.jsonl")})
    written = list(JSONLRecorder.read(tmp_path / "r.jsonl"))
    key = lambda row: (row["route_id"], row["kind"])  # noqa: E731
    bare = [{name: value for name, value in row.items() if name != "time"} for row in written]
    assert sorted(routed.rows(), key=key) == sorted(bare, key=key)
    assert len(routed.outcomes()) == 24


def test_vectors_are_inputs(tmp_path):
    vectors = np.arange(40.0).reshape(20, 2)

    def says(vector: list) -> str:
        return "even"

    def make():
        small = FakeSmallModel(
            lambda v: {"even": 0.9, "odd": 0.1} if v[0] > 10 else {"even": 0.5, "odd": 0.5}, ["even", "odd"]
        )
        return ConfidenceRouter(small=small, large=RunnableLambda(says), threshold=0.8)

    routed = route_dataset(vectors, make, tmp_path / "out", keep_inputs=False, progress=False)
    assert len(routed.outputs()) == 20
    assert not any("input" in row for row in routed.rows())
    changed = vectors.copy()
    changed[3, 1] += 1e-9
    with pytest.raises(ValueError, match="other inputs"):
        route_dataset(changed, make, tmp_path / "out", keep_inputs=False, progress=False)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(_JSON | st.builds(AIMessage, content=st.text(), additional_kwargs=st.dictionaries(st.text(), st.integers())))
@settings(max_examples=100)
def test_a_reply_comes_back_the_same(value):
    found = unpack(json.loads(json.dumps(pack(value))))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("value", [(1, 2), {1: "a"}, object(), float("nan"), {"a"}])
def test_a_reply_that_would_change_is_refused(value):
    with pytest.raises(TypeError, match="parser"):
        pack(value)


_COUNTS = st.lists(
    st.tuples(
        st.sampled_from(["small", "large", "audit"]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 10**12),
        st.integers(0, 10**12),
        st.sampled_from([[], ["a-1"]]),
    ),
    max_size=12,
)


@given(_COUNTS, st.integers(0, 12))
def test_merged_ledgers_say_what_one_would(rows, at):
    zero = {"calls": 1, "failed": 0, "cache_hits": 0, "unmetered": 0, "seconds": 0.25, "local": False}
    from dataclasses import asdict

    records = [
        {"side": side, "model": model, **zero, "usage": asdict(Usage(put, out)), "reported": names}
        for side, model, put, out, names in rows
    ]
    price = {"a": Price(0.3, 0.7), "b": Price(0.1, 1.3)}
    one, parts, merged = CostLedger(price), [CostLedger(price), CostLedger(price)], CostLedger(price)
    one.add_counts(records)
    for part, chunk in zip(parts, (records[:at], records[at:]), strict=True):
        part.add_counts(chunk)
        merged.add_counts(part.counts())
    assert merged.table() == one.table()
    assert merged.total() == one.total()


@pytest.mark.parametrize("counts", [[{}], [{"side": "small"}], [3]])
def test_counts_that_are_none_are_refused(counts):
    with pytest.raises(ValueError, match="counts"):
        CostLedger().add_counts(counts)


def test_the_large_chain_keeps_its_identity(provider):
    chain = victim.make_router(provider.url).large
    assert identify(AskOnce(chain, None)) == identify(chain)


def test_another_parquet_file_is_refused(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "part-000000000000.parquet")
    with pytest.raises(ValueError, match="route_dataset"):
        list(Routed(tmp_path).rows())
