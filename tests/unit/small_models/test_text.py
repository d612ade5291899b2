"""A torch module that reads token ids: trained, saved, routed, distilled; a TextCNN takes a few lines."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

from langchain_dsplus.learning.two_stage import TwoStageConfidenceDistillation
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.small_models.base import UNVERIFIABLE
from langchain_dsplus.small_models.text import TorchTextClassifier

WORDS = ["[UNK]", "good", "bad", "fine", "poor", "the", "phone", "film", "was", "really"]
TEXTS = [f"the {thing} was {word}" for thing in ("phone", "film") for word in ("good", "fine", "bad", "poor")] * 6
TARGETS = ["negative" if text.endswith(("bad", "poor")) else "positive" for text in TEXTS]


class TextCNN(nn.Module):
    def __init__(self, words: int, classes: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(words + 1, 12, padding_idx=0)
        self.convolution = nn.Conv1d(12, 16, 3, padding=1)
        self.head = nn.Linear(16, classes)

    def forward(self, ids):
        return self.head(self.convolution(self.vectors(ids).transpose(1, 2)).relu().amax(2))


def tokenizer(*extra: str) -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate([*WORDS, *extra])}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def by_first_letter(text: str) -> list[int]:
    return [ord(word[0]) % 10 for word in text.split()]


def build() -> nn.Module:
    torch.manual_seed(0)
    return TextCNN(len(WORDS), 2)


def untrained(**options):
    options = {"tokenizer": tokenizer(), **options}
    return TorchTextClassifier(build(), ["negative", "positive"], device="cpu", **options)


@pytest.fixture(scope="module")
def small():
    return untrained().fit(TEXTS, TARGETS, epochs=40, lr=0.03)


async def test_it_learns_and_routes(small, way) -> None:
    assert small.predict_proba(["the film was good", "the film was poor"]).argmax(1).tolist() == [1, 0]
    router = ConfidenceRouter(
        small=small, large=lambda _: "positive", threshold=0.6, to_output=lambda a, _: a["choice"]
    )
    out = router.invoke("the phone was bad") if way == "sync" else await router.ainvoke("the phone was bad")
    assert out == "negative"


@pytest.fixture(params=["sync", "async"])
def way(request) -> str:
    return request.param


def test_it_is_the_same_after_saving(small, tmp_path) -> None:
    small.save(tmp_path / "m")
    again = TorchTextClassifier.load(tmp_path / "m", build=build, tokenizer=tokenizer(), device="cpu")
    assert again.version == small.version
    assert again.predict_proba(TEXTS[:4]).tolist() == small.predict_proba(TEXTS[:4]).tolist()
    with pytest.raises(ValueError, match="pass `build="):
        TorchTextClassifier.load(tmp_path / "m", tokenizer=tokenizer())
    with pytest.raises(ValueError, match="`tokenizer` is not the one"):
        TorchTextClassifier.load(tmp_path / "m", build=build, tokenizer=tokenizer("more"), device="cpu")
    with pytest.raises(ValueError, match="`build` makes another module"):
        TorchTextClassifier.load(tmp_path / "m", build=lambda: TextCNN(20, 2), tokenizer=tokenizer(), device="cpu")


def test_its_version_knows_weights_code_and_tokenizer(small) -> None:
    assert untrained().version == untrained().version != small.version
    assert untrained(tokenizer=tokenizer("more")).version != untrained().version
    assert untrained(max_tokens=3).version != untrained().version
    assert untrained(tokenizer=by_first_letter).version not in {UNVERIFIABLE, untrained().version}
    shift = 3
    assert untrained(tokenizer=lambda text: [shift for _ in text.split()]).version == UNVERIFIABLE


def test_long_and_empty_texts(small) -> None:
    found = small.predict_proba(["", "good " * 10_000])
    assert found.shape == (2, 2)
    assert untrained(max_tokens=2).predict_proba(["good good bad"]) == pytest.approx(
        untrained(max_tokens=2).predict_proba(["good good"])
    )


def test_two_stage_distillation_trains_it() -> None:
    before = untrained()
    teacher = [{"positive": 1.0 - (t == "negative"), "negative": float(t == "negative")} for t in TARGETS]
    result = TwoStageConfidenceDistillation(before, threshold=0.9, rounds=20, lr=0.01).distil(TEXTS, teacher)
    assert result.model.version != before.version
    assert result.model.predict_proba(["the film was good", "the film was poor"]).argmax(1).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"model": "no module"}, TypeError, "`model` must be a torch module"),
        ({"tokenizer": 3}, TypeError, "`tokenizer` must be"),
        ({"labels": ["one"]}, ValueError, "at least two labels"),
    ],
)
def test_what_does_not_fit(arguments, error, match) -> None:
    arguments = {"model": build(), "labels": ["a", "b"], "tokenizer": tokenizer(), **arguments}
    with pytest.raises(error, match=match):
        TorchTextClassifier(**arguments)
