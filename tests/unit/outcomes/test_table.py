import csv
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.outcomes.likeness import bare


def row(place, **changes):
    return {"id": str(place), "small": "a", "confidence": 0.5 + place / 100, "large": "b", "gold": "a", **changes}


def table(*rows, **options):
    return Outcomes.from_records(rows or [row(1), row(2)], **options)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
floats = st.floats(allow_nan=False, allow_infinity=False)
records = st.lists(
    st.fixed_dictionaries(
        {
            "small": st.none() | texts,
            "confidence": st.none() | floats,
            "large": st.none() | texts,
            "gold": st.none() | texts.filter(bare),  # a blank is nothing
            "probabilities": st.none() | st.dictionaries(texts, floats, max_size=3),
            "tokens_input": st.none() | st.integers(0, 10**9),
            "latency_large": st.none() | floats,
            "large_ok": st.none() | st.booleans(),
            "group": st.none() | texts,
        }
    ),
    min_size=1,
    max_size=6,
).map(lambda rows: [{"id": str(place), **row} for place, row in enumerate(rows)])


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@given(rows=records)
def test_a_file_gives_back_the_same_rows_to_the_last_bit(tmp_path_factory, kind, rows):
    path = tmp_path_factory.mktemp("outcomes") / f"rows.{kind}"
    before = Outcomes.from_records(rows)
    assert before.to_records() == rows
    getattr(before, f"to_{kind}")(path)
    after = getattr(Outcomes, f"from_{kind}")(path)
    assert after.columns == before.columns
    for name in before.columns:
        assert after.values(name) == before.values(name), name


@pytest.mark.parametrize("value", [0.1 + 0.2, 5e-324, 1.7976931348623157e308, 1 - 2**-53, -0.0, 1e22])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_awkward_floats_survive(tmp_path, kind, value):
    path = tmp_path / "rows"
    getattr(table(row(1, confidence=value)), f"to_{kind}")(path)
    (back,) = getattr(Outcomes, f"from_{kind}")(path).values("confidence")
    assert math.copysign(1, back) == math.copysign(1, value)
    assert back == value


def test_awkward_texts_survive_csv(tmp_path):
    label = 'comma, "quotes"\r\nand\nlines 雪 {brace}'
    big = "x" * 300_000
    path = tmp_path / "rows.csv"
    table(row(1, small=label, gold=big)).to_csv(path)
    back = Outcomes.from_csv(path)
    assert back.values("small") == [label]
    assert back.values("gold") == [big]
    assert csv.field_size_limit() == 131_072


def test_jsonl_keeps_about_and_an_empty_text(tmp_path):
    path = tmp_path / "rows.jsonl"
    before = table(row(1, small=""), about={"score": "margin", "labels": ["a", "b"]})
    before.to_jsonl(path)
    assert Outcomes.from_jsonl(path) == before
    assert Outcomes.from_jsonl(path, about={"score": "entropy"}).about == {"score": "entropy", "labels": ["a", "b"]}


def test_columns():
    outcomes = table(row(1, tokens_input=3), row(2, confidence=None, small=None))
    assert len(outcomes) == 2
    assert outcomes["confidence"].dtype == np.float64
    assert math.isnan(outcomes["confidence"][1])
    assert outcomes.values("confidence") == [0.51, None]
    assert outcomes.values("tokens_input") == [3, None]
    assert type(outcomes.values("tokens_input")[0]) is int
    assert outcomes["small"].tolist() == ["a", None]
    assert "tokens_input" in outcomes
    assert "other" not in outcomes
    for name in ("confidence", "small"):
        with pytest.raises(ValueError, match="read-only"):
            outcomes[name][0] = None
    with pytest.raises(KeyError):
        outcomes["other"]


def test_numpy_values_become_plain_ones():
    outcomes = table(
        row(np.int64(7), id=np.int64(7), confidence=np.float32(0.5), small=np.str_("a"), small_ok=np.bool_(True))
    )
    (record,) = outcomes.to_records()
    assert record["id"] == "7"
    assert [type(record[name]) for name in ("id", "confidence", "small", "small_ok")] == [str, float, str, bool]
    json.dumps(record, allow_nan=False)


def test_ids_are_numbered_and_gold_is_unknown_where_they_are_missing():
    outcomes = Outcomes.from_records([{"small": "a", "confidence": 0.5, "large": "a"}] * 2)
    assert outcomes.values("id") == ["0", "1"]
    assert outcomes.values("gold") == [None, None]


