"""Whose voice a sentence has: the small model of the fidelity check learns it, and reads authors that it has not seen.

`voices.jsonl` has sentences that several authors wrote for it, none of whom saw another's: the same situation told,
judged, and made an order to the reader. Beside them the rewrites of the development pairs of `benchmarks fidelity`
teach: a rewrite with no such fault tells, and of one with a verdict or an order the sentence with most new words is it.

- Each fourth of the development pairs is read by a model that learned from the other three. What it says there sets the
  limits: `REFUSED` of the faithful rewrites are refused for an order and for a verdict.
- Each author is then read, at these limits, by a model that learned from everybody else; and sentences of real reviews,
  from which none learns, by the model that learned from all.

A run writes the model that learned from all into the package, unless it is `--quick`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.fidelity import read_pairs
from benchmarks.harness import ROOT, Context, Figures, Table, interval, number, share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HERE = Path(__file__).parent
WRITTEN = ROOT.parent / "langchain_dsplus" / "fidelity" / "words" / "voices.json.gz"
VOICES = {"orders": "instruction", "judges": "verdict"}
"""A voice, and the kind of the pairs whose rewrites have it."""
REFUSED = (0.01, 0.02)
"""Share of the faithful rewrites that each voice may refuse."""
REVIEWS = 300
FOLDS = 4
AUTHORS = (
    "the author",
    "sentences",
    "orders caught, %",
    "verdicts caught, %",
    "told: taken for an order, %",
    "for a verdict, %",
)


class Row(NamedTuple):
    """A sentence to learn from."""

    text: str
    voice: str
    author: str


class Pair(NamedTuple):
    """A development pair, cut into sentences."""

    kind: str
    sentences: list[str]
    new: NDArray[np.float64]
    """Of each sentence, the share of its words that the source does not have."""
    fold: int


def run(context: Context) -> Figures:
    rows, pairs = read_rows(context), read_development(context)
    authors = sorted({row.author for row in rows})
    with context.progress("learning", 0 if context.quick else FOLDS + len(authors) + 1) as advance:
        if context.quick:
            rows, pairs, authors = rows[::8], pairs[::4], []
        scores: list[Any] = [None] * len(pairs)
        for fold in range(FOLDS):
            read = Reader([*rows, *taught([p for p in pairs if p.fold != fold])])
            for place, pair in enumerate(pairs):
                if pair.fold == fold:
                    scores[place] = read(pair.sentences)
            advance(1)
        limits = set_limits(pairs, scores)
        figures: Figures = {f"{voice}.limit": limit for voice, limit in zip(VOICES, limits, strict=True)}
        figures |= _of_pairs(pairs, scores, limits)
        for author in authors:
            mine = [row for row in rows if row.author == author]
            read = Reader([*(row for row in rows if row.author != author), *taught(pairs)])
            figures |= _of_author(author, mine, read([row.text for row in mine]), limits)
            advance(1)
        read = Reader([*rows, *taught(pairs)])
        advance(1)
        figures |= _of_reviews(context, read, limits)
        if not context.quick:
            write(WRITTEN, read, limits)
            context.hash_file(WRITTEN)
    return figures


def read_rows(context: Context) -> list[Row]:
    """The sentences of all authors."""
    text = context.hash_file(HERE / "voices.jsonl").read_text(encoding="utf-8")
    return [Row(**json.loads(line)) for line in text.splitlines()]


def read_development(context: Context) -> list[Pair]:
    """The development pairs; those with the same source are in the same fold."""
    import numpy as np

    from langchain_dsplus.fidelity.sentences import normalize, split_sentences
    from langchain_dsplus.fidelity.voices import known_words, new_share

    pairs = []
    for pair in read_pairs(context, "dev"):
        known = known_words(pair["source"])
        sentences = split_sentences(normalize(pair["rewrite"]))
        new = np.array([new_share(sentence, known) for sentence in sentences])
        fold = hashlib.sha256(pair["source"][:80].encode()).digest()[0] % FOLDS
        pairs.append(Pair(pair["kind"], sentences, new, fold))
    return pairs


def taught(pairs: list[Pair]) -> list[Row]:
    """What pairs teach: of a rewrite with an order or a verdict the newest sentence, of any other all."""
    voices = {kind: voice for voice, kind in VOICES.items()}
    found: dict[str, Row] = {}
    for pair in pairs:
        voice = voices.get(pair.kind)
        told = [pair.sentences[int(pair.new.argmax())]] if voice else pair.sentences
        found |= {sentence: Row(sentence, voice or "tells", "pairs") for sentence in told}
    return list(found.values())


@cache
def _features(text: str) -> list[str]:
    from langchain_dsplus.fidelity.voices import features

    return features(text)


class Reader:
    """A model that learned: two logistic regressions over the same features."""

    def __init__(self, rows: list[Row]) -> None:
        import numpy as np
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression

        self._count = CountVectorizer(analyzer=_features, binary=True, min_df=2)
        self._count.fit([row.text for row in rows])
        seen = self.seen([row.text for row in rows])
        told = [np.array([row.voice == voice for row in rows]) for voice in VOICES]
        self._models = [LogisticRegression(C=20.0, max_iter=500).fit(seen, each) for each in told]

    def seen(self, texts: list[str]) -> Any:
        """Shape (texts, features): each row over the root of how many features its text has, known or not."""
        import numpy as np
        from scipy.sparse import diags

        sizes = np.array([max(1, len(_features(text))) for text in texts])
        return diags(1.0 / np.sqrt(sizes)) @ self._count.transform(texts)

    def __call__(self, texts: list[str]) -> NDArray[np.float64]:
        """Log odds of each voice, shape (texts, 2)."""
        import numpy as np

        seen = self.seen(texts)
        return np.stack([model.decision_function(seen) for model in self._models], axis=1)

    def weights(self) -> tuple[dict[str, list[float]], list[float]]:
        """Of each feature the weight for each voice, and where a sentence without features starts."""
        columns = zip(*(model.coef_[0].round(2).tolist() for model in self._models), strict=True)
        named = zip(self._count.get_feature_names_out(), columns, strict=True)
        weights = {name: list(each) for name, each in named if any(each)}
        return weights, [round(float(model.intercept_[0]), 3) for model in self._models]


def set_limits(pairs: list[Pair], scores: list[NDArray[np.float64]]) -> list[float]:
    """The limits of both voices, from what was read by models that had not learned from it."""
    import numpy as np

    highest = [best(pair, score) for pair, score in zip(pairs, scores, strict=True) if pair.kind == "faithful"]
    return [round(float(np.quantile(each, 1.0 - at)), 2) for each, at in zip(np.array(highest).T, REFUSED, strict=True)]


def best(pair: Pair, score: NDArray[np.float64]) -> NDArray[np.float64]:
    """The highest of each voice over the sentences of a rewrite, with what new words add; shape (2,)."""
    from langchain_dsplus.fidelity.voices import NEW

    highest: NDArray[np.float64] = (score + NEW * pair.new[:, None]).max(axis=0)
    return highest


def _of_pairs(pairs: list[Pair], scores: list[NDArray[np.float64]], limits: list[float]) -> Figures:
    figures: Figures = {}
    for place, (voice, kind) in enumerate(VOICES.items()):
        for of in (kind, "faithful"):
            mine = [(pair, score) for pair, score in zip(pairs, scores, strict=True) if pair.kind == of]
            found = [bool(best(pair, score)[place] > limits[place]) for pair, score in mine]
            figures |= share(f"pairs.{voice}.{of}", found) | {f"pairs.{voice}.{of}.n": len(found)}
    return figures


def _of_author(author: str, rows: list[Row], scores: NDArray[np.float64], limits: list[float]) -> Figures:
    """An author's sentences, each alone, as if a source had half of its words."""
    from langchain_dsplus.fidelity.voices import NEW

    figures: Figures = {f"{author}.n": len(rows)}
    for place, voice in enumerate(VOICES):
        found = scores[:, place] + NEW / 2 > limits[place]
        for of in (voice, "tells"):
            mine = [bool(hit) for hit, row in zip(found, rows, strict=True) if row.voice == of]
            figures |= share(f"{author}.{voice}.{of}", mine) if mine else {}
    return figures


