"""Gold that is no label: refused with a way out, or what the user says it is, in every public door."""

from __future__ import annotations

import ast
import csv
import json
import math
import random
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableLambda
from typer.testing import CliRunner

from langchain_dsplus.answer import CertificateError
from langchain_dsplus.cli import app
from langchain_dsplus.learning.distiller import Distiller
from langchain_dsplus.learning.promotion import promotion
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.outcomes.gold import GoldRules, read_labels
from langchain_dsplus.outcomes.likeness import Likeness
from langchain_dsplus.prompts.conformal import ConformalCandidates
from langchain_dsplus.prompts.parser import LabelParser
from langchain_dsplus.prompts.proficient import proficient_classes
from langchain_dsplus.prompts.pruner import PromptPruner
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.small_models.fake import FakeSmallModel
from langchain_dsplus.threshold.certify import certify
from langchain_dsplus.threshold.choose import choose_threshold
from langchain_dsplus.threshold.curves import cost_quality_curve, risk_coverage_curve
from langchain_dsplus.traces.collect import collect_outcomes

SETS = [
    ["0", "1"],
    ["billing", "shipping"],
    ["-1", "0", "1"],
    ["card_arrival", "card_linking", "top up"],
    ["Ja", "Nein"],
]
WRITINGS = {
    "float": lambda label: f"{label}.0" if label.lstrip("-").isdigit() else None,
    "comma": lambda label: f"{label},00" if label.lstrip("-").isdigit() else None,
    "minus": lambda label: label.replace("-", "\u2212") if label.startswith("-") else None,
    "blank": lambda label: f" {label}",
    "tab": lambda label: f"{label}\t",
    "nbsp": lambda label: f"\u00a0{label}",
    "bom": lambda label: f"\ufeff{label}",
    "zero width": lambda label: f"{label}\u200b",
    "upper": str.upper,
    "title": str.title,
    "wide": lambda label: "".join(chr(ord(mark) + 0xFEE0) if "!" <= mark <= "~" else mark for mark in label),
    "quotes": lambda label: f"'{label}'",
    "separators": lambda label: label.replace("_", "-") if "_" in label else None,
}
"""Labels in another writing: each must be seen for what it is, and mended by the map that the error shows."""
EMPTY = ["nan", "NaN", "n/a", "N/A", "None", "null", "-", "?", "#N/A", "NaT", "<NA>", "unknown", "tbd"]


def table(labels, *, small=0.75, large=0.95, n=1200, seed=0, gold=lambda label: label):
    """The small model loses 20 points if everything stays local, at every confidence."""
    draw = random.Random(seed)

    def say(true, right):
        return true if draw.random() < right else draw.choice([label for label in labels if label != true])

    rows = []
    for place in range(n):
        true = draw.choice(labels)
        row = {"id": str(place), "small": say(true, small), "confidence": 0.5 + draw.random() / 2}
        rows.append({**row, "large": say(true, large), "gold": gold(true), "true": true})
    return rows


def honest(rows, max_loss=0.005, **options):
    """Whether what is certified, if anything, loses less than promised where everybody knows the truth."""
    certificate = certify(
        Outcomes.from_records([{k: v for k, v in r.items() if k != "true"} for r in rows], **options), max_loss
    )
    if not certificate.certified:
        return True
    kept = [row for row in rows if row["confidence"] > certificate.threshold]
    lost = sum((row["large"] == row["true"]) - (row["small"] == row["true"]) for row in kept)
    return lost / len(rows) < max_loss


def advice(message):
    """The map that an error shows, as a user pastes it."""
    return ast.literal_eval(re.search(r"gold_map=(\{.*?\}) \(on the", message)[1])


