import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_dsplus._json import load_json

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_what_is_json_is_read_as_ever(value):
    text = json.dumps(value)
    assert load_json(text) == json.loads(text)
    assert load_json(text.encode()) == value


@pytest.mark.parametrize("wrap", ["{}", "[{}]", '{{"a": {{"b": [0, {}]}}}}'])
@pytest.mark.parametrize(
    "bad",
    ["NaN", "Infinity", "-Infinity", "1e999", "-1e400", "9" * 400, "-" + "9" * 400, "1" * 5000]
    + [mark * 100_000 for mark in ("[", '{"a":')]
    + ["[" * depth + "]" * depth for depth in (250, 900, 5000)]
    + ['{"a":' * depth + "1" + "}" * depth for depth in (250, 900)]
    + ["", "{", "secret"],
)
def test_the_rest_is_a_value_error(bad, wrap):
    text = wrap.format(bad)
    if wrap == "[{}]" and not bad:
        return
    with pytest.raises(ValueError, match=r".") as found:
        load_json(text)
    assert "secret" not in str(found.value)


def test_what_is_wide_is_not_deep():
    value = [[{"a": [number]}] for number in range(5000)]
    assert load_json(json.dumps(value)) == value
    assert math.isclose(load_json("1" + "0" * 308), 1e308)
    with pytest.raises(ValueError, match="UTF-8"):
        load_json(b'{"a": "\xff"}')
