"""All doors and the real router agree on who answers, with which prompt, and on what that costs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import ConfidenceRouter, FakeSmallModel
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.report import numbers
from langchain_dsplus.threshold.cascade import Costs, Turns
from langchain_dsplus.threshold.certify import certify
from langchain_dsplus.threshold.choose import choose_threshold
from langchain_dsplus.threshold.curves import costs_along, sweep
from langchain_dsplus.threshold.deferral import cost_at_parity
from langchain_dsplus.threshold.differences import differences
from langchain_dsplus.threshold.path import coverage_path, path_sweep

LABELS = ["a", "b", "c"]
SHARES = [(0.9, 0.1), (0.8, 0.2), (0.7, 0.3), (0.6, 0.4), (0.5, 0.25)]


@st.composite
def tables(draw: Any, models: int | None = None) -> list[dict[str, Any]]:
    """Rows with what each small model says (None where it fails), gaps in the costs, large replies that are no label."""
    names = ["x", "y", "z"][: models or draw(st.integers(1, 3))]
    money = st.none() | st.sampled_from([0.0, 0.5, 2.0])
    # Of one small model `cost_small` is the column of that model.
    sides = names if len(names) == 1 else ["small", *names]
    columns = draw(st.lists(st.sampled_from(["large_pruned", *sides]), unique=True))
    label = st.sampled_from(LABELS)
    said = st.none() | st.tuples(label, st.sampled_from(SHARES))
    rows = draw(
        st.lists(
            st.fixed_dictionaries(
                dict.fromkeys(names, said)
                | {"large": label | st.sampled_from([None, "hm"]), "large_pruned": label, "gold": label}
                | {f"cost {name}": money for name in ["large", *columns]}
            ),
            min_size=1,
            max_size=12,
        )
    )
    rows[0]["cost large"] = rows[0]["cost large"] or 1.0
    rows[0] = {**rows[0], **({"cost large_pruned": 0.25} if "cost large_pruned" in rows[0] else {})}
    return [{"names": names, **row} for row in rows]


def outcomes_of(table: list[dict[str, Any]]) -> Outcomes:
    names = table[0]["names"]
    rows = []
    for row in table:
        found = {key: row[key] for key in ("large", "large_pruned", "gold")}
        for name in names:
            suffix = "" if len(names) == 1 else f".{name}"
            choice, shares = row[name] or (None, (None,))
            found |= {f"small{suffix}": choice, f"confidence{suffix}": shares[0]}
        for key, cost in row.items():
            if key.startswith("cost "):
                who = key.removeprefix("cost ")
                if who in names and len(names) == 1:
                    who = "small"
                found[f"cost_small.{who}" if who in names else f"cost_{who}"] = cost
        rows.append(found)
    return Outcomes.from_records(rows, about={"labels": LABELS})


def routed(table: list[dict[str, Any]], step: dict[str, float], never_local: tuple[str, ...]) -> list[tuple[int, int]]:
    """What the real router does, as one batch: who answers (as `cascade.Turns` numbers it), how many were asked."""
    names = table[0]["names"]

    def answers(name: str) -> Any:
        def answer(value: Any) -> Any:
            said = table[value["row"]][name]
            if said is None:
                return RuntimeError("down")
            choice, shares = said
            rest = [label for label in LABELS if label != choice]
            return {choice: shares[0], rest[0]: shares[1], rest[1]: 1.0 - sum(shares)}

        return answer

    asked: dict[int, bool] = {}

    def large(value: dict[str, Any]) -> str:
        asked[value["row"]] = not value["dsplus"]["probabilities"]
        return "large"

    smalls = [FakeSmallModel(answers(name), LABELS, name=name) for name in names]
    router = ConfidenceRouter(
        small=smalls if len(smalls) > 1 else smalls[0],
        large=RunnableLambda(large),
        threshold=step if len(smalls) > 1 else next(iter(step.values())),
        never_local=list(never_local),
        to_output=lambda answer, _: answer["choice"],
        include_route=True,
    )
    found = []
    for row, output in enumerate(router.batch([{"row": place} for place in range(len(table))])):
        route = output["route"]
        failed = route["reason"] == "error"
        reached = len(route["answers"]) + failed
        if route["accepted"]:
            found.append((len(route["answers"]) - 1, reached))
        else:
            found.append((len(names) + failed, reached))
            assert asked[row] == failed, "the plain prompt, if and only if a small model failed"
    return found


def bill(table: list[dict[str, Any]], ways: list[tuple[int, int]], prompt: str) -> list[float]:
    """What each row pays, row by row; a gap is the mean of its column."""
    names = table[0]["names"]

    def column(name: str) -> list[float] | None:
        known = [row[f"cost {name}"] for row in table if row.get(f"cost {name}") is not None]
        if not known:
            return None
        return [row[f"cost {name}"] if row[f"cost {name}"] is not None else sum(known) / len(known) for row in table]

    plain = column("large")
    asked = column("large_pruned") if prompt == "pruned" else plain
    if plain is None or asked is None:
        return [float(who >= len(names)) for who, _ in ways]
    free = [0.0] * len(table)
    first = column(names[0] if len(names) == 1 else "small") or free
    each = [(column(name) if len(names) > 1 else None) or free for name in names]
    return [
        first[row]
        + sum(each[place][row] for place in range(reached))
        + (0.0 if who < len(names) else asked[row] if who == len(names) else plain[row])
        for row, (who, reached) in enumerate(ways)
    ]


@settings(max_examples=60, deadline=None)
@given(tables(), st.sampled_from(["plain", "pruned"]), st.sampled_from([(), ("b",)]))
def test_all_doors_and_the_router_agree(table, prompt, never_local):
    outcomes = outcomes_of(table)
    found = differences(outcomes, prompt=prompt, never_local=never_local)
    names = [model.name for model in found.models]
    path = [dict.fromkeys(names, math.inf), *coverage_path(outcomes, steps=4)]
    turns, costs = found.turns(path), Costs.of(outcomes, names, prompt)
    totals = costs.along(turns)
    rows = numbers.read_rows(outcomes, prompt=prompt, never_local=never_local)
    grid = np.array([[step[name] for name in names] for step in path])
    count = numbers.tally(outcomes, rows, grid, prompt=prompt)
    for place, step in enumerate(path):
        ways = routed(table, dict(zip(table[0]["names"], step.values(), strict=True)), never_local)
        who = [one for one, _ in ways]
        assert turns.at(place).tolist() == who
        answers, failed = found.who(step)
        assert [one if one >= 0 else len(names) + plain for one, plain in zip(answers, failed, strict=True)] == who
        assert count.accepted[place] == sum(one < len(names) for one in who)
        paid = bill(table, ways, prompt)
        assert costs.paid(turns, place).tolist() == pytest.approx(paid)
        assert totals[place] == pytest.approx(sum(paid))
        if costs.money:
            assert count.cost[place] == pytest.approx(1000 * sum(paid) / len(table))
        else:
            assert count.cost is None
    if any(value is not None for value in outcomes.values("large")) and outcomes.valid("large").any():
        settings_ = {"start": path[0] if len(names) > 1 else math.inf} if prompt == "pruned" else {}
        certificate = certify(outcomes, "5 points", path=path, prompt=prompt, never_local=never_local, **settings_)
        for step in certificate.steps:
            place = path.index(step.thresholds)
            assert step.cost == pytest.approx(totals[place] / len(table))
            assert step.accepted == count.accepted[place]


@settings(max_examples=60, deadline=None)
@given(tables(), st.sampled_from(["plain", "pruned"]), st.sampled_from(["unknown", "wrong"]))
def test_curves_paths_choices_and_parity_follow_the_same_rows(table, prompt, unusable):
    outcomes = outcomes_of(table)
    found = differences(outcomes, prompt=prompt, unusable_large=unusable)
    names = [model.name for model in found.models]
    path = coverage_path(outcomes, steps=4) or [dict.fromkeys(names, 0.5)]
    kwargs = {"prompt": prompt, "unusable_large": unusable}
    if not found.compared.any():
        with pytest.raises(ValueError, match="nothing can be compared"):
            path_sweep(outcomes, path, **kwargs)
        return
    swept = path_sweep(outcomes, path, **kwargs)
    assert swept.n + swept.left_out == len(table)
    assert sorted(swept.rows) == np.flatnonzero(found.compared).tolist()  # gold is known everywhere
    for place, step in enumerate(swept.path):
        assert swept.cascade(place).tolist() == found.correct(step)[swept.rows].tolist()
    if len(names) > 1:
        return
    curve = sweep(outcomes, **kwargs)
    assert sorted(curve.rows) == sorted(swept.rows)
    for place, step in enumerate(curve.path):
        assert curve.cascade(place).tolist() == found.correct(step)[curve.rows].tolist()
    choice = choose_threshold(outcomes, "max_accuracy", bootstrap=0, **kwargs)
    money = costs_along(outcomes, curve.rows, [choice.thresholds], prompt)
    assert choice.large_accuracy == pytest.approx(found.large[curve.rows].mean())
    if money is None:
        assert choice.cost is None
    else:
        assert choice.cost == pytest.approx(1000 * money[0][0] / curve.n)
    try:
        parity = cost_at_parity(outcomes, **kwargs)
    except ValueError:
        return
    if money is not None:
        at = costs_along(outcomes, curve.rows, [{"small": parity.threshold}], prompt)
        assert parity.cost == pytest.approx(1000 * at[0][0] / curve.n)


def test_turns_without_a_row_or_a_step():
    assert Turns(np.empty((1, 0)), np.empty((1, 0)), [[0.5]]).at(0).tolist() == []
    assert list(Turns([[0.5]], [[False]], np.empty((0, 1))).walk()) == []


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 6))
def test_a_walk_is_every_step_at_once(seed, models, steps):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 30))
    confidence = np.where(rng.random((models, n)) < 0.1, -np.inf, rng.integers(0, 6, (models, n)) / 5)
    path = np.sort(rng.integers(-1, 6, (steps, models)) / 5, axis=0)[::-1]
    turns = Turns(confidence, rng.random((models, n)) < 0.2, path)
    kept = np.full(n, -1)
    for step, (who, changed) in enumerate(turns.walk()):
        kept[changed] = who[changed]
        assert kept.tolist() == who.tolist() == turns.at(step).tolist()
    assert step == steps - 1
