import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from langchain_dsplus.learning.distiller import Distiller
from langchain_dsplus.learning.students import DistillableModel
from langchain_dsplus.learning.two_stage import TwoStageConfidenceDistillation
from langchain_dsplus.small_models.transformers import TransformersClassifier

WORDS = {"neg": ["awful", "broken", "dull"], "pos": ["lovely", "quick", "solid"]}
LABELS = list(WORDS)


pytestmark = pytest.mark.usefixtures("one_thread")


def rows(n, seed):
    rng = np.random.default_rng(seed)
    labels = [LABELS[i] for i in rng.integers(0, 2, n)]
    return [f"the box is {WORDS[label][rng.integers(3)]}" for label in labels], labels


@pytest.fixture(scope="module")
def small(one_thread):
    words = ["[PAD]", "[UNK]", "the", "box", "is", *WORDS["neg"], *WORDS["pos"]]
    body = Tokenizer(WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    body.pre_tokenizer = Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=body, pad_token="[PAD]", unk_token="[UNK]")
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    torch.manual_seed(0)
    net = transformers.BertForSequenceClassification(config)
    made = TransformersClassifier(net, LABELS, tokenizer=tokenizer, device="cpu", batch_size=16)
    return made.fit(*rows(20, 0), epochs=1, lr=1e-3)


def accuracy(model):
    texts, labels = rows(100, 9)
    return np.mean([a["choice"] == label for a, label in zip(model.batch(texts), labels, strict=True)])


def test_two_stages_resume_from_a_checkpoint(small, tmp_path):
    assert isinstance(small, DistillableModel)
    texts, labels = rows(80, 1)
    sure = float(np.median(small.predict_proba(texts).max(axis=1)))
    options = {"small_threshold": sure, "large_threshold": 0.6, "lr": 1e-2}
    version = small.version
    whole = TwoStageConfidenceDistillation(small, rounds=4, **options).distil(texts, labels)
    TwoStageConfidenceDistillation(small, rounds=2, checkpoint=tmp_path, **options).distil(texts, labels)
    resumed = TwoStageConfidenceDistillation(small, rounds=4, checkpoint=tmp_path, **options).distil(texts, labels)
    assert small.version == version
    assert whole.x1
    assert not np.allclose(whole.model.predict_proba(texts), small.predict_proba(texts), atol=1e-3)
    np.testing.assert_allclose(resumed.model.predict_proba(texts), whole.model.predict_proba(texts), atol=1e-5)
    np.testing.assert_allclose(resumed.losses, whole.losses, atol=1e-5)


def test_the_distiller_trains_and_calibrates(small):
    gold, large = rows(120, 2), rows(80, 3)
    version = small.version
    result = Distiller(small, epochs=6, lr=3e-3).distil(
        list(zip(*gold, strict=True)), list(zip(*large, strict=True)), unlabeled=rows(30, 4)[0]
    )
    assert small.version == version
    assert accuracy(result.model) > 0.95
    assert result.n_calibration == 24
    assert result.model.temperature == pytest.approx(result.temperature)
