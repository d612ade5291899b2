import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_dsplus.outcomes import Outcomes


def row(name, small, confidence, large, gold=None, **more):
    return {"id": name, "small": small, "confidence": confidence, "large": large, "gold": gold, **more}


ROWS = [
    row("agree", "a", 0.99, "a"),
    row("low", "a", 0.2, "b"),
    row("high", "b", 0.9, "a"),
    row("known", "b", 0.95, "a", "a"),
    row("failed small", None, None, "a"),
    row("failed large", "a", 0.5, None),
    row("off", "a", 0.4, "who knows"),
    row("judged", "b", 0.8, "a", small_ok=True, large_ok=False),
]


def table(rows=ROWS, **about):
    return Outcomes.from_records(rows, about={"labels": ["a", "b"], "certifications": 1, **about})


def cells(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def fill(path, gold, *, to=None, delimiter=","):
    """As a person with a spreadsheet does."""
    found = cells(path)
    to = to or path
    with to.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, found[0].keys(), delimiter=delimiter)
        writer.writeheader()
        writer.writerows({**line, "gold": gold.get(line["id"], line["gold"])} for line in found)
    return to


def test_what_is_worth_a_label(tmp_path):
    path = tmp_path / "todo.csv"
    found = table().to_label(path, agreements=0, inputs={"high": "the text", "low": {"title": "x"}})
    assert sorted(line["id"] for line in found) == ["failed large", "high", "low", "off"]
    of = {line["id"]: line for line in found}
    assert {name: line["confidence"] for name, line in of.items()} == {
        "high": 0.9,
        "failed large": 0.5,
        "off": 0.4,
        "low": 0.2,
    }
    assert [line["gold"] for line in found] == [None] * 4
    assert [(line["stratum"], line["draw"]) for line in found] == [("disagree", n) for n in (1, 2, 3, 4)]
    assert "the small model and the large one disagree" in of["high"]["reason"]
    assert "the large model failed" in of["failed large"]["reason"]
    assert all("counts as lost" in line["reason"] for line in found)
    texts = {name: line["input"] for name, line in of.items()}
    assert texts == {"high": "the text", "failed large": None, "off": None, "low": '{"title": "x"}'}
    written = cells(path)
    assert list(written[0]) == ["id", "confidence", "small", "large", "stratum", "draw", "reason", "gold", "input"]
    assert [line["id"] for line in written] == [line["id"] for line in found]
    assert [float(line["confidence"]) for line in written] == [line["confidence"] for line in found]
    assert all(line["gold"] == "" for line in written)
    assert table().to_label(max_rows=2, agreements=0) == table().to_label(agreements=0)[:2]
    assert table().to_label(max_rows=0) == []
    assert "input" not in table().to_label()[0]
    more = [line for line in table().to_label(agreements=1) if line["stratum"] == "agree"]
    assert sorted(line["id"] for line in more) == ["agree", "failed small"]
    assert all("at random" in line["reason"] for line in more)


def test_labelling_changes_exactly_what_is_unknown():
    """The rows are those that count as lost for lack of gold."""
    differences = pytest.importorskip("langchain_dsplus.threshold.differences")
    outcomes = table([*ROWS, row("off small", "who knows", 0.3, "a")])
    (small,) = differences.differences(outcomes).models
    open_ = small.unlabeled & np.isfinite(small.confidence)
    asked = sorted(line["id"] for line in outcomes.to_label(agreements=0))
    assert asked == ["failed large", "high", "low", "off"]
    assert sorted(outcomes.select(open_).values("id")) == asked


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_there_and_back(tmp_path, suffix):
    path = tmp_path / f"todo.{suffix}"
    outcomes = table()
    outcomes.to_label(path, agreements=0)
    if suffix == "csv":
        fill(path, {"high": "b", "low": "a"})
    else:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            line["gold"] = {"high": "b", "low": "a"}.get(line["id"])
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    done = outcomes.with_gold(path)
    assert dict(zip(done.values("id"), done.values("gold"), strict=True)) == {
        **{line["id"]: None for line in ROWS},
        "known": "a",
        "high": "b",
        "low": "a",
    }
    assert done.about == outcomes.about
    assert outcomes.values("gold").count(None) == 7, "the table itself is not changed"
    assert done.data_hash() != outcomes.data_hash()
    assert done.with_gold(path) == done, "twice is once"
    rest = done.to_label(agreements=0)
    assert sorted(line["id"] for line in rest) == ["failed large", "off"]
    assert outcomes.with_gold({"high": "b", "low": "a", "off": None}).values("gold") == done.values("gold")


