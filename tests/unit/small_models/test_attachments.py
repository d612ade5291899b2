"""An image, a file or audio beside a text is not a text model's to answer, in whichever form and place it comes."""

import asyncio
import io
from collections import namedtuple
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.documents.base import Blob
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompt_values import ChatPromptValue
from langchain_core.runnables import RunnableLambda
from PIL import Image
from pydantic import BaseModel, ConfigDict
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from langchain_dsplus import ConfidenceRouter, FakeSmallModel, SklearnClassifier
from langchain_dsplus.answer import AttachmentError, InputError
from langchain_dsplus.small_models.attachments import find_attachment


class Upload(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    name: str
    body: Any


@dataclass
class Scan:
    body: Any


@dataclass(slots=True)
class Slotted:
    parts: list[Any]


URL = "data:image/png;base64,AAAA"
BLOCKS = [
    {"type": "image_url", "image_url": {"url": URL}},
    {"type": "image", "url": "https://example.org/cat.png"},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
    {"type": "input_image", "image_url": URL},
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    {"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"},
    {"type": "file", "file": {"file_id": "f-1"}},
    {"type": "input_file", "file_id": "f-1"},
    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}},
    {"type": "video", "url": "https://example.org/cat.mp4"},
    {"type": "media", "mime_type": "application/pdf", "data": "AAAA"},
    {"type": "text-plain", "text": "a file's text"},
    {"type": "something_new", "data": 3},
    {"image": {"format": "png", "source": {"bytes": b"x"}}},
]
VALUES = [
    b"%PDF-1.7",
    bytearray(b"x"),
    memoryview(b"x"),
    Image.new("RGB", (2, 2)),
    np.zeros((2, 2)),
    Path("scan.pdf"),
    io.BytesIO(b"x"),
    Blob.from_data(b"x"),
    URL,
    {"type": "image_url", "image_url": {"url": URL}},
    [b"x"],
    {"deep": [{"er": (b"x",)}]},
    {"mime_type": "image/png", "data": "AAAA"},
    {"name": "scan.pdf", "mimeType": "application/pdf", "url": "https://example.org/scan.pdf"},
    Document("easy", metadata={"page": b"x"}),
    Upload(name="scan", body=Blob.from_data(b"x")),
    Scan(b"x"),
    Slotted([Scan(b"x")]),
]
MORE = [
    HumanMessage("easy", additional_kwargs={"attachments": [{"mime_type": "image/png", "data": "AAAA"}]}),
    HumanMessage("easy", additional_kwargs={"image": b"x"}),
    AIMessage("easy", additional_kwargs={"audio": {"id": "a", "data": "AAAA"}}),
]
TEXT = {"type": "text", "text": "easy"}
MESSAGES = [
    lambda block: [HumanMessage([TEXT, block])],
    lambda block: HumanMessage([block, TEXT]),
    lambda block: [HumanMessage([TEXT, block]), AIMessage("Fine."), HumanMessage("easy")],
    lambda block: [SystemMessage([TEXT, block]), HumanMessage("easy")],
    lambda block: [ToolMessage([TEXT, block], tool_call_id="1"), HumanMessage("easy")],
    lambda block: [("human", [TEXT, block])],
    lambda block: [{"role": "user", "content": [TEXT, block]}, ("human", "easy")],
    lambda block: ChatPromptValue(messages=[HumanMessage([TEXT, block])]),
]
DICTS = [
    lambda value: {"text": "easy", "other": value},
    lambda value: {"other": value, "text": "easy", "n": 3, "none": None},
]
PLAIN = [
    "easy",
    HumanMessage("easy"),
    [HumanMessage([TEXT])],
    [
        AIMessage(
            [{"type": "reasoning", "reasoning": "hm"}, {"type": "tool_use", "id": "1", "name": "f", "input": {}}]
        ),
        ("human", "easy"),
    ],
    {"text": "easy", "n": 3, "x": None, "y": [1, 2.5], "z": {"type": "number"}, "w": np.float32(3)},
    ("human", "easy"),
    {"text": "easy", "customer": Upload(name="n", body=3), "scan": Scan(None), "due": date(2026, 1, 1)},
    {"text": "easy", "mime_type": 7, "part": {"media_type": "application/pdf"}},
    HumanMessage("easy", additional_kwargs={"name": "n", "refusal": None}),
]


def router(keyed=False, **more):
    small = FakeSmallModel({"easy": {"a": 0.99, "b": 0.01}}, ["a", "b"], input_key="text" if keyed else None, **more)
    return ConfidenceRouter(
        small=small,
        large=RunnableLambda(lambda _: "LARGE").with_types(output_type=str),
        threshold=0.9,
        include_route=True,
    )


