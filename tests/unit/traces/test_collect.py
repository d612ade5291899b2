import json
import math
import threading

import numpy as np
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel, Field

from langchain_dsplus.costs.prices import Price
from langchain_dsplus.identity import identify
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.small_models.fake import FakeSmallModel
from langchain_dsplus.traces.collect import CostLimitError, collect_outcomes, default_label

PRICE = Price(input=1_000_000, output=2_000_000, cached_input=500_000)  # a dollar per token, two for output


class Large(BaseChatModel):
    """Says what `says` maps the last line of the prompt to; counts calls; fails where it is told to."""

    says: dict = Field(default_factory=dict)
    seen: list = Field(default_factory=list)
    usage: dict | None = Field(default_factory=lambda: {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12})

    @property
    def _llm_type(self):
        return "fake-large"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        text = str(messages[-1].content).rpartition("\n")[2]
        self.seen.append(text)
        reply = self.says.get(text, "pos")
        if isinstance(reply, BaseException):
            raise reply
        message = AIMessage(reply, usage_metadata=self.usage)
        return ChatResult(generations=[ChatGeneration(message=message)])


def small(**options):
    table = {"great": {"neg": 0.1, "pos": 0.9}, "bad": {"neg": 0.75, "pos": 0.25}, "hm": {"neg": 0.5, "pos": 0.5}}
    return FakeSmallModel(table, input_key="text", **options)


def chain(large):
    return ChatPromptTemplate.from_messages([("human", "neg or pos?\n{text}")]) | large


def rows(*texts):
    return [{"id": f"row {t}", "input": {"text": t}, "gold": "pos" if t == "great" else "neg"} for t in texts]


def collect(large, data=None, **options):
    options = {"small": small(), "progress": False, **options}
    data = rows("great", "bad", "hm") if data is None else data
    return collect_outcomes(options.pop("small"), large, data, **options)


def test_the_columns():
    large = Large(says={"bad": " neg \n"})
    outcomes = collect(chain(large), price=PRICE, about={"mine": 1})
    assert outcomes.values("id") == ["row great", "row bad", "row hm"]
    assert outcomes.values("small") == ["pos", "neg", "neg"]
    assert outcomes.values("confidence") == [0.9, 0.75, 0.5]
    assert outcomes.values("probabilities")[0] == {"neg": 0.1, "pos": 0.9}
    assert outcomes.values("large") == ["pos", "neg", "pos"]
    assert outcomes.values("gold") == ["pos", "neg", "neg"]
    assert outcomes.values("tokens_input") == [10] * 3
    assert outcomes.values("tokens_output") == [2] * 3
    assert outcomes.values("cost_large") == [14.0] * 3
    assert all(seconds >= 0 for seconds in outcomes.values("latency_large") + outcomes.values("latency_small"))
    assert outcomes.about == {
        "score": "max_probability",
        "labels": ["neg", "pos"],
        "small": small().version,
        "prompt": identify(chain(large)).prompt,
        "mine": 1,
    }


def test_the_small_model_is_asked_once_for_each_chunk():
    model = small()
    collect(chain(Large()), small=model, chunk_size=2)
    assert [len(batch) for batch in model.calls] == [2, 1]


def test_the_large_model_gets_the_plain_prompt():
    seen = []
    collect(RunnableLambda(lambda value: seen.append(value) or "pos"), rows("great"))
    assert seen == [{"text": "great", "dsplus": {"answer": None, "probabilities": {}}}]


def test_inputs_that_are_no_dicts_are_unchanged_and_pairs_will_do():
    seen = []
    model = FakeSmallModel(default={"a": 1.0})
    outcomes = collect(
        RunnableLambda(lambda value: seen.append(value) or "a"), [("one", "a"), ("two", None)], small=model
    )
    assert sorted(seen) == ["one", "two"]
    assert outcomes.values("id") == ["0", "1"]
    assert outcomes.values("gold") == ["a", None]


def test_a_whole_row_as_the_input():
    data = [{"id": 1, "text": "great", "label": "pos", "customer": "c"}]
    seen = []
    outcomes = collect(
        RunnableLambda(lambda value: seen.append(value) or "pos"),
        data,
        input_key=None,
        gold_key="label",
        group_key="customer",
    )
    assert seen == [{"text": "great", "dsplus": {"answer": None, "probabilities": {}}}]
    assert outcomes.values("group") == ["c"]
    assert outcomes.values("gold") == ["pos"]


