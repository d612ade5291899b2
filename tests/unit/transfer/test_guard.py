"""`certificate=`: the original goes on wherever it does not hold; audits; what is said once."""

import itertools
import logging

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_dsplus.monitoring.audit import AuditMonitor
from langchain_dsplus.transfer import Decompose, PromptTransfer, TransferCertificate, certify_transfer, summarise

TEXT = "It was a lovely day. He left at nine."
SHORT = "He left at nine."


def large(answer=lambda _: "yes"):
    return RunnableLambda(lambda value: answer(value["rewrite"]))


def plain():
    return RunnableLambda(lambda value: {**value, "rewrite": value["text"]}) | large()


def transfer(**options):
    given = {"fidelity": "off", "subtask": "summarise", "version": "small 1", **options}
    return PromptTransfer(lambda _: given.pop("says", SHORT), **given)


def certificate(one=None, *, n=200):
    one = one or transfer()
    cases = [({"text": f"{TEXT} {i}"}, None) for i in range(n)]
    return certify_transfer(cases, plain=plain(), transferred=one | large(), version="chain 1", progress=False)


async def call(one, async_, value=None):
    value = value or {"text": TEXT}
    return await one.ainvoke(value) if async_ else one.invoke(value)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def async_(request):
    return request.param


@pytest.fixture(scope="module")
def good():
    return certificate()


async def test_under_its_certificate_the_text_is_transferred(good, async_):
    assert good.certified
    out = await call(transfer(certificate=good, large=large(), large_version="chain 1"), async_)
    assert out["rewrite"] == SHORT
    assert out["transfer"]["certificate"] == good.id


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "small 2"}, "another transfer"),
        ({"subtask": "normalise"}, "another transfer"),
        ({"subtask": summarise(words=30)}, "another transfer"),
        ({"fidelity": "default"}, "another transfer"),
        ({"on_unfaithful": "both"}, "another transfer"),
        ({"chunk_chars": 30}, "another transfer"),
        ({"label": "LETTER"}, "another transfer"),
        ({"large_version": "chain 2"}, "another large"),
        ({"large_version": "chain 2", "version": "small 2"}, "another transfer and another large"),
    ],
)
async def test_elsewhere_the_original_goes_on_without_a_call(good, async_, change, reason):
    asked = []
    given = {"fidelity": "off", "subtask": "summarise", "version": "small 1", "large": large(), **change}
    one = PromptTransfer(lambda t: asked.append(t) or SHORT, certificate=good, **given)
    out = await call(one, async_)
    assert TEXT in out["rewrite"]
    assert out["rewrite"] != SHORT
    assert out["transfer"]["used"] == "original"
    assert out["transfer"]["certificate"] is None
    assert reason in out["transfer"]["reasons"][0]
    assert asked == []


async def test_a_refusal_sends_the_original(async_):
    poor = certificate(n=20)
    assert not poor.certified
    out = await call(transfer(certificate=poor), async_)
    assert out["rewrite"] == TEXT
    assert out["transfer"]["reasons"][0].startswith("not_certified")


def test_it_holds_after_json_and_for_copies(good):
    read = TransferCertificate.from_json(good.to_json())
    out = (
        transfer(certificate=read, large=large(), large_version="chain 1")
        .as_assign(label=None)
        .invoke({"text": TEXT, "other": 1})
    )
    assert out["rewrite"] == SHORT
    assert out["other"] == 1


def test_a_small_model_that_reports_another_name_is_another():

    def small(name):
        message = AIMessage(SHORT, response_metadata={"model_name": name})
        return GenericFakeChatModel(messages=itertools.repeat(message))

    found = certificate(PromptTransfer(small("one"), fidelity="off", subtask="summarise", version="small 1"))
    assert found.about["reported"] == ["one"]
    for name, sent in (("one", SHORT), ("two", TEXT)):
        guarded = PromptTransfer(small(name), fidelity="off", subtask="summarise", version="small 1", certificate=found)
        assert guarded.invoke({"text": TEXT})["rewrite"] == sent


def test_what_nobody_has_proven_is_said_once(caplog, good):
    caplog.set_level(logging.WARNING)
    one = transfer()
    for _ in range(3):
        one.invoke({"text": TEXT})
        one.as_assign().invoke({"text": TEXT})
    assert sum("nothing is proven" in line for line in caplog.messages) == 1
    assert sum("fidelity='off'" in line for line in caplog.messages) == 1
    assert "nine" not in caplog.text
    caplog.clear()
    transfer(certificate=good, large=large(), large_version="chain 1").invoke({"text": TEXT})
    assert not any("nothing is proven" in line for line in caplog.messages)


