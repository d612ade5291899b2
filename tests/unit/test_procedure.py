"""The whole procedure in one call: what is asked on which split, in which order, and what comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import FakeSmallModel, LabelParser, PromptPruner
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.procedure import certify_cascade

LABELS = ["cat", "dog", "owl", "cow", "hen", "pig"]


def world(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Inputs with a truth; the small model's probabilities are part of the input, so that it can be a pure function."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        sure = float(random.beta(4, 0.7)) * 0.8 + 0.19
        first, second, *others = (LABELS[i] for i in random.permutation(6))
        truth = first if random.random() < sure else second
        rest = (1 - sure) / 20
        share = {first: sure, second: 1 - sure - 4 * rest, **dict.fromkeys(others, rest)}
        top = max(share, key=share.__getitem__)
        rows.append(
            {"input": {"text": f"{number} {truth}", "p": share}, "gold": truth, "group": f"g{number // 2}", "top": top}
        )
    return rows


small = FakeSmallModel(lambda value: value["p"], labels=LABELS, version="1")
prompt = PromptPruner.from_messages([("human", "{text}")], labels=LABELS)


class Llm:
    """Right in nine of ten, by a rule on the text; sees the truth only if it is offered. Counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, value: Any) -> AIMessage:
        text = value.to_string()
        self.asked.append(text)
        number, truth = text.removeprefix("Human: ").split()[:2]
        wrong = LABELS[(LABELS.index(truth) + 1) % 6]
        return AIMessage(wrong if int(number) % 12 == 0 else truth)


def run(rows: list[dict[str, Any]], llm: Llm, **more: Any) -> Any:
    chain = RunnableLambda(llm) | LabelParser(LABELS)
    return certify_cascade(small, prompt, chain, rows, version="v1", progress=False, max_loss=0.02, **more)


@pytest.mark.parametrize("pruning", ["keep", "soft", "hard"])
def test_the_whole_way(pruning: Any) -> None:
    llm = Llm()
    found = run(world(3000), llm, pruning=pruning)
    n_fit, n = len(found.fit), len(found.outcomes)
    assert n_fit + n == 3000
    assert abs(n_fit - 1200) <= 1
    assert not set(found.fit["id"]) & set(found.outcomes["id"])
    assert not set(found.fit["group"]) & set(found.outcomes["group"])
    if found.certificate.prompt == "pruned":
        escalated = found.outcomes["confidence"] <= found.start.threshold
        has_pruned = [value is not None for value in found.outcomes.values("large_pruned")]
        assert has_pruned == escalated.tolist()  # the others are never escalated: nobody pays for their pruned answer
        assert len(llm.asked) == 3000 + escalated.sum()
        assert found.certificate.steps[0].thresholds == {"small": found.start.threshold}
    else:
        assert pruning == "hard"
        assert not found.prompt.proficient
    assert found.certificate.status == "CERTIFIED"
    part = found.router(version="v1", include_route=True)
    results = [part.invoke(row["input"]) for row in world(3000)[:40]]
    assert {r["route"]["accepted"] for r in results} == {True, False}
    assert all(r["route"]["certificate"] == found.certificate.id for r in results)


def test_keep_offers_fewer_to_the_rows_that_are_escalated() -> None:
    llm = Llm()
    found = run(world(3000), llm, pruning="keep")
    assert found.prompt.conformal is not None
    offered = [
        text.count("\n- ") or sum(label in text.split("Candidates:")[1] for label in LABELS) for text in llm.asked
    ]
    assert min(offered) < 6
    assert max(offered) == 6


def test_a_second_call_asks_nothing_again(tmp_path: Path) -> None:
    llm = Llm()
    first = run(world(1500), llm, pruning="keep", folder=tmp_path)
    asked = len(llm.asked)
    second = run(world(1500), llm, pruning="keep", folder=tmp_path)
    assert len(llm.asked) == asked
    assert second.certificate.threshold == first.certificate.threshold


def test_a_person_may_label_before_it_is_certified() -> None:
    rows = [{**row, "gold": row["gold"] if i % 2 else None} for i, row in enumerate(world(3000))]
    truth = {str(i): row["gold"] for i, row in enumerate(world(3000))}
    seen: list[int] = []

    def label(table: Outcomes) -> Outcomes:
        asked = table.to_label(prompt="pruned", agreements=0)
        seen.append(len(asked))
        return table.with_gold({row["id"]: truth[row["id"]] for row in asked})

    without = run(rows, Llm(), pruning="soft")
    with_gold = run(rows, Llm(), pruning="soft", label=label)
    assert seen[0] > 0
    assert with_gold.certificate.unlabeled == 0
    assert with_gold.certificate.coverage >= without.certificate.coverage


@pytest.mark.parametrize(
    ("more", "named"),
    [({"pruning": "none"}, "pruning"), ({"fit_share": 1.0}, "fit_share"), ({"path": "x"}, "path")],
)
def test_bad_arguments_are_named(more: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        run(world(20), Llm(), **more)


def test_rows_must_be_readable() -> None:
    with pytest.raises(ValueError, match="row 2"):
        run([*world(1), "text"], Llm())  # type: ignore[list-item]
    with pytest.raises(ValueError, match="too few"):
        run(world(2), Llm())
