import os
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, FewShotChatMessagePromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from pydantic import BaseModel, SecretStr

from langchain_dsplus.identity import Identity, identify, score_name
from langchain_dsplus.prompts.parser import LabelParser
from langchain_dsplus.prompts.pruner import PromptPruner
from langchain_dsplus.small_models.fake import FakeSmallModel

openai = pytest.importorskip("langchain_openai")

KEY = "sk-abcdefghijklmnopqrstuvwxyz0123"


def llm(**options):
    return openai.ChatOpenAI(**{"model": "gpt-4o-mini", "api_key": KEY, "temperature": 0, **options})


def prompt(text="{text}"):
    return ChatPromptTemplate.from_messages([("system", "Answer yes or no."), ("human", text)])


def pruner(**options):
    return PromptPruner.from_messages([("human", "{text}")], labels=["yes", "no"], **options)


class Verdict(BaseModel):
    label: str


class Kind(Enum):
    ONE = "one"


@dataclass(frozen=True)
class Settings:
    alpha: float
    sets: dict


CHAINS = {
    "bare": llm,
    "plain": lambda: prompt() | llm(),
    "parsed": lambda: prompt() | llm() | StrOutputParser(),
    "labels": lambda: prompt() | llm() | LabelParser(["yes", "no"]),
    "pruned": lambda: pruner().chain(llm()),
    "bound": lambda: prompt() | llm().bind(stop=["\n"]),
    "retry": lambda: (prompt() | llm()).with_retry(retry_if_exception_type=(ValueError,)),
    "fallback": lambda: (prompt() | llm()).with_fallbacks([prompt() | llm(model="gpt-4o")]),
    "partial": lambda: prompt("{text} {more}").partial(more="x") | llm(),
    "dict": lambda: {"text": RunnablePassthrough()} | prompt() | llm(),
    "bytes": lambda: prompt() | llm().bind(data=b"one", kind=Kind.ONE, names={"b", "a"}, table={1: "x", 2: "y"}),
    "numpy": lambda: prompt() | llm().bind(seed=np.int64(3), bias=np.array([0.5, 1.0])),
    "dataclass": lambda: prompt() | llm().bind(settings=Settings(0.1, {"b": 1, "a": 2})),
    "few shot": lambda: (
        ChatPromptTemplate.from_messages(
            [
                FewShotChatMessagePromptTemplate(examples=[{"a": "1"}], example_prompt=prompt("{a}")),
                MessagesPlaceholder("history"),
                SystemMessage("the end"),
                ("human", "{q}"),
            ]
        )
        | llm()
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_what_can_be_seen_into_has_an_identity_of_its_own(name):
    identity = identify(CHAINS[name]())
    assert identity == identify(CHAINS[name]())
    assert not identity.unverifiable
    assert len(identity.large) == len(identity.prompt) == 64
    others = {identify(make()).large for other, make in CHAINS.items() if other != name}
    assert identity.large not in others


def test_it_is_the_same_in_another_process():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import test_identity as t\n"
        "print(*(t.identify(make()).large for make in t.CHAINS.values()))"
    )
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, here],
        env={**os.environ, "PYTHONHASHSEED": "1", "OPENAI_API_KEY": "another"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [identify(make()).large for make in CHAINS.values()]


@pytest.mark.parametrize(
    "change",
    [
        {"model": "gpt-4o"},
        {"temperature": 0.5},
        {"base_url": "https://example.org/v1"},
        {"base_url": "http://10.0.0.1:8001/v1"},
        {"model_kwargs": {"user": "me"}},
        {"default_headers": {"X-Other": "1"}},
    ],
)
def test_what_matters_changes_it(change):
    assert identify(prompt() | llm(**change)).large != identify(prompt() | llm()).large
    assert identify(prompt() | llm(**change)).prompt == identify(prompt() | llm()).prompt


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"api_key": KEY}, {"api_key": "sk-zyxwvutsrqponmlkjihgfedcba98"}),
        ({"base_url": "http://localhost:5000/v1"}, {"base_url": "http://127.0.0.1:6000/v1/"}),
        ({"base_url": "http://[::1]:5000/v1"}, {"base_url": "http://localhost/v1"}),
        ({"base_url": "https://me:pass@example.org/v1?key=1"}, {"base_url": "https://example.org/v1?key=2"}),
        ({"default_headers": {"X-Key": "one"}}, {"default_headers": {"x-key": "two"}}),
        ({"model_kwargs": {"api_token": "one"}}, {"model_kwargs": {"api_token": "two"}}),
        ({"model_kwargs": {"any": KEY}}, {"model_kwargs": {"any": "Bearer abc"}}),
        ({"tags": ["one"]}, {"metadata": {"a": 1}}),
        ({"cache": InMemoryCache()}, {"cache": None}),
        ({"name": "one"}, {"name": "two"}),
    ],
)
def test_what_does_not_matter_leaves_it(one, other):
    assert identify(prompt() | llm(**one)) == identify(prompt() | llm(**other))