@pytest.mark.parametrize("delimiter", [";", "\t", ","])
def test_spreadsheets_of_other_countries(tmp_path, delimiter):
    path = tmp_path / "todo.csv"
    table().to_label(path)
    done = table().with_gold(fill(path, {"high": "b"}, to=tmp_path / "done.csv", delimiter=delimiter))
    assert done.values("gold")[2] == "b"
    (tmp_path / "two.csv").write_text(f"gold{delimiter}id\r\nb{delimiter}high\r\n{delimiter}\r\n", encoding="utf-8")
    assert table().with_gold(tmp_path / "two.csv").values("gold")[2] == "b"


DANGEROUS = ["=1+1", "+a", "-a", "@SUM(A1)", "\t=x", "\r=x", "'=x", "''-x", "\uff1dx"]


@pytest.mark.parametrize("text", DANGEROUS)
def test_no_cell_is_a_formula(tmp_path, text):
    path = tmp_path / "todo.csv"
    outcomes = table([row(text, text, 0.9, "b")], labels=[text, "b"])
    (found,) = outcomes.to_label(path, inputs={text: text})
    assert found["small"] == text
    (written,) = cells(path)
    for name in ("id", "small", "input"):
        assert written[name].startswith("'")
        assert written[name][1:] == text
    fill(path, {written["id"]: written["small"]})
    assert outcomes.with_gold(path).values("gold") == [text]
    fill(path, {written["id"]: text})  # typed in as it is
    expected = [text[1:]] if text.startswith("'") else [text]
    if expected == [text]:
        assert outcomes.with_gold(path).values("gold") == expected


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.sampled_from(DANGEROUS)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@given(
    rows=st.lists(st.tuples(texts, texts, st.floats(0, 1), texts), min_size=1, max_size=6, unique_by=lambda r: r[0]),
    data=st.data(),
)
def test_any_text_there_and_back(tmp_path_factory, suffix, rows, data):
    path = tmp_path_factory.mktemp("labels") / f"todo.{suffix}"
    labels = sorted({label for r in rows for label in (r[1], r[3])})
    outcomes = table([row(*r) for r in rows], labels=labels)
    found = outcomes.to_label(
        path, agreements=data.draw(st.sampled_from([0, 0.5, 1])), inputs={r[0]: r[0] for r in rows}
    )
    assert {line["id"] for line in found if line["stratum"] == "disagree"} == {r[0] for r in rows if r[1] != r[3]}
    assert outcomes.with_gold(path) == outcomes
    gold = {line["id"]: data.draw(st.sampled_from(labels)) for line in found}
    if suffix == "csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file))
        place = lines[0].index("gold")
        for line, entry in zip(lines[1:], found, strict=True):
            label = gold[entry["id"]]
            line[place] = line[2] if label == entry["small"] else line[3] if label == entry["large"] else ""
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(lines)
        gold = {e["id"]: g for e in found if (g := gold[e["id"]]) in (e["small"], e["large"])}
    else:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"id": name, "gold": label}) + "\n" for name, label in gold.items())
    done = outcomes.with_gold(path)
    assert dict(zip(done.values("id"), done.values("gold"), strict=True)) == {r[0]: gold.get(r[0]) for r in rows}


def test_several_small_models():
    rows = [
        {"id": "1", "small.x": "a", "confidence.x": 0.9, "small.y": "b", "confidence.y": 0.6, "large": "b"},
        {"id": "2", "small.x": "b", "confidence.x": 0.9, "small.y": "b", "confidence.y": 0.6, "large": "b"},
        {"id": "3", "small.x": "b", "confidence.x": 0.99, "small.y": "a", "confidence.y": 0.7, "large": "b"},
        {"id": "4", "small.x": None, "confidence.x": None, "small.y": "a", "confidence.y": 0.8, "large": "b"},
    ]
    found = {line["id"]: line for line in table(rows).to_label(agreements=0)}
    assert {name: line["confidence"] for name, line in found.items()} == {"1": 0.9, "4": 0.8, "3": 0.7}
    assert {name: line["small.x"] for name, line in found.items()} == {"1": "a", "4": None, "3": "b"}
    assert "the models disagree" in found["1"]["reason"]


def test_pruned_prompts():
    rows = [
        row("1", "a", 0.9, "a", large_pruned="b"),
        row("2", "a", 0.5, "a", large_pruned="a"),
        row("3", "a", 0.7, "b", large_pruned="b"),
        row("4", None, None, "b", large_pruned="a"),
    ]
    assert [line["id"] for line in table(rows).to_label(agreements=0)] == ["3"]
    found = {line["id"]: line for line in table(rows).to_label(prompt="pruned", agreements=0)}
    assert {name: line["confidence"] for name, line in found.items()} == {"1": 0.9, "3": 0.7, "4": None}
    assert "pruned prompt" in found["1"]["reason"]
    assert found["1"]["large_pruned"] == "b"
    assert {name: line["stratum"] for name, line in found.items()} == {"1": "changed", "3": "disagree", "4": "changed"}
    with pytest.raises(ValueError, match="large_pruned"):
        table().to_label(prompt="pruned")


