"""The extractive summarizer: it chooses sentences of the text, and writes none."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_dsplus.fidelity.check import Fidelity
from langchain_dsplus.fidelity.sentences import split_sentences
from langchain_dsplus.prompts.extractive import ExtractiveSummarizer


def bag_of_words(texts):
    """A tiny encoder: hashed words, so that texts with common words are near."""
    rows = np.zeros((len(texts), 64))
    for row, text in zip(rows, texts, strict=True):
        for word in text.lower().split():
            row[int(hashlib.md5(word.strip(".,!?").encode()).hexdigest(), 16) % 64] += 1
    return rows


class WithEncode:
    def __init__(self):
        self.calls = []

    def encode(self, texts):
        self.calls.append(list(texts))
        return bag_of_words(texts)


TEXT = (
    "I am a patient man and I love my garden. The weather was nice. The weather was nice and the sun was shining. "
    "My neighbor Lena Moss let her dog dig up 14 of my roses. Gardens are good for the soul. She did not apologize. "
    "Everybody on our street loves flowers. So I kicked her dog. Some people have no manners, I always say."
)


def test_sentences_are_chosen_not_written_and_the_acts_stay():
    summarizer = ExtractiveSummarizer(bag_of_words, ratio=0.3)
    sentences = summarizer.choose(TEXT)
    whole = split_sentences(TEXT)
    assert [s for s in whole if s in sentences] == sentences
    assert "So I kicked her dog." in sentences
    assert any("14 of my roses" in s for s in sentences)
    assert len(sentences) < len(whole)
    assert summarizer.invoke(TEXT) == " ".join(sentences)
    assert Fidelity().extractive()(TEXT, summarizer.invoke(TEXT))["faithful"]


def test_the_question_decides_what_is_relevant():
    text = "The red car came from the left. A green boat lay in the harbor. Birds sang. Clouds passed by slowly."
    summarizer = ExtractiveSummarizer(bag_of_words, ratio=0.25, fidelity=None)
    assert summarizer.choose(text, "Where was the green boat?") == ["A green boat lay in the harbor."]
    assert summarizer.choose(text, "Where did the red car come from?") == ["The red car came from the left."]


def test_redundant_sentences_are_left_out():
    text = "The red car hit the fence. The red car hit the fence hard. Rain fell on the old roof. Rain fell."
    chosen = ExtractiveSummarizer(bag_of_words, ratio=0.6, diversity=0.8, fidelity=None).choose(text, "red car fence")
    assert sum("red car" in s for s in chosen) == 1
    twice = ExtractiveSummarizer(bag_of_words, ratio=1.0).choose("He left at 9. He left at 9. She cried.")
    assert twice == ["He left at 9.", "She cried."]


def test_chinese():
    text = "今天天气很好。邻居把垃圾放在我家门口。大家都喜欢干净。我打了他一拳。做人要讲道理。"
    summary = ExtractiveSummarizer(bag_of_words, ratio=0.3).invoke(text)
    assert "我打了他一拳。" in summary
    assert "邻居把垃圾放在我家门口。" in summary
    assert all(s in text for s in split_sentences(summary))
    assert " " not in summary


@pytest.mark.parametrize("async_", [False, True])
async def test_an_object_with_encode_is_called_once_for_each_text(async_):
    encoder = WithEncode()
    summarizer = ExtractiveSummarizer(encoder)
    result = await summarizer.ainvoke(TEXT) if async_ else summarizer.invoke(TEXT)
    assert result
    assert len(encoder.calls) == 1
    assert len(encoder.calls[0]) == len(split_sentences(TEXT)) + 1


def test_short_texts_need_no_encoder():
    encoder = WithEncode()
    summarizer = ExtractiveSummarizer(encoder)
    assert summarizer.invoke("One sentence only.") == "One sentence only."
    assert summarizer.invoke("") == ""
    assert encoder.calls == []
    summarizer.warmup()
    assert len(encoder.calls) == 1


def test_bad_arguments():
    with pytest.raises(TypeError, match="encode"):
        ExtractiveSummarizer(3)
    with pytest.raises(ValueError, match="ratio"):
        ExtractiveSummarizer(bag_of_words, ratio=0)
    with pytest.raises(ValueError, match="shape"):
        ExtractiveSummarizer(lambda texts: np.zeros((1, 3))).invoke(TEXT)
    with pytest.raises(ValueError, match="finite"):
        ExtractiveSummarizer(lambda texts: np.full((len(texts), 3), np.nan)).invoke(TEXT)
    with pytest.raises(TypeError, match="int"):
        ExtractiveSummarizer(bag_of_words).invoke(3)


def test_an_encoder_that_knows_nothing_does_no_harm():
    summary = ExtractiveSummarizer(lambda texts: np.zeros((len(texts), 3))).invoke(TEXT)
    assert Fidelity().extractive()(TEXT, summary)["faithful"]


PARTS = st.sampled_from(
    [
        "I hit him.",
        "He did not pay 20 dollars.",
        "The sun was shining.",
        "他骂了我。",
        "我没有还钱！",
        "We met Ada Lund.",
        "\n",
        "Well…",
    ]
)


@given(st.one_of(st.lists(PARTS, max_size=12).map(" ".join), st.text(max_size=200)))
@settings(max_examples=80, deadline=None)
def test_every_summary_is_verbatim_and_keeps_what_must_be_kept(text):
    sentences = ExtractiveSummarizer(bag_of_words, ratio=0.3).choose(text)
    assert all(s in text for s in sentences)
    check = Fidelity(must_keep=("numbers",), max_ratio=2.0).extractive()
    summary = ExtractiveSummarizer(bag_of_words, ratio=0.3).summarize(text)
    assert not {r.partition(":")[0] for r in check(text, summary)["reasons"]} & {"number_missing"}
