"""Parquet, what a table is about in every format, the data hash, and cells that mean harm."""

import csv
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.outcomes.columns import Builder

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

KINDS = ["csv", "jsonl", "parquet"]
ABOUT = {"score": "margin", "labels": ["a", 'b "x"', "=c"], "certifications": 2, "small": None}


def row(place, **changes):
    return {"id": str(place), "small": "a", "confidence": 0.5 + place / 100, "large": "b", "gold": "a", **changes}


def table(*rows, **options):
    return Outcomes.from_records(rows or [row(1), row(2)], **options)


def through(outcomes, kind, path):
    getattr(outcomes, f"to_{kind}")(path)
    return getattr(Outcomes, f"from_{kind}")(path)


def same(one, other):
    assert one.columns == other.columns
    for name in one.columns:
        before, after = one.values(name), other.values(name)
        assert before == after, name
        assert [type(value) for value in before] == [type(value) for value in after], name


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
floats = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
alike = st.fixed_dictionaries({"a": floats, "b": floats})
AWKWARD = ["5", "true", "null", "007", '"a"', "", " 1", "NaN", "1e999", "[1]", "free"]
records = st.lists(
    st.fixed_dictionaries(
        {
            "id": texts,
            "small.one": st.none() | texts,
            "confidence.one": st.none() | floats,
            "small.two": st.none() | texts,
            "confidence.two": st.none() | floats,
            "probabilities.one": st.none() | alike,
            "probabilities.two": st.none() | st.dictionaries(texts, floats | st.integers(-9, 9), max_size=3),
            "slices": st.none() | st.dictionaries(texts, plain, max_size=2),
            "large": st.none() | texts,
            "large_pruned": st.none() | texts,
            "gold": st.none() | texts,
            "group": st.none() | texts,
            "tokens_input": st.none() | st.integers(0, 2**52),
            "cost_large": st.none() | floats,
            "small_ok": st.none() | st.booleans(),
            "note": plain | st.sampled_from(AWKWARD),
        }
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda found: found["id"],
)


@pytest.mark.parametrize("kind", KINDS)
@given(rows=records, about=st.dictionaries(texts, plain, max_size=3), seed=st.integers(0, 9))
def test_every_format_gives_back_what_was_written(tmp_path_factory, kind, rows, about, seed):
    before = Outcomes.from_records(rows, about=about)
    same(before, Outcomes({name: [r[name] for r in rows] for name in rows[0]}, about=about))
    after = through(before, kind, tmp_path_factory.mktemp("outcomes") / f"rows.{kind}")
    same(before, after)
    assert after.about == before.about
    assert after.data_hash() == before.data_hash()
    order = np.random.default_rng(seed).permutation(len(rows))
    assert after.select(order).data_hash() == before.data_hash()
    assert before.select(order).to_records() == [before.to_records()[place] for place in order]


@pytest.mark.parametrize("value", [0.1 + 0.2, 5e-324, 1.7976931348623157e308, 1 - 2**-53, -0.0, 0.0, 1e22])
def test_awkward_floats_survive_parquet(tmp_path, value):
    outcomes = table(row(1, confidence=value), row(2, confidence=-value), row(3, confidence=None))
    back = through(outcomes, "parquet", tmp_path / "rows.parquet").values("confidence")
    assert [math.copysign(1, b) for b in back[:2]] == [math.copysign(1, value), math.copysign(1, -value)]
    assert back == [value, -value, None]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "before",
    [
        Outcomes({}),
        Outcomes({"small": [], "confidence": [], "large": [], "note": [], "tokens_input": [], "probabilities": []}),
        Outcomes.from_records([row(1, group=None, cost_large=None, note=None, probabilities=None), row(2)]),
    ],
)
def test_empty_tables_and_columns_survive(tmp_path, kind, before):
    same(through(before, kind, tmp_path / "rows"), before)


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_is_about_survives_and_can_be_overridden(tmp_path, kind):
    path = tmp_path / "rows"
    outcomes = table(about=ABOUT)
    assert through(outcomes, kind, path).about == ABOUT
    read = getattr(Outcomes, f"from_{kind}")(path, about={"score": "entropy"})
    assert read.about == {**ABOUT, "score": "entropy"}
    assert read.columns == outcomes.columns


