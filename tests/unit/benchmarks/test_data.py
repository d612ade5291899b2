"""Data sets: where they are looked for, how they are read, that a download is checked. Nothing leaves the machine."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import urllib.parse
import zipfile
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import data


@pytest.fixture
def here(monkeypatch, tmp_path):
    """Only `tmp_path/mine`, `tmp_path/repo/../shared/data` and a cache below it exist."""
    monkeypatch.setenv("DSPLUS_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("DSPLUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DSPLUS_OFFLINE", "1")
    monkeypatch.setattr(data, "ROOT", tmp_path / "repo")
    return tmp_path


@pytest.fixture
def real(monkeypatch):
    """The recorded sets, where they are on this machine."""
    monkeypatch.setenv("DSPLUS_OFFLINE", "1")

    def load(name, *args, **kwargs):
        try:
            data.find(name)
        except FileNotFoundError as error:
            pytest.skip(str(error).split(". ")[0])
        return data.LOADERS[name](*args, **kwargs)

    return load


def put(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def table(columns, *rows):
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerows([columns.split(","), *rows])
    return out.getvalue()


# --- finding ----------------------------------------------------------------------------------------------------


def test_the_order_is_ones_own_then_shared_then_cache(here):
    files = {"mnli_matched.csv": ""}
    folders = [here / "mine", here / "shared" / "data", here / "cache" / "data"]
    for folder in reversed(folders):
        put(folder / "chaosnli", files)
        assert data.find("chaosnli") == folder / "chaosnli"


def test_a_folder_that_lacks_a_file_does_not_count(here):
    put(here / "mine" / "trec", {"TREC_10.label": ""})
    with pytest.raises(FileNotFoundError):
        data.find("trec")
    put(here / "cache" / "data" / "trec", {"TREC_10.label": "", "train_5500.label": ""})
    assert data.find("trec") == here / "cache" / "data" / "trec"


@pytest.mark.parametrize("name", data.DATA_SETS)
def test_a_missing_set_says_where_it_comes_from_and_where_to_put_it(name, here, monkeypatch):
    if data.DATA_SETS[name].installed is not None:  # a system package may have put it on this machine
        monkeypatch.setitem(data.DATA_SETS, name, replace(data.DATA_SETS[name], installed=None))
    with pytest.raises(FileNotFoundError) as caught:
        data.find(name)
    text = str(caught.value)
    assert re.search(r"https?://|on PyPI", text)
    assert data.DATA_SETS[name].files[0].path in text
    assert str(here / "cache" / "data") in text
    assert "DSPLUS_DATA" in text
    made_by_hand = {"chaosnli", "amazon_multidomain", "amazon_snippets", "fashion_mnist", "bfcl_2024_08"}
    made_by_hand |= {"llm_uncertainty_bench"}
    assert ("python -m benchmarks.data" in text) == (name not in made_by_hand)


def test_an_unknown_set_names_the_known_ones(here):
    with pytest.raises(KeyError, match="banking77_gpt"):
        data.find("mnist")


def test_pictures_are_read_as_mnist_writes_them(here):
    images = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (2, 2, 3)) + bytes(range(12))
    labels = b"\0\0\x08\x01" + (2).to_bytes(4, "big") + bytes([7, 9])
    folder = here / "mine" / "fashion_mnist"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    pictures, classes = data.fashion_mnist()
    assert pictures.shape == (4, 2, 3)
    assert pictures[1, 1].tolist() == [9, 10, 11]
    assert classes.tolist() == [7, 9, 7, 9]


def test_snippets_come_from_the_weights_cache(here, monkeypatch):
    file = put(here / "elsewhere", {"amazonReviewSnippets_GroundTruth.txt": "1\t2.5\tfine\n"})
    monkeypatch.setenv("DSPLUS_AMAZON_SNIPPETS_PATH", str(file / "amazonReviewSnippets_GroundTruth.txt"))
    assert data.find("amazon_snippets") == file
    assert [row.label for row in data.amazon_snippets()] == ["positive"]


# --- downloading ------------------------------------------------------------------------------------------------


@pytest.fixture
def public(here, monkeypatch):
    """A data set of two files, one of them in a zip, behind a table of addresses; returns the table and the calls."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("folder/b.txt", "B")
        archive.writestr("../evil.txt", "evil")
    table = {"https://a.example/a.txt": b"A", "https://a.example/b.zip": packed.getvalue()}
    files = (
        data.Remote("a.txt", hashlib.sha256(b"A").hexdigest(), "https://a.example/a.txt"),
        data.Remote("b.txt", hashlib.sha256(packed.getvalue()).hexdigest(), "https://a.example/b.zip", "folder/b.txt"),
    )
    monkeypatch.setitem(data.DATA_SETS, "toy", data.DataSet("toy", "T", "https://a.example", "MIT", files))
    calls = []

    def get(url):
        calls.append(url)
        if isinstance(table[url], Exception):
            raise table[url]
        return table[url]

    monkeypatch.setattr(data, "_get", get)
    return table, calls