def test_no_secret_is_hashed(monkeypatch):
    seen = []
    monkeypatch.setattr("langchain_dsplus.identity._sha256", lambda value: seen.append(repr(value)) or "x")
    secret = "hush-hush"
    chain = prompt() | llm(
        api_key=secret,
        base_url=f"https://u:{secret}@example.org/v1?token={secret}",
        default_headers={"Authorization": secret, "X-Anything": secret},
        model_kwargs={"password": secret, "hf_token": secret, "own": SecretStr(secret)},
    ).bind(api_key=secret, extra_headers={"x": secret}).with_config(metadata={"note": secret})
    assert not identify(chain).unverifiable
    assert seen
    assert not any(secret in text for text in seen)


def test_tracing_changes_nothing_and_configurables_do():
    plain = identify(prompt() | llm())
    assert identify((prompt() | llm()).with_config(tags=["a"], run_name="b", callbacks=[], max_concurrency=3)) == (
        identify((prompt() | llm()).with_config(run_name="c"))
    )
    chosen = (prompt() | llm()).with_config(configurable={"model": "x"})
    assert identify(chosen).large not in (plain.large, identify((prompt() | llm()).with_config(run_name="c")).large)


class State(TypedDict):
    text: str


def graph():
    from langgraph.graph import StateGraph

    built = StateGraph(State)
    built.add_node("only", lambda state: state)
    built.set_entry_point("only")
    return built.compile()


@pytest.mark.parametrize(
    "make",
    [
        lambda: RunnableLambda(lambda x: x),
        graph,
        lambda: FakeListChatModel(responses=["a"]),
        lambda: llm() | (lambda x: x),
        lambda: llm().bind(thing=object()),
        lambda: llm().bind(kind=State),
        lambda: {"not": "a runnable", "but": lambda: None},
        lambda: FakeSmallModelWithout(),
    ],
)
def test_what_cannot_be_seen_into_is_unverifiable(make):
    assert identify(make()) == Identity(None, None, unverifiable=True)
    assert identify(make(), version="7") == Identity("7", "7", unverifiable=False)


class FakeSmallModelWithout(FakeSmallModel):
    def __init__(self):
        super().__init__(default={"a": 1.0}, version="unverifiable")


def test_a_template_beside_a_closure_is_still_known():
    hidden = identify(prompt() | llm() | (lambda x: x))
    assert hidden == Identity(None, identify(prompt() | llm()).prompt, unverifiable=True)
    moving = prompt("{text} {day}").partial(day=lambda: "Monday")
    assert identify(moving | llm()) == Identity(None, None, unverifiable=True)


def test_the_prompt_is_that_of_the_templates_alone():
    base = identify(prompt() | llm())
    assert identify(prompt() | llm(model="gpt-4o") | StrOutputParser()).prompt == base.prompt
    assert identify(prompt("{text}!") | llm()).prompt != base.prompt
    assert identify(pruner().chain(llm())).prompt == identify(pruner() | llm()).prompt
    for change in ({"pruning": "none"}, {"descriptions": {"yes": "y"}}, {"order": "probability"}):
        assert identify(pruner(**change).chain(llm())).prompt != identify(pruner().chain(llm())).prompt
    assert identify(ChatPromptTemplate([pruner()]) | llm()).prompt != identify(pruner() | llm()).prompt


def test_classes_count_by_what_a_model_sees_of_them():
    class Other(BaseModel):
        label: int

    one, other = (identify(llm().bind(response_format=kind)) for kind in (Verdict, Other))
    assert one.large != other.large
    assert not one.unverifiable
    assert not identify(llm().bind(kinds=[Kind, ValueError, int])).unverifiable


def test_small_models_count_by_their_version():
    one, two = (FakeSmallModel(default={"a": 1.0}, version=v) for v in ("1", "2"))
    assert identify(one).large != identify(two).large
    assert identify(one) == identify(FakeSmallModel(default={"a": 0.5, "b": 0.5}, version="1"))


def test_a_part_that_breaks_is_unverifiable():
    class Breaks(type(prompt())):
        def to_json(self):
            raise RuntimeError("no")

    assert identify(Breaks([("human", "a")])).unverifiable
    circle: list = []
    circle.append(circle)
    assert identify(llm().bind(circle=circle)).unverifiable


@pytest.mark.parametrize(("version", "error"), [(3, TypeError), ("", ValueError), (" ", ValueError)])
def test_a_version_is_a_text(version, error):
    with pytest.raises(error, match="version"):
        identify(llm(), version=version)


texts = st.text(st.characters(exclude_characters="{}"), min_size=1, max_size=20)


@given(one=texts, other=texts)
def test_two_templates_are_the_same_only_if_their_texts_are(one, other):
    hashes = [identify(ChatPromptTemplate.from_messages([("human", text)])).large for text in (one, other)]
    assert (hashes[0] == hashes[1]) == (one == other)


def test_scores_have_names():
    def own(probabilities):
        return max(probabilities.values())

    class Versioned:
        version = "learned 1"

    assert score_name("margin") == "margin"
    assert score_name(own).endswith("test_scores_have_names.<locals>.own")
    assert score_name(Versioned()) == "learned 1"