def test_about_survives_a_spreadsheet_that_sorts(tmp_path):
    path = tmp_path / "rows.csv"
    table(about=ABOUT).to_csv(path)
    header, first, second = path.read_text(encoding="utf-8").splitlines()
    path.write_text(f"{header}\n{second}\n{first}", encoding="utf-8")
    assert Outcomes.from_csv(path).about == ABOUT
    path.write_text("\n".join([header, second[:-1] + ",oops", first]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"rows\.csv: row 1, column '__about__'"):
        Outcomes.from_csv(path)


@pytest.mark.parametrize(
    "text", ["", "x" * 300_000, 'q"\r\n,;\t', "=1+1", "\x00", "\u2028", "-", "None", "nan", "null"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_adversarial_cells_survive(tmp_path, kind, text):
    before = table(row(1, gold=text, note=text, slices={text: text}, **({"id": text} if text else {})), row(2))
    after = through(before, kind, tmp_path / "rows")
    if kind == "csv" and not text:
        assert after.values("gold") == [None, "a"], "documented"
        assert after.values("note") == before.values("note")
    else:
        same(before, after)


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_surrogate_pair_says_where_and_keeps_the_old_file(tmp_path, kind):
    path = tmp_path / "rows"
    through(table(), kind, path)
    old = path.read_bytes()
    with pytest.raises(ValueError, match="row 2, column 'large': half a surrogate"):
        getattr(table(row(1), row(2, large="\ud800")), f"to_{kind}")(path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["rows"]


# --- Parquet in parts -----------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(rows=records, group=st.integers(1, 3), batch=st.integers(1, 4), cut=st.integers(0, 6))
def test_parquet_in_parts_is_the_whole(tmp_path_factory, rows, group, batch, cut):
    folder = tmp_path_factory.mktemp("outcomes")
    whole = Outcomes.from_records(rows, about={"score": "margin"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("langchain_dsplus.outcomes.files._BATCH", group)
        (folder / "parts").mkdir()
        whole.to_parquet(folder / "whole.parquet")
        whole.select(list(range(cut))[: len(rows)]).to_parquet(folder / "parts" / "a.parquet")
        whole.select(list(range(cut, len(rows)))).to_parquet(folder / "parts" / "b.parquet")
        (folder / "parts" / "_SUCCESS").touch()
        assert pq.ParquetFile(folder / "whole.parquet").num_row_groups == -(-len(rows) // group)
        patch.setattr("langchain_dsplus.outcomes.files._BATCH", batch)
        for path in (folder / "whole.parquet", folder / "parts"):
            found = Outcomes.from_parquet(path)
            same(whole, found)
            assert found.about == whole.about
            assert found.data_hash() == whole.data_hash()


def test_one_word_in_parts_with_dictionaries_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr("langchain_dsplus.outcomes.files._BATCH", 3)
    kinds = ["b", None, "a", "a", "c", "b", "b", "a"]
    found = pa.table({"small": pa.array(kinds).dictionary_encode(), "confidence": [0.5] * 8, "large": kinds})
    pq.write_table(found, tmp_path / "rows.parquet", row_group_size=5)
    outcomes = Outcomes.from_parquet(tmp_path / "rows.parquet")
    assert outcomes.values("small") == kinds
    assert outcomes.agree("small", "large").tolist() == [kind is not None for kind in kinds]


def test_a_folder_says_which_part_and_row_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr("langchain_dsplus.outcomes.files._BATCH", 1)
    with pytest.raises(ValueError, match="a folder without a `"):
        Outcomes.from_parquet(tmp_path)
    foreign(tmp_path / "a.parquet", group=["x", "y"])
    foreign(tmp_path / "b.parquet", note=[1, 2])
    outcomes = Outcomes.from_parquet(tmp_path)
    assert outcomes.values("group") == ["x", "y", None, None]
    assert outcomes.values("note") == [None, None, 1, 2]
    foreign(tmp_path / "c.parquet", confidence=[0.5, math.nan])
    with pytest.raises(ValueError, match="row 6, column 'confidence'"):
        Outcomes.from_parquet(tmp_path)
    table(about={"score": "margin"}).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"c\.parquet: it is about something else"):
        Outcomes.from_parquet(tmp_path)


def test_reading_parquet_holds_no_more_than_a_batch_beside_the_table(tmp_path, monkeypatch):
    pool, add, most = pa.default_memory_pool(), Builder.add_coded, []
    outcomes = table(*(row(n, input_hash=f"{n:064x}") for n in range(3000)))
    before = pool.bytes_allocated()

    def watched(self, codes, words):
        most[-1] = max(most[-1], pool.bytes_allocated() - before)
        add(self, codes, words)

    monkeypatch.setattr(Builder, "add_coded", watched)
    for batch in (100, 3000):
        monkeypatch.setattr("langchain_dsplus.outcomes.files._BATCH", batch)
        most.append(0)
        same(outcomes, through(outcomes, "parquet", tmp_path / "rows.parquet"))
    assert most[0] < most[1] / 4


# --- Parquet files of others ----------------------------------------------------------------------------------------


def foreign(path, **columns):
    least = {"small": ["a", "b"], "confidence": [0.5, 0.25], "large": ["a", "a"]}
    pq.write_table(pa.table({**least, **columns}), path)
    return path


def test_parquet_of_pandas_is_read(tmp_path):
    pd = pytest.importorskip("pandas")
    path = tmp_path / "rows.parquet"
    pd.DataFrame(
        {
            "small": pd.Categorical(["a", "b", None]),
            "confidence": np.array([0.5, np.nan, 0.25], dtype=np.float32),
            "large": ["a", None, "c"],
            "tokens_input": [1.0, 2.0, np.nan],
            "large_ok": [True, False, None],
            "probabilities": [{"a": 0.5, "b": 0.5}, {"a": 1.0}, None],
            "note": [[1, 2], None, [3]],
        }
    ).to_parquet(path)
    outcomes = Outcomes.from_parquet(path)
    assert outcomes.values("small") == ["a", "b", None]
    assert outcomes.values("confidence") == [0.5, None, 0.25]
    assert outcomes.values("large") == ["a", None, "c"]
    assert outcomes.values("tokens_input") == [1, 2, None]
    assert outcomes.values("large_ok") == [True, False, None]
    assert outcomes.values("probabilities") == [{"a": 0.5, "b": 0.5}, {"a": 1.0}, None]
    assert outcomes.values("note") == [[1, 2], None, [3]]
    assert outcomes.values("id") == ["0", "1", "2"]


def test_other_arrow_types_are_read(tmp_path):
    path = foreign(
        tmp_path / "rows.parquet",
        id=pa.array([7, 8]),
        large=pa.array(["a", "a"], type=pa.large_string()),
        group=pa.array([1, None]),
        probabilities=pa.array([[("a", 1.0)], None], type=pa.map_(pa.string(), pa.float64())),
        slices=['{"lang": "en"}', None],
        gold=pa.nulls(2),
    )
    outcomes = Outcomes.from_parquet(path)
    assert outcomes.values("id") == ["7", "8"]
    assert outcomes.values("group") == ["1", None]
    assert outcomes.values("probabilities") == [{"a": 1.0}, None]
    assert outcomes.values("slices") == [{"lang": "en"}, None]
    assert outcomes.values("gold") == [None, None]


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"confidence": [0.5, math.nan]}, "row 2, column 'confidence': must be a finite number"),
        ({"confidence": ["0.5", "high"]}, "row 1, column 'confidence'"),
        ({"confidence": [True, False]}, "row 1, column 'confidence'"),
        ({"tokens_input": [1.0, 1.5]}, "row 2, column 'tokens_input': must be a whole number"),
        ({"large_ok": [0, 2]}, "row 2, column 'large_ok'"),
        ({"large": [0.5, 1.0]}, "row 1, column 'large'"),
        ({"id": ["1", None]}, "row 2, column 'id': must not be empty"),
        ({"id": ["1", "1"]}, "row 2, column 'id': the same id"),
        ({"probabilities": ["{}", "["]}, "row 2, column 'probabilities'"),
        ({"probabilities": [1, 2]}, "row 1, column 'probabilities'"),
        ({"when": pa.array([1, 2], type=pa.timestamp("s"))}, r"column 'when': must be plain JSON, not timestamp"),
        ({"raw": [b"1", b"2"]}, r"column 'raw': must be plain JSON, not binary"),
    ],
)
def test_a_bad_parquet_names_file_row_and_column(tmp_path, columns, match):
    path = foreign(tmp_path / "rows.parquet", **columns)
    with pytest.raises(ValueError, match=rf"rows\.parquet: {match}"):
        Outcomes.from_parquet(path)


@pytest.mark.parametrize("body", [b"", b"PAR1", b"id,small\n", b"PAR1" + b"\xff" * 40 + b"PAR1"])
def test_what_is_no_parquet_is_named(tmp_path, body):
    path = tmp_path / "rows.parquet"
    path.write_bytes(body)
    with pytest.raises(ValueError, match=r"rows\.parquet: not a Parquet file"):
        Outcomes.from_parquet(path)


def test_metadata_of_another_kind_is_named(tmp_path):
    path = tmp_path / "rows.parquet"
    for said in (b"{", b"[]", b'{"about": 5}', b"{}"):
        found = pa.table({"small": ["a"], "confidence": [0.5], "large": ["a"]})
        pq.write_table(found.replace_schema_metadata({b"langchain_dsplus": said}), path)
        with pytest.raises(ValueError, match="the metadata"):
            Outcomes.from_parquet(path)


def test_a_file_holds_no_words_of_rows_that_were_left_out(tmp_path):
    path = tmp_path / "rows.parquet"
    outcomes = table(*(row(n, group=f"customer {n}") for n in range(10)))
    outcomes.select(list(range(1, 10))).to_parquet(path)
    assert "customer 0" not in str(
        pq.read_table(path, read_dictionary=["group"]).column("group").combine_chunks().dictionary
    )
    assert Outcomes.from_parquet(path).values("group") == [f"customer {n}" for n in range(1, 10)]


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"langchain-dsplus\[parquet\]"):
        table().to_parquet(tmp_path / "rows.parquet")
    assert list(tmp_path.iterdir()) == []


def test_importing_it_imports_nothing_heavy():
    code = "import sys, langchain_dsplus.outcomes; print([m for m in ('pyarrow', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- the hash -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"small": "b"},
        {"confidence": 0.5100000000000001},
        {"large": None},
        {"gold": None},
        {"id": "3"},
        {"note": 1},
        {"note": "1"},
        {"note": 1.0},
        {"note": True},
        {"note": [1]},
        {"tokens_input": 1},
        {"small_ok": True},
        {"probabilities": {"a": 1.0}},
        {"probabilities": {"a": 0.5, "b": 0.5}},
    ],
)
def test_any_change_of_a_row_changes_the_hash(change):
    hashes = {table(row(1), row(2)).data_hash(), table(row(1, **change), row(2)).data_hash()}
    assert len(hashes) == 2


