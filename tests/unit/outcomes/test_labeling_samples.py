"""Rows that were drawn for labelling: which, in what order, and what the table keeps of it."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.outcomes.sampling import LabelSample


def rows_of(n=400, seed=0, agreed=0.8):
    draw = np.random.default_rng(seed)
    gold = draw.integers(0, 3, n)
    small = np.where(draw.random(n) < agreed, gold, (gold + 1) % 3)
    large = np.where(draw.random(n) < 0.9, small, (small + 1) % 3)
    names = np.array(["a", "b", "c"])
    table = Outcomes(
        {
            "id": [f"r{k}" for k in range(n)],
            "small": names[small].tolist(),
            "confidence": np.round(draw.random(n), 3).tolist(),
            "large": names[large].tolist(),
        },
        about={"labels": ["a", "b", "c"]},
    )
    return table, dict(zip(table.values("id"), names[gold].tolist(), strict=True))


def fill(path, gold, order=None):
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    for place, line in enumerate(lines):
        line["gold"] = gold(place, line["id"])
    lines = lines if order is None else [lines[k] for k in order(len(lines))]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, lines[0].keys())
        writer.writeheader()
        writer.writerows(lines)
    return path


def test_both_kinds_are_drawn_at_random_and_shuffled_into_each_other():
    table, _ = rows_of(2000)
    found = table.to_label(agreements=0.1, seed=3)
    strata = np.array([line["stratum"] for line in found])
    differ = int((~table.agree("small", "large")).sum())
    assert (strata == "disagree").sum() == differ
    assert (strata == "agree").sum() == np.ceil(0.1 * (2000 - differ))
    for most in (20, 50, 100):
        assert abs((strata[:most] == "agree").mean() - (strata == "agree").mean()) <= 1.0 / most + 1e-9
    for name in ("agree", "disagree"):
        draws = [line["draw"] for line in found if line["stratum"] == name]
        assert draws == list(range(1, len(draws) + 1))
    assert found == table.to_label(agreements=0.1, seed=3)
    assert [line["id"] for line in found] != [line["id"] for line in table.to_label(agreements=0.1, seed=4)]
    first = table.to_label(agreements=0.1, seed=3, max_rows=60)
    assert len(first) == 60
    assert abs(sum(line["stratum"] == "agree" for line in first) - 60 * (strata == "agree").mean()) <= 1


def test_every_row_of_a_stratum_is_drawn_equally_often():
    table, _ = rows_of(60)
    counts = dict.fromkeys(table.values("id"), 0)
    for seed in range(400):
        for line in table.to_label(agreements=0.2, seed=seed, max_rows=10):
            counts[line["id"]] += 1
    agree = table.agree("small", "large")
    for mask in (agree, ~agree):
        seen = np.array([counts[name] for name, mine in zip(table.values("id"), mask, strict=True) if mine])
        assert seen.std() < 2.0 * np.sqrt(seen.mean())


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_table_keeps_how_rows_were_drawn(tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    table, truth = rows_of()
    table.to_label(tmp_path / "todo.csv", agreements=0.1)
    count = 30
    path = fill(tmp_path / "todo.csv", lambda place, name: "" if place >= count or place in (3, 7) else truth[name])
    done = table.with_gold(path)
    strata, draws, chance = (done.values(name) for name in ("stratum", "draw", "label_probability"))
    agree = table.agree("small", "large")
    assert [name == "agree" for name in strata] == agree.tolist()
    assert sum(draw is not None for draw in draws) == count
    gold = np.array([label is not None for label in done.values("gold")])
    assert gold.sum() == count - 2
    for name, mask in (("agree", agree), ("disagree", ~agree)):
        mine = [p for p, stratum in zip(chance, strata, strict=True) if stratum == name]
        assert mine == [pytest.approx(gold[mask].mean())] * int(mask.sum())
    sample = LabelSample.of(done)
    assert int(sample.skipped.sum()) == 2
    getattr(done, f"to_{suffix}")(tmp_path / f"done.{suffix}")
    back = getattr(Outcomes, f"from_{suffix}")(tmp_path / f"done.{suffix}")
    assert back == done
    assert back.data_hash() == done.data_hash()
    part, rest = back.split(0.5)
    assert np.isfinite(part["label_probability"]).all()
    assert int(LabelSample.of(part).skipped.sum()) + int(LabelSample.of(rest).skipped.sum()) == 2


def test_a_file_that_was_sorted_says_the_same(tmp_path):
    table, truth = rows_of()
    made = []
    for number, order in enumerate([None, lambda n: np.random.default_rng(0).permutation(n).tolist()]):
        path = tmp_path / f"{number}.csv"
        table.to_label(path, agreements=0.1)
        made.append(table.with_gold(fill(path, lambda place, name: truth[name] if place < 40 else "", order)))
    assert made[0] == made[1]


def test_a_word_for_unknown_is_a_skipped_row_wherever_it_stands(tmp_path):
    table, truth = rows_of()
    table.to_label(tmp_path / "todo.csv", agreements=0.1)
    words = {19: "unclear", 20: "unclear", 21: "unclear"}
    path = fill(tmp_path / "todo.csv", lambda place, name: words.get(place, truth[name] if place < 19 else ""))
    done = table.with_gold(path, unknown_gold="unclear")
    assert int(LabelSample.of(done).skipped.sum()) == 3
    strict, kind = done.estimate(), LabelSample.of(done)
    plain = LabelSample(kind.strata, kind.labelled, np.zeros(len(done), dtype=bool))
    assert strict.width > plain.rate(1.0 - done.correct("small")).width


def test_rounds_go_on_where_the_last_one_ended(tmp_path):
    table, truth = rows_of()
    for number in range(4):
        path = tmp_path / f"{number}.csv"
        found = table.to_label(path, max_rows=25, agreements=0.2, seed=number)
        assert all(table.values("gold")[table.values("id").index(line["id"])] is None for line in found)
        table = table.with_gold(fill(path, lambda place, name: truth[name]))
    assert sum(label is not None for label in table.values("gold")) == 100
    draws = [(s, d) for s, d in zip(table.values("stratum"), table.values("draw"), strict=True) if d is not None]
    assert len(set(draws)) == 100
    assert set(table.values("stratum")) == {"agree", "disagree"}
    rest = table.to_label(agreements=0.2)
    table.to_label(tmp_path / "rest.csv", agreements=0.2)
    table = table.with_gold(fill(tmp_path / "rest.csv", lambda place, name: truth[name]))
    assert len(rest) > 0
    assert table.to_label(agreements=0.2) == [], "all that was asked for is there"
    assert len(table.to_label(agreements=0.3)) > 0


def test_two_files_of_two_people_go_together(tmp_path):
    table, truth = rows_of()
    paths = [tmp_path / "one.csv", tmp_path / "two.csv"]
    for seed, path in enumerate(paths):
        table.to_label(path, max_rows=40, agreements=0.2, seed=seed)
        fill(path, lambda place, name: truth[name])
    one = table.with_gold(paths[0]).with_gold(paths[1])
    other = table.with_gold(paths[1]).with_gold(paths[0])
    assert one.values("gold") == other.values("gold")
    assert one.values("stratum") == other.values("stratum")
    assert one.estimate() == other.estimate()


def test_gold_that_was_there_before_speaks_for_itself_only(tmp_path):
    table, truth = rows_of()
    agree = table.agree("small", "large")
    wrong = [name for name, same in zip(table.values("id"), agree, strict=True) if same and truth[name] == "a"]
    table = table.with_gold({name: truth[name] for name in wrong[:20]})  # chosen by hand
    table.to_label(tmp_path / "todo.csv", agreements=0.2)
    done = table.with_gold(fill(tmp_path / "todo.csv", lambda place, name: truth[name]))
    assert done.values("stratum").count("given") == 20
    assert {line["id"] for line in table.to_label(agreements=1)}.isdisjoint(wrong[:20])


def test_a_table_without_its_unlabelled_rows_is_refused(tmp_path):
    table, truth = rows_of(1000)
    table.to_label(tmp_path / "todo.csv", agreements=0.1)
    done = table.with_gold(fill(tmp_path / "todo.csv", lambda place, name: truth[name]))
    known = [label is not None for label in done.values("gold")]
    assert done.estimate().known
    assert done.select(np.random.default_rng(0).random(1000) < 0.5).estimate().value is not None
    with pytest.raises(ValueError, match="rows without gold were taken out"):
        done.select(known).estimate()


@pytest.mark.parametrize("figure", ["accuracy", "errors", "calibration_error", "auroc", "aurc", "e_aurc"])
def test_figures_of_a_table(tmp_path, figure):
    table, truth = rows_of(1500)
    whole = table.with_gold(truth).estimate(figure)
    assert whole.census
    table.to_label(tmp_path / "todo.csv", agreements=0.1)
    done = table.with_gold(fill(tmp_path / "todo.csv", lambda place, name: truth[name]))
    found = done.estimate(figure)
    assert found.low - 1e-9 <= whole.value <= found.high + 1e-9
    done = table.with_gold({line["id"]: truth[line["id"]] for line in table.to_label(agreements=0)})
    found = done.estimate(figure)
    assert found.value is None
    assert found.low <= whole.value <= found.high
    assert "more labels" in found.words()


def test_what_has_no_figure():
    table, truth = rows_of(50)
    table = table.with_gold(truth)
    for figure, who in (("nonsense", "small"), ("auroc", "large")):
        with pytest.raises(ValueError, match="figure"):
            table.estimate(figure, who)
    with pytest.raises(ValueError, match="mask"):
        table.estimate(rows=[1, 2])
    with pytest.raises(KeyError):
        table.estimate(who="large_pruned")
    inside = table["confidence"] > 0.5
    assert table.estimate(rows=inside).value == pytest.approx(table.correct("small")[inside].mean())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.floats(0, 1), st.integers(0, 60))
def test_any_file_filled_in_anyhow(tmp_path_factory, seed, n, agreements, most):
    table, truth = rows_of(n, seed)
    path = tmp_path_factory.mktemp("any") / "todo.csv"
    found = table.to_label(path, agreements=agreements, max_rows=most, seed=seed)
    if not found:
        return
    draw = np.random.default_rng(seed)
    answers = {line["id"]: truth[line["id"]] if draw.random() < 0.6 else "" for line in found}
    done = table.with_gold(fill(path, lambda place, name: answers[name]))
    assert {k: v for k, v in zip(done.values("id"), done.values("gold"), strict=True) if v} == {
        name: label for name, label in answers.items() if label
    }
    for who in ("small", "large"):
        found_ = done.estimate("accuracy", who)
        assert 0.0 <= found_.low <= found_.high <= 1.0
        whole = table.with_gold(truth).correct(who).mean()
        if not found_.known:
            assert found_.needed >= 0
        assert found_.value is None or found_.low <= found_.value <= found_.high
        assert not np.isnan(whole)


def test_what_needs_a_sample_as_it_stands_refuses_chosen_rows(tmp_path):
    from langchain_dsplus.prompts.conformal import ConformalCandidates
    from langchain_dsplus.prompts.proficient import proficient_classes

    table, truth = rows_of()
    spread = [{name: 0.8 if name == small else 0.1 for name in "abc"} for small in table.values("small")]
    columns = {name: table.values(name) for name in ("id", "small", "confidence", "large")}
    table = Outcomes({**columns, "probabilities": spread}, about=table.about)
    table.to_label(tmp_path / "todo.csv")
    done = table.with_gold(fill(tmp_path / "todo.csv", lambda place, name: truth[name]))
    for door in (lambda rows: ConformalCandidates.fit(rows, 0.1), lambda rows: proficient_classes(rows, 0.5)):
        with pytest.raises(ValueError, match="rows were chosen for labelling"):
            door(done)
        door(table.with_gold(truth))


def _chosen_by_hand(how, seed):
    """A table whose gold somebody gave as they liked, without `to_label`: all gold, and what is known of it."""
    rng = np.random.default_rng(seed)
    n = 2000
    sure = np.round(0.4 + 0.6 * rng.random(n), 3)
    gold = rng.integers(0, 3, n)
    small = np.where(rng.random(n) < sure, gold, (gold + 1) % 3)
    large = np.where(rng.random(n) < 0.9, gold, (gold + 2) % 3)
    place, chance = sure.argsort().argsort() / n, rng.random(n)
    known = {
        "at random": chance < 0.3,
        "disagreements": small != large,
        "unsure first": place < 0.35,
        "sure first": place > 0.6,
        "around a threshold": abs(place - 0.5) < 0.2,
        "the unsure more often": chance < 0.9 - 0.8 * place,
        "sure disagreements, and some others": ((small != large) & (place > 0.5)) | (chance < 0.05),
    }[how]
    names = np.array(["a", "b", "c"])
    columns = {"id": [str(k) for k in range(n)], "small": names[small].tolist(), "confidence": sure.tolist()}
    columns |= {"large": names[large].tolist(), "gold": names[gold].tolist()}
    columns["probabilities"] = [{name: 0.8 if name == names[k] else 0.1 for name in "abc"} for k in small]
    whole = Outcomes(columns, about={"labels": ["a", "b", "c"]})
    columns = columns | {"gold": [names[k] if fine else None for k, fine in zip(gold, known, strict=True)]}
    return whole, Outcomes(columns, about={"labels": ["a", "b", "c"]})


FIGURES = ("accuracy", "calibration_error", "auroc", "aurc", "e_aurc")
BY_HAND = (
    "disagreements", "unsure first", "sure first", "around a threshold", "the unsure more often",
    "sure disagreements, and some others",
)  # fmt: skip


@pytest.mark.parametrize("how", ["at random", *BY_HAND])
def test_gold_that_somebody_chose_misleads_nobody(how):
    hits, needs = [], 0
    for seed in range(12):
        whole, part = _chosen_by_hand(how, seed)
        for figure in FIGURES:
            found, truth = part.estimate(figure), whole.estimate(figure).value
            if found.known:
                hits.append(found.low - 1e-9 <= truth <= found.high + 1e-9)
            else:
                needs += 1
                assert found.needed > 0
    assert len(hits) + needs == 60
    assert not hits or np.mean(hits) >= 0.93 - 2 * np.sqrt(0.93 * 0.07 / len(hits))
    assert len(hits) >= 50 if how == "at random" else needs >= 12 or how == "the unsure more often"


@pytest.mark.parametrize("how", ["at random", *BY_HAND])
def test_what_needs_a_sample_refuses_gold_that_somebody_chose(how):
    from langchain_dsplus.prompts.conformal import ConformalCandidates
    from langchain_dsplus.prompts.proficient import proficient_classes
    from langchain_dsplus.scores import PredictedCorrectness
    from langchain_dsplus.threshold import risk_coverage_curve

    doors = {
        "conformal": lambda rows: ConformalCandidates.fit(rows, 0.1),
        "proficient": lambda rows: proficient_classes(rows, 0.6),
        "predicted": lambda rows: PredictedCorrectness(object())._targets(rows),
    }
    whole, part = _chosen_by_hand(how, 3)
    for door in doors.values():
        door(whole)
        if how == "at random":
            door(part)
            continue
        with pytest.raises(ValueError, match="rows were chosen for labelling"):
            door(part)
    curve = risk_coverage_curve(part)
    assert (curve.estimates is None) == (how == "at random")


def test_gold_at_random_is_taken_for_chosen_once_in_some_hundred_tables():
    from langchain_dsplus.outcomes.sampling import chosen

    rng = np.random.default_rng(0)
    whole, _ = _chosen_by_hand("at random", 0)
    taken = [chosen(whole, rng.random(len(whole)) < rng.random()) for _ in range(400)]
    assert np.mean(taken) <= 0.0155  # two tests of three standard deviations: 0.0054, and three of their own beyond