def test_the_pruned_chain_gets_answer_and_probabilities():
    seen = []
    pruned = RunnableLambda(lambda value: seen.append(value["dsplus"]) or "neg")
    outcomes = collect(chain(Large()), rows("great", "unknown"), large_pruned=pruned)
    assert [context["probabilities"] for context in seen] == [{"neg": 0.1, "pos": 0.9}]
    assert seen[0]["answer"]["choice"] == "pos"
    assert outcomes.values("large_pruned") == ["neg", None]
    assert outcomes.values("small_error") == [None, "KeyError"]
    assert outcomes.values("confidence") == [0.9, None]
    with pytest.raises(ValueError, match="dict inputs"):
        collect(chain(Large()), [("text", "pos")], large_pruned=pruned)


@pytest.mark.parametrize("max_concurrency", [None, 1])
def test_a_failed_call_keeps_its_row_and_is_no_gain(max_concurrency):
    large = Large(says={"bad": RuntimeError("a customer's words")})
    outcomes = collect(chain(large), max_concurrency=max_concurrency)
    assert outcomes.values("large") == ["pos", None, "pos"]
    assert outcomes.values("error") == [None, "RuntimeError", None]
    assert outcomes.correct("large").tolist()[::2] == [1.0, 0.0]
    assert outcomes["tokens_input"].tolist()[0] == 10


def test_a_reply_without_a_label_is_a_failure():
    outcomes = collect(RunnableLambda(lambda _: 3), rows("great"))
    assert outcomes.values("large") == [None]
    assert outcomes.values("error") == ["TypeError"]


def test_max_concurrency_is_kept():
    running, most, lock = 0, 0, threading.Lock()
    gate = threading.Event()

    def answer(_):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(0.02)
        with lock:
            running -= 1
        return "pos"

    collect(RunnableLambda(answer), [({"text": "great"}, None)] * 12, max_concurrency=3)
    assert most == 3


# --- resuming -------------------------------------------------------------------------------------------------------


def test_a_crash_costs_no_second_answer(tmp_path):
    path = tmp_path / "answers.jsonl"
    first = Large(says={"hm": KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        collect(chain(first), path=path, max_concurrency=1, chunk_size=1)
    assert first.seen == ["great", "bad", "hm"]
    with path.open("ab") as file:
        file.write(b'{"id": "row hm", "side": "lar')  # cut off by a kill
    second = Large(says={"great": "other", "bad": "other", "hm": "neg"})
    outcomes = collect(chain(second), path=path, price=PRICE)
    assert second.seen == ["hm"]
    assert outcomes.values("large") == ["pos", "pos", "neg"]
    third = Large()
    assert collect(chain(third), path=path, price=PRICE).values("large") == ["pos", "pos", "neg"]
    assert third.seen == []
    assert all(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def test_what_failed_is_asked_again(tmp_path):
    path = tmp_path / "answers.jsonl"
    collect(chain(Large(says={"bad": RuntimeError()})), path=path)
    again = Large(says={"bad": "neg"})
    assert collect(chain(again), path=path).values("large") == ["pos", "neg", "pos"]
    assert again.seen == ["bad"]


def test_more_rows_and_another_small_model_keep_the_answers(tmp_path):
    path = tmp_path / "answers.jsonl"
    collect(chain(Large()), rows("great"), path=path)
    large = Large()
    other = FakeSmallModel(default={"neg": 0.4, "pos": 0.6}, input_key="text")
    outcomes = collect(chain(large), rows("hm", "great"), path=path, small=other)
    assert large.seen == ["hm"]
    assert outcomes.values("confidence") == [0.6, 0.6]


def test_another_small_model_asks_the_pruned_chain_again(tmp_path):
    path = tmp_path / "answers.jsonl"
    pruned = Large()
    collect(chain(Large()), rows("great"), path=path, large_pruned=chain(pruned))
    collect(chain(Large()), rows("great"), path=path, large_pruned=chain(pruned))
    assert pruned.seen == ["great"]
    other = FakeSmallModel(default={"neg": 0.4, "pos": 0.6}, input_key="text")
    collect(chain(Large()), rows("great"), path=path, large_pruned=chain(pruned), small=other)
    assert pruned.seen == ["great", "great"]


def test_answers_to_another_input_are_refused(tmp_path):
    path = tmp_path / "answers.jsonl"
    collect(chain(Large()), rows("great"), path=path)
    data = [{"id": "row great", "input": {"text": "secret words"}}]
    with pytest.raises(ValueError, match="another input") as caught:
        collect(chain(Large()), data, path=path)
    assert "secret" not in str(caught.value)


def test_answers_of_another_chain_are_refused(tmp_path):
    path = tmp_path / "answers.jsonl"
    template = ChatPromptTemplate.from_messages([("human", "one {text}")])
    other = ChatPromptTemplate.from_messages([("human", "two {text}")])
    label = {"to_label": lambda _: "pos"}
    collect(template, rows("great"), path=path, **label)
    assert len(collect(template, rows("great"), path=path, **label)) == 1
    with pytest.raises(ValueError, match="another `large` chain"):
        collect(other, rows("great"), path=path, **label)


@pytest.mark.parametrize("line", ["not json", "[]", '{"id": "1"}', "3"])
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path, line):
    path = tmp_path / "answers.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"answers\.jsonl: line 1"):
        collect(chain(Large()), path=path)
    assert path.read_text(encoding="utf-8") == line + "\n"


def test_the_result_goes_through_a_file(tmp_path):
    outcomes = collect(chain(Large()), price=PRICE)
    outcomes.to_jsonl(tmp_path / "outcomes.jsonl")
    assert Outcomes.from_jsonl(tmp_path / "outcomes.jsonl") == outcomes


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "mine"}',
        b"id,small\n1,a\n2,b",
        b"one word",
        b'{"chains": 5}\n',
        b'{"id": "row great", "side": "large", "hash": "x", "asked": "y", "label": "pos"}\n{"id',
        b"\xff\xfe\n\x00",
    ],
)
def test_a_file_of_someone_else_is_never_changed(tmp_path, body):
    path = tmp_path / "mine"
    path.write_bytes(body)
    large = Large()
    with pytest.raises(ValueError, match="left as it is"):
        collect(chain(large), path=path)
    assert path.read_bytes() == body
    assert large.seen == []


