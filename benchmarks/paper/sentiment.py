"""Table 1 of the paper: sentiment of Amazon reviews, small models of four kinds in front of a language model.

8,000 reviews of four categories. Some of them are put to each large model once, answers in the cache; TextCNN and LSTM
(on static vectors), TF-IDF and a MiniLM head learn from the other 7,000. A seed trains them anew and draws which two
fifths of the asked ones choose the threshold; the others are reported. Beside it IMDB reviews with recorded answers of
GPT-3.5: TF-IDF and MiniLM learn from 400 of them, 200 choose, 400 are reported. `--full` asks about 1,000 reviews,
and with `OPENAI_API_KEY` and `OPENAI_MODEL` (and `OPENAI_BASE_URL`) that model too: it costs money.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import data
from benchmarks.harness import Context, Figures, Table, number
from benchmarks.paper import (
    Routed,
    against,
    ask_each,
    average,
    cached_array,
    choose,
    gain,
    mean,
    need,
    over_seeds,
    table,
    with_paid,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGE = {"qwen_0_5b": "qwen2.5-coder-0.5b", "qwen_1_5b": "qwen2.5-coder-1.5b"}
ASKED = {"qwen_0_5b": 300, "qwen_1_5b": 120}
SIZES = {"quick": 24, "default": ASKED, "full": 1000}
SMALL = {"textcnn": "TextCNN", "lstm": "LSTM", "tfidf": "TF-IDF", "minilm": "MiniLM head"}
LABELS = ["negative", "positive"]
WORDS = 60
SEEDS = 5
GRID = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99)
NAMES = {
    "qwen_0_5b": "Qwen2.5-Coder-0.5B",
    "qwen_1_5b": "Qwen2.5-Coder-1.5B",
    "api": "the model of your key",
    "gpt_3_5": "GPT-3.5 on IMDB",
}
PRICE = 0.0035
"""Dollars for a review in the paper's record ($1,201.87 for 309,186)."""
PAPER = {
    "qwen_1_5b.large.accuracy": 94.43,
    "qwen_1_5b.textcnn.alone.accuracy": 85.40,
    "qwen_1_5b.textcnn.accuracy": 94.42,
    "qwen_1_5b.textcnn.calls": 84.97,
    "qwen_1_5b.lstm.alone.accuracy": 86.21,
    "qwen_1_5b.lstm.accuracy": 94.44,
    "qwen_1_5b.lstm.calls": 80.00,
    "qwen_1_5b.minilm.alone.accuracy": 91.79,
    "qwen_1_5b.minilm.accuracy": 95.64,
    "qwen_1_5b.minilm.calls": 31.18,
    "who": "ChatGPT; TextCNN, LSTM, BERT (beside our MiniLM head) trained on 2.5 million reviews",
}
DIFFERS = [
    (
        "local language models of 0.5 and 1.5 billion parameters instead of ChatGPT, asked about 1,000 reviews "
        "(fewer without `--full`)"
    ),
    "they read the first 60 words of a review",
    "small models trained on 7,000 reviews instead of 2.5 million; a MiniLM head instead of a fine-tuned BERT",
    "the threshold is chosen on reviews that are not reported",
]
NOT_RECHECKED = "its figures come from language models and from networks that are trained for it"
ARMS = {
    f"{large}.{small}{alone}": f"{title}: {name}{' alone' if alone else ' first'}"
    for large, title in NAMES.items()
    for small, name in SMALL.items()
    for alone in (".alone", "")
} | {f"{large}.large": f"{title}: alone" for large, title in NAMES.items()}


def vectors() -> tuple[Any, np.ndarray]:
    """WordLlama's tokenizer and its static vectors, (tokens, 256)."""
    from pathlib import Path

    folder = Path(str(need("wordllama").__file__)).parent
    tokenizer = need("tokenizers").Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    weights = need("safetensors.numpy").load_file(str(folder / "weights" / "l2_supercat_256.safetensors"))
    return tokenizer, next(iter(weights.values())).astype(np.float32)


