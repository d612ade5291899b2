"""What the README shows runs as it is printed."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def blocks():
    text = README.read_text(encoding="utf-8")
    return [
        re.sub(r"^   ", "", block, flags=re.MULTILINE) if block.startswith("   ") else block
        for block in re.findall(r"^ *```python\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)
    ]


def test_the_whole_program_and_the_steps_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = blocks()
    program = next(b for b in found if "FakeListChatModel" in b)
    names = {}
    exec(compile(program, "README.md", "exec"), names)
    assert capsys.readouterr().out.splitlines() == ["shipping by small", "billing by large"]
    certify = next(b for b in found if "Outcomes.from_csv" in b)
    rows = [f"{i},shipping,{0.5 + i / 2000},shipping," for i in range(700)]
    (tmp_path / "outcomes.csv").write_text("\n".join(["id,small,confidence,large,gold", *rows]) + "\n")
    exec(compile(certify, "README.md", "exec"), names)
    assert capsys.readouterr().out.startswith("CERTIFIED")
    assert names["router"].threshold is names["certificate"]
    steps = [b for b in found if "JSONLRecorder" in b or "collect_outcomes" in b]
    assert len(steps) == 2
    for step in steps:
        exec(compile(step, "README.md", "exec"), names)
    assert names["outcomes"].to_records()[0]["gold"] == "shipping"
    node = next(b for b in found if "as_node" in b)
    from langgraph.graph import START, StateGraph
    from typing_extensions import TypedDict

    class State(TypedDict, total=False):
        text: str
        label: str
        route: dict

    names["graph"] = StateGraph(State)
    exec(compile(node, "README.md", "exec"), names)
    app = names["graph"].add_edge(START, "triage").compile()
    assert app.invoke({"text": "You charged me twice, I think"})["label"] in {"billing", "shipping"}


def test_the_first_five_lines_run_with_a_pipeline_and_a_model(monkeypatch):
    pytest.importorskip("sklearn")
    from langchain_core.language_models import FakeListChatModel
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(CountVectorizer(), MultinomialNB()).fit(
        ["where parcel", "charged twice"], ["ship", "bill"]
    )
    names = {"your_fitted_pipeline": pipeline, "llm": FakeListChatModel(responses=["bill"])}
    exec(compile(blocks()[0], "README.md", "exec"), names)
    assert names["router"].invoke({"text": "You charged me twice, I think"}) == "bill"


def test_the_loop_closes(tmp_path, monkeypatch):
    """Distil, gate, promote: the fifth step, on a real pipeline."""
    pytest.importorskip("sklearn")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from langchain_dsplus import Distiller, ModelRegistry, SklearnClassifier

    monkeypatch.chdir(tmp_path)
    ship = [f"where is my parcel number {n}" for n in range(60)] + [f"has order {n} left the house" for n in range(60)]
    bill = [f"you charged me twice for {n}" for n in range(60)] + [f"my invoice {n} is wrong" for n in range(60)]
    rows = [(text, "shipping") for text in ship] + [(text, "billing") for text in bill]
    gold_rows, answers, held_out_rows = (
        rows[::10],
        rows[1::2],
        [row for i, row in enumerate(rows) if i % 2 == 0 and i % 10],
    )
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression())
    pipeline.fit([text for text, _ in gold_rows[:4]] + ["invoice"], [label for _, label in gold_rows[:4]] + ["billing"])
    names = {
        "Distiller": Distiller,
        "ModelRegistry": ModelRegistry,
        "small": SklearnClassifier(pipeline),
        "gold_rows": gold_rows,
        "answers": answers,
        "held_out_rows": held_out_rows,
        "chain": lambda text: "billing",
    }
    block = next(b for b in blocks() if "ModelRegistry" in b)
    # The chain is a plain function here, so the router is told what a local answer becomes.
    block = block.replace("large=chain)", "large=chain, to_output=lambda answer, _: answer['choice'])")
    exec(compile(block, "README.md", "exec"), names)
    assert names["registry"].gates()
    assert names["router"].invoke("has order 7 left the house") == "billing"  # in shadow


def test_the_agent_runs():
    pytest.importorskip("langchain.agents")
    from langchain_core.language_models import FakeListChatModel

    from langchain_dsplus import FakeSmallModel

    intents = FakeSmallModel(
        {"When?": {"opening hours": 0.99, "other": 0.01}, "Why?": {"opening hours": 0.5, "other": 0.5}}
    )
    names = {"intents": intents, "llm": FakeListChatModel(responses=["Because."])}
    exec(compile(next(b for b in blocks() if "create_agent" in b), "README.md", "exec"), names)

    def ask(text):
        return names["agent"].invoke({"messages": [("human", text)]})["messages"][-1].content

    assert [ask("When?"), ask("Why?")] == ["From 9 to 17.", "Because."]


def test_the_chat_models_can_be_made():
    pytest.importorskip("xllamacpp")
    from langchain_core.language_models import FakeListChatModel

    names = {"llm": FakeListChatModel(responses=["x"])}
    exec(compile(next(b for b in blocks() if "ChatDSPlus" in b), "README.md", "exec"), names)
    assert names["chat"].router.small_names
