"""A large model that says nothing has not answered: an error that names it, or the small answer."""

import asyncio

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import (
    ChatDSPlus,
    ConfidenceRouter,
    FakeSmallModel,
    LabelParser,
    PromptPruner,
    create_dsplus_graph,
)
from langchain_dsplus.answer import EmptyReplyError, is_empty_reply

LABELS = ["a", "b"]
THINKING = [{"type": "thinking", "thinking": "hm", "signature": "x"}]


class Chat(BaseChatModel):
    """Replies with what it is told: a content, None for no choice, or an error."""

    says: object = ""
    model_name: str = "big-1"

    @property
    def _llm_type(self):
        return "chat"

    @property
    def _identifying_params(self):
        return {"model_name": self.model_name}

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        if isinstance(self.says, Exception):
            raise self.says
        said = [] if self.says is None else [ChatGeneration(message=AIMessage(self.says))]
        return ChatResult(generations=said)


class Streaming(Chat):
    """The same in chunks."""

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        if isinstance(self.says, Exception):
            raise self.says
        for part in [] if self.says is None else ["", self.says]:
            yield ChatGenerationChunk(message=AIMessageChunk(part))


NULL = TypeError("Received response with null value for `choices`")
SAYS = {"empty": "", "blank": " \n", "none": None, "null": NULL, "no-blocks": [], "thoughts": THINKING}
PROMPT = PromptPruner.from_messages([("human", "{text}")], labels=LABELS)
CHAINS = {
    "chat": lambda chat: PROMPT | chat,
    "text": lambda chat: PROMPT | chat | StrOutputParser(),
    "label": lambda chat: PROMPT | chat | LabelParser(LABELS),
    "pruned": lambda chat: PROMPT.chain(chat),
    "retried": lambda chat: PROMPT | chat.with_retry(stop_after_attempt=2, wait_exponential_jitter=False),
}


async def drained(source):
    return [part async for part in source]


def text_of(parts):
    return "".join(part if isinstance(part, str) else str(part.text) for part in parts)


VALUE = {"text": "hard"}
DOORS = {
    "invoke": lambda r: text_of([r.invoke(VALUE)]),
    "ainvoke": lambda r: text_of([asyncio.run(r.ainvoke(VALUE))]),
    "batch": lambda r: text_of(r.batch([VALUE])),
    "abatch": lambda r: text_of(asyncio.run(r.abatch([VALUE]))),
    "batch_as_completed": lambda r: text_of(part for _, part in r.batch_as_completed([VALUE])),
    "stream": lambda r: text_of(r.stream(VALUE)),
    "astream": lambda r: text_of(asyncio.run(drained(r.astream(VALUE)))),
}


def small():
    return FakeSmallModel({}, LABELS, default={"a": 0.6, "b": 0.4}, input_key="text")


# Asked for a whole reply, both kinds do the same.
@pytest.mark.parametrize(("door", "kind"), [*((d, Chat) for d in DOORS), ("stream", Streaming), ("astream", Streaming)])
@pytest.mark.parametrize("chain", CHAINS)
def test_it_is_an_error_that_names_the_model_or_the_small_answer(door, chain, kind):
    for says in SAYS.values():
        rows = []
        recorder = type("R", (), {"record": lambda _, row, rows=rows: rows.append(row)})()
        made = {"small": small(), "large": CHAINS[chain](kind(says=says)), "threshold": 0.9, "recorder": recorder}
        with pytest.raises(EmptyReplyError, match="big-1"):
            DOORS[door](ConfidenceRouter(**made))
        assert rows[-1]["error"].startswith("large: EmptyReplyError: the large model 'big-1' said nothing")
        assert DOORS[door](ConfidenceRouter(**made, on_large_error="small")) == "a"
        assert rows[-1]["route"]["degraded"] is True


@pytest.mark.parametrize("says", SAYS)
def test_in_graphs_and_cascades(says):
    with pytest.raises(EmptyReplyError, match="big-1"):
        create_dsplus_graph(small(), Chat(says=SAYS[says]), threshold=0.9).invoke(VALUE)
    graph = create_dsplus_graph(small(), Chat(says=SAYS[says]), threshold=0.9, on_large_error="small")
    assert graph.invoke(VALUE)["label"] == "a"
    with pytest.raises(EmptyReplyError, match="big-1"):
        ChatDSPlus(models=[Chat(says="draft", model_name="s"), Chat(says=SAYS[says])], threshold=0.9).invoke("hard")


@pytest.mark.parametrize("output", [None, "", "  "])
def test_a_function_that_says_nothing(output):
    large = RunnableLambda(lambda _: output, name="ask").with_types(output_type=str)
    with pytest.raises(EmptyReplyError, match="ask"):
        ConfidenceRouter(small=small(), large=large, threshold=0.9).invoke(VALUE)


def test_what_says_something():
    call = {"name": "f", "args": {}, "id": "1"}
    for message in (
        AIMessage("x"),
        AIMessage("", tool_calls=[call]),
        AIMessage("", additional_kwargs={"refusal": "No."}),
        AIMessage([{"type": "image", "url": "https://example.org/a.png"}]),
    ):
        assert not is_empty_reply(message)
        large = RunnableLambda(lambda _, m=message: m).with_types(output_type=AIMessage)
        assert ConfidenceRouter(small=small(), large=large, threshold=0.9).invoke(VALUE).content == message.content


def test_another_error_stays_what_it_is():
    with pytest.raises(ZeroDivisionError):
        ConfidenceRouter(small=small(), large=PROMPT | Chat(says=ZeroDivisionError()), threshold=0.9).invoke(VALUE)