def test_nothing_is_cut_off_before_all_is_checked(tmp_path):
    path = tmp_path / "answers.jsonl"
    collect(chain(Large()), rows("great"), path=path)
    body = path.read_bytes() + b'{"id": "row b'
    path.write_bytes(body)
    with pytest.raises(ValueError, match="another input"):
        collect(chain(Large()), [{"id": "row great", "input": {"text": "bad"}}], path=path)
    with pytest.raises(CostLimitError):
        collect(chain(Large()), path=path, price=PRICE, max_cost=1)
    assert path.read_bytes() == body


def test_a_cut_off_header_and_a_missing_line_end_are_mended(tmp_path):
    path = tmp_path / "answers.jsonl"
    collect(chain(Large()), rows("great"), path=path)
    body = path.read_bytes()
    path.write_bytes(body[:-1])  # the answer is whole
    large = Large()
    collect(chain(large), rows("great"), path=path)
    assert large.seen == []
    assert path.read_bytes().startswith(body)
    for kept in (0, 1, 9, body.index(b"\n")):
        path.write_bytes(body[:kept])
        assert len(collect(chain(Large()), rows("great"), path=path)) == 1
        assert path.read_bytes().startswith(body[: body.index(b"\n") + 1])


# --- money ----------------------------------------------------------------------------------------------------------


def test_an_estimate_above_the_limit_asks_nothing():
    large, model = Large(), small()
    with pytest.raises(CostLimitError, match="3 rows would cost about"):
        collect(chain(large), small=model, price=PRICE, max_cost=10)
    assert large.seen == []
    assert model.calls == []


def test_the_limit_holds_while_running(tmp_path):
    path = tmp_path / "answers.jsonl"
    price = Price(input=1.0, output=0.0)
    large = Large(usage={"input_tokens": 1000, "output_tokens": 0, "total_tokens": 1000})
    data = [{"id": str(i), "input": {"text": "great"}} for i in range(40)]
    with pytest.warns(UserWarning, match="stopped at `max_cost`: 10 of 40 rows"):
        outcomes = collect(chain(large), data, price=price, max_cost=0.01, path=path)
    assert len(large.seen) == len(outcomes) == 10
    assert sum(outcomes.values("cost_large")) == pytest.approx(0.01)
    rest = collect(chain(large), data, path=path)
    assert len(rest) == len(large.seen) == 40


