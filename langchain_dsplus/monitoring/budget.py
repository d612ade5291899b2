"""`BudgetPacer`: keeps the large model's bill under a ceiling, and says what gives way where that cannot be."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from langchain_dsplus._files import replace_file
from langchain_dsplus._json import load_json
from langchain_dsplus.answer import Answer, failure
from langchain_dsplus.monitoring.monitor import Monitor
from langchain_dsplus.tags import BUDGET_EVENT
from langchain_dsplus.traces.shared import SharedStateError, shared_state

logger = logging.getLogger(__name__)

_WINDOW = 1000
_DAY = 86_400.0
_MINUTE = 60.0
_FREE = 0.05
_HIGHEST = 1.0 + _FREE
_MOST = 50.0
"""Allowance of one quiet spell, in calls: more would let the price of a call forget the day before."""
_FORMAT = 1
_COUNTS = ("inputs", "escalated", "kept", "overruns")
_LINES = 1000
"""Lines of a file after which it is written anew, and free inputs after which a shared state is told."""
_REST_SECONDS = 5.0
"""After a failure of the shared state's database."""


class BudgetStateError(ValueError):
    """What should be a pacer's state cannot be read. It may hold what was spent, so it is never ignored."""


class BudgetPacer(Monitor):
    """Spreads a budget over the inputs that the small model is unsure of, the least sure first.

    A ceiling holds for every 1,000 inputs in a row, or for every 24 hours. Escalations have a price in confidence that
    rises while more is spent than the ceiling allows and falls while less is (primal-dual pacing): an unsure input is
    worth a call while what asking may gain exceeds the price. Above that stands a hard cap: what was spent in the
    window, and one more call, must fit the ceiling.

    What gives way where the ceiling does not suffice is the user's choice:

    - `on_conflict="certificate"`: unsure inputs escalate all the same; the overrun is counted and told.
    - `on_conflict="budget"`: they get the small model's answer, with the reason `budget`. The certificate's promise is
      suspended then, which is told too.

    An input whose small model failed, a label of `never_local`, and everything while a certificate is refused or void
    or an alarm sends all to the large model, always escalates, and is counted. So are audits.

    With a `path` a restart forgets nothing that was spent, also after a kill: one short line is appended before a call
    that costs is let through, and the file is written anew, as a whole, every thousand lines. Inputs that cost nothing
    come with the next one that does; those that a kill takes leave the window fuller than it is, which is the
    careful side. One process per file.

    With a URL in its place, processes on any hosts share one budget in a database: a decision that may cost holds the
    state for some milliseconds, so no ceiling is passed however many they are; inputs that cost nothing are told along
    with it. Where the database is out of reach each goes on with what it knows, says so once, and tells later.

    Args:
        per_1000: Ceiling for any 1,000 inputs in a row, in the unit of `cost`.
        per_day: Ceiling for any 24 hours, in the unit of `cost`.
        cost: Of one escalated input: by default 1, so that ceilings are calls. A price in money where they are money;
            `settle` corrects it by what calls really cost.
        on_conflict: `certificate` or `budget`.
        gain: From an unsure `Answer` to what asking may gain, from 0 to 1. By default 1 minus the largest probability,
            or minus the confidence where there are none.
        step: How fast the price follows, in (0, 1].
        path: A file of JSON lines that keeps the state, in the unit of `cost`: for another unit take another file.
            Or the URL of a trace store's database, `postgresql://user@host/database#name`, with one name per budget.
            Without one the state is in memory, and `to_dict` and `restore` keep it elsewhere.
        clock: Seconds since 1970, for tests.

    Attributes:
        inputs: Decisions seen.
        escalated: Inputs that went to the large model.
        kept: Unsure inputs that stayed local for lack of budget.
        overruns: Calls above a ceiling.

    Raises:
        ValueError: If there is no ceiling, or a number is out of range.
        BudgetStateError: If the file at `path` is no state of a pacer.

    Example:
        >>> pacer = BudgetPacer(per_1000=250, on_conflict="budget")
        >>> answer = {"choice": "a", "probabilities": {"a": 0.55, "b": 0.45}, "confidence": 0.55}
        >>> sum(pacer.escalate(answer) for _ in range(1000)) <= 250
        True
    """

    def __init__(
        self,
        *,
        per_1000: float | None = None,
        per_day: float | None = None,
        cost: float = 1.0,
        on_conflict: Literal["certificate", "budget"] = "certificate",
        gain: Callable[[Mapping[str, Any]], float] | None = None,
        step: float = 0.02,
        path: str | Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        if per_1000 is None and per_day is None:
            raise ValueError("a budget needs `per_1000` or `per_day`")
        for name, value in (("per_1000", per_1000), ("per_day", per_day)):
            if value is not None and not (value >= 0.0 and math.isfinite(value)):
                raise ValueError(f"`{name}` must be a number, at least 0")
        if not (cost > 0.0 and math.isfinite(cost)) or not 0.0 < step <= 1.0:
            raise ValueError("`cost` must be positive, `step` in (0, 1]")
        if on_conflict not in ("certificate", "budget"):
            raise ValueError(f"`on_conflict` must be 'certificate' or 'budget', not {on_conflict!r}")
        self.per_1000 = per_1000
        self.per_day = per_day
        self.cost = float(cost)
        self.on_conflict = on_conflict
        self.gain = gain or _doubt
        self.step = float(step)
        self._shared = shared_state(path, "budget", rest=_REST_SECONDS)
        self.path = None if path is None or self._shared is not None else Path(path)
        self._owed: list[tuple[str, float]] = []
        """What the shared state does not know yet: what was done, and its cost."""
        self.inputs = 0
        self.escalated = 0
        self.kept = 0
        self.overruns = 0
        self._dual = 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._latest: deque[float] = deque([0.0] * (_WINDOW - 1), maxlen=_WINDOW - 1)
        """What each of the latest 999 inputs cost: with the next one they are 1,000."""
        self._sum = 0.0
        self._day: deque[list[float]] = deque()
        """By minute: when it began, and what was spent."""
        self._day_sum = 0.0
        self._time = clock()
        self._told = dict.fromkeys(("over", "suspended"), -_WINDOW)
        self._given = self.cost
        self._kept_cost = True
        self._unsaved = False
        self._lines = _LINES
        if self.path is not None and self.path.exists():
            self._load()

    @property
    def price(self) -> float:
        """What a call must gain now. 0 as long as spending is not above the ceiling's pace, give or take chance."""
        return max(self._dual - _FREE, 0.0)

    @property
    def spent_1000(self) -> float:
        """Spent on the latest 999 inputs."""
        with self._turn():
            return max(self._sum, 0.0)

    @property
    def spent_day(self) -> float:
        """Spent in the latest 24 hours."""
        with self._turn():
            return max(self._day_sum, 0.0)

    def escalate(self, answer: Answer) -> bool:
        """Decide about one unsure input, and count it. Returns False where the small answer has to do."""
        try:
            gain = float(self.gain(answer))
        except Exception as error:  # noqa: BLE001 - the user's function: asking is the safe side
            failure(error)
            logger.warning("`gain` failed with %s: the input escalates", type(error).__name__)
            gain = math.inf
        with self._turn() as now:
            fits = self._fits()
            ask = self.on_conflict == "certificate" or (fits and gain > self.price)
            told = self._do(now, "asked" if ask else "kept", self.cost if ask else 0.0, fits=fits)
        self._tell(told)
        return ask

    def count(self, *, escalated: bool) -> None:
        """Count an input about which there was nothing to decide."""
        with self._turn(costs=escalated) as now:
            told = self._do(now, "asked" if escalated else "local", self.cost if escalated else 0.0, fits=self._fits())
        self._tell(told)

    def charge(self, cost: float | None = None) -> None:
        """Count a call that no input waited for, such as an audit, in the unit of the ceilings."""
        with self._turn() as now:
            self._do(now, "charged", self.cost if cost is None else cost)

    def settle(self, cost: float) -> None:
        """Say what one call really cost: later ones are expected to cost what the latest hundred did on average."""
        if cost >= 0.0 and math.isfinite(cost):
            with self._lock:
                self._do(self._time, "settled", cost)

    # --- the state --------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        with self._turn():
            return self._state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `to_dict` was called, in another pacer of the same unit; ceilings may differ.

        Raises:
            BudgetStateError: If it is not what `to_dict` returns; then nothing changes.
        """
        found = _read(state)
        with self._turn():
            self._owed.clear()
            self._take(found)
            self._save()

    def _take(self, found: dict[str, Any]) -> None:
        """Go on from the fields of a state."""
        for name in _COUNTS:
            setattr(self, name, found[name])
        self._kept_cost = found["given"] == self._given  # else the user has set another cost since
        if self._kept_cost:
            self.cost = found["cost"]
        self._dual, self._time = found["dual"], min(found["time"], self._clock())
        self._latest = deque(found["latest"], maxlen=_WINDOW - 1)
        self._sum = math.fsum(self._latest)
        self._day = deque(found["day"])
        self._day_sum = math.fsum(spent for _, spent in self._day)
        self._told = found["told"]

    def save(self) -> None:
        """Write the state now, what cost nothing included; without a `path` nothing happens."""
        with self._turn():
            self._save()

    @contextlib.contextmanager
    def _turn(self, *, costs: bool = True) -> Iterator[float]:
        """Hold the lock, and a shared state with it, at its newest; yields the time. What costs nothing may wait."""
        with self._lock, contextlib.ExitStack() as stack:
            held = None
            if self._shared is not None and (costs or len(self._owed) >= _LINES):
                try:
                    held = stack.enter_context(self._shared.changing())
                    self._catch_up(held.value)
                except (SharedStateError, BudgetStateError) as error:
                    held = None
                    self._unwritten(error)
            now = self._clock()
            self._forget(now)
            yield now
            if held is not None:
                held.value = self._state()
                try:
                    stack.close()
                except SharedStateError as error:
                    self._unwritten(error)
                else:
                    self._owed.clear()
                    self._unsaved = False

    def _catch_up(self, state: Mapping[str, Any] | None) -> None:
        """Take the shared state, and add what it does not know; where there is none, the state here is the first."""
        if state is not None:
            self._take(_read(state))
            owed, self._owed = self._owed, []
            for what, cost in owed:
                self._do(self._clock(), what, cost, fits=self._fits())

    def _unwritten(self, error: Exception) -> None:
        """Say the first of a row: no answer is to fail for it."""
        if not self._unsaved:
            self._unsaved = True
            logger.warning("the state of BudgetPacer could not be written: %s", type(error).__name__)

    def _state(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "counts": {name: getattr(self, name) for name in _COUNTS},
            "given": self._given,
            "cost": self.cost,
            "dual": self._dual,
            "time": self._time,
            "latest": [[place, cost] for place, cost in enumerate(self._latest) if cost],
            "day": [[begin, spent] for begin, spent in self._day],
            "told": dict(self._told),
        }

    def _save(self, now: float = 0.0, spent: float | None = None) -> None:
        """Write down what the latest input cost; without `spent` everything. The lock is held."""
        if self.path is None or spent == 0.0:
            return
        try:
            if spent is None or self._lines >= _LINES or not self._append(now, spent):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                text = json.dumps(self._state(), allow_nan=False) + "\n"
                replace_file(self.path, text, durable=spent is None, mode=0o600)
                self._lines = 0
            self._unsaved = False
        except (OSError, ValueError) as error:
            self._lines = _LINES  # whatever is there: the next time all of it is written
            self._unwritten(error)

    def _append(self, now: float, spent: float) -> bool:
        """One line; False where there is no file to continue."""
        assert self.path is not None
        line = [now, spent, self.cost, self._dual, *(getattr(self, name) for name in _COUNTS), *self._told.values()]
        text = (json.dumps(line, allow_nan=False) + "\n").encode()
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            return False
        try:
            self._lines += 1
            return os.write(file, text) == len(text)
        finally:
            os.close(file)

    def _load(self) -> None:
        assert self.path is not None
        try:
            first, *lines = self.path.read_text(encoding="utf-8").split("\n")
            state = load_json(first)
            _read(state)
            last = lines.pop() if lines else ""
            with contextlib.suppress(ValueError):  # the last one may be cut off: what it says was never let through
                lines += [last] if isinstance(load_json(last), list) else []
            path, self.path = self.path, None  # nothing is written while it is read
            try:
                self.restore(state)
                for line in lines:
                    self._replay(*load_json(line))
            finally:
                self.path = path
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BudgetStateError(
                f"{self.path} is no state of a BudgetPacer ({type(error).__name__}), and may have held what was spent: "
                "restore it, or remove it to start anew"
            ) from error

    def _replay(self, now: float, spent: float, cost: float, dual: float, *counts: int) -> None:
        """Take one line of a file."""
        values = [_number(value) for value in (now, spent, cost, dual)]
        *whole, over, suspended = (int(_number(value, -math.inf)) for value in counts)
        passed = whole[0] - self.inputs if len(whole) == len(_COUNTS) else -1
        if passed < 0:
            raise ValueError("a line does not follow from the one before")
        self._latest.extend([0.0] * min(passed, _WINDOW - 1))
        self._latest[-1] += values[1]
        self._sum = math.fsum(self._latest)
        if self.per_day is not None:
            self._forget(values[0])
            self._add_to_day(values[0], values[1])
        for name, value in zip(_COUNTS, whole, strict=True):
            setattr(self, name, value)
        if self._kept_cost:
            self.cost = values[2]
        self._time, self._dual = min(values[0], self._clock()), min(values[3], _HIGHEST)
        self._told = {"over": over, "suspended": suspended}

    # --- counting ---------------------------------------------------------------------------------------------------

    def _fits(self) -> bool:
        """Whether one more call stays under every ceiling."""
        slack = 1e-9 * self.cost
        hour = self.per_1000 is None or self._sum + self.cost <= self.per_1000 + slack
        return hour and (self.per_day is None or self._day_sum + self.cost <= self.per_day + slack)

    def _do(self, now: float, what: str, cost: float = 0.0, *, fits: bool = True) -> list[dict[str, Any]]:
        """Count one thing that was done, and write it down; returns what is to be told."""
        told: list[dict[str, Any]] = []
        if what == "settled":
            self.cost = max(self.cost + 0.01 * (cost - self.cost), 1e-12)
        elif what == "charged":
            self._spend(now, cost)
        else:
            self.kept += what == "kept"
            told = self._count(now, escalated=what == "asked", fits=fits)
            told += self._tell_once("suspended") if what == "kept" else []
        if self._shared is not None:
            self._owed.append((what, cost))
        elif what != "settled":
            self._save(now, cost)
        return told

    def _count(self, now: float, *, escalated: bool, fits: bool) -> list[dict[str, Any]]:
        self.inputs += 1
        self.escalated += escalated
        cost = self.cost if escalated else 0.0
        self._sum += cost - self._latest[0]
        self._latest.append(cost)
        if self.inputs % _WINDOW == 0:
            self._sum = math.fsum(self._latest)  # no rounding adds up
        # Dual ascent, costs in calls: the price rises by what was spent, and falls by what may be spent.
        allowed = math.inf
        if self.per_1000 is not None:
            allowed = self.per_1000 / _WINDOW / self.cost
        if self.per_day is not None:
            passed = max(now - self._time, 0.0)
            allowed = min(allowed, self.per_day / _DAY * passed / self.cost)
        self._time = now
        self._dual = min(max(self._dual + self.step * (float(escalated) - min(allowed, _MOST)), 0.0), _HIGHEST)
        if not escalated:
            return []
        if self.per_day is not None:
            self._add_to_day(now, cost)
        if fits:
            return []
        self.overruns += 1
        return self._tell_once("over")

    def _spend(self, now: float, cost: float) -> None:
        """Add to what the latest input cost."""
        self._latest[-1] += cost
        self._sum += cost
        self._dual = min(self._dual + self.step * cost / self.cost, _HIGHEST)
        if self.per_day is not None:
            self._add_to_day(now, cost)

    def _add_to_day(self, now: float, cost: float) -> None:
        if self._day and now - self._day[-1][0] < _MINUTE:
            self._day[-1][1] += cost
        else:
            self._day.append([now, cost])
        self._day_sum += cost

    def _forget(self, now: float) -> None:
        # A minute's spending leaves as one, when the last of it is a day old.
        while self._day and now - self._day[0][0] >= _DAY + _MINUTE:
            self._day_sum -= self._day.popleft()[1]
        if not self._day:
            self._day_sum = 0.0

    def _tell_once(self, kind: str) -> list[dict[str, Any]]:
        """An event where the last of its kind is 1,000 inputs ago."""
        due = self.inputs - self._told[kind] >= _WINDOW
        self._told[kind] = self.inputs
        if not due:
            return []
        return [
            {
                "kind": kind,
                "message": _WORDS[kind],
                "on_conflict": self.on_conflict,
                "spent_1000": self._sum,
                "per_1000": self.per_1000,
                "spent_day": self._day_sum if self.per_day is not None else None,
                "per_day": self.per_day,
                "kept": self.kept,
                "overruns": self.overruns,
            }
        ]

    def _tell(self, told: list[dict[str, Any]]) -> None:
        for body in told:
            logger.warning("%s", body["message"])
            self._pending.append((BUDGET_EVENT, body))


_WORDS = {
    "over": "the budget is overrun: inputs that must go to the large model cost more than its ceiling.",
    "suspended": "the certificate's promise is suspended: unsure inputs stay local for lack of budget.",
}


def _number(value: Any, least: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("a number was expected")
    if not math.isfinite(value) or value < least:
        raise ValueError("a number is out of range")
    return float(value)


def _read(state: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a state, checked. Raises BudgetStateError if one is missing or makes no sense."""
    try:
        return _fields(state)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BudgetStateError(f"not the state of a BudgetPacer ({type(error).__name__})") from None


def _fields(state: Mapping[str, Any]) -> dict[str, Any]:
    if state["format"] != _FORMAT:
        raise ValueError(f"`format` must be {_FORMAT}")

    found: dict[str, Any] = {name: int(_number(state["counts"][name])) for name in _COUNTS}
    found |= {name: _number(state[name]) for name in ("given", "cost", "dual", "time")}
    if not (found["given"] and found["cost"] and found["dual"] <= _HIGHEST):
        raise ValueError("a number is out of range")
    latest = [0.0] * (_WINDOW - 1)
    for place, cost in state["latest"]:
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(latest):
            raise ValueError("a place is out of range")
        latest[place] = _number(cost)
    found["latest"] = latest
    found["day"] = [[_number(begin), _number(spent)] for begin, spent in state["day"]]
    found["told"] = {name: int(_number(state["told"][name], -math.inf)) for name in ("over", "suspended")}
    return found


def _doubt(answer: Mapping[str, Any]) -> float:
    """How unsure the small model is, from 0 to 1."""
    probabilities = answer["probabilities"]
    sure = max(probabilities.values()) if probabilities else answer["confidence"]
    return min(max(1.0 - float(sure), 0.0), 1.0)