def test_a_download_is_checked_and_found(public, here):
    _, calls = public
    folder = data.download("toy")
    assert folder == data.find("toy") == here / "cache" / "data" / "toy"
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a.txt": "A", "b.txt": "B"}
    assert data.download("toy") == folder
    assert len(calls) == 2, "what is there is not fetched again"
    assert not list(here.rglob("evil.txt"))


def test_other_bytes_are_refused_and_what_was_good_is_kept(public, here):
    table, calls = public
    table["https://a.example/b.zip"] = b"changed"
    with pytest.raises(ValueError, match=r"SHA-256 of https://a\.example/b\.zip is not the pinned one"):
        data.download("toy")
    assert sorted(path.name for path in (here / "cache" / "data" / "toy").iterdir()) == ["a.txt"]
    with pytest.raises(FileNotFoundError):
        data.find("toy")
    calls.clear()
    with pytest.raises(ValueError):
        data.download("toy")
    assert calls == ["https://a.example/b.zip"]


def test_an_answer_without_end_is_refused(monkeypatch, httpserver):
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    monkeypatch.setattr(data, "_LIMIT", 100)
    httpserver.expect_request("/big").respond_with_data(b"x" * 101)
    httpserver.expect_request("/small").respond_with_data(b"x" * 100)
    with pytest.raises(ValueError, match="larger than expected"):
        data._get(httpserver.url_for("/big"))
    assert data._get(httpserver.url_for("/small")) == b"x" * 100


def test_the_command(public, here, capsys):
    assert data.main([]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in data.DATA_SETS)
    assert data.main(["toy", "nope", "chaosnli"]) == 1
    out, err = capsys.readouterr()
    assert out == f"toy: {here / 'cache' / 'data' / 'toy'}\n"
    assert "no data set is called 'nope'" in err
    assert "calibration-on-disagreement-data" in err


@pytest.mark.parametrize("name", data.DATA_SETS)
def test_every_file_is_pinned(name):
    for file in data.DATA_SETS[name].files:
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert file.url is None or urllib.parse.urlparse(file.url).scheme == "https"
        if file.url and "githubusercontent" in file.url:
            assert re.search(r"/[0-9a-f]{40}/", file.url), "a commit, not a branch"


def test_every_set_has_a_loader():
    assert data.LOADERS.keys() == data.DATA_SETS.keys()


# --- reading ----------------------------------------------------------------------------------------------------


def test_banking_numbers_are_places_in_the_sorted_intents(here):
    put(
        here / "mine" / "banking77_gpt",
        {
            "categories.json": json.dumps(["card_arrival", "Refund_missing", "zoo"]),
            "test.csv": table(
                "text,label,gpt-label,gpt4-label_nonrep,gpt35-label_rep", ['Where, "is" it?\nHello', 0, 1, "2.0", 99]
            ),
            "train.csv": table("text,label", ["Refund me", 1]),
            "few_shot_train.csv": "",
            "few_shot_dev.csv": table("text,label,gpt-label", ["zebra", 2, ""]),
        },
    )
    (row,) = data.banking77_gpt()
    assert row.text == 'Where, "is" it?\nHello'
    assert row.label == "card_arrival"
    assert row.large == {"gpt-4": "Refund_missing", "gpt-4-second": "zoo", "gpt-3.5": "99"}
    assert data.banking77_gpt("train") == [data.RecordedRow("banking77-train-0", "Refund me", "Refund_missing", {})]
    assert data.banking77_gpt("few_shot_dev")[0].large == {}