def test_correct():
    outcomes = table(
        row(1, small="a", gold="a"),
        row(2, small="b", gold="a"),
        row(3, gold=None),
        row(4, small=None, confidence=None),
        row(5, gold=None, small_ok=True),
        row(6, gold="a", small_ok=False),
    )
    np.testing.assert_array_equal(outcomes.correct("small"), [1, 0, np.nan, np.nan, 1, 0])
    np.testing.assert_array_equal(outcomes.correct("large"), [0, 0, np.nan, 0, np.nan, 0])
    with pytest.raises(KeyError, match="large_pruned"):
        outcomes.correct("large_pruned")


def test_correctness_alone_is_enough_for_generation():
    rows = [{"confidence": 0.5, "small_ok": True, "large_ok": False}]
    assert Outcomes.from_records(rows).correct("small").tolist() == [1.0]
    assert Outcomes.from_records(rows).correct("large").tolist() == [0.0]


def test_several_small_models():
    rows = [{"small.tfidf": "a", "confidence.tfidf": 0.5, "large": "b", "gold": "a"}]
    outcomes = Outcomes.from_records(rows)
    assert outcomes.correct("small.tfidf").tolist() == [1.0]
    assert outcomes["confidence.tfidf"].tolist() == [0.5]


def test_a_failed_large_model_is_neither_right_nor_wrong():
    assert math.isnan(table(row(1, large=None)).correct("large")[0])


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"confidence": math.nan}, "confidence"),
        ({"confidence": math.inf}, "confidence"),
        ({"confidence": "0.9"}, "confidence"),
        ({"confidence": True}, "confidence"),
        ({"cost_large": -math.inf}, "cost_large"),
        ({"tokens_input": 1.5}, "tokens_input"),
        ({"small_ok": "yes"}, "small_ok"),
        ({"small": 0.5}, "small"),
        ({"gold": ["a"]}, "gold"),
        ({"probabilities": [0.5]}, "probabilities"),
        ({"probabilities": {"a": math.nan}}, "probabilities"),
        ({"id": None}, "id"),
        ({"id": "1"}, "id"),
        ({"mine": math.nan}, "mine"),
    ],
)
def test_a_bad_value_names_row_and_column(changes, column):
    with pytest.raises(ValueError, match=rf"^row 2, column '{column}'"):
        table(row(1), row(2, **changes))


@pytest.mark.parametrize("missing", ["small", "confidence", "large"])
def test_a_missing_column_is_named(missing):
    rows = [row(1)]
    del rows[0][missing]
    with pytest.raises(ValueError, match=f"need a column `{missing}`"):
        Outcomes.from_records(rows)


@pytest.mark.parametrize(
    ("cells", "match"),
    [
        ("1,a,high,b,a", r"rows\.csv: row 2, column 'confidence': must be a finite number"),
        ("1,a,nan,b,a", r"rows\.csv: row 2, column 'confidence'"),
        ("1,a,0.5,b", r"rows\.csv: row 2 has 4 cells, the header has 5"),
        ("0,a,0.5,b,a", r"rows\.csv: row 2, column 'id': the same id"),
    ],
)
def test_a_bad_csv_names_file_row_and_column(tmp_path, cells, match):
    path = tmp_path / "rows.csv"
    path.write_text(f"id,small,confidence,large,gold\n0,a,0.5,b,a\n{cells}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=match):
        Outcomes.from_csv(path)


def test_a_csv_of_a_spreadsheet_is_read(tmp_path):
    path = tmp_path / "rows.csv"
    text = 'small,confidence,large,gold,small_ok,probabilities,note\r\na,0.5,,a,TRUE,"{""a"": 1}",free\r\n\r\n'
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert Outcomes.from_csv(path).to_records() == [
        {
            "id": "0",
            "small": "a",
            "confidence": 0.5,
            "large": None,
            "gold": "a",
            "small_ok": True,
            "probabilities": {"a": 1},
            "note": "free",
        }
    ]


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("{broken", r"rows\.jsonl: line 2 is not JSON"),
        ('{"id": "2", "confidence": NaN}', r"rows\.jsonl: line 2 is not JSON"),
        ('{"id": "2", "small": "a", "confidence": "x", "large": "a"}', r"rows\.jsonl: row 2, column 'confidence'"),
    ],
)
def test_a_bad_jsonl_names_file_and_line(tmp_path, line, match):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row(1)) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=match):
        Outcomes.from_jsonl(path)


def test_an_error_never_carries_the_value(tmp_path):
    secret = "a customer's words"
    with pytest.raises(ValueError, match="confidence") as caught:
        table(row(1, confidence=secret))
    assert secret not in str(caught.value)