def test_what_is_already_paid_counts_for_nothing(tmp_path):
    path = tmp_path / "answers.jsonl"
    collect(chain(Large()), path=path, price=PRICE)
    assert len(collect(chain(Large()), path=path, price=PRICE, max_cost=0.0)) == 3


def test_provider_caches_are_cheaper_and_our_own_cache_is_free():
    usage = {"input_tokens": 10, "output_tokens": 0, "total_tokens": 10, "input_token_details": {"cache_read": 4}}
    outcomes = collect(chain(Large(usage=usage)), rows("great"), price=PRICE)
    assert outcomes.values("cost_large") == [6 + 2.0]
    assert outcomes.values("tokens_cached") == [4]
    cached = chain(Large(cache=InMemoryCache()))
    assert collect(cached, rows("great"), price=PRICE).values("cost_large") == [14.0]
    assert collect(cached, rows("great"), price=PRICE).values("cost_large") == [0.0]


def test_tokens_are_counted_behind_a_parser():
    outcomes = collect(chain(Large()) | StrOutputParser(), rows("great"), price=PRICE)
    assert outcomes.values("cost_large") == [14.0]


def test_tokens_of_a_message_without_callbacks():
    usage = {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}
    outcomes = collect(RunnableLambda(lambda _: AIMessage("pos", usage_metadata=usage)), rows("great"), price=PRICE)
    assert outcomes.values("cost_large") == [5.0]


def test_the_first_probe_is_one_row():
    large = Large(usage={"input_tokens": 100, "output_tokens": 0, "total_tokens": 100})
    data = [({"text": "great"}, None)] * 20
    with pytest.warns(UserWarning, match="stopped at `max_cost`: 1 of 20 rows"):
        collect(chain(large), data, price=Price(input=1000.0, output=0.0), max_cost=0.05, max_concurrency=8)
    assert len(large.seen) == 1


def test_the_limit_is_overshot_by_one_row_for_each_slot_at_most():
    seen = []

    def answer(value):
        seen.append(value)
        tokens = 1 if len(seen) == 1 else 100  # the first row misleads
        return AIMessage("pos", usage_metadata={"input_tokens": tokens, "output_tokens": 0, "total_tokens": tokens})

    data = [({"text": "great"}, None)] * 50
    price = Price(input=1000.0, output=0.0)
    with pytest.warns(UserWarning, match="4 of 50 rows"):
        outcomes = collect(RunnableLambda(answer), data, price=price, max_cost=0.2, max_concurrency=3)
    assert sum(outcomes.values("cost_large")) == pytest.approx(0.301)


@pytest.mark.parametrize("usage", [None, {"input_tokens": -1, "output_tokens": 0, "total_tokens": 0}])
def test_a_reply_of_unknown_cost_stops_where_there_is_a_limit(usage):
    large = Large(usage=usage)
    with pytest.warns(UserWarning, match="no usage and `max_cost` cannot be kept without: 1 of 3 rows"):
        outcomes = collect(chain(large) | StrOutputParser(), price=PRICE, max_cost=10_000)
    assert outcomes.values("large") == ["pos"]
    assert len(large.seen) == 1
    assert collect(chain(large), price=PRICE).values("large") == ["pos"] * 3


def test_where_the_money_is_out_the_pruned_chain_is_not_asked():
    pruned = Large()
    with pytest.warns(UserWarning, match="1 of 3 rows"):
        outcomes = collect(chain(Large(usage=None)), price=PRICE, max_cost=10_000, large_pruned=chain(pruned))
    assert pruned.seen == []
    assert outcomes.values("large_pruned") == [None]


# --- the rest -------------------------------------------------------------------------------------------------------


class Verdict(BaseModel):
    label: str


class Two(BaseModel):
    label: str
    why: str


@pytest.mark.parametrize(
    ("output", "label"),
    [
        (" pos\n", "pos"),
        (AIMessage("pos "), "pos"),
        (AIMessage([{"type": "text", "text": "pos"}]), "pos"),
        (Verdict(label="pos"), "pos"),
        ({"label": "pos"}, "pos"),
        ({"choice": "pos", "probabilities": {}, "confidence": 1.0}, "pos"),
    ],
)
def test_default_label(output, label):
    assert default_label(output) == label


