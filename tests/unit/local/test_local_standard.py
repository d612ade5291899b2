"""LangChain's own suites on `ChatLocal` with a GLM folder. The integration suite runs here: it needs no weights.

Not tried, since ChatLocal has no tool calling: the tests of tool calls, tool messages and agents skip themselves. No
test is expected to fail.
"""

from __future__ import annotations

import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_dsplus.local.chat import ChatLocal


class _OnGlm:
    folder = ""

    @pytest.fixture(autouse=True)
    def _glm(self, tiny_glm, loaded_glm, monkeypatch):
        self.folder = str(tiny_glm)
        monkeypatch.chdir(tiny_glm.parent)  # so that its bare name is another name of the same model

    @property
    def chat_model_class(self):
        return ChatLocal

    @property
    def chat_model_params(self):
        return {"model": self.folder, "n_ctx": 1024}

    @property
    def structured_output_kwargs(self):
        return {"method": "json_schema", "max_length": 30}  # so small a model may repeat itself for ever

    @property
    def supports_json_mode(self):
        return True


class TestUnitSuite(_OnGlm, ChatModelUnitTests):
    """Construction, tracing parameters, structured output."""


class TestIntegrationSuite(_OnGlm, ChatModelIntegrationTests):
    """Invoke, stream, batch, events, usage, stop, structured output: sync and async."""

    @property
    def model_override_value(self):
        return "tiny-glm"
