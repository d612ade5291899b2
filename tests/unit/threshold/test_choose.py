import json
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.threshold.choose import choose_threshold

rows = st.lists(
    st.fixed_dictionaries(
        {
            "confidence": st.none() | st.sampled_from([0.3, 0.5, 0.6, 0.6000000000000001, 0.9]),
            "small_ok": st.booleans(),
            "large_ok": st.booleans(),
        }
    ),
    min_size=1,
    max_size=15,
)


def stream(n=2000, seed=0):
    """A small model that knows when it is right, and a better large one."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1.0, n)
    return Outcomes.from_records(
        {"confidence": c, "small_ok": bool(s), "large_ok": bool(g)}
        for c, s, g in zip(confidence, rng.random(n) < confidence, rng.random(n) < 0.85, strict=True)
    )


def routed(table, threshold):
    accepted = [r["confidence"] is not None and r["confidence"] > threshold for r in table]
    right = sum(r["small_ok"] if yes else r["large_ok"] for r, yes in zip(table, accepted, strict=True))
    return sum(accepted) / len(table), right / len(table)


def everything(table):
    """Coverage and accuracy of every set of rows that some threshold accepts."""
    found = {r["confidence"] for r in table} - {None}
    return [routed(table, t) for t in [math.inf, *found, -math.inf]]


@given(rows)
def test_the_choice_does_what_it_says_and_no_threshold_does_better(table):
    outcomes = Outcomes.from_records(table)
    large = sum(r["large_ok"] for r in table) / len(table)
    options = everything(table)
    cases = {
        "match_large": (lambda c, a: a >= large, lambda c, a: c, {}),
        "max_accuracy": (lambda c, a: True, lambda c, a: (a, c), {}),
        "budget": (lambda c, a: 1 - c <= 0.5 + 1e-9, lambda c, a: (a, c), {"budget": 0.5}),
        "target_accuracy": (lambda c, a: a >= 0.6 - 1e-9, lambda c, a: c, {"target": 0.6}),
    }
    for objective, (allowed, value, extra) in cases.items():
        choice = choose_threshold(outcomes, objective, bootstrap=10, **extra)
        assert (choice.coverage, choice.accuracy) == pytest.approx(routed(table, choice.threshold))
        assert choice.large_accuracy == pytest.approx(large)
        assert choice.gain == pytest.approx(choice.accuracy - large)
        fitting = [value(c, a) for c, a in options if allowed(c, a)]
        assert choice.met == bool(fitting)
        if fitting:
            assert value(choice.coverage, choice.accuracy) == pytest.approx(max(fitting))


def test_equal_scores_stand_or_fall_together():
    table = [{"confidence": 0.8, "small_ok": ok, "large_ok": True} for ok in (True, True, False)]
    choice = choose_threshold(Outcomes.from_records(table))
    assert (choice.threshold, choice.coverage, choice.accuracy) == (math.inf, 0.0, 1.0)
    assert choice.to_dict()["threshold"] is None
    json.dumps(choice.to_dict(), allow_nan=False)


def test_a_small_model_that_is_always_right_takes_everything():
    table = [{"confidence": c, "small_ok": True, "large_ok": False} for c in (0.2, 0.4)]
    choice = choose_threshold(Outcomes.from_records(table))
    assert choice.threshold == math.nextafter(0.2, -math.inf)
    assert (choice.coverage, choice.accuracy, choice.gain) == (1.0, 1.0, 1.0)


def test_a_target_out_of_reach_is_not_met_and_said():
    table = [{"confidence": 0.5, "small_ok": False, "large_ok": ok} for ok in (True, False)]
    choice = choose_threshold(Outcomes.from_records(table), "target_accuracy", target=0.9)
    assert not choice.met
    assert choice.accuracy == 0.5
    assert choice.note.startswith("No threshold reaches the target")


def test_a_pruned_prompt_that_harms_is_not_met():
    table = [
        {"confidence": 0.5, "small_ok": False, "large_ok": True, "large_pruned_ok": False},
        {"confidence": 0.6, "small_ok": True, "large_ok": True, "large_pruned_ok": True},
    ]
    outcomes = Outcomes.from_records(table)
    assert choose_threshold(outcomes, prompt="plain").met
    choice = choose_threshold(outcomes, prompt="pruned")
    assert not choice.met
    assert choice.large_accuracy == 1.0
    assert "plain prompt" in choice.note


def test_what_is_left_out_is_said():
    table = [{"confidence": 0.5, "small": "a", "large": large, "gold": "a"} for large in ("a", None)]
    choice = choose_threshold(Outcomes.from_records(table))
    assert (choice.n, choice.left_out) == (1, 1)
    assert "1 rows are left out" in choice.note
    assert "promises nothing" in choice.note


def test_the_interval_is_that_of_many_resamples():
    outcomes = stream()
    choice = choose_threshold(outcomes, "max_accuracy", bootstrap=4000)
    assert choice.low < choice.accuracy < choice.high
    error = math.sqrt(choice.accuracy * (1 - choice.accuracy) / choice.n)
    assert choice.high - choice.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    rng = np.random.default_rng(5)
    accepted = outcomes["confidence"] > choice.threshold
    small, large = outcomes.correct("small"), outcomes.correct("large")
    difference = np.where(accepted, small, large) - large
    means = difference[rng.integers(0, len(difference), (2000, len(difference)))].mean(axis=1)
    assert (choice.gain_low, choice.gain_high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.003)


def test_the_seed_decides_the_interval_and_nothing_else():
    outcomes = stream(300)
    first, again, other = (choose_threshold(outcomes, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)
    assert first.threshold == other.threshold
    none = choose_threshold(outcomes, bootstrap=0)
    assert none.low == none.high == none.accuracy


def test_only_plain_python_numbers():
    values = choose_threshold(stream(50)).to_dict()
    assert {name: type(value) for name, value in values.pop("thresholds").items()} == {"small": float}
    assert {type(value) for value in values.values()} <= {float, int, bool, str, type(None)}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_what_was_accepted_is_accepted_after_a_round_trip(tmp_path, kind):
    outcomes = stream(500)
    path = tmp_path / "rows"
    getattr(outcomes, f"to_{kind}")(path)
    back = getattr(Outcomes, f"from_{kind}")(path)
    choice = choose_threshold(outcomes, "max_accuracy")
    assert choose_threshold(back, "max_accuracy") == choice
    assert json.loads(json.dumps(choice.threshold)) == choice.threshold
    assert (back["confidence"] > choice.threshold).mean() == pytest.approx(choice.coverage)


@pytest.mark.parametrize(
    ("objective", "options", "match"),
    [
        ("cheapest", {}, "objective"),
        ("budget", {}, "budget_money"),
        ("budget", {"budget": 0.5, "budget_money": 1.0}, "one of"),
        ("budget", {"budget_money": -1.0}, "budget_money"),
        ("budget", {"budget_money": math.inf}, "budget_money"),
        ("budget", {"budget_money": math.nan}, "budget_money"),
        ("max_accuracy", {"budget_money": 1.0}, "budget_money"),
        ("budget", {"budget": 1.5}, "budget"),
        ("target_accuracy", {}, "target"),
        ("match_large", {"budget": 0.5}, "budget"),
        ("max_accuracy", {"target": 0.5}, "target"),
        ("match_large", {"bootstrap": -1}, "bootstrap"),
        ("match_large", {"level": 95}, "level"),
        ("match_large", {"prompt": "hard"}, "prompt"),
    ],
)
def test_bad_arguments_are_refused(objective, options, match):
    with pytest.raises(ValueError, match=match):
        choose_threshold(stream(10), objective, **options)


def test_nothing_known_is_refused():
    table = [{"confidence": 0.5, "small": "a", "large": "a", "gold": None}]
    with pytest.raises(ValueError, match="nothing can be compared"):
        choose_threshold(Outcomes.from_records(table))


def test_many_rows_are_quick():
    rng = np.random.default_rng(0)
    n = 300_000
    right = {"small_ok": (rng.random(n) < 0.8).tolist(), "large_ok": (rng.random(n) < 0.9).tolist()}
    outcomes = Outcomes({"confidence": rng.random(n).tolist(), **right})
    started = time.process_time()  # its own, whoever else is at the machine
    choose_threshold(outcomes)
    assert time.process_time() - started < 5


# --- money ----------------------------------------------------------------------------------------------------------

money = st.sampled_from([0.0, 0.5, 1.0, 4.0])
priced = st.lists(
    st.fixed_dictionaries(
        {
            "confidence": st.none() | st.sampled_from([0.3, 0.5, 0.6, 0.6000000000000001, 0.9]),
            "small_ok": st.booleans(),
            "large_ok": st.booleans(),
            "large_pruned_ok": st.booleans(),
            "cost_small": money,
            "cost_large": money,
            "cost_large_pruned": money,
        }
    ),
    min_size=1,
    max_size=12,
)


def bill(table, threshold, prompt="plain"):
    """Coverage, accuracy, and money per 1,000 inputs, row by row."""
    accepted = right = cost = 0.0
    for row in table:
        cost += row["cost_small"]
        failed = row["confidence"] is None
        if not failed and row["confidence"] > threshold:
            accepted += 1
            right += row["small_ok"]
        else:
            used = "large" if prompt == "plain" or failed else "large_pruned"
            right += row[f"{used}_ok"]
            cost += row[f"cost_{used}"]
    return accepted / len(table), right / len(table), 1000 * cost / len(table)


@pytest.mark.parametrize("prompt", ["plain", "pruned"])
@given(table=priced, budget=st.sampled_from([0.0, 400.0, 1000.0, 2500.0, 9000.0]))
def test_a_budget_of_money_is_kept_and_no_threshold_does_better(prompt, table, budget):
    found = {r["confidence"] for r in table} - {None}
    options = [bill(table, t, prompt) for t in [math.inf, *found, -math.inf]]
    outcomes = Outcomes.from_records(table)
    choice = choose_threshold(outcomes, "budget", budget_money=budget, prompt=prompt, bootstrap=0)
    assert (choice.coverage, choice.accuracy, choice.cost) == pytest.approx(bill(table, choice.threshold, prompt))
    assert choice.large_cost == pytest.approx(1000 * sum(r["cost_large"] for r in table) / len(table))
    within = [(accuracy, coverage) for coverage, accuracy, cost in options if cost <= budget * (1 + 1e-12)]
    assert choice.met == bool(within)
    if within:
        assert (choice.accuracy, choice.coverage) == pytest.approx(max(within))
    else:
        assert choice.note.startswith("No threshold keeps to the budget")


def test_the_small_side_is_paid_or_said_to_be_free():
    table = [{"confidence": c, "small_ok": True, "large_ok": True, "cost_large": 0.01} for c in (0.9, 0.8, 0.7, 0.6)]
    free = choose_threshold(Outcomes.from_records(table), "budget", budget_money=5.0)
    assert (free.coverage, free.cost, free.large_cost) == (1.0, 0.0, 10.0)
    assert "small side counts as free" in free.note
    paid = choose_threshold(
        Outcomes.from_records({**r, "cost_small": 0.002} for r in table), "budget", budget_money=5.0
    )
    assert paid.cost == pytest.approx(2.0)
    assert "free" not in paid.note
    assert not choose_threshold(
        Outcomes.from_records({**r, "cost_small": 0.006} for r in table), "budget", budget_money=5.0
    ).met


def test_costs_that_are_missing_are_named():
    table = [{"confidence": c, "small_ok": True, "large_ok": True} for c in (0.9, 0.8)]
    with pytest.raises(ValueError, match="no column 'cost_large'"):
        choose_threshold(Outcomes.from_records(table), "budget", budget_money=1.0)
    table[1]["cost_large"] = 0.5
    with pytest.raises(ValueError, match="'cost_large' is empty in 1 of 2 rows"):
        choose_threshold(Outcomes.from_records(table), "budget", budget_money=1.0)
    assert choose_threshold(Outcomes.from_records(table)).large_cost == 500.0  # the mean of those that are known
    table[0].update(cost_large=0.5, cost_small=0.1)
    with pytest.raises(ValueError, match="'cost_small' is empty in 1 of 2 rows"):
        choose_threshold(Outcomes.from_records(table), "budget", budget_money=1.0)
    failed = {"confidence": 0.7, "small": "a", "large": None, "gold": "a", "cost_large": None}
    answered = {"confidence": 0.7, "small": "a", "large": "a", "gold": "a", "cost_large": 0.5}
    choice = choose_threshold(Outcomes.from_records([failed, answered]), "budget", budget_money=0.0)
    assert (choice.cost, choice.large_cost, choice.left_out) == (0.0, 500.0, 1)


# --- groups, and large models that failed ------------------------------------------------------------------------------


def test_rows_of_one_group_are_drawn_together():
    table = stream(300).to_records()
    repeated = [{**row, "id": f"{row['id']}-{k}", "group": row["id"]} for row in table for k in range(6)]
    one, grouped, loose = (
        choose_threshold(Outcomes.from_records(rows), "max_accuracy")
        for rows in (table, repeated, [{**row, "group": None} for row in repeated])
    )
    assert grouped.high - grouped.low == pytest.approx(one.high - one.low, rel=0.2)
    assert loose.high - loose.low < 0.6 * (one.high - one.low)
    assert one.threshold == grouped.threshold == loose.threshold


@pytest.mark.parametrize("large", [None, "I cannot say", "c"])
def test_an_answer_that_is_no_label_is_no_gain(large):
    table = [{"confidence": 0.9, "small": "a", "large": large, "gold": "a"}] * 3
    table += [{"confidence": 0.5, "small": "b", "large": "a", "gold": "a"}]
    choice = choose_threshold(Outcomes.from_records(table, about={"labels": ["a", "b"]}), "max_accuracy")
    assert (choice.n, choice.left_out, choice.gain, choice.coverage) == (1, 3, 0.0, 0.0)
