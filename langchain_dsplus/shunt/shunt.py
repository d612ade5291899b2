"""`DataShunt`: a chain with its whole loop in one object and one folder."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from langchain_core.runnables.base import coerce_to_runnable

from langchain_dsplus._inputs import read_key
from langchain_dsplus.identity import identify
from langchain_dsplus.labels import list_labels
from langchain_dsplus.losses import Loss, parse_loss, points
from langchain_dsplus.registry.folders import reader
from langchain_dsplus.registry.live import VERSION_KEY, LiveRouter
from langchain_dsplus.registry.registry import ModelRegistry
from langchain_dsplus.shunt.audits import Audits
from langchain_dsplus.shunt.folder import GIVEN, SET_APART, ShuntError, ShuntFolder, Terms
from langchain_dsplus.shunt.labels import add_gold, to_label
from langchain_dsplus.shunt.rows import BOUND, SAID, no_label_words, what_was_said
from langchain_dsplus.shunt.status import ShuntStatus, shunt_status
from langchain_dsplus.shunt.training import is_fitted
from langchain_dsplus.shunt.worker import Work, Worker
from langchain_dsplus.small_models.base import SmallModel
from langchain_dsplus.traces.store import TraceStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_dsplus.costs.prices import Price
    from langchain_dsplus.monitoring.budget import BudgetPacer
    from langchain_dsplus.routing.outputs import ToOutput
    from langchain_dsplus.routing.rows import Recorder, Row
    from langchain_dsplus.threshold.certificate import Certificate


logger = logging.getLogger(__name__)

_FIRST = 20
"""Outputs of the chain among which one must name a label."""
_NOTHING = "nothing"
"""The version of a model that has learned nothing."""


class DataShunt(LiveRouter):
    """Stands in the place of a chain, learns from its answers, and answers itself what it may.

    On the first day everything goes to the chain as before, and its answers come back in its own type. `work`, called
    from a timer (`dsplus work FOLDER --every 10m`) and never by a request, trains a small model on them, certifies it
    and puts it live: then it answers what it is sure enough of, and the chain the rest. A share of the local answers
    is audited; an alarm sends everything to the chain again until fresh rows certify.

    The promise: with probability `level`, over the whole life of the folder and all certifications in it, no policy
    that goes live has an accuracy `max_loss` or more below the chain's. Where a row has no gold, a disagreement counts
    as lost, so without labels the promise is about agreement; `status` says what labels would buy.

    Inputs that a keyed hash sets apart (`set_apart`) only certify: at first, and as long as more such rows are worth
    their price (then the chain is asked about them in the background, whoever answered). After a refusal they teach,
    like all else that is paid for, and what is tested next is tested on inputs that come then.

    Processes may share a folder: one works, the others follow within seconds. It belongs on a local disk.

    With `store=TraceStore("postgresql://...", key=...)`, `registry=ModelRegistry(folder, state=URL)` and
    `BudgetPacer(path=URL)` hosts share the rows, which version is live under which certificate, and the budget. Not
    shared is what else stands in the folder: the promise (`shunt.json`), what error probability was spent
    (`life.json`), the versions' files (`models/`), alarms, and which rows wait for a label. So one host works, and
    others serve what its registry says is live, by a `LiveRouter` over a copy of `models/`: a `DataShunt` in a folder
    of its own would spend an error probability of its own.

    Args:
        large: The chain: input to a label, a text or message that names one, or an object with it.
        labels: The task's answers.
        folder: Made at the first start.
        max_loss: What may be lost, `"1 point"` or a share below .1. Fixed for the folder's life, like `labels`.
        level: Confidence over the folder's life.
        small: What is trained: a fitted small model that can be saved (scikit-learn, sentence head, ...), or an empty
            `SentenceClassifier`. None: a sentence head on the default encoder, begun with the classes' names.
        gold: Labelled rows that you have, pairs (input, label).
        to_output: From a local `Answer` and the input to the chain's type; found by itself where the chain's
            `OutputType` is `str`, a message, or a class with one field for the label.
        to_label: From the chain's output to the label, where no text in it names one.
        input_key: Which key of a dict input holds the text, where it has several.
        set_apart: Share of the inputs that certify while such rows are wanted, in (0, 1).
        audit_rate: Share of the local answers that are checked.
        never_local: Labels that always go to the chain.
        version: Your own text for what the chain is, where it cannot be seen into (functions, graphs): change it with
            the prompt, and the shunt starts to certify anew.
        price: Of the large model, so that `status` speaks of money.
        write_rows: A chat model that writes five rows for each class with fewer than three; they are used where real
            rows say that they do no harm. None writes none.
        label_wait: Seconds that a certification waits for labels. None: a week where labels were ever told, else none.
        store: A `TraceStore`, by default one in the folder.
        recorder: A recorder that gets every row too.
        registry: A `ModelRegistry`, by default one in the folder.
        monitor: An `AuditMonitor`, or a function that makes one for a certificate; by default one that remembers what
            the store knows.
        budget: A `BudgetPacer`.
        options: Of the small model's `load`, such as `{"trusted": [...]}` or `{"encoder": ...}`.
        key: Of the hash that sets inputs apart, at least 16 characters; by default the folder makes one.
        follow: Seconds between two looks for what another process has changed.
        seed: Of the training.
        **settings: Of `ConfidenceRouter`: `mode`, `include_route`, `small_timeout`, `background`, ...

    Raises:
        TypeError: If it cannot be told how a local answer becomes the chain's type: pass `to_output=`.
        ShuntError: If the folder promises something else.

    Example:
        ```python
        shunt = DataShunt(chain, labels=["refund", "delivery", "other"], folder="shunt/", max_loss="1 point")
        shunt.invoke({"text": "where is my parcel?"})
        print(shunt.work())
        print(shunt.status())
        ```
    """

    def __repr__(self) -> str:
        terms = self.folder.terms()
        below = f"less than {points(terms.max_loss)} below the large model"
        return f"DataShunt(folder={str(self.folder.path)!r}, {len(terms.labels)} labels, {below})"

    def __init__(
        self,
        large: Any,
        labels: Sequence[str],
        folder: str | Path,
        max_loss: Loss = 0.01,
        *,
        level: float = 0.95,
        small: SmallModel | None = None,
        gold: Sequence[tuple[Any, str]] = (),
        to_output: ToOutput | None = None,
        to_label: Callable[[Any], str] | None = None,
        input_key: str | None = None,
        set_apart: float = SET_APART,
        audit_rate: float = 0.02,
        never_local: Sequence[str] = (),
        version: str | None = None,
        price: Price | None = None,
        write_rows: Any = None,
        label_wait: float | None = None,
        store: Any = None,
        recorder: Recorder | None = None,
        registry: ModelRegistry | None = None,
        monitor: Any = None,
        budget: BudgetPacer | None = None,
        options: Mapping[str, Any] | None = None,
        key: str | bytes | None = None,
        follow: float | None = 2.0,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        names = _checked(labels, level, set_apart, audit_rate, gold)
        large = coerce_to_runnable(large)
        seen = identify(large, version=version)
        about = {name: value for name, value in (("large", seen.large), ("prompt", seen.prompt)) if value is not None}
        encoder = getattr(getattr(small, "encoder", None), "name", None)
        begun_with = None if small is None else GIVEN if is_fitted(small) else encoder
        self.folder = ShuntFolder(folder)
        self.terms = self.folder.begin(
            Terms(
                labels=names,
                max_loss=parse_loss(max_loss),
                level=level,
                set_apart=set_apart,
                audit_rate=audit_rate,
                never_local=list(never_local),
                input_key=input_key,
                large=about,
                price=None if price is None else asdict(price),
                begun_with=begun_with,
                salt="" if key is None else hashlib.sha256(read_key(key)).hexdigest()[:32],
            )
        )
        if gold and not self.folder.gold():
            self.folder.save_gold(gold)
        self._read = reader(input_key)
        models = ModelRegistry(self.folder.models, options=options) if registry is None else registry
        self.store = TraceStore(self.folder.traces, price=price) if store is None else store
        if begun_with == GIVEN and not models.exists:
            models.start(cast("SmallModel", small), trained_on=[value for value, _ in gold], note="as it was given")
        self.worker = Worker(
            self.folder, self.store, models, small=small, writer=write_rows, label_wait=label_wait, seed=seed
        )
        super().__init__(
            _Versions(models, names, input_key),
            large,
            strict=False,
            follow=follow,
            recorder=_Notes(self.store, recorder, names, to_label, self.terms.bound),
            monitor=self._watch if monitor is None else monitor,
            pacer=budget,
            audit_rate=audit_rate,
            always_ask=self._asked,
            never_local=tuple(never_local),
            to_output=to_output,
            version=version,
            **settings,
        )

    def _asked(self, value: Any) -> bool:
        """Whether this input certifies, and such are wanted."""
        return self.folder.asking and self.terms.share(self._read(value)) < self.terms.set_apart

    def _watch(self, certificate: Certificate) -> Any:
        """A monitor that knows what the store knows, and tells the folder of its alarms."""

        def tell(alarm: Any) -> None:
            self.folder.raise_alarm(certificate.id, alarm.message)

        def agree(answer: Mapping[str, Any], output: Any) -> bool | None:
            label = what_was_said(output, self.terms.labels)["label"]
            return None if label is None else bool(label == answer["choice"])

        return Audits(certificate, self.store, self.terms.level, on_alarm=tell, agree=agree).monitor()

    # --- the loop -----------------------------------------------------------------------------------------------

    def work(self) -> Work:
        """Do what is due (train, certify, put live, certify again after an alarm), and say what was done.

        Call it from a timer or a worker, not while a request waits. What is live follows at once here, and within
        seconds in other processes.

        Raises:
            ShuntError: If another process is at work in the folder.
        """
        self.drain()
        done = self.worker.work()
        self.refresh()
        return done

    async def awork(self) -> Work:
        """Async twin of `work`, in a thread."""
        await self.adrain()
        return await asyncio.to_thread(self.work)

    def status(self) -> ShuntStatus:
        """Say what is live, since when, why not more, what it saved, and what it waits for."""
        self.store.flush()
        return shunt_status(self.folder, self.store, self.worker.registry)

    # --- labels -------------------------------------------------------------------------------------------------

    def to_label(self, max_rows: int | None = 50) -> list[dict[str, Any]]:
        """Return the disagreements that are most worth a label; see `labels.to_label`."""
        return to_label(self.folder, self.store, max_rows)

    def add_gold(self, gold: Mapping[str, str | None]) -> int:
        """Write down what is true, by id; None says that nobody can tell. The last word counts."""
        watching = getattr(self.router, "monitor", None)
        if watching is not None:
            for name, label in gold.items():
                watching.observe_gold(name, label)
        return add_gold(self.folder, self.store, gold)

    # --- lifetime -----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish background work, and write what waits."""
        self.drain()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _checked(
    labels: Sequence[str], level: float, set_apart: float, audit_rate: float, gold: Sequence[tuple[Any, str]]
) -> list[str]:
    names = list_labels(labels)
    if len(names) < 2 or len(set(names)) != len(names):
        raise ShuntError("`labels` needs at least two labels, all different")
    for name, value, least in (("level", level, 0.5), ("set_apart", set_apart, 0.0), ("audit_rate", audit_rate, 0.0)):
        if not least < value < 1.0:
            raise ShuntError(f"`{name}` must lie between {least:g} and 1, not {value!r}")
    wrong = {label for _, label in gold} - set(names)
    if wrong:
        raise ShuntError(
            f"`gold` holds {len(wrong)} values that are none of `labels`: add them there, or leave these rows out"
        )
    return names


