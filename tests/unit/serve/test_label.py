"""The label page's desk: one row for one person, written at once, taken back, blind; and its guard."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from langchain_dsplus.serve import label_app
from langchain_dsplus.serve.label import Desk
from langchain_dsplus.shunt import ShuntFolder
from langchain_dsplus.traces.store import TraceStore
from tests.unit.shunt.conftest import LABELS, World

HOSTILE = "</script><img src=x onerror=alert(1)>\u202e{{7*7}}"


def said(store: TraceStore) -> dict[str, Any]:
    return {row["route_id"]: row["gold"] for row in store.rows(kind="gold")}


@pytest.fixture
def shunt(tmp_path: Path) -> Any:
    """Forty disagreements that are wanted, one of them hostile."""
    here = World(tmp_path)
    with here.shunt() as made:
        texts = here.texts(39)
        here.truth[HOSTILE] = "refund"
        made.batch([*texts, HOSTILE])
        wanted = []
        for place, row in enumerate(made.store.rows(kind="route")):
            wrong = next(label for label in LABELS if label != here.truth[row["input"]])
            wanted.append(
                {"id": row["route_id"], "small": wrong, "large": here.truth[row["input"]], "needed": place < 3}
            )
        made.folder.save_wanted(wanted)
        yield made


def test_a_random_day_at_the_desk(shunt: Any) -> None:
    """Nobody sees what another has, every word is in the store at once, and a word that is taken back is none."""
    draw = random.Random(1)
    now = [0.0]
    desk = Desk(shunt.folder, shunt.store, clock=lambda: now[0])
    people = ["a", "b", "c"]
    before: dict[str, Any] = {}
    truth: dict[str, str | None] = {}
    history: dict[str, list[str]] = {who: [] for who in people}
    for _ in range(300):
        who = draw.choice(people)
        now[0] += draw.choice([0.0, 1.0, 40.0])
        deed = draw.choice(["next", "say", "say", "undo", "wrong"])
        if deed == "undo":
            if history[who]:
                name = history[who].pop()
                truth[name] = None
                found = desk.undo({"person": who})
                assert found["row"]["id"] == name
            else:
                found = desk.undo({"person": who})
                assert found["message"]
        elif deed == "say" and before.get(who):
            label = draw.choice([*LABELS, None])
            name = before[who]
            found = desk.say({"person": who, "id": name, "label": label})
            assert not found["message"]
            truth[name] = label
            history[who].append(name)
            assert said(shunt.store)[name] == label
        elif deed == "wrong" and before.get(who):
            found = desk.say({"person": who, "id": before[who], "label": "no label"})
            assert found["message"]
            other = next(p for p in people if p != who)
            assert desk.say({"person": other, "id": before[who], "label": LABELS[0]})["message"]
        else:
            found = desk.next({"person": who})
        before[who] = found["row"] and found["row"]["id"]
        for other in people:
            before[other] = (desk.next({"person": other})["row"] or {}).get("id")
        held = [name for name in before.values() if name]
        assert len(set(held)) == len(held)
        assert said(shunt.store) == truth
        assert not set(held) & {name for name, label in truth.items() if label is not None}
    assert sum(label is not None for label in truth.values()) > 5


def test_a_row_of_somebody_who_has_gone_comes_back(shunt: Any) -> None:
    now = [0.0]
    desk = Desk(shunt.folder, shunt.store, clock=lambda: now[0])
    first = desk.next({"person": "a"})["row"]
    assert desk.next({"person": "b"})["row"]["id"] != first["id"]
    now[0] = 601.0
    assert desk.next({"person": "c"})["row"]["id"] == first["id"]
    assert desk.say({"person": "a", "id": first["id"], "label": "refund"})["message"]
    assert said(shunt.store) == {}


def test_it_is_blind(shunt: Any) -> None:
    """The order of the two answers does not say which is the large model's, and no field does."""
    large = {row["id"]: row["large"] for row in shunt.folder.wanted()}
    desk = Desk(shunt.folder, shunt.store)
    first = 0
    for _ in large:
        row = desk.next({"person": "a"})["row"]
        assert set(row) == {"id", "input", "choices", "needed"}
        first += row["choices"][0] == large[row["id"]]
        desk.say({"person": "a", "id": row["id"], "label": row["choices"][0]})
    assert 8 <= first <= 32
    end = desk.next({"person": "a"})
    assert end["row"] is None
    assert end["progress"] == {"mine": 40, "told": 40, "left": 0}


def test_what_the_certification_waits_for_comes_first(shunt: Any) -> None:
    desk = Desk(shunt.folder, shunt.store)
    assert [desk.next({"person": str(who)})["row"]["needed"] for who in range(5)] == [True] * 3 + [False] * 2


def test_without_the_token_there_is_nothing(shunt: Any) -> None:
    client = TestClient(label_app(shunt.folder, shunt.store, "secret"))
    for path in ("/", "/label.js", "/label.css"):
        page = client.get(path)
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "http://" not in page.text
        assert "https://" not in page.text
    for token in ("", "wrong", "secre", "secret2"):
        for path in ("/api/next", "/api/say", "/api/undo", "/docs", "/openapi.json"):
            assert client.post(path, json={"person": "a"}, headers={"x-dsplus-token": token}).status_code == 401
    reply = client.post("/api/next", json={"person": "a"}, headers={"x-dsplus-token": "secret"})
    assert reply.status_code == 200
    assert reply.json()["labels"] == LABELS


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"person": [1]}', b'{"person": {"a": 1}, "id": ["x"], "label": {}}']
)
@pytest.mark.parametrize("path", ["/api/next", "/api/say", "/api/undo"])
def test_nonsense_writes_nothing(shunt: Any, path: str, body: bytes) -> None:
    client = TestClient(label_app(shunt.folder, shunt.store, "t"))
    reply = client.post(path, content=body, headers={"x-dsplus-token": "t", "content-type": "application/json"})
    assert reply.status_code in (200, 422)
    assert said(shunt.store) == {}


def test_a_folder_without_a_shunt_is_refused(tmp_path: Path) -> None:
    with TraceStore(tmp_path / "t.db") as store, pytest.raises(ValueError, match="is no shunt"):
        label_app(ShuntFolder(tmp_path / "none"), store, "t")