@pytest.mark.parametrize("output", [None, 3, Two(label="pos", why="x"), {"a": 1}, ["pos"]])
def test_no_label_asks_for_to_label(output):
    with pytest.raises(TypeError, match="to_label"):
        default_label(output)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ([{"id": "1"}], "row 1 .* no key 'input'"),
        (["text"], "row 1 .* not str"),
        ([("a", "b", "c")], "row 1"),
        ([{"id": "1", "input": "a"}, {"id": "1", "input": "b"}], "row 2 .* repeats"),
        ([{"input": "a", "gold": 0.5}], "row 1 .* 'gold' must be .* not float"),
        ([{"input": "a"}, {"input": "b", "gold": True}], "row 2, column 'gold': 1 of 1 values .*: \"True\""),
        ([("a", ["pos"])], "row 1 .* 'gold' must be .* not list"),
        ([{"input": "a", "group": 0.5}], "row 1 .* 'group' must be .* not float"),
        ([{"input": math.nan, "gold": "pos"}], "row 1 of `dataset` has no input"),
        ([{"input": "a", "id": None}], "row 1 .* 'id' must be .* not NoneType"),
        ([{"input": "a", "id": 1.5}], "row 1 .* 'id' must be .* not float"),
    ],
)
def test_bad_rows_are_refused_before_anything_is_asked(data, match):
    large = Large()
    with pytest.raises(ValueError, match=match):
        collect(chain(large), data)
    assert large.seen == []


def test_bad_arguments():
    with pytest.raises(ValueError, match="price"):
        collect(chain(Large()), max_cost=1.0)
    with pytest.raises(ValueError, match="chunk_size"):
        collect(chain(Large()), chunk_size=0)


def test_no_rows():
    outcomes = collect(chain(Large()), [])
    assert len(outcomes) == 0
    assert outcomes.about["labels"] == ["neg", "pos"]


def test_the_callers_config_reaches_the_chain():
    seen = []

    def answer(_, config):
        seen.append((config["tags"], config["configurable"]))
        return "pos"

    collect(RunnableLambda(answer), rows("great"), config={"tags": ["mine"], "configurable": {"user": 1}})
    assert seen == [(["mine"], {"user": 1})]


def test_progress_is_shown_on_stderr(capsys):
    collect(chain(Large()), progress=True)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "3/3" in printed.err


def explode(_):
    raise KeyError("secret")


@pytest.mark.parametrize("to_label", [explode, lambda _: None, lambda _: 3, lambda _: ["pos"], lambda _: np.float64(1)])
def test_a_to_label_that_fails_loses_no_answer(tmp_path, to_label):
    path = tmp_path / "answers.jsonl"
    done = collect(chain(Large()), path=path, to_label=lambda m: to_label(m) if "neg" in m.text else "pos")
    assert done.values("large") == ["pos"] * 3
    large = Large(says={"bad": "neg"})
    outcomes = collect(chain(large), to_label=lambda m: to_label(m) if "neg" in m.text else "pos", price=PRICE)
    assert outcomes.values("large") == ["pos", None, "pos"]
    assert outcomes.values("error") == [None, "KeyError" if to_label is explode else "TypeError", None]
    assert outcomes.values("cost_large") == [14.0] * 3, "it was paid"


def test_numpy_labels_and_ids_become_plain_texts(tmp_path):
    data = [{"id": np.int64(7), "input": {"text": "great"}, "gold": np.str_("pos"), "group": 3}]
    path = tmp_path / "answers.jsonl"
    (record,) = collect(chain(Large()), data, to_label=lambda _: np.str_("pos"), path=path).to_records()
    assert [(record[key], type(record[key])) for key in ("id", "gold", "group", "large")] == [
        ("7", str), ("pos", str), ("3", str), ("pos", str)
    ]  # fmt: skip


def test_about_must_be_a_dict():
    large = Large()
    with pytest.raises(TypeError, match="about"):
        collect(chain(large), about="mine")
    with pytest.raises(ValueError, match="max_cost"):
        collect(chain(large), price=PRICE, max_cost=math.nan)
    assert large.seen == []


@pytest.mark.parametrize("name", ["large", "large_pruned"])
def test_a_model_name_is_no_chain(name):
    from langchain_core.runnables import RunnableLambda

    from langchain_dsplus import FakeSmallModel

    chains = {"large": RunnableLambda(lambda _: "a"), name: "gpt-4o"}
    with pytest.raises(TypeError, match=f"`{name}` must be a chat model or a chain"):
        collect_outcomes(FakeSmallModel({}, ["a"]), chains.pop("large"), [({"t": "x"}, "a")], **chains)
