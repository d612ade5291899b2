"""`TransferCertificate`: that decisions on transferred texts are hardly worse, on what evidence, about which chains."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import Field

from langchain_dsplus._imports import require
from langchain_dsplus.calibration import binomial_upper
from langchain_dsplus.losses import points
from langchain_dsplus.threshold.certificate import STRICT, Count, Written
from langchain_dsplus.threshold.exact import loss_upper_bound, paired_p_value
from langchain_dsplus.threshold.planning import plan_rows

_Number: TypeAlias = Annotated[int | float, Field(ge=0)]
_GIVEN = ("harms", "gains", "n", "changed", "unknown", "failed", "test", "max_loss", "level")


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval.

    Attributes:
        value: The estimate.
        low: Lower end.
        high: Upper end.
    """

    __pydantic_config__ = STRICT

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Savings:
    """What transfer saves, both models counted. Negative where it costs more than it saves.

    Attributes:
        tokens_plain: Tokens of a case with the plain prompt, in and out, all calls; the mean.
        tokens_transferred: With the transferred one, the small model's calls included.
        tokens_large: Of these, the large model's.
        tokens: Share of tokens saved by both models together, by bootstrap over cases.
        large: Share of the large model's tokens saved.
        money: Money saved per 1,000 cases, prompt-cache prices counted; None where no price was given.
        currency: Of `money`.
        n: Cases that reported their tokens.
    """

    __pydantic_config__ = STRICT

    tokens_plain: float
    tokens_transferred: float
    tokens_large: float
    tokens: Interval
    large: Interval
    money: Interval | None
    currency: str | None
    n: Count