def test_rows_of_another_kind_are_refused():
    with pytest.raises(TypeError, match="row 2 is list"):
        Outcomes.from_records([row(1), ["a"]])
    with pytest.raises(ValueError, match="differ in length"):
        Outcomes({"id": ["1"], "small": [], "confidence": [], "large": []})


def test_select_and_split():
    outcomes = Outcomes.from_records((row(place, group=str(place % 10)) for place in range(100)), about={"a": 1})
    assert outcomes.select([3, 1]).values("id") == ["3", "1"]
    assert len(outcomes.select(outcomes["confidence"] > 1.0)) == 49
    assert outcomes.select([]).columns == outcomes.columns
    first, second = outcomes.split(0.3, seed=1)
    assert (len(first), len(second)) == (30, 70)
    assert not set(first.values("group")) & set(second.values("group"))
    assert sorted(first.values("id") + second.values("id")) == sorted(outcomes.values("id"))
    assert first.about == {"a": 1}
    assert outcomes.split(0.3, seed=1)[0] == first
    assert outcomes.split(0.3, seed=2)[0] != first
    with pytest.raises(ValueError, match="mask"):
        outcomes.select([True])
    with pytest.raises(ValueError, match="share"):
        outcomes.split(1.0)


def test_many_rows_are_quick():
    n = 200_000
    columns = {"id": [str(i) for i in range(n)], "small": ["a"] * n, "confidence": [0.5] * n, "large": ["b"] * n}
    started = time.perf_counter()
    outcomes = Outcomes({**columns, "gold": ["a"] * n})
    assert outcomes.correct("small").sum() == n
    assert time.perf_counter() - started < 5


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [
        Outcomes({}),
        Outcomes({}, about={"score": "margin"}),
        Outcomes({"small": [], "confidence": [], "large": [], "note": [], "tokens_input": []}),
        Outcomes.from_records([row(1, group=None, cost_large=None, note=None), row(2)]),
    ],
)
def test_jsonl_keeps_empty_columns_and_empty_tables(tmp_path, before):
    path = tmp_path / "rows.jsonl"
    before.to_jsonl(path)
    after = Outcomes.from_jsonl(path)
    assert after == before
    assert after.columns == before.columns


def test_jsonl_without_a_header_is_still_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row(1)) + "\n", encoding="utf-8")
    assert Outcomes.from_jsonl(path) == table(row(1))
    path.write_text('{"__about__": {"a": 1}}\n' + json.dumps(row(1)) + "\n", encoding="utf-8")
    assert Outcomes.from_jsonl(path) == table(row(1), about={"a": 1})


@pytest.mark.parametrize("cell", ["1_5", "\u0661", "0x1", "inf", "1e999"])
@pytest.mark.parametrize("column", ["confidence", "tokens_input"])
def test_a_number_that_only_python_reads_is_refused(tmp_path, column, cell):
    path = tmp_path / "rows.csv"
    values = {"confidence": "0.5", "tokens_input": "1", column: cell}
    path.write_text(
        f"small,large,confidence,tokens_input\na,b,{values['confidence']},{values['tokens_input']}\n", encoding="utf-8"
    )
    with pytest.raises(ValueError, match=rf"rows\.csv: row 1, column '{column}'"):
        Outcomes.from_csv(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_bytes_that_are_not_utf8_name_file_and_line(tmp_path, kind, mark):
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(mark + b"{}\n\n\xff\n")
    with pytest.raises(ValueError, match=rf"rows\.{kind}: line 3 is not UTF-8") as caught:
        getattr(Outcomes, f"from_{kind}")(path)
    assert type(caught.value) is ValueError


@pytest.mark.parametrize("line", ['{"__about__": 5}', '{"__about__": {}, "__columns__": 5}', '{"__columns__": [1]}'])
def test_a_header_of_a_wrong_type_names_file_and_line(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row(1)) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"rows\.jsonl: line 2: `__(about|columns)__` must be"):
        Outcomes.from_jsonl(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_write_that_fails_keeps_the_old_file(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    write = f"to_{kind}"
    getattr(table(), write)(path)
    path.chmod(0o600)
    old = path.read_bytes()
    bad = table(row(1), row(2, note={"a": object()}))
    with pytest.raises(TypeError):
        getattr(bad, write)(path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    link = tmp_path / "link"
    link.symlink_to(path)
    getattr(table(row(9)), write)(link)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert getattr(Outcomes, f"from_{kind}")(path).values("id") == ["9"]


def test_a_device_is_written_to_and_not_replaced():
    table().to_csv("/dev/null")
    assert Path("/dev/null").is_char_device()