# --- tables x writings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("labels", SETS, ids=lambda labels: labels[0])
@pytest.mark.parametrize("writing", WRITINGS)
def test_gold_in_another_writing_is_refused_and_mended_by_what_the_error_says(writing, labels, named):
    change = WRITINGS[writing]
    if any(change(label) in (None, *labels) for label in labels if label != "0") or len(set(map(change, labels))) < 2:
        pytest.skip("no other writing of these labels")
    options = {"about": {"labels": labels}} if named else {}
    rows = table(labels, gold=lambda label: change(label) or label)
    with pytest.raises(ValueError, match=r"row \d+, column 'gold': [\d,]+ of 1,200 values of gold are n") as caught:
        honest(rows, **options)
    found = advice(str(caught.value))
    assert found == {change(label): label for label in labels if change(label) not in (None, label)}
    plain = [{k: v for k, v in row.items() if k != "true"} for row in rows]
    mended = Outcomes.from_records(plain, gold_map=found, **options)
    assert mended.values("gold") == [row["true"] for row in rows]
    clean = Outcomes.from_records(
        [row | {"gold": true} for row, true in zip(plain, mended.values("gold"), strict=True)]
    )
    assert certify(mended).thresholds == certify(clean).thresholds


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("word", EMPTY)
def test_a_word_for_nothing_where_the_models_differ_is_never_evidence(word, named):
    labels = ["a", "b", "c"]
    rows = [row | ({"gold": word} if row["small"] != row["large"] else {}) for row in table(labels, large=1.0)]
    options = {"about": {"labels": labels}} if named else {}
    with pytest.raises(ValueError, match="unknown_gold=") as caught:
        honest(rows, **options)
    assert f'unknown_gold=("{word}",)' in str(caught.value)
    assert honest(rows, unknown_gold=word, **options)
    plain = Outcomes.from_records([{k: v for k, v in row.items() if k != "true"} for row in rows], unknown_gold=word)
    certificate = certify(plain)
    assert (certificate.status, certificate.gains) == ("NOT_CERTIFIED", 0)


@settings(deadline=None, max_examples=60)
@given(
    labels=st.lists(
        st.text("abcXYZ019._- \u00e9\u0416", min_size=1, max_size=6).filter(str.strip),
        min_size=2,
        max_size=4,
        unique=True,
    ),
    strange=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), min_size=1, max_size=3),
    share=st.sampled_from([0.002, 0.009, 0.011, 0.3, 1.0]),
    named=st.booleans(),
    seed=st.integers(0, 9),
)
@pytest.mark.no_cover
def test_no_table_with_strange_gold_certifies_what_it_loses(labels, strange, share, named, seed):
    draw = random.Random(seed)
    strange = [word for word in strange if word not in labels and word[0] not in '{"'] or ["nan"]  # no JSON of a label
    rows = table(labels, n=600, seed=seed)
    for row in rows:
        if row["small"] != row["large"] and draw.random() < share:
            row["gold"] = draw.choice(strange)
    options = {"about": {"labels": labels}} if named else {}
    try:
        assert honest(rows, **options)
    except ValueError as error:
        assert "gold" in str(error)  # noqa: PT017
        assert "gold_map=" in str(error) or "agrees" in str(error)  # noqa: PT017


def test_below_one_percent_gold_that_nobody_says_is_unknown():
    rows = [{"small": "a", "confidence": 0.9, "large": "a", "gold": "a"} for _ in range(400)]
    rows += [{"small": "a", "confidence": 0.9, "large": "b", "gold": "z"} for _ in range(3)]
    outcomes = Outcomes.from_records(rows)
    assert np.isnan(outcomes.correct("small")).sum() == 3
    told = certify(outcomes, 0.05)
    assert told.harms == 3
    assert told.unlabeled == 3
    assert certify(Outcomes.from_records(rows, other_gold="z"), 0.05).harms == 0
    with pytest.raises(ValueError, match="never said by any model"):
        Outcomes.from_records(rows[:100] + rows[400:]).correct("small")


def test_what_a_model_could_say_is_a_label():
    row = {"small": "a", "confidence": 0.9, "large": "a", "gold": "c", "probabilities": {"a": 0.9, "c": 0.1}}
    assert Outcomes.from_records([row]).correct("small").tolist() == [0.0]


def test_judged_texts_need_no_labels():
    row = {
        "small": "x",
        "confidence": 0.9,
        "large": "y",
        "gold": "a long reference",
        "small_ok": True,
        "large_ok": False,
    }
    assert Outcomes.from_records([row, row | {"id": None} | {"id": "2"}][:1]).correct("small").tolist() == [1.0]


# --- doors ----------------------------------------------------------------------------------------------------------

LABELS = ["0", "1"]
ABOUT = {"labels": LABELS}


def few(gold):
    return [
        {
            "id": str(place),
            "small": "1",
            "confidence": 0.9,
            "large": "0",
            "gold": value,
            "probabilities": {"0": 0.1, "1": 0.9},
        }
        for place, value in enumerate(gold)
    ]


def small():
    return FakeSmallModel({"x": {"0": 0.2, "1": 0.8}}, LABELS, default={"0": 0.3, "1": 0.7})


