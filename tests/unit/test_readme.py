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
