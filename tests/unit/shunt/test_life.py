"""The error probability of a whole life: what a folder counts, what a kill leaves, and thousands of lives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from langchain_dsplus.shunt.folder import Life, ShuntError, Use, close, end_table, next_alpha, open_use, spent
from langchain_dsplus.shunt.worker import Worker
from langchain_dsplus.threshold.exact import critical_value, tango_score
from tests.unit.shunt.conftest import World

MAX_LOSS, ROWS, LEVEL = 0.05, 300, 0.95


def new_life() -> Life:
    return Life(tables=["t"], uses=[], learned=0, candidate=None, forecast={})


def use(life: Life, **values: Any) -> Use:
    made = Use(
        version=1, threshold=0.5, coverage=0.5, alpha=next_alpha(life, LEVEL), n=ROWS, table=len(life["tables"]), until="u",
        opened="o", state="open",
    )  # fmt: skip
    life["uses"].append(made)
    made.update(values)  # type: ignore[typeddict-item]
    return made


def worst(life: Life, alpha_of: Callable[[Life], float], depth: int) -> float:
    """The largest sum of error probabilities that a learner can reach: it knows all outcomes, and chooses what is bad.

    A good policy is certified; a bad one has its chance, and is refused else; an alarm brings fresh rows.
    """
    if not depth:
        return 0.0
    found, alpha = [], alpha_of(life)
    for state, gain in (("certified", 0.0), ("refused", alpha), ("given up", alpha)):
        use(life, state=state)
        if gain:
            end_table(life)
        found.append(gain + worst(life, alpha_of, depth - 1))
        if gain:
            life["tables"].pop()
        life["uses"].pop()
    end_table(life)
    found.append(worst(life, alpha_of, depth - 1))
    life["tables"].pop()
    return max(found)


def test_whatever_comes_the_parts_of_a_life_sum_to_less_than_its_error_probability() -> None:
    assert worst(new_life(), lambda life: next_alpha(life, LEVEL), 7) < 1.0 - LEVEL
    # What follows a refusal with all of it again does not: the test could fail.
    full = next_alpha(new_life(), LEVEL)
    assert worst(new_life(), lambda _: full, 7) > 1.0 - LEVEL


@pytest.mark.parametrize("seed", range(5))
def test_what_is_spent_grows_with_each_chain_and_stays_within_the_life(seed: int) -> None:
    rng = np.random.default_rng(seed)
    life, before = new_life(), 0.0
    for turn in range(60):
        first = next_alpha(life, LEVEL)
        use(life)
        close(life, "certified" if rng.random() < 0.6 else "refused")
        if life["uses"][-1]["state"] == "refused":
            end_table(life)
        assert before <= spent(life, LEVEL) < 1.0 - LEVEL
        before = spent(life, LEVEL)
        assert (next_alpha(life, LEVEL) == first) == (life["uses"][-1]["state"] == "certified")
        if turn % 20 == 19:
            end_table(life)


def lives(
    alpha_of: Callable[[Life], float], learner: str, seed: int, count: int = 3000, uses: int = 9, *, keep: bool = False
) -> float:
    """The share of lives in which a policy that loses just `MAX_LOSS` is certified, by a learner that exploits bits.

    After a refusal the rows are fresh ones, unless `keep`. `again`: every policy is bad, and its harms lie on rows of
    its own. `half`: the next policy keeps the harms of the one before on a random half of the inputs, so where the rows
    stay one that was close is improved upon. `bait`: a good policy comes first in each table, for the chain to go on
    from.
    """
    rng = np.random.default_rng(seed)
    wrong = 0
    for _ in range(count):
        life, harm, bait = new_life(), np.zeros(ROWS, dtype=bool), False
        for turn in range(uses):
            fresh = rng.random(ROWS) < MAX_LOSS
            harm = np.where(rng.random(ROWS) < 0.5, harm, fresh) if learner == "half" and keep and turn else fresh
            alpha, bait = alpha_of(life), learner == "bait" and not bait
            made = use(life, state="certified" if bait else "refused")
            # As `significant` decides, where there are no gains: far quicker than an exact p-value each time.
            if bait or tango_score(int(harm.sum()), 0, ROWS, MAX_LOSS) > critical_value(ROWS, MAX_LOSS, alpha):
                if not bait and not keep:
                    end_table(life)
                continue
            made["state"] = "certified"
            wrong += 1
            break
    return wrong / count


@pytest.mark.parametrize("learner", ["again", "half", "bait"])
def test_thousands_of_lives_keep_to_five_percent(learner: str) -> None:
    assert lives(lambda life: next_alpha(life, LEVEL), learner, 1) <= 0.05
    # The same rows and error probability after a refusal too do not: the test could fail.
    assert lives(lambda life: next_alpha(life, LEVEL), learner, 1, count=1500, uses=12, keep=True) > 0.05


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
        assert shunt.worker.registry.live.number == certified[-1]["version"]
        assert [each["state"] for each in shunt.folder.life()["uses"]].count("open") == 0


def test_one_process_works_at_a_time(world: Callable[..., World]) -> None:
    here = world()
    with here.shunt() as shunt:
        with shunt.folder.working(), pytest.raises(ShuntError, match="another process is at work"):
            Worker(shunt.folder, shunt.store, shunt.worker.registry).work()
        shunt.work()
