"""The streams' truth against draws from them, and the benchmarks' shortcut against `certify` itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks import certify_power, certify_scale, certify_validity, streams
from langchain_dsplus.threshold.exact import critical_value, significant

ALL = (*streams.SINGLE, *streams.GROUPED, *streams.KNEES)


@pytest.mark.parametrize("stream", ALL, ids=lambda stream: stream.name)
def test_the_truth_is_what_draws_show(stream: streams.Stream) -> None:
    rng = np.random.default_rng(3)
    sample = stream.draw(rng, 400_000)
    thresholds = np.quantile(sample.scores, [0.985, 0.9, 0.5, 0.1, 0.0]) - 1e-6
    for threshold in thresholds:
        values = np.where(sample.scores > threshold, sample.loss, 0).astype(float)
        if sample.groups is None:
            error = values.std() / math.sqrt(len(values))
        else:  # by groups: u = sum - mean * size
            u = np.bincount(sample.groups, weights=values - values.mean())
            error = u.std() * math.sqrt(len(u)) / len(values)
        assert abs(values.mean() - stream.truth(threshold)) < 4.5 * error + 1e-9, threshold
    assert stream.truth(math.inf) == 0.0


def test_the_synthetic_stream_is_the_one_described() -> None:
    sample = streams.SYNTHETIC.draw(np.random.default_rng(0), 1_000_000)
    assert abs((sample.loss > 0).mean() - 0.058) < 0.001
    assert abs((sample.loss < 0).mean() - 0.042) < 0.001
    for threshold in (0.6, 0.9, 0.99):
        assert abs(streams.true_coverage(threshold) - (sample.scores > threshold).mean()) < 0.002
    assert streams.true_coverage(math.inf) == 0.0
    assert streams.true_coverage(-math.inf) == 1.0


def test_flat_streams_lose_just_too_much_everywhere() -> None:
    for stream in (streams.FLAT_LOSS, *streams.SINGLE[2:3]):
        assert stream.truth(0.975) == pytest.approx(1.02 * stream.max_loss)
        assert stream.truth(0.0) == pytest.approx(1.02 * stream.max_loss)


def test_passing_is_the_exact_test() -> None:
    n, max_loss = 1000, 0.005
    limit = critical_value(n, max_loss, 0.05)
    rng = np.random.default_rng(1)
    harms, gains = rng.integers(0, 40, (30, 2)), rng.integers(0, 60, (30, 2))
    passed = streams.passing(harms, gains, n, max_loss)
    scores = streams.tango_score(harms, gains, n, max_loss)
    close = np.argsort(np.abs(scores.ravel() - limit))[:12]  # the others are clear
    for place in close:
        b, c = int(harms.ravel()[place]), int(gains.ravel()[place])
        assert passed.ravel()[place] == significant(b, c, n, max_loss, 0.05)
    assert passed.any()
    assert not passed.all()


@pytest.mark.parametrize("stream", [*streams.SINGLE, *streams.GROUPED], ids=lambda stream: stream.name)
def test_the_shortcut_is_certify(stream: streams.Stream) -> None:
    rng = np.random.default_rng(4)
    for _ in range(3):
        sample = stream.draw(rng, 1000)
        found = streams.follow(sample)
        count = streams.certified_step(sample, found, stream.max_loss)
        certificate = streams.by_certify(sample, stream.max_loss)
        assert certificate.threshold == streams.threshold_after(found, count)
        assert [(step.harms, step.gains) for step in certificate.steps] == list(
            zip(found.harms.tolist(), found.gains.tolist(), strict=True)
        )


def test_sequences_stop_at_the_first_failure_and_the_others_do_not() -> None:
    passed = np.array([[1, 1, 0, 1], [0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=bool)
    percents = (10, 20, 30, 40)
    assert certify_power.after(passed, percents).tolist() == [20, 0, 40, 0]
    assert certify_power.laxest(passed, percents).tolist() == [40, 40, 40, 0]
    assert [streams.leading(row) for row in passed] == [2, 0, 4, 0]
    assert [streams.last(row) for row in passed] == [4, 4, 4, 0]


def test_a_fallback_with_all_of_the_weight_on_the_first_step_is_the_fixed_sequence() -> None:
    splits = certify_power.Splits(streams.SYNTHETIC, 1000, 40, np.random.default_rng(0))
    everything = certify_power.procedures()
    assert certify_power.fallback(splits, {2: 1.0}).tolist() == everything["certify"](splits).tolist()
    scored = splits.score(everything["certify"](splits))
    assert 0.3 < scored["coverage.low"] < scored["coverage"] < scored["coverage.high"] < 0.7
    # More allowed, more kept; and nothing at all by Hoeffding's inequality.
    assert splits.score(everything["any"](splits))["coverage"] >= scored["coverage"]
    assert splits.score(everything["hoeffding"](splits))["coverage"] == 0.0


def test_naive_thresholds_break_the_promise_and_the_table_says_so() -> None:
    class Small(certify_validity.Context):
        def pick(self, full: object, quick: object) -> object:
            return quick

    found = certify_validity.measure(Small("certify_validity"), streams.FLAT_LOSS, 1000, 60, 1)
    assert found["flat.1000.violations"] < 0.2
    assert found["flat.1000.naive_violations"] > 0.6
    figures = {"runs": 60, "asked": 1, **found}
    worst, table, _ = certify_validity.tables(figures)
    assert len(worst.rows) == len(table.rows) == 1
    assert worst.rows[0][0] == table.rows[0][0] == "flat loss, 0.5 points"


def test_a_table_of_the_scale_benchmark_has_as_many_rows_as_asked() -> None:
    assert len(certify_scale.table_of(500, 1)) == 500
