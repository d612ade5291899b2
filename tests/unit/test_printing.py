"""`print(...)` of what is public says something that a person can read."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import random
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import Runnable, RunnableLambda

import langchain_dsplus
from langchain_dsplus import ConfidenceRouter, FakeSmallModel, LabelParser, Outcomes, PromptPruner, SmallModel

ROOT = Path(__file__).parents[2]
LONGEST = 2500
LABELS = ["billing", "shipping"]
SECRET = "the text of a user's mail"


def public() -> dict[str, Any]:
    """Every public name of the package and its folders."""
    spec = importlib.util.spec_from_file_location("docs_reference", ROOT / "scripts" / "docs_reference.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    found = {}
    for folder in reference.folders():
        module = importlib.import_module(f"langchain_dsplus.{folder}")
        for name in reference.public(folder):
            at_top = name in reference.at_the_top(folder)
            found[f"{folder}.{name}"] = getattr(langchain_dsplus if at_top else module, name)
    return found


def test_every_public_class_prints_itself() -> None:
    pytest.importorskip("langchain.agents")
    names = public()
    assert len(names) > 200
    silent = [
        name
        for name, value in names.items()
        if inspect.isclass(value)
        and not getattr(value, "_is_protocol", False)
        and value.__repr__ is object.__repr__
        and value.__str__ is object.__str__
    ]
    assert silent == [], "give them langchain_dsplus._shown.Shown, or a __repr__ of their own"


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("sklearn")
    pytest.importorskip("sqlalchemy")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from langchain_dsplus.threshold import plan_sample_size

    folder = tmp_path_factory.mktemp("printing")
    draw = random.Random(0)
    rows = [({"text": f"{label} {SECRET} {n}"}, label) for n in range(60) for label in LABELS]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
    pipeline.fit([row["text"] for row, _ in rows], [label for _, label in rows])
    small = langchain_dsplus.SklearnClassifier(pipeline, input_key="text")
    prompt = PromptPruner.from_messages([("human", "{text}")], labels=LABELS)
    chain = prompt | FakeListChatModel(responses=["billing"]) | LabelParser(LABELS)
    records = [
        {"id": str(n), "small": "billing", "confidence": draw.random(), "large": "billing", "gold": "billing"}
        for n in range(1500)
    ]
    outcomes = Outcomes.from_records(records, about={"score": "max_probability", "labels": LABELS})
    certificate = langchain_dsplus.certify(outcomes)
    registry = langchain_dsplus.ModelRegistry(folder / "models")
    registry.start(small, trained_on=rows)
    for number in range(8):
        registry.add(small, trained_on=rows[: number + 1], note=f"try {number}")
    shunt = langchain_dsplus.DataShunt(
        RunnableLambda(lambda row: "billing").with_types(output_type=str), LABELS, folder / "shunt", "2 points",
        small=small, gold=rows, version="1", background=False,
    )  # fmt: skip
    shunt.batch([row for row, _ in rows])
    work = shunt.work()
    status = shunt.status()
    shunt.close()
    return {
        "Outcomes": outcomes,
        "Certificate": certificate,
        "choose_threshold": langchain_dsplus.choose_threshold(outcomes),
        "plan_sample_size": plan_sample_size(0.01, 0.95),
        "SmallModel": small,
        "FakeSmallModel": FakeSmallModel({"x": {"billing": 1.0, "shipping": 0.0}}, LABELS),
        "ConfidenceRouter": ConfidenceRouter(small=small, large=chain, threshold=0.9),
        "certified router": ConfidenceRouter(small=small, large=chain, threshold=math_free(certificate)),
        "PromptPruner": prompt,
        "LabelParser": LabelParser(LABELS),
        "PromptTransfer": langchain_dsplus.PromptTransfer("extractive", input_key="text"),
        "Fidelity": langchain_dsplus.Fidelity(),
        "JSONLRecorder": langchain_dsplus.JSONLRecorder(folder / "routes.jsonl"),
        "TraceStore": shunt.store,
        "AuditMonitor": langchain_dsplus.AuditMonitor(certificate),
        "CostLedger": langchain_dsplus.CostLedger(),
        "Price": langchain_dsplus.Price(1.0, 2.0),
        "Distiller": langchain_dsplus.Distiller(small),
        "TwoStageConfidenceDistillation": langchain_dsplus.TwoStageConfidenceDistillation(small, threshold=0.9),
        "ModelRegistry": registry,
        "registry.status()": registry.status(),
        "LiveRouter": registry.router(large=chain),
        "DataShunt": shunt,
        "DataShunt.work()": work,
        "DataShunt.status()": status,
        "LocalDecisionModel": langchain_dsplus.LocalDecisionModel({"team": small}),
        **the_rest(small, chain, outcomes, folder),
    }


def the_rest(small: Any, chain: Any, outcomes: Any, folder: Path) -> dict[str, Any]:
    """One of every other public kind, and what every public function returns."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from langchain_core.decisions import Choice

    from langchain_dsplus.scores import PredictedCorrectness
    from langchain_dsplus.small_models.image import ImagePreprocess

    chat = FakeListChatModel(responses=["billing"])
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    team = langchain_dsplus.LocalDecisionModel({"team": small})
    which = Choice(instructions="Which team?", criteria=dict.fromkeys(LABELS))
    config = transformers.BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    words = folder / "vocab.txt"
    words.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n")
    bert = transformers.BertForSequenceClassification(config), transformers.BertTokenizer(str(words))
    text = {"text": f"billing {SECRET}"}
    cases = [{"id": str(n), "input": text, "gold": "billing"} for n in range(30)]
    router = ConfidenceRouter(small=small, large=chain, threshold=0.9, name="mails")
    kept = langchain_dsplus.save_router(router, folder / "router")
    image = ImagePreprocess(size=(8, 8), channels=1)
    said = {"version": "1", "progress": False}
    top = langchain_dsplus
    return {
        "Answer": small.invoke(text),
        "SentenceClassifier": top.SentenceClassifier("minilm", labels=LABELS, input_key="text"),
        "SklearnClassifier": small,
        "TransformersClassifier": top.TransformersClassifier(bert[0], LABELS, tokenizer=bert[1], device="cpu"),
        "ImageClassifier": top.ImageClassifier(net, LABELS, preprocess=image, device="cpu"),
        "ChatClassifier": top.ChatClassifier(chat, labels=LABELS),
        "ChatLocal": top.ChatLocal("qwen2.5-coder-0.5b", max_tokens=8),
        "ChatDSPlus": top.ChatDSPlus(models=[chat, chat], accept="agreement", peers=[chat]),
        "CascadeDecisionModel": top.CascadeDecisionModel(small={"team": small}, large=team),
        "DecisionSmallModel": top.DecisionSmallModel(team, which),
        "ConfidenceShuntMiddleware": top.ConfidenceShuntMiddleware(small, threshold=0.6, answers={"billing": SECRET}),
        "RouteScore": PredictedCorrectness(),
        "certify": top.certify(outcomes),
        "certify_transfer": top.certify_transfer(cases, plain=chain, transferred=chain, **said),
        "collect_outcomes": top.collect_outcomes(small, chain, cases, **said),
        "promotion": top.promotion(small, small, [(text, "billing")] * 30),
        "save_router": kept,
        "load_router": top.load_router(folder / "router", large=chain),
        "write_report": top.write_report(folder / "report.html", outcomes),
    }


