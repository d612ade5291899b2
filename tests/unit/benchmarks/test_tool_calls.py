"""The benchmark of recorded tool calls: how calls are read, what a gate may see, and that nothing leaks."""

import numpy as np
import pytest

from benchmarks import data, tool_calls
from benchmarks.data import CallsRow
from benchmarks.tool_calls import CHEAP, CUT, FAMILIES, LARGE, Gate, Split, World, choose, foreseen, read_calls, scored


@pytest.mark.parametrize(
    "text",
    [
        '{"tool_calls":[{"name":"a.b","arguments":{"x":1,"y":["p",true]}}]}',
        '[{"a_b":"{\\"x\\":1,\\"y\\":[\\"p\\",true]}"}]',
        '<tool_call>{"arguments":{"x":1,"y":["p",true]},"name":"a_b"}</tool_call>',
        "[a.b(x=1,y=['p',True])]",
    ],
)
def test_all_forms_are_read_alike(text):
    assert read_calls(text) == [{"name": "a_b", "args": {"x": 1, "y": ["p", True]}}]


def test_a_cut_call_and_what_cannot_be_read_equal_nothing():
    whole = '[{"f":"{\\"x\\":\\"' + "a" * 200
    assert read_calls(whole[:CUT]) is None
    assert read_calls("[f(1)]") is None
    assert read_calls("[f(x=1") is None
    assert read_calls("Icannotdothat." * 20) == []
    assert read_calls("[]") == read_calls("") == []


def made_up(n, rng):
    """Rows whose cheap models agree where they are right; every tenth question was not recorded."""
    rows = []
    for k in range(n):
        hard = rng.random() < 0.3
        calls, right = {}, {}
        for name in (*LARGE, *CHEAP):
            good = name in LARGE[:1] or not hard or rng.random() < 0.3
            value = k if good else int(rng.integers(10**6))
            calls[name], right[name] = f'{{"tool_calls":[{{"name":"f","arguments":{{"x":{value}}}}}]}}', bool(good)
        rows.append(CallsRow(str(k), None if k % 10 == 0 else f"Question number {k}?", calls, right))
    return rows


@pytest.fixture(scope="module")
def world():
    return World(made_up(400, np.random.default_rng(0)), seed=1)


def test_parts_are_disjoint_and_whole():
    split = Split.draw(720, 3)
    parts = [split.choosing, split.certifying, split.reporting]
    assert [len(part) for part in parts] == [180, 360, 180]
    assert len(set(np.concatenate(parts))) == 720


def test_a_missing_question_tells_nothing(world):
    missing = np.arange(400) % 10 == 0
    known = {tuple(row) for row in world.question[~missing]}
    assert {tuple(row) for row in world.question[missing]} <= known


@pytest.mark.parametrize("family", FAMILIES)
def test_a_gate_learns_from_the_rows_for_choosing_alone(world, family):
    split = Split.draw(400, 0)
    gate = Gate(CHEAP[0], family, CHEAP[1:3] if family == "agreement" else ())
    before = gate.scores(world, split.choosing, split.reporting)
    held = {name: right.copy() for name, right in world.right.items()}
    try:
        for right in world.right.values():
            right[split.reporting] = ~right[split.reporting]
            right[split.certifying] = ~right[split.certifying]
        assert np.array_equal(before, gate.scores(world, split.choosing, split.reporting))
    finally:
        world.right = held


def test_agreement_is_chosen_where_it_tells_and_the_promise_is_foreseen(world):
    rows = Split.draw(400, 0).choosing
    picked = choose(world, scored(world, rows), LARGE[0], rows, 200, 0.05, 0)
    assert picked["agreement"].family == "agreement"
    scores = picked["agreement"].held_out(world, rows)
    loss = world.loss(picked["agreement"].small, LARGE[0])[rows]
    calls = foreseen(scores, loss, 200, 0.05, np.random.default_rng(0))
    assert 0.0 < calls < 0.6
    assert foreseen(scores, np.ones(len(rows), dtype=int), 200, 0.05, np.random.default_rng(0)) == 1.0


def test_tables_are_made_from_figures_alone():
    figures = {"n": 720, "splits": 50, "claude.chosen.2.calls": 40.0, "claude.chosen.2.refused": 0.0}
    (table,) = tool_calls.tables(figures)
    assert len(table.rows) == 1
    assert table.rows[0][1] == "40.0"


def test_the_records_are_what_the_source_says():
    try:
        rows = data.bfcl_2024_08()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert len(rows) == 720
    share = {name: np.mean([row.right[name] for row in rows]) for name in (*LARGE[:2], *CHEAP[:1], *CHEAP[2:4])}
    assert [round(float(value), 3) for value in share.values()] == [0.911, 0.867, 0.889, 0.829, 0.836]