def test_chaosnli_rows(here):
    columns = "uid,premise,hypothesis,gold,old_gold,votes_e,votes_n,votes_c,roberta_e,roberta_n,roberta_c,o4mini"
    rows = [
        ["1e", "p", "h", "e", "n", 60, 30, 10, 0.5, 0.25, 0.249999, "c"],
        ["2n", "p", "h", "n", "n", 1, 98, 1, *[""] * 4],
    ]
    put(here / "mine" / "chaosnli", {"mnli_matched.csv": table(columns, *rows)})
    first, second = data.chaosnli()
    assert (first.label, first.old_label, first.o4mini) == ("entailment", "neutral", "contradiction")
    assert first.votes == {"entailment": 60, "neutral": 30, "contradiction": 10}
    assert sum(first.probabilities.values()) == pytest.approx(1, abs=1e-12)
    assert (second.probabilities, second.o4mini) == (None, None)


def test_clinc_rows(here):
    full = {
        "train": [["a", "x"]],
        "val": [],
        "test": [["b", "y"]],
        "oos_train": [],
        "oos_val": [],
        "oos_test": [["c", "oos"]],
    }
    files = {"data_full.json": json.dumps(full), "data_imbalanced.json": json.dumps({**full, "train": []})}
    put(here / "mine" / "clinc150", files)
    assert [(row.text, row.label) for row in data.clinc150("test")] == [("b", "y")]
    assert [row.label for row in data.clinc150("test", out_of_scope=True)] == ["y", "oos"]
    assert data.clinc150("train", imbalanced=True) == []


def test_trec_rows(here):
    line = "LOC:city Which city has a sister\xf0city ?\nHUM:ind Who ?\n"
    put(here / "mine" / "trec", {"train_5500.label": line.encode("latin-1"), "TREC_10.label": "NUM:date When ?\n"})
    assert [row.label for row in data.trec("train")] == ["location", "human"]
    assert [row.label for row in data.trec("train", fine=True)] == ["location:city", "human:ind"]
    assert data.trec("train")[0].text == "Which city has a sister\xf0city ?"
    assert data.trec() == [data.TextRow("trec-test-0", "When ?", "number")]


def test_uci_rows_with_odd_characters(here):
    lines = "A tab\there.  \t1\nNext\x85line.\t0\n"
    files = {f"{name}_labelled.txt": lines for name in ("amazon_cells", "imdb", "yelp")}
    put(here / "mine" / "uci_sentences", files)
    rows = data.uci_sentences()
    assert [row.source for row in rows] == ["amazon"] * 2 + ["imdb"] * 2 + ["yelp"] * 2
    assert (rows[0].text, rows[0].label) == ("A tab\there.", "positive")
    assert (rows[1].text, rows[1].label) == ("Next\x85line.", "negative")


def test_reviews_and_films(here):
    reviews = table("domain,label,rating,title,text", ["books", "negative", 1.0, "Dull", "Long,\nand dull."])
    put(here / "mine" / "amazon_multidomain", {"reviews.csv.gz": gzip.compress(reviews.encode())})
    put(here / "mine" / "imdb_gpt35", {"dev.csv": table("text,label,gpt-label", ["Good<br />film", 1, 0])})
    assert data.amazon_multidomain() == [
        data.SourceRow("amazon-books-0", "Dull\nLong,\nand dull.", "negative", "books")
    ]
    assert data.imdb_gpt35() == [data.RecordedRow("imdb-0", "Good<br />film", "positive", {"gpt-3.5": "negative"})]


