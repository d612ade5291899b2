"""What the demo shows: the days, the table, the plot, the dispute, and what it all says in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_dsplus._imports import require
from langchain_dsplus.demo.answers import Arm

if TYPE_CHECKING:
    from rich.panel import Panel
    from rich.table import Table

    from langchain_dsplus.costs.prices import Price

LLM, SMALL, SHUNT = "LLM alone", "small model alone", "DataShunt"


@dataclass(frozen=True)
class Day:
    """What one day of the shunt's life brought."""

    sentences: int
    local: int
    labels: int
    words: str


def named(arms: Sequence[Arm], name: str) -> Arm:
    """The arm of that name."""
    return next(arm for arm in arms if arm.name == name)


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

    reference = named(arms, LLM)
    shown = Table(title=f"{len(reference.rows)} untouched sentences", title_style="bold")
    shown.add_column("")
    for heading in ("right [95 %]", "against the LLM, points [95 %]", "LLM calls", "tokens in + out", "US$ of 1,000"):
        shown.add_column(heading, justify="right")
    for arm in arms:
        low, high = accuracy_interval(sum(arm.correct), len(arm.rows))
        gap = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * d for d in difference(arm, reference)))
        shown.add_row(
            arm.name,
            f"{arm.accuracy:.1%} [{low:.1%}, {high:.1%}]",
            "" if arm is reference else gap,
            f"{arm.calls} ({arm.share:.0%})",
            f"{arm.tokens('input'):,} + {arm.tokens('output'):,}",
            f"{1000 * arm.dollars(price) / len(arm.rows):.4f}",
        )
    shown.caption = f"US$: what these tokens cost at the list price of {price_name} ({price.source})"
    return shown


def words(arms: Sequence[Arm], *, certified: bool, promise: str) -> list[str]:
    """What the table says, win or lose."""
    llm, small, shunt = (named(arms, name) for name in (LLM, SMALL, SHUNT))
    if not certified:
        return [
            (
                "[bold]Nothing was certified[/bold]: the shunt answered as your LLM does, at its price. That is right "
                "where nothing can be shown; more sentences or more labels would help (see its status above)."
            )
        ]
    mean, low, high = (100 * d for d in difference(shunt, llm))
    alone, alone_low, alone_high = (100 * d for d in difference(small, llm))
    lines = [
        (
            f"[bold]The shunt asked the LLM about {shunt.share:.0%} of the sentences[/bold] and is {mean:+.1f} points "
            f"against it here (95 %: {low:+.1f} to {high:+.1f}); its certificate promises {promise}."
        ),
        (
            f"The small model alone asks nobody and is {alone:+.1f} points against the LLM "
            f"(95 %: {alone_low:+.1f} to {alone_high:+.1f}), with no promise."
        ),
    ]
    if small.accuracy >= shunt.accuracy:
        lines.append("On these sentences it is as right as the shunt: with more labels it may be certified alone.")
    return lines


def plot(arms: Sequence[Arm], days: Sequence[Day], path: Path, large: str, *, certified: bool) -> Path:
    """Two pictures: who answered, day by day; and how often each way was right, on sentences nobody had seen."""
    from langchain_dsplus.threshold.curves import accuracy_interval

    matplotlib = require("matplotlib", "plot")
    matplotlib.use("Agg")
    pyplot = require("matplotlib.pyplot", "plot")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")
    local = np.array([100 * day.local / day.sentences for day in days])
    numbers = range(1, len(days) + 1)
    left.bar(numbers, 100 - local, bottom=local, color="#d8d8d8", label=f"LLM ({large}), paid")
    left.bar(numbers, local, color="#2b7a4b", label="small model, on this machine")
    for number, share in zip(numbers, local, strict=True):
        if share:
            left.text(number, share / 2, f"{share:.0f} %", ha="center", va="center", color="white", fontweight="bold")
    left.set(xlabel="day", ylabel="sentences (%)", ylim=(0, 100), xticks=list(numbers))
    left.set_title("Who answered" if certified else "Who answered: nothing could be certified", loc="left")
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False, fontsize=9)
    colors = {LLM: "#888888", SMALL: "#c98a1b", SHUNT: "#2b7a4b"}
    for place, arm in enumerate(reversed(arms)):
        low, high = (100 * end for end in accuracy_interval(sum(arm.correct), len(arm.rows)))
        right.plot([low, high], [place, place], color=colors[arm.name], linewidth=3)
        right.plot(100 * arm.accuracy, place, "o", color=colors[arm.name], markersize=11)
        right.text(100 * arm.accuracy, place + 0.16, f"{100 * arm.accuracy:.1f} %", ha="center", fontweight="bold")
    right.set_yticks(range(len(arms)), [f"{arm.name}\n{arm.share:.0%} of the calls" for arm in reversed(arms)])
    right.set(xlabel=f"right (%), {len(arms[0].rows)} untouched sentences, 95 % interval", ylim=(-0.5, len(arms) - 0.4))
    right.set_title("How often it was right", loc="left")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return path


def dispute_panel(statement: str, state: dict[str, Any]) -> Panel:
    """The statement, what was kept of it, what the gate said, what it saved, the verdict."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    transfer = state.get("transfer") or {}
    verdict = state.get("verdict") or {}
    before, after = transfer.get("tokens_before") or 0, transfer.get("tokens_after") or 0
    reasons = "\n".join(f"- {reason}" for reason in transfer.get("reasons", [])) or "- nothing to object to"
    saved = f", {1 - after / before:.0%} fewer" if before and after < before else ""
    body = Group(
        Text("The narrator says", style="bold"),
        Text(statement),
        Text("\nWhat the small model keeps of it", style="bold"),
        Text(str(state.get("rewrite") or "(nothing)")),
        Text("\nThe gate", style="bold"),
        Text(f"faithful: {'yes' if transfer.get('faithful') else 'no'}\n{reasons}"),
        Text(f"The adjudicator reads the {transfer.get('used')}: {before} tokens before, {after} after{saved}."),
        Text("\nThe verdict", style="bold"),
        Text(f"more at fault: {verdict.get('verdict')}"),
        Text("\n".join(f"- {reason}" for reason in verdict.get("reasons", []))),
    )
    return Panel(body, title="A dispute")
