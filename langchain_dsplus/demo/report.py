"""What the demo shows: the table, the plot, the dispute, and what it all says in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_dsplus._imports import require
from langchain_dsplus.demo.arms import Arm

if TYPE_CHECKING:
    from rich.panel import Panel
    from rich.table import Table

    from langchain_dsplus.costs.prices import Price
    from langchain_dsplus.demo.snippets import Snippet
    from langchain_dsplus.outcomes import Outcomes
    from langchain_dsplus.small_models.base import SmallModel

LLM = "LLM alone"


@dataclass(frozen=True)
class Choice:
    """What validation decided: which small model, and the threshold."""

    small: SmallModel
    threshold: float
    outcomes: Outcomes
    accuracy: float
    large_accuracy: float
    coverage: float
    note: str


def llm_of(arms: Sequence[Arm]) -> Arm:
    """The arm that everything is compared with."""
    return next(arm for arm in arms if arm.name == LLM)


def difference(arm: Arm, other: Arm, *, seed: int = 0) -> tuple[float, float, float]:
    """Accuracy of an arm minus another's on the same rows, with a 95 % paired bootstrap interval."""
    gaps = np.array(arm.correct, dtype=float) - np.array(other.correct, dtype=float)
    generator = np.random.default_rng(seed)
    means = gaps[generator.integers(0, len(gaps), (10_000, len(gaps)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(gaps.mean()), float(low), float(high)


def table(arms: Sequence[Arm], price: Price, price_name: str) -> Table:
    """One row per way of answering."""
    from rich.table import Table

    from langchain_dsplus.threshold.curves import accuracy_interval

    reference = llm_of(arms)
    shown = Table(title=f"{len(reference.rows)} untouched sentences", title_style="bold")
    shown.add_column("")
    for heading in ("accuracy [95 %]", "against the LLM [95 %]", "LLM calls", "tokens in + out", "seconds", "US$"):
        shown.add_column(heading, justify="right")
    for arm in arms:
        low, high = accuracy_interval(sum(arm.correct), len(arm.rows))
        gap = (
            ""
            if arm is reference
            else "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * d for d in difference(arm, reference)))
        )
        shown.add_row(
            arm.name,
            f"{arm.accuracy:.1%} [{low:.1%}, {high:.1%}]",
            gap,
            f"{arm.calls} ({arm.calls / len(arm.rows):.0%})",
            f"{arm.input_tokens:,} + {arm.output_tokens:,}",
            f"{arm.seconds:.1f}",
            f"{arm.dollars(price):.5f}",
        )
    shown.caption = f"US$: what these tokens cost at the list price of {price_name} ({price.source})"
    return shown


def words(arms: Sequence[Arm], threshold: float, large: str) -> list[str]:
    """What the table says, win or lose."""
    reference = llm_of(arms)
    lines = []
    for arm in (a for a in arms if a.name.startswith("cascade")):
        mean, low, high = difference(arm, reference)
        saved = 1 - arm.calls / len(arm.rows)
        if mean >= 0:
            verdict = "[green]cheaper, and at least as right on these rows[/green]"
        elif high >= 0:
            verdict = "cheaper, and a little less right on these rows, within chance"
        else:
            verdict = "[red]cheaper, but less right: do not use it like this[/red]"
        lines.append(
            f"{arm.name} at {threshold:.3f}: {saved:.0%} of the calls to {large} saved, {mean:+.1%} accuracy "
            f"(95 %: {low:+.1%} to {high:+.1%}): {verdict}."
        )
    lines.append("A threshold chosen on validation rows promises nothing; the intervals say how little is known yet.")
    return lines


def outcomes_of(arms: Sequence[Arm], small: SmallModel, test: Sequence[Snippet]) -> Outcomes:
    """What both sides said about the test rows, as a table."""
    from langchain_dsplus.outcomes import Outcomes

    answers = small.batch([{"text": row["text"]} for row in test])
    return Outcomes.from_records(
        [
            {
                "id": row["id"],
                "small": answer["choice"],
                "confidence": answer["confidence"],
                "large": reply["label"],
                "gold": row["gold"],
            }
            for row, answer, reply in zip(test, answers, llm_of(arms).rows, strict=True)
        ]
    )


def plot(arms: Sequence[Arm], choice: Choice, outcomes: Outcomes, path: Path, large: str) -> Path:
    """Accuracy against the share of LLM calls: the curve over all thresholds, and where the arms landed."""
    from langchain_dsplus.threshold.curves import cost_quality_curve

    matplotlib = require("matplotlib", "plot")
    matplotlib.use("Agg")
    pyplot = require("matplotlib.pyplot", "plot")
    reference = llm_of(arms)
    figure, axes = pyplot.subplots(figsize=(7.5, 4.8), layout="constrained")
    curve = cost_quality_curve(outcomes)
    axes.step(
        [100 * p.escalation_rate for p in curve],
        [100 * p.accuracy for p in curve],
        color="0.7",
        label=f"every threshold on these rows, in hindsight ({choice.small.name})",
    )
    for arm, marker in zip(arms, "s^oDv", strict=True):
        axes.plot(100 * arm.calls / len(arm.rows), 100 * arm.accuracy, marker, markersize=9, label=arm.name)
    axes.axhline(100 * reference.accuracy, color="0.8", linestyle=":", linewidth=1)
    axes.set_xlabel(f"inputs that reach {large} (%)")
    axes.set_ylabel("accuracy (%)")
    axes.set_title(f"{len(outcomes)} untouched sentences, threshold {choice.threshold:.3f} from validation")
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return path


def dispute_panel(statement: str, draft: str, state: dict[str, Any]) -> Panel:
    """The statement, the rewrite, what the gate said, the verdict."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    transfer = state.get("transfer") or {}
    verdict = state.get("verdict") or {}
    reasons = "\n".join(f"- {reason}" for reason in transfer.get("reasons", [])) or "- nothing to object to"
    usage = transfer.get("usage") or {}
    body = Group(
        Text("The narrator says", style="bold"),
        Text(statement),
        Text("\nThe small model's rewrite", style="bold"),
        Text(draft or "(none)"),
        Text("\nThe gate", style="bold"),
        Text(f"faithful: {'yes' if transfer.get('faithful') else 'no'}\n{reasons}"),
        Text(
            f"so the adjudicator reads the {transfer.get('used')}: {transfer.get('tokens_before')} tokens before, "
            f"{transfer.get('tokens_after')} after (estimated); the rewriting took {usage.get('input_tokens', 0)} + "
            f"{usage.get('output_tokens', 0)} tokens of the small model"
        ),
        Text("\nThe verdict", style="bold"),
        Text(f"more at fault: {verdict.get('verdict')}"),
        Text("\n".join(f"- {reason}" for reason in verdict.get("reasons", []))),
    )
    return Panel(body, title="A dispute")
