"""LangChain's own suites for chat models, where the draft is accepted and where it is not.

Left out, with the reason:

- `supports_model_override`: `model=` names one model, and a cascade has several; it is refused.
- `timeout`, `max_retries` and `api_key` among the standard parameters: each model inside has its own.
- `test_serdes` (xfail): LangChain's `load(allowed_objects="all")` loads classes of its own packages only.
- `test_stream_time`: needs recorded HTTP traffic, and there is none.
- images, PDF, audio, Anthropic's blocks: they depend on the models inside; messages reach these unchanged.
"""

import pytest
from langchain_core.load import dumpd, load
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_dsplus.chat_dsplus.model import ChatDSPlus


class _Accepts:
    threshold = 0.5
    accept = "sequence"

    @property
    def chat_model_class(self):
        return ChatDSPlus

    @property
    def chat_model_params(self):
        small = self.scripted(name="tiny", model_name="tiny-1", text="A draft that is good enough.", p=0.9)
        large = self.scripted(name="big", model_name="big-1", text="The answer of the large model.", usage=(20, 7))
        return {"models": [small, large], "threshold": self.threshold, "accept": self.accept}

    @property
    def standard_chat_model_params(self):
        return {"temperature": 0, "max_tokens": 100, "stop": []}

    @property
    def has_tool_calling(self):
        return True

    @property
    def has_structured_output(self):
        return True

    @property
    def supports_json_mode(self):
        return True

    @property
    def supports_model_override(self):
        return False


class _Escalates(_Accepts):
    threshold = 0.95


class _Agrees(_Accepts):
    accept = "consistency"


class _Loadable:
    """On `ChatOpenAI`s, which LangChain can load; nothing is asked here."""

    @property
    def chat_model_params(self):
        from langchain_openai import ChatOpenAI

        key = "not-a-key"
        small = ChatOpenAI(model="small-1", base_url="http://127.0.0.1:1/v1", api_key=key, name="tiny")
        return {
            "models": [small, ChatOpenAI(model="gpt-4.1", api_key=key)],
            "threshold": self.threshold,
            "accept": self.accept,
        }

    @property
    def init_from_env_params(self):
        return {"OPENAI_API_KEY": "not-a-key"}, self.chat_model_params, {"threshold": self.threshold}

    @pytest.fixture
    def snapshot(self):
        """What is dumped, in place of a file that every release of another package would change."""

        class Dump:
            def __eq__(self, dumped):
                return dumped["id"] == ["langchain_dsplus", "chat_dsplus", "model", "ChatDSPlus"]

            __hash__ = None

        return lambda name: Dump()

    @pytest.mark.xfail(
        strict=True,
        raises=ValueError,
        reason="LangChain's load(allowed_objects='all') knows LangChain's own packages only; see the test below",
    )
    def test_serdes(self, model, snapshot):
        super().test_serdes(model, snapshot)


class TestUnitAccept(_Loadable, _Accepts, ChatModelUnitTests):
    pass


class TestUnitEscalate(_Loadable, _Escalates, ChatModelUnitTests):
    pass


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_it_is_dumped_and_loaded_without_its_keys(monkeypatch):
    from langchain_openai import ChatOpenAI

    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    models = [
        ChatOpenAI(model="gpt-4.1-nano", base_url="http://127.0.0.1:1/v1", name="tiny"),
        ChatOpenAI(model="gpt-4.1"),
    ]
    model = ChatDSPlus(models=models, threshold={"tiny": 0.8}, accept="verifier", max_tokens=40)
    dumped = dumpd(model)
    assert "not-a-key" not in str(dumped)
    again = load(
        dumped,
        valid_namespaces=["langchain_dsplus"],
        allowed_objects=[ChatDSPlus, ChatOpenAI],
        secrets_from_env=True,
    )
    assert isinstance(again, ChatDSPlus)
    assert again.asdict() == model.asdict()
    assert dumpd(again) == dumped
    assert again.router.about == model.router.about


class _JSONSchema:
    @property
    def structured_output_kwargs(self):
        return {"method": "json_schema"}


class TestIntegrationAccept(_Accepts, ChatModelIntegrationTests):
    pass


class TestIntegrationEscalate(_Escalates, ChatModelIntegrationTests):
    pass


class TestIntegrationConsistency(_JSONSchema, _Agrees, ChatModelIntegrationTests):
    pass


class TestIntegrationEscalateJSONSchema(_JSONSchema, _Escalates, ChatModelIntegrationTests):
    pass


def test_the_suites_take_both_ways(scripted):
    for suite, who in ((_Accepts, "tiny"), (_Escalates, "large"), (_Agrees, "tiny")):
        suite.scripted = scripted
        found = ChatDSPlus(**suite().chat_model_params).invoke("Hello")
        assert found.response_metadata["dsplus"]["model"] == who
