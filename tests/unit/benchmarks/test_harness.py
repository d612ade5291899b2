"""The benchmarks' harness: registry, timing, intervals, results."""

from __future__ import annotations

import asyncio
import gc
import inspect
import io
import json
import math
import random
import subprocess
import sys
import types
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import __main__ as command
from benchmarks import harness
from benchmarks.harness import Context, Table

NAMES = sorted(harness.registry())


def fake_benchmark(figures: dict[str, object]) -> types.SimpleNamespace:
    def run(context: Context) -> dict[str, object]:
        context.random("rows")
        context.hash_value("rows", [1, 2])
        with context.progress("steps", 2) as advance:
            advance(2)
        return figures

    def tables(figures: harness.Figures) -> list[Table]:
        return [Table("fake.one", "Fake [1]", ["", "value"], [["speed", harness.number(figures, "speed")]])]

    return types.SimpleNamespace(run=run, tables=tables)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A benchmark named `fake`, its results in a folder of the test."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(harness, "ROOT", tmp_path / "benchmarks")
    monkeypatch.setattr(harness, "registry", lambda: {"fake": "A fake."})
    monkeypatch.setattr(harness, "load", lambda _name: fake_benchmark({"speed": 1.5, "parts": {"a": 2}}))
    return tmp_path / "results"


# --- registry ---


def test_the_registry_lists_the_benchmarks_and_nothing_else() -> None:
    assert {"import_time", "overhead", "throughput", "replay", "prompts"} <= set(NAMES)
    assert not {"harness", "figures", "data", "__main__", "__init__"} & set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_benchmark_has_what_the_harness_calls(name: str) -> None:
    module = harness.load(name)
    assert harness.registry()[name].endswith(".")
    assert callable(module.run)
    names = [table.name for table in module.tables({})]
    assert names, "tables must come from figures alone, and stand figures that are missing"
    assert all(table.split(".")[0] == name for table in names)
    assert len(set(names)) == len(names)
    assert "context.full" not in inspect.getsource(module) or "full" in module.SIZES, "--full would be refused"


def test_an_unknown_benchmark_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="nothing"):
        harness.load("nothing")


def test_listing_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from benchmarks.__main__ import main; assert main(['--names']) == 0; "
        "assert not {'torch', 'sklearn', 'langchain_core', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=harness.ROOT.parent, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == NAMES


# --- the command ---


def test_the_last_line_is_the_results_as_json(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["fake", "--seed", "7"]) == 0
    out = capsys.readouterr().out
    last = json.loads(out.splitlines()[-1])
    assert last["figures"] == {"speed": 1.5, "parts.a": 2}
    assert last["command"] == "python -m benchmarks fake --seed 7"
    assert last["seeds"]["seed"] == 7
    assert "rows" in last["seeds"]
    assert len(last["hashes"]["rows"]) == 64
    assert last["versions"]["python"]
    assert "1.50" in out
    assert json.loads((fake / "fake.json").read_text()) == last


def test_quick_writes_a_file_of_its_own(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["fake", "--quick"]) == 0
    assert [path.name for path in fake.iterdir()] == ["fake.quick.json"]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["command"].endswith("--quick --seed 0")


def test_without_a_name_it_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == NAMES


def test_an_unknown_name_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        command.main(["nothing"])
    assert error.value.code == 2
    assert "import_time" in capsys.readouterr().err


# --- figures ---


