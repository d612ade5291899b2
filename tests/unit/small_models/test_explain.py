"""Why a small model was sure: terms of a linear head, nearest labelled rows of an encoder's, in the report too."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from langchain_dsplus import Outcomes, SentenceClassifier, SklearnClassifier
from langchain_dsplus.report import render_report

WORDS = {"card": ["card lost", "my card is gone", "card stolen"], "rate": ["exchange rate", "what rate today"]}
WORDS3 = {**WORDS, "pin": ["pin forgotten", "wrong pin again"]}


class Letters:
    """An encoder: counts of letters."""

    version = "letters"

    def encode(self, texts):
        return np.array([[text.count(letter) + 0.01 for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts])


def rows_of(words):
    return [(text, label) for label, texts in words.items() for text in texts]


@pytest.mark.parametrize("words", [WORDS, WORDS3])
def test_terms_add_up_to_the_odds(words):
    texts, labels = zip(*rows_of(words), strict=True)
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10)).fit(texts, labels)
    small = SklearnClassifier(pipeline)
    for label, said in words.items():
        for text in said:
            found = small.explain(text)
            assert found[0]["label"] == small.invoke(text)["choice"] == label
            assert [one["weight"] for one in found] == sorted((one["weight"] for one in found), reverse=True)
            assert all(one["weight"] > 0 and one["what"] in text for one in found)
    assert small.explain("my card rate")[0]["what"] in {"card", "rate", "my"}
    assert small.explain("nothing of that kind") == []


def test_what_has_no_terms_says_so():
    tree = make_pipeline(TfidfVectorizer(), DecisionTreeClassifier()).fit(["aa bb", "cc dd"], ["x", "y"])
    for estimator in (tree, DecisionTreeClassifier().fit([[0], [1]], ["x", "y"])):
        with pytest.raises(TypeError, match="linear head"):
            SklearnClassifier(estimator).explain("a b")


def test_nearest_labelled_rows(tmp_path):
    texts, labels = zip(*rows_of(WORDS3), strict=True)
    small = SentenceClassifier(Letters(), l2=0.1).fit(texts, labels)
    found = small.explain("my card is gone", k=2)
    assert (found[0]["what"], found[0]["label"], found[0]["weight"]) == ("my card is gone", "card", pytest.approx(1.0))
    assert len(found) == 2
    small.save(tmp_path)
    loaded = SentenceClassifier.load(tmp_path, encoder=Letters())  # texts are not saved
    with pytest.raises(ValueError, match="rows="):
        loaded.explain("my card")
    assert loaded.explain("my card is gone", rows=rows_of(WORDS3), k=2) == found
    assert "gone" not in "".join(file.read_text(errors="replace") for file in tmp_path.iterdir())


def test_the_report_shows_it_beside_lost_inputs():
    rows = [{"id": str(k), "small": "a", "confidence": 0.9 - k / 100, "large": "b", "gold": "b"} for k in range(5)]
    rows += [{"id": f"x{k}", "small": "a", "confidence": 0.5, "large": "a", "gold": "a"} for k in range(45)]
    inputs = {str(k): f"text {k}" for k in range(5)}

    def explain(text):
        if text == "text 3":
            raise ValueError
        return [{"what": f"<{text}>", "label": "a", "weight": 0.25}]

    table = Outcomes.from_records(rows)
    page = render_report(table, inputs=inputs, explain=explain)
    assert "why it was sure" in page
    assert "&lt;text 1&gt; (a, 0.25)" in page
    assert "<text 1>" not in page
    assert "text 3" in page
    assert "why it was sure" not in render_report(table, inputs=inputs)
    assert "why it was sure" not in render_report(table, explain=explain)  # no input text in the page unless asked for
