"""Replies of the large model that are no label: counted and named, never earned by the small model unless asked for."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.report import render_report
from langchain_dsplus.threshold.certify import certify
from langchain_dsplus.threshold.curves import cost_quality_curve
from langchain_dsplus.threshold.differences import differences

LABELS = ["a", "b", "c"]
ABOUT = {"score": "max_probability", "labels": LABELS}


def draw(
    seed: int, n: int, *, small: float, large: float, unusable: float, where: str = "any", table: bool = True
) -> Any:
    """A table; by row what a reader of every reply would see lost, 1, 0 or -1; and confidence."""
    random = np.random.default_rng(seed)
    gold = random.integers(0, 3, n)
    says = {
        name: np.where(random.random(n) < right, gold, (gold + 1) % 3) for name, right in (("s", small), ("l", large))
    }
    confidence = np.where(says["s"] == gold, 0.5, 0.3) + 0.5 * random.random(n)
    hidden = random.random(n) < unusable
    if where == "lost":  # just where the small model is wrong
        hidden &= says["s"] != gold
    lost = (says["l"] == gold).astype(int) - (says["s"] == gold)
    if not table:
        return None, lost, confidence
    rows = [
        {
            "small": LABELS[says["s"][i]],
            "confidence": float(confidence[i]),
            "large": f"I would say {LABELS[says['l'][i]].upper()}." if hidden[i] else LABELS[says["l"][i]],
            "gold": LABELS[gold[i]],
        }
        for i in range(n)
    ]
    return Outcomes.from_records(rows, about=ABOUT), lost, confidence


@pytest.mark.parametrize("where", ["any", "lost"])
@pytest.mark.no_cover
def test_a_certificate_keeps_its_promise_about_what_the_replies_meant(where):
    """The small model is 8 points worse; replies that nobody could read hide it from a rule that counts them wrong."""
    settings_ = {"small": 0.87, "large": 0.95, "unusable": 0.6, "where": where}
    broken = careless = 0
    for seed in range(30):
        outcomes, _, _ = draw(seed, 600, **settings_)
        _, truth, fresh = draw(10_000 + seed, 20_000, table=False, **settings_)
        for mode in ("unknown", "wrong"):
            outcomes.about["certifications"] = 0
            found = certify(outcomes, "3 points", steps=10, unusable_large=mode)
            loss = truth[fresh > found.threshold].sum() / len(truth)
            if mode == "unknown":
                broken += bool(loss > 0.03)
            else:
                careless += bool(loss > 0.03)
    assert broken <= 5, "5 % of 30, and chance"
    assert careless >= 15, "the test could not fail"


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(LABELS),
            st.sampled_from([*LABELS, None, "hm", "A", ""]),
            st.none() | st.sampled_from(LABELS),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_the_rule_row_by_row(rows):
    table = Outcomes.from_records(
        [{"small": s, "confidence": 0.5, "large": large, "gold": gold} for s, large, gold in rows], about=ABOUT
    )
    for mode in ("unknown", "wrong"):
        found = differences(table, unusable_large=mode)
        for place, (small, large, gold) in enumerate(
            zip(*(table.values(c) for c in ("small", "large", "gold")), strict=True)
        ):
            loss = found.models[0].loss[place]
            right = gold is not None and small == gold
            label = large in LABELS
            assert found.unusable[place] == (large is not None and not label)
            assert found.unanswered[place] == (large is None)
            assert found.compared[place] == (label or (mode == "wrong" and large is not None))
            if not label and (mode == "unknown" or large is None):
                assert loss == (0 if right else 1)
            elif not label:
                assert loss == (-1 if right else 0)
            elif small == large:
                assert loss == 0
            elif gold is None:
                assert loss == 1
            else:
                assert loss == (large == gold) - right


@pytest.mark.parametrize("mode", ["unknown", "wrong"])
def test_the_same_rows_everywhere(mode):
    outcomes, _, _ = draw(1, 1500, small=0.9, large=0.94, unusable=0.05)
    n, other = 1500, sum(value not in LABELS for value in outcomes.values("large"))
    certificate = certify(outcomes, "6 points", unusable_large=mode)
    assert (certificate.unusable, certificate.unusable_large, certificate.unanswered) == (other, mode, 0)
    assert f"On {other} of 1,500 rows" in certificate.verdict
    assert ("wrong, as was asked for" in certificate.verdict) == (mode == "wrong")
    large = next(item for item in certificate.baselines if item.name == "always large")
    curve = cost_quality_curve(outcomes, unusable_large=mode)
    assert large.accuracy == pytest.approx(curve.large_accuracy)
    assert curve.n == (n if mode == "wrong" else n - other)
    shown = f"{100 * curve.large_accuracy:.1f}"
    page = render_report(outcomes, certificate)
    assert f"large model alone {shown}" in re.sub(r"<[^>]+>", "", page).replace("\u00a0", " ")
    assert shown in certificate.verdict
    small = next(item for item in certificate.baselines if item.name == "always small")
    if mode == "wrong":
        assert large.accuracy - small.accuracy == pytest.approx(small.loss)
    else:
        assert f"Accuracies are over the other {n - other:,} rows" in certificate.verdict


def test_all_replies_unusable_and_a_mode_that_is_none():
    rows = [{"small": "a", "confidence": i / 50, "large": "Category: a", "gold": "a"} for i in range(50)]
    with pytest.raises(ValueError, match="LabelParser"):
        certify(Outcomes.from_records(rows, about=ABOUT))
    with pytest.raises(ValueError, match="`unusable_large` must be"):
        certify(Outcomes.from_records(rows), unusable_large="right")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
def test_replies_to_the_pruned_prompt_are_counted_and_named_too(share):
    outcomes, _, _ = draw(3, 1000, small=0.9, large=0.95, unusable=0.0)
    random = np.random.default_rng(0)
    rows = outcomes.to_records()
    pruned = [("None of them." if random.random() < share else row["large"]) for row in rows]
    table = Outcomes.from_records(
        [{**row, "large_pruned": said} for row, said in zip(rows, pruned, strict=True)], about=ABOUT
    )
    found = certify(table, "5 points", prompt="pruned", start=0.5)
    count = pruned.count("None of them.")
    assert found.unusable_pruned == count
    assert (f"On {count:,} of 1,000 rows" in found.verdict) == bool(count)
    assert ("pruned prompt is none of the labels" in found.verdict) == bool(count)
    assert type(found).from_json(found.to_json()) == found
    assert certify(table, "5 points").unusable_pruned == 0
