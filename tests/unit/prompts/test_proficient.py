"""Classes that a prompt may leave out: the rule, the bound on what they can cost, and that the bound holds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.prompts.proficient import ProficientClasses, _at_most, proficient_classes
from langchain_dsplus.prompts.pruner import PromptPruner


def rows(gold, *, right=0, wrong=0, unsure=0, failed=0, other="other"):
    """Rows of one class: accepted and right, accepted and wrong, not accepted, small model failed."""
    return (
        [{"small": gold, "confidence": 0.95, "gold": gold}] * right
        + [{"small": other, "confidence": 0.95, "gold": gold}] * wrong
        + [{"small": gold, "confidence": 0.9, "gold": gold}] * unsure
        + [{"small": None, "confidence": None, "gold": gold}] * failed
    )


HARD = rows("hard", unsure=1000)
"""Escalated rows that no proficient class has a part in."""


def by_rule(*args, **kwargs):
    return proficient_classes(*args, max_risk=None, **kwargs)


# --- the rule -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_risk", [0.01, None])
def test_a_class_that_is_accepted_and_right_is_proficient(max_risk):
    table = HARD + rows("dog", right=20) + rows("cat", right=9, unsure=11) + rows("ant", right=40, unsure=1)
    some = {"max_risk": max_risk}
    assert proficient_classes(table, 0.9, **some) == ["ant", "dog"]
    assert proficient_classes(table, 0.9, labels=["dog", "cat", "ant", "owl"], **some) == ["dog", "ant"]
    assert by_rule(table, 0.9, min_recall=0.4) == ["ant", "cat", "dog"]


def test_acceptance_is_strict():
    assert by_rule(rows("dog", right=10), 0.95) == []
    assert by_rule(rows("dog", right=10), math.nextafter(0.95, 0.0)) == ["dog"]


def test_accepted_and_wrong_does_not_count_as_excelling():
    table = HARD + rows("dog", right=18, wrong=2)
    assert proficient_classes(table, 0.9) == []
    assert proficient_classes(table, 0.9, min_precision=0.9) == ["dog"]


def test_few_rows_prove_nothing():
    assert by_rule(rows("dog", right=9), 0.9) == []
    assert by_rule(rows("dog", right=9), 0.9, min_rows=9) == ["dog"]


@pytest.mark.parametrize("threshold", [None, math.inf])
def test_no_threshold_accepts_nothing(threshold):
    assert proficient_classes(HARD + rows("dog", right=99), threshold) == []


def test_a_failed_small_model_escalates():
    assert by_rule(rows("dog", right=18, failed=2), 0.9) == ["dog"]
    assert by_rule(rows("dog", right=18, failed=3), 0.9) == []


def test_rows_without_gold_do_not_count():
    table = [*HARD, *rows("dog", right=10), *[{"small": "cat", "confidence": 0.1, "gold": None}] * 50]
    found = proficient_classes(table, 0.9)
    assert (found, found.escalated) == (["dog"], 500)


def test_label_order_comes_from_the_probabilities():
    table = [
        r | {"probabilities": {"owl": 0.0, "dog": 0.9, "ant": 0.1}}
        for r in rows("dog", right=10) + rows("ant", right=10) + HARD
    ]
    assert proficient_classes(table, 0.9) == ["dog", "ant"]


def test_objects_with_records_and_numbers_as_text():
    class Table:
        def to_records(self):
            return [r | {"confidence": str(r["confidence"])} for r in rows("dog", right=10)]

    assert by_rule(Table(), 0.9) == ["dog"]
    table = [r | {"large": "dog"} for r in HARD + rows("dog", right=10, failed=1)]
    assert proficient_classes(Outcomes.from_records(table), 0.9) == ["dog"]


# --- the bound ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("escalated", "expected"), [(299, ["dog"]), (298, [])])
def test_how_many_rows_it_takes(escalated, expected):
    table = rows("hard", unsure=2 * escalated) + rows("dog", right=50)
    found = proficient_classes(table, 0.9)
    assert found == expected
    assert (found.leaked, found.escalated) == (0, escalated)
    assert found.risk_upper == (0.01 if expected else 0.0)


def test_an_order_fixed_beforehand_needs_half_the_rows():
    table = rows("hard", unsure=299) + rows("dog", right=5) + rows("cat", right=5)
    assert proficient_classes(table, 0.9, order=["cat", "dog", "cat"]) == ["cat", "dog"]
    assert proficient_classes(table, 0.9, order=["dog"]) == ["dog"]
    assert proficient_classes(table, 0.9, order=["hard", "dog"]) == []
    assert proficient_classes(table, 0.9, order=["dog", "hard"]) == ["dog"]
    assert proficient_classes(table, 0.9, order=["yak"]) == []


LEAKY = rows("hard", unsure=1960) + [r for c in range(20) for r in rows(f"c{c:02}", right=200, unsure=2)]
"""Each of 20 classes leaks .1 % of the escalated rows."""


def test_the_share_of_all_classes_together_is_bounded():
    """A few may go, all of them may not."""
    found = proficient_classes(LEAKY, 0.9)
    assert 1 <= len(found) <= 9
    assert found.leaked <= 0.01 * found.escalated
    assert len(proficient_classes(LEAKY, 0.9, max_risk=0.1)) == 20
    assert proficient_classes(LEAKY, 0.9, max_risk=0.002) == []


def test_the_same_seed_gives_the_same_classes():
    assert proficient_classes(LEAKY, 0.9, seed=3) == proficient_classes(LEAKY, 0.9, seed=3)
    assert len({tuple(proficient_classes(LEAKY, 0.9, seed=seed)) for seed in range(5)}) > 1


def test_against_scipy():
    beta = pytest.importorskip("scipy.stats").beta
    for k, n in ((0, 299), (3, 900), (12, 1500), (700, 5000)):
        upper = beta.ppf(0.95, k + 1, n - k)
        assert _at_most(k, n, upper) == pytest.approx(0.05, rel=1e-9)
    assert _at_most(5, 5, 0.5) == _at_most(0, 0, 0.01) == 1.0


def streams():
    """Class shares and accepted share per class, under each of which many sets tempt."""
    yield "all alike", np.append(np.full(60, 0.9 / 60), 0.1), np.append(np.full(60, 0.99), 0.0)
    yield "just too leaky", np.array([0.3, 0.3, 0.4]), np.array([0.924, 0.924, 0.0])  # 5.1 % each
    yield (
        "long tail",
        np.append(0.8 * 0.8 ** np.arange(40) / (0.8 ** np.arange(40)).sum(), 0.2),
        np.append(np.linspace(0.995, 0.9, 40), 0.0),
    )


@pytest.mark.no_cover
@pytest.mark.parametrize(("name", "share", "accepted"), list(streams()), ids=lambda v: v if isinstance(v, str) else "")
def test_the_bound_holds(name, share, accepted):
    """1,000 tables each: the share of escalated inputs of the chosen classes is above the bound in at most 5 %."""
    labels = [f"c{c}" for c in range(len(share))]
    at_risk = share * (1 - accepted) / (share * (1 - accepted)).sum()
    rng = np.random.default_rng(5)
    runs, broken, chosen = 1000, 0, 0
    for _ in range(runs):
        n = rng.multinomial(1500, share)
        kept = rng.binomial(n, accepted)
        table = [
            row
            for label, total, local in zip(labels, n.tolist(), kept.tolist(), strict=True)
            for row in (
                *[{"small": label, "confidence": 1.0, "gold": label}] * local,
                *[{"small": label, "confidence": 0.0, "gold": label}] * (total - local),
            )
        ]
        found = proficient_classes(table, 0.5, max_risk=0.05, seed=int(rng.integers(2**31)), min_rows=1)
        risk = sum(at_risk[labels.index(label)] for label in found)
        broken += risk > 0.05
        chosen += bool(found)
    assert broken / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert chosen > 0.01 * runs  # the bound says something


# --- what comes back ------------------------------------------------------------------------------------------------


def test_it_is_a_list_of_labels():
    found = proficient_classes(HARD + rows("dog", right=20), 0.9, level=0.9)
    assert isinstance(found, list)
    assert found == ["dog"]
    assert (found.level, found.risk_upper) == (0.9, 0.01)
    assert "at most 1 % of the escalated inputs" in found.text
    pruner = PromptPruner.from_messages(
        [("human", "x")], labels=["dog", "cat", "hard"], pruning="hard", proficient=found
    )
    assert pruner.proficient == ["dog"]
    assert "rule of thumb" in by_rule(rows("dog", right=20), 0.9).text
    assert by_rule(rows("dog", right=20), 0.9).risk_upper is None
    assert "No class" in ProficientClasses().text


def test_errors():
    with pytest.raises(ValueError, match="`confidence`"):
        proficient_classes([{"small": "a", "gold": "a"}], 0.5)
    with pytest.raises(TypeError, match="records"):
        proficient_classes([("a", 0.5, "a")], 0.5)
    for wrong in ({"min_recall": 0.0}, {"min_precision": 1.1}, {"min_rows": 0}):
        with pytest.raises(ValueError, match="min_"):
            proficient_classes([], 0.5, **wrong)
    for wrong in ({"max_risk": 0.0}, {"max_risk": 1.0}, {"level": 1.0}):
        with pytest.raises(ValueError, match="max_risk"):
            proficient_classes([], 0.5, **wrong)
    assert proficient_classes([], 0.5) == []
    assert by_rule([], 0.5) == []
