"""A large chain with something bound to it hangs below the router in a trace, wherever the router is."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import ChatClassifier, ConfidenceRouter, FakeSmallModel


class Tree(BaseCallbackHandler):
    def __init__(self):
        self.parents = {}
        self.names = {}

    def on_chain_start(self, serialized, inputs, *, run_id, parent_run_id=None, name=None, **kwargs):
        self.parents[run_id], self.names[run_id] = parent_run_id, name

    def on_chat_model_start(self, serialized, messages, *, run_id, parent_run_id=None, **kwargs):
        self.parents[run_id], self.names[run_id] = parent_run_id, "chat"

    def above(self, name):
        """The names of the runs right above those of this name; what a binding adds in between does not count."""
        return [self.names[self._parent(run)] for run, own in self.names.items() if own == name]

    def _parent(self, run):
        parent = self.parents[run]
        return self._parent(parent) if self.names[parent] in {"FakeListChatModel", "RunnableRetry"} else parent


def chat():
    return FakeListChatModel(responses=["pos"])


BINDINGS = {
    "plain": lambda: chat(),
    "bind": lambda: chat().bind(stop=["x"]),
    "config": lambda: chat().with_config(tags=["t"]),
    "retry": lambda: chat().with_retry(),
}
CALLS = {
    "invoke": lambda chain, config: chain.invoke("a", config),
    "ainvoke": lambda chain, config: asyncio.run(chain.ainvoke("a", config)),
    "batch": lambda chain, config: chain.batch(["a", "b"], config),
    "abatch": lambda chain, config: asyncio.run(chain.abatch(["a", "b"], config)),
    "stream": lambda chain, config: list(chain.stream("a", config)),
    "astream": lambda chain, config: asyncio.run(_list(chain.astream("a", config))),
}


async def _list(source):
    return [item async for item in source]


@pytest.mark.parametrize("how", CALLS)
@pytest.mark.parametrize("binding", BINDINGS)
def test_the_large_model_hangs_below_the_router(binding, how):
    small = FakeSmallModel({}, labels=["pos", "neg"])
    router = ConfidenceRouter(small=small, large=BINDINGS[binding](), name="router")
    tree = Tree()
    CALLS[how](RunnableLambda(lambda text: text) | router, {"callbacks": [tree]})
    above = tree.above("chat")
    assert len(above) == (2 if "batch" in how else 1)
    assert set(above) == {"router"}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_as_completed_too_and_the_consumer_is_left_alone(is_async):
    small = FakeSmallModel({}, labels=["pos", "neg"])
    router = ConfidenceRouter(small=small, large=chat().bind(stop=["x"]), name="router")
    tree = Tree()

    def outer(_):
        if is_async:
            raise AssertionError
        for _ in router.batch_as_completed(["a", "b"]):
            RunnableLambda(lambda text: text, name="between").invoke("c")

    async def aouter(_):
        async for _ in router.abatch_as_completed(["a", "b"]):
            await RunnableLambda(lambda text: text, name="between").ainvoke("c")

    chain = RunnableLambda(outer, afunc=aouter, name="outer")
    if is_async:
        asyncio.run(chain.ainvoke("a", {"callbacks": [tree]}))
    else:
        chain.invoke("a", {"callbacks": [tree]})
    assert tree.above("chat") == ["router", "router"]
    assert tree.above("between") == ["outer", "outer"]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_small_chat_model_with_something_bound(is_async):
    small = ChatClassifier(chat().bind(stop=["x"]), ["pos", "neg"], method="votes", votes=2, name="judge")
    router = ConfidenceRouter(
        small=small,
        large=RunnableLambda(lambda _: "neg"),
        threshold=0.5,
        name="router",
        to_output=lambda answer, _: answer["choice"],
    )
    tree = Tree()
    chain = RunnableLambda(lambda text: text) | router
    found = (
        asyncio.run(chain.ainvoke("a", {"callbacks": [tree]})) if is_async else chain.invoke("a", {"callbacks": [tree]})
    )
    assert found == "pos"
    assert "RunnableSequence" not in tree.above("chat")
