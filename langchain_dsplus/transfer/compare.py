"""`compare_transfer`: every case several times with and without transfer, by any judges (the paper's Figure 5)."""

from __future__ import annotations

import inspect
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from langchain_core.language_models import BaseChatModel
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from langchain_dsplus import _drive
from langchain_dsplus._files import replace_file
from langchain_dsplus._imports import require
from langchain_dsplus._inputs import hash_of
from langchain_dsplus._progress import progress_bar
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.fidelity.untrusted import quote_untrusted
from langchain_dsplus.identity import identify
from langchain_dsplus.outcomes.gold import GoldOptions, GoldRules, read_labels
from langchain_dsplus.traces.lanes import AskEach
from langchain_dsplus.traces.replies import ReplyStore
from langchain_dsplus.transfer._asking import (
    Asker,
    Question,
    caches_off,
    cost_of,
    labeller,
    read_cases,
    tell_estimate,
    tokens_of,
)
from langchain_dsplus.transfer._guard import Transferring
from langchain_dsplus.transfer.node import PromptTransfer
from langchain_dsplus.transfer.verdicts import ADJUDICATE_PROMPT, SWAPPED, VERDICTS

if TYPE_CHECKING:
    from rich.table import Table


PLAIN = "no transfer"
_TWIN = "~twin"
_DRAWS = 2000


@dataclass(frozen=True)
class Arm:
    """What one judge decided in one arm. Shares are in [0, 1]; intervals are 95 %, by bootstrap over cases.

    Attributes:
        judge: Its name.
        arm: `no transfer`, or a transfer's name.
        cases: How many, a case with a twin counted once.
        replies: How many that could be read or not; failed calls are not among them.
        failed: Calls that failed.
        shares: Of each verdict among the replies.
        unreadable: Share of replies that were no verdict.
        right: Share of replies that are the right verdict, over the cases with gold; None without gold.
        right_low: Lower end of its interval.
        right_high: Upper end.
        agreement: The share of a case's replies that give its most frequent verdict; the mean over cases.
        swap: Of the cases with a twin, the share whose most frequent verdicts name the same party whoever tells the
            story; without twins, the share whose most frequent verdict does not change with the order of the options.
            None where neither was asked.
        swap_cases: Of how many cases.
        tokens_in: Prompt tokens of a call of the judge; None where nothing was reported.
        tokens_out: Its reply tokens.
        tokens_small: Tokens that the transfer took for a case, spread over its replies.
        cost: Money for 1,000 replies, the transfer's part included; None without a price.
        transferred: Share of texts of which something else than the original went on.
    """

    judge: str
    arm: str
    cases: int
    replies: int
    failed: int
    shares: dict[str, float]
    unreadable: float
    right: float | None
    right_low: float | None
    right_high: float | None
    agreement: float
    swap: float | None
    swap_cases: int
    tokens_in: float | None
    tokens_out: float | None
    tokens_small: float
    cost: float | None
    transferred: float


