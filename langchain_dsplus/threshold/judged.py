"""What a judge's own errors cost a promise: harms that it hides are counted against `max_loss`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from langchain_dsplus.calibration import binomial_upper

JUDGE = "judge"
"""Where `Outcomes.about` says who judged."""


@dataclass(frozen=True)
class JudgeError:
    """How often a judge was wrong on labelled rows.

    Two kinds of error hide a harm: a wrong output of the small model called right, and a right output of the large
    model called wrong. The judged loss is below the true one by at most the sum of their rates, over all inputs.

    Attributes:
        small: Labelled outputs of small models; 0 where the rows do not say whose they are.
        false_right: Of those, wrong ones that the judge called right.
        large: Labelled outputs of the large model.
        false_wrong: Of those, right ones that the judge called wrong.
        n: All labelled outputs.
        wrong: Of those, on which the judge said the opposite of the label.
        unclear: Of those, on which it said nothing. That is no error: what is unknown counts as a harm by itself.
    """

    small: int
    false_right: int
    large: int
    false_wrong: int
    n: int
    wrong: int
    unclear: int = 0

    def __post_init__(self) -> None:
        """Refuse counts that cannot be."""
        counts = asdict(self).values()
        whole = all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts)
        fits = whole and self.false_right <= self.small and self.false_wrong <= self.large
        if not fits or self.n < 1 or self.wrong + self.unclear > self.n or self.small + self.large not in (0, self.n):
            raise ValueError(
                "a judge's error must be counts of labelled outputs, none above its whole, with at least one output"
            )

    @property
    def rate(self) -> float:
        """Share of labelled outputs on which it was wrong."""
        return self.wrong / self.n

    def upper(self, level: float = 0.95) -> float:
        """Exact upper bound of that share on outputs like these (Clopper and Pearson 1934).

        Example:
            >>> round(JudgeError(0, 0, 0, 0, n=300, wrong=0).upper(), 4)
            0.0099
        """
        return binomial_upper(self.wrong, self.n, 1.0 - level)

    def hidden(self, alpha: float, small_models: int = 1) -> float:
        """Upper bound, wrong with probability `alpha`, of the harms per input that the judge hides.

        Where the rows say whose outputs they are, both kinds of error get half of `alpha`: that holds even if both
        models' outputs to one input were labelled. Where they do not, they are independent draws, each from a model
        drawn evenly: then the rate of all errors, times the number of models, bounds the sum.

        Args:
            alpha: Error probability.
            small_models: Whose outputs were judged; labelled outputs count as an even mix of them.
        """
        if not self.small + self.large:
            return min((1 + small_models) * binomial_upper(self.wrong, self.n, alpha), 1.0)
        right = binomial_upper(self.false_right, self.small, alpha / 2.0)
        wrong = binomial_upper(self.false_wrong, self.large, alpha / 2.0)
        return min(small_models * right + wrong, 1.0)

    def to_dict(self) -> dict[str, int]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Self | None:
        """The error that a table's `about` states; None where it states none. Raises ValueError if it is malformed."""
        judge = about.get(JUDGE)
        error = judge.get("error") if isinstance(judge, Mapping) else None
        if error is None:
            return None
        try:
            return cls(**error)
        except TypeError:
            raise ValueError("`outcomes.about['judge']['error']` must be what `JudgeError.to_dict` gives") from None


@dataclass(frozen=True)
class HiddenHarms:
    """What a table's judge may hide.

    Attributes:
        hidden: Upper bound of the harms per input that it hides; 0 where it states no error.
        alpha: Error probability that is left for the test.
        error: Its error; None where it states none.
    """

    hidden: float
    alpha: float
    error: JudgeError | None = None


def hidden_by_judge(about: Mapping[str, Any], alpha: float, small_models: int, *, parts: bool) -> HiddenHarms:
    """Divide an error probability between the bound of the judge's error and the test: half each, so both hold.

    Args:
        about: Of the table.
        alpha: Error probability of both together.
        small_models: How many were judged.
        parts: Whether the promise is about something else than all inputs and the plain prompt.

    Raises:
        ValueError: If it is, and the judge errs; or if its error is malformed.
    """
    error = JudgeError.of(about)
    if error is None:
        return HiddenHarms(0.0, alpha)
    if parts:
        raise ValueError(
            "`slices`, `class_floor`, `unit='group'` and `prompt='pruned'` need outcomes whose judge states no error: "
            "labelled rows bound what it hides over all inputs, not within a part of them"
        )
    return HiddenHarms(error.hidden(alpha / 2.0, small_models), alpha / 2.0, error)