def from_file(suffix, delimiter=","):
    def read(rows, tmp_path, **options):
        path = tmp_path / f"table.{suffix}"
        if suffix == "csv":
            with path.open("w", encoding="utf-8-sig", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
                writer.writeheader()
                writer.writerows({**row, "probabilities": json.dumps(row["probabilities"])} for row in rows)
        elif suffix == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        else:
            pd.DataFrame(rows).to_parquet(path)
        return getattr(Outcomes, f"from_{suffix}")(path, about=ABOUT, **options)

    return read


def traces(rows, tmp_path, **options):
    del tmp_path
    said = []
    for row in rows:
        answer = {"choice": row["small"], "confidence": 0.9, "probabilities": row["probabilities"]}
        name = {"route_id": row["id"], "router": "r"}
        said += [
            {**name, "kind": "route", "route": {"reason": "shadow", "answers": []}, "output": row["large"]},
            {**name, "kind": "shadow", "answers": [answer], "errors": {}},
            {"kind": "gold", "route_id": row["id"], "gold": row["gold"]},
        ]
    return Outcomes.from_traces(said, about=ABOUT, **options)


def labeled(rows, tmp_path, **options):
    del tmp_path
    bare = Outcomes.from_records([{**row, "gold": None} for row in rows], about=ABOUT)
    return bare.with_gold({row["id"]: row["gold"] for row in rows}, **options)


def collected(rows, tmp_path, **options):
    del tmp_path
    data = [{"id": row["id"], "input": "x", "gold": row["gold"]} for row in rows]
    return collect_outcomes(small(), RunnableLambda(lambda _: "0"), data, progress=False, **options)


LOADERS = {
    "records": lambda rows, _, **options: Outcomes.from_records(rows, about=ABOUT, **options),
    "columns": lambda rows, _, **options: Outcomes({k: [r[k] for r in rows] for k in rows[0]}, about=ABOUT, **options),
    "frame": lambda rows, _, **options: Outcomes.from_records(pd.DataFrame(rows), about=ABOUT, **options),
    "csv": from_file("csv"),
    "semicolons": from_file("csv", ";"),
    "tabs": from_file("csv", "\t"),
    "jsonl": from_file("jsonl"),
    "parquet": from_file("parquet"),
    "traces": traces,
    "with_gold": labeled,
    "collect": collected,
}


@pytest.mark.parametrize("loader", LOADERS)
def test_every_loader_refuses_and_takes_the_rules(tmp_path, loader):
    load = LOADERS[loader]
    gold = ["1", "1.0", " 0", "n/a", "other", None, ""]
    with pytest.raises(ValueError, match="column 'gold': 4 of 5 values of gold are none of the labels") as caught:
        load(few(gold), tmp_path)
    message = str(caught.value)
    assert re.search(r"(row|line|entry) 2\b", message)
    assert '"1.0", " 0", "n/a"' in message
    assert advice(message) == {"1.0": "1", " 0": "0"}
    rules = {"gold_map": {"1.0": "1", " 0": "0"}, "unknown_gold": "n/a", "other_gold": ("other",)}
    read = load(few(gold), tmp_path, **rules)
    assert read.values("gold") == ["1", "1", "0", None, "other", None, None]
    assert read.about["other_gold"] == ["other"]
    assert read.correct("small").tolist()[:3] == [1.0, 1.0, 0.0]
    assert (read.correct("small")[4], read.correct("large")[4]) == (0.0, 0.0), "wrong for both"
    for kept in (read.select([4]), read.split(0.5)[0]):
        assert kept.about["other_gold"] == ["other"]
    for suffix in ("csv", "jsonl", "parquet"):
        getattr(read, f"to_{suffix}")(tmp_path / f"again.{suffix}")
        assert getattr(Outcomes, f"from_{suffix}")(tmp_path / f"again.{suffix}").values("gold") == read.values("gold")


@pytest.mark.parametrize(
    "use",
    [
        lambda table: table.correct("small"),
        certify,
        choose_threshold,
        cost_quality_curve,
        risk_coverage_curve,
        lambda table: proficient_classes(table, 0.5),
        lambda table: ConformalCandidates.fit(table, 0.1),
        lambda table: table.to_label(),
    ],
)
def test_labels_that_are_named_later_are_looked_at_when_gold_is_used(use):
    rows = few(["1.0"] * 2 + ["1"] * 298)
    outcomes = Outcomes.from_records(rows)
    outcomes.about["labels"] = LABELS
    with pytest.raises(ValueError, match="2 of 300 values of gold are none of the labels"):
        use(outcomes)


def test_promotion_and_distillation():
    old, new = small(), small()
    rows = [("x", 1.0), ("y", "1.0"), ("z", None)]
    with pytest.raises(ValueError, match=r"`gold_rows`: row 2, column 'gold': 1 of 2 .*gold_map=\{\"1.0\": \"1\"\}"):
        promotion(old, new, rows)
    report = promotion(old, new, rows, gold_map={"1.0": "1"})
    assert (report.n, report.accuracy_old, report.negative_flips) == (3, 1.0, 0)
    assert promotion(old, new, pd.DataFrame({"input": ["x"], "gold": [1.0]})).accuracy_new == 1.0
    with pytest.raises(ValueError, match="`gold`: row 2"):
        Distiller(old).distil(rows, [])


def test_a_half_right_version_does_not_replace_a_right_one_where_gold_is_unknown():
    draw = random.Random(0)
    truth = {f"t{i}": draw.choice(LABELS) for i in range(1000)}
    old = FakeSmallModel(lambda text: {truth[text]: 0.9, "1" if truth[text] == "0" else "0": 0.1}, LABELS)
    new = FakeSmallModel(lambda text: {"0": 0.9, "1": 0.1}, LABELS)
    for gold in ("nan", "1.0", "?"):
        rows = [(text, gold if truth[text] == "1" else "0") for text in truth]
        with pytest.raises(ValueError, match="column 'gold'"):
            promotion(old, new, rows)
        report = promotion(old, new, rows, unknown_gold=gold)
        assert not report.promoted
        assert report.negative_flips == sum(label == "1" for label in truth.values())


def test_the_command_line(tmp_path):
    path, output = tmp_path / "o.csv", tmp_path / "c.json"
    rows = [{k: v for k, v in row.items() if k != "true"} for row in table(LABELS, gold=lambda label: f"{label}.0")]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "labels.txt").write_text("0\n1\n")
    command = ["certify", str(path), "-o", str(output), "--labels", str(tmp_path / "labels.txt")]
    runner = CliRunner()
    refused = runner.invoke(app, command)
    assert refused.exit_code == 1
    assert "o.csv: row 1, column 'gold': 1,200 of 1,200" in refused.stderr
    told = re.search(r"on the command line: (.*?)\)", refused.stderr)[1].split()
    assert runner.invoke(app, [*command, *told]).exit_code == 3
    assert set(Outcomes.from_csv(path).values("gold")) == {"0", "1"}