def test_figures_become_flat_plain_finite_numbers() -> None:
    import numpy as np

    flat = harness.clean({"a": {"b": np.float32(0.5), "c": {"d": True}}, "e": 1 / 3, "big": 12345678.9})
    assert flat == {"a.b": 0.5, "a.c.d": 1, "e": 0.333333, "big": 12345700}
    assert all(type(value) in {int, float} for value in flat.values())
    json.dumps(flat, allow_nan=False)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_not_finite_is_an_error(value: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        harness.clean({"speed": value})


def test_seeds_differ_by_purpose_and_repeat() -> None:
    def draw(seed: int, purpose: str) -> float:
        return Context("fake", seed=seed).random(purpose).random()

    assert draw(0, "rows") == draw(0, "rows")
    assert len({draw(0, "rows"), draw(0, "order"), draw(1, "rows")}) == 3


def test_a_file_is_remembered_by_its_hash(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"abc")
    context = Context("fake")
    assert context.hash_file(tmp_path / "rows.csv") == tmp_path / "rows.csv"
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert context.hashes == {f"{tmp_path.name}/rows.csv": expected}


def test_progress_goes_to_the_given_console_only(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    screen = io.StringIO()
    with Context("fake", console=Console(file=screen, force_terminal=True)).progress("steps", 2) as advance:
        advance(2)
    assert "steps" in screen.getvalue()
    assert capsys.readouterr().out == ""


# --- timing ---


@pytest.mark.parametrize("async_", [False, True])
def test_interleaving_calls_everyone_in_every_round(async_: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", lambda: 0)  # of a large heap, in each round
    calls: list[str] = []
    steps: list[int] = []

    def sync(name: str) -> None:
        calls.append(name)

    async def twin(name: str) -> None:
        calls.append(name)

    options = {"rounds": 3, "number": 3, "rng": random.Random(0), "advance": steps.append}
    if async_:
        seconds = asyncio.run(harness.ainterleave({n: lambda n=n: twin(n) for n in "abc"}, **options))
    else:
        seconds = harness.interleave({n: lambda n=n: sync(n) for n in "abc"}, **options)
    assert {name: len(values) for name, values in seconds.items()} == dict.fromkeys("abc", 3)
    assert all(value >= 0 for values in seconds.values() for value in values)
    assert calls[:3] == ["a", "b", "c"], "one warm-up call each"
    rounds = ["".join(calls[3 + 9 * i : 12 + 9 * i]) for i in range(3)]
    assert all("".join(sorted(r)) == "aaabbbccc" for r in rounds)
    assert len(set(rounds)) > 1, "the order changes from round to round"
    assert steps == [1] * 3


def test_a_ratio_pairs_the_rounds() -> None:
    # One round was slow for both: the ratio of that round is not.
    figures = harness.ratio("x", [1.0, 10.0, 1.0], [2.0, 20.0, 2.0])
    assert figures == {"x": 0.5, "x.low": 0.5, "x.high": 0.5}


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=30))
def test_quartiles_are_ordered_and_inside(values: list[float]) -> None:
    found = harness.quartiles(values)
    assert all(a <= b for a, b in pairwise((min(values), *found, max(values))))


def test_a_fresh_interpreter_reports_its_failure() -> None:
    assert harness.python("print(6 * 7)") == "42\n"
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        harness.python("1 / 0")


# --- statistics ---


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (0, 0, 0, 1)]
)
def test_wilson_against_known_values(right: int, n: int, low: float, high: float) -> None:
    assert harness.wilson(right, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_share(n: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, n))
    low, high = harness.wilson(right, n)
    assert 0 <= low <= right / n <= high <= 1
    assert low < high


def test_share_in_percent() -> None:
    figures = harness.share("k", [True, True, False, False])
    assert figures["k"] == 50
    assert figures["k.low"] == pytest.approx(100 * harness.wilson(2, 4)[0])


def test_paired_difference_and_its_interval() -> None:
    pytest.importorskip("numpy")
    ours, theirs = [True] * 60 + [False] * 40, [True] * 40 + [False] * 60
    figures = harness.paired("gap", ours, theirs, random.Random(1))
    assert figures["gap"] == pytest.approx(20)
    # s.e. of a paired difference with 20 of 100 rows gained and none lost: 4 points
    assert figures["gap.low"] == pytest.approx(12.2, abs=2)
    assert figures["gap.high"] == pytest.approx(27.8, abs=2)
    same = harness.paired("gap", ours, ours, random.Random(1))
    assert same == {"gap": 0, "gap.low": 0, "gap.high": 0}


# --- words ---


def test_words_for_tables() -> None:
    figures = {"a": 1.234, "a.low": 1.1, "a.high": 1.5, "b": -2.0}
    assert harness.number(figures, "a", 1, " s") == "1.2 s"
    assert harness.number(figures, "missing") == "-"
    assert harness.interval(figures, "a", 2) == "1.23 (1.10 to 1.50)"
    assert harness.interval(figures, "b", sign=True) == "-2.0"
    assert harness.interval(figures, "missing") == "-"


def test_a_table_in_markdown() -> None:
    table = Table("fake.t", "Title", ["name", "n"], [["a|b\nc", "1"]], "A note.")
    assert table.markdown() == "| name | n |\n|---|---:|\n| a\\|b c | 1 |\n\nA note."
