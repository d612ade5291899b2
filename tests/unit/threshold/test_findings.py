"""What can be seen of a table's honest mistakes."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from langchain_dsplus import Certificate, Outcomes, certify
from langchain_dsplus.outcomes.uses import FOLDER
from langchain_dsplus.report import render_report
from langchain_dsplus.threshold.clusters import clustered_p_value
from langchain_dsplus.threshold.findings import MOST_TRAINED, agrees, change_point, find_mistakes

LABELS = ("ab", "abc", "positive")


def clean(seed=0, n=1500, labels="abc", small=0.9, large=0.93):
    """A table as it should be: answers right with some probability, confidence that says so a little."""
    rng = random.Random(seed)

    def said(gold, right):
        return gold if rng.random() < right else rng.choice([label for label in labels if label != gold])

    rows = []
    for place in range(n):
        gold = rng.choice(labels)
        mine = said(gold, small)
        rows.append(
            {
                "id": str(place),
                "small": mine,
                "confidence": 0.5 + 0.5 * rng.random() ** (0.3 if mine == gold else 2),
                "large": said(gold, large),
                "gold": gold,
                "input_hash": f"k-{rng.getrandbits(64):016x}",
                "in_training": False,
                "group": f"g{place}",
            }
        )
    return rows


def kinds(rows, severity=None):
    found = find_mistakes(Outcomes.from_records(rows))
    return {item.kind for item in found if severity in (None, item.severity)}


@pytest.mark.parametrize("seed", range(20))
def test_a_clean_table_is_neither_refused_nor_named(seed):
    rows = clean(seed, labels=random.Random(seed).choice(["ab", "abc", "abcdefgh"]))
    assert not kinds(rows, "refuse") | kinds(rows, "name")
    assert kinds(rows, "unseen") == {"uses_unseen", "selection_unseen"}


def test_a_table_without_the_columns_says_so():
    rows = [{k: v for k, v in row.items() if k not in ("input_hash", "in_training", "group")} for row in clean()]
    assert kinds(rows, "unseen") == {
        "uses_unseen",
        "selection_unseen",
        "training_unseen",
        "repeats_unseen",
        "groups_unseen",
    }
    certificate = certify(Outcomes.from_records(rows), 0.02)
    for text in (certificate.verdict, certificate.text, Certificate.from_json(certificate.to_json()).verdict):
        for column in ("`in_training`", "`input_hash`", "in another copy"):
            assert column in text


# --- gold -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("labels", ["ab", "abcdefgh"])
@pytest.mark.parametrize("how", ["shuffled", "moved by one", "reversed"])
def test_gold_of_other_rows_refuses(seed, labels, how):
    rows = clean(seed, labels=labels)
    golds = [row["gold"] for row in rows]
    if how == "shuffled":
        random.Random(seed).shuffle(golds)
    golds = {"moved by one": [*golds[1:], golds[0]], "reversed": golds[::-1]}.get(how, golds)
    table = Outcomes.from_records([{**row, "gold": gold} for row, gold in zip(rows, golds, strict=True)])
    with pytest.raises(ValueError, match="no more often than chance"):
        certify(table, 0.02)
    assert "certifications" not in table.about


def test_gold_of_rows_that_were_chosen_is_not_tested():
    # After `to_label` only disagreements have gold: there each model may well be wrong about as often as chance.
    rows = [{**row, "gold": row["gold"] if row["small"] != row["large"] else None} for row in clean()]
    assert "gold_untested" in kinds(rows, "unseen")
    assert "gold_shuffled" not in kinds(rows)


def test_one_gold_value_is_not_tested():
    rows = [{**row, "small": "a", "large": "a", "gold": "a"} for row in clean()]
    assert "gold_untested" in kinds(rows, "unseen")


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_class_refuses_nobody(seed):
    rng = random.Random(seed)
    gold = ["b" if rng.random() < 0.01 else "a" for _ in range(800)]
    said = [truth if rng.random() < 0.6 else "a" for truth in gold]
    assert agrees(*(np.array([label == "b" for label in column], dtype=int) for column in (gold, said))) in (True, None)


@pytest.mark.parametrize("gold", ["aabb", "aaab", "aabc", "abab", "abcabc"])
def test_mean_and_variance_of_matches_over_all_orders(gold):
    said = "aabbcb"[: len(gold)]
    orders = [sum(map(str.__eq__, order, said)) for order in itertools.permutations(gold)]
    words = sorted(set(gold) | set(said))
    a, b = (np.array([text.count(word) for word in words], dtype=float) for text in (gold, said))
    n = len(gold)
    square = (a * b * (n * n - n * (a + b))).sum() + (a * b).sum() ** 2
    assert np.mean(orders) == pytest.approx((a * b).sum() / n)
    assert np.var(orders) == pytest.approx(square / (n * n * (n - 1)))


def test_by_permutation_and_by_the_normal_form_alike():
    """Around the border the two must not differ much: gold that is right a little more often than chance."""
    rng = np.random.default_rng(0)
    decided = []
    for extra in np.linspace(0.0, 0.12, 25):
        gold = rng.integers(0, 2, 1000)
        said = np.where(rng.random(1000) < 2 * extra, gold, rng.integers(0, 2, 1000))
        above = (np.mean(gold == said) - 0.5) * 2 * math.sqrt(1000)
        found = agrees(gold, said)
        if abs(above - 3.09) > 0.4:
            assert found == (above > 3.09)
        decided.append(found)
    assert True in decided
    assert False in decided


# --- columns --------------------------------------------------------------------------------------------------------

COPIES = {
    "small_is_large": lambda row: {"small": row["large"]},
    "gold_is_small": lambda row: {"gold": row["small"]},
    "gold_is_large": lambda row: {"gold": row["large"]},
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copied_column_is_named_and_not_refused(kind):
    rows = [row | COPIES[kind](row) for row in clean()]
    assert kind in kinds(rows, "name")
    assert not kinds(rows, "refuse")
    certificate = certify(Outcomes.from_records(rows), 0.02)
    sentence = next(item["sentence"] for item in certificate.findings if item["kind"] == kind)
    page = render_report(Outcomes.from_records(rows), certificate)
    assert sentence in certificate.verdict
    assert sentence in certificate.text
    assert sentence.replace("'", "&#x27;") in page


def test_a_perfect_table_certifies():
    certificate = certify(Outcomes.from_records(clean(small=1.0, large=1.0)), 0.005)
    assert certificate.certified
    assert certificate.coverage == 1.0
    assert {"small_is_large", "gold_is_small", "gold_is_large"} <= {item["kind"] for item in certificate.findings}


@pytest.mark.parametrize("column", ["small", "large", "gold"])
@pytest.mark.parametrize(
    "change", [str.upper, str.title, lambda text: f" {text}", lambda text: text.replace("_", "_ ")]
)
@pytest.mark.parametrize("which", [1, 3])
def test_labels_in_another_writing_refuse(column, change, which):
    names = ["card_lost", "refund", "top up"]
    rows = [row | {k: names["abc".index(row[k])] for k in ("small", "large", "gold")} for row in clean()]
    changed = [row | ({column: change(row[column])} if row[column] in names[:which] else {}) for row in rows]
    if column == "gold":  # the rule for gold stands before
        with pytest.raises(ValueError, match="gold_map="):
            kinds(changed, "refuse")
        return
    found = kinds(changed, "refuse")
    if {row[column] for row in changed} == {row[column] for row in rows} or "_ " in change("_"):
        return  # nothing was changed, or a word was: that is another label
    assert found & {"writing", "gold_shuffled", "no_common_label"}


def test_labels_that_differ_by_case_on_purpose():
    rows = [row | {k: {"a": "it", "b": "IT", "c": "c"}[row[k]] for k in ("small", "large", "gold")} for row in clean()]
    assert not kinds(rows, "refuse")
    listed = Outcomes.from_records(
        [{**r, "small": "it", "large": "IT", "gold": None} for r in rows], about={"labels": ["it", "IT"]}
    )
    assert not [item for item in find_mistakes(listed) if item.severity == "refuse"]


def test_two_lists_of_labels_refuse():
    rows = [row | {"large": {"a": "1", "b": "2", "c": "3"}[row["large"]]} for row in clean()]
    assert kinds(rows, "refuse") == {"no_common_label"}


# --- rows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [2, 3, 10])
def test_repeats_count_as_groups(times):
    """Repeating every row must not make a certificate stronger."""
    rows = clean(n=700, small=0.995, large=0.97)
    many = [row | {"id": f"{row['id']}.{k}", "group": None} for row in rows for k in range(times)]
    one, repeated = (certify(Outcomes.from_records(item), 0.01) for item in (rows, many))
    assert repeated.groups == len(rows)
    sums = [1] * one.harms + [-1] * one.gains + [0] * (one.n - one.harms - one.gains)
    assert repeated.threshold == one.threshold
    assert repeated.p_value == pytest.approx(clustered_p_value(sums, [1] * one.n, 0.01))
    assert "repeat the input of another row" in repeated.verdict
    blind = certify(Outcomes.from_records([{k: v for k, v in row.items() if k != "input_hash"} for row in many]), 0.01)
    assert "no column `input_hash`" in blind.verdict


@pytest.mark.parametrize("share", [0.02, 0.1, MOST_TRAINED + 0.05, 0.6])
def test_training_rows(share):
    rows = clean()
    count = int(share * len(rows))
    trained = [row | ({"small": row["gold"], "in_training": True} if k < count else {}) for k, row in enumerate(rows)]
    random.Random(0).shuffle(trained)
    table = Outcomes.from_records(trained)
    if share > MOST_TRAINED:
        with pytest.raises(ValueError, match="was trained on"):
            certify(table, 0.02)
        return
    certificate = certify(table, 0.02)
    fresh = certify(Outcomes.from_records([row for row in trained if not row["in_training"]]), 0.02)
    assert (certificate.n, certificate.threshold) == (len(rows) - count, fresh.threshold)
    assert f"{count:,} rows are left out" in certificate.verdict
    assert certificate.about["data"] == table.data_hash()


def test_unknown_training_rows_are_counted():
    rows = [row | {"in_training": None if k < 5 else False} for k, row in enumerate(clean())]
    assert any(
        item.kind == "training_unseen" and " 5 of" in item.sentence
        for item in find_mistakes(Outcomes.from_records(rows))
    )


@pytest.mark.parametrize("down", [True, False])
def test_rows_sorted_by_confidence_are_named(down):
    rows = sorted(clean(), key=lambda row: row["confidence"], reverse=down)
    assert kinds(rows, "name") == {"sorted"}
    assert kinds(rows[:600], "name") == {"sorted"}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("where", ["rows", "time"])
def test_a_change_half_way_is_named(seed, where):
    before, after = clean(seed, 1000), clean(seed + 100, 1000, large=0.75)
    rows = [
        row | {"id": str(k), "group": None, "time": f"2026-01-{1 + k // 100:02d}"}
        for k, row in enumerate([*before, *after])
    ]
    if where == "time":
        random.Random(seed).shuffle(rows)
    assert kinds(rows, "name") == {"change"}


def test_rows_of_one_customer_are_no_change():
    rng = random.Random(1)
    rows = [
        row | {"group": str(k // 100), "confidence": 0.5 + 0.2 * rng.random() + 0.3 * ((k // 100) % 3 == 0)}
        for k, row in enumerate(clean())
    ]
    assert "change" not in kinds(rows)


def test_the_level_of_the_change_test():
    rng = np.random.default_rng(5)
    found = [change_point(rng.random(400) < 0.1)[0] <= 0.05 for _ in range(600)]
    assert np.mean(found) <= 0.06


@pytest.mark.parametrize("dropped", [True, False])
def test_live_rows_refuse(dropped):
    """Above a threshold the large model was not asked, and `source` went lost on the way."""
    rows = [row | ({"large": None} if row["confidence"] > 0.8 else {}) for row in clean()]
    assert "live" in kinds(rows, "refuse")
    failed = [row | ({"large": None, "error": "TimeoutError"} if row["large"] is None else {}) for row in rows]
    assert "live" not in kinds(failed)


def test_an_earlier_use_is_named(tmp_path):
    path = tmp_path / "table.jsonl"
    Outcomes.from_records(clean()).to_jsonl(path)
    first = certify(Outcomes.from_jsonl(path), 0.02)
    second = certify(Outcomes.from_jsonl(path).select(range(1000)), 0.02)
    assert (first.certification, second.certification) == (1, 2)
    assert second.alpha == pytest.approx(first.alpha / 2)
    assert "have certified once before" in second.verdict
    assert "used 2 times" in second.text
    assert (tmp_path / FOLDER).is_dir()


def test_the_findings_go_through_json():
    certificate = certify(Outcomes.from_records(clean()), 0.02)
    assert Certificate.from_json(certificate.to_json()).findings == certificate.findings != ()
    bound = certificate.bind(large="x", prompt="y", small="z")
    assert bound.verdict.endswith(certificate.findings[-1]["sentence"])
    with pytest.raises(ValueError, match="findings"):
        Certificate.from_dict(certificate.to_dict() | {"findings": [3]})


def test_a_report_without_a_certificate_shows_them():
    page = render_report(Outcomes.from_records([{**row, "small": row["large"]} for row in clean()]))
    assert "say the same on all" in page
    assert "What these rows cannot show" in page


def test_texts_with_a_judge_are_no_labels():
    rows = [
        {"small": f"Text {k}.", "large": f"text {k}.", "confidence": k / 90, "small_ok": True, "large_ok": k % 7 > 0}
        for k in range(90)
    ]
    assert not kinds(rows, "refuse")
    assert "gold_untested" in kinds(rows, "unseen")


@pytest.mark.parametrize("reply", ["I cannot say.", "A", " a", "a.", '{"label": "a"}', "1.0", ""])
@pytest.mark.parametrize("share", [0.003, 0.05, 0.4])
def test_replies_that_may_be_no_labels_are_named_where_none_are_listed(reply, share):
    rng = random.Random(3)
    rows = [row | ({"large": reply} if rng.random() < share else {}) for row in clean(5)]
    if reply in ("A", " a"):  # where the large model's column alone tells two writings apart, they may be two labels
        rows[0]["large"], rows[1]["large"] = reply, "a"
    assert ("replies" in kinds(rows, "name")) == (share > 0.01)
    named = Outcomes.from_records(rows, about={"labels": ["a", "b", "c"]})
    assert "replies" not in {item.kind for item in find_mistakes(named)}
    if share > 0.01:
        made = certify(Outcomes.from_records(rows), "5 points")
        assert "says what neither gold nor a small model ever says" in made.verdict
