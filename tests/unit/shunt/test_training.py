"""Candidates: a cold start from answers and names, soft targets, rows that a language model writes."""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_dsplus.shunt import DataShunt
from langchain_dsplus.shunt.report import write_shunt_report
from langchain_dsplus.shunt.rows import PaidRow, what_was_said
from langchain_dsplus.shunt.training import Trainer, rare_labels, write_rows
from langchain_dsplus.small_models.sentence import SentenceClassifier
from tests.unit.shunt.conftest import LABELS, World

Make = Callable[..., World]


class Words:
    """An encoder without weights: hashed words."""

    version = "words"

    def encode(self, texts: list[str]) -> Any:
        rows = np.zeros((len(texts), 64), dtype=np.float32)
        for place, text in enumerate(texts):
            for word in text.lower().split():
                rows[place, hashlib.sha256(word.rstrip("0123456789").encode()).digest()[0] % 64] += 1.0
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


@pytest.mark.parametrize("labels", [LABELS, None], ids=["labels", "for its encoder"])
def test_a_cold_start_learns_from_answers_and_names(world: Make, labels: list[str] | None) -> None:
    here = world()
    options = {"small": SentenceClassifier(Words(), labels=labels), "options": {"encoder": Words()}}
    with here.shunt(**options) as shunt:
        assert not shunt.worker.registry.exists
        here.live(shunt)
        assert shunt.worker.registry.exists
        text = here.text()
        assert shunt.invoke(text) == here.truth[text]


def test_log_probabilities_become_soft_targets(world: Make) -> None:
    here = world()

    def ask(text: str) -> AIMessage:
        label = here.answer(text)
        other = next(name for name in LABELS if name != label)
        token = {
            "token": label, "logprob": math.log(0.7), "bytes": None,
            "top_logprobs": [{"token": label, "logprob": math.log(0.7)}, {"token": other, "logprob": math.log(0.3)}],
        }  # fmt: skip
        return AIMessage(label, response_metadata={"logprobs": {"content": [token]}, "finish_reason": "stop"})

    with DataShunt(RunnableLambda(ask), LABELS, here.folder / "s", small=here.small(), background=False) as shunt:
        shunt.batch(here.texts(4))
        rows = list(shunt.store.rows(kind="route"))
    for row in rows:
        found = row["large_said"]["probabilities"]
        assert found[row["large_said"]["label"]] == pytest.approx(0.7)
        assert sum(found.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("output", "label"),
    [
        ("refund", "refund"),
        ("Label: refund", "refund"),
        ("I do not know", None),
        ({"label": "refund"}, "refund"),
        ({"type": "ai", "content": "refund"}, "refund"),
        ({"choice": "refund", "probabilities": {"refund": 0.8, "login": 0.2}, "confidence": 0.8}, "refund"),
        (17, None),
        (None, None),
    ],
)
def test_what_was_said_is_a_label_or_nothing(output: Any, label: str | None) -> None:
    assert what_was_said(output, LABELS)["label"] == label


def test_rows_that_only_certify_never_teach(world: Make) -> None:
    here = world()
    with here.shunt() as shunt:
        shunt.batch([*here.texts(300), *here.texts(20) * 2])
        shunt.work()
        registry = shunt.worker.registry
        certify = [text for text in here.truth if shunt.terms.share(text) < shunt.terms.set_apart]
        assert len(registry.fresh([(text, here.truth[text]) for text in certify], registry.versions[-1].number)) == len(
            certify
        )


@pytest.mark.parametrize(
    "same", ["where is  it", " where is it\n", {"text": "where is it"}, {"text": "where is it", "n": 3}]
)
def test_inputs_that_say_the_same_are_on_the_same_side(world: Make, same: Any) -> None:
    with world().shunt() as shunt:
        assert shunt.terms.share(same) == shunt.terms.share("where is it")
        assert shunt.terms.share("where was it") != shunt.terms.share("where is it")
        assert shunt.terms.share({"a": "x", "b": "y"}) == shunt.terms.share({"b": "y", "a": "x"})


def row(text: str, label: str, way: Any = "fair") -> PaidRow:
    return PaidRow(text, text, "t", way, certify=False, label=label)


def test_an_input_that_comes_again_is_evidence_once_a_time(world: Make) -> None:
    here = world()
    texts = here.texts(60) + here.texts(15) * 4
    random.Random(0).shuffle(texts)
    rows = [replace(row(text, here.truth[text]), route_id=str(n)) for n, text in enumerate(texts)]
    found = Trainer(here.small(), LABELS).train(rows).evidence.rows
    times = Counter(texts[int(judged.route_id)] for judged in found)
    assert len({judged.route_id for judged in found}) == len(found)
    assert times == Counter({text: texts.count(text) for text in times})


def test_a_shunt_whose_inputs_come_again_says_what_it_does(world: Make, tmp_path: Path) -> None:
    here = world()
    with here.shunt() as shunt:
        shunt.batch([*here.texts(200), *here.texts(40) * 3])
        shunt.work()
        shunt.status()
        page = write_shunt_report(shunt.folder, shunt.store, tmp_path / "page.html")
    assert "<html" in page.read_text()


def test_written_rows_are_for_rare_classes_only_and_none_stands_twice() -> None:
    rows = [row(f"refund text {n}", "refund") for n in range(5)] + [row("a login", "login")]
    assert rare_labels(rows, [], LABELS, 3) == ["delivery", "login"]
    asked = []

    def write(prompt: str) -> str:
        asked.append(prompt)
        return "1. Where is my parcel?\n- where is my PARCEL\n\n* Refund text 1!\nIt has not come"

    found = write_rows(RunnableLambda(write), ["delivery"], ["refund text 1"], 4)
    assert found == [("Where is my parcel?", "delivery"), ("It has not come", "delivery")]
    assert len(asked) == 1


def test_written_rows_that_do_harm_are_not_used(world: Make) -> None:
    here = world()
    rows = [row(text, here.truth[text]) for text in here.texts(150)]
    wrong = [(here.text("refund"), "login") for _ in range(150)]
    trainer = Trainer(here.small(), LABELS, written=wrong)
    made = trainer.train(rows)
    plain = Trainer(trainer.small, LABELS).train(rows)
    texts = here.texts(60)
    assert [a["choice"] for a in made.model.answers(texts)] == [a["choice"] for a in plain.model.answers(texts)]