@dataclass(frozen=True)
class Comparison:
    """The result of `compare_transfer`.

    Attributes:
        arms: One for each judge and arm.
        labels: The verdicts that were offered.
        n: Replies asked for, for each case, judge and arm.
        twins: Whether swap consistency was measured with twins, the same case told by the other party.
        currency: Of the costs.
    """

    arms: tuple[Arm, ...]
    labels: tuple[str, ...]
    n: int
    twins: bool
    currency: str | None = None

    def arm(self, judge: str, arm: str = PLAIN) -> Arm:
        """The figures of one judge in one arm.

        Raises:
            KeyError: If there are none.
        """
        for each in self.arms:
            if (each.judge, each.arm) == (judge, arm):
                return each
        raise KeyError(f"no judge {judge!r} with the arm {arm!r}")

    def table(self) -> Table:
        """A table for a terminal."""
        from rich.table import Table

        table = Table(title="Verdicts with and without transfer", title_justify="left")
        more = ("right", "agree", "swap", "tokens in", "out", "small", f"{self.currency or 'cost'}/1,000")
        for name in ("judge", "arm", *self.labels, *more):
            table.add_column(name, justify="left" if name in {"judge", "arm"} else "right")
        for each in self.arms:
            table.add_row(*self._cells(each))
        return table

    def _cells(self, arm: Arm) -> list[str]:
        def share(value: float | None) -> str:
            return "-" if value is None else f"{100 * value:.0f} %"

        def number(value: float | None) -> str:
            return "-" if value is None else f"{value:,.0f}"

        right = share(arm.right)
        if arm.right_low is not None and arm.right_high is not None:
            right += f" ({100 * arm.right_low:.0f}-{100 * arm.right_high:.0f})"
        return [
            arm.judge,
            arm.arm,
            *(share(arm.shares.get(label, 0.0)) for label in self.labels),
            right,
            share(arm.agreement),
            share(arm.swap),
            number(arm.tokens_in),
            number(arm.tokens_out),
            number(arm.tokens_small),
            "-" if arm.cost is None else f"{arm.cost:.4g}",
        ]

    @property
    def text(self) -> str:
        """The same as plain text, with what the columns mean."""
        from rich.console import Console

        console = Console(width=200, record=True, file=io.StringIO())
        console.print(self.table())
        swap = (
            "the same party is named whoever tells the story"
            if self.twins
            else "the verdict does not change with the order of the options"
        )
        return (
            f"{console.export_text()}{self.n} replies a case. Right: share of replies, 95 % interval over cases. "
            f"Agree: share of a case's replies that give its most frequent verdict. Swap: share of cases where {swap}. "
            "Tokens of one reply; small: the transfer's own, spread over the replies."
        )

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def to_json(self, path: str | Path | None = None) -> str:
        """Return the figures as JSON, and write them to `path` where one is given."""
        text = json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=1)
        if path is not None:
            replace_file(path, text + "\n")
        return text

    def plot(self, path: str | Path) -> None:
        """Draw the verdicts of each judge as bars, one colour an arm, like the paper's Figure 5.

        Args:
            path: Where the picture goes; its ending says of which kind it is.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        matplotlib = require("matplotlib", "plot")
        matplotlib.use("Agg")
        pyplot = require("matplotlib.pyplot", "plot")
        judges = list(dict.fromkeys(arm.judge for arm in self.arms))
        names = list(dict.fromkeys(arm.arm for arm in self.arms))
        figure, axes = pyplot.subplots(
            1, len(judges), figsize=(1.6 + 2.8 * len(judges), 3.4), sharey=True, squeeze=False
        )
        places = np.arange(len(self.labels))
        width = 0.8 / len(names)
        for axis, judge in zip(axes[0], judges, strict=True):
            for place, name in enumerate(names):
                found = self.arm(judge, name)
                heights = [100 * found.shares.get(label, 0.0) for label in self.labels]
                axis.bar(places + (place - (len(names) - 1) / 2) * width, heights, width, label=name)
            axis.set_title(judge, fontsize=9)
            axis.set_xticks(places, self.labels, rotation=30, ha="right", fontsize=8)
            axis.set_ylim(0, 100)
        axes[0][0].set_ylabel("share of replies, %")
        axes[0][-1].legend(fontsize=7)
        figure.tight_layout()
        figure.savefig(str(path), dpi=150)
        pyplot.close(figure)


def judge_chain(
    model: BaseChatModel,
    labels: Sequence[str] = VERDICTS,
    *,
    instructions: str = ADJUDICATE_PROMPT,
    question: str = "Who is more at fault, the narrator or the other party?",
    called: str = "STATEMENT OF ONE PARTY (THE NARRATOR)",
) -> Runnable[Any, Any]:
    """A chain that asks a chat model for one of some labels: from `{"text", "options"}` to its reply.

    Args:
        model: The judge.
        labels: What may be decided, where the input names no `options`.
        instructions: The system message.
        question: What is asked below the text.
        called: What the text is called in the marked lines around it.

    Example:
        ```python
        judge_chain(chat).invoke({"text": "I kicked his fence.", "options": ["narrator", "other party"]})
        ```
    """
    prompt = ChatPromptTemplate.from_messages(
        [
            ("system", "{instructions}"),
            ("human", "{quoted}\n\n{question} Answer with exactly one of these and nothing else: {shown}."),
        ]
    ).partial(instructions=instructions, question=question)

    def fill(value: Mapping[str, Any]) -> dict[str, str]:
        options = value.get("options") or labels
        return {
            "quoted": quote_untrusted(str(value["text"]), called),
            "shown": ", ".join(f'"{option}"' for option in options),
        }

    return RunnableLambda(fill, name="judge") | prompt | model


def compare_transfer(
    cases: Any,
    *,
    judges: Mapping[str, Runnable[Any, Any]],
    transfer: Any = "extractive",
    n: int = 10,
    labels: Sequence[str] = VERDICTS,
    swapped: Mapping[str, str] | None = None,
    instructions: str = ADJUDICATE_PROMPT,
    question: str = "Who is more at fault, the narrator or the other party?",
    input_key: str = "text",
    gold_key: str = "gold",
    twin_key: str = "twin",
    id_key: str = "id",
    to_label: Callable[[Any], str | None] | None = None,
    path: str | Path | None = None,
    prices: Mapping[str, Price] | None = None,
    small_price: Price | None = None,
    max_concurrency: int = 4,
    progress: bool = True,
    seed: int = 0,
    version: str | None = None,
    config: RunnableConfig | None = None,
    confirm: Callable[[], bool] | None = None,
    **gold_rules: Unpack[GoldOptions],
) -> Comparison:
    """Ask every judge `n` times about every case, as it is and as each transfer sends it on.

    In half of the calls the options are offered in reverse. A case's `twin` (the same case told by the other party) is
    asked as well: then swap consistency says whether the same party is named whoever tells the story. Give the judges a
    temperature above 0, or the `n` replies in one order are one. Nothing here is a promise: `certify_transfer` gives
    one.

    Args:
        cases: Mappings with a text and, where known, `gold`, `twin` and `id`; or the path of a JSONL file of them.
        judges: By name: chat models (asked as `judge_chain` does), or chains from `{"text", "options"}` to a reply.
        transfer: A `PromptTransfer` or `Decompose`, several by name, or "extractive". Each text is transferred once.
        n: Replies for each text, judge and arm.
        labels: The verdicts.
        swapped: What a verdict becomes in a twin; by default the parties of a dispute change places.
        instructions: The system message of chat models.
        question: What they are asked below the text.
        input_key: Where a case has its text.
        gold_key: Where it has the right verdict; may be missing or None.
        twin_key: Where it has its twin; may be missing.
        id_key: Where it has an id of its own; by default its place.
        to_label: From a reply to a verdict; by default it is read as one of `labels`.
        path: A JSONL file for the replies, to write to and to resume from. It holds the transferred texts.
        prices: What a judge's tokens cost, by its name: then there are costs.
        small_price: What the transfers' tokens cost; None where their calls cost nothing.
        max_concurrency: Calls at a time.
        progress: Show an estimate and a progress bar on standard error.
        seed: Of the order and of the bootstrap.
        version: Your own text for what judges and transfers are, where `identify` cannot see into them.
        config: Passed on to judges and transfers.
        confirm: Asked after the estimate, before anything else; False stops.
        **gold_rules: `gold_map`, `unknown_gold`, `other_gold`, as in `Outcomes`.

    Returns:
        A `Comparison`: `print` it, `plot` it, `to_json`.

    Raises:
        ValueError: If cases or arguments make no sense, gold is none of `labels`, or `path` holds other replies.
        KeyboardInterrupt: If `confirm` says no.

    Example:
        ```python
        comparison = compare_transfer("cases.jsonl", judges={"gpt-4o": ChatOpenAI(model="gpt-4o")}, transfer=transfer)
        comparison.plot("verdicts.png")
        ```
    """
    return _drive.run(_plan(_Job(**locals())))


async def acompare_transfer(cases: Any, **options: Any) -> Comparison:
    """Async twin of `compare_transfer`: the same arguments, files and result."""
    given = inspect.signature(compare_transfer).bind(cases, **options)
    given.apply_defaults()
    return await _drive.arun(_plan(_Job(**given.arguments)))


@dataclass
class _Job:
    """The arguments of `compare_transfer`."""

    cases: Any
    judges: Mapping[str, Runnable[Any, Any]]
    transfer: Any
    n: int
    labels: Sequence[str]
    swapped: Mapping[str, str] | None
    instructions: str
    question: str
    input_key: str
    gold_key: str
    twin_key: str
    id_key: str
    to_label: Callable[[Any], str | None] | None
    path: str | Path | None
    prices: Mapping[str, Price] | None
    small_price: Price | None
    max_concurrency: int
    progress: bool
    seed: int
    version: str | None
    config: RunnableConfig | None
    confirm: Callable[[], bool] | None
    gold_rules: GoldOptions

    def check(self) -> None:
        if not isinstance(self.judges, Mapping) or not self.judges:
            raise ValueError("`judges` needs at least one judge, by name")
        for name, judge in self.judges.items():
            if not isinstance(judge, Runnable):
                raise TypeError(
                    f"the judge {name!r} must be a chat model or a chain (a Runnable), not {type(judge).__name__}"
                )
        if self.n < 1 or self.max_concurrency < 1:
            raise ValueError("`n` and `max_concurrency` must be at least 1")
        if len(self.labels) < 2 or len(set(self.labels)) < len(self.labels):
            raise ValueError("`labels` needs at least two verdicts, all different")
        prices = list((self.prices or {}).values())
        if len({price.currency for price in prices}) > 1:
            raise ValueError("`prices` must be in one currency")
        if strange := sorted((self.prices or {}).keys() - self.judges.keys()):
            raise ValueError(f"`prices` names no judge of this comparison: {strange}")

    def transfers(self) -> dict[str, Transferring]:
        given = self.transfer if isinstance(self.transfer, Mapping) else {"transfer": self.transfer}
        found = {}
        for name, transfer in given.items():
            extractive = isinstance(transfer, str) and transfer == "extractive"
            found[name] = PromptTransfer("extractive") if extractive else transfer
            if not isinstance(found[name], Transferring):
                kind = type(transfer).__name__
                raise TypeError(f"`transfer` must be a `PromptTransfer`, a `Decompose`, or 'extractive', not {kind}")
        if PLAIN in found or not found:
            raise ValueError(f"`transfer` needs at least one transfer, and none called {PLAIN!r}")
        return found

    def turned(self, label: str) -> str:
        """What a verdict is in the twin's words, and back."""
        pairs = SWAPPED if self.swapped is None else self.swapped
        return pairs.get(label, label)