GRAPHS = {"create_dispute_graph", "create_dsplus_graph"}
"""What they return is LangGraph's own, and prints as that does."""
SAME = {"collect_chat_outcomes"}
"""What it returns is there under another name."""


def test_every_public_name_is_printed_here(things: dict[str, Any]) -> None:
    names = {*langchain_dsplus.__all__, "ConfidenceShuntMiddleware"} - {"__version__"} - GRAPHS - SAME
    assert len(names) == 40
    assert names - things.keys() == set()


def test_what_prints_itself_names_its_kind(things: dict[str, Any]) -> None:
    for name in sorted(langchain_dsplus.__all__):
        kind = getattr(langchain_dsplus, name)
        if inspect.isclass(kind) and name in things and issubclass(kind, (SmallModel, ConfidenceRouter, Runnable)):
            assert type(things[name]).__name__ in str(things[name]), name


def math_free(certificate: Any) -> float:
    """Its threshold as a plain number: no router here is asked."""
    return float(certificate.threshold) if certificate.certified else 0.9


def test_what_people_print_is_short_and_says_what_it_is(things: dict[str, Any]) -> None:
    bad = {}
    for name, thing in things.items():
        text = str(thing)
        if not text.strip() or " object at 0x" in text or len(text) > LONGEST or SECRET in text:
            bad[name] = f"{len(text)} characters: {text[:150]}"
    assert bad == {}


def test_a_registry_says_what_is_live_and_what_to_do(things: dict[str, Any]) -> None:
    text = str(things["registry.status()"])
    assert text.startswith("Live: version 1")
    assert "nothing may stay local" in text
    assert "and 3 older versions" in text
    assert "Next: " in text


def test_what_something_was_made_with_shows_no_secret() -> None:
    from langchain_dsplus._shown import Shown

    class Reader(Shown):
        def __init__(self, url, limit=3, mark=None, rows=(), also="x", **more) -> None:
            self.url, self.limit, self._mark, self.rows, self.also = url, limit, mark, rows, also

    assert repr(Reader("https://me:word@host", 5, "m", [1, 2])) == "Reader(limit=5, mark='m', rows=2 of them)"
    assert repr(Reader("https://host", mark=str.upper)) == "Reader(url='https://host', mark=upper)"
    assert len(repr(Reader("x" * 500))) < 100
