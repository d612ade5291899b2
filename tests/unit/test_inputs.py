"""Inputs as keyed hashes."""

from __future__ import annotations

import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langchain_core.prompt_values import ChatPromptValue

from langchain_dsplus._inputs import Seen, canonical, feed_inputs, hash_input, hash_of, new_key, read_key
from langchain_dsplus.outcomes.uses import FOLDER, folder_key

KEY = b"a key that is long enough"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(VALUES)
def test_equal_inputs_have_one_hash(value):
    again = dict(reversed(list(value.items()))) if isinstance(value, dict) else value
    assert hash_input(value, KEY) == hash_input(again, KEY) is not None
    assert hash_input(value, new_key()) != hash_input(value, KEY)


@given(
    st.lists(st.text(alphabet="abcäß", min_size=1), min_size=1), st.sampled_from([" ", "\n", "\r\n", "\t ", "\u00a0"])
)
def test_white_space_and_composition_do_not_count(words, blank):
    decomposed = blank.join(words).replace("ä", "a\u0308")
    assert canonical(f" {decomposed}{blank}") == canonical(" ".join(words))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "A"),
        ("1", 1),
        (True, 1),
        (None, "None"),
        (["a", "b"], ["a b"]),
        ({"a": "b"}, {"b": "a"}),
        (b"a", "a"),
        (np.zeros(3), np.zeros((3, 1))),
    ],
)
def test_different_inputs_differ(one, other):
    assert canonical(one) != canonical(other)


def test_kinds_of_inputs():
    message = HumanMessage("hello")
    assert canonical([message]) == canonical(ChatPromptValue(messages=[message]))
    assert canonical(np.float32(2)) == canonical(2)
    assert canonical(np.arange(4)) == canonical(np.arange(4)) is not None
    assert canonical(object()) is None
    assert canonical([object()]) is None


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(folder_key, [tmp_path] * 16))
    assert len(keys) == 1
    assert stat.S_IMODE((tmp_path / FOLDER / "key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["key"]
    assert folder_key(tmp_path / "other") not in keys


def test_a_key_that_is_none(tmp_path):
    folder_key(tmp_path)
    (tmp_path / FOLDER / "key").write_text("zz")
    with pytest.raises(ValueError, match="damaged"):
        folder_key(tmp_path)
    with pytest.raises(ValueError, match="at least 16") as error:
        read_key("secret")
    assert "secret" not in str(error.value).replace("secrets", "")
    with pytest.raises(TypeError, match="`key`"):
        read_key(12)  # type: ignore[arg-type]


def test_seen():
    seen = Seen().add([canonical("a"), canonical("b")])
    assert [seen.has(canonical(text)) for text in ("a", "c")] == [True, False]
    assert seen.has(None) is None
    assert seen.add([None]).has(canonical("c")) is None  # it may be the one that could not be seen into
    assert Seen.from_dict(seen.to_dict(), "x") == seen
    assert all(len(item) == 16 for item in seen.hashes)
    assert "a" not in seen.hashes


@pytest.mark.parametrize(
    "body", [3, {}, {"key": "00" * 32, "hidden": 0, "hashes": "ab"}, {"key": "x", "hidden": 0, "hashes": []}]
)
def test_seen_that_is_damaged(body):
    with pytest.raises(ValueError, match=r"model\.json is damaged"):
        Seen.from_dict(body, "model.json")


def test_a_name_for_an_input_is_exact_and_lasts():
    """Files of replies that are there carry it."""
    assert hash_of({"b": 1, "a": "é"}) == hash_of({"a": "é", "b": 1}) == "799d49d45db67c58d990c30f098c2001"
    assert hash_of("a b") != hash_of("a  b")


@given(st.lists(st.one_of(st.text(), st.integers(), st.none(), st.dictionaries(st.text(), st.text()))))
def test_inputs_are_fed_one_by_one(values):
    def digest(values):
        made = hashlib.sha256()
        feed_inputs(made, values)
        return made.hexdigest()

    assert digest(values) == digest([dict(reversed(v.items())) if isinstance(v, dict) else v for v in values])
    assert digest([*values, "x"]) != digest([*values, "y"]) != digest(values)
    assert digest([["a", "b"]]) != digest(["a", "b"]) != digest(["ab"])
    assert digest([object()]) == digest([object()])


@given(st.integers(0, 2**32 - 1), st.sampled_from(["alone", "in a dict", "in a list"]))
def test_two_arrays_that_print_alike_are_two_inputs(seed, where):
    rng = np.random.default_rng(seed)
    one = rng.random(rng.integers(1, 3000)).astype(np.float32)
    other = one.copy()
    place = rng.integers(len(one))
    other[place] = np.nextafter(other[place], np.float32(2))
    wrap = {
        "alone": lambda array: array,
        "in a dict": lambda array: {"v": array},
        "in a list": lambda array: [1, array],
    }
    assert hash_of(wrap[where](one)) != hash_of(wrap[where](other))
    assert hash_of(wrap[where](one)) == hash_of(wrap[where](one.copy()))
