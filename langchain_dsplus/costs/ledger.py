"""`CostLedger`: who was called, how many tokens, how long, how much money; and what the small models saved."""

from __future__ import annotations

import io
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, cast, get_args
from uuid import UUID

from langchain_core.tracers.context import register_configure_hook
from typing_extensions import TypedDict

from langchain_dsplus._shared import Shared
from langchain_dsplus.costs.prices import Price, find_price
from langchain_dsplus.costs.savings import (
    KEPT,
    Decisions,
    Estimate,
    PaidCall,
    add_estimates,
    count_characters,
    estimate_savings,
    interval,
    is_plain,
)
from langchain_dsplus.costs.usage import (
    CallListener,
    Usage,
    counts_itself,
    is_cache_hit,
    is_free,
    read_result,
    read_usage,
    reported_by,
)
from langchain_dsplus.tags import (
    BACKGROUND_TAG,
    CHEAPER_TAG,
    LARGE_TAG,
    NOSTREAM_TAG,
    ROUTE_EVENT,
    ROUTE_ID_KEY,
    TRANSFER_EVENT,
    TRANSFER_TAG,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

logger = logging.getLogger(__name__)

Side: TypeAlias = Literal["small", "transfer", "large", "audit", "other"]
SIDES: tuple[Side, ...] = get_args(Side)

_TAGS: dict[str, Side] = {TRANSFER_TAG: "transfer", LARGE_TAG: "large", CHEAPER_TAG: "large", NOSTREAM_TAG: "small"}
_OPEN = 200_000  # runs that have not ended; more can only be runs whose end was lost


class LedgerRow(TypedDict):
    """One model on one side."""

    side: Side
    model: str
    calls: int
    """Calls that were answered and are paid for; of an in-process small model the inputs."""
    failed: int
    cache_hits: int
    """Answers out of LangChain's own cache: they cost nothing and are in no other column."""
    unmetered: int
    """Calls that may have cost something, but reported no usage: then the cost is at least what it says."""
    input_tokens: int
    """As reported: with `unmetered` calls at least that many, as the other columns of tokens."""
    cached_tokens: int
    """Those of `input_tokens` that the provider took from its cache."""
    cache_write_tokens: int
    output_tokens: int
    seconds: float
    """Wall time of the calls, added up: calls at the same time count each."""
    cost: float | None
    """None where the price is unknown."""


class Transfers(TypedDict):
    """What `PromptTransfer` did to the texts: tokens of the texts alone, as its records count them."""

    texts: int
    rewritten: int
    """Those of which a rewrite went on, at least in part."""
    tokens_before: int
    tokens_after: int
    seconds: float
    """Wall time of rewriting and checking, calls of models included."""


@dataclass(slots=True)
class _Count:
    """What is added up for one model on one side."""

    calls: int = 0
    failed: int = 0
    cache_hits: int = 0
    unmetered: int = 0
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    local: bool = False
    """In this process, with no tokens to pay for."""

    def add(self, other: _Count) -> None:
        self.calls += other.calls
        self.failed += other.failed
        self.cache_hits += other.cache_hits
        self.unmetered += other.unmetered
        self.usage = self.usage + other.usage
        self.seconds += other.seconds
        self.local = self.local or other.local


_COUNTED = tuple(part.name for part in fields(_Count))


@dataclass(slots=True)
class _Run:
    """A run that has begun and not ended."""

    parent: _Run | None
    tags: frozenset[str]
    side: Side
    name: str
    inputs: Any
    depth: int
    """How many large chains of routers it is inside of."""
    model: str | None = None
    """What was asked for, where it is a call of a language model."""
    started: float = 0.0
    wraps: bool = False
    """Whether it is a model that calls models, which are counted themselves."""
    calls: list[PaidCall] = field(default_factory=list)
    """Of the large model, below this run's child `large`; of an audit, all."""
    unmetered: bool = False
    route: Mapping[str, Any] | None = None
    audit_of: str | None = None
    """The decision that this audit is about."""
    models: int = 0
    """Calls of models that have ended below it."""


class CostLedger(Shared, CallListener):
    """Counts tokens, calls, seconds and money, per model and side, and estimates what was saved.

    Use it as a callback, `config={"callbacks": [ledger]}`, or around everything, `with CostLedger() as ledger:`; both
    at once count once. One ledger may be used by many threads and tasks; a thread that you start yourself does not see
    the `with` around it: pass the ledger as a callback there. Background work that was started inside the `with` still
    counts after its end: `router.drain()` before you read.

    Sides: `small` (the router's small models, and `ChatClassifier`), `transfer` (`PromptTransfer`), `large`, `audit`
    (the large chain asked in the background about what was answered locally, with all that it calls) and `other`. They
    are told by the tags of the runs: `large`, `transfer`, `nostream`, `dsplus:background`; a model of your own counts
    as one if it carries its tag.

    Every call of a model is one run, and counts once when it ends, however many routers, retries or graphs are
    around it; a chat model that only passes calls on to others does not count. An answer out of LangChain's cache,
    or a node's `CachePolicy`, costs nothing. A failed call costs nothing where an HTTP status says so; else, and for
    streams that were left early, it counts as `unmetered`, and the money is "at least". Attempts that a client
    repeats inside one call (`max_retries`) are not seen; they carry no tokens.

    In-process small models have no run of their own: the router tells their inputs and seconds (`on_small_model`).

    Args:
        prices: `Price` by model name, before the list prices `PRICES`; or one `Price` for every model. A model without
            a price keeps its tokens, and its money is unknown; that is logged once.
        small_price_per_hour: What an hour of the machine of the small models costs, for those without a token price.
            Calls at the same time count each, so the sum is an upper bound.
        currency: Of all sums. A price in another one counts as unknown.
        seed: For the sample of escalations that is kept where there are more than a few thousand.

    Raises:
        TypeError: If `prices` holds something else than `Price`.
        ValueError: If `small_price_per_hour` is negative or not finite.

    Example:
        ```python
        from langchain_dsplus import CostLedger, Price

        with CostLedger({"my-model": Price(input=0.5, output=1.5)}, small_price_per_hour=0.6) as ledger:
            router.batch(texts)
        print(ledger.summary())
        ledger.saved()["net"]  # {"estimate": 1.93, "low": 1.81, "high": 2.05}
        ```
    """

    def __init__(
        self,
        prices: Mapping[str, Price] | Price | None = None,
        *,
        small_price_per_hour: float | None = None,
        currency: str = "USD",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if prices is not None and not isinstance(prices, Price):
            if not isinstance(prices, Mapping) or not all(isinstance(p, Price) for p in prices.values()):
                raise TypeError("`prices` must be a `Price`, or a dict from model name to `Price`")
            prices = dict(prices)
        if small_price_per_hour is not None and not 0.0 <= small_price_per_hour < math.inf:
            raise ValueError("`small_price_per_hour` must be a finite number, at least 0")
        self.prices = prices
        self.small_price_per_hour = small_price_per_hour
        self.currency = currency
        self.seed = seed
        self._lock = threading.RLock()
        self._runs: dict[UUID, _Run] = {}
        self._left: OrderedDict[UUID, _Run] = OrderedDict()
        self._clear()

    def _clear(self) -> None:
        self._counts: dict[tuple[Side, str], _Count] = {}
        self._reported: dict[str, set[str]] = {}
        self._said: set[str] = set()
        self._routers: dict[tuple[str, int], Decisions] = {}
        self._left.clear()
        self._audits: OrderedDict[str, tuple[str, int] | tuple[int, tuple[PaidCall, ...]]] = OrderedDict()
        self._transfers = Transfers(texts=0, rewritten=0, tokens_before=0, tokens_after=0, seconds=0.0)

    def reset(self) -> None:
        """Forget what was counted. Calls that are under way count when they end."""
        with self._lock:
            self._clear()

    # --- around everything --------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        _activate(self)
        return self

    def __exit__(self, *_: object) -> None:
        _deactivate(self)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    # --- runs that begin ----------------------------------------------------------------------------------------

    def on_begin(self, run_id: UUID, model: str | None, told: Mapping[str, Any]) -> None:
        """Note where the calls below it belong, and start the clock of a call."""
        name, parent_run_id = told.get("name"), told.get("parent_run_id")
        own = frozenset(told.get("tags") or ())
        with self._lock:
            if run_id in self._runs:  # heard twice
                return
            parent = None if parent_run_id is None else self._runs.get(parent_run_id)
            run = _Run(
                parent,
                own,
                _side(own, parent),
                name if isinstance(name, str) else "",
                told["inputs"],
                (0 if parent is None else parent.depth) + (LARGE_TAG in own),
                model,
            )
            if run.side == "audit" and (parent is None or parent.side != "audit"):
                run.audit_of = (told.get("metadata") or {}).get(ROUTE_ID_KEY)
            if model is not None:
                above = parent
                while above is not None:
                    above.wraps = above.wraps or above.model is not None
                    above = above.parent
            if model is not None and run.audit_of is None:
                run.inputs = None
            while len(self._runs) >= _OPEN:
                self._runs.pop(next(iter(self._runs)))
            self._runs[run_id] = run
            run.started = time.perf_counter()

    def on_tool_start(self, serialized: dict[str, Any] | None, input_str: str, **kwargs: Any) -> None:
        """Note where the calls below it belong."""
        self.on_chain_start(serialized, input_str, **{k: v for k, v in kwargs.items() if k != "inputs"})

    on_retriever_start = on_tool_start  # type: ignore[assignment]

    # --- runs that end ------------------------------------------------------------------------------------------

    def on_answer(self, run_id: UUID, message: Any, counts: Any, result: Any) -> None:
        """Count a call that ended, unless the model calls models, which are counted themselves."""
        name, hit = _name_of(message, result), is_cache_hit(counts)
        usage = None if hit else read_usage(counts)
        with self._lock:
            run = self._close(run_id)
            if run is None or run.model is None or run.wraps or counts_itself(message):
                return
            if name is not None:
                self._reported.setdefault(run.model, set()).add(name)
            self._count(run, name or run.model, usage, hit=hit)
            self._end_audit(run)

    def on_failure(self, run_id: UUID, error: BaseException, result: Any) -> None:
        """Count a call that failed, and what it may have cost all the same."""
        message, counts = read_result(result)
        usage = read_usage(counts)
        name, begun = _name_of(message, result), usage is not None or bool(getattr(message, "content", None))
        with self._lock:
            run = self._close(run_id)
            if run is None or run.model is None or run.wraps:
                return
            self._tell_above(run)
            count = self._counts.setdefault((run.side, name or run.model), _Count())
            count.failed += 1
            count.seconds += time.perf_counter() - run.started
            if usage is not None:
                count.usage = count.usage + usage
            if begun or not is_free(error):
                count.unmetered += 1
                self._mark_unmetered(run)
            self._end_audit(run)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the run."""
        self.on_end(run_id, {}, failed=False)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the run."""
        self.on_end(run_id, {}, failed=True)

    on_retriever_end, on_retriever_error = on_tool_end, on_tool_error  # type: ignore[assignment]

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Hear what a router decided, and what a prompt transfer did."""
        if not isinstance(data, Mapping):
            return
        with self._lock:
            run = self._runs.get(run_id)
            if name == ROUTE_EVENT and run is not None:
                if run.route is None or not data.get("accepted"):  # of several questions all must stay local
                    run.route = data
            elif name == TRANSFER_EVENT:
                self._transferred(run, data)

    def on_unanswered(self, route: Mapping[str, Any], *, run_id: UUID) -> None:
        """Count a decision whose large model failed. A router calls this: nobody else has an answer to hear of."""
        with self._lock:
            run = self._runs.get(run_id)
            if run is not None:
                run.route = route

    def _transferred(self, run: _Run | None, record: Mapping[str, Any]) -> None:
        """Count a rewritten text. A rewriter that is no chat model has no run of its own: its seconds are here."""
        done = self._transfers
        done["texts"] += 1
        done["rewritten"] += record["used"] in {"rewrite", "mixed"}
        for column in ("tokens_before", "tokens_after", "seconds"):
            done[column] += record[column]
        if record["calls"] and (run is None or not run.models):
            count = self._counts.setdefault(("transfer", "local"), _Count(local=True))
            count.calls += record["calls"]
            count.seconds += record["seconds"]

    def on_small_model(self, model: str, seconds: float) -> None:
        """Count one input of an in-process small model, and its share of the seconds of the batch that it was in.

        A router calls this: such a model has no run of its own.
        """
        with self._lock:
            count = self._counts.setdefault(("small", model), _Count(local=True))
            count.calls += 1
            count.seconds += seconds

    # --- counting -----------------------------------------------------------------------------------------------

    def _count(self, run: _Run, model: str, usage: Usage | None, *, hit: bool) -> None:
        self._tell_above(run)
        count = self._counts.setdefault((run.side, model), _Count())
        if hit:
            count.cache_hits += 1
            return
        count.calls += 1
        count.seconds += time.perf_counter() - run.started
        if usage is None:
            count.unmetered += 1
            self._mark_unmetered(run)
            return
        count.usage = count.usage + usage
        self._say_unpriced(run.side, model)
        if run.side == "large" or (run.side == "audit" and _TAGS.keys() & run.tags <= {LARGE_TAG}):
            call = PaidCall(model, usage)
            below: _Run = run
            if run.audit_of is not None:
                run.calls.append(call)
            while below.parent is not None:
                above = below.parent
                if LARGE_TAG in below.tags or above.audit_of is not None:
                    above.calls.append(call)
                below = above

    @staticmethod
    def _tell_above(run: _Run) -> None:
        """The runs around a model's call know of it: a prompt transfer's seconds are then counted there."""
        up = run.parent
        while up is not None:
            up.models += 1
            up = up.parent

    @staticmethod
    def _mark_unmetered(run: _Run) -> None:
        above: _Run | None = run
        while above is not None:
            above.unmetered = True
            above = above.parent

    def _close(self, run_id: UUID) -> _Run | None:
        run = self._runs.pop(run_id, None)
        if run is None and run_id in self._left:  # it came to an end after all
            run = self._left.pop(run_id)
            count = self._counts[run.side, str(run.model)]
            count.failed -= 1
            count.unmetered -= 1
        return run

    def _leave(self, run: _Run) -> None:
        """Count the calls below a failed run that have no end: LangChain does not tell of one that is cancelled."""
        for run_id, one in list(self._runs.items()):
            above = one.parent
            while above is not None and above is not run:
                above = above.parent
            if above is None:
                continue
            del self._runs[run_id]
            if one.model is None or one.wraps:
                continue
            count = self._counts.setdefault((one.side, one.model), _Count())
            count.failed += 1
            count.unmetered += 1
            self._mark_unmetered(one)
            self._left[run_id] = one
            while len(self._left) > KEPT:
                self._left.popitem(last=False)

    def on_end(self, run_id: UUID, told: Mapping[str, Any], *, failed: bool) -> None:
        """Count a decision, where this was a router's, also one that was made before something failed."""
        with self._lock:
            run = self._runs.pop(run_id, None)
            if run is None:
                return
            if failed:
                self._leave(run)
            if run.route is not None and run.side != "audit":
                inputs = told.get("inputs")
                self._decided(run, run.route, run.inputs if inputs is None else inputs, failed=failed)
            self._end_audit(run)

    def _decided(self, run: _Run, route: Mapping[str, Any], inputs: Any, *, failed: bool) -> None:
        # Unnamed routers inside each other have the same name: the depth tells them apart.
        key = (run.name, run.depth)
        router = self._routers.get(key)
        if router is None:
            router = self._routers[key] = Decisions(self.seed + 3 * len(self._routers))
        characters = count_characters(inputs)
        if route.get("accepted"):
            router.accepted += 1
            router.accepted_characters += characters
            if route.get("audited"):
                self._link(str(route.get("route_id")), key)
        elif failed or run.unmetered or route.get("degraded"):
            router.unknown += 1
        else:
            (router.plain if is_plain(route) else router.changed).add(characters, run.calls)

    def _end_audit(self, run: _Run) -> None:
        if run.audit_of is not None and not run.unmetered:
            inputs = run.inputs
            self._link(run.audit_of, (count_characters(inputs), tuple(run.calls)))

    def _link(self, route_id: str, found: tuple[str, int] | tuple[int, tuple[PaidCall, ...]]) -> None:
        """Bring a decision and its audit together, whichever is heard of first."""
        other = self._audits.pop(route_id, None)
        if other is None:
            self._audits[route_id] = found
            while len(self._audits) > KEPT:
                self._audits.popitem(last=False)
            return
        for key, audit in ((found, other), (other, found)):
            if isinstance(key[0], str) and isinstance(audit[1], tuple):
                self._routers[key[0], int(key[1])].audits.add(int(audit[0]), audit[1])

    # --- money --------------------------------------------------------------------------------------------------

    def price(self, model: str) -> Price | None:
        """Return what a model costs, or None where that is not known in this ledger's currency."""
        if isinstance(self.prices, Price):
            price: Price | None = self.prices
        else:
            price = find_price(model, self.prices) if self.prices else None
            price = price or find_price(model)
        return price if price is None or price.currency == self.currency else None

    def _say_unpriced(self, side: Side, model: str) -> None:
        if model in self._said or self.price(model) is not None:
            return
        if side == "small" and self.small_price_per_hour is not None:
            return
        self._said.add(model)
        logger.warning(
            "no price in %s is known for %r: its tokens are counted, its money is unknown; `prices=` takes a `Price`",
            self.currency,
            model[:80],
        )

    def _cost(self, side: Side, model: str, count: _Count) -> float | None:
        price = None if count.local else self.price(model)
        if price is not None:
            return price.cost(count.usage)
        if count.calls + count.failed == 0:
            return 0.0
        if side == "small" and self.small_price_per_hour is not None:
            return count.seconds / 3600.0 * self.small_price_per_hour
        # A call that an HTTP status refused before any token is known to be free.
        return None if count.local or count.calls or count.unmetered else 0.0

    # --- merging ------------------------------------------------------------------------------------------------

    def counts(self) -> list[dict[str, Any]]:
        """Return what was counted, per model and side, as plain records that another ledger can add.

        Money is not in them: it follows from the tokens, so that merged ledgers say the same as one would have.

        Example:
            >>> one, other = CostLedger(), CostLedger()
            >>> one.on_small_model("small", 0.5)
            >>> other.add_counts(one.counts() + one.counts())
            >>> other.table()[0]["calls"], other.table()[0]["seconds"]
            (2, 1.0)
        """
        with self._lock:
            return [
                {"side": side, "model": model, **asdict(count), "reported": sorted(self._reported.get(model, ()))}
                for (side, model), count in self._counts.items()
            ]

    def add_counts(self, counts: Iterable[Mapping[str, Any]]) -> None:
        """Add what another ledger counted; `saved()` knows nothing of its decisions.

        Args:
            counts: Records of `counts()`, of one ledger or of several.

        Raises:
            ValueError: If they are none.
        """
        try:
            read = [
                (
                    (str(row["side"]), str(row["model"])),
                    _Count(**{**{name: row[name] for name in _COUNTED}, "usage": Usage(**row["usage"])}),
                    set(map(str, row["reported"])),
                )
                for row in counts
            ]
        except (KeyError, TypeError) as error:
            raise ValueError("`counts` must be records of `CostLedger.counts()`") from error
        if not {side for (side, _), _, _ in read} <= set(SIDES):
            raise ValueError(f"`counts`: `side` must be one of {list(SIDES)}")
        with self._lock:
            for (side, model), count, names in read:
                self._counts.setdefault((cast("Side", side), model), _Count()).add(count)
                if names:
                    self._reported.setdefault(model, set()).update(names)

    # --- what it says -------------------------------------------------------------------------------------------

    def _merged(self) -> Iterator[tuple[Side, str, _Count]]:
        """The counts; calls that failed, and so did not say the model's dated name, with the others of that model."""
        merged: dict[tuple[Side, str], _Count] = {}
        for (side, model), count in self._counts.items():
            names = self._reported.get(model, set())
            name = next(iter(names)) if len(names) == 1 else model
            merged.setdefault((side, name), _Count()).add(count)
        for (side, model), count in sorted(merged.items(), key=lambda item: (SIDES.index(item[0][0]), item[0][1])):
            yield side, model, count

    def table(self) -> list[LedgerRow]:
        """Return one plain record per side and model."""
        with self._lock:
            return [
                {
                    "side": side,
                    "model": model,
                    "calls": count.calls,
                    "failed": count.failed,
                    "cache_hits": count.cache_hits,
                    "unmetered": count.unmetered,
                    "input_tokens": count.usage.input,
                    "cached_tokens": count.usage.cached,
                    "cache_write_tokens": count.usage.written + count.usage.written_1h,
                    "output_tokens": count.usage.output,
                    "seconds": count.seconds,
                    "cost": self._cost(side, model, count),
                }
                for side, model, count in self._merged()
            ]

    def total(self) -> dict[str, Any]:
        """Return the sums over all sides.

        Returns:
            The columns of `LedgerRow` that can be added, `currency`, `unpriced` (models whose money is not in `cost`),
            `open` (calls without an end: under way, or cancelled, which LangChain does not always tell) and `complete`:
            whether `cost` is all that it cost. If not, it cost at least that.
        """
        rows = self.table()
        result: dict[str, Any] = {
            name: sum(row[name] for row in rows) for name in ("calls", "failed", "cache_hits", "unmetered")
        }
        for name in ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens"):
            result[name] = sum(row[name] for row in rows)
        result["seconds"] = math.fsum(row["seconds"] for row in rows)
        result["cost"] = math.fsum(row["cost"] for row in rows if row["cost"] is not None)
        result["currency"] = self.currency
        result["unpriced"] = sorted({row["model"] for row in rows if row["cost"] is None})
        with self._lock:
            result["open"] = sum(run.model is not None and not run.wraps for run in self._runs.values())
        result["complete"] = not result["unpriced"] and not result["unmetered"] and not result["open"]
        return result

    @property
    def cost(self) -> float | None:
        """What everything cost, in `currency`; None where a model with a price per token has none that is known."""
        with self._lock:
            rows = [(self._cost(side, model, count), count.local) for side, model, count in self._merged()]
        if any(cost is None and not local for cost, local in rows):
            return None
        return math.fsum(cost for cost, _ in rows if cost is not None)

    def saved(self, level: float = 0.95) -> dict[str, Any]:
        """Estimate what was saved: what everything would have cost with the plain prompt, less what it did cost.

        What an accepted input would have cost follows from its length, by a straight line through what the large model
        cost for other inputs of the same router: audits, and escalations with the plain prompt; where those are fewer
        than five, all escalations. All those are taken to get as many tokens from the provider's prompt cache as is
        usual where there are any, so that escalations that lost it count against the saving.

        Args:
            level: Of the intervals: Student's, with variances that may grow with the length (HC3). They hold the
                spread of the inputs, not a difference in kind between easy and hard ones.

        Returns:
            `accepted`, `escalated`: inputs. `avoided`: what the accepted would have cost. `prompts`: what changed
            prompts saved on escalations, without `cache_lost`: what escalations lost in prompt-cache discounts.
            `overhead`: small models, transfer and audits. `net`: what is left. `input_tokens`, `output_tokens`: of the
            large model, that the accepted would have taken. `basis` (`plain`, `escalations`, or None where too
            little is known), `sample` (inputs that the estimate rests on), `without` (models whose cost is not in
            it), `level`, `currency`. Estimates are dicts of `estimate`, `low`, `high`, or None.

        Raises:
            ValueError: If `level` is not between 0 and 1.
        """
        if not 0.0 < level < 1.0:
            raise ValueError("`level` must be between 0 and 1")
        with self._lock:
            rows = self.table()
            routers = [router.snapshot() for router in self._routers.values()]
        parts = [estimate_savings(router, self.price) for router in routers]
        extra = [row for row in rows if row["side"] in {"small", "transfer", "audit"}]
        overhead = math.fsum(row["cost"] for row in extra if row["cost"] is not None)
        costs = [part.avoided for part in parts]
        avoided = add_estimates(costs)
        changed = [part.prompts for part in parts]
        gains = add_estimates([part.both for part in parts])
        lost = None if any(p.cache_lost is None for p in parts) else math.fsum(p.cache_lost or 0.0 for p in parts)
        net = None
        if gains is not None and lost is not None:
            net = Estimate(gains.value - lost - overhead, gains.variance, gains.freedom)
        bases = {part.basis for part in parts if part.needed}
        return {
            "accepted": sum(part.accepted for part in parts),
            "escalated": sum(part.escalated for part in parts),
            "avoided": interval(avoided, level),
            "prompts": interval(add_estimates(changed), level),
            "cache_lost": lost,
            "overhead": overhead,
            "net": interval(net, level),
            "input_tokens": interval(add_estimates([part.tokens_in for part in parts]), level),
            "output_tokens": interval(add_estimates([part.tokens_out for part in parts]), level),
            "basis": None if None in bases or not bases else "escalations" if "escalations" in bases else "plain",
            "sample": sum(part.sample for part in parts),
            "without": sorted({row["model"] for row in extra if row["cost"] is None}),
            "level": level,
            "currency": self.currency,
        }

    def to_dict(self, level: float = 0.95) -> dict[str, Any]:
        """Return all of it as strict JSON: `rows`, `total`, `saved`, `transfers`."""
        return {
            "rows": self.table(),
            "total": self.total(),
            "saved": self.saved(level),
            "transfers": self.transfers(),
        }

    def transfers(self) -> Transfers:
        """Return what prompt transfer did to the texts. Its calls are rows of the side `transfer`."""
        with self._lock:
            return self._transfers.copy()

    def summary(self, level: float = 0.95, *, width: int = 110) -> str:
        """Return a table and two sentences, as plain text of at most `width` columns."""
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=width, color_system=None, legacy_windows=False).print(self._render(level))
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def __rich__(self) -> RenderableType:
        return self._render(0.95)

    def _render(self, level: float) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        rows, total, saved = self.table(), self.total(), self.saved(level)
        table = Table("side", "model")
        for name in ("calls", "failed", "cache hits", "tokens in", "from cache", "tokens out", "s / call"):
            table.add_column(name, justify="right")
        table.add_column(self.currency, justify="right")

        def cells(row: Mapping[str, Any]) -> list[str]:
            made, least = row["calls"] + row["failed"], row["unmetered"] + row.get("open", 0) > 0
            return [
                *(f"{row[name]:,}" for name in ("calls", "failed", "cache_hits")),
                *(_tokens(row[name], least=least) for name in ("input_tokens", "cached_tokens", "output_tokens")),
                f"{row['seconds'] / made:.3g}" if made else "",
            ]

        for row in rows:
            # Names come from a server: no markup.
            table.add_row(row["side"], Text(row["model"]), *cells(row), _money(row["cost"], least=row["unmetered"] > 0))
        table.add_section()
        table.add_row("all", "", *cells(total), _money(total["cost"], least=not total["complete"]))
        told = _sentences(total, saved)
        done = self.transfers()
        if done["texts"]:
            told += (
                f"\nPrompt transfer: {done['rewritten']:,} of {done['texts']:,} texts rewritten, "
                f"{done['tokens_before']:,} -> {done['tokens_after']:,} tokens."
            )
        return Group(table, Text(told))

    def __repr__(self) -> str:
        total = self.total()
        least = "" if total["complete"] else "at least "
        return f"<CostLedger: {total['calls']} calls, {least}{total['cost']:.6g} {self.currency}>"


# --- the context ------------------------------------------------------------------------------------------------------

# One variable per level of nesting, since a hook adds the one handler that its variable holds.
_ACTIVE: list[ContextVar[CostLedger | None]] = []
_ACTIVE_LOCK = threading.Lock()


def _activate(ledger: CostLedger) -> None:
    for variable in _ACTIVE:
        if variable.get() is None:
            variable.set(ledger)
            return
    variable = ContextVar[CostLedger | None](f"dsplus_ledger_{len(_ACTIVE)}", default=None)
    with _ACTIVE_LOCK:
        register_configure_hook(variable, inheritable=True)
        _ACTIVE.append(variable)
    variable.set(ledger)


def _deactivate(ledger: CostLedger) -> None:
    for variable in reversed(_ACTIVE):
        if variable.get() is ledger:
            variable.set(None)
            return


# --- reading runs -----------------------------------------------------------------------------------------------------


def _side(tags: frozenset[str], parent: _Run | None) -> Side:
    """Which side a run is on: the nearest tag says it. All that an audit calls is the audit's."""
    if parent is not None and parent.side == "audit":
        return "audit"
    new = tags if parent is None else tags - parent.tags
    for tag, side in _TAGS.items():
        if tag in new:
            return side
    if BACKGROUND_TAG in new:
        return "audit"
    return "other" if parent is None else parent.side


def _name_of(message: Any, result: Any) -> str | None:
    """What the model that replied calls itself."""
    name = reported_by(message)[0] or (getattr(result, "llm_output", None) or {}).get("model_name")
    return name if isinstance(name, str) and name else None


# --- words ------------------------------------------------------------------------------------------------------------


def _money(cost: float | None, *, least: bool = False) -> str:
    if cost is None:
        return "unknown"
    return f"{'≥ ' if least else ''}{cost:.4g}"


def _tokens(count: int, *, least: bool) -> str:
    """A number of tokens; where calls did not say theirs, as a cancelled one, it is at least that."""
    return f"{count:,}" if not least else f"≥ {count:,}" if count else "unknown"


def _sentences(total: Mapping[str, Any], saved: Mapping[str, Any]) -> str:
    lines: list[str] = []
    if total["unpriced"]:
        lines.append(f"Without {', '.join(total['unpriced'])}: no price is known.")
    if total["open"]:
        lines.append(f"{total['open']} calls have not ended: their tokens are unknown.")
    if total["unmetered"]:
        lines.append(f"{total['unmetered']} calls reported no tokens: theirs are unknown.")
    net = saved["net"]
    decided = saved["accepted"] + saved["escalated"]
    if decided:
        lines.append(f"{saved['accepted']:,} of {decided:,} inputs stayed local.")
    if net is not None and saved["basis"] is not None:
        lines.append(
            f"Saved {net['estimate']:.4g} {saved['currency']}, {saved['level']:.0%} interval {net['low']:.4g} to "
            f"{net['high']:.4g}, after {saved['overhead']:.4g} for small models, transfer and audits."
        )
    elif saved["accepted"]:
        why = "too few escalations to tell" if saved["basis"] is None else "a price is missing"
        lines.append(f"What that saved is not known: {why}.")
    return "\n".join(lines)
