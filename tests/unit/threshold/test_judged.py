"""What a judge hides is counted: the promise holds in thousands of draws, and fails where it is not counted."""

import numpy as np
import pytest

from langchain_dsplus.calibration import binomial_upper
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.threshold.certificate import Certificate
from langchain_dsplus.threshold.certify import certify
from langchain_dsplus.threshold.exact import significant
from langchain_dsplus.threshold.judged import JudgeError, hidden_by_judge

ERROR = JudgeError(small=1000, false_right=3, large=800, false_wrong=1, n=1800, wrong=9, unclear=2)


def table(harms, gains, n, error=None, **extra):
    """Judged outcomes with so many harms and gains."""
    small = [False] * harms + [True] * (n - harms)
    large = [True] * (n - gains) + [False] * gains
    about = {} if error is None else {"judge": {"name": "x", "version": "1", "exact": False, "error": error.to_dict()}}
    columns = {"id": [str(k) for k in range(n)], "small_ok": small, "large_ok": large, "confidence": [0.5] * n}
    return Outcomes({**columns, **extra}, about=about)


@pytest.mark.parametrize("labels", ["who", "mixed"])
@pytest.mark.parametrize("side", ["small", "large", "both"])
@pytest.mark.no_cover
def test_the_promise_holds_in_thousands_of_draws(labels, side):
    rng = np.random.default_rng(("small", "large", "both").index(side))
    n, n_labelled, promise, gain, draws = 4000, 1000, 0.02, 0.01, 4000
    right, wrong = {"small": (0.008, 0.0), "large": (0.0, 0.008), "both": (0.004, 0.004)}[side]
    # The true loss is the promise itself; the judge shows that much less.
    rates = [promise + gain - right - wrong, gain]
    broken = {True: 0, False: 0}
    for _ in range(draws):
        harms, gains, _ = rng.multinomial(n, [*rates, 1.0 - sum(rates)])
        hits = int(rng.binomial(n_labelled, right)), int(rng.binomial(n_labelled, wrong))
        who = (n_labelled, hits[0], n_labelled, hits[1]) if labels == "who" else (0, 0, 0, 0)
        error = JudgeError(*who, n=2 * n_labelled, wrong=sum(hits))
        judge = hidden_by_judge({"judge": {"error": error.to_dict()}}, 0.05, 1, parts=False)
        room = round(promise - judge.hidden, 4)  # so that critical values are few; to the lax side by 5e-5 at most
        broken[True] += room > 0.0 and significant(int(harms), int(gains), n, room, judge.alpha)
        broken[False] += significant(int(harms), int(gains), n, promise, 0.05)
    assert broken[True] / draws <= 0.05
    assert broken[False] / draws > 0.5  # so the draws can tell


def test_certify_counts_it_against_the_loss():
    plain, judged = certify(table(4, 2, 3000), "1 point"), certify(table(4, 2, 3000, ERROR), "1 point")
    assert plain.certified
    assert not judged.certified
    hidden = ERROR.hidden(0.025)
    assert judged.alpha == plain.alpha == pytest.approx(0.05)
    lax = certify(table(4, 2, 3000, ERROR), "3 points")
    assert lax.certified
    assert lax.loss_upper > certify(table(4, 2, 3000), "3 points").loss_upper + 0.9 * hidden
    assert "The judge was wrong on 9 of 1,800 labelled outputs" in lax.verdict
    assert Certificate.from_json(lax.to_json()) == lax


def test_a_judge_that_may_hide_everything_refuses_and_says_why():
    refused = certify(table(0, 0, 3000, JudgeError(0, 0, 0, 0, n=10, wrong=0)), "1 point")
    assert not refused.certified
    assert "label more outputs" in refused.help["reason"]


def test_a_judge_whose_error_nobody_knows_is_named():
    outcomes = table(0, 0, 1000)
    outcomes.about["judge"] = {"name": "llm", "version": "1", "exact": False, "error": None}
    assert any(item["kind"] == "judge_unseen" for item in certify(outcomes).findings)
    outcomes.about["judge"]["exact"] = True
    assert not any(item["kind"] == "judge_unseen" for item in certify(outcomes).findings)


@pytest.mark.parametrize("options", [{"unit": "group"}, {"slices": ["a"]}, {"class_floor": "10 points"}])
def test_what_is_not_about_all_inputs_is_refused(options):
    outcomes = table(0, 0, 40, ERROR, group=[str(k) for k in range(40)], slices=[{"a": "b"}] * 40)
    with pytest.raises(ValueError, match="labelled rows bound"):
        certify(outcomes, **options)


def test_bounds_are_those_of_clopper_and_pearson():
    assert binomial_upper(0, 300, 0.05) == pytest.approx(1 - 0.05 ** (1 / 300))
    rng = np.random.default_rng(0)
    for n, p in ((50, 0.1), (400, 0.01), (2000, 0.003)):
        hits = rng.binomial(n, p, size=2000)
        below = np.mean([binomial_upper(int(k), n, 0.05) < p for k in hits])
        assert below <= 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5
    assert ERROR.hidden(0.05, small_models=2) > ERROR.hidden(0.05) > 3 / 1000 + 1 / 800


@pytest.mark.parametrize(
    "counts",
    [
        {"small": 1, "false_right": 2, "large": 1, "false_wrong": 0, "n": 2, "wrong": 0},
        {"small": 0, "false_right": 0, "large": 0, "false_wrong": 0, "n": 0, "wrong": 0},
        {"small": 1, "false_right": 0, "large": 0, "false_wrong": 0, "n": 2, "wrong": 0},
        {"small": 0, "false_right": 0, "large": 0, "false_wrong": 0, "n": 2, "wrong": -1},
        {"small": 0},
        {"n": 2, "other": 1},
    ],
)
def test_an_impossible_error_is_refused(counts):
    outcomes = table(0, 0, 40)
    outcomes.about["judge"] = {"error": counts}
    with pytest.raises(ValueError, match="judge"):
        certify(outcomes)