# --- cells ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        (1, "1"), (1.0, "1"), (np.float32(1), "1"), (np.int8(0), "0"), (np.str_("1"), "1"), (math.nan, None), (None, None),
        (np.float64("nan"), None), (pd.NA, None), (pd.NaT, None), (np.datetime64("NaT"), None), ("", None), (" \u00a0", None),
        ('{"label": "1"}', "1"), ('"0"', "0"), ({"label": 1}, "1"), ('{"choice": "0", "confidence": 0.3}', "0"),
        ('{"label": null}', None),
    ],
)  # fmt: skip
def test_one_rule_for_cells(cell, label):
    assert read_labels([cell], LABELS, GoldRules()) == [label]
    assert Outcomes.from_records(few([cell]), about=ABOUT).values("gold") == [label]
    assert collected(few([cell]), None).values("gold") == [label]


@pytest.mark.parametrize("cell", [0.5, math.inf, 1e300, ["1"], b"1", object(), pd.Timestamp("2020-01-01"), True, "1.0"])
def test_other_cells_are_refused_by_place(cell):
    for load in (LOADERS["records"], LOADERS["columns"], collected):
        with pytest.raises(ValueError, match=r"row 2 .*gold|row 2, column 'gold'"):
            load(few(["1", cell]), None)


def test_bools_are_labels_by_their_names():
    rows = [{"small": True, "confidence": 0.9, "large": np.bool_(False), "gold": True}]
    outcomes = Outcomes.from_records(rows, about={"labels": ["True", "False"]})
    assert outcomes.correct("small").tolist() == [1.0]
    with pytest.raises(ValueError, match=r'gold_map=\{"True": "true"\}'):
        Outcomes.from_records(rows, about={"labels": ["true", "false"]})


