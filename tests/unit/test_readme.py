"""What the README shows runs as it is printed; its first program stands in `tests/integration/test_readme_llm.py`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import langchain_dsplus

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
TEAMS = ["account", "billing", "shipping"]


def block(words: str) -> str:
    (found,) = [b for b in BLOCKS if words in b]
    return found


def run(words: str, names: dict[str, object]) -> dict[str, object]:
    exec(compile(block(words), "README.md", "exec"), names)
    return names


def small():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rows = [(f"{word} number {n}", team) for team, word in MAILS.items() for n in range(20)]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=100))
    pipeline.fit([text for text, _ in rows], [team for _, team in rows])
    return langchain_dsplus.SklearnClassifier(pipeline, input_key="text")


MAILS = {"account": "my password", "billing": "a wrong bill", "shipping": "where is the parcel"}


def parts() -> dict[str, object]:
    """What the first program leaves behind, with parts that need no weights."""
    pytest.importorskip("sklearn")
    from langchain_core.language_models import FakeListChatModel

    from langchain_dsplus import ConfidenceRouter, LabelParser, PromptPruner

    chosen, llm = small(), FakeListChatModel(responses=["billing"])
    prompt = PromptPruner.from_messages([("human", "{text}")], labels=chosen.labels)
    chain = prompt | llm | LabelParser(chosen.labels)
    router = ConfidenceRouter(small=chosen, large=chain, threshold=0.6, include_route=True)
    return {"ConfidenceRouter": ConfidenceRouter, "small": chosen, "llm": llm, "chain": chain, "router": router}


def test_the_readme_is_short_and_begins_with_a_program() -> None:
    assert len(TEXT.splitlines()) <= 150
    assert "register_packages()" in BLOCKS[0]
    assert "print(" in BLOCKS[0]


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_the_names_at_the_top_are_all_named() -> None:
    table = TEXT[TEXT.index("| at the top") :].partition("\n\n")[0]
    named = re.findall(r"`(\w+)`", table)
    assert len(named) == len(set(named))
    assert {*named, "__version__"} == set(dir(langchain_dsplus))


def test_the_loop_as_one_object(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    names = run("DataShunt(", parts())
    names["shunt"].close()
    assert names["shunt"].terms.labels == names["small"].labels
    assert "Everything goes to the large model" in capsys.readouterr().out


def test_the_five_steps(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = parts()
    rows = [({"text": f"{word} of {n}"}, team) for team, word in MAILS.items() for n in range(20)]
    names |= {"gold_rows": rows[::2], "answers": rows[1::2]}
    first, *rest = re.split(r"(?<=# 1 shadow\n)", block("# 1 shadow"))
    exec(compile(first, "README.md", "exec"), names)
    with names["shadow"] as shadow:
        assert shadow.batch([row for row, _ in rows]) == ["billing"] * len(rows)
    exec(compile("".join(rest), "README.md", "exec"), names)
    assert names["certificate"].status == "NOT_CERTIFIED"
    assert names["certificate"].n == len(rows)
    assert names["live"].invoke({"text": "my password"}) == "billing"  # nothing is certified: the chain
    assert names["better"].labels == names["small"].labels


def test_the_graph(capsys) -> None:
    names = run("add_node", parts())
    assert names["graph"].compile().invoke({"text": "where is the parcel"})["team"] == "shipping"
    assert "My parcel is lost" in capsys.readouterr().out


def test_the_agent(capsys) -> None:
    pytest.importorskip("langchain.agents")
    run("create_agent", parts())
    assert "example.com/track" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["add_node", "create_agent"])
def test_a_graph_and_an_agent_take_eight_lines(words: str) -> None:
    assert len([line for line in block(words).splitlines() if line]) <= 8
