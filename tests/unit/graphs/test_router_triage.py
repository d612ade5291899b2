"""`ConfidenceRouter.triage`: the decision alone, for graphs whose next nodes are the large side."""

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import ConfidenceRouter, FakeSmallModel
from langchain_dsplus.routing.decision import SettingsError

TABLE = {"easy": {"pos": 0.99, "neg": 0.01}, "hard": {"pos": 0.6, "neg": 0.4}}


def ask(value) -> AIMessage:
    asked.append(value)
    return AIMessage("neg")


asked = []


class Handler(BaseCallbackHandler):
    """Counts runs that begin and end, and remembers events."""

    def __init__(self):
        self.begun, self.ended, self.failed, self.events = 0, 0, 0, []

    def on_chain_start(self, *args, **kwargs):
        self.begun += 1

    def on_chain_end(self, *args, **kwargs):
        self.ended += 1

    def on_chain_error(self, *args, **kwargs):
        self.failed += 1

    def on_custom_event(self, name, data, **kwargs):
        self.events.append((name, data))


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def async_(request):
    return request.param


@pytest.fixture(autouse=True)
def _nothing_asked():
    asked.clear()


async def triage(router, value, async_, config=None):
    return await router.atriage(value, config) if async_ else router.triage(value, config)


def make(rows=None, **settings):
    if rows is not None:
        settings["recorder"] = type("R", (), {"record": lambda _, row: rows.append(row)})()
    return ConfidenceRouter(
        small=FakeSmallModel(TABLE), large=RunnableLambda(ask), threshold=0.9, background=False, **settings
    )


async def test_it_decides_as_invoke_does_and_asks_nobody(async_):
    rows, handler = [], Handler()
    router = make(rows)
    output, route = await triage(router, "easy", async_, {"callbacks": [handler]})
    assert isinstance(output, AIMessage)
    assert output.response_metadata["dsplus"] == route
    assert (route["accepted"], route["reason"]) == (True, "confident")
    output, escalated = await triage(router, "hard", async_, {"callbacks": [handler]})
    assert output is None
    assert (escalated["accepted"], escalated["reason"], escalated["model"]) == (False, "unsure", "large")
    assert asked == []
    assert [row["route"] for row in rows] == [route], "what escalates is for whoever answers it to record"
    assert handler.events == [("dsplus_route", route)]
    assert (handler.begun, handler.ended, handler.failed) == (2, 2, 0)


async def test_shadow_answers_and_audits_are_done(async_):
    rows = []
    _, route = await triage(make(rows, mode="shadow"), "easy", async_)
    assert (route["reason"], route["answers"]) == ("shadow", [])
    assert [row["kind"] for row in rows] == ["shadow"]
    rows.clear()
    await triage(make(rows, audit_rate=1.0), "easy", async_)
    assert [row["kind"] for row in rows] == ["route", "audit"]
    assert asked == ["easy"]


async def test_settings_of_the_call_hold_and_malformed_ones_are_refused(async_):
    router, handler = make(), Handler()
    _, route = await triage(router, "hard", async_, {"configurable": {"dsplus_threshold": 0.95}})
    assert (route["accepted"], route["threshold"]) == (False, 0.95)
    with pytest.raises(SettingsError, match="looser"):
        await triage(router, "hard", async_, {"configurable": {"dsplus_threshold": 0.5}})
    with pytest.raises(SettingsError):
        await triage(router, "hard", async_, {"configurable": {"dsplus_threshold": "x"}, "callbacks": [handler]})
    assert (handler.begun, handler.ended, handler.failed) == (1, 0, 1)