def _plan(job: _Job) -> Generator[AskEach, None, Comparison]:
    """Yield what is to be asked, and return the comparison; sync or async alike."""
    job.check()
    transfers = job.transfers()
    rows = _rows(job)
    judges = {
        name: judge_chain(judge, job.labels, instructions=job.instructions, question=job.question)
        if isinstance(judge, BaseChatModel)
        else judge
        for name, judge in job.judges.items()
    }
    asked_how = hash_of([job.instructions, job.question, list(job.labels)])[:8]
    identities = {
        **{f"judge {name}": _identity(judge, job.version, asked_how) for name, judge in job.judges.items()},
        **{f"transfer {name}": _identity(transfer, job.version, "") for name, transfer in transfers.items()},
    }
    store = ReplyStore(job.path, identities, {row["id"]: row["hash"] for row in rows}, writer="compare_transfer")
    reader = Asker(store, labeller(job.labels, job.to_label), job.config, job.max_concurrency, job.seed)
    rewriter = Asker(
        store, lambda output: str(output["rewrite"]), job.config, job.max_concurrency, job.seed,
        more=lambda output: {"used": output["transfer"]["used"]},
    )  # fmt: skip

    def rewriting(some: Sequence[Mapping[str, Any]]) -> list[Question]:
        keys = {"input_key": "text", "output_key": "rewrite", "record_key": "transfer", "label": None}
        nodes = {name: each.model_copy(update={**keys, "keep_input": False}) for name, each in transfers.items()}
        return [
            Question(row, f"transfer {name}", node, {"text": row["input"]})
            for row in some
            for name, node in nodes.items()
        ]

    def price_of(question: Question) -> Price | None:
        if question.side.startswith("transfer "):
            return job.small_price
        return (job.prices or {}).get(question.side.partition(" | ")[0])

    with ExitStack() as stack:
        due = [
            q
            for q in (*rewriting(rows), *_judging(job, judges, list(transfers), store, rows))
            if not store.has(q.row["id"], q.side)
        ]
        if job.progress or job.confirm is not None:
            tell_estimate(due, price_of, calls_of="compare_transfer")
        if due and job.confirm is not None and not job.confirm():
            raise KeyboardInterrupt("not confirmed")
        total = len(rows) * len(transfers) + len(rows) * (1 + len(transfers)) * len(judges) * job.n
        advance = stack.enter_context(progress_bar("asking", total, show=job.progress))
        stack.enter_context(store)
        stack.enter_context(caches_off(*job.judges.values(), *transfers.values()))
        for start in range(0, len(rows), 8):
            some = rows[start : start + 8]
            yield from rewriter.ask(rewriting(some), advance)
            yield from reader.ask(_judging(job, judges, list(transfers), store, some), advance)
    return _comparison(job, rows, store, list(transfers))


