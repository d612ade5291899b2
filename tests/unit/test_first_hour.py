"""What a newcomer does wrong in the first hour: each error names the remedy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import (
    ConfidenceRouter,
    DataShunt,
    FakeSmallModel,
    LabelParser,
    PromptPruner,
    SentenceClassifier,
    SmallModel,
    weights,
)

CHAIN = RunnableLambda(lambda _: "a").with_types(output_type=str)
TEXT = "a secret text"


def small(**options: Any) -> FakeSmallModel:
    return FakeSmallModel({TEXT: {"a": 0.9, "b": 0.1}}, ["a", "b"], **options)


class Broken(SmallModel):
    def predict_proba(self, inputs: list[Any]) -> Any:
        return [{}[value] for value in inputs]


def wrong_provider_key(tmp_path: Path) -> Any:
    from rich.console import Console

    from langchain_dsplus.demo.answers import Answers
    from langchain_dsplus.demo.story import Large, look_at_log

    class AuthenticationError(Exception):
        pass

    def refuse(_: Any) -> Any:
        raise AuthenticationError(TEXT)

    rows = [{"id": str(n), "text": f"{TEXT} {n}", "gold": "positive"} for n in range(10)]
    answers = Answers(tmp_path / "answers.jsonl", RunnableLambda(refuse))
    large = Large(None, "gpt-x", None, "gpt-x", 1, local=False)
    return look_at_log(rows, answers, tmp_path, large, Console(quiet=True))


def no_gpu(_: Path) -> Any:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    from langchain_dsplus.small_models import TorchTextClassifier

    return TorchTextClassifier(torch.nn.Linear(1, 2), ["a", "b"], tokenizer=lambda _: [0], device="cuda")


def prompt(labels: list[str]) -> Any:
    return PromptPruner.from_messages([("human", "{text}")], labels=labels)


MISTAKES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "wrong key of the provider": (wrong_provider_key, ["AuthenticationError", "OPENAI_API_KEY"]),
    "wrong key of the input": (
        lambda _: small(input_key="text").invoke({"txt": TEXT}),
        ["no key 'text'", "`input_key=`"],
    ),
    "labels differ from the parser's": (
        lambda _: ConfidenceRouter(small=small(), large=CHAIN | LabelParser(["x", "y"]), threshold=0.5),
        ["share none", "LabelParser(small.labels)"],
    ),
    "labels differ from the prompt's": (
        lambda _: ConfidenceRouter(small=small(), large=prompt(["x", "y"]) | CHAIN, threshold=0.5),
        ["share none", "Give both the same labels"],
    ),
    "labels differ from the gold's": (
        lambda path: DataShunt(CHAIN, ["a", "b"], path / "shunt", gold=[(TEXT, "c")]),
        ["none of `labels`", "add them there"],
    ),
    "no network": (
        lambda _: weights.resolve("minilm"),
        ["dsplus models pull minilm", "DSPLUS_MINILM_PATH", "https://huggingface.co"],
    ),
    "a model of no such name": (
        lambda _: weights.resolve("minilmm"),
        ["minilm"],
    ),
    "no GPU": (no_gpu, ["torch sees no GPU", "leave `device` out"]),
    "a missing threshold": (
        lambda _: ConfidenceRouter(small=small(), large=CHAIN, threshold="high"),
        ["threshold"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_reads_as_a_remedy(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSPLUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DSPLUS_OFFLINE", "1")
    make, says = MISTAKES[name]
    with pytest.raises(Exception) as caught:
        make(tmp_path)
    message = str(caught.value)
    assert [word for word in says if word not in message] == [], message
    assert TEXT not in message


@pytest.mark.parametrize("extra", ["local", "sklearn", "openai", "store"])
def test_a_missing_extra_names_the_command(extra: str) -> None:
    from langchain_dsplus._imports import require

    with pytest.raises(ImportError) as caught:
        require("surely_not_installed", extra)
    message = str(caught.value)
    assert f"pip install 'langchain-dsplus[{extra}]'" in message
    assert ("--extra-index-url https://download.pytorch.org/whl/cpu" in message) == (extra == "local")


def test_a_key_error_inside_a_small_model_escalates_and_says_where_to_look(caplog: pytest.LogCaptureFixture) -> None:
    router = ConfidenceRouter(small=Broken(labels=["a", "b"]), large=CHAIN, threshold=0.5, include_route=True)
    result = router.invoke(TEXT)
    assert result["output"] == "a"
    assert result["route"]["error"] == "KeyError"
    assert "ask it alone" in caplog.text
    assert TEXT not in caplog.text
    with pytest.raises(KeyError):
        router.small.invoke(TEXT)


def test_labels_that_a_head_does_not_know(encoder_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name all of them in `labels=`"):
        SentenceClassifier(str(encoder_path), labels=["a", "b"]).fit(["x", "y"], ["a", "c"])


def test_a_python_that_is_too_old_is_told_so() -> None:
    code = "import sys; sys.version_info = (3, 10, 4, 'final', 0); import langchain_dsplus"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "needs Python 3.11 or newer, and this is 3.10" in done.stderr
