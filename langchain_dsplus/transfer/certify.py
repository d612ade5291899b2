"""`certify_transfer`: are the decisions on transferred texts hardly worse than with the plain prompt?"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import operator
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase

from langchain_dsplus import _drive
from langchain_dsplus._progress import progress_bar
from langchain_dsplus.calibration import binomial_lower, binomial_upper
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.identity import identify
from langchain_dsplus.losses import Loss, parse_loss
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
from langchain_dsplus.transfer.certificate import Interval, Savings, TransferCertificate

_DRAWS = 1000
_CHUNK = 16
"""Cases whose questions are shuffled and asked together: so both prompts are asked at the same time."""


def certify_transfer(
    cases: Any,
    *,
    plain: Runnable[Any, Any],
    transferred: Runnable[Any, Any],
    max_loss: Loss = "2 points",
    level: float = 0.95,
    labels: Sequence[str] | None = None,
    to_label: Callable[[Any], str | None] | None = None,
    input_key: str | None = "input",
    gold_key: str = "gold",
    id_key: str = "id",
    twice: bool | None = None,
    path: str | Path | None = None,
    price: Price | None = None,
    small_price: Price | None = None,
    max_concurrency: int = 4,
    progress: bool = True,
    seed: int = 0,
    version: str | None = None,
    config: RunnableConfig | None = None,
    **gold_rules: Unpack[GoldOptions],
) -> TransferCertificate:
    """Ask both chains about every case and test that the transferred prompt's decisions are hardly worse.

    With gold, the exact paired test on who is right. A changed decision without gold is a harm. Without any gold every
    changed decision is a harm and the test is the exact binomial one: then also large models that waver cost cases. How
    often the plain prompt differs from itself, asked twice, is shown beside it; it cannot be taken off, since where the
    plain prompt wavers, a transferred prompt that is always wrong would look no worse. The plain prompt (once or twice)
    and the transferred one are asked independently, at the same time, in random order, LangChain's caches off.

    Args:
        cases: Mappings, (input, gold) pairs, or the path of a JSONL file of mappings. Draw them at random from your
            traffic, and take others than those that the transfer was tuned on.
        plain: The chain as it is today, prompt and parser included.
        transferred: The chain with the transfer, such as `transfer.as_assign() | prompt | large`.
        max_loss: The promise: worse by less than this, `"2 points"` or a share of inputs below .1 (`parse_loss`).
        level: Of the certificate, in [0.5, 1).
        labels: The decisions there are: then replies are read as one of them. A reply that is none is wrong, and its
            right counterpart is no gain.
        to_label: From a chain's output to its decision, in place of `labels`; None where it is none.
        input_key: Where a mapping holds the input; None takes the whole mapping without id, gold and group.
        gold_key: Where it holds the right decision; may be missing or None.
        id_key: Where it holds an id of its own; by default its place.
        twice: Whether the plain prompt is asked a second time; by default where some gold is missing.
        path: A JSONL file for the replies, to write to and to resume from.
        price: What the large model's tokens cost: then the certificate has money.
        small_price: What the small model's tokens cost; None where its calls cost nothing.
        max_concurrency: Calls at a time.
        progress: Show an estimate and a progress bar on standard error.
        seed: Of the order and of the bootstrap.
        version: Your own text for what the chains are, where `identify` cannot see into them.
        config: Passed on to the chains.
        **gold_rules: `gold_map`, `unknown_gold`, `other_gold`, as in `Outcomes`.

    Returns:
        A `TransferCertificate`; NOT_CERTIFIED says how many cases would do.

    Raises:
        ValueError: If cases are malformed, gold is none of `labels`, `path` holds replies of other chains or to other
            inputs, no reply equals any gold, or a reply came out of a cache.

    Example:
        ```python
        certificate = certify_transfer(
            "cases.jsonl", plain=prompt | large, transferred=transfer.as_assign() | prompt | large
        )
        print(certificate)
        ```
    """
    return _drive.run(_plan(_Job(**locals())))


async def acertify_transfer(cases: Any, **options: Any) -> TransferCertificate:
    """Async twin of `certify_transfer`: the same arguments, files and result."""
    given = inspect.signature(certify_transfer).bind(cases, **options)
    given.apply_defaults()
    return await _drive.arun(_plan(_Job(**given.arguments)))


@dataclass
class _Job:
    """The arguments of `certify_transfer`."""

    cases: Any
    plain: Runnable[Any, Any]
    transferred: Runnable[Any, Any]
    max_loss: Loss
    level: float
    labels: Sequence[str] | None
    to_label: Callable[[Any], str | None] | None
    input_key: str | None
    gold_key: str
    id_key: str
    twice: bool | None
    path: str | Path | None
    price: Price | None
    small_price: Price | None
    max_concurrency: int
    progress: bool
    seed: int
    version: str | None
    config: RunnableConfig | None
    gold_rules: GoldOptions

    def check(self) -> None:
        transfer, _ = find_transfer(self.transferred)
        if transfer is not None and transfer.certificate is not None:
            raise ValueError(
                "the transfer in `transferred` has a certificate already: certify it without `certificate=`"
            )
        for name in ("plain", "transferred"):
            chain = getattr(self, name)
            if not isinstance(chain, Runnable):
                raise TypeError(f"`{name}` must be a chain (a Runnable), not {type(chain).__name__}")
        parse_loss(self.max_loss)
        if not 0.5 <= self.level < 1.0:
            raise ValueError("`level` must lie in [0.5, 1)")
        if self.labels is not None and self.to_label is not None:
            raise ValueError("give `labels` or `to_label`, not both")
        if self.max_concurrency < 1:
            raise ValueError("`max_concurrency` must be at least 1")


def _plan(job: _Job) -> Generator[AskEach, None, TransferCertificate]:
    """Yield what is to be asked, and return the certificate; sync or async alike."""
    job.check()
    rows = read_cases(job.cases, job.input_key, job.gold_key, job.id_key)
    rules = GoldRules.of(**job.gold_rules)
    if job.labels is not None:
        gold = read_labels([row["gold"] for row in rows], job.labels, rules, where="`cases`: ", name=job.gold_key)
        rows = [{**row, "gold": label} for row, label in zip(rows, gold, strict=True)]
    twice = any(row["gold"] is None for row in rows) if job.twice is None else job.twice
    chains = {"plain": job.plain, "transferred": job.transferred}
    identities = {name: identify(chain, version=job.version).large for name, chain in chains.items()}
    store = ReplyStore(job.path, identities, {row["id"]: row["hash"] for row in rows}, writer="certify_transfer")
    sides = {"plain": job.plain, **({"again": job.plain} if twice else {}), "transferred": job.transferred}
    asker = Asker(store, labeller(job.labels, job.to_label), job.config, job.max_concurrency, job.seed)

    def questions(some: Sequence[Mapping[str, Any]]) -> list[Question]:
        return [Question(row, side, chain, row["input"]) for row in some for side, chain in sides.items()]

    with ExitStack() as stack:
        if job.progress:
            due = [q for q in questions(rows) if not store.has(q.row["id"], q.side)]
            tell_estimate(due, lambda _: job.price, calls_of="certify_transfer")
        advance = stack.enter_context(progress_bar("asking", len(sides) * len(rows), show=job.progress))
        stack.enter_context(store)
        stack.enter_context(caches_off(*chains.values()))
        for start in range(0, len(rows), _CHUNK):
            yield from asker.ask(questions(rows[start : start + _CHUNK]), advance)
    return _certificate(job, rows, store, identities, twice=twice)


# --- what the replies say -------------------------------------------------------------------------------------------


def _certificate(
    job: _Job, rows: Sequence[Mapping[str, Any]], store: ReplyStore, identities: Mapping[str, Any], *, twice: bool
) -> TransferCertificate:
    plain = [store.get(row["id"], "plain") for row in rows]
    changed = [store.get(row["id"], "transferred") for row in rows]
    gold = [row["gold"] for row in rows]
    outcomes = [outcome(a, t, g) for a, t, g in zip(plain, changed, gold, strict=True)]
    known = [place for place, truth in enumerate(gold) if truth is not None]
    differ = [a.get("label") is None or a.get("label") != t.get("label") for a, t in zip(plain, changed, strict=True)]
    accuracy = None
    if known:
        right = {
            name: sum(replies[i].get("label") == gold[i] for i in known)
            for name, replies in (("plain", plain), ("transferred", changed))
        }
        if job.labels is None and job.to_label is None and not any(right.values()):
            raise ValueError(
                "no reply equals its gold: pass `labels=` or `to_label=`, so that decisions are read as gold has them"
            )
        accuracy = {"n": len(known), **{name: count / len(known) for name, count in right.items()}}
    test: Literal["paired", "binomial"] = "paired" if known else "binomial"
    return TransferCertificate.of_counts(
        harms=outcomes.count("harm"),
        gains=outcomes.count("gain"),
        n=len(rows),
        changed=sum(differ),
        unknown=sum(truth is None and d for truth, d in zip(gold, differ, strict=True)),
        failed=sum(_failed(a) or _failed(t) for a, t in zip(plain, changed, strict=True)),
        test=test,
        max_loss=parse_loss(job.max_loss),
        level=float(job.level),
        wavering=_wavering(plain, [store.get(row["id"], "again") for row in rows]) if twice else None,
        accuracy=accuracy,
        savings=_savings(job, plain, changed),
        about=_about(job, rows, store, identities),
    )


def outcome(plain: Mapping[str, Any], transferred: Mapping[str, Any], gold: str | None) -> str:
    """What one case says: `harm`, `gain` or `same`.

    Args:
        plain: The reply to the plain prompt: `label`, and `error` where the call failed or was no label.
        transferred: The reply to the transferred one.
        gold: The right decision; None where it is unknown.

    Example:
        >>> outcome({"label": "a"}, {"label": "b"}, "a"), outcome({"label": "a"}, {"label": "b"}, None)
        ('harm', 'harm')
        >>> outcome({"label": "a"}, {"label": "b"}, "b"), outcome({"error": "NoLabel"}, {"label": "b"}, "b")
        ('gain', 'same')
    """
    before, after = plain.get("label"), transferred.get("label")
    if gold is not None and after == gold:
        # A reply that is no label, or that never came, is no win for the other side.
        return "gain" if before is not None and before != gold else "same"
    if _failed(plain) or _failed(transferred):
        return "harm"
    if gold is None:
        return "same" if before is not None and before == after else "harm"
    return "harm" if before == gold else "same"


def _failed(reply: Mapping[str, Any]) -> bool:
    """Whether there is no reply at all; one that is no label came."""
    return reply.get("label") is None and not reply.get("unparsed")


def _wavering(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    pairs = [
        (a.get("label"), b.get("label")) for a, b in zip(first, second, strict=True) if not (_failed(a) or _failed(b))
    ]
    n, differ = len(pairs), sum(a != b for a, b in pairs)
    low, high = (binomial_lower(differ, n, 0.025), binomial_upper(differ, n, 0.025)) if n else (0.0, 1.0)
    return {"n": n, "differ": differ, "rate": differ / n if n else 0.0, "low": low, "high": high}


def _savings(job: _Job, plain: Sequence[Mapping[str, Any]], changed: Sequence[Mapping[str, Any]]) -> Savings | None:
    pairs = [(a, t) for a, t in zip(plain, changed, strict=True) if a.get("calls") and t.get("calls")]
    if not pairs:
        return None
    before = np.array([tokens_of(a, "small", "large") for a, _ in pairs], dtype=np.float64)
    both = np.array([tokens_of(t, "small", "large") for _, t in pairs], dtype=np.float64)
    large = np.array([tokens_of(t, "large") for _, t in pairs], dtype=np.float64)
    rng = np.random.default_rng(job.seed)
    money = None
    if job.price is not None:
        paid = [cost_of(a, job.price, job.small_price) - cost_of(t, job.price, job.small_price) for a, t in pairs]
        saved = np.array(paid)
        money = _bootstrap(lambda draw: 1000.0 * saved[draw].mean(axis=-1), len(pairs), rng)
    return Savings(
        tokens_plain=float(before.mean()),
        tokens_transferred=float(both.mean()),
        tokens_large=float(large.mean()),
        tokens=_bootstrap(lambda draw: 1.0 - both[draw].sum(axis=-1) / before[draw].sum(axis=-1), len(pairs), rng),
        large=_bootstrap(lambda draw: 1.0 - large[draw].sum(axis=-1) / before[draw].sum(axis=-1), len(pairs), rng),
        money=money,
        currency=None if job.price is None else job.price.currency,
        n=len(pairs),
    )


def _bootstrap(statistic: Callable[[Any], Any], n: int, rng: np.random.Generator) -> Interval:
    """A statistic of the cases with its 95 % percentile interval."""
    draws = np.array([float(statistic(rng.integers(0, n, size=n))) for _ in range(_DRAWS)])
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(float(statistic(np.arange(n))), float(low), float(high))


def _about(
    job: _Job, rows: Sequence[Mapping[str, Any]], store: ReplyStore, identities: Mapping[str, Any]
) -> dict[str, Any]:
    data = json.dumps([[row["id"], row["hash"], row["gold"]] for row in rows], ensure_ascii=False)
    found: dict[str, Any] = {
        **identities,
        "data": hashlib.sha256(data.encode("utf-8", "surrogatepass")).hexdigest(),
    }
    transfer, rest = find_transfer(job.transferred)
    if transfer is not None:
        found["transfer"] = identify(transfer).large
    if rest is not None:
        found["large"] = identify(rest, version=job.version).large
    found = {name: value for name, value in found.items() if value is not None}
    reported = store.reported()
    return {**found, "reported": reported} if reported else found


def find_transfer(chain: Any) -> tuple[Transferring | None, Runnable[Any, Any] | None]:
    """The transfer in a chain, and the part of the chain that follows it; None where they cannot be seen.

    Example:
        >>> from langchain_core.runnables import RunnableLambda
        >>> find_transfer(RunnableLambda(str.strip))
        (None, None)
    """
    while isinstance(chain, RunnableBindingBase):
        chain = chain.bound
    if isinstance(chain, Transferring):
        return chain, None
    steps = chain.steps if isinstance(chain, RunnableSequence) else []
    for place, step in enumerate(steps):
        found, inner = find_transfer(step)
        if found is not None:
            rest = [*([] if inner is None else [inner]), *steps[place + 1 :]]
            return found, functools.reduce(operator.or_, rest) if rest else None
    return None, None
