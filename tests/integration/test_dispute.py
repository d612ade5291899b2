"""Prompt transfer and the dispute graph with real models: a local LLM over HTTP, and the sentence encoder."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

import json

import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command

from langchain_dsplus.fidelity.check import Fidelity
from langchain_dsplus.fidelity.sentences import split_sentences
from langchain_dsplus.graphs import VERDICTS, create_dispute_graph
from langchain_dsplus.prompts.extractive import ExtractiveSummarizer
from langchain_dsplus.small_models.encoder import Encoder
from langchain_dsplus.transfer import PromptTransfer

SHORT = (
    "I am a friendly person and it was a sunny day. Nadia Roth parked her car in front of my garage for 3 hours. "
    "She did not leave a note. I was late, so I cut her tires."
)

LADDER = (
    "I have kept a small workshop at the end of Mill Lane for 18 years, and everybody who knows me will tell you that I am "
    "generous to a fault. Summers there are wonderful. In May I lent my ladder to Piet Vos, who had just moved in and seemed "
    "nice enough. We agreed that he would bring it back after 10 days. He did not bring it back. I believe that a man's word "
    "should count for something, and where would we be if nobody kept their word. I asked him twice, and he told me that he "
    "had never borrowed a ladder. People today have no shame. My father would have known what to do. On Sunday I walked into "
    "his garden without asking and smashed two panes of his greenhouse with a hammer. The tomatoes survived, by the way. The "
    "glass cost 310 euros, and now he wants me to pay for it. I think that is ridiculous."
)
LADDER_ACTS = ("lent my ladder to Piet Vos", "He did not bring it back", "smashed two panes", "310 euros", "10 days")

DOG = (
    "我在这个小区住了十五年，邻里关系一直很好，大家都夸我脾气好。养狗的人越来越多，小区的环境也越来越差。上周六早上八点，楼上的孙女士没有给狗拴绳，"
    "她的狗跑过来咬了我女儿的手。孩子是父母的心头肉，谁看了都会心疼。现在的人素质真的参差不齐。孙女士当时说会付医药费，一共是九百元。"
    "过了两个星期，她没有付钱，也不接我的电话。我每天上班都很累，回家还要为这种事情烦心。做人总要讲道理，这是我一贯的原则。"
    "昨天晚上我去找她，她骂我多事，我就用砖头砸坏了她的车窗。物业的工作人员也看到了。修车窗花了一千二百元，她要我赔。我觉得很委屈。"
)
DOG_ACTS = ()  # the local encoder reads English only: what it keeps of a Chinese text is near chance


@pytest.mark.encoder
@pytest.mark.parametrize(("text", "acts"), [(LADDER, LADDER_ACTS), (DOG, DOG_ACTS)], ids=["english", "chinese"])
def test_the_extractive_summary_is_verbatim_shorter_and_keeps_the_decisive_acts(encoder_path, text, acts):
    transfer = PromptTransfer(ExtractiveSummarizer(Encoder(encoder_path), ratio=0.6), question="Who is more at fault?")
    out = transfer.invoke({"text": text})
    assert out["transfer"]["used"] == "rewrite", out["transfer"]["reasons"]
    summary = out["rewrite"]
    source = split_sentences(text)
    chosen = split_sentences(summary)
    assert all(sentence in source for sentence in chosen)
    assert [s for s in source if s in chosen] == chosen
    for act in acts:
        assert act in summary, act
    assert len(chosen) < len(source)
    assert out["transfer"]["tokens_after"] <= 0.6 * out["transfer"]["tokens_before"]


class Recorder(ChatOpenAI):
    """A real ChatOpenAI that remembers the prompts it sent."""

    prompts: list = []

    def _get_request_payload(self, input_, **kwargs):
        self.prompts.append(input_)
        return super()._get_request_payload(input_, **kwargs)


def chat(server, **kwargs):
    return Recorder(base_url=server.base_url, model=server.model, api_key="none", temperature=0, prompts=[], **kwargs)


@pytest.mark.llm
@pytest.mark.parametrize("async_", [False, True], ids=["sync", "async"])
async def test_a_dispute_goes_through_the_graph(smollm_server, async_):
    small = chat(smollm_server, max_tokens=70)
    large = chat(smollm_server, max_tokens=160, logprobs=True, top_logprobs=5)
    saver = InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=None))
    graph = create_dispute_graph(small, large, review=True, checkpointer=saver)
    config = {"configurable": {"thread_id": "1"}}
    value = {"statement": SHORT}
    state = await graph.ainvoke(value, config) if async_ else graph.invoke(value, config)

    asked = state.pop("__interrupt__", ())
    record = state["transfer"]
    assert record["calls"] == 1
    assert record["usage"] is None or record["usage"]["input_tokens"] > 100
    assert record["tokens_before"] > 0
    assert record["seconds"] > 0
    assert record["faithful"] == (not record["reasons"])
    # Whatever so small a model wrote: either it passed the gate, or the judge read the original.
    if record["faithful"]:
        assert record["used"] == "rewrite"
        assert Fidelity()(SHORT, state["rewrite"])["faithful"]
    else:
        assert record["used"] == "original"
        assert state["rewrite"] == SHORT
    assert all(state["rewrite"] in prompt[-1].content for prompt in large.prompts)

    verdict, check = state["verdict"], state["check"]
    assert verdict["verdict"] in VERDICTS
    assert verdict["method"] == "structured"
    assert verdict["error"] is None or check["reason"] == "unreadable"
    assert verdict["usage"]["input_tokens"] > 100
    if verdict["error"] is None:
        assert 0.0 < verdict["confidence"] <= 1.0
    assert len(large.prompts) == (1 if check["second"] is None else 2)
    assert check["agree"] == (not asked) == (not verdict.get("needs_review"))
    assert json.loads(json.dumps(state, allow_nan=False)) == state
    assert graph.get_state(config).values == state
    if asked:  # a person settles it, and the models are asked nothing again
        calls = len(large.prompts)
        resume = Command(resume={"verdict": "narrator"})
        state = await graph.ainvoke(resume, config) if async_ else graph.invoke(resume, config)
        assert (state["verdict"]["verdict"], state["verdict"]["method"]) == ("narrator", "person")
        assert len(large.prompts) == calls


@pytest.mark.llm
def test_a_server_that_is_gone_is_an_error_of_the_judge_and_none_of_the_transfer(smollm_server):
    gone = ChatOpenAI(base_url="http://127.0.0.1:9/v1", model="x", api_key="none", max_retries=0, timeout=5)
    out = PromptTransfer(gone).invoke({"text": SHORT})
    assert out["rewrite"] == SHORT
    assert out["transfer"]["reasons"][0].startswith("model_error: ")
    with pytest.raises(Exception, match=r"(?i)connection"):
        create_dispute_graph(None, gone).invoke({"statement": SHORT})
    assert chat(smollm_server, max_tokens=1).invoke([HumanMessage("Hi")]).usage_metadata["output_tokens"] == 1