def _judging(
    job: _Job,
    judges: Mapping[str, Runnable[Any, Any]],
    transfers: Sequence[str],
    store: ReplyStore,
    rows: Sequence[Mapping[str, Any]],
) -> list[Question]:
    """Every row to every judge, `n` times, with and without each transfer; the options in turn from both ends."""
    found = []
    for row in rows:
        for arm in (PLAIN, *transfers):
            sent = row["input"] if arm == PLAIN else store.get(row["id"], f"transfer {arm}").get("label")
            for name, judge in judges.items():
                for sample in range(job.n):
                    options = list(job.labels if sample % 2 == 0 else reversed(job.labels))
                    value = {"text": row["input"] if sent is None else sent, "options": options}
                    found.append(Question(row, _side(name, arm, sample), judge, value))
    return found


def _side(judge: str, arm: str, sample: int) -> str:
    return f"{judge} | {arm} | {sample}"


def _identity(part: Runnable[Any, Any], version: str | None, asked_how: str) -> str | None:
    found = identify(part, version=version).large
    return None if found is None else f"{found} {asked_how}".strip()


def _rows(job: _Job) -> list[dict[str, Any]]:
    """Each text a row: a case, and after it its twin."""
    rows = []
    cases = read_cases(job.cases, None, job.gold_key, job.id_key)
    rules = GoldRules.of(**job.gold_rules)
    golds = read_labels([row["gold"] for row in cases], job.labels, rules, where="`cases`: ", name=job.gold_key)
    for row, gold in zip(cases, golds, strict=True):
        text, twin = row["input"].get(job.input_key), row["input"].get(job.twin_key)
        if not isinstance(text, str) or not isinstance(twin, str | None):
            raise ValueError(  # noqa: TRY004 - a malformed case
                f"the case {row['id']!r} needs a text under {job.input_key!r}, and its {job.twin_key!r} must be a text"
            )
        rows.append({"id": row["id"], "input": text, "hash": hash_of(text), "gold": gold, "case": row["id"]})
        if twin is not None:
            turned = None if gold is None else job.turned(gold)
            rows.append(
                {"id": row["id"] + _TWIN, "input": twin, "hash": hash_of(twin), "gold": turned, "case": row["id"]}
            )
    return rows