def net(kind: str, table: np.ndarray, seed: int) -> Any:
    """TextCNN (widths 3, 4, 5) or a bidirectional LSTM over the static vectors."""
    import torch
    from torch import nn

    torch.manual_seed(seed)

    class TextNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            padded = torch.from_numpy(np.vstack([np.zeros((1, table.shape[1]), np.float32), table]))
            self.vectors = nn.Embedding.from_pretrained(padded, freeze=True, padding_idx=0)
            self.drop = nn.Dropout(0.5)
            if kind == "textcnn":
                self.parts = nn.ModuleList(
                    nn.Conv1d(table.shape[1], 64, width, padding=width // 2) for width in (3, 4, 5)
                )
                self.head = nn.Linear(192, 2)
            else:
                self.lstm = nn.LSTM(table.shape[1], 64, batch_first=True, bidirectional=True)
                self.head = nn.Linear(128, 2)

        def forward(self, ids: Any) -> Any:
            found = self.vectors(ids)
            if kind == "textcnn":
                found = torch.cat([part(found.transpose(1, 2)).relu().amax(2) for part in self.parts], 1)
            else:
                found = self.lstm(found)[0].masked_fill((ids == 0)[..., None], -1e4).amax(1)
            return self.head(self.drop(found))

    return TextNet()


def split(context: Context) -> tuple[list[data.SourceRow], list[data.SourceRow]]:
    """The 1,000 reviews that may be asked about, a quarter of each category, and the 7,000 that train."""
    context.hash_file(data.find("amazon_multidomain") / "reviews.csv.gz")
    rng = context.random("reviews")
    rows = data.amazon_multidomain()
    rng.shuffle(rows)
    asked: list[data.SourceRow] = []
    rest: list[data.SourceRow] = []
    taken: dict[tuple[str, str], int] = {}
    for row in rows:
        key = (row.source, row.label)
        taken[key] = taken.get(key, 0) + 1
        (asked if taken[key] <= 125 else rest).append(row)
    return asked, rest


def shorten(text: str, words: int = WORDS) -> str:
    """The first words: a small machine reads some 40 tokens a second."""
    return " ".join(text.split()[:words])


def ask(context: Context, rows: Sequence[data.SourceRow], model: str, *, paid: bool = False) -> list[Any]:
    """The language model's replies, with log-probabilities."""
    return ask_each(
        context,
        model,
        [shorten(row.text) for row in rows],
        lambda text: [("human", f"Review: {text}\n\nIs this review positive or negative? Answer with one word.")],
        paid=paid,
        max_tokens=3,
        logprobs=True,
        top_logprobs=5,
    )


def fit(kind: str, train: Sequence[Any], seed: int, context: Context, encoder: Any = None) -> Any:
    """One small model."""
    texts, labels = [row.text for row in train], [row.label for row in train]
    if kind == "tfidf":
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        from langchain_dsplus import SklearnClassifier

        steps = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2), LogisticRegression(C=10.0)
        return SklearnClassifier(make_pipeline(*steps).fit(texts, labels))
    if kind == "minilm":
        from langchain_dsplus import SentenceClassifier

        return SentenceClassifier(encoder, labels=LABELS).fit(texts, labels)
    from langchain_dsplus.small_models import TorchTextClassifier

    tokenizer, table = vectors()
    model = TorchTextClassifier(net(kind, table, seed), LABELS, tokenizer=tokenizer, max_tokens=120, batch_size=64)
    return model.fit(texts, labels, epochs=context.pick(3, 1), seed=seed)


