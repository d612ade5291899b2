"""`certify`: the rule for gold, the sequence, what is counted, and how often the promise breaks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from langchain_dsplus import Outcomes
from langchain_dsplus.threshold.certificate import Certificate
from langchain_dsplus.threshold.certify import certify
from langchain_dsplus.threshold.differences import coverage_grid, differences
from langchain_dsplus.threshold.exact import critical_value, paired_p_value, tango_score


def row(confidence: float | None, small: str | None, large: str | None, gold: str | None = None, **more: Any) -> dict:
    return {"small": small, "confidence": confidence, "large": large, "gold": gold, **more}


def stream(n: int, seed: int, *, gold: bool = True, **about: Any) -> Outcomes:
    """The synthetic stream of a small model at 93 % before a large one at 94 %."""
    random = np.random.default_rng(seed)
    confidence = 0.5 + 0.5 * random.beta(3.2, 0.45, n)
    small = random.random(n) < confidence - 0.01
    base = 0.86 + 0.105 * ((confidence - 0.5) / 0.5) ** 2
    large = random.random(n) < np.where(small, np.minimum(base + 0.01, 0.999), base - 0.1)
    truth = random.integers(0, 2, n)
    return Outcomes(
        {
            "small": [str(x) for x in np.where(small, truth, 1 - truth)],
            "confidence": confidence.tolist(),
            "large": [str(x) for x in np.where(large, truth, 1 - truth)],
            "gold": [str(x) if gold else None for x in truth],
        },
        about={"score": "max_probability", "labels": ["0", "1"], **about},
    )


def agreeing(n: int, **more: Any) -> list[dict[str, Any]]:
    return [row(i / n, "a", "a", **more) for i in range(n)]


# --- the one rule for gold ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("small", "large", "gold", "loss"),
    [
        ("a", "a", None, 0),
        ("a", "a", "b", 0),
        ("a", "b", "a", -1),
        ("a", "b", "b", 1),
        ("a", "b", "c", 0),
        ("a", "b", None, 1),
        ("a", None, "a", 0),
        ("a", None, "b", 1),
        ("a", None, None, 1),
        ("a", "not a label", "a", 0),
        ("a", "not a label", "b", 1),
        ("a", "not a label", None, 1),
    ],
)
def test_gold_is_needed_only_where_they_disagree(small: str, large: str | None, gold: str | None, loss: int) -> None:
    table = Outcomes.from_records([row(0.9, small, large, gold)], about={"labels": ["a", "b", "c"]})
    assert differences(table).models[0].loss.tolist() == [loss]


@pytest.mark.parametrize(
    ("small_ok", "large_ok", "loss"),
    [(True, True, 0), (True, False, -1), (False, True, 1), (None, True, 1), (True, None, 0), (None, False, 0)],
)
def test_a_judge_may_say_who_was_right(small_ok: bool | None, large_ok: bool | None, loss: int) -> None:
    table = Outcomes.from_records([{"confidence": 0.9, "small_ok": small_ok, "large_ok": large_ok}])
    assert differences(table).models[0].loss.tolist() == [loss]


def test_pruned_answers_follow_the_same_rule() -> None:
    rows = [
        row(0.1, "a", "a", None, large_pruned="a"),
        row(0.1, "a", "a", None, large_pruned="b"),
        row(0.1, "a", "a", "b", large_pruned="b"),
        row(None, None, "a", "a", large_pruned=None),
    ]
    found = differences(Outcomes.from_records(rows), prompt="pruned")
    loss, accepted, unlabeled = found.at({"small": 0.5})
    # The last one's small model failed: it is asked the plain prompt.
    assert loss.tolist() == [0, 1, -1, 0]
    assert not accepted.any()
    assert unlabeled.tolist() == [False, True, False, False]


def test_failed_and_barred_answers_are_never_accepted() -> None:
    rows = [row(None, None, "a"), row(0.9, "b", "b"), row(0.9, "unknown", "a"), row(0.9, "a", "a")]
    found = differences(Outcomes.from_records(rows, about={"labels": ["a", "b"]}), never_local=["b"])
    assert found.at({"small": -math.inf})[1].tolist() == [False, False, False, True]


def test_several_small_models_are_asked_in_order() -> None:
    rows = [
        {"small.one": "a", "confidence.one": c1, "small.two": "b", "confidence.two": c2, "large": "a", "gold": "a"}
        for c1, c2 in ((0.9, 0.9), (0.1, 0.9), (0.1, 0.1), (None, 0.9))
    ]
    found = differences(Outcomes.from_records(rows))
    who, failed = found.who({"one": 0.5, "two": 0.5})
    assert who.tolist() == [0, 1, -1, -1]  # a failure escalates at once, as in the router
    assert failed.tolist() == [False, False, False, True]
    assert found.at({"one": 0.5, "two": 0.5})[0].tolist() == [0, 1, 0, 0]


def test_the_grid_accepts_what_it_says() -> None:
    random = np.random.default_rng(1)
    scores = np.round(random.random(1000), 2)  # heavy ties
    grid = coverage_grid(scores, 50)
    assert grid == sorted(grid, reverse=True)
    assert not set(grid) & set(scores.tolist())
    assert (scores > grid[-1]).all()
    for step, threshold in zip(range(1, 51), coverage_grid(random.random(1000), 50), strict=True):
        assert 0 < threshold < 1 or step == 50
    assert coverage_grid([math.nan, math.nan]) == []
    assert coverage_grid([0.5] * 7) == [math.nextafter(0.5, 0)]


# --- the certificate ------------------------------------------------------------------------------------------------


def test_a_certificate_and_what_it_says() -> None:
    table = stream(2000, 1)
    found = certify(table)
    assert found.status == "CERTIFIED"
    assert isinstance(found.threshold, float)
    assert math.isfinite(found.threshold)
    accepted = table["confidence"] > found.threshold
    assert found.coverage == accepted.mean()
    loss = differences(table).models[0].loss[accepted]
    assert (found.harms, found.gains) == ((loss > 0).sum(), (loss < 0).sum())
    assert found.p_value == paired_p_value(found.harms, found.gains, 2000, 0.005) <= 0.05
    assert found.verdict.startswith("CASCADE:")
    assert found.loss_upper is not None
    assert found.loss < found.loss_upper <= 0.005
    passed = [step for step in found.steps if step.passed]
    assert passed[-1].thresholds == {"small": found.threshold} == found.thresholds
    failed = found.steps[len(passed)]
    assert failed.p_value is not None
    assert failed.p_value > 0.05
    assert all(step.p_value is None for step in found.steps[len(passed) + 1 :])
    assert {b.name for b in found.baselines} == {
        "always large", "always small", "random at equal budget", "oracle", "cascade",
    }  # fmt: skip
    assert sum(item["n"] for item in found.by_class) == 2000


def test_baselines_are_counted_right() -> None:
    table = stream(2000, 1)
    found = certify(table)
    by_name = {b.name: b for b in found.baselines}
    small, large = table.correct("small"), table.correct("large")
    accepted = table["confidence"] > found.threshold
    assert by_name["always small"].accuracy == pytest.approx(small.mean())
    assert by_name["always large"].accuracy == pytest.approx(large.mean())
    assert by_name["cascade"].accuracy == pytest.approx(np.where(accepted, small, large).mean())
    assert by_name["oracle"].accuracy == pytest.approx(np.maximum(small, large).mean())
    assert by_name["oracle"].escalation_rate == pytest.approx(((small == 0) & (large == 1)).mean())
    mixed = found.coverage * small.mean() + (1 - found.coverage) * large.mean()
    assert by_name["random at equal budget"].accuracy == pytest.approx(mixed)
    assert all(b.low <= (b.accuracy or 0) <= b.high for b in found.baselines)


def test_too_few_rows_are_refused_with_what_would_help() -> None:
    found = certify(Outcomes.from_records(agreeing(597)))
    assert found.status == "NOT_CERTIFIED"
    assert found.threshold == math.inf
    assert found.coverage == 0.0
    assert found.p_value == pytest.approx(0.0502, abs=1e-4)
    assert found.help is not None
    assert found.help["least_n"] == 598
    assert found.help["smallest_loss"] == pytest.approx(0.005005, abs=1e-5)
    assert set(found.help["planned_n"]) == {"25", "50", "75"}
    assert found.verdict.startswith("NOT ENOUGH DATA:")
    assert "NOT_CERTIFIED" in str(found)


def test_a_useless_small_model_is_no_cascade() -> None:
    random = np.random.default_rng(0)
    rows = [row(float(random.random()), "b" if random.random() < 0.3 else "a", "a", "a") for _ in range(3000)]
    found = certify(Outcomes.from_records(rows))
    assert found.status == "NOT_CERTIFIED"
    assert found.verdict.startswith("LARGE ALONE:")


def test_a_small_model_that_is_good_enough_alone_is_no_cascade() -> None:
    found = certify(Outcomes.from_records(agreeing(1000)))
    assert found.status == "CERTIFIED"
    assert found.coverage == 1.0
    assert found.verdict.startswith("SMALL ALONE:")


def test_missing_labels_are_asked_for() -> None:
    rows = [row(1 - i / 2000, "b" if i < 30 else "a", "a") for i in range(2000)]
    found = certify(Outcomes.from_records(rows))
    assert found.status == "NOT_CERTIFIED"
    assert found.help is not None
    assert found.help["labels_needed"] == 30
    assert "to_label" in found.verdict
    always_small = next(b for b in found.baselines if b.name == "always small")
    assert always_small.accuracy is None
    assert 20 <= always_small.needs_gold <= 100  # about so many tell it well enough; they need not be all rows
    assert (always_small.low, always_small.high) == (0.0, 1.0)


def test_every_certification_of_a_table_spends_less(tmp_path: Any) -> None:
    table = stream(2000, 1)
    first = certify(table)
    table.to_jsonl(tmp_path / "rows.jsonl")
    second = certify(Outcomes.from_jsonl(tmp_path / "rows.jsonl"))
    assert (first.certification, second.certification) == (1, 2)
    assert first.alpha == pytest.approx(0.05)
    assert second.alpha == pytest.approx(0.025)
    assert second.coverage <= first.coverage
    assert second.about["data"] == first.about["data"]
    with pytest.raises(ValueError, match="max_loss"):
        certify(table, max_loss=5)
    assert table.about["certifications"] == 1


def test_a_price_of_errors_chooses_among_the_certified() -> None:
    table = stream(5000, 3)
    cheap, dear = certify(stream(5000, 3)), certify(table, error_cost=30.0)
    assert cheap.threshold is not None
    assert dear.threshold is not None
    assert dear.threshold >= cheap.threshold
    best = min((s for s in dear.steps if s.passed), key=lambda s: (s.cost or 0) + 30 * (s.harms - s.gains) / 5000)
    assert dear.thresholds == best.thresholds
    assert (dear.harms, dear.gains, dear.coverage) == (best.harms, best.gains, best.coverage)


def test_costs_of_the_table_are_used() -> None:
    rows = [{**r, "cost_large": 2.0, "cost_small": 0.5} for r in agreeing(1000)]
    found = certify(Outcomes.from_records(rows))
    assert found.steps[-1].cost == pytest.approx(0.5)
    assert found.steps[24].cost == pytest.approx(0.5 + 2.0 * 0.5)


def test_the_promise_holds_in_named_slices() -> None:
    rows = []
    for i in range(4000):
        bad = i % 4 == 0
        wrong = bad and i % 16 == 0
        rows.append(row(1 - i / 4000, "b" if wrong else "a", "a", "a", slices={"lang": "de" if bad else "en"}))
    plain = certify(Outcomes.from_records(rows), max_loss=0.08)
    both = certify(Outcomes.from_records(rows), max_loss=0.08, slices=["lang"])
    assert plain.coverage == 1.0
    assert both.slices == ("lang=de", "lang=en")
    assert both.coverage < 0.5
    last = [s for s in both.steps if s.passed][-1]
    assert last.tests["lang=de"].n == 1000
    assert both.p_value == max(t.p_value or 0 for t in last.tests.values()) or both.p_value == paired_p_value(
        last.harms, last.gains, 4000, 0.08
    )
    assert {item["slice"] for item in both.by_slice} == {"lang=de", "lang=en"}
    with pytest.raises(ValueError, match="lang=fr"):
        certify(Outcomes.from_records(rows), slices=["lang=fr"])


def test_the_pruned_prompt_starts_where_it_was_told() -> None:
    rows = [row(1 - i / 3000, "a", "a", "a", large_pruned="b" if i > 2900 else "a") for i in range(3000)]
    with pytest.raises(ValueError, match="start"):
        certify(Outcomes.from_records(rows), prompt="pruned")
    strict = certify(Outcomes.from_records(rows), prompt="pruned", start=0.9)
    assert strict.status == "NOT_CERTIFIED"  # 99 rows are lost there, beyond the reach of the threshold
    lax = certify(Outcomes.from_records(rows), prompt="pruned", start=0.002)
    assert lax.status == "CERTIFIED"
    assert lax.steps[0].thresholds == {"small": 0.002}
    assert lax.prompt == "pruned"


def test_several_small_models_take_a_path() -> None:
    rows = [
        {"small.one": "a", "confidence.one": i / 1000, "small.two": "a", "confidence.two": 1 - i / 1000, "large": "a"}
        for i in range(1000)
    ]
    table = Outcomes.from_records(rows)
    with pytest.raises(ValueError, match="path"):
        certify(table)
    found = certify(table, path=[{"one": 0.9, "two": 0.95}, {"one": 0.5, "two": 0.6}])
    assert found.status == "CERTIFIED"
    assert found.threshold is None
    assert found.thresholds == {"one": 0.5, "two": 0.6}
    assert Certificate.from_json(found.to_json()) == found
    with pytest.raises(ValueError, match="strict to lax"):
        certify(table, path=[{"one": 0.5, "two": 0.6}, {"one": 0.9, "two": 0.95}])


def test_groups_are_not_rows() -> None:
    """Thirty customers with all the loss: as rows they would pass, as groups they are refused."""
    rows = [row(0.9, "a", "a", "a", group=f"g{i}") for i in range(1500)]
    rows += [row(0.9, "a", "a", "a", group=f"big{i % 30}") for i in range(1500)]
    alone = [{k: v for k, v in r.items() if k != "group"} for r in rows]
    assert certify(Outcomes.from_records(alone)).status == "CERTIFIED"
    clustered = certify(Outcomes.from_records(rows))
    assert clustered.status == "NOT_CERTIFIED"
    assert clustered.groups == 1530
    per_group = certify(Outcomes.from_records(rows), unit="group", seed=1)
    assert per_group.n == 1530
    assert per_group.unit == "group"
    assert "groups" in str(per_group)


def test_groups_of_one_row_are_rows() -> None:
    found = certify(Outcomes.from_records([{**r, "group": str(i)} for i, r in enumerate(agreeing(600))]))
    assert found.p_value == pytest.approx(paired_p_value(0, 0, 600, 0.005))


def test_too_few_groups_are_refused_in_words() -> None:
    rows = [row(0.9, "a", "a", "a", group=f"g{i % 10}") for i in range(2000)]
    found = certify(Outcomes.from_records(rows))
    assert found.status == "NOT_CERTIFIED"
    assert found.help is not None
    assert "groups" in found.help["reason"]
    assert "groups" in found.verdict


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"level": 1.0}, "level"),
        ({"steps": 0}, "steps"),
        ({"error_cost": -1}, "error_cost"),
        ({"unit": "row"}, "unit"),
        ({"unit": "group"}, "group"),
        ({"prompt": "other"}, "prompt"),
        ({"slices": ["x"]}, "slices"),
        ({"thresholds": [0.1, 0.9]}, "strict to lax"),
        ({"thresholds": [math.nan]}, "threshold"),
        ({"path": [{"other": 0.5}]}, "path"),
        ({"start": {"other": 0.5}}, "start"),
    ],
)
def test_bad_arguments_are_named_and_nothing_is_counted(more: dict[str, Any], named: str) -> None:
    table = Outcomes.from_records(agreeing(700))
    with pytest.raises(ValueError, match=named):
        certify(table, **more)
    assert "certifications" not in table.about


def test_live_rows_are_no_fair_sample() -> None:
    with pytest.raises(ValueError, match="source"):
        certify(Outcomes.from_records([{**r, "source": "audit"} for r in agreeing(700)]))
    assert certify(Outcomes.from_records([{**r, "source": "shadow"} for r in agreeing(700)])).certified


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        certify(Outcomes({"small": [], "confidence": [], "large": []}))


def test_nothing_to_accept_is_not_certified() -> None:
    found = certify(Outcomes.from_records([row(None, None, "a", "a") for _ in range(700)]))
    assert found.status == "NOT_CERTIFIED"
    assert found.verdict.startswith("NOT ENOUGH DATA:")


# --- how often the promise breaks -----------------------------------------------------------------------------------


def walk(counts: np.ndarray, n: int) -> np.ndarray:
    """The last step that passes in each run, -1 if none, from (runs, steps, 2) harms and gains."""
    passes = tango_score(counts[..., 0], counts[..., 1], n, 0.005) <= critical_value(n, 0.005, 0.05)
    return np.cumprod(passes, axis=1).sum(axis=1) - 1


def test_the_sequence_keeps_its_promise_where_the_loss_is_flat() -> None:
    """Loss 1.02 x max_loss at every threshold: whatever is certified is wrong. At most 5 % of 4,000 runs may be."""
    n, runs, steps = 1000, 4000, 50
    random = np.random.default_rng(11)
    top = random.multinomial(n, [0.0051, 0.0149, 0.98], size=runs)  # the top 2 % hold all the loss
    harms = [top[:, 0]]
    gains = [np.zeros(runs, dtype=int)]
    rest = n - top[:, 0] - top[:, 1]
    left = 0.98
    for _ in range(steps - 1):
        inside = random.binomial(rest, min(0.02 / left, 1.0))
        b = random.binomial(inside, 0.03)
        c = random.binomial(inside - b, 0.03 / 0.97)
        harms.append(harms[-1] + b)
        gains.append(gains[-1] + c)
        rest, left = rest - inside, left - 0.02
    counts = np.stack([np.stack(harms, 1), np.stack(gains, 1)], axis=2)
    wrong = int((walk(counts, n) >= 0).sum())
    assert stats.binomtest(wrong, runs, 0.05, alternative="greater").pvalue > 0.001
    anywhere = (tango_score(counts[..., 0], counts[..., 1], n, 0.005) <= critical_value(n, 0.005, 0.05)).any(axis=1)
    assert anywhere.mean() > 0.1  # without the sequence it would break


def test_certify_itself_walks_like_that() -> None:
    for seed in range(4):
        table = stream(1000, seed)
        found = certify(table)
        loss, confidence = differences(table).models[0].loss, table["confidence"]
        counts = np.array(
            [[[(loss[confidence > t] > 0).sum(), (loss[confidence > t] < 0).sum()] for t in coverage_grid(confidence)]]
        )
        passed = sum(step.passed for step in found.steps)
        assert walk(counts, 1000)[0] + 1 == passed


def test_a_large_model_that_does_not_speak_in_labels_is_refused(caplog):
    """Else its every answer would count as wrong, and everything would stay local."""
    rows = [{"small": "a", "confidence": i / 700, "large": "Category: a", "gold": "a"} for i in range(700)]
    with pytest.raises(ValueError, match=r"700 of 700 answers of the large model are none of the labels.*LabelParser"):
        certify(Outcomes.from_records(rows, about={"labels": ["a", "b"]}))
    few = [{**row, "large": "A!" if i % 50 == 0 else "a"} for i, row in enumerate(rows)]
    with caplog.at_level("WARNING"):
        certify(Outcomes.from_records(few, about={"labels": ["a", "b"]}))
    assert "14 of 700 answers" in caplog.text
    judged = [{**row, "small_ok": True, "large_ok": True} for row in rows]
    assert certify(Outcomes.from_records(judged, about={"labels": ["a", "b"]})).certified
