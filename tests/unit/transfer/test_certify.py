"""`certify_transfer`: what counts as a loss, what it is about, that nothing is asked twice, and what it refuses."""

import asyncio
import json
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

from langchain_dsplus.answer import CertificateError
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.threshold.exact import paired_p_value
from langchain_dsplus.transfer import PromptTransfer, TransferCertificate, acertify_transfer, certify_transfer
from langchain_dsplus.transfer.certify import find_transfer, outcome

LABELS = ("yes", "no")


def run(async_, cases, **options):
    options.setdefault("progress", False)
    if async_:
        return asyncio.run(acertify_transfer(cases, **options))
    return certify_transfer(cases, **options)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def async_(request):
    return request.param


def table(rows):
    """A chain that says what a table says of a case's number."""
    return RunnableLambda(lambda number: rows[number])


class Judge(FakeListChatModel):
    """Answers as `answer(text)` says, with usage; counts its calls."""

    answer: object = None
    asked: list = []

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        text = str(messages[-1].content)
        self.asked.append(text)
        usage = {
            "input_tokens": len(text),
            "output_tokens": 1,
            "total_tokens": len(text) + 1,
            "input_token_details": {"cache_read": 4},
        }
        reply = AIMessage(self.answer(text), usage_metadata=usage, response_metadata={"model_name": "judge-1"})
        return ChatResult(generations=[ChatGeneration(message=reply)])


def judge(answer):
    return Judge(responses=["x"], answer=answer, asked=[])


# --- what counts ----------------------------------------------------------------------------------------------------

REPLIES = st.sampled_from([{"label": "yes"}, {"label": "no"}, {"error": "NoLabel", "unparsed": True}, {"error": "E"}])


@settings(max_examples=300, deadline=None)
@given(plain=REPLIES, transferred=REPLIES, gold=st.sampled_from(["yes", "no", None]))
def test_an_outcome_never_flatters_the_transfer(plain, transferred, gold):
    """The loss of a case is at least right(plain) - right(transferred) for every gold that it may have."""
    found = {"harm": 1, "gain": -1, "same": 0}[outcome(plain, transferred, gold)]
    for truth in LABELS if gold is None else [gold]:
        right = [reply.get("label") == truth for reply in (plain, transferred)]
        assert found >= right[0] - right[1]
    if found == -1:
        assert plain.get("label") is not None
    if "label" not in transferred and not transferred.get("unparsed"):
        assert found == 1  # a call that failed proves nothing


def test_the_counts_are_those_of_the_cases(async_):
    rng = random.Random(7)
    gold = [rng.choice([*LABELS, None]) for _ in range(80)]
    plain = [rng.choice(LABELS) for _ in range(80)]
    other = [rng.choice([a, a, a, "no"]) for a in plain]
    found = run(async_, list(enumerate(gold)), plain=table(plain), transferred=table(other), max_loss="20 points")
    outcomes = [outcome({"label": a}, {"label": t}, g) for a, t, g in zip(plain, other, gold, strict=True)]
    assert (found.harms, found.gains, found.n) == (outcomes.count("harm"), outcomes.count("gain"), 80)
    assert found.changed == sum(a != t for a, t in zip(plain, other, strict=True))
    assert found.test == "paired"
    assert found.p_value == paired_p_value(found.harms, found.gains, 80, 0.2)


def test_without_gold_the_test_is_the_exact_binomial():
    for n, status in ((148, "NOT_CERTIFIED"), (149, "CERTIFIED")):
        rows = ["yes"] * n
        found = run(False, [(i, None) for i in range(n)], plain=table(rows), transferred=table(rows))
        assert (found.status, found.test) == (status, "binomial")
        assert found.p_value == pytest.approx(0.98**n)
        assert found.wavering["rate"] == 0.0


def test_wavering_is_shown_and_never_taken_off():
    """A judge that tosses a coin, and a transfer that is always wrong: netted it would look fine."""
    rng = random.Random(3)
    lock = threading.Lock()

    def waver(number):
        with lock:
            return rng.choice(LABELS) if number % 5 == 0 else "yes"

    transferred = RunnableLambda(lambda number: "no" if number % 5 == 0 else "yes")
    found = run(False, [(i, None) for i in range(500)], plain=RunnableLambda(waver), transferred=transferred)
    assert found.status == "NOT_CERTIFIED"
    assert 0.05 < found.wavering["rate"] < 0.15
    assert found.harms == found.changed > 30
    assert "certifies nothing" in str(found)


def test_not_certified_says_how_many_cases_would_do():
    rows = ["yes"] * 60
    found = run(False, [(i, "yes") for i in range(60)], plain=table(rows), transferred=table(rows))
    assert found.needed == 149
    assert "149" in str(found)
    worse = run(False, [(i, "yes") for i in range(60)], plain=table(rows), transferred=table(["no"] * 60))
    assert worse.needed is None
    assert "no number of cases" in str(worse)