def test_changes_differ_from_each_other():
    notes = [1, "1", 1.0, True, [1], None, {"a": 1}]
    assert len({table(row(1, note=note), row(2)).data_hash() for note in notes}) == len(notes)
    moved = [table(row(1, small="x", large=None)), table(row(1, small=None, large="x"))]
    assert moved[0].data_hash() != moved[1].data_hash()


def test_order_about_and_unknown_columns_do_not_count():
    base = table(row(1), row(2)).data_hash()
    assert table(row(2), row(1), about={"certifications": 3}).data_hash() == base
    assert table(row(1, group=None), dict(reversed(row(2).items()))).data_hash() == base
    assert table(row(1, confidence=0.0)).data_hash() == table(row(1, confidence=-0.0)).data_hash()
    assert table(row(1)).data_hash() != base
    ways = [[{"a": 0.5, "b": 0.5}, {"a": 1.0, "b": 0.0}], [{"b": 0.5, "a": 0.5}, {"a": 1.0, "b": 0.0}]]
    assert len({table(*(row(n, probabilities=p) for n, p in enumerate(way))).data_hash() for way in ways}) == 1


def test_the_hash_is_the_same_in_another_process(tmp_path):
    path = tmp_path / "rows.jsonl"
    outcomes = table(*(row(n, group=f"g{n % 7}", note={"b": n, "a": [n]}) for n in range(50)))
    outcomes.to_jsonl(path)
    code = f"from langchain_dsplus.outcomes import Outcomes; print(Outcomes.from_jsonl({str(path)!r}).data_hash())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == outcomes.data_hash()