# --- figures --------------------------------------------------------------------------------------------------------


def _comparison(job: _Job, rows: Sequence[Mapping[str, Any]], store: ReplyStore, transfers: list[str]) -> Comparison:
    arms = [_arm(job, rows, store, judge, arm) for judge in job.judges for arm in (PLAIN, *transfers)]
    currency = next((price.currency for price in (job.prices or {}).values()), None)
    twins = any(row["id"].endswith(_TWIN) for row in rows)
    return Comparison(tuple(arms), tuple(job.labels), job.n, twins, currency)


def _arm(job: _Job, rows: Sequence[Mapping[str, Any]], store: ReplyStore, judge: str, arm: str) -> Arm:
    replies = {row["id"]: [store.get(row["id"], _side(judge, arm, s)) for s in range(job.n)] for row in rows}
    came = {
        name: [(s, r) for s, r in enumerate(each) if r.get("label") is not None or r.get("unparsed")]
        for name, each in replies.items()
    }
    flat = [reply for each in came.values() for _, reply in each]
    count = max(len(flat), 1)
    shares = Counter(reply.get("label") for reply in flat)
    cases: dict[str, list[float]] = {}
    agreements = []
    for row in rows:
        said = [reply.get("label") for _, reply in came[row["id"]]]
        if not said:
            continue
        agreements.append(Counter(said).most_common(1)[0][1] / len(said))
        if row["gold"] is not None:
            cases.setdefault(row["case"], []).append(sum(label == row["gold"] for label in said) / len(said))
    right, low, high = _interval([math.fsum(each) / len(each) for each in cases.values()], job.seed)
    swaps = _swaps(job, rows, came)
    reported = [reply for reply in flat if reply.get("calls")]
    sent = [] if arm == PLAIN else [store.get(row["id"], f"transfer {arm}") for row in rows]
    tokens_small = sum(tokens_of(each, "small", "large") for each in sent) / count
    price = (job.prices or {}).get(judge)
    cost = None
    if price is not None and reported:
        cost = 1000 * math.fsum(cost_of(reply, price, job.small_price) for reply in reported) / len(reported)
        if job.small_price is not None:
            cost += 1000 * math.fsum(cost_of(each, job.small_price, job.small_price) for each in sent) / count
    return Arm(
        judge=judge,
        arm=arm,
        cases=len({row["case"] for row in rows}),
        replies=len(flat),
        failed=len(rows) * job.n - len(flat),
        shares={label: shares[label] / count for label in job.labels},
        unreadable=shares[None] / count,
        right=right,
        right_low=low,
        right_high=high,
        agreement=math.fsum(agreements) / max(len(agreements), 1),
        swap=math.fsum(swaps) / len(swaps) if swaps else None,
        swap_cases=len(swaps),
        tokens_in=_mean([sum(call[1] for call in reply["calls"]) for reply in reported]),
        tokens_out=_mean([sum(call[2] for call in reply["calls"]) for reply in reported]),
        tokens_small=tokens_small,
        cost=cost,
        transferred=sum(each.get("used", "original") != "original" for each in sent) / max(len(sent), 1),
    )


