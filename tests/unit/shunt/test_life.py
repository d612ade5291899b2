"""The error probability of a whole life: what a folder counts, what a kill leaves, and thousands of lives."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from langchain_dsplus.shunt.folder import Life, ShuntError, Use, close, next_alpha, open_use, spent
from langchain_dsplus.shunt.worker import Worker
from langchain_dsplus.threshold.exact import critical_value, tango_score
from tests.unit.shunt.conftest import World

MAX_LOSS, ROWS, LEVEL = 0.05, 300, 0.95


def new_life() -> Life:
    return Life(tables=["t"], uses=[], learned=0, candidate=None, forecast={})


def use(life: Life, **values: Any) -> Use:
    made = Use(
        version=1, threshold=0.5, coverage=0.5, alpha=next_alpha(life, LEVEL), table=len(life["tables"]), until="u",
        opened="o", state="open",
    )  # fmt: skip
    life["uses"].append(made)
    made.update(values)  # type: ignore[typeddict-item]
    return made


def test_the_parts_of_a_life_sum_to_its_error_probability() -> None:
    life = new_life()
    alphas = []
    for turn in range(200):
        alphas.append(use(life)["alpha"])
        close(life, "refused")
        if turn % 3 == 2:
            life["tables"].append(f"t{turn}")
    assert sum(alphas) < spent(life, LEVEL) < 1.0 - LEVEL
    # On one table the policies that could have come count: each further one has at most half of what it had.
    for table in {each["table"] for each in life["uses"]}:
        mine = [each["alpha"] for each in life["uses"] if each["table"] == table]
        assert all(later <= earlier / 2.0 for earlier, later in pairwise(mine))


def lives(alpha_of: Callable[[Life], float], seed: int, count: int = 3000, uses: int = 6) -> float:
    """The share of lives in which a policy that loses just `MAX_LOSS` is certified, by a learner that exploits bits.

    Every policy is bad, and its harms lie on rows of its own. After a refusal the next policy keeps the harms of the
    one before on a random half of the inputs, so a policy that was close is improved upon on the very same rows.
    """
    rng = np.random.default_rng(seed)
    wrong = 0
    for _ in range(count):
        life = new_life()
        harm = rng.random(ROWS) < MAX_LOSS
        for turn in range(uses):
            if turn == 4:  # an alarm: fresh rows
                life["tables"].append("t2")
                harm = rng.random(ROWS) < MAX_LOSS
            alpha = alpha_of(life)
            use(life, state="refused")
            # As `significant` decides, where there are no gains: far quicker than an exact p-value each time.
            if tango_score(int(harm.sum()), 0, ROWS, MAX_LOSS) <= critical_value(ROWS, MAX_LOSS, alpha):
                wrong += 1
                break
            harm = np.where(rng.random(ROWS) < 0.5, harm, rng.random(ROWS) < MAX_LOSS)
    return wrong / count


@pytest.mark.parametrize("seed", range(3))
def test_thousands_of_lives_keep_to_five_percent(seed: int) -> None:
    assert lives(lambda life: next_alpha(life, LEVEL), seed) <= 0.05
    # The whole error probability each time does not: the test could fail.
    assert lives(lambda _: 1.0 - LEVEL, seed, count=1000) > 0.08


class Killed(BaseException):
    """A kill: nothing that catches errors catches it."""


@pytest.mark.parametrize("at", range(1, 9))
def test_a_kill_at_any_point_forgets_no_certification_and_repeats_none(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    import langchain_dsplus.registry.state as files
    from langchain_dsplus.shunt import folder

    here = world()
    with here.shunt() as shunt:
        shunt.batch(here.texts(300))
        real, count = files.replace_file, [0]

        def cut(file: Any, text: Any, **how: Any) -> None:
            count[0] += 1
            if count[0] == at:
                raise Killed
            real(file, text, **how)

        with monkeypatch.context() as patch:
            for module in (files, folder):
                patch.setattr(module, "replace_file", cut)
            patch.setattr("langchain_dsplus.registry.folders.replace_file", cut)
            try:
                shunt.worker.work()
            except Killed:
                pass
            else:
                assert count[0] < at, "nothing was cut off, though there was something to cut"
        before = shunt.folder.life()
        promised = open_use(before)
        shunt.work()
        after = shunt.folder.life()
        assert after["uses"][: len(before["uses"])] == before["uses"] or promised is not None
        if promised is not None:  # what was written down is what was tested, at its own price
            done = after["uses"][len(before["uses"]) - 1]
            assert done["alpha"] == promised["alpha"]
            assert done["threshold"] == promised["threshold"]
            assert done["state"] == "certified"
        here.live(shunt)
        certified = [each for each in shunt.folder.life()["uses"] if each["state"] == "certified"]
        assert len(certified) == 1
        assert shunt.worker.registry.live.number == certified[0]["version"]


def test_one_process_works_at_a_time(world: Callable[..., World]) -> None:
    here = world()
    with here.shunt() as shunt:
        with shunt.folder.working(), pytest.raises(ShuntError, match="another process is at work"):
            Worker(shunt.folder, shunt.store, shunt.worker.registry).work()
        shunt.work()