def test_snippets_and_their_neutral_zone(here):
    text = "\ufeff1_1\t-0.9\tbroke\ttwice\r\n1_2\t0.5\tgood\n1_3\t-0.49\thm\n"
    put(here / "mine" / "amazon_snippets", {"amazonReviewSnippets_GroundTruth.txt": text})
    assert [(r.id, r.text, r.label) for r in data.amazon_snippets()] == [
        ("snippet-1_1", "broke\ttwice", "negative"),
        ("snippet-1_2", "good", "positive"),
    ]
    assert [r.label for r in data.amazon_snippets(neutral=True)] == ["negative", "positive", "neutral"]
    assert len(data.amazon_snippets(near_neutral=0)) == 3


# --- order ------------------------------------------------------------------------------------------------------


def test_the_shuffle_is_the_same_everywhere():
    assert data.shuffled(range(10), 0) == [7, 8, 1, 5, 3, 4, 2, 0, 9, 6]
    assert data.shuffled(range(10), 1) != data.shuffled(range(10), 0)


@given(
    rows=st.lists(st.integers(), max_size=60),
    fractions=st.lists(st.floats(0.01, 0.3), min_size=1, max_size=3),
    seed=st.integers(0, 5),
)
def test_parts_are_disjoint_and_repeat(rows, fractions, seed):
    before = list(rows)
    parts = data.split(list(enumerate(rows)), fractions, seed)
    assert parts == data.split(list(enumerate(rows)), fractions, seed)
    joined = [row for part in parts for row in part]
    assert len(set(joined)) == len(joined)
    assert Counter(joined) <= Counter(enumerate(rows))
    assert all(abs(len(part) - f * len(rows)) <= 1 + 1e-6 for part, f in zip(parts, fractions, strict=True))
    assert rows == before


def test_fractions_that_sum_to_one_lose_nothing():
    assert sorted(row for part in data.split(range(101), [0.7, 0.1, 0.2], 3) for row in part) == list(range(101))


@pytest.mark.parametrize("fractions", [[], [0.5, 0.6], [0.0], [-0.1, 0.5]])
def test_fractions_are_checked(fractions):
    with pytest.raises(ValueError, match="`fractions` must be positive"):
        data.split([1, 2, 3], fractions, 0)


# --- the real files, where they are -----------------------------------------------------------------------------


def test_real_banking(real):
    rows = real("banking77_gpt")
    assert len(rows) == 3080
    assert len({row.label for row in rows}) == 77
    right = {model: sum(row.large[model] == row.label for row in rows) / len(rows) for model in rows[0].large}
    assert right == pytest.approx({"gpt-4": 0.8305, "gpt-4-second": 0.742, "gpt-3.5": 0.752}, abs=5e-4)
    few = {row.label for row in data.banking77_gpt("few_shot_train")}
    assert few == set(data.banking77_labels())


def test_the_names_of_the_few_shot_rows_agree_with_the_numbers(real):
    real("banking77_gpt")
    with (data.find("banking77_gpt") / "few_shot_train.csv").open(encoding="utf-8", newline="") as file:
        named = [row["label_name"] for row in csv.DictReader(file)]
    assert [row.label for row in data.banking77_gpt("few_shot_train")] == named


def test_real_chaosnli(real):
    rows = [row for row in real("chaosnli") if row.probabilities and row.o4mini]
    assert len(rows) == 979
    small = sum(max(row.probabilities, key=row.probabilities.get) == row.label for row in rows) / 979
    large = sum(row.o4mini == row.label for row in rows) / 979
    assert (small, large) == pytest.approx((0.5598, 0.7120), abs=5e-4)


def test_real_snippets(real):
    assert len(real("amazon_snippets", near_neutral=0)) == 3708
    assert len(real("amazon_snippets")) == 2985


@pytest.mark.parametrize(
    ("name", "count", "labels"),
    [
        ("imdb_gpt35", 1000, 2),
        ("clinc150", 4500, 150),
        ("trec", 500, 6),
        ("uci_sentences", None, 2),
        ("amazon_multidomain", 8000, 2),
    ],
)
def test_real_sets(real, name, count, labels):
    rows = real(name)
    assert count is None or len(rows) == count
    assert len({row.label for row in rows}) == labels
    assert len({row.id for row in rows}) == len(rows)
    assert all(row.text for row in rows)
