"""What is known of each decision: a ledger that grows with the store, and `work` that reads what is new."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from langchain_dsplus.shunt.folder import Terms
from langchain_dsplus.shunt.rows import KINDS, Ledger
from tests.unit.shunt.conftest import LABELS, World

TERMS = Terms(labels=LABELS, max_loss=0.05, salt="0" * 32)


def recorded(seed: int, n: int = 60) -> list[dict[str, Any]]:
    """Rows as they come: repeated inputs, audits that fail, gold before its decision and more than once."""
    rng, rows, names = random.Random(seed), [], [f"r{place}" for place in range(n)]
    for place, name in enumerate(names):
        accepted = rng.random() < 0.5
        route = {"accepted": accepted, "asked": rng.random() < 0.3, "reason": rng.choice(["shadow", "unsure"])}
        said = {} if accepted else {"output": rng.choice(LABELS)}
        rows.append({"kind": "route", "route_id": name, "time": f"{place:03}", "input": f"text {rng.randrange(n // 3)}",
                     "route": route, **said})  # fmt: skip
        if accepted and rng.random() < 0.5:
            end = {"error": "large: Timeout"} if rng.random() < 0.4 else {"output": rng.choice(LABELS)}
            rows.append({"kind": "audit", "route_id": name, **end})
        if rng.random() < 0.4:
            rows.append({"kind": "gold", "route_id": rng.choice(names), "gold": rng.choice([*LABELS, None, "other"])})
    return rows


@pytest.mark.parametrize("seed", range(10))
def test_a_ledger_that_grows_knows_what_one_look_at_everything_tells(seed: int) -> None:
    rows, ledger = recorded(seed), Ledger(TERMS)
    for count, row in enumerate(rows, 1):
        ledger.add(row)
        first: dict[float, bool] = {}
        gold = {each["route_id"]: each["gold"] for each in rows[:count] if each["kind"] == "gold"}
        for made in ledger.rows.values():
            apart = made.share < TERMS.set_apart
            assert made.certify == (apart and first.setdefault(made.share, made.way == "fair" or made.asked))
            assert made.gold == (gold.get(made.route_id) if gold.get(made.route_id) in LABELS else None)
        known = [row for row in ledger.rows.values() if row.way != "local" or row.asked or row.gold]
        assert [row for row in ledger.paid() if row.way != "local" or row.asked or row.gold] == known
    assert {row.certify for row in ledger.rows.values()} == {True, False}


@pytest.mark.parametrize("seed", range(5))
def test_a_row_is_in_the_table_or_teaches_and_what_came_before_teaches(seed: int) -> None:
    ledger = Ledger(TERMS, recorded(seed, 300))
    known = {row.route_id: row.time for row in ledger.paid() if row.answer is not None}
    sizes = []
    for since in ("", "100", "200", "999"):
        table, teach = (
            {row.route_id for row in rows} for rows in (ledger.table(since, None, TERMS.bound), ledger.learn(since))
        )
        assert not table & teach
        assert {name for name, time in known.items() if time <= since} <= teach
        sizes.append(len(table))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] > sizes[3] == 0


def test_work_reads_each_row_once_and_nothing_due_is_as_quick_beside_many_rows(
    world: Callable[..., World], capsys: pytest.CaptureFixture[str]
) -> None:
    here, took, seen = world(), {}, []
    with here.shunt() as shunt:
        shunt.batch(here.texts(30))
        rows = list(shunt.store.rows(kind="route"))
        for count in (300, 3_000):
            have = len(list(shunt.store.rows(kind=KINDS)))
            shunt.store._write_now(
                {**rows[place % 30], "route_id": f"{place}", "uid": f"{place}", "input": f"text {place % 997}",
                 "route": {**rows[place % 30]["route"], "accepted": True}}
                for place in range(have, count)
            )  # fmt: skip
            shunt.work()
            assert len(shunt.worker.ledger(shunt.terms).rows) == count
            shunt.batch(here.texts(1))
            read = shunt.worker._news._read

            def counted(done: int, read: Any = read) -> Any:
                found = list(read(done))
                seen.extend(found)
                return iter(found)

            shunt.worker._news._read = counted
            begun = time.perf_counter()
            assert not shunt.work()
            took[count] = time.perf_counter() - begun
            shunt.worker._news._read = read
        assert len(seen) == 2, "a row that was known was read again"
    with capsys.disabled():
        print(f"\nwork with nothing due, 3,000 rows to 300: {took[3_000] / took[300]:.1f} times as long")
