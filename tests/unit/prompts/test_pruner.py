"""`PromptPruner`: what the large model is offered, in every mode and every kind of chain."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core._api import LangChainBetaWarning
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import FakeListChatModel
from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import (
    ChatPromptTemplate,
    HumanMessagePromptTemplate,
    MessagesPlaceholder,
    PromptTemplate,
    SystemMessagePromptTemplate,
)
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from langchain_dsplus.answer import EscalationContext
from langchain_dsplus.labels import show_label
from langchain_dsplus.prompts.parser import LabelParser
from langchain_dsplus.prompts.pruner import PromptPruner, PrunedChain
from langchain_dsplus.small_models.fake import FakeSmallModel

LABELS = ["cat", "dog", "owl", "ant"]
P = {"cat": 0.62, "dog": 0.3, "owl": 0.076, "ant": 0.004}
ANSWER = {"choice": "cat", "probabilities": P, "confidence": 0.62}


def pruner(pruning="soft", messages=(("human", "{text}"),), **kwargs):
    kwargs.setdefault("labels", LABELS)
    return PromptPruner.from_messages(list(messages), pruning=pruning, **kwargs)


def context(probabilities=None, answer=ANSWER):
    return EscalationContext(answer, P if probabilities is None else probabilities)


def lines(prompt, value):
    """The candidate lines of a formatted prompt."""
    text = prompt.invoke(value).to_messages()[-1].text
    return [line[2:] for line in text.splitlines() if line.startswith("- ")]


def fed(probabilities=None):
    return {"text": "It purrs.", "dsplus": context(probabilities)}


# --- modes --------------------------------------------------------------------------------------------------------


def test_soft_writes_every_probability():
    expected = ["cat (probability 0.62)", "dog (probability 0.30)", "owl (probability 0.08)", "ant (probability <0.01)"]
    assert lines(pruner(), fed()) == expected
    assert lines(pruner(), {"text": "x", "probabilities": P}) == expected
    assert lines(pruner(), {"text": "x", "probabilities": ANSWER}) == expected


def test_soft_on_proficient_classes_only():
    assert lines(pruner(proficient=["dog"]), fed()) == ["cat", "dog (probability 0.30)", "owl", "ant"]


def test_soft_can_leave_small_numbers_out_and_round():
    assert lines(pruner(hide_below=0.05), fed())[-1] == "ant"
    assert lines(pruner(decimals=1), fed({"cat": 0.97, "dog": 0.03})) == [
        "cat (probability >0.9)",
        "dog (probability <0.1)",
        "owl",
        "ant",
    ]
    assert lines(pruner(), fed({"cat": 1.0, "dog": 0.0}))[:2] == ["cat (probability 1.00)", "dog (probability 0.00)"]


def test_order():
    swapped = {"cat": 0.1, "dog": 0.1, "owl": 0.8}
    assert pruner(order="probability").offered(fed(swapped)) == ["owl", "cat", "dog", "ant"]
    assert pruner().offered(fed(swapped)) == LABELS
    assert pruner("keep", top_k=3, order="probability").offered(fed(swapped) | {"dsplus": context(swapped, None)}) == [
        "owl",
        "cat",
        "dog",
    ]


def test_hard_removes_the_proficient_classes():
    prompt = pruner("hard", proficient=["ant", "owl"])
    value = fed()
    assert lines(prompt, value) == ["cat", "dog"]
    assert value["dsplus"].notes == {"pruning": "hard", "candidates": ["cat", "dog"]}


@pytest.mark.parametrize(
    ("proficient", "reason"), [(["dog", "owl", "ant"], "fewer than two"), (["cat"], "own choice"), (LABELS, "fewer")]
)
def test_hard_offers_all_where_it_would_decide_the_answer(proficient, reason):
    value = fed()
    assert lines(pruner("hard", proficient=proficient), value) == LABELS
    assert value["dsplus"].notes["pruning"].startswith("hard: all offered")
    assert reason in value["dsplus"].notes["pruning"]
    assert "candidates" not in value["dsplus"].notes


@given(numbers=st.lists(st.floats(0, 1), min_size=4, max_size=4), order=st.sampled_from(["given", "probability"]))
def test_hard_without_a_proficient_class_is_the_plain_prompt_and_says_so(numbers, order):
    value = {"text": "x", "dsplus": EscalationContext(None, dict(zip(LABELS, numbers, strict=True)))}
    with pytest.warns(UserWarning, match="removes nothing"):
        inert = pruner("hard", proficient=[], order=order)
    assert inert.invoke(value) == pruner("none").invoke({"text": "x"})
    assert value["dsplus"].notes == {"pruning": "hard: all offered, no class may be removed"}


def test_keep_is_the_default_and_leaves_few_labels_as_they_are():
    many = [f"label {n}" for n in range(8)]
    plain = PromptPruner.from_messages([("human", "x")], labels=many)
    assert plain.pruning == PromptPruner(prompt=plain.prompt, labels=many).pruning == "keep"
    said = {"probabilities": {label: 1 / 8 + (n - 3.5) / 100 for n, label in enumerate(many)}}
    assert plain.offered(said) == many[3:]
    few = PromptPruner.from_messages([("human", "x")], labels=many[:5])
    assert few.invoke({"probabilities": {many[0]: 0.9, many[1]: 0.1}}) == few.invoke({})


def test_an_offer_for_a_large_model_that_reads_no_chat_prompt():
    value = {"text": "x", "dsplus": EscalationContext(None, {"cat": 0.7, "dog": 0.2, "owl": 0.1})}
    offer = pruner("keep", top_k=2).offer(value)
    assert (offer.labels, offer.numbers) == (["cat", "dog"], {})
    assert value["dsplus"].notes == {"pruning": "keep", "candidates": ["cat", "dog"]}


def test_hard_respects_a_choice_that_is_not_the_most_likely():
    value = {"text": "x", "dsplus": context(answer=ANSWER | {"choice": "owl"})}
    assert lines(pruner("hard", proficient=["owl"]), value) == LABELS


def test_keep_offers_the_most_likely():
    value = fed()
    assert lines(pruner("keep", top_k=2), value) == ["cat", "dog"]
    assert value["dsplus"].notes == {"pruning": "keep", "candidates": ["cat", "dog"]}
    assert lines(pruner("keep", top_k=9), fed()) == LABELS
    other = {"text": "x", "dsplus": context(answer=ANSWER | {"choice": "ant"})}
    assert lines(pruner("keep", top_k=2), other) == ["cat", "ant"]


@pytest.mark.parametrize("pruning", ["soft", "hard", "keep", "none"])
@pytest.mark.parametrize(
    "value",
    [
        {"text": "x"},
        {"text": "x", "dsplus": EscalationContext(None, {})},
        {"text": "x", "dsplus": EscalationContext(ANSWER, {})},
        {"text": "x", "dsplus": {"answer": None, "probabilities": {}}, "probabilities": P},
        {"text": "x", "probabilities": {}},
        {"text": "x", "dsplus": None, "probabilities": None},
    ],
)
def test_empty_probabilities_are_the_plain_prompt_in_every_mode(pruning, value):
    prompt = pruner(pruning, proficient=["ant"], top_k=2, order="probability")
    plain = pruner("none").invoke({"text": "x"})
    assert prompt.invoke(value) == plain
    assert prompt.offered(value) == LABELS
    if isinstance(value.get("dsplus"), EscalationContext):
        assert value["dsplus"].notes == {"pruning": "none"}


def test_none_offers_all_without_numbers():
    assert lines(pruner("none"), fed()) == LABELS


# --- where the candidates stand -----------------------------------------------------------------------------------


def test_candidates_come_last_by_default():
    (message,) = pruner("none").invoke({"text": "It purrs."}).to_messages()
    assert message.text.startswith("It purrs.\n\nCandidates:\n- cat\n")
    assert message.text.endswith("nothing else.")


def test_candidates_stand_where_the_placeholder_is():
    prompt = pruner("none", [("system", "One of:\n{candidates}"), ("human", "{text}")])
    system, human = prompt.invoke({"text": "x"}).to_messages()
    assert system.text == "One of:\n- cat\n- dog\n- owl\n- ant"
    assert human.text == "x"


def test_messages_that_no_text_can_be_added_to_get_a_message_of_their_own():
    for messages in (
        [("human", "{text}"), ("ai", "Let me see.")],
        [HumanMessage("{literal}")],
        [MessagesPlaceholder("history")],
        [("human", [{"type": "text", "text": "{text}"}])],
    ):
        prompt = pruner("none", messages)
        result = prompt.invoke({"text": "x", "history": [AIMessage("h")]}).to_messages()
        assert len(result) == len(messages) + 1
        assert result[-1].type == "human"
        assert "- cat\n" in result[-1].text
    assert "{literal}" in pruner("none", [HumanMessage("{literal}")]).invoke({}).to_string()


def test_other_template_formats():
    prompt = pruner("none", [("human", "{{text}} of {{{candidates}}}")], template_format="mustache")
    assert prompt.invoke({"text": "x"}).to_messages()[0].text == "x of - cat\n- dog\n- owl\n- ant"
    assert (
        "- cat\n"
        in pruner("none", [("human", "{{text}}")], template_format="mustache").invoke({"text": "x"}).to_string()
    )


@pytest.mark.parametrize(
    "message",
    [
        ("human", "{{text}}: {{candidates}}"),
        "{{text}}: {{ candidates }}",
        ("human", "{{text}}: {{{candidates}}}"),
        ("human", "{{text}}: {{&candidates}}"),
        {"role": "human", "content": "{{text}}: {{candidates}}"},
        ("human", [{"type": "text", "text": "{{text}}: {{candidates}}"}]),
    ],
)
def test_mustache_does_not_escape_the_candidates(message):
    prompt = PromptPruner.from_messages([message], labels=["a & b", "c < d"], template_format="mustache")
    assert prompt.invoke({"text": "x & y"}).to_messages()[0].text == "x &amp; y: - a & b\n- c < d"


def test_names_can_be_chosen():
    prompt = pruner(
        "keep", [("human", "{text}: {options}")],
        candidates_key="options", context_key="route", probabilities_key="p", top_k=2,
    )  # fmt: skip
    assert prompt.offered({"text": "x", "p": P}) == ["cat", "dog"]
    assert prompt.offered({"text": "x", "route": {"answer": None, "probabilities": P}}) == ["cat", "dog"]
    assert prompt.offered({"text": "x", "dsplus": 3, "probabilities": 4}) == LABELS


def test_descriptions():
    prompt = pruner(descriptions={"owl": "hunts\nby night"})
    assert lines(prompt, fed())[2] == "owl (probability 0.08): hunts by night"


# --- labels and values of any kind --------------------------------------------------------------------------------

WILD = ["a{b}", "{candidates}", "{{x}}", '"quoted"', "two\nlines", " padded ", "猫", "back\\slash", "50 %", "{0}"]


def test_wild_labels_and_values_come_through_verbatim():
    shown = lines(pruner("none", labels=WILD), {"text": "{evil} {{y}} {candidates}"})
    assert shown == [show_label(label) for label in WILD]
    assert '"two\\nlines"' in shown
    message = pruner("none", labels=WILD).invoke({"text": "{evil} {{y}} {candidates}"}).to_messages()[-1]
    assert message.text.startswith("{evil} {{y}} {candidates}\n\n")


wild_labels = st.lists(st.text(max_size=10), min_size=2, max_size=6, unique=True)


@given(labels=wild_labels, data=st.data())
def test_every_offered_label_stands_on_a_line_of_its_own(labels, data):
    numbers = data.draw(st.lists(st.floats(0, 1), min_size=len(labels), max_size=len(labels)))
    mode = data.draw(st.sampled_from(["soft", "hard", "keep", "none"]))
    proficient = data.draw(st.lists(st.sampled_from(labels), unique=True, min_size=mode == "hard"))
    prompt = PromptPruner.from_messages(
        [("human", "{candidates}")], labels=labels, pruning=mode, proficient=proficient, top_k=2
    )
    value = {"probabilities": dict(zip(labels, numbers, strict=True))}
    offered = prompt.offered(value)
    assert len(offered) >= 2
    assert set(offered) <= set(labels)
    written = prompt.invoke(value).to_messages()[0].text.split("\n")
    bare = [re.sub(r" \(probability [<>]?[\d.]+\)$", "", line) for line in written] if mode == "soft" else written
    assert bare == [f"- {show_label(label)}" for label in offered]
    top = max(numbers)
    assert any(p == top and label in offered for label, p in zip(labels, numbers, strict=True))
    assert prompt.invoke({}).to_messages()[0].text.split("\n") == [f"- {show_label(label)}" for label in labels]


# --- wrong inputs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["text", 0.3, None, ["cat"]])
def test_an_input_that_is_no_dict(value):
    for prompt in (pruner(), pruner().partial(text="x")):
        with pytest.raises(TypeError, match="dict"):
            prompt.invoke(value)
    with pytest.raises(TypeError, match="dict"):
        pruner().offered(value)


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        ({"probabilities": {"wolf-4711": 1.0}}, ValueError, "1 label"),
        ({"probabilities": {"cat": float("nan")}}, ValueError, r"\[0, 1\]"),
        ({"probabilities": {"cat": -0.1}}, ValueError, r"\[0, 1\]"),
        ({"probabilities": {"cat": "much"}}, TypeError, "numbers"),
        ({"probabilities": [0.5, 0.5]}, TypeError, "dict"),
        ({"dsplus": "x"}, TypeError, "'dsplus'"),
        ({"dsplus": {"route": 1}}, TypeError, "'dsplus'"),
        ({"dsplus": {"answer": None, "probabilities": 3}}, TypeError, "'dsplus'"),
    ],
)
def test_wrong_probabilities(value, error, match):
    with pytest.raises(error, match=match) as caught:
        pruner().invoke({"text": "x", **value})
    assert "4711" not in str(caught.value)


def test_a_missing_variable_is_named():
    with pytest.raises(KeyError, match="text"):
        pruner().invoke({"dsplus": context()})


def test_numpy_numbers_and_missing_labels():
    assert lines(pruner(), {"text": "x", "probabilities": {"owl": np.float32(0.75)}}) == [
        "cat",
        "dog",
        "owl (probability 0.75)",
        "ant",
    ]


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"labels": ["one"]}, "labels"),
        ({"labels": ["a", "a"]}, "labels"),
        ({"pruning": "hard"}, "proficient_classes"),
        ({"pruning": "sharp"}, "pruning"),
        ({"proficient": ["wolf"]}, "proficient"),
        ({"descriptions": {"wolf": "x"}}, "descriptions"),
        ({"top_k": 1}, "top_k"),
        ({"decimals": 0}, "decimals"),
        ({"hide_below": 2.0}, "hide_below"),
        ({"context_key": "probabilities"}, "differ"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_arguments_are_checked(kwargs, match):
    with pytest.raises(ValueError, match=match):
        pruner(**{"labels": LABELS, **kwargs})


def test_a_prompt_without_a_place_for_the_candidates():
    with pytest.raises(ValueError, match="candidates"):
        PromptPruner(prompt=ChatPromptTemplate([("human", "{text}")]), labels=LABELS)
    with pytest.raises(ValueError, match="partial"):
        pruner().partial(candidates="x")


# --- a chat prompt template ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("async_", [False, True])
async def test_in_a_pipe_with_the_small_model_in_front(async_):
    small = FakeSmallModel({"It purrs.": P})
    chain = RunnablePassthrough.assign(probabilities=RunnableLambda(lambda v: v["text"]) | small) | pruner(
        "keep", top_k=2
    )
    value = await chain.ainvoke({"text": "It purrs."}) if async_ else chain.invoke({"text": "It purrs."})
    assert "- cat\n- dog\n\n" in value.to_string()


async def test_inside_a_bigger_template():
    inner = pruner("keep", top_k=2)
    bigger = ChatPromptTemplate([("system", "Hello {who}."), inner])
    assert sorted(bigger.input_variables) == ["text", "who"]
    value = {"who": "you", **fed()}
    for result in (bigger.invoke(value), await bigger.ainvoke(value)):
        assert [m.type for m in result.to_messages()] == ["system", "human"]
        assert "- cat\n- dog\n\n" in result.to_string()
    assert value["dsplus"].notes["candidates"] == ["cat", "dog"]
    assert "- cat\n" in (ChatPromptTemplate([("system", "s")]) + inner).invoke(fed()).to_string()


def test_partials_and_addition():
    prompt = pruner("none", [("human", "{text} {more}")])
    prompt.invoke({"text": "a", "more": "b"})
    part = prompt.partial(more=lambda: "c")
    assert part.input_variables == ["text"]
    assert part.invoke({"text": "a"}).to_string().startswith("Human: a c\n")
    assert pruner("keep", top_k=2).partial(probabilities=P).offered({"text": "x"}) == ["cat", "dog"]
    longer = prompt + [("ai", "{reply}")]  # noqa: RUF005
    assert isinstance(longer, PromptPruner)
    assert longer.input_variables == ["more", "reply", "text"]
    with pytest.raises(TypeError):
        prompt + prompt


def test_optional_placeholders_stay_optional():
    prompt = pruner("none", [MessagesPlaceholder("history", optional=True), ("human", "{text}")])
    assert len(prompt.invoke({"text": "x"}).to_messages()) == 1
    assert len(prompt.invoke({"text": "x", "history": [AIMessage("h")]}).to_messages()) == 2


def test_the_input_schema():
    schema = pruner().get_input_jsonschema()
    assert schema["required"] == ["text"]
    (numbers, _) = schema["properties"]["probabilities"]["anyOf"]
    assert numbers == {"additionalProperties": {"type": "number"}, "type": "object"}
    assert set(schema["properties"]) == {"text", "probabilities", "dsplus"}
    assert pruner().partial(text="x").get_input_jsonschema().get("required", []) == []


CLASSES = [PromptPruner, ChatPromptTemplate, HumanMessagePromptTemplate, SystemMessagePromptTemplate, PromptTemplate, LabelParser]  # fmt: skip


def loaded(text, *more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainBetaWarning)
        return loads(text, allowed_objects=[*CLASSES, *more], valid_namespaces=["langchain_dsplus"])


def test_dumps_and_loads():
    prompt = pruner(
        "hard", [("system", "{candidates}"), ("human", "{text} {more}")],
        labels=WILD, proficient=["猫"], descriptions={"a{b}": "{c}"}, order="probability", decimals=3,
    ).partial(more="m")  # fmt: skip
    prompt.invoke({"text": "x"})
    again = loaded(dumps(prompt))
    assert again == prompt
    assert again.get_input_jsonschema() == prompt.get_input_jsonschema()
    value = {"text": "x", "probabilities": {"a{b}": 0.6, "猫": 0.1}}
    assert again.invoke(value) == prompt.invoke(value)
    assert prompt.lc_id() == ["langchain_dsplus", "prompts", "pruner", "PromptPruner"]


def test_a_readable_form():
    assert "{candidates}" in pruner().pretty_repr()


# --- chain --------------------------------------------------------------------------------------------------------


class Batches(FakeListChatModel):
    sizes: list = []

    def batch(self, inputs, config=None, **kwargs):
        self.sizes.append(len(inputs))
        return super().batch(inputs, config, **kwargs)

    async def abatch(self, inputs, config=None, **kwargs):
        self.sizes.append(len(inputs))
        return await super().abatch(inputs, config, **kwargs)


class Names(BaseCallbackHandler):
    def __init__(self):
        self.started = []

    def on_chain_start(self, serialized, inputs, *, name=None, parent_run_id=None, **kwargs):
        self.started.append((name, parent_run_id is None))

    def on_chat_model_start(self, serialized, messages, *, parent_run_id=None, **kwargs):
        self.started.append(("model", parent_run_id is None))


@pytest.mark.parametrize("async_", [False, True])
async def test_the_parser_accepts_only_what_this_input_was_offered(async_):
    chain = pruner("keep", top_k=2).chain(FakeListChatModel(responses=["I say owl."]))
    plain, pruned = {"text": "x"}, fed()
    run = chain.ainvoke if async_ else None
    assert (await run(plain) if run else chain.invoke(plain)) == "owl"
    with pytest.raises(OutputParserException):
        await run(pruned) if run else chain.invoke(pruned)
    assert pruned["dsplus"].notes["candidates"] == ["cat", "dog"]


@pytest.mark.parametrize("async_", [False, True])
async def test_a_batch_is_one_batch_of_the_model(async_):
    model = Batches(responses=["cat", "owl", "dog"], sizes=[])
    chain = pruner("keep", top_k=2).chain(model)
    inputs = [fed(), {"text": "x"}, {"wrong": 1}, fed()]
    kwargs = {"config": {"max_concurrency": 1}, "return_exceptions": True}
    results = await chain.abatch(inputs, **kwargs) if async_ else chain.batch(inputs, **kwargs)
    assert model.sizes == [3]
    assert results[0:2] == ["cat", "owl"]
    assert isinstance(results[2], KeyError)
    assert results[3] == "dog"
    with pytest.raises(KeyError):
        await chain.abatch(inputs) if async_ else chain.batch(inputs)
    assert (await chain.abatch([]) if async_ else chain.batch([])) == []
    only_bad = await chain.abatch([{}], **kwargs) if async_ else chain.batch([{}], **kwargs)
    assert isinstance(only_bad[0], KeyError)


async def test_the_label_is_streamed_whole():
    chain = pruner().chain(FakeListChatModel(responses=["It is an owl."]))
    assert list(chain.stream(fed())) == ["owl"]
    assert [part async for part in chain.astream(fed())] == ["owl"]


def test_parser_arguments():
    prompt = pruner()
    model = FakeListChatModel(responses=["nothing"])
    assert prompt.chain(model, fallback="ant").invoke(fed()) == "ant"
    assert prompt.chain(model, parser=LabelParser(LABELS, fallback="dog")).invoke(fed()) == "dog"
    assert prompt.chain(FakeListChatModel(responses=["cat"]), output="answer").invoke(fed())["confidence"] == 1.0
    with pytest.raises(ValueError, match="not both"):
        prompt.chain(model, parser=LabelParser(LABELS), fallback="dog")
    with pytest.raises(TypeError, match="Runnable"):
        prompt.chain("gpt")


def test_arguments_reach_the_model_and_runs_are_nested():
    seen = {}

    def reply(prompt, **kwargs):
        seen.update(kwargs)
        return AIMessage("cat")

    chain = pruner().chain(RunnableLambda(reply))
    assert chain.invoke(fed(), stop=["x"]) == "cat"
    assert seen == {"stop": ["x"]}
    seen.clear()
    assert chain.batch([fed()], stop=["y"]) == ["cat"]
    assert seen == {"stop": ["y"]}

    names = Names()
    pruner().chain(FakeListChatModel(responses=["cat"])).invoke(fed(), {"callbacks": [names]})
    assert [root for _, root in names.started] == [True, False, False, False]
    assert [name for name, _ in names.started] == ["PrunedChain", "PromptPruner", "model", "LabelParser"]


def test_the_chain_s_schemas_and_dump():
    chain = pruner().chain(FakeListChatModel(responses=["cat"]))
    assert chain.output_schema.model_json_schema()["type"] == "string"
    assert chain.get_input_jsonschema()["required"] == ["text"]
    data = dumps(chain.pruner.chain(chain.pruner | (lambda _: "cat")))
    assert '"PrunedChain"' in data
    parts = loaded(
        dumps(PrunedChain(pruner=chain.pruner, model=LabelParser(LABELS), parser=LabelParser(LABELS))), PrunedChain
    )
    assert parts.pruner == chain.pruner
