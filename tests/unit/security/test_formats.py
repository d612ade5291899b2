"""What another version wrote is refused by name, by everything that reads what something else saved."""

from __future__ import annotations

import ast
import importlib
import json
from pathlib import Path

import pytest

import langchain_dsplus
from langchain_dsplus import Outcomes, certify
from langchain_dsplus.monitoring import AuditMonitor, BudgetPacer
from langchain_dsplus.prompts import ConformalCandidates
from langchain_dsplus.threshold.certificate import Certificate

ROOT = Path(langchain_dsplus.__file__).parent
UNKNOWN = [0, 99, "1", None, [1], True, 1.5]
TYPES = (ValueError, RuntimeError)


def saved_kinds():
    """Every public class with both `save` and `load`, but abstract bases."""
    found = []
    for file in sorted(ROOT.rglob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            own = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
            bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
            inherits = bases & {"_Predicted", "FittedScore", "Ready", "_Ready"}
            if {"save", "load"} <= own or ("_made" in own and inherits):
                found.append(f"{'.'.join(file.relative_to(ROOT.parent).with_suffix('').parts)}:{node.name}")
    return found


KINDS = [name for name in saved_kinds() if not name.endswith((":SmallModel", ":ReadyScore", ":Student", ":NLIModel"))]


def load(name, folder):
    module, _, kind = name.partition(":")
    cls = getattr(importlib.import_module(module), kind)
    while True:
        try:
            return cls.load(folder)
        except ValueError as error:
            *_, missing, _, _ = str(error).split(" ") if "is missing" in str(error) else ("", "", "")
            if not missing or (folder / missing).exists():
                raise
            (folder / missing).write_bytes(b"x")


@pytest.mark.parametrize("name", [name for name in KINDS if not name.endswith(":ConformalCandidates")])
@pytest.mark.parametrize("format_", UNKNOWN, ids=repr)
def test_a_folder_of_another_format(tmp_path, name, format_):
    """The format is looked at before anything else of the folder is believed."""
    (tmp_path / "model.json").write_text(json.dumps({"kind": name.partition(":")[2], "format": format_, "sha256": ""}))
    with pytest.raises(ValueError, match="format"):
        load(name, tmp_path)


def test_all_kinds_are_seen():
    shown = {name.partition(":")[2] for name in KINDS}
    assert {
        "SklearnClassifier",
        "SentenceClassifier",
        "ImageClassifier",
        "TransformersClassifier",
        "ConformalCandidates",
    } <= shown


# --- files, each as it was really written ------------------------------------------------------------------------------


def table(n=400):
    rows = [{"id": str(i), "small": "a", "confidence": 0.5 + i / 1000, "large": "a", "gold": "a"} for i in range(n)]
    return Outcomes.from_records(rows, about={"score": "max_probability", "labels": ["a", "b"]})


def a_certificate(folder):
    certify(table(), max_loss=0.05).to_json(folder / "c.json")
    return lambda: Certificate.from_json(folder / "c.json")


def a_budget(folder):
    path = folder / "budget.json"
    BudgetPacer(per_day=10, path=path).save()
    return lambda: BudgetPacer(per_day=10, path=path)


def a_monitor(folder):
    certificate = certify(table(), max_loss=0.05)
    (folder / "monitor.json").write_text(json.dumps(AuditMonitor(certificate).to_dict()), encoding="utf-8")
    return lambda: AuditMonitor(certificate, path=folder / "monitor.json")


def candidates(folder):
    rows = [
        {
            "id": str(i),
            "small": "a",
            "confidence": 0.9,
            "large": "a",
            "gold": "a",
            "probabilities": {"a": 0.9, "b": 0.1},
        }
        for i in range(200)
    ]
    made = ConformalCandidates.fit(
        Outcomes.from_records(rows, about={"score": "max_probability", "labels": ["a", "b"]}), alpha=0.1
    )
    made.save(folder / "candidates.json")
    return lambda: ConformalCandidates.load(folder / "candidates.json")


def a_router(folder):
    from langchain_core.language_models import FakeListChatModel

    from langchain_dsplus import ConfidenceRouter, PromptPruner, SklearnClassifier, load_router, save_router

    small = a_classifier()
    large = PromptPruner.from_messages([("human", "{text}")], labels=small.labels)
    router = ConfidenceRouter(small=small, large=large | FakeListChatModel(responses=["a"]), threshold=0.9)
    save_router(router, folder / "router")
    assert isinstance(small, SklearnClassifier)
    return lambda: load_router(folder / "router", large=router.large)


def a_classifier():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from langchain_dsplus import SklearnClassifier

    fitted = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["x one", "y two"] * 4, ["a", "b"] * 4)
    return SklearnClassifier(fitted, input_key="text")


def a_model(folder):
    from langchain_dsplus import SklearnClassifier

    a_classifier().save(folder / "model")
    return lambda: SklearnClassifier.load(folder / "model")


def a_registry(folder):
    from langchain_dsplus import ModelRegistry

    ModelRegistry(folder / "registry").start(a_classifier(), trained_on=[])
    return lambda: ModelRegistry(folder / "registry").load()


def a_shunt(folder):
    from langchain_core.runnables import RunnableLambda

    from langchain_dsplus import DataShunt

    def make():
        chain = RunnableLambda(lambda _: "a").with_types(output_type=str)
        return DataShunt(chain, ["a", "b"], folder / "shunt", "5 points", version="1", background=False)

    make().status()
    return lambda: make().status()


MAKERS = [a_certificate, a_budget, a_monitor, candidates, a_router, a_model, a_registry, a_shunt]


@pytest.mark.parametrize("maker", MAKERS, ids=lambda made: made.__name__)
def test_what_was_written_by_another_version_is_refused(tmp_path, maker):
    read = maker(tmp_path)
    read()
    with_format = []
    for file in sorted(tmp_path.rglob("*.json")):
        text = file.read_text(encoding="utf-8")
        first, _, rest = text.partition("\n")
        try:
            body, rest = json.loads(text), ""
        except ValueError:
            body = json.loads(first)
        if not isinstance(body, dict) or "format" not in body:
            continue
        with_format.append(file.name)
        for format_ in UNKNOWN:
            if format_ is True:
                continue
            file.write_text(json.dumps({**body, "format": format_}) + "\n" + rest, encoding="utf-8")
            with pytest.raises(TYPES, match=r"format|damaged|changed|no state|remove"):
                read()
        file.write_text(text, encoding="utf-8")
        read()
    assert with_format


def test_a_parquet_table_of_another_format(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table(3).to_parquet(tmp_path / "t.parquet")
    found = pq.read_table(tmp_path / "t.parquet")
    mark = json.loads(found.schema.metadata[b"langchain_dsplus"])
    for format_ in UNKNOWN:
        if format_ is True:
            continue
        told = found.replace_schema_metadata({b"langchain_dsplus": json.dumps({**mark, "format": format_}).encode()})
        pq.write_table(told, tmp_path / "u.parquet")
        with pytest.raises(ValueError, match="format"):
            Outcomes.from_parquet(tmp_path / "u.parquet")
    assert isinstance(found, pa.Table)
