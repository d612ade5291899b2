"""The data sets that the benchmarks measure on: where they lie, how they are read, where they come from.

`find(name)` looks in `DSPLUS_DATA`, in `../shared/data` beside the repository, and in the cache (`DSPLUS_CACHE`, or the
user's cache folder). None of the data is in the repository. `python -m benchmarks.data NAME` downloads a set into the
cache from its public source and checks SHA-256; `python -m benchmarks.data` lists the sets.

Rows come in the files' order, which may be ordered by class: use `shuffled` or `split` before cutting.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import random
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from langchain_dsplus import weights
from langchain_dsplus.demo.snippets import snippets_file

ROOT = Path(__file__).resolve().parents[1]
_LIMIT = 1 << 30  # no file here is larger: such an answer is not the file
_CIFAR = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
_CIFAR_ARCHIVE = "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
_CIFAR_FILES = {
    "train.bin": "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
    "test.bin": "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
    "fine_label_names.txt": None,
}
_COCO = "https://s3.amazonaws.com/images.cocodataset.org"
_COCO_FILES = {
    "zips/val2017.zip": "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
    "annotations/annotations_trainval2017.zip": "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
}
_GITHUB = "https://raw.githubusercontent.com"
_OCATS = f"{_GITHUB}/stogiannidis/OCaTS/5b3284df9650588b587517895eba4c5e09929fb8/data"
_CLINC = f"{_GITHUB}/clinc/oos-eval/48a0e1cff8f43dd4d0836ecb4ed5df08733e3d2e/data"
_UCI = "https://archive.ics.uci.edu/static/public/331/sentiment+labelled+sentences.zip"
_UCI_SHA = "afc26626d710899948693e1a61405dce197f57ffa719fa1130d346b4cc095343"

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Row = TypeVar("Row")


@dataclass(frozen=True)
class Remote:
    """One file of a data set.

    Attributes:
        path: Its name in the set's folder.
        sha256: Of what is downloaded: the file, or the archive that it is a `member` of.
        url: None where there is no address to take exactly this file from.
        member: Its name inside a zip or tar.gz archive.
        required: Whether the loaders need it.
    """

    path: str
    sha256: str
    url: str | None = None
    member: str | None = None
    required: bool = True


@dataclass(frozen=True)
class DataSet:
    """A data set: its files, what a user must know of its source, and where a system package puts it."""

    name: str
    about: str
    source: str
    license: str
    files: tuple[Remote, ...]
    installed: Path | None = None


DATA_SETS: dict[str, DataSet] = {
    data_set.name: data_set
    for data_set in (
        DataSet(
            "banking77_gpt",
            "Banking77 (77 intents) with recorded labels of GPT-4 and GPT-3.5",
            "https://github.com/stogiannidis/OCaTS (data/), texts https://github.com/PolyAI-LDN/task-specific-datasets",
            "labels MIT, texts CC BY 4.0",
            (
                Remote(
                    "test.csv",
                    "a11f6bc990121b19f55b8cba0d0f3dcf54fa8bb962b16ee3b97342b580bf74c3",
                    f"{_OCATS}/raw/banking77/test.csv",
                ),
                Remote(
                    "train.csv",
                    "9f5711694a5049e12205d6e9983720fe8eb34bcfab29326f7b21a4883d27f0e7",
                    f"{_OCATS}/raw/banking77/train.csv",
                ),
                Remote(
                    "few_shot_train.csv",
                    "a204f6c17a581379b604e0a45f98f47d8f40b18176edb00f1833454d7546dcc3",
                    f"{_OCATS}/processed/banking77/train.csv",
                ),
                Remote(
                    "few_shot_dev.csv",
                    "4318d9f7890bb91c4fdd3ea4d713a40fa4f8c5fad96b2cc86c702738a62beed6",
                    f"{_OCATS}/processed/banking77/dev.csv",
                ),
                Remote(
                    "categories.json",
                    "53261da888122daf2d120d925458631d9619e15d82e56052e7a42e535ce32b63",
                    f"{_GITHUB}/PolyAI-LDN/task-specific-datasets/9d081458ff52e53cf7e848f414e6e9344e4e6696/banking_data/"
                    "categories.json",
                ),
            ),
        ),
        DataSet(
            "imdb_gpt35",
            "1,000 film reviews with gold and recorded GPT-3.5 labels",
            "https://github.com/stogiannidis/OCaTS (data/processed/imdb)",
            "MIT",
            (
                Remote(
                    "dev.csv",
                    "6e366383ed77c2f016c85ec0c35849cf66aed4c91744aee14dcabaa0de02a3af",
                    f"{_OCATS}/processed/imdb/dev.csv",
                ),
                Remote(
                    "train.csv",
                    "44a3b4a190c7f2c47008406e410a5b47307eb32e97c5fe003e4e8be9a357fce9",
                    f"{_OCATS}/processed/imdb/train.csv",
                    required=False,
                ),
            ),
        ),
        DataSet(
            "chaosnli",
            "1,599 ChaosNLI-MNLI pairs: human votes, recorded RoBERTa probabilities and o4-mini labels",
            "one table, joined by `uid` from https://github.com/jsbaan/calibration-on-disagreement-data (ChaosNLI and "
            "RoBERTa-base) and https://github.com/Chao1208/32judges-votes (o4-mini), with the columns uid, premise, "
            "hypothesis, gold, old_gold, votes_e, votes_n, votes_c, roberta_e, roberta_n, roberta_c, o4mini",
            "texts and votes CC BY-NC 4.0, o4-mini labels CC BY 4.0; measure only",
            (Remote("mnli_matched.csv", "3c518fcba6763879623a535a4f32eb16492130a8105c0e7d12ff75ea9bfa8d4a"),),
        ),
        DataSet(
            "clinc150",
            "150 intents, with out-of-scope queries and an imbalanced training set",
            "https://github.com/clinc/oos-eval (data/)",
            "CC BY 3.0",
            (
                Remote(
                    "data_full.json",
                    "36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
                    f"{_CLINC}/data_full.json",
                ),
                Remote(
                    "data_imbalanced.json",
                    "4886730b20c51eece26aa392ecae2717bfe9908680419e96255351c6148eb4cc",
                    f"{_CLINC}/data_imbalanced.json",
                ),
                Remote(
                    "domains.json",
                    "b947b579d3b8e74b06f93b01083d8efaff2888b43a3e362533bd88a6e1211b3a",
                    f"{_GITHUB}/clinc/oos-eval/828f8093932c8fe6ca7936c3d2e52903b1c523de/data/domains.json",
                    required=False,
                ),
            ),
        ),
        DataSet(
            "trec",
            "5,452 + 500 questions, 6 coarse and 50 fine classes (a copy without apostrophes is in use as well)",
            "https://cogcomp.seas.upenn.edu/Data/QA/QC/ (train_5500.label, TREC_10.label)",
            "research data, no license stated; measure only",
            (
                Remote(
                    "train_5500.label",
                    "9e4c8bdcaffb96ed61041bd64b564183d52793a8e91d84fc3a8646885f466ec3",
                    "https://cogcomp.seas.upenn.edu/Data/QA/QC/train_5500.label",
                ),
                Remote(
                    "TREC_10.label",
                    "033f22c028c2bbba9ca682f68ffe204dc1aa6e1cf35dd6207f2d4ca67f0d0e8e",
                    "https://cogcomp.seas.upenn.edu/Data/QA/QC/TREC_10.label",
                ),
            ),
        ),
        DataSet(
            "uci_sentences",
            "3 x 1,000 sentences with sentiment from Amazon, IMDB and Yelp (Kotzias et al., KDD 2015)",
            "https://archive.ics.uci.edu/dataset/331/sentiment+labelled+sentences",
            "CC BY 4.0",
            tuple(
                Remote(f"{site}_labelled.txt", _UCI_SHA, _UCI, f"sentiment labelled sentences/{site}_labelled.txt")
                for site in ("amazon_cells", "imdb", "yelp")
            ),
        ),
        DataSet(
            "amazon_multidomain",
            "8,000 Amazon reviews of four categories, balanced (Blitzer, Dredze, Pereira 2007)",
            "https://www.cs.jhu.edu/~mdredze/datasets/sentiment/ (domain_sentiment_data.tar.gz; positive.review and "
            "negative.review of books, dvd, electronics, kitchen_&_housewares), written as a gzipped CSV with the "
            "columns domain, label, rating, title, text",
            "no license stated; measure only",
            (Remote("reviews.csv.gz", "bf85b29a8dc7f8750ed200c2467e2cb0e6e1600d84ce472e2f539e4bee6f4e6b"),),
        ),
        DataSet(
            "bfcl_2024_08",
            "720 questions of the Berkeley Function Calling Leaderboard with the calls of 16 models, 2024-08-11",
            "github https://github.com/HuanzhiMao/BFCL-Result (b4adfc9, folder 2024-08-11), one line per question",
            "none stated for the results; measure only",
            (Remote("calls.jsonl.gz", "478f7cb57f85cd42ad4a8eab113e8b6b656fee9d92293e8e1a3b791e13d9ef6b"),),
        ),
        DataSet(
            "llm_uncertainty_bench",
            "logits of six options by ten open models, CosmosQA and MMLU, 10,000 questions each, without gold",
            "https://github.com/smartyfh/LLM-Uncertainty-Bench (5d189dc; outputs_base/*_base_icl1.pkl), as float16 "
            "arrays by model in one .npz for each data set",
            "MIT",
            (
                Remote("cosmosqa_10k.npz", "652a803cf3ad25e6d3aafe9c74a32c909c8622dc8199e62071c4861bcd61bcd4"),
                Remote("mmlu_10k.npz", "b189c99191e9fb3d86f216b12e9949d482000c565d82f31743f4bf85d8b13f90"),
            ),
        ),
        DataSet(
            "amazon_snippets",
            "3,708 sentences of Amazon reviews with mean human ratings (Hutto and Gilbert, ICWSM 2014)",
            "a source archive on PyPI (dsplus models pull amazon-snippets)",
            "MIT",
            (
                Remote(
                    "amazonReviewSnippets_GroundTruth.txt",
                    "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2",
                ),
            ),
        ),
        DataSet(
            "fashion_mnist",
            "70,000 gray pictures of clothes, 28x28, ten classes",
            "the Debian package dataset-fashion-mnist, or https://github.com/zalandoresearch/fashion-mnist",
            "MIT",
            (
                Remote(
                    "train-images-idx3-ubyte.gz",
                    "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
                ),
                Remote(
                    "train-labels-idx1-ubyte.gz",
                    "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
                ),
                Remote(
                    "t10k-images-idx3-ubyte.gz",
                    "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
                ),
                Remote(
                    "t10k-labels-idx1-ubyte.gz",
                    "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
                ),
            ),
            Path("/usr/share/datasets/fashion-mnist"),
        ),
        DataSet(
            "cifar100",
            "60,000 color pictures, 32x32, a hundred classes (only for `paper_longtail --full`)",
            "https://www.cs.toronto.edu/~kriz/cifar.html, binary version",
            "none stated; measure only",
            tuple(Remote(name, _CIFAR_ARCHIVE, _CIFAR, f"cifar-100-binary/{name}") for name in _CIFAR_FILES),
        ),
        DataSet(
            "coco",
            "COCO val2017: 5,000 pictures with five captions or more (only for `paper_captions --full`)",
            "https://cocodataset.org",
            "captions CC BY 4.0, pictures by their owners on Flickr; measure only",
            tuple(Remote(Path(part).name, sha256, f"{_COCO}/{part}") for part, sha256 in _COCO_FILES.items()),
        ),
    )
}


# --- finding and fetching ---------------------------------------------------------------------------------------


def places() -> list[Path]:
    """The folders that are searched, in order."""
    named = os.environ.get("DSPLUS_DATA")
    own = [Path(named).expanduser()] if named else []
    return [*own, ROOT.parent / "shared" / "data", weights.cache_dir() / "data"]


def find(name: str) -> Path:
    """The folder of a data set. Only `amazon_snippets` (2 MB, from PyPI) is fetched where it is missing.

    Raises:
        KeyError: If there is no such data set.
        FileNotFoundError: If it is not here; the message says where it comes from and where to put it.
    """
    data_set = _data_set(name)
    for folder in (*(place / name for place in places()), data_set.installed):
        if folder is not None and all((folder / file.path).is_file() for file in data_set.files if file.required):
            return folder
    why = ""
    if name == "amazon_snippets":
        try:
            return snippets_file().parent
        except weights.WeightsError as error:
            why = f"\n{error}"
    files = ", ".join(file.path for file in data_set.files if file.required)
    how = "Run `python -m benchmarks.data " + name + "`, or put" if _downloadable(data_set) else "Put"
    msg = (
        f"the data set {name!r} is not here. {how} {files} into a folder {name!r} inside "
        f"{weights.cache_dir() / 'data'}, or inside a folder of yours that DSPLUS_DATA names. "
        f"Source: {data_set.source} ({data_set.license}).{why}"
    )
    raise FileNotFoundError(msg)


def download(name: str) -> Path:
    """Fetch a data set from its public source into the cache.

    Returns:
        Its folder.

    Raises:
        KeyError: If there is no such data set.
        FileNotFoundError: If it has no address to be fetched from; the message says how to make it.
        ValueError: If what arrived is not what was pinned.
        OSError: If the source cannot be reached.
    """
    data_set = _data_set(name)
    if name == "amazon_snippets" or not _downloadable(data_set):
        return find(name)
    folder = weights.cache_dir() / "data" / name
    folder.mkdir(parents=True, exist_ok=True)
    fetched: dict[str, bytes] = {}
    for file in data_set.files:
        target = folder / file.path
        if file.url is None or target.is_file():  # it was checked before it got its name
            continue
        if file.url not in fetched:
            print(f"{name}: {file.url}", file=sys.stderr)
            content = _get(file.url)
            if hashlib.sha256(content).hexdigest() != file.sha256:
                msg = f"the SHA-256 of {file.url} is not the pinned one: the source changed, or the download is damaged"
                raise ValueError(msg)
            fetched[file.url] = content
        content = fetched[file.url]
        if file.member is not None:
            content = _member(content, file)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as handle:
            handle.write(content)
        Path(handle.name).replace(target)
    return folder


def _member(content: bytes, file: Remote) -> bytes:
    """One file out of a zip archive, or a tar.gz."""
    assert file.member is not None
    if str(file.url).endswith(".tar.gz"):
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            size, reader = tar.getmember(file.member).size, tar.extractfile(file.member)
            if size <= _LIMIT and reader is not None:
                return reader.read()
    else:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.getinfo(file.member).file_size <= _LIMIT:
                return archive.read(file.member)
    msg = f"{file.member} in {file.url} is larger than expected"
    raise ValueError(msg)


def _data_set(name: str) -> DataSet:
    if name not in DATA_SETS:
        msg = f"no data set is called {name!r}; there are {', '.join(DATA_SETS)}"
        raise KeyError(msg)
    return DATA_SETS[name]


def _downloadable(data_set: DataSet) -> bool:
    return all(file.url is not None for file in data_set.files if file.required)


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as response:
        content: bytes = response.read(_LIMIT + 1)
    if len(content) > _LIMIT:
        msg = f"{url} is larger than expected"
        raise ValueError(msg)
    return content


# --- order ------------------------------------------------------------------------------------------------------


def shuffled(rows: Sequence[Row], seed: int) -> list[Row]:
    """A copy in an order that depends on the seed and the number of rows alone."""
    copy = list(rows)
    random.Random(seed).shuffle(copy)
    return copy


def split(rows: Sequence[Row], fractions: Sequence[float], seed: int) -> list[list[Row]]:
    """Shuffle, then cut into disjoint parts.

    Args:
        rows: Any rows.
        fractions: The share of each part, together at most 1; what is left over is in no part.
        seed: Of the shuffle.

    Raises:
        ValueError: If a fraction is not positive, or they exceed 1.
    """
    if not fractions or min(fractions) <= 0 or sum(fractions) > 1 + 1e-9:
        msg = f"`fractions` must be positive and sum to at most 1, not {list(fractions)}"
        raise ValueError(msg)
    mixed = shuffled(rows, seed)
    parts, start, total = [], 0, 0.0
    for fraction in fractions:
        total += fraction
        end = min(round(total * len(mixed)), len(mixed))
        parts.append(mixed[start:end])
        start = end
    return parts


# --- rows -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TextRow:
    """A text with its true label."""

    id: str
    text: str
    label: str


@dataclass(frozen=True, slots=True)
class SourceRow(TextRow):
    """A text with its true label, and the site or category that it is from."""

    source: str


@dataclass(frozen=True, slots=True)
class RecordedRow(TextRow):
    """A text with its true label, and the recorded labels of large models by name."""

    large: dict[str, str]


@dataclass(frozen=True, slots=True)
class RatedRow(TextRow):
    """A text with a mean human rating from -4 to 4, and the label that follows from it."""

    rating: float


@dataclass(frozen=True, slots=True)
class NLIRow:
    """A pair of sentences: what people, RoBERTa-base and o4-mini said. None where a model was not recorded."""

    id: str
    premise: str
    hypothesis: str
    label: str
    old_label: str
    votes: dict[str, int]
    probabilities: dict[str, float] | None
    o4mini: str | None


@dataclass(frozen=True, slots=True)
class CallsRow:
    """A question with the recorded tool calls of several models, by name: the text, and whether it is right."""

    id: str
    question: str | None
    calls: dict[str, str]
    right: dict[str, bool]


NLI_LABELS = {"e": "entailment", "n": "neutral", "c": "contradiction"}
TREC_COARSE = {
    "ABBR": "abbreviation",
    "DESC": "description",
    "ENTY": "entity",
    "HUM": "human",
    "LOC": "location",
    "NUM": "number",
}


def _csv(path: Path) -> Iterator[dict[str, str]]:
    binary: Any = gzip.open if path.suffix == ".gz" else open
    with binary(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def banking77_labels() -> list[str]:
    """The 77 intents; the numbers in the files are places in this list (sorted without regard to case)."""
    names: list[str] = json.loads((find("banking77_gpt") / "categories.json").read_text(encoding="utf-8"))
    return sorted(names, key=str.lower)


def banking77_gpt(split: Literal["test", "train", "few_shot_train", "few_shot_dev"] = "test") -> list[RecordedRow]:
    """Banking77. `large` has `gpt-4` (and `gpt-4-second`, `gpt-3.5` in the test rows) where they were recorded."""
    names = banking77_labels()
    columns = {"gpt-label": "gpt-4", "gpt4-label_nonrep": "gpt-4-second", "gpt35-label_rep": "gpt-3.5"}
    rows = []
    for number, row in enumerate(_csv(find("banking77_gpt") / f"{split}.csv")):
        large = {model: _named(row[column], names) for column, model in columns.items() if row.get(column)}
        rows.append(RecordedRow(f"banking77-{split}-{number}", row["text"], names[int(row["label"])], large))
    return rows


def _named(number: str, names: list[str]) -> str:
    place = int(float(number))
    return names[place] if 0 <= place < len(names) else number  # a model may have answered with no class at all


def imdb_gpt35() -> list[RecordedRow]:
    """Film reviews, `negative` or `positive`; `large` has `gpt-3.5`."""
    names = ["negative", "positive"]
    return [
        RecordedRow(
            f"imdb-{number}", row["text"], names[int(row["label"])], {"gpt-3.5": _named(row["gpt-label"], names)}
        )
        for number, row in enumerate(_csv(find("imdb_gpt35") / "dev.csv"))
    ]


def chaosnli() -> list[NLIRow]:
    """ChaosNLI-MNLI. `label` is what most of the hundred people said. Recorded probabilities are scaled to sum to 1."""
    rows = []
    for row in _csv(find("chaosnli") / "mnli_matched.csv"):
        probabilities = None
        if row["roberta_e"]:
            raw = {name: float(row[f"roberta_{key}"]) for key, name in NLI_LABELS.items()}
            total = sum(raw.values())
            probabilities = {name: value / total for name, value in raw.items()}
        rows.append(
            NLIRow(
                row["uid"],
                row["premise"],
                row["hypothesis"],
                NLI_LABELS[row["gold"]],
                NLI_LABELS[row["old_gold"]],
                {name: int(row[f"votes_{key}"]) for key, name in NLI_LABELS.items()},
                probabilities,
                NLI_LABELS[row["o4mini"]] if row["o4mini"] else None,
            )
        )
    return rows


def clinc150(
    split: Literal["train", "val", "test"] = "test", *, imbalanced: bool = False, out_of_scope: bool = False
) -> list[TextRow]:
    """CLINC150. `imbalanced` takes the official imbalanced training set; `out_of_scope` adds the rows labeled `oos`."""
    file = "data_imbalanced.json" if imbalanced else "data_full.json"
    parts = json.loads((find("clinc150") / file).read_text(encoding="utf-8"))
    pairs = parts[split] + (parts[f"oos_{split}"] if out_of_scope else [])
    return [TextRow(f"clinc150-{split}-{number}", text, label) for number, (text, label) in enumerate(pairs)]


def trec(split: Literal["train", "test"] = "test", *, fine: bool = False) -> list[TextRow]:
    """TREC questions. Coarse labels are words (`TREC_COARSE`), fine ones `entity:animal` and the like."""
    path = find("trec") / {"train": "train_5500.label", "test": "TREC_10.label"}[split]
    rows = []
    for number, line in enumerate(path.read_text(encoding="latin-1").split("\n")):
        code, _, text = line.strip().partition(" ")
        if not text:
            continue
        coarse, _, kind = code.partition(":")
        label = f"{TREC_COARSE[coarse]}:{kind}" if fine else TREC_COARSE[coarse]
        rows.append(TextRow(f"trec-{split}-{number}", text, label))
    return rows


def uci_sentences() -> list[SourceRow]:
    """Sentences, `negative` or `positive`; `source` is `amazon`, `imdb` or `yelp`."""
    rows = []
    for source, file in (("amazon", "amazon_cells"), ("imdb", "imdb"), ("yelp", "yelp")):
        # Not splitlines: one sentence holds a character that it takes for the end of a line.
        lines = (find("uci_sentences") / f"{file}_labelled.txt").read_text(encoding="utf-8").split("\n")
        for number, line in enumerate(lines):
            text, _, label = line.rpartition("\t")
            if text:
                rows.append(
                    SourceRow(f"uci-{source}-{number}", text.strip(), ("negative", "positive")[int(label)], source)
                )
    return rows


def amazon_multidomain() -> list[SourceRow]:
    """Reviews, `negative` or `positive`; `source` is the category. The text begins with the review's title."""
    return [
        SourceRow(
            f"amazon-{row['domain']}-{number}", f"{row['title']}\n{row['text']}".strip(), row["label"], row["domain"]
        )
        for number, row in enumerate(_csv(find("amazon_multidomain") / "reviews.csv.gz"))
    ]