class _Unlearned(SmallModel):
    """What stands where no version is there yet: every label is as likely to it, and there is no certificate for it."""

    def predict_proba(self, inputs: list[Any]) -> Any:
        """Know nothing."""
        return [[1.0 / len(self.labels)] * len(self.labels) for _ in inputs]

    def fingerprint(self) -> str:
        """Nothing."""
        return _NOTHING


class _Versions:
    """A registry, also before it has a version."""

    def __init__(self, registry: ModelRegistry, labels: list[str], input_key: str | None) -> None:
        self.registry, self.labels, self.input_key = registry, labels, input_key

    def mark(self) -> str:
        """The registry's, once there is one."""
        return self.registry.mark() if self.registry.exists else ""

    def in_force(self) -> tuple[int, str, Certificate | None]:
        """What is live; version 0 is nothing."""
        return self.registry.in_force() if self.registry.exists else (0, "", None)

    def load(self, version: int | None = None) -> SmallModel:
        """Read a version."""
        if not self.registry.exists or version == 0:
            nothing = _Unlearned(labels=self.labels, input_key=self.input_key)
            nothing.set_version(_NOTHING)
            return nothing
        return self.registry.load(version)


class _Notes:
    """A recorder that notes what the large model said while it is still a message, and which large chain that was."""

    def __init__(self, store: Any, further: Recorder | None, labels: list[str], to_label: Any, bound: str) -> None:
        self.store, self.further, self.labels, self.to_label, self.bound = store, further, labels, to_label, bound
        self.key = getattr(store, "key", None)
        self.heard = 0

    def record(self, row: Row) -> None:
        """Write a row down; a shadow answer of a model that has learned nothing is none."""
        if row["kind"] == "shadow" and row.get(VERSION_KEY) == _NOTHING:
            return
        local = row["kind"] == "route" and "route" in row and row["route"]["accepted"]
        if row["kind"] in ("route", "audit") and not local and "error" not in row:
            said = what_was_said(row.get("output"), self.labels, self.to_label)
            self._listen(said["label"])
            row = cast("Row", {**row, SAID: said, BOUND: self.bound})
        self.store.record(row)
        if self.further is not None:
            self.further.record(row)

    def _listen(self, label: str | None) -> None:
        """Warn once where none of the first outputs names a label: nothing would ever be learned."""
        if self.heard < _FIRST:
            self.heard = _FIRST if label is not None else self.heard + 1
            if label is None and self.heard == _FIRST:
                logger.warning("%s", no_label_words(self.labels, f"the first {_FIRST}"))
