"""`ModelRegistry`: numbered versions of a small model, one of them live, and every change a single atomic step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from langchain_dsplus.learning.promotion import ClassChange, PromotionReport, promotion, read_rows
from langchain_dsplus.losses import Loss
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.outcomes.columns import rows_of
from langchain_dsplus.outcomes.gold import GoldOptions
from langchain_dsplus.registry.checks import (
    check_about,
    check_certificate,
    check_fresh,
    check_like,
    check_not_void,
    gates_before,
    threshold_of,
    used_inputs,
)
from langchain_dsplus.registry.folders import Folders, reader
from langchain_dsplus.registry.records import Gate, ModelVersion, RegistryStatus
from langchain_dsplus.registry.rules import (
    NotPromotedError,
    known_in,
    last_gate,
    live_in,
    next_step,
    numbers_in,
    ready_in,
    tell,
    void,
)
from langchain_dsplus.registry.state import (
    CertificateEntry,
    DatabaseState,
    Event,
    FileState,
    GateEntry,
    RegistryError,
    RowHash,
    State,
    VersionEntry,
    mark_of,
    now,
)
from langchain_dsplus.small_models.base import SmallModel
from langchain_dsplus.threshold.certificate import Certificate
from langchain_dsplus.threshold.certify import certify
from langchain_dsplus.traces.shared import SharedState

if TYPE_CHECKING:
    from langchain_dsplus.registry.live import LiveRouter

_MOST_HALVINGS = 30


class ModelRegistry:
    """Versions of one small model in a folder: candidates, the live one, gates, certificates, and what became of them.

    A version is a folder that never changes once it is there. Everything else (which one is live, gates, certificates,
    history) is in `live.json`, which is written beside its place, forced to disk and renamed. So each change is there
    as a whole or not at all, also after a kill or a power failure, and whoever reads needs no lock. One process at a
    time changes it (a file lock that ends with its holder). Keep the folder on a local disk.

    A version goes live only through `gate` and `promote`. The certificate that was in force is then void, since it is
    about another model: nothing stays local until `certify` has seen rows that neither version ever saw. `rollback`
    goes back, together with the certificate of before where it still fits.

    Of rows that were used for training or for a gate only hashes are kept, under a salt of this registry.

    Args:
        path: The folder.
        options: Arguments of the small model's `load`: `{"trusted": [...]}` for scikit-learn, `encoder=`, `device=`.
        timeout: Seconds to wait while another process changes it.
        state: The URL of a trace store's database that keeps what changes in the place of `live.json`, for processes on
            several hosts: `postgresql://user@host/database#name`, with one name per registry. The folder then only
            holds what never changes once it is there, so it may be on a network's disk, or be copied to each host
            before a version is promoted.

    Example:
        ```python
        registry = ModelRegistry("models")
        registry.start(small)
        train, held_out = registry.split(gold_rows)
        result = Distiller(registry.load()).distil(train, answers)
        candidate = registry.add(result.model, trained_on=[*train, *answers], teacher="gpt-4o")
        if registry.gate(candidate.number, held_out).report.promoted:
            registry.promote(candidate.number)

        router = registry.router(large=chain, recorder=store)  # in shadow: nothing stays local yet
        ...
        rows = router.outcomes(store.rows(since=registry.live.since))
        registry.certify(rows, max_loss=0.005, since_promotion=True)
        router.refresh()  # live again
        ```
    """

    def __init__(
        self,
        path: str | Path,
        *,
        options: Mapping[str, Any] | None = None,
        timeout: float = 60.0,
        state: str | None = None,
    ) -> None:
        self.path = Path(path).expanduser().resolve()
        self.options = dict(options or {})
        self.timeout = timeout
        self._folders = Folders(self.path, self.options)
        self._state: FileState | DatabaseState = FileState(self.path, timeout)
        if state is not None:
            self._state = DatabaseState(self.path, SharedState(state, "registry", busy_seconds=timeout))

    def __repr__(self) -> str:
        return f"ModelRegistry({str(self.path)!r})"

    # --- what there is ------------------------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        """Whether there is a registry at `path`."""
        return self._state.exists

    @property
    def serial(self) -> int:
        """A number that grows with every change."""
        return self._read()["serial"]

    @property
    def live(self) -> ModelVersion:
        """The version that is live.

        Raises:
            RegistryError: If none ever was.
        """
        state = self._read()
        return self._version(state, live_in(state))

    @property
    def versions(self) -> list[ModelVersion]:
        """All versions, the oldest first."""
        state = self._read()
        return [self._version(state, number) for number in numbers_in(state)]

    @property
    def history(self) -> list[Event]:
        """Every change, the oldest first."""
        return self._read()["history"]

    @property
    def certificate(self) -> Certificate | None:
        """The live version's certificate, where one is in force."""
        state = self._read()
        return self._certificate(state, live_in(state))

    def gates(self, number: int | None = None) -> list[Gate]:
        """Return the runs of the gate, the oldest first; of all versions or of one."""
        return [self._gate(entry) for entry in self._read()["gates"] if number in (None, entry["new"])]

    def status(self) -> RegistryStatus:
        """Return everything at once, and what to do next."""
        state = self._read()
        number = state["stack"][-1] if state["stack"] else None
        certificate = None if number is None else self._certificate(state, number)
        return RegistryStatus(
            live=None if number is None else self._version(state, number),
            certificate=certificate,
            versions=[self._version(state, other) for other in numbers_in(state)],
            gates=[self._gate(entry) for entry in state["gates"]],
            history=state["history"],
            next_step=next_step(state, certificate),
        )

    def load(self, number: int | None = None) -> SmallModel:
        """Read a version's small model; by default the live one. Every file is compared with its SHA-256 first.

        Raises:
            RegistryError: If there is no such version, or its folder is damaged.
        """
        state = self._read()
        return self._load(state, live_in(state) if number is None else number)

    def router(self, large: Any, **settings: Any) -> LiveRouter:
        """Return a router around the live version; see `LiveRouter`.

        Args:
            large: The large chain.
            **settings: Of `LiveRouter` and `ConfidenceRouter`.
        """
        from langchain_dsplus.registry.live import LiveRouter

        return LiveRouter(self, large, **settings)

    # --- rows ---------------------------------------------------------------------------------------------------

    def split(self, rows: Any, share: float = 0.5) -> tuple[list[Any], list[Any]]:
        """Split gold rows into those for training and those for the gate.

        It goes by a hash of the input: the same input is on the same side in every round, so what once judged a version
        never trains a later one.

        Args:
            rows: Pairs (input, label), mappings with `input` and `gold`, or a DataFrame.
            share: Of those for the gate, in (0, 1).

        Returns:
            Rows to train on, rows for the gate.
        """
        if not 0.0 < share < 1.0:
            raise RegistryError("`share` must lie between 0 and 1")
        rows = list(rows_of(rows))
        state = self._read()
        hashes, read = RowHash(state["salt"]), self._reader(state)
        parts: tuple[list[Any], list[Any]] = ([], [])
        for row, value in zip(rows, (value for value, _ in read_rows(rows)), strict=True):
            parts[hashes.share(read(value)) < share].append(row)
        return parts

    def fresh(self, rows: Any, number: int | None = None) -> list[Any]:
        """Return the gold rows whose inputs trained neither that version, by default the live one, nor one before."""
        rows = list(rows_of(rows))
        state = self._read()
        used = used_inputs(self._folders, state, live_in(state) if number is None else number, gates=False)
        found = self._hashes(state, [value for value, _ in read_rows(rows)])
        return [row for row, one in zip(rows, found, strict=True) if one not in used]

    # --- changes ------------------------------------------------------------------------------------------------

    def start(
        self,
        model: SmallModel,
        *,
        certificate: Certificate | None = None,
        trained_on: Iterable[Any] = (),
        ids: Iterable[str] = (),
        note: str = "",
    ) -> ModelVersion:
        """Make the registry, with a first version that is live at once.

        Args:
            model: A fitted small model of a kind that can be saved.
            certificate: The certificate that it runs under, if it has one.
            trained_on: Inputs, or gold rows, that it was trained on, as far as they are known.
            ids: Of rows that it was trained on.
            note: For the history.

        Raises:
            RegistryError: If there is a registry with versions already, the model cannot be kept, or the certificate is
                about another model.
        """
        with self._changing(make=True) as state:
            if state["versions"]:
                raise RegistryError(f"{self.path} has versions already: use `add` for a further one")
            number, entry = self._folders.write_version(
                model, RowHash(state["salt"]), trained_on, ids, after=0, parent=None, teacher=None, seed=None
            )
            entry["state"], entry["since"] = "live", now()
            state["versions"][str(number)] = entry
            state["stack"].append(number)
            tell(state, "started", number, note)
            if certificate is not None:
                check_certificate(certificate, self._record(state, number))
                self._put_in_force(state, number, certificate)
        return self._version(self._read(), number)

    def add(
        self,
        model: SmallModel,
        *,
        trained_on: Iterable[Any] = (),
        ids: Iterable[str] = (),
        parent: int | None = None,
        teacher: str | None = None,
        seed: int | None = None,
        note: str = "",
    ) -> ModelVersion:
        """Keep a candidate. Nothing that is live changes.

        Args:
            model: The candidate, with the live model's name and labels.
            trained_on: Every input that it learned from: gold rows, pairs (input, answer), bare inputs.
            ids: Ids of those rows, where they have some (a trace's `route_id`).
            parent: The version that it was made from; by default the live one.
            teacher: What it learned from, in words: the large model's name.
            seed: Of its training.
            note: For the history.

        Raises:
            RegistryError: If its labels or name are others, or it is of a kind that cannot be saved.
        """
        with self._changing() as state:
            base = live_in(state) if parent is None else known_in(state, parent)
            check_like(model, self._record(state, base))
            number, state["versions"][str(number)] = self._folders.write_version(
                model,
                RowHash(state["salt"]),
                trained_on,
                ids,
                after=max(numbers_in(state)),
                parent=base,
                teacher=teacher,
                seed=seed,
            )
            tell(state, "added", number, note)
        return self._version(self._read(), number)

    def gate(
        self,
        number: int,
        gold_rows: Any,
        *,
        old_threshold: float | None = None,
        max_loss: Loss = 0.02,
        level: float = 0.95,
        max_calibration_error: float = 0.02,
        **gold_rules: Unpack[GoldOptions],
    ) -> Gate:
        """Ask the live model and a candidate about gold rows, and write down whether the candidate may go live.

        Args:
            number: The candidate.
            gold_rows: As in `promotion`: rows that trained neither of the two, from today's traffic.
            old_threshold: By default that of the certificate in force; without one every row counts as answered.
            max_loss: As in `promotion`.
            level: As in `promotion`, for the first gate on these rows; see `Gate.earlier`.
            max_calibration_error: As in `promotion`.
            **gold_rules: `gold_map`, `unknown_gold`, `other_gold`, as in `Outcomes`.

        Raises:
            RegistryError: If a row was used for training, or there is no such version.
            ValueError: As `promotion`.
        """
        if not 0.5 <= level < 1.0:
            raise RegistryError("`level` must lie in [0.5, 1)")
        state = self._read()
        live = live_in(state)
        if known_in(state, number) == live:
            raise RegistryError(f"version {number} is live already: there is nothing to compare it with")
        rows = sorted(set(self._hashes(state, [value for value, _ in read_rows(gold_rows)])))
        for one in (number, live):
            both = used_inputs(self._folders, state, one, gates=False).intersection(rows)
            if both:
                raise RegistryError(
                    f"`gold_rows`: {len(both)} of {len(rows)} inputs were used to train version {one}, or one before "
                    f"it, so they tell nothing: leave them out with `registry.fresh(rows, {one})`"
                )
        held = self._certificate(state, live)
        if old_threshold is None:
            old_threshold = -math.inf if held is None else threshold_of(held, self._record(state, live))
        pair = (state["versions"][str(live)]["sha256"], state["versions"][str(number)]["sha256"])
        earlier = gates_before(self._folders, state, pair, rows)
        alpha = (1.0 - level) / 2.0 ** min(earlier, _MOST_HALVINGS)
        report = promotion(
            self._load(state, live),
            self._load(state, number),
            gold_rows,
            old_threshold=old_threshold,
            max_loss=max_loss,
            level=1.0 - alpha,
            max_calibration_error=max_calibration_error,
            **gold_rules,
        )
        with self._changing() as state:
            if gates_before(self._folders, state, pair, rows) != earlier:
                raise RegistryError("another process has just used these rows for a gate: try again")
            file, digest = self._folders.write_gate(
                len(state["gates"]) + 1,
                {"report": report.to_dict(), "rows": rows, "old_threshold": _finite(old_threshold)},
            )
            entry = GateEntry(
                old=live, new=number, old_sha256=pair[0], new_sha256=pair[1], file=file, sha256=digest,
                promoted=report.promoted, spent=False, level=1.0 - alpha, earlier=earlier, time=now(),
            )  # fmt: skip
            state["gates"].append(entry)
            candidate = state["versions"][str(number)]
            if candidate["state"] in ("candidate", "kept aside", "rolled back"):
                candidate["state"] = "candidate" if report.promoted else "kept aside"
                candidate["reasons"] = list(report.reasons)
            tell(state, "gate passed" if report.promoted else "kept aside", number, "; ".join(report.reasons))
        return self._gate(entry)

    def promote(self, number: int | None = None) -> ModelVersion:
        """Put a candidate in the live version's place, if the last gate between just these two lets it pass.

        The certificate in force becomes void: certify the new version on fresh rows. Until then `router` runs in
        shadow.

        Args:
            number: The candidate; by default the newest whose gate is passed.

        Raises:
            NotPromotedError: If its gate is missing or failed, or was of other versions; `reasons` says what it found.
            RegistryError: If there is no such version, or its folder is damaged.
        """
        with self._changing() as state:
            live = live_in(state)
            number = ready_in(state) if number is None else known_in(state, number)
            if number == live:
                raise NotPromotedError(f"version {number} is live already")
            gate = last_gate(state, live, number)
            if gate is None:
                other = any(entry["new"] == number for entry in state["gates"])
                why = f"its gate was not against version {live}, which is live now" if other else "it had no gate"
                if any(entry["spent"] and entry["new"] == number for entry in state["gates"]):
                    why = "it was rolled back since its gate"
                raise NotPromotedError(
                    f"version {number} is not promoted: {why}. Run `registry.gate({number}, gold_rows)`"
                )
            if not gate["promoted"]:
                reasons = self._gate(gate).report.reasons
                raise NotPromotedError(f"version {number} is kept aside: {'; '.join(reasons)}", reasons)
            self._folders.read_gate(gate)
            self._record(state, number)
            _take_place(state, live, number)
        return self._version(self._read(), number)

    def rollback(self, reason: str = "") -> ModelVersion:
        """Go back to the version that was live before, with its certificate where that still fits.

        The version that is left does not come back without a new gate.

        Args:
            reason: Why, for the history.

        Raises:
            RegistryError: If there is none before, or its folder is damaged.
        """
        with self._changing() as state:
            left = live_in(state)
            if len(state["stack"]) < 2:
                raise RegistryError(f"there is no version before version {left} to go back to")
            state["stack"].pop()
            back = state["stack"][-1]
            record = self._record(state, back)
            void(state, left, "rollback", f"rolled back to version {back}")
            for gate in state["gates"]:
                gate["spent"] = gate["spent"] or gate["new"] == left
            entry, gone = state["versions"][str(back)], state["versions"][str(left)]
            gone["state"], gone["reasons"] = "rolled back", [reason] if reason else []
            entry["state"], entry["since"] = "live", now()
            tell(state, "rolled back", left, reason)
            tell(state, "live again", back, self._restore(entry, record))
        return self._version(self._read(), back)

    def void(self, reason: str) -> None:
        """Say that the certificate in force no longer holds, such as after an alarm: then nothing stays local.

        It does not come back with a rollback.

        Args:
            reason: Why, for the record.

        Raises:
            RegistryError: If none is in force.
        """
        with self._changing() as state:
            live = live_in(state)
            if not void(state, live, "other", reason):
                raise RegistryError(f"version {live} has no certificate in force")
            tell(state, "certificate void", live, reason)

    # --- certificates -------------------------------------------------------------------------------------------

    def certify(
        self,
        outcomes: Outcomes,
        max_loss: Loss = 0.005,
        level: float = 0.95,
        *,
        number: int | None = None,
        inputs: Mapping[str, Any] | None = None,
        since_promotion: bool = False,
        **options: Any,
    ) -> Certificate:
        """Certify a version on fresh rows, and put the certificate in force if it is one.

        A candidate takes the live version's place together with its certificate, in one step: no gate is asked, since
        the certificate compares it with the large model itself. One that is NOT_CERTIFIED changes nothing.

        Args:
            outcomes: Rows of that version; their `about` names it under `small`.
            max_loss: As in `certify`.
            level: As in `certify`.
            number: The version; by default the live one.
            inputs: The rows' inputs by id. With them, a row is used if its input is; without, if its id is.
            since_promotion: You say that all rows came after the live version went live (`registry.live.since`). Then
                inputs may repeat earlier ones, as traffic does; ids may not.
            **options: Of `certify`.

        Returns:
            The certificate. One that is NOT_CERTIFIED is not put in force; the history tells of it.

        Raises:
            RegistryError: If a row was used for training or for a gate, the rows are about another small model, or an
                alarm or a rollback made a certificate of just these rows void. Then nothing of the table's error
                probability is spent.
        """
        state = self._read()
        live = live_in(state)
        judged = live if number is None else known_in(state, number)
        record = self._record(state, judged)
        check_about(outcomes.about, record, "`outcomes`")
        check_not_void(self._folders, state, judged, outcomes.data_hash())
        check_fresh(self._folders, state, judged, outcomes, inputs, since_promotion=since_promotion)
        found = certify(outcomes, max_loss, level, **options)
        with self._changing() as state:
            if live_in(state) != live:
                raise RegistryError(f"version {live} was replaced while version {judged} was certified")
            if found.certified:
                if judged != live:
                    _take_place(state, live, judged)
                self._put_in_force(state, judged, found)
            else:
                tell(state, "not certified", judged, found.id)
        return found

    def attach(
        self,
        certificate: Certificate,
        outcomes: Outcomes,
        *,
        inputs: Mapping[str, Any] | None = None,
        since_promotion: bool = False,
    ) -> None:
        """Put a certificate in force that was made elsewhere (`dsplus certify`), after the same checks as `certify`.

        Args:
            certificate: Of the live version.
            outcomes: The rows that it was made from.
            inputs: As in `certify`.
            since_promotion: As in `certify`.

        Raises:
            RegistryError: If it is NOT_CERTIFIED or about another model, or the rows are others or were used.
        """
        if not certificate.certified:
            raise RegistryError("`certificate` is NOT_CERTIFIED: nothing may stay local under it, as now")
        if certificate.about.get("data") != outcomes.data_hash():
            raise RegistryError(
                "`outcomes` are not the rows that `certificate` was made from: its `about` names other `data`"
            )
        with self._changing() as state:
            live = live_in(state)
            for entry in state["versions"][str(live)]["certificates"]:
                if entry["id"] == certificate.id and entry["state"] == "void":
                    raise RegistryError(f"`certificate` is void: {entry.get('reason')}. Certify again, on fresh rows")
            check_certificate(certificate, self._record(state, live))
            check_not_void(self._folders, state, live, outcomes.data_hash())
            check_fresh(self._folders, state, live, outcomes, inputs, since_promotion=since_promotion)
            self._put_in_force(state, live, certificate)

    # --- inside: versions ---------------------------------------------------------------------------------------

    def _read(self) -> State:
        return self._state.read()

    @contextmanager
    def _changing(self, *, make: bool = False) -> Iterator[State]:
        """Change the state under the lock; it is written if nothing is raised."""
        if not make and not self.exists:
            self._read()  # says that there is none, before a folder is made for the lock
        with self._state.changing(make=make) as state:
            self._folders.sweep()
            yield state

    def mark(self) -> str:
        """The state in short: another one says that something changed."""
        return mark_of(self._read())

    def in_force(self) -> tuple[int, str, Certificate | None]:
        """The live version, its SHA-256 and its certificate, by one look at the state."""
        state = self._read()
        number = live_in(state)
        return number, state["versions"][str(number)]["sha256"], self._certificate(state, number)

    def _load(self, state: State, number: int) -> SmallModel:
        return self._folders.load(known_in(state, number), state["versions"][str(number)]["sha256"])

    def _record(self, state: State, number: int) -> dict[str, Any]:
        """What a version's folder says of it, after every file was compared."""
        return self._folders.about(number, state["versions"][str(number)]["sha256"])

    def _version(self, state: State, number: int) -> ModelVersion:
        entry = state["versions"][str(number)]
        about = self._folders.about(number)
        return ModelVersion(
            number=number, state=entry["state"], name=entry["name"], model=entry["model"], sha256=entry["sha256"],
            made=entry["made"], since=entry["since"], parent=entry["parent"], reasons=list(entry["reasons"]),
            teacher=about.get("teacher"), seed=about.get("seed"), n_rows=int(about.get("n_rows") or 0),
            data=str(about.get("data")), certificates=list(entry["certificates"]),
        )  # fmt: skip

    # --- inside: rows -------------------------------------------------------------------------------------------

    def _reader(self, state: State) -> Callable[[Any], Any]:
        return reader(self._folders.about(live_in(state)).get("input_key"))

    def _hashes(self, state: State, inputs: Iterable[Any]) -> list[str]:
        hashes, read = RowHash(state["salt"]), self._reader(state)
        return [hashes.input(read(value)) for value in inputs]

    # --- inside: gates and certificates -------------------------------------------------------------------------

    def _gate(self, entry: GateEntry) -> Gate:
        body = dict(self._folders.read_gate(entry)["report"])
        body["classes"] = [ClassChange(**change) for change in body["classes"]]
        names = [field.name for field in dataclasses.fields(Gate) if field.name != "report"]
        return Gate(report=PromotionReport(**body), **{name: cast("Any", entry)[name] for name in names})

    def _certificate(self, state: State, number: int) -> Certificate | None:
        for entry in reversed(state["versions"][str(number)]["certificates"]):
            if entry["state"] == "in force":
                return self._folders.read_certificate(entry["id"])
        return None

    def _put_in_force(self, state: State, number: int, certificate: Certificate) -> None:
        self._folders.write_certificate(certificate)
        void(state, number, "replaced", f"certificate {certificate.id} took its place")
        entry = CertificateEntry(id=certificate.id, state="in force", time=now())
        state["versions"][str(number)]["certificates"].append(entry)
        tell(state, "certified", number, certificate.id)

    def _restore(self, entry: VersionEntry, record: Mapping[str, Any]) -> str:
        """Put the certificate in force again that a promotion voided, if it still fits; return what became of it."""
        last = entry["certificates"][-1] if entry["certificates"] else None
        if last is None or last["state"] != "void" or last.get("cause") != "promotion":
            return "without a certificate"
        try:
            check_certificate(self._folders.read_certificate(last["id"]), record)
        except RegistryError as error:
            last["cause"], last["reason"] = "other", str(error)
            return "its certificate no longer fits, and stays void"
        entry["certificates"][-1] = CertificateEntry(id=last["id"], state="in force", time=now())
        return "with its certificate"


def _take_place(state: State, live: int, number: int) -> None:
    """Make another version the live one; the certificate in force is void."""
    void(state, live, "promotion", f"version {number} took the place of version {live}")
    before, after = state["versions"][str(live)], state["versions"][str(number)]
    before["state"] = "earlier"
    after["state"], after["since"], after["reasons"] = "live", now(), []
    state["stack"].append(number)
    tell(state, "promoted", number, f"in the place of version {live}; its certificate is void")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