def amazon_snippets(*, near_neutral: float = 0.5, neutral: bool = False) -> list[RatedRow]:
    """Sentences of Amazon reviews, labeled by the sign of the mean rating.

    Args:
        near_neutral: Ratings nearer to zero than this are dropped (2,985 sentences are left at 0.5).
        neutral: Keep them as a third class, `neutral`.
    """
    path = find("amazon_snippets") / "amazonReviewSnippets_GroundTruth.txt"
    rows = []
    for line in path.read_text(encoding="utf-8-sig").split("\n"):
        if not line.strip():
            continue
        number, mean, text = line.rstrip("\r").split("\t", 2)
        rating = float(mean)
        if abs(rating) < near_neutral:
            if neutral:
                rows.append(RatedRow(f"snippet-{number}", text, "neutral", rating))
            continue
        rows.append(RatedRow(f"snippet-{number}", text, "positive" if rating > 0 else "negative", rating))
    return rows


def fashion_mnist() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """70,000 pictures, (n, 28, 28), and their classes from 0 to 9, the training rows first."""
    import numpy as np

    folder, parts = find("fashion_mnist"), []
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        read = []
        for part in ("train", "t10k"):
            with gzip.open(folder / f"{part}-{kind}.gz") as file:
                body = file.read()
            dimensions = body[3]  # MNIST's format: the number of dimensions, then each, then bytes
            shape = np.frombuffer(body, ">i4", dimensions, 4)
            read.append(np.frombuffer(body, np.uint8, offset=4 + 4 * dimensions).reshape(shape))
        parts.append(np.concatenate(read))
    return parts[0], parts[1]