def test_about_goes_along():
    outcomes = table(*(row(n) for n in range(10)), about=ABOUT)
    first, second = outcomes.split(0.5)
    for part in (first, second, outcomes.select([0]), outcomes.with_gold({"0": "a"})):
        assert part.about == ABOUT
        assert part.about is not outcomes.about


# --- columns --------------------------------------------------------------------------------------------------------


def test_dicts_that_become_unlike_are_kept_as_they_were():
    ways = [{"a": 0.5, "b": 0.5}, None, {"a": 1, "b": 0.0}, {"b": 0.5, "a": 0.5}, {}, {"a": "x"}]
    for count in (1, 2, 5, 8190, 8193):
        rows = [row(n, probabilities=ways[0] if n < count else ways[n % 6]) for n in range(count + 7)]
        outcomes = Outcomes.from_records(rows)
        found = outcomes.values("probabilities")
        assert found == [r["probabilities"] for r in rows]
        assert [list(p or ()) for p in found] == [list(r["probabilities"] or ()) for r in rows]
        assert type(found[-1] if found[-1] is None else next(iter(found[-1].values()), 0.0)) in (
            float,
            int,
            str,
            type(None),
        )
    late = [row(n, probabilities=None if n < 8200 else ways[0]) for n in range(8210)]
    assert Outcomes.from_records(late).values("probabilities") == [r["probabilities"] for r in late]


