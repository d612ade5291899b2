"""`DataShunt`: the whole loop, from the first day to a live model that others follow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_dsplus.shunt import DataShunt, ShuntError
from langchain_dsplus.shunt.folder import end_table
from langchain_dsplus.shunt.rows import KINDS, Ledger
from tests.unit.shunt.conftest import LABELS, World
from tests.unit.shunt.test_life import use

Make = Callable[..., World]


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "batch", "abatch", "stream", "astream"])
def test_on_the_first_day_everything_goes_to_the_chain(world: Make, how: str) -> None:
    here = world(error=0.3)
    texts = here.texts(5)
    with here.shunt() as shunt:

        async def streamed(text: str) -> str:
            return "".join([part async for part in shunt.astream(text)])

        found = {
            "invoke": lambda: [shunt.invoke(text) for text in texts],
            "ainvoke": lambda: [asyncio.run(shunt.ainvoke(text)) for text in texts],
            "batch": lambda: shunt.batch(texts),
            "abatch": lambda: asyncio.run(shunt.abatch(texts)),
            "stream": lambda: ["".join(shunt.stream(text)) for text in texts],
            "astream": lambda: [asyncio.run(streamed(text)) for text in texts],
        }[how]()
        assert found == [here.answer(text) for text in texts]
        assert not shunt.status().live
        assert shunt.status().inputs == shunt.status().calls == 5


def test_a_message_stays_a_message_with_its_route(world: Make) -> None:
    here = world()

    def ask(text: str) -> AIMessage:
        return AIMessage(here.answer(text), id="from-the-model")

    with DataShunt(RunnableLambda(ask), LABELS, here.folder / "s", small=here.small(), background=False) as shunt:
        reply = shunt.invoke(here.text())
        assert reply.id == "from-the-model"
        assert reply.response_metadata["dsplus"]["reason"] == "shadow"


def test_a_chain_of_unknown_type_says_what_is_needed(world: Make) -> None:
    here = world()
    untyped = RunnableLambda(lambda text: {"label": here.answer(text)})
    with pytest.raises(TypeError, match="to_output=lambda answer, input"):
        DataShunt(untyped, LABELS, here.folder / "s")
    with DataShunt(
        untyped, LABELS, here.folder / "s2", small=here.small(), background=False,
        to_output=lambda answer, _: {"label": answer["choice"]},
    ) as shunt:  # fmt: skip
        text = here.text()
        assert shunt.invoke(text) == {"label": here.truth[text]}


def test_an_error_of_the_chain_is_the_callers(world: Make) -> None:
    here = world()

    def fail(text: str) -> str:
        raise ConnectionError(text)

    with (
        DataShunt(RunnableLambda(fail), LABELS, here.folder / "s", small=here.small(), background=False) as shunt,
        pytest.raises(ConnectionError),
    ):
        shunt.invoke("x")


def test_from_shadow_to_live_and_others_follow(world: Make) -> None:
    here = world(error=0.04)
    with here.shunt() as shunt, here.shunt() as other:
        here.live(shunt)
        assert shunt.status().live
        assert shunt.status().coverage > 0.3
        shunt.folder.asking = False  # else rows that certify are asked in the background as well
        before = len(here.asked)
        texts = here.texts(200)
        right = sum(said == here.truth[text] for text, said in zip(texts, shunt.batch(texts), strict=True))
        assert right > 180
        assert len(here.asked) - before < 150
        before = len(here.asked)
        other.batch(texts)
        assert len(here.asked) - before < 150, "the other process did not follow"
        text = str(shunt.status())
        assert "LIVE since" in text
        assert "answered locally" in text


def test_work_says_what_it_did_and_what_it_waits_for(world: Make) -> None:
    here = world()
    with here.shunt() as shunt:
        assert "needs 40 more rows" in str(shunt.work())
        shunt.batch(here.texts(160))
        first = shunt.work()
        assert first.did
        assert "Trained version" in str(first)
        again = shunt.work()
        assert not again
        assert "Nothing was due" in str(again)


def test_a_restart_goes_on_where_it_was(world: Make, lived: World) -> None:
    here = world().goes_on(lived)
    with here.shunt() as shunt:
        spent = shunt.status().spent
    with here.shunt(small=None) as shunt:
        assert shunt.status().live
        shunt.folder.asking = False
        assert shunt.status().spent == spent
        before = len(here.asked)
        shunt.batch(here.texts(60))
        assert len(here.asked) - before < 50


def test_an_alarm_sends_everything_to_the_chain_until_fresh_rows_certify(
    world: Make, lived: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world().goes_on(lived)
    with here.shunt(audit_rate=0.5) as shunt:
        here.error = 0.9  # the world is another one
        for _ in range(20):
            shunt.batch(here.texts(40))
            if shunt.worker.folder.alarm(shunt.worker.registry.certificate.id) is not None:
                break
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # cut off just before it is void
            patch.setattr(shunt.worker.registry, "void", Mock(side_effect=KeyboardInterrupt))
            shunt.work()
        done = shunt.work()
        assert "alarm" in str(done)
        assert not shunt.status().live
        before = len(here.asked)
        shunt.batch(here.texts(30))
        assert len(here.asked) - before == 30
        here.error = 0.0
        here.live(shunt, rows=3000)
        assert len(shunt.folder.life()["tables"]) == 2


def test_where_the_same_inputs_come_again_they_certify_after_a_refusal_too(world: Make) -> None:
    """As traffic repeats itself: else nothing would ever stay local there."""
    here = world()
    texts = here.texts(240)
    with here.shunt() as shunt:
        shunt.batch(texts)
        life = shunt.folder.life()
        use(life, state="refused", until="")
        end_table(life)
        shunt.folder.save_life(life)
        for _ in range(4):
            shunt.batch(texts)
            shunt.work()
        assert shunt.status().live, shunt.status()
        assert {each["table"] for each in shunt.folder.life()["uses"]} == {1, 2}


def table_of(shunt: DataShunt) -> dict[str, str | None]:
    """Inputs that certify, with what the large model said."""
    ledger = Ledger(shunt.terms, shunt.store.rows(kind=KINDS))
    return {row.value: row.label for row in ledger.table(shunt.folder.life()["tables"][-1], None, shunt.terms.bound)}


def test_rows_that_certify_stay_a_fair_sample_of_what_comes(world: Make) -> None:
    """While they are wanted all are asked, whoever answers; else none enters, though some escalate."""
    here = world(error=0.04)
    with here.shunt(include_route=True, audit_rate=0.3) as shunt:
        here.live(shunt)
        apart = lambda texts: {text for text in texts if shunt.terms.share(text) < shunt.terms.set_apart}  # noqa: E731
        for asking in (False, True, False):
            shunt.folder.asking = asking
            assert shunt.folder.asking == asking
            before, asked = set(table_of(shunt)), len(here.asked)
            texts = here.texts(150)
            found = dict(zip(texts, shunt.batch(texts), strict=True))
            new = set(table_of(shunt)) - before
            assert new == (apart(texts) if asking else set())
            local = [text for text in apart(texts) if found[text]["route"]["accepted"]]
            assert len(local) > 20
            if asking:
                assert apart(texts) <= set(here.asked[asked:])
                assert all(table_of(shunt)[text] is not None for text in local)


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "failed"])
def test_an_answer_that_never_came_counts_as_lost_and_one_that_failed_as_none(
    world: Make, lived: World, lost: bool
) -> None:
    here = world().goes_on(lived)
    with here.shunt() as shunt:
        shunt.folder.asking = True
        before = set(table_of(shunt))
        texts = here.texts(100)
        real = shunt.store.record

        def record(row: Any) -> None:
            if row["kind"] == "audit":
                if lost:  # killed, or too much was waiting
                    return
                row = {**row, "error": "large: Timeout"}
            real(row)

        shunt.store.record = record  # type: ignore[method-assign]
        shunt.batch(texts)
        new = {text: label for text, label in table_of(shunt).items() if text not in before}
        apart = {text for text in texts if shunt.terms.share(text) < shunt.terms.set_apart}
        assert set(new) < apart or set(new) == apart
        assert (set(new) == apart) == lost
        assert (None in new.values()) == lost


def test_another_prompt_certifies_anew(world: Make, lived: World) -> None:
    here = world().goes_on(lived)
    with here.shunt(version="2") as shunt:
        before = len(here.asked)
        shunt.batch(here.texts(20))
        assert len(here.asked) - before == 20, "the certificate is about another prompt"
        assert "another one" in str(shunt.work())
        assert not shunt.status().live


@pytest.mark.parametrize(
    ("change", "name"), [({"max_loss": "4 points"}, "max_loss"), ({"never_local": ["login"]}, "never_local")]
)
def test_a_folder_promises_one_thing(world: Make, change: dict[str, Any], name: str) -> None:
    here = world()
    here.shunt().close()
    with pytest.raises(ShuntError, match=name):
        here.shunt(**change)


def test_gold_outside_the_labels_is_refused_and_nothing_written(world: Make) -> None:
    here = world()
    with here.shunt() as shunt:
        shunt.batch(here.texts(3))
        name = next(iter(shunt.store.rows(kind="route")))["route_id"]
        with pytest.raises(ValueError, match="gold"):
            shunt.add_gold({name: "no label"})
        assert not list(shunt.store.rows(kind="gold"))


def test_labels_are_asked_blind_and_once(world: Make) -> None:
    here = world(error=0.3)
    with here.shunt() as shunt:
        shunt.batch(here.texts(240))
        shunt.work()
        rows = shunt.to_label(None)
        assert rows
        assert all(set(row) == {"id", "input", "choices", "needed"} for row in rows)
        assert all(2 >= len(row["choices"]) >= 1 for row in rows)
        first = {row["choices"][0] == here.truth[row["input"]] for row in rows}
        assert first == {True, False}, "the order says who said what"
        assert here.tell(shunt) == len(rows)
        assert not shunt.to_label(None)
