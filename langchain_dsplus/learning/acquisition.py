"""Which inputs are worth a call of the large model, and which answers are worth keeping."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_dsplus._arrays import Floats
from langchain_dsplus.learning.targets import ask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.small_models.base import SmallModel


@dataclass(frozen=True)
class Acquired:
    """Which inputs to ask the large model about.

    Attributes:
        uncertain: Places of those with a small margin, spread over the predicted classes.
        random: Places of those drawn at random from all inputs: an unbiased sample of what is not in `uncertain`.
    """

    uncertain: list[int]
    random: list[int]

    @property
    def places(self) -> list[int]:
        """All of them."""
        return [*self.uncertain, *self.random]


def acquire(
    model: SmallModel,
    inputs: Sequence[Any],
    budget: int,
    *,
    random_share: float = 0.1,
    exclude: Collection[int] = (),
    seed: int = 0,
) -> Acquired:
    """Choose the inputs whose answers by the large model teach the most, under a budget of calls.

    The margin between the two likeliest classes picks inputs near a border (margin sampling; best of its kind for
    cascades in Ramirez et al. 2023, 2310.13561). Taken alone it picks the same few classes again and again, so the
    predicted classes take turns, each with its smallest margin first. A share is drawn at random: it finds what the
    model is wrongly sure of, and is unbiased. Inputs that the model cannot answer come last.

    Args:
        model: The small model as it is now.
        inputs: As in `invoke`.
        budget: How many to choose; fewer where there are fewer.
        random_share: Part of the budget that goes to inputs drawn at random, in [0, 1].
        exclude: Places that were asked already.
        seed: Of the random draw.

    Raises:
        ValueError: If `budget` is negative or `random_share` outside [0, 1].

    Example:
        ```python
        chosen = acquire(small, texts, budget=400)
        answers = llm_chain.batch([texts[place] for place in chosen.places])
        ```
    """
    if budget < 0 or not 0.0 <= random_share <= 1.0:
        msg = "`budget` must be at least 0, and `random_share` must lie in [0, 1]"
        raise ValueError(msg)
    free = np.setdiff1d(np.arange(len(inputs)), np.fromiter(exclude, dtype=np.intp))
    budget = min(budget, len(free))
    drawn = round(budget * random_share)
    rows, _, answered = ask(model, [inputs[place] for place in free])
    order = free[_by_turns(rows, answered)]
    uncertain = order[: budget - drawn]
    rest = np.setdiff1d(free, uncertain)
    chance = np.random.default_rng(seed).permutation(rest)[:drawn]
    return Acquired(uncertain=uncertain.tolist(), random=chance.tolist())


def _by_turns(rows: Floats, answered: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Order rows: class after class of the predicted ones gives its row of smallest margin, again and again."""
    if not len(rows):
        return np.zeros(0, dtype=np.intp)
    top = np.sort(rows, axis=1)
    margins = np.where(answered, top[:, -1] - (top[:, -2] if rows.shape[1] > 1 else 0.0), math.inf)
    turn = np.zeros(len(rows))
    choice = rows.argmax(axis=1)
    for label in np.unique(choice):
        members = np.flatnonzero(choice == label)
        turn[members[np.argsort(margins[members], kind="stable")]] = np.arange(len(members))
    turn[~answered] = math.inf
    return np.lexsort((margins, turn))