def test_a_column_that_comes_late_is_filled_up():
    rows = [row(n, **({"late": n} if n > 8195 else {})) for n in range(8200)]
    assert Outcomes.from_records(iter(rows)).values("late") == [None] * 8196 + list(range(8196, 8200))


def test_errors_name_the_row_in_later_chunks(tmp_path):
    rows = [row(n, **({"confidence": "x"} if n == 9000 else {})) for n in range(9001)]
    with pytest.raises(ValueError, match=r"^row 9001, column 'confidence'"):
        Outcomes.from_records(rows)
    path = tmp_path / "rows.csv"
    body = "".join(f"{n},a,{'x' if n == 9000 else 0.5},b\n" for n in range(9001))
    path.write_text("id,small,confidence,large\n" + body, encoding="utf-8")
    with pytest.raises(ValueError, match=r"rows\.csv: row 9001, column 'confidence'"):
        Outcomes.from_csv(path)
    path.write_text(json.dumps(row(1)) + "\n" + "".join(json.dumps(r) + "\n" for r in rows[2:]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"rows\.csv: row 9000, column 'confidence'"):
        Outcomes.from_jsonl(path)


def test_correct_valid_and_agree():
    outcomes = table(
        row(1, small="a", large="a", gold="a"),
        row(2, small="a", large="off", gold="a"),
        row(3, small="a", large=None, gold="a"),
        row(4, small=None, large="b", gold=None),
        about={"labels": ["a", "b"]},
    )
    assert outcomes.valid().tolist() == [True, False, False, True]
    assert outcomes.valid("small").tolist() == [True, True, True, False]
    np.testing.assert_array_equal(outcomes.correct("large"), [1, 0, np.nan, np.nan])
    assert outcomes.agree("small", "large").tolist() == [True, False, False, False]
    assert outcomes.agree("large", "small").tolist() == [True, False, False, False]
    assert outcomes.agree("large", "large").tolist() == [True, True, False, True]
    assert outcomes.select([1, 3]).agree("large", "gold").tolist() == [False, False]
    assert outcomes.select([0]).valid().tolist() == [True]
    free = table(row(1, large="off"), row(2, large=None))
    assert free.valid().tolist() == [True, False]
    with pytest.raises(KeyError, match="large_pruned"):
        outcomes.valid("large_pruned")


def test_valid_where_a_judge_decides():
    rows = [{"confidence": 0.5, "small_ok": True, "large_ok": ok} for ok in (True, False, None)]
    assert Outcomes.from_records(rows).valid().tolist() == [True, True, False]
    failed = [row(n, large=None if n else "b", large_ok=False) for n in range(2)]
    assert Outcomes.from_records(failed).valid().tolist() == [True, False], "a failed call that a judge called wrong"
    texts_gone = [row(n, large=None, large_ok=False) for n in range(2)]
    assert Outcomes.from_records(texts_gone).valid().tolist() == [True, True]


def test_select_takes_each_row_once():
    outcomes = table(row(0), row(1), row(2))
    assert outcomes.select([-1]).values("id") == ["2"]
    assert outcomes.select(np.zeros(3, dtype=bool)).columns == outcomes.columns
    for rows in ([0, 0], [2, -1]):
        with pytest.raises(ValueError, match="twice"):
            outcomes.select(rows)


@given(
    groups=st.lists(st.none() | st.sampled_from("abcdef"), min_size=1, max_size=40),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 99),
)
def test_split_keeps_groups_together_and_rows_once(groups, share, seed):
    outcomes = Outcomes.from_records([row(n, group=group) for n, group in enumerate(groups)])
    first, second = outcomes.split(share, seed=seed)
    assert sorted(first.values("id") + second.values("id")) == sorted(outcomes.values("id"))
    named = [{group for group in part.values("group") if group is not None} for part in (first, second)]
    assert not named[0] & named[1]
    again = outcomes.select(np.arange(len(groups))).split(share, seed=seed)[0]
    assert again == first
    alone = sum(group is None for group in groups)
    largest = max([groups.count(group) for group in set(groups) - {None}], default=0) if alone < len(groups) else 1
    assert abs(len(first) - share * len(groups)) <= max(largest, 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from(["csv", "jsonl", "parquet", "records", "frame"]),
    empty=st.lists(st.booleans(), min_size=1, max_size=12),
    fault=st.sampled_from([("gold", "Billing"), ("id", None), ("id", "first")]),
    blank=st.sampled_from(["", ",,,,", "  ,\t, ,,"]),
)
def test_empty_rows_are_left_out_and_errors_name_the_rows_of_the_file(tmp_path, suffix, empty, fault, blank):
    nothing = dict.fromkeys(("id", "small", "confidence", "large", "gold"))
    full = [
        {"id": "first" if not place else str(place), "small": "a", "confidence": 0.5, "large": "b", "gold": "a"}
        for place in range(len(empty))
    ]
    rows = [full[0], *(nothing if gone else row for gone, row in zip(empty[1:], full[1:], strict=True))]

    def read(rows):
        path = tmp_path / f"t.{suffix}"
        about = {"labels": ["a", "b"]}
        if suffix == "csv":
            lines = [
                blank if row is nothing else ",".join("" if cell is None else str(cell) for cell in row.values())
                for row in rows
            ]
            path.write_text("\n".join(["id,small,confidence,large,gold", *lines]), encoding="utf-8")
            return Outcomes.from_csv(path, about=about)
        if suffix == "jsonl":
            path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
            return Outcomes.from_jsonl(path, about=about)
        if suffix == "parquet":
            pd.DataFrame(rows).to_parquet(path)
            return Outcomes.from_parquet(path, about=about)
        return Outcomes.from_records(pd.DataFrame(rows) if suffix == "frame" else rows, about=about)

    assert len(read(rows)) == sum(row is not nothing for row in rows)
    column, value = fault
    last = {**full[0], "id": "last", column: value}
    with pytest.raises(ValueError, match=rf"row {len(rows) + 1}, column '{column}'"):
        read([*rows, last])


@given(
    st.lists(
        st.text(st.sampled_from("'=+-@\t\r\n\uff1d\uff0b\uff0d\uff20a1\"{"), min_size=1, max_size=6),
        min_size=1,
        max_size=4,
    )
)
def test_no_cell_of_a_csv_file_is_a_formula_and_all_come_back(tmp_path_factory, texts):
    """In every column that holds texts, and in the header; `to_label` has the same rule."""
    path = tmp_path_factory.mktemp("rows") / "t.csv"
    rows = [row(n, small=text, large=text, gold=text, note=text, **{f"={text}": text}) for n, text in enumerate(texts)]
    before = table(*rows)
    before.to_csv(path)
    with path.open(encoding="utf-8", newline="") as file:
        for number, cells in enumerate(csv.reader(file)):
            for cell in cells:
                harmless = number and re.fullmatch(r"[-+]?[0-9.e+-]+", cell) and "=" not in cell
                assert not cell or cell[0] not in "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20" or harmless
    same(before, Outcomes.from_csv(path))