def test_gold_that_no_reply_ever_equals_is_an_error():
    rows = ["It is positive."] * 5
    with pytest.raises(ValueError, match="labels="):
        run(False, [(i, "positive") for i in range(5)], plain=table(rows), transferred=table(rows))
    found = run(
        False,
        [(i, "positive") for i in range(5)],
        plain=table(rows),
        transferred=table(rows),
        labels=["positive", "negative"],
    )
    assert found.accuracy == {"n": 5, "plain": 1.0, "transferred": 1.0}


def test_a_reply_that_is_no_label_is_no_gain():
    plain, other = ["I cannot say."] * 4 + ["yes"], ["yes"] * 5
    found = run(
        False,
        [(i, "yes") for i in range(5)],
        plain=table(plain),
        transferred=table(other),
        labels=LABELS,
        max_loss="50 points",
    )
    assert (found.harms, found.gains, found.changed) == (0, 0, 4)


# --- tokens and money -----------------------------------------------------------------------------------------------


def chains(large, small):
    prompt = ChatPromptTemplate.from_messages([("human", "{rewrite}")])
    transfer = PromptTransfer(small, fidelity="off", subtask="summarise", label=None, version="small-1")
    plain = {"rewrite": lambda case: case["text"]} | prompt | large
    return transfer, plain, transfer.as_assign(label=None) | prompt | large


def test_both_models_are_counted_and_cached_tokens_priced(async_):
    large, small = judge(lambda _: "yes"), judge(lambda _: "short")
    transfer, plain, transferred = chains(large, small)
    cases = [({"text": "a" * 1000}, None) for _ in range(30)]
    found = run(
        async_,
        cases,
        plain=plain,
        transferred=transferred,
        price=Price(1.0, 2.0, cached_input=0.5),
        small_price=Price(0.1, 0.2),
    )
    savings = found.savings
    assert savings.n == 30
    assert savings.tokens_plain == 1001
    assert savings.tokens_large == len("short") + 1
    assert savings.large.value == pytest.approx(1 - 6 / 1001)
    small_tokens = len(small.asked[0]) + 1
    assert savings.tokens.value == pytest.approx(1 - (6 + small_tokens) / 1001)
    large_cost = [(n - 4) * 1.0 + 4 * 0.5 + 2.0 for n in (1000, 5)]
    small_cost = (len(small.asked[0]) - 4) * 0.1 + 4 * 0.1 + 0.2
    assert savings.money.value == pytest.approx((large_cost[0] - large_cost[1] - small_cost) / 1e6 * 1000)
    assert found.about["reported"] == ["judge-1"]
    assert find_transfer(transferred)[0].version == transfer.version


# --- asking ---------------------------------------------------------------------------------------------------------


def test_it_resumes_and_asks_nothing_twice(async_, tmp_path):
    path = tmp_path / "replies.jsonl"
    large, small = judge(lambda _: "yes"), judge(lambda _: "short")
    _, plain, transferred = chains(large, small)
    cases = [({"text": f"text {i}"}, None) for i in range(20)]
    first = run(async_, cases, plain=plain, transferred=transferred, path=path)
    asked = len(large.asked)
    assert asked == 60
    again = run(async_, cases, plain=plain, transferred=transferred, path=path)
    assert len(large.asked) == asked
    assert again == first
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:30]) + lines[30][:10])  # cut off while it wrote
    assert run(async_, cases, plain=plain, transferred=transferred, path=path) == first
    assert 60 < len(large.asked) < 120


def test_a_failed_call_is_asked_again_and_counts_as_a_harm_until_then(async_, tmp_path):
    path = tmp_path / "replies.jsonl"
    broken = [True]

    def answer(number):
        if broken[0] and number == 3:
            raise OSError
        return "yes"

    options = {"plain": table(["yes"] * 200), "transferred": RunnableLambda(answer), "path": path}
    cases = [(i, "yes") for i in range(200)]
    found = run(async_, cases, **options)
    assert (found.failed, found.harms, found.status) == (1, 1, "NOT_CERTIFIED")
    broken[0] = False
    found = run(async_, cases, **options)
    assert (found.failed, found.harms, found.status) == (0, 0, "CERTIFIED")


