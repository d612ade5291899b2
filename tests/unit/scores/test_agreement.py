"""LearnedAgreement: it leans on the largest probability, learns the label that is taken too often, and takes soft targets."""

from __future__ import annotations

import numpy as np
import pytest

from langchain_dsplus import Outcomes
from langchain_dsplus.answer import NotFittedError
from langchain_dsplus.calibration import auroc
from langchain_dsplus.scores import LearnedAgreement, load_score, score_outcomes

LABELS = ["a", "b", "c"]


def stream(n, seed, *, biased=True):
    """A small model that says `c` too often: its p(disagree) is known, the large model's distribution too."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([0.5, 0.5, 0.5], size=n)
    true = p.copy()
    if biased:
        true[:, 2] *= 0.15
        true /= true.sum(axis=1, keepdims=True)
    large = np.array([rng.choice(3, p=row) for row in true])
    return p, true, large


def table(n, seed, *, soft=False, **kwargs):
    p, true, large = stream(n, seed, **kwargs)
    rows = [
        {
            "small": LABELS[int(row.argmax())],
            "confidence": float(row.max()),
            "probabilities": dict(zip(LABELS, row.tolist(), strict=True)),
            "large": LABELS[said],
            "input_hash": f"k-{seed}-{place}",
            **({"large_probabilities": dict(zip(LABELS, held.tolist(), strict=True))} if soft else {}),
        }
        for place, (row, held, said) in enumerate(zip(p, true, large, strict=True))
    ]
    return Outcomes.from_records(rows, about={"labels": LABELS})


@pytest.mark.parametrize("seed", range(4))
def test_it_learns_the_label_that_is_taken_too_often(seed):
    score = LearnedAgreement().fit(table(400, seed))
    fresh = score_outcomes(table(4000, seed + 50), score)
    agree = np.array([a == b for a, b in zip(fresh.values("small"), fresh.values("large"), strict=True)])
    assert auroc(fresh["confidence"], agree) > auroc(table(4000, seed + 50)["confidence"], agree) + 0.05
    assert fresh.about["score"] == f"learned_agreement {score.version}"


@pytest.mark.parametrize("seed", range(4))
def test_where_there_is_nothing_to_learn_it_is_the_largest_probability(seed):
    score = LearnedAgreement().fit(table(200, seed, biased=False, soft=True))
    p, _, _ = stream(2000, seed + 50)
    order = np.corrcoef(np.argsort(np.argsort(score.scores(p))), np.argsort(np.argsort(p.max(axis=1))))[0, 1]
    assert order > 0.97


def test_soft_targets_say_more_than_choices():
    p, true, _ = stream(4000, 99)
    wanted = true[np.arange(len(p)), p.argmax(axis=1)]

    def worth(*, soft):
        scores = [LearnedAgreement().fit(table(80, seed, soft=soft)).scores(p) for seed in range(8)]
        return np.mean([np.corrcoef(score, wanted)[0, 1] for score in scores])

    assert worth(soft=True) > worth(soft=False) + 0.01


def test_gold_wins_over_what_the_large_model_holds_likely():
    rows = [{**row, "gold": row["small"]} for row in table(200, 1, soft=True).to_records()]
    about = {"labels": LABELS}
    with_gold = LearnedAgreement().fit(Outcomes.from_records(rows, about=about))
    hard = [{k: v for k, v in row.items() if k != "large_probabilities"} for row in rows]
    assert with_gold.version == LearnedAgreement().fit(Outcomes.from_records(hard, about=about)).version


def test_saved_alone_and_in_a_batch(tmp_path):
    score = LearnedAgreement().fit(table(200, 1))
    score.save(tmp_path)
    loaded = load_score(tmp_path)
    assert (loaded.version, loaded.fitted_on) == (score.version, score.fitted_on)
    p, _, _ = stream(50, 3)
    answers = [
        {"choice": "", "probabilities": dict(zip(LABELS[::-1], r[::-1], strict=True)), "confidence": 0} for r in p
    ]
    together = loaded([None] * 50, answers)
    assert together == score.scores(p).tolist() == [score([None], [answer])[0] for answer in answers]
    assert np.isfinite(score.scores([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])).all()


def test_what_it_refuses():
    with pytest.raises(NotFittedError, match="not fitted"):
        LearnedAgreement().scores([[1.0]])
    with pytest.raises(NotFittedError, match="not fitted"):
        _ = LearnedAgreement().version
    with pytest.raises(ValueError, match="at least 50"):
        LearnedAgreement().fit(table(40, 1))
    with pytest.raises(ValueError, match="shape"):
        LearnedAgreement().fit_rows(np.ones((60, 2)), np.ones(60), labels=LABELS)
    with pytest.raises(ValueError, match="probabilities"):
        LearnedAgreement().fit(Outcomes({"small": ["a"], "confidence": [0.5], "large": ["a"]}))
    score = LearnedAgreement().fit(table(60, 1))
    with pytest.raises(ValueError, match="needs the answers"):
        score(["text"])
    with pytest.raises(ValueError, match="exactly the labels"):
        score([None], [{"choice": "a", "probabilities": {"a": 1.0}, "confidence": 1.0}])