def test_somebodys_work_is_not_written_over(tmp_path):
    path = tmp_path / "todo.csv"
    table().to_label(path)
    body = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"todo\.csv is there already"):
        table().to_label(path)
    assert path.read_bytes() == body


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"path": "todo.xlsx"}, r"must end in \.csv or \.jsonl"),
        ({"max_rows": -1}, "max_rows"),
        ({"prompt": "x"}, "prompt"),
        ({"agreements": -0.1}, "agreements"),
        ({"agreements": 40}, "a share of the agreed rows"),
        ({"agreements": True}, "agreements"),
    ],
)
def test_bad_arguments(options, match):
    with pytest.raises(ValueError, match=match):
        table().to_label(**options)
    with pytest.raises(ValueError, match="no column 'small'"):
        Outcomes.from_records([{"confidence": 0.5, "small_ok": True, "large_ok": True}]).to_label()


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("id,gold\nnobody,a\n", r"done\.csv: row 1, column 'id': the table has no row with this id"),
        ("id,gold\nlow,a\n,b\n", r"row 2, column 'id'"),
        ("id,gold\nlow,a\nlow,a\n", r"row 2, column 'id': the same id"),
        ("id,gold\nlow,c\n", r"row 1, column 'gold': 1 of 1 values of gold are none of the labels"),
        ("id,gold\nlow,A\n", r"row 1, column 'gold': 1 of 1 .* other capitals.*gold_map={\"A\": \"a\"}"),
        ("id,gold\nlow,a\nknown,b\n", r"row 2, column 'gold': the table already knows another"),
        ("id,gold,small\nlow,b,b\n", r"row 1, column 'small': not what the table says"),
        ("id,gold,large\nfailed large,b,b\n", r"row 1, column 'large': not what the table says"),
        ("id,stratum,draw,gold\nlow,agree,1,a\n", r"row 1, column 'stratum': not what the table says"),
        ("id,stratum,draw,gold\nlow,disagree,x,a\n", r"row 1, column 'draw': must be a whole number"),
        ("id,stratum,draw,gold\nlow,disagree,0,a\n", r"row 1, column 'draw': must be a whole number"),
        ("id,gold\nlow\n", r"row 1 has 1 cells, the header has 2"),
        ("id,label\nlow,a\n", r"the header must name"),
        ("id,gold,gold\nlow,a,b\n", r"the header must name"),
        ("", r"the header must name"),
    ],
)
def test_a_bad_file_names_file_row_and_column(tmp_path, body, match):
    path = tmp_path / "done.csv"
    path.write_text(body, encoding="utf-8")
    with pytest.raises(ValueError, match=match) as caught:
        table().with_gold(path)
    assert "done.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("[]", "line 1 is no JSON object"),
        ('{"gold": "a"}', "line 1 is no JSON object"),
        ('{"id": "low", "gold": 0.5}', "line 1, column 'gold': must be a text"),
        ("oops", "line 1 is not JSON"),
    ],
)
def test_a_bad_jsonl_names_file_and_line(tmp_path, body, match):
    path = tmp_path / "done.jsonl"
    path.write_text(body, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"done\.jsonl: {match}"):
        table().with_gold(path)


def test_errors_never_carry_a_cell(tmp_path):
    path = tmp_path / "done.csv"
    path.write_text(f"id,gold\nlow,{'a customer writes a long text ' * 2}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="labels") as caught:
        table().with_gold(path)
    assert "customer" not in str(caught.value)
    with pytest.raises(ValueError, match="entry 1 of the mapping, column 'id'"):
        table().with_gold({"a customer": "a"})


def test_without_known_labels_anything_goes():
    outcomes = Outcomes.from_records(ROWS)
    assert outcomes.with_gold({"low": " new "}).values("gold")[1] == " new ", "blanks are no slip of ours to mend"
    assert outcomes.with_gold({"low": "  "}).values("gold")[1] is None
    assert table(labels=[" a", "a", "b"]).with_gold({"low": " a"}).values("gold")[1] == " a"


@given(strange=st.sampled_from(["A", " a", "1.0", "nan", "other"]), place=st.integers(0, 199))
def test_the_one_gold_that_no_model_ever_says_is_asked_for_and_put_right(strange, place):
    rows = [row(str(i), "a", i / 200, "b" if i % 2 else "a", "a") for i in range(200)]
    rows[place]["gold"] = strange
    outcomes = Outcomes.from_records(rows)
    if rows[place]["small"] != rows[place]["large"]:
        assert [asked["id"] for asked in outcomes.to_label()] == [str(place)]
    assert outcomes.with_gold({str(place): "b"}).values("gold")[place] == "b"
    with pytest.raises(ValueError, match="already knows another label"):
        outcomes.with_gold({str((place + 1) % 200): "b"})