def test_frames_and_empty_rows(tmp_path):
    frame = pd.DataFrame(few([1.0, None, 0.0]))
    frame.loc[3] = [None] * len(frame.columns)
    read = Outcomes.from_records(frame, about=ABOUT)
    assert read.values("gold") == ["1", None, "0"]
    assert Outcomes(pd.DataFrame(few([1.0, 0.0]))).values("gold") == ["1", "0"]
    assert collect_outcomes(small(), RunnableLambda(lambda _: "0"), pd.DataFrame({"input": ["x", "y", None], "gold": [1, 0, None]}), progress=False).values("gold") == ["1", "0"]  # fmt: skip
    path = tmp_path / "excel.csv"
    path.write_text(
        "sep=;\nid;small;confidence;large; gold;\n1;1;0,93;0;1;\n;;;;;\n2;0;0,5;0;;\n", encoding="utf-8-sig"
    )
    read = Outcomes.from_csv(path, about=ABOUT)
    assert (read.values("gold"), read.values("confidence")) == (["1", None], [0.93, 0.5])
    path.write_text("small;confidence;large;\n1;0,9;0;stray\n", encoding="utf-8")
    with pytest.raises(ValueError, match="row 1: a cell in a column without a name"):
        Outcomes.from_csv(path)


# --- what the error says --------------------------------------------------------------------------------------------


def test_a_long_text_is_never_shown():
    with pytest.raises(ValueError, match=r"a text of \d+ characters.*right column") as caught:
        Outcomes.from_records(few(["a customer writes about something that nobody must see.."]), about=ABOUT)
    assert "customer" not in str(caught.value)


@pytest.mark.parametrize("word", ["A+", "A**", ">50K", "b", "2", "10", "12", "-", "no"])
def test_no_guess_where_a_word_is_another_class(word):
    assert Likeness(["A", "A*", "<=50K", "1", "0", "yes"])(word) is None


@pytest.mark.parametrize(
    ("rules", "match"),
    [
        ({"gold_map": {"x": "nowhere"}}, '`gold_map` leads to "nowhere"'),
        ({"other_gold": "1"}, '`other_gold` names "1"'),
        ({"gold_map": {"x": "1"}, "unknown_gold": "x"}, 'both name "x"'),
        ({"unknown_gold": "x", "other_gold": "x"}, 'both name "x"'),
        ({"unknown_gold": [math.nan]}, "`unknown_gold` must name texts"),
    ],
)  # fmt: skip
def test_rules_that_make_no_sense(rules, match):
    with pytest.raises(ValueError, match=match):
        Outcomes.from_records(few(["1"]), about=ABOUT, **rules)
    with pytest.raises(TypeError, match="`gold_map` must be a dict"):
        Outcomes.from_records(few(["1"]), gold_map=[("x", "1")])


# --- labels named later, labels of the chain ------------------------------------------------------------------------


@pytest.mark.parametrize(("column", "value"), [("gold", "z"), ("small", "z"), ("large", "z")])
def test_bind_looks_at_what_the_rows_said(column, value):
    rows = [{"small": "a", "confidence": i / 2000, "large": "a", "gold": "a"} for i in range(2000)]
    rows[0][column] = value
    certificate = certify(Outcomes.from_records(rows), 0.02)
    assert certificate.certified
    with pytest.raises(CertificateError, match=f"column '{column}' that are none of `labels`: \"z\""):
        certificate.bind(score="max_probability", labels=["a", "b"])
    bound = certificate.bind(score="max_probability", labels=["a", "b", "z"])
    assert type(certificate).from_dict(bound.to_dict()).about["labels"] == ["a", "b", "z"]


def test_a_small_model_and_a_parser_without_a_common_label():
    def chain(labels):
        prompt = PromptPruner.from_messages([("human", "{text}")], labels=labels)
        return prompt | RunnableLambda(lambda _: "x").with_types(output_type=str) | LabelParser(labels)

    model = FakeSmallModel({"x": {"spam": 1.0, "ham": 0.0}}, ["spam", "ham"], input_key="text")
    for labels in (["0", "1"], ["Spam", "Ham"], ["spam", "Ham"]):
        for large in (chain(labels), chain(labels).with_retry(), chain(labels).with_fallbacks([chain(labels)])):
            with pytest.raises(ValueError, match=r'"spam", "ham".*LabelParser|LabelParser.*"spam", "ham"'):
                ConfidenceRouter(small=model, large=large, threshold=0.9)
            with pytest.raises(ValueError, match="LabelParser"):
                collect_outcomes(model, large, [{"input": {"text": "x"}}], progress=False)
    ConfidenceRouter(small=model, large=chain(["spam", "ham", "unclear"]), threshold=0.9)
    made = collect_outcomes(model, chain(["spam", "ham", "unclear"]), [({"text": "x"}, "unclear")], progress=False)
    assert made.about["large_labels"] == ["unclear"]
    assert made.correct("small").tolist() == [0.0], "a class that only the large model knows"
