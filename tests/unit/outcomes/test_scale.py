"""Many rows: memory by the row, not time, which says more about the machine."""

import tracemalloc

import numpy as np
import pytest

from langchain_dsplus.outcomes import Outcomes

N = 100_000
LABELS = [f"intent number {n}" for n in range(50)]


def rows():
    rng = np.random.default_rng(0)
    small, large = rng.integers(0, 50, N).tolist(), rng.integers(0, 50, N).tolist()
    scores = rng.random(N).tolist()
    for n in range(N):
        yield {
            "id": f"row-{n}",
            "small": "".join(LABELS[small[n]]),
            "confidence": scores[n],
            "large": "".join(LABELS[large[n]]),
            "gold": None if n % 3 else LABELS[large[n]],
            "probabilities": {"a": scores[n], "b": 1.0 - scores[n]},
            "tokens_input": n % 500,
        }


def measured(make):
    """What was made, its bytes, and the most that was there in between."""
    tracemalloc.start()
    try:
        kept = make()
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return kept, now, peak


# An id takes about 60 bytes and its place in the list 8; three labels 12; two numbers 16; two probabilities 17.
KEPT, PEAK = 140, 250
CHUNK = 12_000_000  # what is looked at together, however long the table


@pytest.fixture(scope="module")
def made():
    return measured(lambda: Outcomes.from_records(rows(), about={"labels": LABELS}))


@pytest.fixture(scope="module")
def outcomes(made):
    return made[0]


@pytest.mark.no_cover
def test_a_row_is_small(made):
    _, kept, peak = made
    assert kept < KEPT * N
    assert peak < PEAK * N + CHUNK


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.no_cover
def test_a_row_that_was_read_is_small(tmp_path, outcomes, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / "rows"
    some = outcomes.select(np.arange(N // 5))  # text is slow to read while every object is counted
    getattr(some, f"to_{kind}")(path)
    table, kept, peak = measured(lambda: getattr(Outcomes, f"from_{kind}")(path))
    assert table.data_hash() == some.data_hash()
    assert kept < KEPT * len(some)
    assert peak < PEAK * len(some) + CHUNK


def test_parts_share_the_ids(outcomes):
    half, kept, _ = measured(lambda: outcomes.select(np.arange(0, N, 2)))
    assert len(half) == N // 2
    assert kept < 40 * N
    _, kept, peak = measured(lambda: outcomes.split(0.5))
    assert kept < 80 * N
    assert peak < 160 * N


def test_comparing_makes_no_objects(outcomes):
    for make in (
        lambda: outcomes.correct("small"),
        lambda: outcomes.valid("large"),
        lambda: outcomes.agree("small", "large"),
        lambda: outcomes["small"],
    ):
        assert measured(make)[2] < 40 * N
    some = outcomes.select(np.arange(N // 5))
    assert measured(some.data_hash)[2] < 120 * len(some) + CHUNK / 4