class Encoded:
    """MiniLM's vectors of texts that were all encoded beforehand, once for all seeds."""

    def __init__(self, name: str, texts: Sequence[str]) -> None:
        from langchain_dsplus.small_models.sentence import DEFAULT_ENCODER, as_encoder

        def encode() -> np.ndarray:
            found: np.ndarray = np.asarray(as_encoder(DEFAULT_ENCODER).encode([shorten(text, 100) for text in texts]))
            return found

        vectors = cached_array(f"paper_sentiment-{name}", [len(texts), texts[0], texts[-1]], encode)
        self.vectors = dict(zip(texts, vectors, strict=True))

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self.vectors[text] for text in texts])


def said(context: Context, kind: str, name: str, train: Sequence[Any], rows: Sequence[Any], seed: int) -> np.ndarray:
    """P(positive) of each row by a small model, trained on a bootstrap of the training rows, so that seeds differ."""
    about = [context.seed, kind, name, len(train), len(rows), seed, context.quick, 2]

    def make() -> np.ndarray:
        rng = context.random(f"{name}, {kind}, {seed}")
        drawn = [train[rng.randrange(len(train))] for _ in train]
        encoder = Encoded(name, [row.text for row in [*train, *rows]]) if kind == "minilm" else None
        small = fit(kind, drawn, seed, context, encoder)
        found = np.asarray(small.predict_proba([row.text for row in rows]))
        return found[:, list(small.labels).index("positive")]

    return cached_array("paper_sentiment", about, make)


class _Recorded:
    classes_ = LABELS

    def predict_proba(self, rows: Sequence[dict[str, Any]]) -> list[list[float]]:
        return [[1.0 - row["p"], row["p"]] for row in rows]


def compare(
    context: Context, large: str, answers: Sequence[str], gold: Sequence[str], said_by: dict[str, list[np.ndarray]]
) -> Figures:
    """Every small model in front of one large model."""
    from benchmarks.paper import route
    from langchain_dsplus import SklearnClassifier

    found: dict[str, list[Routed]] = {"large": []}
    sweep: dict[str, list[Routed]] = {}
    small = SklearnClassifier(_Recorded())
    seeds = min(len(runs) for runs in said_by.values())
    for seed in range(seeds):
        places = list(range(len(gold)))
        context.random(f"{large}: choosing {seed}").shuffle(places)
        cut = 2 * len(places) // 5
        choosing, reported = places[:cut], places[cut:]
        for kind, runs in said_by.items():
            p = np.clip(runs[seed], 1e-9, 1 - 1e-9)
            rows = [{"p": float(p[n]), "large": answers[n]} for n in reported]
            true = [gold[n] for n in reported]

            def at(threshold: float, rows: list[Any] = rows, true: list[str] = true) -> Routed:
                return route(small, lambda row: str(row["large"]), rows, true, threshold)

            choice = [LABELS[int(p[n] > 0.5)] for n in choosing]
            sure = [max(p[n], 1 - p[n]) for n in choosing]
            threshold = choose(sure, choice, [answers[n] for n in choosing], [gold[n] for n in choosing])
            found.setdefault(f"{kind}.alone", []).append(at(-1.0))
            found.setdefault(kind, []).append(at(threshold))
            if kind == next(iter(said_by)):
                found["large"].append(at(1.0))
            for cut_at in GRID:
                sweep.setdefault(f"{kind}.at_{cut_at:g}", []).append(at(cut_at))
    figures: Figures = {"n": len(gold)}
    for arm in ["large", *(f"{kind}{alone}" for kind in said_by for alone in (".alone", ""))]:
        figures |= over_seeds(arm, found[arm])
    for key, runs in sweep.items():
        kind, cut = key.split(".at_")
        figures |= mean(f"curve.{kind}.{cut.replace('.', '_')}.right", [run.accuracy for run in runs])
        figures[f"curve.{kind}.{cut.replace('.', '_')}.asked"] = average([run.calls for run in runs])
    for kind in said_by:
        figures |= gain(kind, "large", found)
    return {f"{large}.{key}": value for key, value in figures.items()}