async def test_audits_ask_both_and_an_alarm_ends_the_transfer(good, async_):
    asked = []

    def answer(text):
        asked.append(text)
        return "yes" if text == TEXT else "no"

    one = transfer(certificate=good, large=large(answer), large_version="chain 1", audit_rate=1.0)
    for _ in range(40):
        out = await call(one, async_)
        await one.adrain()
        if out["transfer"]["used"] == "original":
            break
    assert out["transfer"]["reasons"][0].startswith("alarm")
    assert out["rewrite"] == TEXT
    assert asked.count(TEXT) == asked.count(SHORT) == one.audits.audits
    assert one.audits.disagreements == one.audits.audits > 1


async def test_audits_that_agree_change_nothing(good, async_):
    monitor = AuditMonitor(max_disagreement=0.05, ladder=("large",))
    one = transfer(certificate=good, large=large(), large_version="chain 1", audit_rate=0.5, monitor=monitor)
    for _ in range(60):
        assert (await call(one, async_))["rewrite"] == SHORT
    await one.adrain()
    assert 10 < monitor.audits < 50
    assert monitor.disagreements == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"certificate": "CERTIFIED"}, "certificate"),
        ({"audit_rate": 0.1}, "large"),
        ({"audit_rate": 2.0}, "audit_rate"),
        ({"large": 3}, "large"),
        ({"monitor": 3}, "monitor"),
        ({"fidelity": "strictest"}, "fidelity"),
        ({"fidelity": 3}, "fidelity"),
        ({"subtask": "shout"}, "subtask"),
        ({"subtask": 3}, "subtask"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        PromptTransfer(lambda _: SHORT, **options)


# --- Decompose ------------------------------------------------------------------------------------------------------


def steps(**options):
    return [
        PromptTransfer(lambda t: t.replace("lovely", "fine"), subtask="normalise", version="a", fidelity="off"),
        PromptTransfer(lambda t: t.partition(". ")[2], subtask="summarise", version="b", fidelity="off", **options),
    ]


async def test_steps_read_what_the_one_before_sent(async_):
    chain = Decompose(steps(), input_key="statement", output_key="facts", record_key="how")
    out = await call(chain, async_, {"statement": TEXT, "other": 1})
    assert out.keys() == {"facts", "how"}
    assert out["facts"] == SHORT
    record = out["how"]
    assert [step["subtask"] for step in record["steps"]] == ["normalise", "summarise"]
    assert record["subtask"] == "normalise > summarise"
    assert (record["used"], record["faithful"], record["calls"]) == ("rewrite", True, 2)
    assert record["tokens_before"] == record["steps"][0]["tokens_before"]
    assert record["tokens_after"] == record["steps"][1]["tokens_after"]


async def test_a_step_that_fails_its_check_is_left_out(async_):
    parts = [PromptTransfer(lambda _: "no", subtask="normalise", fidelity=lambda *_: False), *steps()]
    record = (await call(Decompose(parts), async_))["transfer"]
    assert [step["used"] for step in record["steps"]] == ["original", "rewrite", "rewrite"]
    assert (record["used"], record["faithful"]) == ("mixed", False)
    assert record["reasons"] == ["normalise: unfaithful: by the check that was given"]


async def test_the_certificate_is_over_the_whole(async_):
    found = certificate(Decompose(steps()))
    assert found.certified
    assert (await call(Decompose(steps(), certificate=found), async_))["rewrite"] == SHORT
    for other in (steps()[1:], steps()[::-1], steps(chunk_chars=20)):
        out = await call(Decompose(other, certificate=found), async_)
        assert out["rewrite"] == TEXT
        assert out["transfer"]["reasons"] == ["certificate_other: it is about another transfer"]
        assert out["transfer"]["calls"] == 0


def test_decompose_refuses_what_makes_no_sense(good):
    with pytest.raises(ValueError, match="at least one"):
        Decompose([])
    with pytest.raises(TypeError, match="PromptTransfer"):
        Decompose([lambda t: t])
    with pytest.raises(ValueError, match="over the whole"):
        Decompose([transfer(certificate=good)])
