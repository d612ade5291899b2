"""Ask all models about a data set once, and keep what they said: the rows that thresholds are chosen on."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from langchain_core.exceptions import OutputParserException
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs

from langchain_dsplus import _drive
from langchain_dsplus._inputs import hash_of
from langchain_dsplus._progress import progress_bar
from langchain_dsplus.answer import Answer, failure, must_pass
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.costs.savings import count_characters
from langchain_dsplus.identity import identify
from langchain_dsplus.outcomes import Outcomes, default_label
from langchain_dsplus.outcomes.cells import known_labels, missing, to_text
from langchain_dsplus.outcomes.columns import rows_of
from langchain_dsplus.outcomes.gold import GoldOptions, GoldRules, read_labels
from langchain_dsplus.outcomes.uses import table_key
from langchain_dsplus.prompts.chain_labels import check_chain_labels
from langchain_dsplus.scores.protocol import Rated, RouteScore
from langchain_dsplus.small_models.base import SmallModel
from langchain_dsplus.small_models.runnable import mark_inputs
from langchain_dsplus.tags import ROUTE_KEY
from langchain_dsplus.traces.lanes import AskEach
from langchain_dsplus.traces.outcome_rows import EMPTY, Told, named_models, outcome_row, table_facts
from langchain_dsplus.traces.replies import Meter, ReplyStore

_CHARACTERS_PER_TOKEN = 4
_REPLY_TOKENS = 20
_SUSPICIOUS = 3
"""So many calls that all fail alike are no bad luck."""


class CostLimitError(ValueError):
    """The estimate for a whole collection is above `max_cost`: nothing was asked."""


def collect_outcomes(
    small: Any,
    large: Runnable[Any, Any],
    dataset: Iterable[Any],
    *,
    input_key: str | None = "input",
    gold_key: str = "gold",
    id_key: str = "id",
    group_key: str = "group",
    path: str | Path | None = None,
    chunk_size: int = 64,
    max_concurrency: int | None = None,
    price: Price | None = None,
    max_cost: float | None = None,
    large_pruned: Runnable[Any, Any] | None = None,
    to_label: Callable[[Any], str] | None = None,
    context_key: str = ROUTE_KEY,
    progress: bool = True,
    config: RunnableConfig | None = None,
    about: Mapping[str, Any] | None = None,
    version: str | None = None,
    verbose_errors: bool = False,
    score: RouteScore | None = None,
    retry_unparsed: bool = False,
    key: str | bytes | None = None,
    **gold_rules: Unpack[GoldOptions],
) -> Outcomes:
    """Ask the small models and the large one about every row, and return the outcomes.

    The large model gets the plain prompt: a dict input with `{"answer": None, "probabilities": {}}` under
    `context_key`, any other input unchanged. A row whose call failed stays, with `large` None and the error's type.
    With `path`, every answer is on disk before whoever got it asks again, so a kill costs the calls in flight alone;
    called again with the same `path`, only what is missing or had failed is asked. The small models are asked anew each
    time, so a retrained one needs no new LLM answers. With `progress`, it says beforehand about how many tokens, and
    with `price` how much money, it will take.

    Args:
        small: A small model, or several, as `ConfidenceRouter(small=...)` takes them. All of several are asked about
            every row: columns `small.<name>`, `confidence.<name>`, `probabilities.<name>`.
        large: The chat model or chain that costs money, prompt and parser included.
        dataset: Mappings, (input, gold) pairs, or a DataFrame. Rows in which nothing stands are left out.
        input_key: Where a mapping holds the input; None takes the whole mapping without id, gold and group.
        gold_key: Where it holds the truth; may be missing or None.
        id_key: Where it holds an id that is its own; by default its place.
        group_key: Where it holds a group (customer, thread); may be missing.
        path: A JSONL file for the large model's answers, to write to and to resume from. It is no table of outcomes:
            save the result for that (`Outcomes.to_jsonl`).
        chunk_size: Rows that are handed to the models at a time.
        max_concurrency: LLM calls at a time.
        price: Fills `cost_large`.
        max_cost: What this call may spend (needs `price`). An estimate above it raises before anything is asked. Each
            chain is first asked about one row at a time, until a reply has a price; then about as many rows at once as
            the rest pays for, each taken to cost what the dearest so far did, and at most one per concurrent call. It
            stops with a warning, and returns the rows so far, where the rest does not pay for one more such row, and
            where a reply reports no usage, since what it cost is unknown. So the sum can be above `max_cost` only by
            the first row, or where rows asked at once turn out dearer than all before them: by one row for each
            concurrent call at most (`max_concurrency`, or LangChain's default: the cores + 4, at most 32). Calls that
            fail without a reply count as free.
        large_pruned: A second chain (or the same), asked with the small model's answer and probabilities under
            `context_key`, of several small models the last one's, as a router does where all are unsure; its answers
            become `large_pruned`. Inputs must be dicts. Where a small model failed it is not asked: there, a router
            uses the plain prompt.
        to_label: From the large chain's output to a label, a str; by default a message's text, a str as it is, the only
            field of a model or dict, stripped. Where it raises or returns something else, the row gets an `error`.
        context_key: As in `ConfidenceRouter`.
        progress: Show a progress bar on stderr.
        config: Passed on to the large chain.
        about: Said about the rows, next to score, labels, the small models' versions, and what the large chain and its
            prompt are.
        version: Your own text for what the large chains are, where `identify` cannot see into them (closures, graphs).
        verbose_errors: Where every call of a chunk fails in the same way, quote the first error, which may carry texts
            of yours, instead of only naming its type.
        retry_unparsed: Ask again, at a second call with the same `path`, about rows whose reply the chain's parser
            could not read; by default they were asked, and stay without an answer.
        key: Under which inputs are hashed for `input_hash`, at least 16 characters. By default the folder of `path` has
            one, made at first use (`.dsplus/key`, for its owner alone); without `path` a fresh one, which nobody keeps.
        score: A `RouteScore`, fitted on other rows: then its numbers are the confidence. For a table that is there
            already: `scores.score_outcomes`.
        **gold_rules: `gold_map`, `unknown_gold`, `other_gold`, as in `Outcomes`.

    Returns:
        Columns: id, small, confidence, probabilities, large, gold, and where known group, large_pruned, error,
        small_error, input_hash (what the first small model reads, as a keyed hash: no text is kept), in_training
        (whether a small model was trained on the input, where the models know what they were trained on),
        latency_small, latency_large (seconds), tokens_input, tokens_output, tokens_cached, cost_large. A
        cached LLM reply costs nothing. `about` says score, labels, large_labels (those that only the `LabelParser` of
        the chain knows), small (version; of several by name), large and prompt (see `identify`; missing where unknown),
        and large_reported: the model names and fingerprints that the replies carried.

    Warns:
        UserWarning: Where it stops at `max_cost`, and where three or more calls are made for a chunk and all fail with
            the same type of error.

    Raises:
        CostLimitError: If the estimate is above `max_cost`.
        ValueError: If rows are malformed, ids repeat, gold is none of the labels (nothing was asked then), the chain's
            labels do not go with those of a small model, or `path` holds answers to other inputs or of another chain,
            or is a file that this function did not write, which is left as it is.

    Example:
        ```python
        rows = [{"id": "1", "input": {"text": "great"}, "gold": "pos"}]
        outcomes = collect_outcomes(small, prompt | llm | parser, rows, path="answers.jsonl")
        ```
    """
    return _drive.run(_plan(_Job(**locals())))


async def acollect_outcomes(small: Any, large: Runnable[Any, Any], dataset: Iterable[Any], **options: Any) -> Outcomes:
    """Async twin of `collect_outcomes`: the same arguments, files and result."""
    given = inspect.signature(collect_outcomes).bind(small, large, dataset, **options)
    given.apply_defaults()
    return await _drive.arun(_plan(_Job(**given.arguments)))


# --- the steps, each once -------------------------------------------------------------------------------------------


@dataclass
class _Job:
    """The arguments of `collect_outcomes`."""

    small: Any
    large: Runnable[Any, Any]
    dataset: Iterable[Any]
    input_key: str | None
    gold_key: str
    id_key: str
    group_key: str
    path: str | Path | None
    chunk_size: int
    max_concurrency: int | None
    price: Price | None
    max_cost: float | None
    large_pruned: Runnable[Any, Any] | None
    to_label: Callable[[Any], str] | None
    context_key: str
    progress: bool
    config: RunnableConfig | None
    about: Mapping[str, Any] | None
    version: str | None
    verbose_errors: bool
    score: RouteScore | None
    retry_unparsed: bool
    key: str | bytes | None
    gold_rules: GoldOptions

    def check(self) -> None:
        if self.max_cost is not None and self.price is None:
            raise ValueError("`max_cost` needs `price`")
        if self.max_cost is not None and not self.max_cost >= 0:
            raise ValueError("`max_cost` must be a number, at least 0")
        if self.about is not None and not isinstance(self.about, Mapping):
            raise TypeError(f"`about` must be a dict, not {type(self.about).__name__}")
        if self.chunk_size < 1:
            raise ValueError("`chunk_size` must be at least 1")
        for name, chain in (("large", self.large), ("large_pruned", self.large_pruned)):
            if chain is not None and not isinstance(chain, Runnable):
                raise TypeError(f"`{name}` must be a chat model or a chain (a Runnable), not {type(chain).__name__}")


@dataclass
class _AskSmall:
    """Ask a small model; gives its answers."""

    model: SmallModel | Rated
    inputs: list[Any]

    def run(self) -> Any:
        return self.model.answers(self.inputs)

    async def arun(self) -> Any:
        return await self.model.aanswers(self.inputs)


_Work = _AskSmall | AskEach


def _plan(job: _Job) -> Generator[_Work, Any, Outcomes]:
    """Yield what is to be asked, get what came of it, and return the outcomes; sync or async alike."""
    job.check()
    models = named_models(job.small)
    folder = None if job.path is None else Path(job.path).absolute().parent
    key = table_key(job.key, folder)
    offered = _labels(job, models)
    rows = read_dataset(job.dataset, job.input_key, job.gold_key, job.id_key, job.group_key)
    rules = _read_gold(job, rows, known_labels({**offered, **(job.about or {})}))
    if job.large_pruned is not None and not all(isinstance(row["input"], dict) for row in rows):
        raise ValueError("`large_pruned` needs dict inputs: the small model's answer reaches it under `context_key`")
    identities = {"large": identify(job.large, version=job.version)}
    if job.large_pruned is not None:
        identities["large_pruned"] = identify(job.large_pruned, version=job.version)
    chains = {side: identities[side].large if side in identities else None for side in ("large", "large_pruned")}
    store = ReplyStore(job.path, chains, {row["id"]: row["hash"] for row in rows})
    store.retry_unparsed = job.retry_unparsed
    estimate = _Estimate(job, [row for row in rows if not store.has(row["id"], "large")])
    estimate.check()
    asker = _Asker(job, store)
    done: list[dict[str, Any]] = []
    with ExitStack() as stack:
        if job.progress:
            estimate.tell()
        advance = stack.enter_context(progress_bar("asking the large model", len(rows), show=job.progress))
        stack.enter_context(store)
        for start in range(0, len(rows), job.chunk_size):
            chunk = rows[start : start + job.chunk_size]
            said: dict[str, Told] = {}
            for name, model in models.items():
                began = time.perf_counter()
                asked = model if job.score is None else Rated(job.score, model)
                answers = yield _AskSmall(asked, [row["input"] for row in chunk])
                said[name] = Told(answers, (time.perf_counter() - began) / len(chunk))
            plain = [(row, _with_context(row["input"], job.context_key, None)) for row in chunk]
            kept = yield from asker.ask(job.large, plain, "large", advance)
            if job.large_pruned is not None and kept:
                kept = yield from asker.ask(job.large_pruned, _pruned(job, chunk, said), "large_pruned", lambda _: None)
            marks = mark_inputs(list(models.values()), [row["input"] for row in chunk], key)
            done.extend(
                outcome_row(
                    row,
                    {name: told.at(place) for name, told in said.items()},
                    store,
                    pruned=job.large_pruned is not None,
                )
                | marks[place]
                for place, row in enumerate(chunk)
                if store.asked(row["id"], "large")
            )
            if not kept:
                message = f"{asker.why}: {len(done)} of {len(rows)} rows were asked"
                warnings.warn(message, UserWarning, stacklevel=4)
                break
    facts = {**table_facts(models, identities, store, job.score), **offered, **(job.about or {})}
    told: dict[str, Any] = dataclasses.asdict(rules)
    outcomes = Outcomes.from_records(done, about=facts, **told) if done else Outcomes(EMPTY, about=facts, **told)
    outcomes.folder = folder
    return outcomes


def _read_gold(job: _Job, rows: Sequence[dict[str, Any]], labels: frozenset[str] | None) -> GoldRules:
    """Read the gold of all rows where the labels are known, before anything is paid for; the rules that are left."""
    rules = GoldRules.of(**job.gold_rules)
    if labels is None:
        return rules
    gold = [row["gold"] for row in rows]
    number = [f"row {row['number']}" for row in rows]
    read = read_labels(gold, labels, rules, where="`dataset`: ", name=job.gold_key, row=number.__getitem__)
    for row, label in zip(rows, read, strict=True):
        row["gold"] = label
    return GoldRules(other_gold=rules.other_gold)


def _pruned(
    job: _Job, chunk: Sequence[dict[str, Any]], said: Mapping[str, Told]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The rows that are asked with the pruned prompt, each with the small model's answer."""
    return [
        (row, _with_context(row["input"], job.context_key, answers[-1]))
        for row, *answers in zip(chunk, *(told.answers for told in said.values()), strict=True)
        if not any(isinstance(answer, Exception) for answer in answers)
    ]


def _labels(job: _Job, models: Mapping[str, SmallModel]) -> dict[str, Any]:
    """What may be answered, for `about`: the small models' labels, and those that only the large chain offers."""
    labels = list(dict.fromkeys(label for model in models.values() for label in model.labels))
    more: dict[str, None] = {}
    for name, chain in (("large", job.large), ("large_pruned", job.large_pruned)):
        more.update(dict.fromkeys(check_chain_labels(models.values(), chain, name)))
    others = [label for label in more if label not in labels]
    return {"labels": labels, **({"large_labels": others} if labels and others else {})}


# --- rows -----------------------------------------------------------------------------------------------------------


def read_dataset(
    dataset: Iterable[Any],
    input_key: str | None,
    gold_key: str,
    id_key: str,
    group_key: str,
    *,
    any_gold: bool = False,
) -> list[dict[str, Any]]:
    """Read rows as `collect_outcomes` takes them: dicts with id, input, gold, group and the input's hash.

    With `any_gold` gold is left as it came, whatever it is.
    """
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for place, item in enumerate(rows_of(dataset)):
        gold = group = None
        name = str(place)
        if isinstance(item, Mapping):
            if item and all(map(missing, item.values())):
                continue  # an empty line of a spreadsheet
            if input_key is not None and input_key not in item:
                raise ValueError(f"row {place + 1} of `dataset` has no key {input_key!r}: name it with `input_key=`")
            name = _checked(item.get(id_key, place), place, id_key)
            gold = item.get(gold_key)
            group = _checked(item.get(group_key), place, group_key, optional=True)
            apart = {id_key, gold_key, group_key}
            value: Any = {k: v for k, v in item.items() if k not in apart} if input_key is None else item[input_key]
        elif isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2:
            value, gold = item
        else:
            raise ValueError(
                f"row {place + 1} of `dataset` must be a mapping or an (input, gold) pair, not {type(item).__name__}"
            )
        if missing(value):
            raise ValueError(f"row {place + 1} of `dataset` has no input (None or NaN)")
        if isinstance(value, Mapping):
            value = dict(value)
        if name in seen:
            raise ValueError(f"row {place + 1} of `dataset` repeats the id of a row before: ids must be distinct")
        seen.add(name)
        if not (any_gold or isinstance(gold, Mapping)):  # an object around a label is left for the rule for gold
            gold = _checked(gold, place, gold_key if isinstance(item, Mapping) else "gold", optional=True)
        row = {"id": name, "input": value, "gold": gold, "group": group, "hash": hash_of(value), "number": place + 1}
        rows.append(row)
    return rows


def _checked(value: Any, place: int, field: str, *, optional: bool = False) -> Any:
    """A text, or a whole number as one: what `Outcomes` takes. Found now, since afterwards the answers are paid."""
    try:
        text = to_text(value)
        if text is not None or optional:
            return text
    except TypeError:
        pass
    wanted = "a text, a whole number or None" if optional else "a text or a whole number"
    raise ValueError(f"row {place + 1} of `dataset`: {field!r} must be {wanted}, not {type(value).__name__}")


def _with_context(value: Any, key: str, answer: Answer | None) -> Any:
    if not isinstance(value, dict):
        return value
    probabilities = {} if answer is None else dict(answer["probabilities"])
    return {**value, key: {"answer": answer, "probabilities": probabilities}}


class _Estimate:
    """About what the rows will take, from below: the prompt around the input is not known here."""

    def __init__(self, job: _Job, missing: Sequence[Mapping[str, Any]]) -> None:
        self.job = job
        self.rows = len(missing)
        calls = 1 if job.large_pruned is None else 2
        tokens = sum(math.ceil(count_characters(row["input"]) / _CHARACTERS_PER_TOKEN) for row in missing)
        self.input, self.output = calls * tokens, calls * _REPLY_TOKENS * self.rows
        usage = {"input_tokens": self.input, "output_tokens": self.output}
        self.cost = None if job.price is None else job.price.cost(usage)

    def check(self) -> None:
        """Refuse what is too dear, before anything is asked."""
        price, limit = self.job.price, self.job.max_cost
        if price is not None and self.cost is not None and limit is not None and self.cost > limit:
            raise CostLimitError(
                f"asking about {self.rows} rows would cost about {self.cost:.4g} {price.currency}, above `max_cost` "
                f"({limit:.4g}). Pass fewer rows, or a higher `max_cost`"
            )

    def tell(self) -> None:
        """Say it on stderr."""
        from rich.console import Console

        text = "every row is answered already"
        if self.rows:
            text = f"asking about {self.rows:,} rows: at least {self.input:,} tokens, without the prompt around them"
            if self.cost is not None and self.job.price is not None:
                text += f", or {self.cost:.2g} {self.job.price.currency}"
        Console(stderr=True).print(text, markup=False, highlight=False)


# --- asking ---------------------------------------------------------------------------------------------------------


class _Asker:
    def __init__(self, job: _Job, store: ReplyStore) -> None:
        self.store = store
        self.price = job.price
        self.max_cost = job.max_cost
        self.to_label = job.to_label or default_label
        self.verbose = job.verbose_errors
        self.config: Any = dict(job.config or {})
        if job.max_concurrency is not None:
            self.config["max_concurrency"] = job.max_concurrency
        self.slots = self.config.get("max_concurrency") or min(32, (os.cpu_count() or 1) + 4)
        self.config["max_concurrency"] = self.slots  # in async code LangChain's default is no limit
        self.spent = 0.0
        self.dearest: dict[str, float] = {}  # row by side
        self.unknown = False
        self.why = ""
        self.warned: set[tuple[str, str]] = set()

    def ask(
        self,
        chain: Runnable[Any, Any],
        items: Sequence[tuple[dict[str, Any], Any]],
        side: str,
        advance: Callable[[int], None],
    ) -> Generator[AskEach, Any, bool]:
        """Ask about the items that have no answer yet. False where the money did not last."""
        due = [(row, value) for row, value in items if not self.store.has(row["id"], side, hash_of(value))]
        advance(len(items) - len(due))
        failures: list[Exception | None] = []
        while due:
            size = self._affordable(len(due), side)
            if size == 0:
                self.why = "stopped at `max_cost`"
                return False
            yield self._request(chain, due[:size], side, advance, failures)
            due = due[size:]
            if self.unknown and self.max_cost is not None:
                self.why = "stopped, since a reply reported no usage and `max_cost` cannot be kept without"
                return False
        self._look(side, failures)
        return True

    def _look(self, side: str, failures: Sequence[Exception | None]) -> None:
        """Warn where nothing works: a wrong key or address is better heard of after one chunk than at the end."""
        kinds = {type(error).__name__ for error in failures if error is not None}
        if len(failures) < _SUSPICIOUS or None in failures or len(kinds) != 1 or (side, *kinds) in self.warned:
            return
        kind = kinds.pop()
        self.warned.add((side, kind))
        text = f"all {len(failures)} calls of `{side}` for these rows failed with {kind}"
        # An error's text may carry the user's.
        more = (
            f": {failures[0]}"
            if self.verbose
            else f". To see why: `{side}.invoke(...)` on one row, or verbose_errors=True"
        )
        warnings.warn(text + more, UserWarning, stacklevel=6)

    def _affordable(self, wanted: int, side: str) -> int:
        """How many rows to ask at once: what the rest pays for if each costs what the dearest did; 0 ends it."""
        if self.max_cost is None:
            return wanted
        rest = self.max_cost - self.spent
        if rest <= 0:
            return 0
        dearest = self.dearest.get(side)
        if dearest is None:
            return 1
        most = min(wanted, self.slots)
        # A hair more, so that sums such as 0.1 + 0.2 do not cost a row.
        return most if dearest == 0 else math.floor(min(most, rest / dearest * (1 + 1e-9)))

    def _request(
        self,
        chain: Runnable[Any, Any],
        items: Sequence[tuple[dict[str, Any], Any]],
        side: str,
        advance: Callable[[int], None],
        failures: list[Exception | None],
    ) -> AskEach:
        meters = [Meter() for _ in items]

        def take(place: int, output: Any) -> None:
            failures.append(self._take(items[place], side, meters[place], output))
            advance(1)

        configs: list[RunnableConfig] = [merge_configs(self.config, {"callbacks": [meter]}) for meter in meters]
        return AskEach([(chain, value) for _, value in items], configs, take)

    def _take(self, item: tuple[dict[str, Any], Any], side: str, meter: Meter, output: Any) -> Exception | None:
        """Keep one output; return what failed."""
        row, value = item
        entry: dict[str, Any] = {"id": row["id"], "side": side, "hash": row["hash"], "asked": hash_of(value)}
        answered = not isinstance(output, BaseException)
        failed: Any = None if answered else output
        if answered:
            try:
                meter.name(output)
                if meter.usage is None:
                    meter.add(getattr(output, "usage_metadata", None))
                    if meter.usage is not None:
                        meter.silent -= 1
                label = self.to_label(output)
                if not isinstance(label, str):
                    raise TypeError(f"`to_label` returned {type(label).__name__}, not a str")
                entry["label"] = str(label)  # NumPy's texts become plain ones
            except Exception as error:  # noqa: BLE001
                failed = failure(error)
        if failed is not None:
            entry["error"] = type(failed).__name__
            # It was paid for and would say the same again: a chain that ends in a parser raises on it.
            entry["unparsed"] = isinstance(failed, OutputParserException)
        entry.update(meter.row(self.price))
        cost = entry.get("cost")
        if cost is not None:
            self.spent += cost
            if meter.paid:
                self.dearest[side] = max(cost, self.dearest.get(side, 0.0))
        if meter.silent > 0 or (answered and cost is None):
            self.unknown = True
        self.store.put(entry)
        if must_pass(failed):
            raise failed
        return failed if isinstance(failed, Exception) else None
