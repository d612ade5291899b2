"""What an estimate holds, and how it reads: on a screen, as JSON, as a page."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_dsplus.losses import points

if TYPE_CHECKING:
    from langchain_dsplus.estimate.tasks import Task
    from langchain_dsplus.outcomes import Outcomes
    from langchain_dsplus.small_models.base import SmallModel
    from langchain_dsplus.threshold.certificate import Certificate

_WIDTH = 100
_LABELS_SHOWN = 12
_GUESSED = 0.005
_SHOWN = 20


@dataclass(frozen=True)
class Share:
    """What could stay local at one loss.

    Attributes:
        max_loss: The loss, as a share of inputs.
        share: Of the inputs, as cross-fitted models have it on all rows.
        low: Lower end of its interval.
        high: Upper end.
        certificate: What the held-out rows certify.
    """

    max_loss: float
    share: float
    low: float
    high: float
    certificate: Certificate = field(repr=False)

    @property
    def certified(self) -> float:
        """Share of inputs that is certified to stay local; 0 where nothing is."""
        return self.certificate.coverage


@dataclass(frozen=True)
class LabelsWorth:
    """What labels would buy.

    Attributes:
        labels: Held-out rows to label: the models disagree, and the small one is surer than `above`.
        needed: How many of them would have to show that the large model is wrong and the small one right.
        above: The threshold; it is chosen before any label is seen, so that `certify(table, start=above)` tests it.
        coverage: What would be certified then.
    """

    labels: int
    needed: int
    above: float
    coverage: float


@dataclass(frozen=True)
class Money:
    """What a thousand calls cost and take.

    Attributes:
        models: Large models, the most frequent first, as their replies name them.
        currency: Of `large`.
        source: Where prices are from.
        large: Price of 1,000 calls of the large model; None where its price is not known.
        tokens_guessed: Share of the calls whose tokens are guessed, four characters each.
        unpriced: Share of the calls whose model has no known price.
        large_seconds: Seconds of 1,000 calls of the large model, one after the other; None where the log has no times.
        small_seconds: Of the small model, as measured here.
    """

    models: tuple[str, ...]
    currency: str
    source: str
    large: float | None
    tokens_guessed: float
    unpriced: float
    large_seconds: float | None
    small_seconds: float

    def cost(self, share: float) -> str:
        """Price of 1,000 inputs of which a share stays local."""
        if self.large is None:
            return "unknown"
        price = self.large * (1.0 - share)
        return f"{price:,.2f} {self.currency}" if price >= 1.0 or price == 0.0 else f"{price:.2g} {self.currency}"

    def time(self, share: float) -> str:
        """Seconds of 1,000 inputs of which a share stays local; each is shown to the small model first."""
        if self.large_seconds is None:
            return "unknown"
        return f"{self.large_seconds * (1.0 - share) + self.small_seconds:,.0f} s"


@dataclass(frozen=True)
class LogEstimate:
    """What a log says about a shunt in the place of its large model; prints itself.

    Attributes:
        sources: Names of the files.
        kinds: What their rows are.
        rows: Rows in all.
        calls: Rows that are a call with an answer.
        failed: Calls that ended in an error.
        unreadable: Rows that are no JSON, or lack input or output.
        passed: LangSmith runs of another type or name.
        tasks: The tasks, the most frequent first.
        task: The one that was estimated; None where no task has a closed set of answers.
        max_loss: The loss that decides, as a share.
        level: Of intervals and certificates.
        decision: `CASCADE`, `SMALL ALONE`, `LARGE ALONE`, `NOT ENOUGH DATA`, or `NO TASK`.
        small: The small model, in words.
        n: Calls of the task that were looked at.
        fitted: Calls that the certified small model was fitted on.
        held_out: Calls that certified it.
        distinct: Different inputs among the `n`.
        shares: What could stay local, by loss.
        labels_worth: What labels would buy; None where they would not help, or everything is certified.
        money: What it costs and takes.
        model: The small model that was certified.
        table: The held-out rows, for `dsplus label`, `certify` and `report`.
    """

    sources: tuple[str, ...]
    kinds: tuple[str, ...]
    rows: int
    calls: int
    failed: int
    unreadable: int
    passed: int
    tasks: tuple[Task, ...]
    task: Task | None
    max_loss: float
    level: float
    decision: str = "NO TASK"
    small: str = ""
    n: int = 0
    fitted: int = 0
    held_out: int = 0
    distinct: int = 0
    shares: tuple[Share, ...] = ()
    labels_worth: LabelsWorth | None = None
    money: Money | None = None
    model: SmallModel | None = field(default=None, repr=False)
    table: Outcomes | None = field(default=None, repr=False)

    @property
    def main(self) -> Share | None:
        """What could stay local at the loss that decides."""
        return next((share for share in self.shares if share.max_loss == self.max_loss), None)

    @property
    def verdict(self) -> str:
        """The decision and its reason."""
        main = self.main
        if main is None or self.task is None:
            why = self.task.why_not if self.task is not None else ""
            return f"{self.decision}: {why or 'no task of this log has a closed set of answers'}."
        loss, rows = points(self.max_loss), f"{self.held_out:,} held-out rows"
        if self.decision == "CASCADE":
            said = (
                f"{main.certified:.1%} of inputs may stay local: on {rows} the small model with its threshold is shown "
                f"to lose less than {loss} against the large model" + ("" if self._gold else ", from agreement alone")
            )
        elif self.decision == "SMALL ALONE":
            said = (
                f"on {rows} the small model agrees with the large one so often that it may answer by itself at {loss}"
            )
        elif self.decision == "LARGE ALONE":
            said = (
                f"at {loss} hardly anything could stay local (at most {main.high:.1%}), unless labels show that the "
                "large model is wrong where the two disagree"
            )
        else:
            help_ = main.certificate.help or {}
            plans = [rows for rows in (help_.get("planned_n") or {}).values() if rows is not None]
            said = f"{rows} certify nothing at {loss}"
            if self.held_out < help_.get("least_n", 0):
                said += f"; fewer than {help_['least_n']:,} never do, whatever they hold"
            said += (
                f"; about {min(plans) * max(self.n // max(self.held_out, 1), 1):,} calls would, at the rates seen here"
                if plans
                else "; at the rates seen here no number of calls would without labels"
            )
        return f"{self.decision}: {said}."

    @property
    def labels_line(self) -> str:
        """What labels would buy, in words; empty where they would not help."""
        worth = self.labels_worth
        if worth is None:
            return ""
        return (
            f"Labels: label the {worth.labels:,} held-out rows on which the models disagree and the small one is surer "
            f"than {worth.above:.3f}. If in {worth.needed:,} of them the large model turns out wrong and the small one "
            f"right, {worth.coverage:.1%} are certified."
        )

    @property
    def snippet(self) -> str:
        """The three lines that start it."""
        labels = list(self.task.labels) if self.task is not None else []
        return (
            "from langchain_dsplus import DataShunt\n"
            f'shunt = DataShunt(chain, labels={labels!r}, folder="shunt/", max_loss={self.max_loss:g})\n'
            "shunt.invoke(input)  # in the place of chain.invoke(input)"
        )

    def _short_snippet(self) -> str:
        """The snippet as a screen shows it: of many labels the first."""
        labels = list(self.task.labels) if self.task is not None else []
        if len(labels) <= _LABELS_SHOWN:
            return self.snippet
        few = f"[{', '.join(map(repr, labels[:3]))}, ...]"
        said = self.snippet.replace(repr(labels), few)
        return f"{said}\n# ...: {len(labels)} labels in all; `--html` writes the whole line"

    @property
    def _gold(self) -> bool:
        return self.table is not None and bool(self.table.known_gold().any())

    def notes(self) -> list[str]:
        """What the figures rest on."""
        found = []
        if self.shares:
            found.append(
                "Shares from two small models, each fitted on one half of the calls and judged on the other "
                f"({self.n:,} calls, {self.distinct:,} different inputs); a disagreement without gold counts as lost."
            )
            found.append(
                f"Certified: one of them, fitted on {self.fitted:,} calls, on {self.held_out:,} others. A shunt that "
                "learns from more calls may keep more."
            )
        if self.task is not None and self.n and self.task.calls > self.n:
            found.append(f"A random sample of {self.n:,} of {self.task.calls:,} calls was looked at.")
        money = self.money
        if money is not None:
            if money.large is None:
                who = f" of {', '.join(money.models)}" if money.models else ", since the log names no model"
                found.append(f"No price is known{who}: pass --price-input and --price-output.")
            else:
                said = f"Prices: {money.source}"
                if money.tokens_guessed > _GUESSED:
                    said += f"; tokens of {money.tokens_guessed:.0%} of the calls are guessed from their length"
                if money.unpriced > _GUESSED:
                    said += f"; {money.unpriced:.0%} of the calls are of models without a known price, and left out"
                found.append(said + ". The small model's own time costs nothing here.")
            if money.large_seconds is None:
                found.append(
                    f"The log has no times. The small model takes {money.small_seconds:,.1f} s for 1,000 inputs."
                )
        return found

    def heading(self) -> str:
        """What was read."""
        said = f"{', '.join(self.sources)}: {self.rows:,} rows"
        if self.kinds:
            said += f" ({'; '.join(self.kinds)})"
        said += f", {self.calls:,} calls with an answer"
        for number, words in (
            (self.failed, "ended in an error"),
            (self.passed, "are runs of another type or name"),
            (self.unreadable, "could not be read: no JSON, or no input or output"),
        ):
            said += f"; {number:,} {words}" if number else ""
        return said + "."

    def task_rows(self) -> Iterator[tuple[str, ...]]:
        """Number, calls, template, and answers of each task."""
        for task in self.tasks[:_SHOWN]:
            answers = task.why_not.partition(".")[0]
            if task.labels:
                outside = task.answers.get("", 0)
                answers = f"{len(task.labels):,} labels" + (f", {outside:,} other answers" if outside else "")
            yield f"{task.number}", f"{task.calls:,}", task.name(), answers
        if more := self.tasks[_SHOWN:]:
            yield "...", f"{sum(task.calls for task in more):,}", f"{len(more):,} more", ""

    def share_rows(self) -> Iterator[tuple[str, ...]]:
        """Loss, share, certified share, price and seconds, the large model alone first."""
        money = self.money
        if money is not None:
            yield "(large alone)", "0.0 %", "", money.cost(0.0), _seconds(money)
            for share in self.shares:
                interval = f"{100 * share.share:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})"
                sure = f"{100 * share.certified:.1f} %" if share.certificate.certified else "not yet"
                yield points(share.max_loss), interval, sure, money.cost(share.share), money.time(share.share)

    def parts(self) -> list[Any]:
        """Texts and tables, as `rich` prints them."""
        from rich.table import Table

        found: list[Any] = [self.heading()]
        if len(self.tasks) > 1 or not self.shares:
            table = Table(title="Tasks", title_justify="left")
            for name, side in zip(TASK_COLUMNS, ("right", "right", "left", "left"), strict=True):
                table.add_column(name, justify=side)  # type: ignore[arg-type]
            for row in self.task_rows():
                table.add_row(*(_plain(cell) for cell in row))
            found.append(table)
        if self.shares and self.task is not None:
            found.append(f"Task {self.task.number}: {len(self.task.labels):,} labels. Small model: {self.small}.")
            table = Table()
            for name in SHARE_COLUMNS:
                table.add_column(name, justify="left" if name == SHARE_COLUMNS[0] else "right")
            for row in self.share_rows():
                table.add_row(*row)
            found.append(table)
        found.append(self.verdict)
        if self.labels_line:
            found.append(self.labels_line)
        found += self.notes()
        if self.decision not in ("NO TASK", "LARGE ALONE"):
            found.append("\n" + self._short_snippet())
        return found

    def __str__(self) -> str:
        from rich.console import Console

        out = io.StringIO()
        console = Console(file=out, width=_WIDTH, no_color=True, highlight=False)
        for part in self.parts():
            console.print(part, soft_wrap=isinstance(part, str), markup=False)
        return out.getvalue().rstrip("\n")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; no text of an input."""
        plain = ("sources", "kinds", "rows", "calls", "failed", "unreadable", "passed", "max_loss", "level", "decision")
        counts = ("small", "n", "fitted", "held_out", "distinct", "verdict")
        tasks = [
            {"number": t.number, "shape": t.shape, "calls": t.calls, "labels": list(t.labels), "answers": t.answers,
             "key": t.key, "why_not": t.why_not}
            for t in self.tasks
        ]  # fmt: skip
        shares = [
            {"max_loss": s.max_loss, "share": s.share, "low": s.low, "high": s.high, "certified": s.certified,
             "status": s.certificate.status}
            for s in self.shares
        ]  # fmt: skip
        found = {name: getattr(self, name) for name in (*plain, *counts)}
        found |= {"sources": list(self.sources), "kinds": list(self.kinds), "tasks": tasks, "shares": shares}
        found["task"] = None if self.task is None else self.task.number
        found["labels_worth"] = None if self.labels_worth is None else vars(self.labels_worth)
        money = None if self.money is None else vars(self.money) | {"models": list(self.money.models)}
        return found | {"money": money}

    def to_html(self, path: str | Path) -> Path:
        """Write it as a page: the tables, and the report of the held-out rows below. No input text is in it.

        Args:
            path: The file; an older one is replaced.

        Raises:
            ValueError: If nothing was estimated.
        """
        from langchain_dsplus.report.page import write_report

        main = self.main
        if main is None or self.table is None:
            raise ValueError("there is no page, since nothing could be estimated: see `verdict`")
        parts = [f"<p>{escape(self.heading())}</p>"]
        if len(self.tasks) > 1:
            parts.append(_html(TASK_COLUMNS, self.task_rows()))
        parts.append(_html(SHARE_COLUMNS, self.share_rows()))
        parts += [f"<p>{escape(line)}</p>" for line in (self.verdict, self.labels_line, *self.notes()) if line]
        if self.decision != "LARGE ALONE":
            parts.append(f'<div class="scroll"><pre>{escape(self.snippet)}</pre></div>')
        lead = f'<section class="card"><h2>What a shunt would save</h2>{"".join(parts)}</section>'
        return write_report(path, self.table, main.certificate, title="Estimate from a log", lead=lead)


LEFT = ' class="left"'
TASK_COLUMNS = ("task", "calls", "prompt", "answers")
SHARE_COLUMNS = ("may lose", "could stay local", "certified now", "price of 1,000", "time of 1,000")


def _seconds(money: Money) -> str:
    return "unknown" if money.large_seconds is None else f"{money.large_seconds:,.0f} s"


def _plain(cell: str) -> str:
    """A cell without control characters, and without markup of `rich`."""
    return "".join(mark if mark.isprintable() else " " for mark in cell).replace("[", r"\[")


def _html(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    def line(tag: str, cells: tuple[str, ...]) -> str:
        marked = (f"<{tag}{'' if place else LEFT}>{escape(cell)}</{tag}>" for place, cell in enumerate(cells))
        return f"<tr>{''.join(marked)}</tr>"

    head, body = line("th", columns), "".join(line("td", row) for row in rows)
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'