class Cifar(NamedTuple):
    """Pictures (n, 32, 32, 3) with the places of their classes in `labels`."""

    labels: list[str]
    train: tuple[NDArray[np.uint8], NDArray[np.intp]]
    test: tuple[NDArray[np.uint8], NDArray[np.intp]]


def cifar100() -> Cifar:
    """CIFAR-100 with its fine classes, each file compared with its pinned SHA-256.

    Raises:
        ValueError: If a file is not the pinned one.
    """
    import numpy as np

    folder, parts = find("cifar100"), []
    for name in ("train.bin", "test.bin"):
        body = (folder / name).read_bytes()
        if hashlib.sha256(body).hexdigest() != _CIFAR_FILES[name]:
            msg = f"the SHA-256 of {name} in the data set 'cifar100' is not the pinned one: fetch it again"
            raise ValueError(msg)
        read = np.frombuffer(body, np.uint8).reshape(-1, 2 + 3 * 32 * 32)  # coarse class, fine class, planes
        parts.append((read[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), read[:, 1].astype(np.intp)))
    return Cifar((folder / "fine_label_names.txt").read_text(encoding="utf-8").split(), *parts)


class Captioned(NamedTuple):
    """A picture's name in its archive, and what people wrote below it."""

    picture: str
    captions: list[str]


