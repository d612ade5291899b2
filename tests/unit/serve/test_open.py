"""A shunt that is served: what its folder says, what it is taken for, and its way from shadow to live."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_dsplus.answer import Answer
from langchain_dsplus.costs.usage import Usage
from langchain_dsplus.serve import ChatTask, DecisionTask, Upstream, open_shunt
from langchain_dsplus.shunt import ShuntError
from tests.unit.serve.conftest import MODEL, Provider, Proxy, messages
from tests.unit.serve.test_clients import CHOICE
from tests.unit.serve.test_proxy import post
from tests.unit.shunt.conftest import LABELS, World

URL = "http://127.0.0.1:9/v1"
TASK = ChatTask(MODEL, [("system", "Say refund, delivery or login."), ("user", "{text}")])


def opened(folder: Path, task: Any = TASK, url: str = URL, **options: Any) -> Any:
    return open_shunt(folder / "shunt", task, Upstream(url), **{"labels": LABELS, **options})


def tables(folder: Path) -> int:
    return len(json.loads((folder / "shunt" / "life.json").read_text())["tables"])


def test_the_folder_remembers_its_task(tmp_path: Path) -> None:
    with pytest.raises(ShuntError, match="--model"):
        opened(tmp_path, None)
    with pytest.raises(ShuntError, match="--labels"):
        opened(tmp_path, labels=None)
    opened(tmp_path, max_loss="3 points", audit_rate=0.2).store.close()
    again = open_shunt(tmp_path / "shunt", None, Upstream(URL))
    assert again.router.large.task.parts == TASK.parts
    assert (again.terms.max_loss, again.terms.labels, again.terms.audit_rate) == (0.03, LABELS, 0.2)
    assert tables(tmp_path) == 1
    with pytest.raises(ShuntError, match="labels"):
        opened(tmp_path, labels=["a", "b"])
    (tmp_path / "shunt" / "serve.json").write_text("{")
    with pytest.raises(ShuntError, match="damaged"):
        opened(tmp_path, None)


@pytest.mark.parametrize(
    ("task", "url", "another"),
    [
        (TASK, "http://localhost:99/v1/", False),
        (ChatTask(MODEL, TASK.messages, '{{"label": "{label}"}}'), URL, True),
        (ChatTask("big-2", TASK.messages), URL, True),
        (ChatTask(MODEL, [("system", "Say refund, delivery or login!"), ("user", "{text}")]), URL, True),
        (TASK, "https://api.example.com/v1", True),
    ],
)
def test_another_large_chain_starts_anew(tmp_path: Path, task: Any, url: str, another: bool) -> None:
    opened(tmp_path).store.close()
    opened(tmp_path, task, url).store.close()
    assert tables(tmp_path) == 1 + another


def test_a_folder_of_another_chain_is_taken_up_where_both_say_the_same(tmp_path: Path) -> None:
    World(tmp_path).shunt().store.close()
    for version in (None, "2"):
        with pytest.raises(ShuntError, match="--version"):
            opened(tmp_path, labels=None, version=version)
    opened(tmp_path, labels=None, version="1").store.close()
    assert tables(tmp_path) == 1


def test_a_question_needs_the_shunts_labels(tmp_path: Path) -> None:
    opened(tmp_path).store.close()
    with pytest.raises(ShuntError, match="a folder of its own"):
        opened(tmp_path, DecisionTask("d", {"type": "predicate", "instructions": "Urgent?"}))


def test_from_shadow_to_live_behind_the_proxy(proxy: Callable[..., Proxy], provider: Provider) -> None:
    """Nobody restarts anything: rows come from the proxy, `work` runs beside it, and then most stay local."""
    world = provider.world
    here = proxy(small=world.small(), audit_rate=1e-9)
    routes: list[str] = []
    for _ in range(14):
        for text in world.texts(50):
            reply = post(here, {"model": MODEL, "messages": messages(text)})
            routes.append(reply.headers["x-dsplus-route"])
            assert reply.json()["choices"][0]["message"]["content"] == world.truth[text]
        if routes[-1] == "small":
            break
        here.shunt.worker.work()
        told = {row["id"]: world.truth[row["input"]] for row in here.shunt.to_label(None)}
        here.shunt.add_gold(told)
    assert routes[0] == "large"
    assert "small" in routes[-50:], here.shunt.status()
    # Local inputs that are set apart may be asked about too, in the background: each such question has its row.
    here.shunt.router.drain(30.0)
    beside = len(provider.asked) - routes.count("large")
    assert 0 <= beside <= routes.count("small")
    assert len(here.rows(beside, "audit")) == beside


# --- prompts ---------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


@given(system=TEXT, before=TEXT, after=TEXT, value=TEXT, part=st.booleans())
def test_what_is_put_into_the_prompt_is_read_out_of_it(
    system: str, before: str, after: str, value: str, part: bool
) -> None:
    task = ChatTask("m", [("system", escaped(system)), ("user", f"{escaped(before)}{{text}}{escaped(after)}")])
    content: Any = f"{before}{value}{after}"
    asked = {"model": "m", "messages": [
        {"role": "developer", "content": system},
        {"role": "user", "content": [{"type": "text", "text": content}] if part else content}]}  # fmt: skip
    assert task.read(asked) == (value if value.strip() else None)
    assert task.read({**asked, "messages": asked["messages"][1:]}) is None
    assert task.read({**asked, "messages": [{"role": "system", "content": system + "."}, asked["messages"][1]]}) is None


@given(before=TEXT, after=TEXT, other=TEXT)
def test_another_text_is_not_the_prompt(before: str, after: str, other: str) -> None:
    task = ChatTask("m", [("user", f"{escaped(before)}{{x}}{escaped(after)}")])
    found = task.read({"model": "m", "messages": [{"role": "user", "content": other}]})
    assert found is None or other == before + found + after


@given(label=TEXT, before=TEXT, after=TEXT)
def test_a_reply_is_the_label_in_its_frame(label: str, before: str, after: str) -> None:
    task = ChatTask("m", [("user", "{text}")], f"{escaped(before)}{{anything}}{escaped(after)}")
    answer = Answer(choice=label, probabilities={}, confidence=1.0)
    _, whole = task.reply(answer, {}, "id", Usage(3, 1))
    reply = json.loads(whole)
    assert reply["choices"][0]["message"]["content"] == before + label + after
    assert reply["usage"] == {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    _, streamed = task.reply(answer, {"stream": True}, "id", Usage())
    assert task.heard(streamed).content == before + label + after
    assert task.heard(whole).content == before + label + after


@pytest.mark.parametrize(
    "prompt",
    [[], [("user", "no place"), ("user", "none")], [("user", "{a} {b}")], [("system", "{a}"), ("user", "{b}")],
     [("user", "{a}"), ("assistant", "b")], [("user", "{")], [("user", "}")], [("system", "{a}")]],
)  # fmt: skip
def test_a_prompt_without_exactly_one_place_is_refused(prompt: Any) -> None:
    with pytest.raises(ValueError, match="brace"):
        ChatTask("m", prompt)


@pytest.mark.parametrize(
    "question",
    [{}, {"type": "choice"}, {"type": "box", "instructions": "a"}, {"type": "choice", "instructions": "a", "choices": []},
     {"type": "score", "instructions": "a", "levels": [{}]}, {**CHOICE, "choices": [1]}],
)  # fmt: skip
def test_what_is_no_question_is_refused(question: Any) -> None:
    with pytest.raises(ValueError, match="the question must be one of"):
        DecisionTask("m", question)
