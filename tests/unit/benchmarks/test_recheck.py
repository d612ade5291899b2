"""Published results are what the code measures: a small part is measured anew, and the rest carries a digest."""

from __future__ import annotations

import json
import operator
import types
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import harness
from benchmarks.harness import Context, Figures
from langchain_dsplus.weights import WeightsError

if TYPE_CHECKING:
    from pathlib import Path

RESULTS = sorted(harness.RESULTS.glob("*.json"))
LIMITS = {
    "import_time": {"ratio": "<= 1.3", "heavy_packages": "<= 0"},
    "overhead": {
        f"{key}{twin}": limit
        for key, limit in {
            "local_vs_chat": "< 1",
            "escalated_vs_chat": "< 2.5",
            "local_vs_branch": "<= 0.5",
            "escalated_vs_branch": "<= 0.5",
        }.items()
        for twin in ("", "_async")
    },
    "throughput": {"vs_encoder": ">= 0.88", "vs_branch": "> 1"},
    "certify_power": {"1000.coverage": ">= 0.48", "2000.coverage": ">= 0.69", "5000.coverage": ">= 0.78"},
    "certify_validity": {"worst.low": "<= 0.05"},
    "tool_calls": {"claude.chosen.2.calls": "<= 45", "claude.agreement.2.calls": "<= 45"},
    "drift": {f"false.{key}.low": "<= 5" for key in ("a", "b", "synthetic", "knee")},
}
"""What published figures must keep. Here, not in the tables: whoever reads those judges by himself."""
SIGNS = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}


def name_of(path: Path) -> str:
    return path.name.partition(".")[0]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_results_are_what_the_code_measures(path: Path) -> None:
    body = json.loads(path.read_text(encoding="utf-8"))
    try:
        wrong = harness.recheck(body, name_of(path))
    except (FileNotFoundError, WeightsError) as error:
        pytest.skip(f"the data are not here: {error}")
    assert not wrong, f"do not edit results: run `{body['command']}`"


@pytest.mark.parametrize("name", sorted({name_of(path) for path in RESULTS}))
def test_each_is_measured_anew_or_says_why_not(name: str) -> None:
    module = harness.load(name)
    assert hasattr(module, "recheck") != bool(getattr(module, "NOT_RECHECKED", ""))


@pytest.mark.parametrize(("name", "key", "limit"), [(n, k, v) for n, some in LIMITS.items() for k, v in some.items()])
def test_published_figures_keep_their_limits(name: str, key: str, limit: str) -> None:
    body = harness.read(name)
    assert body is not None
    sign, bound = limit.split()
    assert SIGNS[sign](body["figures"][key], float(bound))


# --- the mechanism ---


def fake(found: Figures, **more: Any) -> types.SimpleNamespace:
    def recheck(context: Context, figures: Figures) -> Figures:
        del figures
        context.random("rows")
        return found

    return types.SimpleNamespace(recheck=recheck, **more)


def body_of(figures: Figures, tmp_path: Path) -> dict[str, Any]:
    context = Context("fake")
    context.random("rows")
    body = {"figures": figures, "digest": harness.digest(figures), "command": context.command, "hashes": {}}
    harness.write(tmp_path / "fake.json", {**body, "seeds": {"seed": 0, **context.seeds}})
    return dict(json.loads((tmp_path / "fake.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("found", "tolerance", "wrong"),
    [
        ({"a": 1.2345678}, 0.0, []),  # six digits are published
        ({"a": 1.2346}, 0.0, ["a is 1.23457, measured anew 1.2346"]),
        ({"a": 1.3}, 0.1, []),
        ({"a": 1.4}, 0.1, ["a is 1.23457, measured anew 1.4"]),
        ({"new": 1.0}, 0.0, ["nothing was measured anew"]),
        ({}, 0.0, ["nothing was measured anew"]),
    ],
)
def test_a_part_is_compared(
    found: Figures, tolerance: float, wrong: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "load", lambda _name: fake(found, RECHECK_TOLERANCE=tolerance))
    assert harness.recheck(body_of({"a": 1.23457, "b": 2}, tmp_path), "fake") == wrong


@pytest.mark.parametrize("change", [{"a": 2.0}, {"b": 2.1}, {"c": 0.0}, {"b": None}])
def test_no_figure_can_be_edited_by_hand(
    change: dict[str, float | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = body_of({"a": 1.0, "b": 2.0}, tmp_path)
    figures = {key: value for key, value in {**body["figures"], **change}.items() if value is not None}
    monkeypatch.setattr(harness, "load", lambda _name: fake({"a": 1.0}))
    assert harness.recheck(body, "fake") == []
    assert "the figures are not those that the run wrote (digest)" in harness.recheck({**body, "figures": figures}, "")
    # A digest made anew does not help where the part is measured.
    forged = {**body, "figures": figures, "digest": harness.digest(figures)}
    assert bool(harness.recheck(forged, "")) == ("a" in change)


def test_other_rows_and_other_seeds_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "load", lambda _name: fake({"a": 1.0}))
    body = body_of({"a": 1.0}, tmp_path)
    body["seeds"]["rows"] += 1
    assert harness.recheck(body, "fake") == ["seeds: rows differs"]