def ask(made, value, is_async):
    return asyncio.run(made.ainvoke(value)) if is_async else made.invoke(value)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("form", range(len(MESSAGES)))
@pytest.mark.parametrize("block", range(len(BLOCKS)))
def test_a_message_with_an_attachment_escalates(block, form, is_async):
    value = MESSAGES[form](BLOCKS[block])
    got = ask(router(), value, is_async)
    assert got["output"] == "LARGE"
    assert got["route"]["reason"] == "error"
    assert got["route"]["error"].startswith("AttachmentError: the input has an attachment")
    if not isinstance(value, list) or form in (0, 5):
        got = ask(router(ignore_attachments=True), value, is_async)
        assert (got["output"], got["route"]["reason"]) == ("a", "confident")


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("form", range(len(DICTS)))
@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_a_dict_with_an_attachment_escalates(value, form, keyed):
    made = DICTS[form](value)
    assert router(keyed).invoke(made)["route"]["reason"] == "error"
    if keyed:
        assert router(keyed, ignore_attachments=True).invoke(made)["output"] == "a"


@pytest.mark.parametrize("value", MORE, ids=range(len(MORE)))
@pytest.mark.parametrize("form", [lambda m: m, lambda m: [m], lambda m: [m, HumanMessage("easy")]])
def test_what_a_message_carries_beside_its_content_counts(value, form):
    assert router().invoke(form(value))["output"] == "LARGE"


@pytest.mark.parametrize("value", PLAIN, ids=range(len(PLAIN)))
def test_what_is_only_text_is_answered(value):
    assert find_attachment(value) is None
    if not isinstance(value, tuple):
        assert router().invoke(value)["output"] == "a"


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(alphabet="abc :,/"),
        lambda s: st.lists(s) | st.dictionaries(st.text("abc"), s),
        max_leaves=8,
    )
)
def test_plain_data_is_no_attachment_and_bytes_in_it_are_one(value):
    assert find_attachment(value) is None
    assert find_attachment({"a": value, "b": [value, b"x"]}) == "bytes"


def test_a_batch_escalates_only_what_must():
    got = router().batch(["easy", MESSAGES[0](BLOCKS[0]), "easy"])
    assert [one["output"] for one in got] == ["a", "LARGE", "a"]


Row = namedtuple("Row", "text amount")  # noqa: PYI024 - what `itertuples` makes
FRAME = pd.DataFrame({"text": ["easy", "hard"] * 20, "amount": [1.0, 900.0] * 20})
ROWS = {
    "series": lambda: FRAME.iloc[0],
    "named": lambda: next(FRAME.itertuples(index=False, name="Row")),
    "tuple": lambda: Row("easy", 1.0),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_a_table_is_not_answered_from_its_text_unless_the_column_is_named(row):
    assert router().invoke(ROWS[row]())["route"]["error"].startswith("InputError: the input is a row of a table")
    assert router(keyed=True).invoke(ROWS[row]())["output"] == "a"


def fitted(**more):
    columns = ColumnTransformer([("t", TfidfVectorizer(), "text"), ("n", StandardScaler(), ["amount"])])
    pipeline = make_pipeline(columns, LogisticRegression())
    return SklearnClassifier(pipeline.fit(FRAME, ["a", "b"] * 20), **more)


@pytest.mark.parametrize("row", [*ROWS, "dict", "list"])
def test_a_pipeline_that_wants_a_frame_gets_one(row):
    value = (
        {"dict": FRAME.iloc[0].to_dict(), "list": ["easy", 1.0]}.get(row) if row in ("dict", "list") else ROWS[row]()
    )
    wanted = fitted().estimator.predict_proba(FRAME.iloc[:1])[0]
    answer = fitted().invoke(value)
    assert answer["choice"] == "a"
    assert list(answer["probabilities"].values()) == pytest.approx(list(wanted))


def test_columns_that_lack_and_attachments_beside_them():
    with pytest.raises(InputError, match="amount"):
        fitted().invoke({"text": "easy"})
    with pytest.raises(AttachmentError, match="bytes"):
        fitted().invoke({"text": "easy", "amount": 1.0, "scan": b"x"})
    answers = fitted().answers(
        [{"text": "easy", "amount": 1.0}, {"text": "easy"}, {"text": "hard", "amount": 900.0, "x": 3}]
    )
    assert [a if isinstance(a, Exception) else a["choice"] for a in answers][::2] == ["a", "b"]
    assert isinstance(answers[1], InputError)