def coco() -> tuple[list[Captioned], Path]:
    """The pictures of COCO's val2017 with their captions, by number, and the archive that holds them.

    Raises:
        ValueError: If a file is not the pinned one.
    """
    folder = find("coco")
    for file in _data_set("coco").files:
        with (folder / file.path).open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != file.sha256:
                msg = f"the SHA-256 of {file.path} in the data set 'coco' is not the pinned one: fetch it again"
                raise ValueError(msg)
    with zipfile.ZipFile(folder / "annotations_trainval2017.zip") as archive:
        found = json.loads(archive.read("annotations/captions_val2017.json"))
    rows = {each["id"]: Captioned(f"val2017/{each['file_name']}", []) for each in found["images"]}
    for each in found["annotations"]:
        rows[each["image_id"]].captions.append(each["caption"])
    return [rows[number] for number in sorted(rows)], folder / "val2017.zip"


def bfcl_2024_08() -> list[CallsRow]:
    """Questions with 16 models' calls, cut at 160 characters, blanks removed; `right` as the leaderboard says."""
    rows = []
    with gzip.open(find("bfcl_2024_08") / "calls.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            models: dict[str, Any] = row["models"]
            rows.append(
                CallsRow(
                    f"bfcl-{row['category']}-{row['index']}",
                    row["question"],
                    {name: str(item["call"] or "") for name, item in models.items()},
                    {name: bool(item["correct"]) for name, item in models.items()},
                )
            )
    return rows


def llm_uncertainty(name: str = "cosmosqa") -> dict[str, Any]:
    """Logits by model, shape (10,000, 6), float64; row i is the same question for every model."""
    import numpy as np

    with np.load(find("llm_uncertainty_bench") / f"{name}_10k.npz", allow_pickle=False) as held:
        return {model: held[model].astype(np.float64) for model in held.files}


LOADERS: dict[str, Callable[..., Any]] = {
    "banking77_gpt": banking77_gpt,
    "imdb_gpt35": imdb_gpt35,
    "chaosnli": chaosnli,
    "clinc150": clinc150,
    "trec": trec,
    "uci_sentences": uci_sentences,
    "amazon_multidomain": amazon_multidomain,
    "llm_uncertainty_bench": llm_uncertainty,
    "amazon_snippets": amazon_snippets,
    "bfcl_2024_08": bfcl_2024_08,
    "fashion_mnist": fashion_mnist,
    "cifar100": cifar100,
    "coco": coco,
}


def main(names: Sequence[str]) -> int:
    """List the data sets, or fetch those that are named."""
    if not names:
        for data_set in DATA_SETS.values():
            found = next((place / data_set.name for place in places() if (place / data_set.name).is_dir()), "not here")
            print(f"{data_set.name}\n  {data_set.about}\n  {data_set.source}; {data_set.license}\n  {found}")
        return 0
    failed = 0
    for name in names:
        try:
            print(f"{name}: {download(name)}")
        except (KeyError, ValueError, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
