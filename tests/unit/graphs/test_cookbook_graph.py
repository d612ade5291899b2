"""The cookbook's graphs: what LangGraph's own command line says, and that they build from nothing."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COOKBOOK = Path(__file__).parents[3] / "cookbook"
CONFIG = COOKBOOK / "langgraph.json"


def load(monkeypatch):
    spec = importlib.util.spec_from_file_location("cookbook_graph", COOKBOOK / "graph.py")
    module = importlib.util.module_from_spec(spec)
    # Graphs read the annotations of what is in them by the module's name.
    monkeypatch.setitem(sys.modules, "cookbook_graph", module)
    spec.loader.exec_module(module)
    return module


def test_langgraphs_own_validation_accepts_the_config():
    cli = pytest.importorskip("langgraph_cli.config", reason="langgraph-cli is not installed")
    config = cli.validate_config_file(CONFIG)
    assert set(config["graphs"]) == {"classify", "dispute"}
    # The Dockerfile needs every named file to be where the config says.
    dockerfile, contexts = cli.config_to_docker(CONFIG, config, base_image="langchain/langgraph-api")
    for name, where in json.loads(CONFIG.read_text())["graphs"].items():
        assert name in dockerfile
        assert where.partition(":")[0].removeprefix("./") in dockerfile
    assert "langchain-dsplus" in dockerfile
    assert contexts == {}


def test_langgraphs_own_validation_would_refuse_a_wrong_one(tmp_path):
    cli = pytest.importorskip("langgraph_cli.config", reason="langgraph-cli is not installed")
    body = json.loads(CONFIG.read_text())
    for name, wrong in (("python_version", "2.7"), ("graphs", {}), ("dependencies", [])):
        (tmp_path / "langgraph.json").write_text(json.dumps({**body, name: wrong}))
        with pytest.raises(Exception, match=r"(?i)python|graph|depend"):
            cli.validate_config_file(tmp_path / "langgraph.json")


def test_the_named_graphs_are_graphs(monkeypatch):
    from langgraph.graph.state import CompiledStateGraph

    module = load(monkeypatch)
    for where in json.loads(CONFIG.read_text())["graphs"].values():
        graph = getattr(module, where.partition(":")[2])
        assert isinstance(graph, CompiledStateGraph)
        assert "__end__" in graph.get_graph().draw_mermaid()
        assert graph.get_input_jsonschema()["properties"]
        assert graph.get_context_jsonschema() is not None


def test_importing_needs_no_key_no_network_and_no_model():
    code = f"""
import socket, sys
def refuse(*_, **__):
    raise AssertionError("network")
socket.socket.connect = socket.create_connection = refuse
sys.path.insert(0, {str(COOKBOOK)!r})
import graph
assert not {{"torch", "sklearn", "openai", "langchain_openai", "xllamacpp"}} & sys.modules.keys()
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "LANG"))}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)


def test_an_easy_text_is_answered_without_a_large_model(monkeypatch):
    pytest.importorskip("sklearn", reason="needs the extra `sklearn`")
    module = load(monkeypatch)

    def none():
        raise AssertionError

    monkeypatch.setattr(module, "large_model", none)
    state = module.classify.invoke({"text": "I lost my card, please block it"})
    assert (state["label"], state["route"]["accepted"]) == ("lost_card", True)


@pytest.mark.parametrize("async_", [False, True], ids=["sync", "async"])
async def test_the_large_model_is_looked_for_when_it_is_needed(monkeypatch, async_):
    pytest.importorskip("sklearn", reason="needs the extra `sklearn`")
    from langchain_core.language_models.fake_chat_models import FakeListChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.runnables import RunnableLambda
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.types import Command

    class Fake(FakeListChatModel):
        verdicts: list = []

        def with_structured_output(self, schema, **kwargs):
            def answer(_):
                parsed = {"facts": ["a"], "reasons": ["b"], "verdict": self.verdicts.pop(0)}
                return {"raw": AIMessage(""), "parsed": parsed, "parsing_error": None}

            return RunnableLambda(answer)

    module = load(monkeypatch)
    fake = Fake(responses=["top_up"], verdicts=["narrator", "both"])
    monkeypatch.setattr(module, "large_model", lambda: fake)
    state = {"text": "hello there"}
    state = await module.classify.ainvoke(state) if async_ else module.classify.invoke(state)
    assert (state["label"], state["route"]["model"]) == ("top_up", "large")
    # A server puts its own checkpointer in the place of `True`.
    graph = module.dispute.copy(update={"checkpointer": InMemorySaver()})
    for node, part in (("transfer", RunnableLambda(lambda s: {"rewrite": s["statement"]})),):
        monkeypatch.setattr(graph.nodes[node], "bound", part)  # the sentence encoder has tests of its own
    config = {"configurable": {"thread_id": "1"}}
    value = {"statement": "He hit me and I hit him."}
    stopped = await graph.ainvoke(value, config) if async_ else graph.invoke(value, config)
    assert stopped["__interrupt__"][0].value["check"]["reason"] == "disagreement"
    resume = Command(resume="both")
    state = await graph.ainvoke(resume, config) if async_ else graph.invoke(resume, config)
    assert state["verdict"]["verdict"] == "both"