def test_replies_of_other_chains_are_refused(tmp_path):
    path = tmp_path / "replies.jsonl"
    rows = ["yes"] * 3
    cases = [(i, "yes") for i in range(3)]
    run(False, cases, plain=table(rows), transferred=table(rows), path=path, version="1")
    with pytest.raises(ValueError, match="another"):
        run(False, cases, plain=table(rows), transferred=table(rows), path=path, version="2")
    with pytest.raises(ValueError, match="another input"):
        run(False, [(i + 1, "yes") for i in range(3)], plain=table(rows), transferred=table(rows), path=path)
    path.write_text(json.dumps({"chains": {"large": None}}) + "\n")
    with pytest.raises(ValueError, match="certify_transfer"):
        run(False, cases, plain=table(rows), transferred=table(rows), path=path)


def test_caches_are_off_while_asking_and_on_again_afterwards(async_):
    model = judge(lambda _: "yes")
    model.cache = InMemoryCache()
    cache = InMemoryCache()
    set_llm_cache(cache)
    try:
        chain = RunnableLambda(str) | model
        found = run(async_, [(1, None), (2, None)], plain=chain, transferred=chain)
        assert len(model.asked) == 6
        assert found.wavering["n"] == 2
        assert get_llm_cache() is cache
        assert isinstance(model.cache, InMemoryCache)
    finally:
        set_llm_cache(None)


def test_a_reply_out_of_a_hidden_cache_is_refused(async_):
    hit = AIMessage("yes", usage_metadata={"input_tokens": 1, "output_tokens": 1, "total_tokens": 2, "total_cost": 0})

    class Hidden(Judge):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            return ChatResult(generations=[ChatGeneration(message=hit)])

    chain = RunnableLambda(str) | Hidden(responses=["x"])
    with pytest.raises(ValueError, match="cache"):
        run(async_, [(1, None)], plain=chain, transferred=chain)


def test_the_order_is_shuffled_and_both_prompts_are_asked_at_the_same_time():
    order = []
    lock = threading.Lock()

    def note(side):
        def ask(number):
            with lock:
                order.append(side)
            return "yes"

        return RunnableLambda(ask)

    run(False, [(i, None) for i in range(32)], plain=note("p"), transferred=note("t"), max_concurrency=1)
    assert order.count("p") == 64
    assert {"p", "t"} == set(order[:10])
    assert {"p", "t"} == set(order[-10:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_loss": 0.0}, "max_loss"),
        ({"max_loss": 2}, "2 points"),
        ({"level": 1.0}, "level"),
        ({"cases": []}, "empty"),
        ({"plain": 3}, "plain"),
        ({"transferred": None}, "transferred"),
        ({"labels": LABELS, "to_label": str}, "not both"),
        ({"labels": ("no",)}, "1 of 1 values of gold are none of the labels"),
        ({"max_concurrency": 0}, "max_concurrency"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_asked(change, message):
    asked = []
    chain = RunnableLambda(lambda n: asked.append(n) or "yes")
    options = {"cases": [(0, "yes")], "plain": chain, "transferred": chain, **change}
    with pytest.raises((ValueError, TypeError), match=message):
        run(False, options.pop("cases"), **options)
    assert asked == []


# --- the certificate ------------------------------------------------------------------------------------------------


def some(**more):
    counts = {"harms": 9, "gains": 3, "n": 1500, "changed": 12, "test": "paired", "max_loss": 0.02, "level": 0.95}
    return TransferCertificate.of_counts(**{**counts, **more})


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_certificate_survives_json(data):
    n = data.draw(st.integers(1, 400))
    harms = data.draw(st.integers(0, n))
    test = data.draw(st.sampled_from(["paired", "binomial"]))
    gains = 0 if test == "binomial" else data.draw(st.integers(0, n - harms))
    changed = harms if test == "binomial" else harms + gains
    found = some(harms=harms, gains=gains, n=n, changed=changed, test=test, unknown=min(harms, changed))
    assert TransferCertificate.from_json(found.to_json()) == found
    assert found.certified == (found.p_value <= 0.05)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "NOT_CERTIFIED"},
        {"harms": 300},
        {"harms": -1},
        {"n": 150},
        {"n": True},
        {"p_value": 0.5},
        {"p_value": "0.001"},
        {"loss_upper": 0.0},
        {"changed_upper": 0.5},
        {"max_loss": 0.0001},
        {"level": 1.5},
        {"test": "binomial"},
        {"test": "t"},
        {"unknown": 20},
        {"about": None},
        {"extra": 1},
        {"format": 2},
        {"kind": "router"},
        {"accuracy": {"n": "x"}},
        {"wavering": 3},
        {"savings": {"tokens": 1}},
    ],
)
def test_a_certificate_that_its_counts_do_not_give_is_refused(change):
    body = {**some().to_dict(), **change}
    with pytest.raises(CertificateError, match="not a transfer certificate"):
        TransferCertificate.from_dict(body)
    for name in some().to_dict():
        if name in change:
            left = {key: item for key, item in some().to_dict().items() if key != name}
            with pytest.raises(CertificateError):
                TransferCertificate.from_dict(left)