def _of_reviews(context: Context, read: Reader, limits: list[float]) -> Figures:
    """Sentences of real reviews, as they stand in them: what they advise and think is what they tell."""
    from benchmarks import data
    from langchain_dsplus.fidelity.sentences import normalize, split_sentences

    figures: Figures = {}
    for name, load in (("amazon_multidomain", data.amazon_multidomain), ("imdb_gpt35", data.imdb_gpt35)):
        try:
            rows = load()
        except FileNotFoundError as error:
            context.say(str(error))
            continue
        texts = [row.text for row in context.random(name).sample(rows, REVIEWS)]
        scores = read([sentence for text in texts for sentence in split_sentences(normalize(text))])
        for place, voice in enumerate(VOICES):
            figures |= share(f"{name}.{voice}.tells", list(scores[:, place] > limits[place]))
        figures[f"{name}.n"] = len(scores)
    return figures


def write(path: Path, read: Reader, limits: list[float]) -> None:
    """Write a model as `langchain_dsplus.fidelity.voices` reads it; the same bytes for the same model."""
    weights, start = read.weights()
    body = {"limits": limits, "start": start, "weights": [[name, *each] for name, each in sorted(weights.items())]}
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def recheck(context: Context, figures: Figures) -> Figures:
    """The limits that the package has are those of the run."""
    del figures
    body = json.loads(gzip.decompress(context.hash_file(WRITTEN).read_bytes()))
    return {f"{voice}.limit": limit for voice, limit in zip(VOICES, body["limits"], strict=True)}


def tables(figures: Figures) -> list[Table]:
    authors = sorted(key.removesuffix(".n") for key in figures if key.count(".") == 1 and key.endswith(".n"))
    rows = []
    for author in authors:
        parts = ("orders.orders", "judges.judges", "orders.tells", "judges.tells")
        cells = (interval(figures, f"{author}.{p}") if f"{author}.{p}" in figures else "" for p in parts)
        rows.append([author, number(figures, f"{author}.n", 0), *cells])
    told = "; ".join(
        f"{kind}s {interval(figures, f'pairs.{voice}.{kind}')} % of {number(figures, f'pairs.{voice}.{kind}.n', 0)}, "
        f"faithful {interval(figures, f'pairs.{voice}.faithful')} %"
        for voice, kind in VOICES.items()
    )
    note = (
        "Each author is read by a model that learned from the others; a sentence stands alone, as if a source had half "
        "of its words, and many of those that tell were written to be taken for the others. Of real reviews, which "
        "none learned from, each sentence stands as it does in them. The "
        f"development pairs, a fourth at a time, by one that learned from the rest: caught of {told} refused."
    )
    columns = ["author", "sentences", "orders", "verdicts", "told: taken for orders", "for verdicts"]
    return [Table("voices", "Whose voice a sentence has, %", columns, rows, note)]