@dataclass(frozen=True)
class TransferCertificate(Written):
    """The result of `certify_transfer`. Pass it as `PromptTransfer(certificate=...)`.

    Attributes:
        status: `CERTIFIED`, or `NOT_CERTIFIED`: then the original texts go on.
        max_loss: The promise: the decisions are worse by less than this share of inputs.
        level: With this probability.
        test: `paired`: wrong decisions are counted against gold. `binomial`: there is no gold at all, so that every
            changed decision is a harm.
        p_value: Of "the loss is below `max_loss`".
        harms: Cases that the transferred prompt loses; without gold, all whose decision changed.
        gains: Cases that it wins; 0 without gold.
        n: All cases.
        changed: Cases whose decision differs from the plain prompt's.
        unknown: Of these, those without gold: they count as harms.
        failed: Cases with a call that failed; they count as harms unless gold shows that the transferred prompt is
            right.
        loss_upper: Upper confidence bound of the loss at `level`.
        changed_upper: Upper bound of the share of changed decisions, at 1 - (1 - level) / 2. Audits are held to it.
        wavering: How often the plain prompt differs from itself when it is asked twice: `n`, `differ`, `rate`, `low`,
            `high`. Shown beside the loss; it certifies nothing and is never taken off. None where it was not asked.
        accuracy: Share right of the cases with gold: `plain`, `transferred`, `n`; None without gold.
        savings: Tokens and money; None where no reply reported tokens.
        needed: Cases with which it would be certified with probability 0.8 if harms and gains go on at these rates;
            None where no number would do.
        about: What it is bound to: `plain`, `transferred`, `transfer`, `large` (hashes, see `identify`; missing where
            they cannot be known), `data` (hash of the cases), `reported` (names that the replies carried).
    """

    __pydantic_config__ = STRICT

    kind = "transfer certificate"
    head: ClassVar[dict[str, Any]] = {"format": 1, "kind": "transfer"}

    status: Literal["CERTIFIED", "NOT_CERTIFIED"]
    max_loss: float
    level: float
    test: Literal["paired", "binomial"]
    p_value: float
    harms: Count
    gains: Count
    n: Count
    changed: Count
    unknown: Count
    failed: Count
    loss_upper: float
    changed_upper: float
    needed: int | None
    wavering: dict[str, _Number] | None
    accuracy: dict[str, _Number] | None
    savings: Savings | None
    about: dict[str, Any]

    @classmethod
    def of_counts(
        cls,
        *,
        harms: int,
        gains: int,
        n: int,
        changed: int,
        unknown: int = 0,
        failed: int = 0,
        test: Literal["paired", "binomial"],
        max_loss: float,
        level: float,
        **more: Any,
    ) -> Self:
        """Build the certificate that counts give.

        Raises:
            ValueError: If the counts are impossible or an argument is out of range.

        Example:
            >>> TransferCertificate.of_counts(
            ...     harms=0, gains=0, n=149, changed=0, test="binomial", max_loss=0.02, level=0.95
            ... ).status
            'CERTIFIED'
        """
        if not 0.5 <= level < 1.0:
            raise ValueError("`level` must lie in [0.5, 1)")
        if not (0 <= unknown <= changed <= n and 0 <= failed <= n):
            raise ValueError("`changed` and `failed` must be at most `n`, `unknown` at most `changed`")
        p_value = _p_value(test, harms, gains, n, max_loss)
        alpha = 1.0 - level
        upper = binomial_upper(harms, n, alpha) if test == "binomial" else loss_upper_bound(harms, gains, n, level)
        certified = p_value <= alpha
        plan = plan_rows(max_loss, level, harm_rate=harms / n, gain_rate=gains / n)
        return cls(
            status="CERTIFIED" if certified else "NOT_CERTIFIED",
            max_loss=max_loss,
            level=level,
            test=test,
            p_value=p_value,
            harms=harms,
            gains=gains,
            n=n,
            changed=changed,
            unknown=unknown,
            failed=failed,
            loss_upper=upper,
            changed_upper=binomial_upper(changed, n, alpha / 2.0),
            needed=n if certified else None if plan.n is None else max(plan.n, n + 1),
            **{"wavering": None, "accuracy": None, "savings": None, "about": {}, **more},
        )

    @property
    def certified(self) -> bool:
        """Whether transferred texts may go on."""
        return self.status == "CERTIFIED"

    @property
    def loss(self) -> float:
        """The estimate: (harms - gains) / n."""
        return (self.harms - self.gains) / self.n

    @property
    def id(self) -> str:
        """A short name for exactly this certificate: the first 16 hex digits of the SHA-256 of its JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @property
    def text(self) -> str:
        """The certificate in plain words."""
        loss = points(self.max_loss)
        if self.certified:
            first = (
                f"CERTIFIED. Decisions on transferred texts are less than {loss} worse than with the plain prompt; a "
                f"procedure that says so is wrong in at most {1 - self.level:.2%} of all cases."
            )
        else:
            first = (
                f"NOT_CERTIFIED. It could not be shown that decisions on transferred texts are less than {loss} "
                "worse than with the plain prompt: the original texts go on."
            )
        lines = [first]
        counted = "every changed decision is a harm, for want of gold" if self.test == "binomial" else "against gold"
        lines.append(
            f"Seen on {self.n:,} cases: {self.harms} lost, {self.gains} won ({counted}); {self.changed} decisions "
            f"changed; p = {self.p_value:.3g}; the loss is at most {self.loss_upper:.2%}."
        )
        if self.test == "paired" and self.unknown:
            lines.append(f"{self.unknown} of the lost count so only for want of gold.")
        if self.failed:
            lines.append(f"In {self.failed} cases a call failed; ask again with the same `path`.")
        if self.accuracy is not None:
            lines.append(
                f"Right where gold is given ({self.accuracy['n']:,}): plain {self.accuracy['plain']:.1%}, transferred "
                f"{self.accuracy['transferred']:.1%}."
            )
        if self.wavering is not None:
            lines.append(
                f"The plain prompt, asked twice, differs from itself in {self.wavering['rate']:.1%} of cases "
                f"({self.wavering['low']:.1%} to {self.wavering['high']:.1%}). This certifies nothing."
            )
        if self.savings is not None:
            lines.append(_saved(self.savings))
        if not self.certified:
            lines.append(
                "At these rates no number of cases would do."
                if self.needed is None
                else f"If harms and gains go on at these rates, about {self.needed:,} cases would do."
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text

    def _checked(self) -> Self:
        if self.test == "binomial" and (self.gains or self.harms < self.changed):
            raise ValueError("without gold every changed decision is a harm, and none is a gain")
        if self.unknown > self.harms:
            raise ValueError("`unknown` cases count as harms: they cannot be more")
        found = self.of_counts(**{name: getattr(self, name) for name in _GIVEN})
        if found.status != self.status:
            raise ValueError(f"`status` is {self.status!r}, but its counts give {found.status!r}")
        for name in ("p_value", "loss_upper", "changed_upper"):
            if not math.isclose(getattr(self, name), getattr(found, name), rel_tol=0.01, abs_tol=1e-6):
                raise ValueError(f"`{name}` does not follow from its counts")
        return self


def _p_value(test: str, harms: int, gains: int, n: int, max_loss: float) -> float:
    if test == "paired":
        return paired_p_value(harms, gains, n, max_loss)
    if gains or not (0 <= harms <= n and n >= 1 and 0.0 < max_loss < 1.0):
        raise ValueError("`harms` must be at most `n`, `gains` 0, and `max_loss` between 0 and 1")
    special: Any = require("scipy.special", "sklearn")
    return float(special.bdtr(harms, n, max_loss))


def _saved(savings: Savings) -> str:
    both, large = savings.tokens, savings.large
    text = (
        f"Tokens saved: of the large model {large.value:.1%} ({large.low:.1%} to {large.high:.1%}), of both models "
        f"together {both.value:.1%} ({both.low:.1%} to {both.high:.1%})."
    )
    if savings.money is not None:
        money = savings.money
        text += (
            f" Money saved per 1,000 cases: {money.value:.4g} {savings.currency} ({money.low:.4g} to {money.high:.4g})."
        )
    return text