def _swaps(
    job: _Job, rows: Sequence[Mapping[str, Any]], came: Mapping[str, Sequence[tuple[int, Mapping[str, Any]]]]
) -> list[float]:
    """For each case, whether its verdict is the same when the parties, or else the options, change places."""

    def most(replies: Sequence[tuple[int, Mapping[str, Any]]]) -> str | None:
        found = Counter(reply.get("label") for _, reply in replies).most_common(1)
        return found[0][0] if found else None

    twins = [row for row in rows if row["id"].endswith(_TWIN)]
    swaps = []
    if twins:
        for row in twins:
            first, second = most(came[row["case"]]), most(came[row["id"]])
            swaps.append(float(first is not None and second is not None and job.turned(second) == first))
        return swaps
    for row in rows:
        forward = most([each for each in came[row["id"]] if each[0] % 2 == 0])
        backward = most([each for each in came[row["id"]] if each[0] % 2 == 1])
        if job.n > 1:
            swaps.append(float(forward is not None and forward == backward))
    return swaps


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _interval(values: Sequence[float], seed: int) -> tuple[float | None, float | None, float | None]:
    """The mean over cases with its 95 % percentile-bootstrap interval; None without cases."""
    if not values:
        return None, None, None
    column = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(column), size=(_DRAWS, len(column)))
    low, high = np.percentile(column[drawn].mean(axis=1), [2.5, 97.5])
    return float(column.mean()), float(low), float(high)
