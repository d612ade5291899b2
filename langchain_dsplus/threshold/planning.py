"""How many rows a certificate will need, before anything is collected."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from langchain_dsplus._imports import require
from langchain_dsplus.losses import Loss, parse_loss, points
from langchain_dsplus.threshold.exact import least_rows, paired_p_value


@dataclass(frozen=True)
class SampleSizePlan:
    """How many rows to collect.

    Attributes:
        n: Rows at which a certificate is reached with probability `power`; None where the loss that is assumed is not
            below `max_loss`: then no number of rows is enough.
        least_n: Rows below which nothing can be shown, whatever they hold.
        max_loss: The loss to be ruled out, a share of inputs.
        level: Of the certificate.
        harm_rate: Assumed share of inputs that the cascade loses.
        gain_rate: Assumed share that it wins.
        power: Probability that was asked for.
        note: The same in words.
    """

    n: int | None
    least_n: int
    max_loss: float
    level: float
    harm_rate: float
    gain_rate: float
    power: float
    note: str

    def __int__(self) -> int:
        if self.n is None:
            raise ValueError(self.note)
        return self.n


def plan_sample_size(
    max_loss: Loss = 0.005,
    level: float = 0.95,
    *,
    harm_rate: float = 0.0,
    gain_rate: float = 0.0,
    power: float = 0.8,
) -> SampleSizePlan:
    """Return how many rows are needed to certify one threshold, if harms and gains come at the assumed rates.

    By the normal approximation to the paired test, n = (z_level + z_power)^2 (h + g - (h - g)^2) / (max_loss - (h -
    g))^2; never fewer than `least_n`, and checked with the exact test on the expected counts. Small and large model
    disagree on at least h + g of the inputs that would be accepted, so a pilot of a few hundred rows tells the rates.

    Args:
        max_loss: The loss to be ruled out: `"0.5 points"`, or a share of inputs below .1 (see `losses.parse_loss`).
        level: Of the certificate, in [0.5, 1).
        harm_rate: Share of all inputs that the cascade would lose, in [0, 1]. Without a harm and without a gain, as by
            default, the plan is the least there is; harms as frequent as gains, 2 % each, are a sober guess.
        gain_rate: Share that it would win.
        power: Wanted probability of success, in (0, 1).

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> plan_sample_size(0.005, harm_rate=0.02, gain_rate=0.02).n
        9893
        >>> plan_sample_size(0.005).n
        598
    """
    return plan_rows(parse_loss(max_loss), level, harm_rate=harm_rate, gain_rate=gain_rate, power=power)


def plan_rows(
    max_loss: float, level: float, *, harm_rate: float, gain_rate: float, power: float = 0.8
) -> SampleSizePlan:
    """`plan_sample_size` for a loss that was read already, as a share."""
    if not (0.5 <= level < 1.0 and 0.0 < power < 1.0):
        raise ValueError("`power` must lie in (0, 1), `level` in [0.5, 1)")
    if not (0.0 <= harm_rate <= 1.0 and 0.0 <= gain_rate <= 1.0 and harm_rate + gain_rate <= 1.0):
        raise ValueError("`harm_rate` and `gain_rate` must be at least 0 and sum to at most 1")
    special: Any = require("scipy.special", "sklearn")
    least = least_rows(max_loss, level)
    loss = harm_rate - gain_rate
    rows: int | None = None
    if loss < max_loss:
        z = float(special.ndtri(level)) + max(float(special.ndtri(power)), 0.0)
        variance = harm_rate + gain_rate - loss * loss
        rows = max(least, math.ceil(z * z * variance / (max_loss - loss) ** 2))
        while not _expected(rows, max_loss, 1.0 - level, harm_rate, gain_rate):
            rows = math.ceil(rows * 1.02) + 1
    rates = f"{harm_rate:.2%} harms and {gain_rate:.2%} gains"
    if rows is None:
        note = f"With {rates} the loss is not below {points(max_loss)}: no number of rows can show that it is."
    else:
        note = (
            f"About {rows:,} rows show a loss below {points(max_loss)} at level {level:.0%} with probability "
            f"{power:.0%}, if there are {rates}. Below {least:,} rows nothing can be shown."
        )
        if harm_rate == 0.0 == gain_rate:
            note += " One harm in the sample, and it takes more: plan with the rates of a pilot."
    return SampleSizePlan(rows, least, max_loss, level, harm_rate, gain_rate, power, note)


def _expected(n: int, max_loss: float, alpha: float, harm_rate: float, gain_rate: float) -> bool:
    """Whether the expected counts of n rows pass."""
    if n > 200_000:  # far from where the approximation could err
        return True
    harms, gains = math.floor(n * harm_rate), math.floor(n * gain_rate)
    return paired_p_value(harms, gains, n, max_loss) <= alpha
