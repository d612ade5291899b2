"""The published figures of chosen labels, made again in part."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import data, harness, selective


@pytest.fixture(scope="module")
def world():
    try:
        data.find("banking77_gpt")
    except (OSError, LookupError, ValueError) as error:
        pytest.skip(str(error))
    return selective.world_of(harness.Context("selective"))


def test_a_part_of_the_published_figures_comes_out_again(world):
    body = harness.read("selective")
    assert body is not None
    figures = body["figures"]
    assert (figures["n"], figures["agreed"]) == (len(world.gold), int(world.agree.sum()))
    rng = np.random.default_rng(7)
    found = selective.measure(world, [world.draw(rng, selective.DEFAULT / 100) for _ in range(12)], lambda _steps: None)
    for panel in selective.PANELS:
        assert found[f"{panel}.truth"] == pytest.approx(figures[f"{panel}.truth"], abs=0.2)
        # The mean of a dozen draws lies near that of a thousand.
        assert found[f"{panel}.naive"] == pytest.approx(figures[f"{panel}.naive"], abs=1.5)
        assert found[f"{panel}.width"] == pytest.approx(figures[f"{panel}.width"], rel=0.15)
        for arm in ("2", "5", "10", "half"):
            covered = figures.get(f"{panel}.{arm}.covered")
            assert covered is None or covered >= 93.0, (panel, arm)


def test_a_draw_through_files_is_the_same_draw(world):
    selective.through_files(world, 99)
