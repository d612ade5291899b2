import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_dsplus.learning.noise import correct


def world(n=600, k=5, seed=0, bias=0.7):
    """A teacher that takes most of class 0 for class 1 and else errs little; a classifier that is often unsure."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n)
    said = np.where(rng.random(n) < 0.05, rng.integers(0, k, n), truth)
    said = np.where((truth == 0) & (rng.random(n) < bias), 1, said)
    logits = 1.5 * np.eye(k)[truth] + rng.normal(0, 1.0, (n, k))
    before = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return truth, np.eye(k)[said], before


def test_a_habit_of_the_teacher_is_found_and_undone():
    truth, said, before = world()
    posterior, confusion = correct(said, before, error=0.2)
    right = (posterior.argmax(axis=1) == truth).mean()
    assert right > (said.argmax(axis=1) == truth).mean() + 0.03
    assert right > (before.argmax(axis=1) == truth).mean()
    assert 0.45 < confusion[0, 1] < 0.8  # the guess beforehand was 0.05; the truth is 0.7
    assert confusion[2, 2] > 0.85


def test_answers_whose_truth_is_known_are_evidence():
    _, said, before = world(60, seed=1)
    more, answers, _ = world(600, seed=2)
    alone = correct(said, before, error=0.2)[1]
    _, confusion = correct(said, before, error=0.2, known=(answers, np.eye(5)[more]))
    assert abs(confusion[0, 1] - 0.7) < abs(alone[0, 1] - 0.7)
    assert confusion[0, 1] == pytest.approx(0.7, abs=0.1)


def test_a_teacher_that_hardly_errs_is_believed():
    _, said, _ = world(bias=0.0)
    posterior, _ = correct(said, np.full(said.shape, 0.2), error=1e-6)
    np.testing.assert_allclose(posterior, said, atol=1e-3)


def test_an_undecided_answer_leaves_the_matter_to_the_classifier():
    said, before = np.array([[0.5, 0.5, 0.0]]), np.array([[0.1, 0.8, 0.1]])
    posterior, _ = correct(said, before, error=0.1)
    assert posterior[0].argmax() == 1
    assert posterior[0, 2] < 0.05


@given(st.integers(1, 5), st.integers(0, 12), st.integers(0, 1000), st.floats(0.001, 0.999))
def test_what_comes_out_are_distributions(k, n, seed, error):
    rng = np.random.default_rng(seed)
    said, before = rng.dirichlet(np.full(k, 0.2), n).reshape(n, k), rng.dirichlet(np.full(k, 0.05), n).reshape(n, k)
    posterior, confusion = correct(said, before, error=error)
    assert posterior.shape == (n, k)
    assert np.isfinite(posterior).all()
    np.testing.assert_allclose(posterior.sum(axis=1), np.ones(n), atol=1e-9)
    np.testing.assert_allclose(confusion.sum(axis=1), np.ones(k), atol=1e-9)
