"""What a shunt keeps beside its parts: what it promises, and how much error probability its life has spent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from langchain_dsplus._files import replace_file
from langchain_dsplus._inputs import canonical
from langchain_dsplus._json import load_json
from langchain_dsplus.registry.state import RegistryError, RowHash, locked, now
from langchain_dsplus.shunt.plan import Forecast
from langchain_dsplus.small_models.base import read_text

TERMS = "shunt.json"
LIFE = "life.json"
_FORMAT = 2
GOLD = "gold.jsonl"
WANTED = "wanted.json"
EVIDENCE = "evidence.json"
GIVEN = "given"
ASKING = "asking"
_TABLE = 0.7
"""Part of the error probability that is left which the next table of certify rows gets."""

UseState = Literal["open", "certified", "refused", "given up"]


class ShuntError(ValueError):
    """What was asked of a shunt cannot be done; the message says why, and what to do."""


SET_APART = 0.6


@dataclass(frozen=True)
class Terms:
    """What a shunt promises, and what it is bound to. The promise of a folder never changes.

    Attributes:
        labels: Of the task.
        max_loss: The promise, a share of inputs.
        level: Confidence over the whole life.
        set_apart: Share of the inputs that certify while rows for that are wanted; which ones, a keyed hash says.
        audit_rate: Of local answers.
        never_local: Labels that always escalate.
        input_key: Under which key of a dict the text is.
        large: What the large chain is: `large` and `prompt`, where they can be seen into.
        price: Of the large model, as `Price` has it; None where none was told.
        begun_with: What the first version is: `given`, a fitted model of the user's; else the name of the encoder of a
            sentence head, None for the default one.
        salt: Of the hash that sets apart.
        made: When the folder was made, UTC.
    """

    labels: list[str]
    max_loss: float
    level: float = 0.95
    set_apart: float = SET_APART
    audit_rate: float = 0.02
    never_local: list[str] = field(default_factory=list)
    input_key: str | None = None
    large: dict[str, str] = field(default_factory=dict)
    price: dict[str, Any] | None = None
    begun_with: str | None = None
    salt: str = ""
    made: str = ""

    @property
    def bound(self) -> str:
        """The large chain in short: rows of another one say nothing about this one."""
        return hashlib.sha256(json.dumps(self.large, sort_keys=True).encode()).hexdigest()[:16]

    def share(self, value: Any) -> float:
        """A number in [0, 1) that an input always gets here; below `set_apart` it only certifies.

        It goes by the text that a model would read, whatever stands beside it and however it is spaced.
        """
        with contextlib.suppress(TypeError, ValueError):  # no text, or several: then all of it counts
            value = read_text(value)
        seen = canonical(value)
        return RowHash(self.salt).share(value if seen is None else seen)


class Use(TypedDict):
    """One certification: written down before anything is looked at, so that a kill forgets none."""

    version: int
    threshold: float
    coverage: float
    """Share of inputs above the threshold."""
    alpha: float
    n: int
    """Different inputs in the table then."""
    table: int
    until: str
    """Rows of the table that came later are not looked at."""
    opened: str
    state: UseState
    closed: NotRequired[str]
    why: NotRequired[str]


class Life(TypedDict):
    """Everything that changes; the registry beside it knows the versions."""

    tables: list[str]
    """After what time each table of certify rows began; the last one is in use, the rows of the others teach."""
    uses: list[Use]
    learned: int
    """Rows that the last training had."""
    candidate: int | None
    """The version that was trained last, until it is refused."""
    forecast: dict[str, float]
    """What rows that only teach let expect; see `Forecast`."""


class ShuntFolder:
    """The folder of a shunt: `shunt.json`, `life.json`, `models/`, `traces.db`, `gold.jsonl`, `alarms/`, `asking`.

    Each file is replaced as a whole, so whoever reads needs no lock; one process at a time works (`working`).

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().resolve()

    def __repr__(self) -> str:
        return f"ShuntFolder({str(self.path)!r})"

    @property
    def exists(self) -> bool:
        """Whether there is a shunt."""
        return (self.path / TERMS).exists()

    @property
    def models(self) -> Path:
        """The folder of the model registry."""
        return self.path / "models"

    @property
    def traces(self) -> str:
        """The URL of the trace store."""
        return f"sqlite:///{self.path / 'traces.db'}"

    # --- terms --------------------------------------------------------------------------------------------------

    def terms(self) -> Terms:
        """Read what the shunt promises.

        Raises:
            ShuntError: If there is no shunt here, or the file is damaged.
        """
        if not self.exists:
            raise ShuntError(
                f"{self.path} is no shunt: it has no {TERMS} (`DataShunt(chain, labels=[...], folder=...)` makes one)"
            )
        try:
            body = load_json((self.path / TERMS).read_bytes())
            _check_format(self.path / TERMS, body)
            return Terms(**body)
        except ShuntError:
            raise
        except (ValueError, TypeError, RecursionError) as error:
            raise ShuntError(f"{self.path / TERMS} is damaged: restore it from a backup") from error

    def begin(self, wanted: Terms) -> Terms:
        """Make the folder, or take up the one that is there.

        A large chain that is another one than before begins a new table of certify rows, and voids nothing yet: see
        `Worker`.

        Returns:
            The terms that hold.

        Raises:
            ShuntError: If the folder promises something else.
        """
        with self.working(timeout=60.0):
            if not self.exists:
                made = replace(wanted, salt=wanted.salt or secrets.token_hex(16), made=now())
                self.save_life(Life(tables=[made.made], uses=[], learned=0, candidate=None, forecast={}))
                self._save_terms(made)
                return made
            before = self.terms()
            for name in ("labels", "max_loss", "level", "set_apart", "never_local", "input_key"):
                old, new = getattr(before, name), getattr(wanted, name)
                if (sorted(old) if isinstance(old, list) else old) != (sorted(new) if isinstance(new, list) else new):
                    raise ShuntError(
                        f"`{name}` is {new!r}, and {self.path} was made with {old!r}: take a folder of its own"
                    )
            after = replace(
                before,
                large=wanted.large,
                price=wanted.price,
                audit_rate=wanted.audit_rate,
                begun_with=wanted.begun_with or before.begun_with,
            )
            if after != before:
                if after.large != before.large:
                    self.retire("the large chain is another one")
                self._save_terms(after)
            return after

    def _save_terms(self, terms: Terms) -> None:
        _save(self.path / TERMS, asdict(terms))

    # --- life ---------------------------------------------------------------------------------------------------

    def life(self) -> Life:
        """Read what was spent and learned so far."""
        try:
            found: Life = load_json((self.path / LIFE).read_bytes())
            _check_format(self.path / LIFE, found)
            _check_life(found)
        except ShuntError:
            raise
        except (OSError, ValueError, RecursionError) as error:
            raise ShuntError(
                f"{self.path / LIFE} is missing or damaged: it counts what was spent, so restore it from a backup"
            ) from error
        return found

    def save_life(self, life: Life) -> None:
        """Put it in its place, as a whole; durable when this returns."""
        _save(self.path / LIFE, life)

    def retire(self, why: str) -> None:
        """Begin a new table of certify rows: the world of the old one is gone. What was spent stays spent."""
        life = self.life()
        end_table(life)
        close(life, "given up", why)
        life["learned"], life["forecast"] = 0, {}
        self.save_life(life)

    @contextlib.contextmanager
    def working(self, timeout: float = 0.0) -> Iterator[None]:
        """Let one process at a time work; the lock ends with whoever holds it.

        Raises:
            ShuntError: If another process is at work.
        """
        try:
            with locked(self.path, timeout):
                yield
        except RegistryError as error:
            if str(self.path / "models") in str(error) or "has been changing" not in str(error):
                raise
            raise ShuntError(f"another process is at work in {self.path}") from None

    # --- gold, alarms, wishes -----------------------------------------------------------------------------------

    def gold(self) -> list[tuple[Any, str]]:
        """The labelled rows that the shunt was given at its start."""
        file = self.path / GOLD
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [(row["input"], row["gold"]) for row in map(load_json, lines)]

    def save_gold(self, rows: Sequence[tuple[Any, str]]) -> None:
        """Keep labelled rows, in the place of those before."""
        lines = [json.dumps({"input": value, "gold": label}, ensure_ascii=False) + "\n" for value, label in rows]
        replace_file(self.path / GOLD, "".join(lines))

    @property
    def asking(self) -> bool:
        """Whether the large model is asked about every input that is set apart, though the small one would answer."""
        return (self.path / ASKING).exists()

    @asking.setter
    def asking(self, wanted: bool) -> None:
        if wanted and not self.asking:
            replace_file(self.path / ASKING, "")
        elif not wanted:
            (self.path / ASKING).unlink(missing_ok=True)

    def raise_alarm(self, certificate: str, message: str) -> None:
        """Tell whoever works here that a certificate's evidence no longer fits; any process may."""
        file = self.path / "alarms" / f"{certificate}.json"
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            replace_file(file, json.dumps({"time": now(), "message": message}) + "\n")

    def alarm(self, certificate: str) -> str | None:
        """What alarm a certificate had, if any."""
        file = self.path / "alarms" / f"{certificate}.json"
        return str(load_json(file.read_bytes())["message"]) if file.exists() else None

    def save_evidence(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep what models that had not seen them say of rows that teach, for a report."""
        replace_file(self.path / EVIDENCE, json.dumps(list(rows), ensure_ascii=False, allow_nan=False) + "\n")

    def evidence(self) -> list[dict[str, Any]]:
        """Read it."""
        file = self.path / EVIDENCE
        found: list[dict[str, Any]] = load_json(file.read_bytes()) if file.exists() else []
        return found

    def save_wanted(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write down which disagreements a person should label."""
        replace_file(self.path / WANTED, json.dumps(list(rows), ensure_ascii=False, allow_nan=False) + "\n")

    def wanted(self) -> list[dict[str, Any]]:
        """Read it."""
        file = self.path / WANTED
        found: list[dict[str, Any]] = load_json(file.read_bytes()) if file.exists() else []
        return found


def _save(file: Path, body: Mapping[str, Any]) -> None:
    text = json.dumps({"format": _FORMAT, **body}, ensure_ascii=False, indent=1, allow_nan=False)
    replace_file(file, text + "\n")


def _check_format(file: Path, body: Any) -> None:
    """Take the format off."""
    if not isinstance(body, dict):
        raise ValueError("no object")  # noqa: TRY004 - said as damage, like all else that is wrong in a file
    if body.pop("format", None) != _FORMAT:
        raise ShuntError(
            f"{file} has another `format`; this version reads {_FORMAT}, and counts error probability otherwise: start "
            "the shunt in a new folder"
        )


def _check_life(body: Any) -> None:
    """Look whether it is what `save_life` writes.

    Raises:
        ValueError: If it is not.
    """
    life = TypeAdapter(Life).validate_python(body, strict=True)
    numbers = [use["version"] for use in life["uses"]] + [1 if life["candidate"] is None else life["candidate"]]
    tables = range(1, len(life["tables"]) + 1)
    forecast = {*Forecast.__dataclass_fields__, "gold"}
    if life["forecast"] and life["forecast"].keys() != forecast:
        raise ValueError("the forecast is not whole")
    if not tables or min(numbers) < 0 or not all(use["table"] in tables for use in life["uses"]):
        raise ValueError("a number is out of range")


# --- what is spent ---------------------------------------------------------------------------------------------------


def next_alpha(life: Life, level: float) -> float:
    """The error probability of the next certification.

    A table of certify rows serves one chain of certifications, which goes on while what it tests is certified. Given
    the rows that teach, each policy on an unbroken chain is fixed, whatever the table says; so is the first one that is
    truly bad, and to certify any bad one, the test of just that one must err. So all tests of a table have the same
    error probability. A refusal lets out more: it retires the table, and its rows teach. The t-th table has
    (1 - level) `_TABLE` (1 - `_TABLE`)^(t - 1); these sum to 1 - level.
    """
    return _error(len(life["tables"]), level)


def _error(table: int, level: float) -> float:
    return (1.0 - level) * _TABLE * (1.0 - _TABLE) ** (table - 1)


def spent(life: Life, level: float) -> float:
    """What all certifications of the life may have erred with, together; below 1 - level however long it lasts."""
    return sum(_error(table, level) for table in {use["table"] for use in life["uses"]})


def end_table(life: Life) -> None:
    """Begin a new table of certify rows, with those that come from now on; what was looked at is before it."""
    life["tables"].append(max([now(), *(use["until"] for use in life["uses"])]))


def open_use(life: Life) -> Use | None:
    """The certification that is under way."""
    return next((use for use in life["uses"] if use["state"] == "open"), None)


def close(life: Life, state: UseState, why: str = "") -> None:
    """End the certification that is under way, if there is one."""
    use = open_use(life)
    if use is not None:
        use["state"], use["closed"], use["why"] = state, now(), why
