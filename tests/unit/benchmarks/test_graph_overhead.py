"""`graph_overhead` times what it says it times."""

import asyncio

import pytest

from benchmarks import graph_overhead
from benchmarks.harness import Context


@pytest.fixture(scope="module")
def made():
    return {**graph_overhead.classification(), **graph_overhead.dispute()}


def test_every_way_goes_where_its_name_says(made):
    graph_overhead.check(made)
    with pytest.raises(RuntimeError, match="accepted_first"):
        graph_overhead.check({**made, "graph.accepted_first": made["graph.escalated"]})
    with pytest.raises(RuntimeError, match="settled"):
        graph_overhead.check({**made, "graph.settled": made["graph.judged"]})


def test_the_bare_graph_has_the_same_nodes_and_returns_the_same_keys(made):
    for name, (ours, plain, value) in made.items():
        mine, theirs = (list(g.stream(value, stream_mode="updates")) for g in (ours, plain))
        assert [list(update) for update in mine] == [list(update) for update in theirs], name
        assert ours.invoke(value).keys() == plain.invoke(value).keys(), name
        assert asyncio.run(plain.ainvoke(value)).keys() == ours.invoke(value).keys(), name


def test_every_pair_has_a_row_and_the_table_shows_it(made):
    assert {*made, "agent.accepted", "agent.escalated"} == set(graph_overhead.ROWS)
    seconds = {f"{name}.{side}": [2.0 + (side == "ours"), 2.0] for name in made for side in ("ours", "bare")}
    figures = graph_overhead.compare(made, seconds, "")
    assert figures["ratio.node.small"] == pytest.approx(1.25)
    (table,) = graph_overhead.tables(figures)
    assert len(table.rows) == len(made), "no row for what was not measured"
    (empty,) = graph_overhead.tables({})
    assert len(empty.rows) == len(graph_overhead.ROWS)


def test_the_agent_answers_with_and_without_the_middleware():
    pytest.importorskip("langchain", reason="needs the extra `middleware`")
    pytest.importorskip("langchain_dsplus.middleware")
    made = {**graph_overhead.classification(), **graph_overhead.dispute(), **graph_overhead.agent()}
    graph_overhead.check(made)
    ours, plain, value = made["agent.accepted"]
    assert ours.invoke(value)["messages"][-1].text == "Thank you!"
    assert plain.invoke(value)["messages"][-1].text == "hello"


def test_a_run_in_small(monkeypatch):
    only = {name: pair for name, pair in graph_overhead.classification().items() if name == "node.prune"}
    monkeypatch.setattr(graph_overhead, "classification", lambda: only)
    monkeypatch.setattr(graph_overhead, "dispute", dict)
    monkeypatch.setattr(graph_overhead, "agent", dict)
    monkeypatch.setattr(graph_overhead, "check", lambda _: None)
    monkeypatch.setattr(graph_overhead, "ROUNDS", (1, 1))
    monkeypatch.setattr(graph_overhead, "CALLS", (1, 1))
    figures = graph_overhead.run(Context("graph_overhead", quick=True))
    assert figures["ratio.node.prune"] > 0.0
    assert {"ratio.node.prune", "ratio_async.node.prune", "microseconds.node.prune.bare"} <= figures.keys()
