"""Repeats inside a table, and the journal of certifications beside it."""

from __future__ import annotations

import random
import stat

import pytest
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import FakeSmallModel, Outcomes, certify, collect_outcomes
from langchain_dsplus.outcomes.uses import FOLDER, JOURNAL, SAMPLE, blocks, earlier_uses, note_use


def table(n=700, *, prefix="k-", **columns):
    rng = random.Random(n)
    return Outcomes(
        {
            "small": [rng.choice("ab") for _ in range(n)],
            "confidence": [rng.random() for _ in range(n)],
            "large": [rng.choice("ab") for _ in range(n)],
            "input_hash": [f"{prefix}{rng.getrandbits(64):016x}" for _ in range(n)],
            **columns,
        }
    )


def parts(groups, hashes):
    """The blocks by brute force: rows are one block if a chain of equal groups or hashes joins them."""
    n = len(groups)
    block = list(range(n))
    for _ in range(n):
        for i in range(n):
            for j in range(n):
                same = (groups[i] is not None and groups[i] == groups[j]) or (
                    hashes[i] is not None and hashes[i] == hashes[j]
                )
                if same:
                    block[i] = block[j] = min(block[i], block[j])
    return [sorted(set(block)).index(value) for value in block]


@pytest.mark.parametrize("seed", range(30))
def test_blocks_are_the_union_of_both_relations(seed):
    rng = random.Random(seed)
    n = rng.randint(1, 14)
    groups = [rng.choice([None, "x", "y", "z"]) for _ in range(n)]
    hashes = [rng.choice([None, *"12345678"]) for _ in range(n)]
    found = blocks(table(n, group=groups, input_hash=hashes))
    wanted = parts(groups, hashes)
    assert (list(range(n)) if found is None else found.tolist()) == wanted


def test_equal_columns_are_no_repeat():
    rows = [{"small": "a", "confidence": 0.5, "large": "a", "gold": "a"} for _ in range(9)]
    assert blocks(Outcomes.from_records(rows)) is None


@pytest.mark.parametrize("seed", range(5))
def test_repeats_stay_on_one_side_of_a_split(seed):
    rng = random.Random(seed)
    made = table(60, input_hash=[str(rng.randrange(25)) for _ in range(60)])
    one, other = made.split(0.5, seed=seed)
    assert not set(one.values("input_hash")) & set(other.values("input_hash"))


# --- the journal ----------------------------------------------------------------------------------------------------

SUFFIXES = ("csv", "jsonl")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_read_again_is_the_same_table(tmp_path, suffix):
    path = tmp_path / f"table.{suffix}"
    getattr(table(), f"to_{suffix}")(path)
    alphas = [certify(getattr(Outcomes, f"from_{suffix}")(path), 0.02).alpha for _ in range(3)]
    assert alphas == pytest.approx([0.05, 0.025, 0.0125])
    assert stat.S_IMODE((tmp_path / FOLDER / JOURNAL).stat().st_mode) == 0o600


PART = {
    "half": lambda made: made.select(range(0, len(made), 2)),
    "a tenth": lambda made: made.select(range(0, len(made), 10)),
    "shuffled": lambda made: made.select(random.Random(0).sample(range(len(made)), len(made))),
    "with rows added": lambda made: Outcomes.from_records(
        [*made.to_records(), *({**row, "id": f"n{row['id']}"} for row in table(900, prefix="j-").to_records())]
    ),
    "other answers": lambda made: Outcomes.from_records([{**row, "confidence": 0.5} for row in made.to_records()]),
}


@pytest.mark.parametrize("part", PART.values(), ids=PART)
def test_parts_and_more_are_the_same_table(tmp_path, part):
    made = table()
    made.folder = tmp_path
    assert earlier_uses(made) == 0
    assert note_use(made)
    other = part(made)
    other.folder = tmp_path
    assert earlier_uses(other) == 1


def test_fresh_rows_are_another_table(tmp_path):
    made, fresh = table(), table(800, prefix="k-")
    made.folder = fresh.folder = tmp_path
    note_use(made)
    assert earlier_uses(fresh) == 0
    some = [*made.values("input_hash")[:50], *fresh.values("input_hash")[50:]]  # inputs that come again by nature
    mixed = table(800, input_hash=some)
    mixed.folder = tmp_path
    assert earlier_uses(mixed) == 0


def test_a_long_table_is_known_by_a_part_of_its_hashes(tmp_path):
    made = table(5 * SAMPLE)
    made.folder = tmp_path
    note_use(made)
    assert (tmp_path / FOLDER / JOURNAL).stat().st_size < 25 * SAMPLE
    for share in (2, 10, 40):
        assert earlier_uses(made.select(range(0, len(made), share))) == 1


def test_a_journal_that_was_cut_off(tmp_path):
    made = table()
    made.folder = tmp_path
    note_use(made)
    journal = tmp_path / FOLDER / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-9])
    note_use(made)
    assert earlier_uses(made) == 1


def test_without_folder_or_hashes_nobody_can_tell(tmp_path):
    made = table()
    assert earlier_uses(made) is None
    assert not note_use(made)
    plain = Outcomes.from_records([{"small": "a", "confidence": 0.5, "large": "a"}])
    plain.folder = tmp_path
    assert earlier_uses(plain) is None
    assert not note_use(plain)


def test_a_folder_that_cannot_be_written(tmp_path):
    made = table()
    made.folder = tmp_path / "file"
    made.folder.write_text("")
    assert not note_use(made)


# --- where the columns come from ------------------------------------------------------------------------------------


def test_collecting_hashes_what_the_small_model_reads(tmp_path):
    texts = ["one", "two", "one ", "three"]
    small = FakeSmallModel(
        {text: {"a": 0.9, "b": 0.1} for text in texts}, ["a", "b"], input_key="text", trained_on=["two"]
    )
    data = [{"id": str(place), "input": {"text": text, "day": place}} for place, text in enumerate(texts)]
    large = RunnableLambda(lambda _: "a")
    kept = {"path": tmp_path / "answers.jsonl", "progress": False}
    first, again = (collect_outcomes(small, large, data, **kept) for _ in range(2))
    hashes = first.values("input_hash")
    assert len(set(hashes)) == 3
    assert hashes[0] == hashes[2]
    assert first.values("in_training") == [False, True, False, False]
    assert first.folder == tmp_path
    assert again.values("input_hash") == hashes  # the folder's key
    elsewhere = collect_outcomes(small, large, data, progress=False)
    mine, its = (collect_outcomes(small, large, data, progress=False, key="a key of our own") for _ in range(2))
    assert elsewhere.values("input_hash") != hashes
    assert mine.values("input_hash") == its.values("input_hash")
    assert not any(text.strip() in value for text in texts for value in hashes)


def test_a_model_that_knows_nothing_of_its_training_says_nothing():
    small = FakeSmallModel({"x": {"a": 0.9, "b": 0.1}}, ["a", "b"])
    made = collect_outcomes(small, RunnableLambda(lambda _: "a"), [("x", None)], progress=False)
    assert "in_training" not in made