def run(context: Context) -> Figures:
    asked, rest = split(context)
    figures: Figures = {}
    seeds = context.pick(SEEDS, 2)
    train = rest[: context.pick(None, 500)]
    said_by: dict[str, list[np.ndarray]] = {kind: [] for kind in SMALL}
    with context.progress("small models", seeds * len(SMALL)) as advance:
        for kind in SMALL:
            for seed in range(seeds):
                said_by[kind].append(said(context, kind, "amazon", train, asked, seed))
                advance(1)
    for large, model in with_paid(context, LARGE).items():
        count = SIZES["quick"] if context.quick else SIZES["full"] if context.full else ASKED[large]
        if context.quick and large != "qwen_0_5b":
            continue
        rows = asked[:count]
        replies = [reply.text.strip().lower() for reply in ask(context, rows, model, paid=large == "api")]
        # What is neither is wrong, whatever is true.
        answers = [next((label for label in LABELS if reply.startswith(label)), "neither") for reply in replies]
        some = {kind: [p[:count] for p in runs] for kind, runs in said_by.items()}
        figures |= compare(context, large, answers, [row.label for row in rows], some)
        figures[f"{large}.dollars_at_paper_price"] = PRICE * 1000
    return figures | imdb(context)


def imdb(context: Context) -> Figures:
    """IMDB with recorded answers of GPT-3.5."""
    context.hash_file(data.find("imdb_gpt35") / "dev.csv")
    rows = data.imdb_gpt35()
    context.random("imdb").shuffle(rows)
    train, rest = rows[:400], rows[400:]
    kinds = ("tfidf", "minilm")
    said_by = {
        kind: [said(context, kind, "imdb", train, rest, n) for n in range(context.pick(SEEDS, 2))] for kind in kinds
    }
    answers = [row.large["gpt-3.5"] for row in rest]
    return compare(context, "gpt_3_5", answers, [row.label for row in rest], said_by)


def verdict(figures: Figures) -> str:
    parts = []
    for large, title in NAMES.items():
        kinds = [kind for kind in SMALL if f"{large}.{kind}.accuracy" in figures]
        if not kinds:
            continue
        top = max(kinds, key=lambda kind: figures[f"{large}.{kind}.accuracy"])
        scoped = {key.removeprefix(f"{large}."): value for key, value in figures.items() if key.startswith(f"{large}.")}
        parts.append(
            f"{title} with {SMALL[top]} first: {against(scoped, top, 'large')} it alone, at "
            f"{scoped[f'{top}.calls']:.0f} % of the calls"
        )
    return "; ".join(parts) + "."


def tables(figures: Figures) -> list[Table]:
    known = {arm: title for arm, title in ARMS.items() if f"{arm}.accuracy" in figures}
    curve = [
        [
            f"{NAMES[large]}, {name}",
            *(
                f"{number(figures, f'{large}.curve.{kind}.{cut}.right', 1)} / "
                f"{number(figures, f'{large}.curve.{kind}.{cut}.asked', 0)}"
                for cut in (f"{value:g}".replace(".", "_") for value in GRID)
            ),
        ]
        for large in NAMES
        for kind, name in SMALL.items()
        if f"{large}.{kind}.accuracy" in figures
    ]
    columns = ["accuracy / calls, %", *(f"{value:g}" for value in GRID)]
    paid = [
        [NAMES[large], f"{whole:.2f}", *(number(part, kind) for kind in SMALL)]
        for large in NAMES
        if (whole := figures.get(f"{large}.dollars_at_paper_price"))
        for part in [{kind: whole * figures[f"{large}.{kind}.calls"] / 100 for kind in SMALL}]
    ]
    dollars = ["dollars, threshold chosen", "large model alone", *(f"{name} first" for name in SMALL.values())]
    return [
        *table("sentiment", "Sentiment (Table 1)", figures, PAPER, known),
        Table("paper_sentiment.curve", "Every threshold (Figure 7)", columns, curve),
        Table("paper_sentiment.dollars", "What 1,000 reviews cost at the price of the paper's record", dollars, paid),
    ]
