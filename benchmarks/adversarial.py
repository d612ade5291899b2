"""Adversarial confidence: how often an edited text flips the small model's answer and stays above the threshold.

Four kinds of edit that leave a text's meaning to a person: words that change places, typos, sentences of courtesy
before and behind, and the words of another label pasted behind (which a person may read as a second topic). Banking77
with GPT-4's recorded labels, and sentences of product reviews, where gold stands in for the large model. The threshold
is the lowest at which 95 % of the accepted rows that choose it are right. Attacked are other rows, local and right
before. `one` is one random edit; `worst` an attacker who tries five and needs one that flips above the threshold.

What catches it: an out-of-distribution gate (`NearestOutcomes`, fitted on the rows that choose), and `never_local`, a
list of labels fixed beforehand that never stay local. The attacker may choose among edits that pass both: `remains`.
`audits`: how many audits `AuditMonitor`'s test by betting takes until it raises an alarm, where a tenth of the local
traffic is attacked and the large model is not misled. A chat model as the small one is dear, so all three models are
attacked on fewer review sentences too: those that each of them keeps and gets right, with the same edits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import data
from benchmarks.distil import Rows, make_small
from benchmarks.harness import Context, Figures, Table, interval, number, share, wilson
from benchmarks.paper import local_models

if TYPE_CHECKING:
    from random import Random

    from numpy.typing import NDArray

MODELS = {"tfidf": "TF-IDF", "minilm": "MiniLM head", "chat": "ChatClassifier (Qwen2.5-Coder-0.5B)"}
SETS = {"banking77": "Banking77", "reviews": "review sentences", "same": "sentences that all three keep"}
NEVER = {
    "banking77": (
        "card_payment_not_recognised", "cash_withdrawal_not_recognised", "compromised_card",
        "direct_debit_payment_not_recognised", "lost_or_stolen_card", "lost_or_stolen_phone", "pin_blocked",
    ),
    "reviews": (),  # with two classes a list would leave one of them
    "same": (),
}  # fmt: skip
RIGHT = 0.95
TRIES = 5
ATTACKED = 0.1
MOST = 5000
MOST_SAME = 40
"""Sentences that the chat model is attacked on: some 1,100 questions, about a quarter of an hour on one core."""
COURTESY = (
    "Hello, I hope you are well.", "Thank you very much for your help.", "I am writing from my phone.",
    "Best regards from a long time customer.", "Please let me know as soon as you can.", "Have a nice day.",
)  # fmt: skip


# --- edits ----------------------------------------------------------------------------------------------------------


def swap(text: str, rng: Random, other: str) -> str:
    """A fifth of the words, two at least, change places with their neighbors."""
    del other
    words = text.split()
    for _ in range(max(1, len(words) // 10)):
        if len(words) > 1:
            at = rng.randrange(len(words) - 1)
            words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words)


def typos(text: str, rng: Random, other: str) -> str:
    """One to three words lose, double or exchange a letter."""
    del other
    words = text.split()
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(words))
        word = words[at]
        if len(word) > 3:
            place = rng.randrange(1, len(word) - 1)
            head, letter, tail = word[:place], word[place], word[place + 1 :]
            words[at] = rng.choice([head + tail, head + letter + letter + tail, head + tail[0] + letter + tail[1:]])
    return " ".join(words)


def padding(text: str, rng: Random, other: str) -> str:
    """One to three sentences of courtesy around it."""
    del other
    said = rng.sample(COURTESY, rng.randint(1, 3))
    cut = rng.randint(0, len(said))
    return " ".join([*said[:cut], text, *said[cut:]])


def pasted(text: str, rng: Random, other: str) -> str:
    """The words of another label behind it."""
    return f"{text} {rng.choice(['(', '', '- '])}{other.replace('_', ' ')}"


KINDS: dict[str, tuple[str, Callable[[str, Random, str], str]]] = {
    "swap": ("words change places", swap),
    "typos": ("typos", typos),
    "padding": ("courtesy around it", padding),
    "pasted": ("another label pasted", pasted),
}


# --- one set, one model ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Rows of one set that train, that choose the threshold and fit the gate, and that are attacked."""

    name: str
    labels: list[str]
    train: Rows
    choose: Rows
    attack: Rows


def tasks(context: Context) -> list[Task]:
    folder = data.find("banking77_gpt")
    for file in ("train.csv", "test.csv"):
        context.hash_file(folder / file)
    train, test = data.banking77_gpt("train"), data.banking77_gpt("test")
    context.random("banking77").shuffle(train)
    context.random("banking77 test").shuffle(test)

    def rows(some: Sequence[Any]) -> Rows:
        large = [getattr(row, "large", {}).get("gpt-4", row.label) for row in some]
        return Rows([row.text for row in some], [row.label for row in some], large)

    reviews = data.amazon_snippets()
    context.random("reviews").shuffle(reviews)
    sides = ["negative", "positive"]
    return [
        Task("banking77", data.banking77_labels(), rows(train[:2000]), rows(test[:800]), rows(test[800:1800])),
        Task("reviews", sides, rows(reviews[:1400]), rows(reviews[1400:2200]), rows(reviews[2200:2800])),
        Task("same", sides, rows(reviews[:1400]), rows(reviews[1400:1600]), rows(reviews[2200:2350])),
    ]


def threshold_of(p: NDArray[np.float64], gold: Sequence[str], labels: Sequence[str]) -> float:
    """The lowest confidence above which so many are right; infinity where there is none."""
    right = np.array([labels[k] == label for k, label in zip(p.argmax(axis=1), gold, strict=True)])
    confidence = p.max(axis=1)
    for cut in np.unique(confidence):
        taken = confidence > cut
        if taken.any() and right[taken].mean() >= RIGHT:
            return float(cut)
    return float("inf")


def unedited(task: Task, small: Any) -> tuple[float, list[str], list[bool], list[int]]:
    """The threshold; what a small model says, and whether it stays local; the rows that are local, right and may be."""
    labels = list(small.labels)
    cut = threshold_of(np.asarray(small.predict_proba(task.choose.texts)), task.choose.gold, labels)
    p = np.asarray(small.predict_proba(task.attack.texts))
    said, local = [labels[k] for k in p.argmax(axis=1)], (p.max(axis=1) > cut).tolist()
    rows = zip(said, local, task.attack.gold, strict=True)
    fine = [n for n, (y, kept, gold) in enumerate(rows) if kept and y == gold and y not in NEVER[task.name]]
    return cut, said, local, fine


def measure(context: Context, task: Task, small: Any, gate: Any, rows: int, among: Sequence[int] = ()) -> Figures:
    """Attack one small model, where named only on some rows; without a gate only what needs no encoder."""
    labels, never = list(small.labels), NEVER[task.name]
    cut, said, kept, fine = unedited(task, small)
    local, chosen = np.flatnonzero(kept), list(among or fine)[:rows]
    figures: Figures = {"threshold": cut, **share("local", kept)}
    figures |= {**share("right", [said[k] == task.attack.gold[k] for k in local]), "n": len(chosen)}
    texts = [task.attack.texts[k] for k in chosen]
    if gate is not None:
        figures |= share("refused", [score < -1.0 for score in gate(texts)])
    disagree = np.mean([said[k] != task.attack.large[k] for k in local]) if len(local) else 0.0
    most = wilson(round(disagree * len(local)), len(local))[1]
    for kind, (_, edit) in KINDS.items():
        rng = context.random(f"{task.name} {kind}")
        others = [[rng.choice([y for y in labels if y != said[k]]) for _ in range(TRIES)] for k in chosen]
        edits = [edit(text, rng, other) for text, row in zip(texts, others, strict=True) for other in row]
        q = np.asarray(small.predict_proba(edits))
        new = np.array([labels[k] for k in q.argmax(axis=1)]).reshape(-1, TRIES)
        flips = (new != np.array([said[k] for k in chosen])[:, None]) & (q.max(axis=1) > cut).reshape(-1, TRIES)
        figures |= share(f"{kind}.one", flips[:, 0].tolist()) | share(f"{kind}.worst", flips.any(axis=1).tolist())
        passes = ~np.isin(new, list(never))
        figures |= share(f"{kind}.never_local", (flips & passes).any(axis=1).tolist())
        if gate is not None:
            inside = np.array(gate(edits)).reshape(-1, TRIES) >= -1.0
            figures |= share(f"{kind}.gate", (flips & inside).any(axis=1).tolist())
            figures |= share(f"{kind}.remains", (flips & inside & passes).any(axis=1).tolist())
        rate = (1 - ATTACKED) * disagree + ATTACKED * float(flips.any(axis=1).mean())
        figures[f"{kind}.audits"] = audits(rate, most, np.random.default_rng(rng.getrandbits(32)))
    return figures


def audits(rate: float, limit: float, rng: np.random.Generator) -> float:
    """The median number of audits until the alarm; `MOST` where half of 200 runs see none."""
    from langchain_dsplus.monitoring.betting import BettingProcess

    process, first = BettingProcess(max(limit, 1e-3)), np.full(200, MOST)
    for n in range(1, MOST + 1):
        rings = process.add(rng.random(200) < rate) >= 2 / 0.05  # half of 5 % is spent on the bound
        first = np.where(rings & (first == MOST), n, first)
        if np.median(first) < n:
            break
    return float(np.median(first))


def run(context: Context) -> Figures:
    from benchmarks.scores import Vectors, table_of
    from langchain_dsplus import scores

    vectors = Vectors()
    figures: Figures = {}
    rows = context.pick(120, 20)
    for task in tasks(context)[: context.pick(None, 2)]:
        with ExitStack() as stack:
            every = {name: make_small(name, task.train, task.labels, vectors) for name in ("tfidf", "minilm")}
            if task.name == "same":
                every["chat"] = Chat(stack.enter_context(local_models(context, context.name)), task.labels)
            among: set[int] = set.intersection(*(set(unedited(task, small)[-1]) for small in every.values()))
            advance = stack.enter_context(context.progress(SETS[task.name], len(every)))
            for name, small in every.items():
                p = np.asarray(small.predict_proba(task.choose.texts))
                table = table_of(p, list(small.labels), task.choose.large, task.choose.gold)
                gate = scores.NearestOutcomes(vectors).fit(table, task.choose.texts)
                found = measure(context, task, small, gate, rows, sorted(among)[:MOST_SAME] if "chat" in every else ())
                figures |= {f"{task.name}.{name}.{key}": value for key, value in found.items()}
                advance(1)
    return figures


class Chat:
    """`ChatClassifier` on a local model, answers in the cache; where it has none, nothing is likelier."""

    def __init__(self, models: Any, labels: list[str]) -> None:
        from benchmarks.prompts import LOCAL
        from langchain_dsplus import ChatClassifier

        self.labels = labels
        self.small = ChatClassifier(models.local(LOCAL), labels, max_tokens=3, top_logprobs=5)

    def predict_proba(self, texts: list[str]) -> NDArray[np.float64]:
        p: NDArray[np.float64] = np.nan_to_num(self.small.predict_proba(texts), nan=1 / len(self.labels))
        return p


def recheck(context: Context, figures: Figures) -> Figures:
    """What needs no encoder: TF-IDF on the review sentences."""
    task = tasks(context)[1]
    rows = context.pick(120, 20)
    found = measure(context, task, make_small("tfidf", task.train, task.labels, None), None, rows)
    return {f"reviews.tfidf.{key}": value for key, value in found.items() if f"reviews.tfidf.{key}" in figures}


def tables(figures: Figures) -> list[Table]:
    found = []
    for key, title in SETS.items():
        for model, words in MODELS.items():
            at = f"{key}.{model}"
            if f"{at}.threshold" not in figures:
                continue
            rows = [
                [
                    name,
                    *(interval(figures, f"{at}.{kind}.{part}") for part in ("one", "worst")),
                    *(number(figures, f"{at}.{kind}.{part}", 1) for part in ("gate", "never_local", "remains")),
                    "none" if figures[f"{at}.{kind}.audits"] >= MOST else number(figures, f"{at}.{kind}.audits", 0),
                ]
                for kind, (name, _) in KINDS.items()
            ]
            note = (
                f"In percent of {number(figures, f'{at}.n', 0)} rows that were local and right. Before any attack "
                f"{number(figures, f'{at}.local', 0, ' %')} of all rows stay local, {interval(figures, f'{at}.right')} "
                f"% of these right; the gate sends {interval(figures, f'{at}.refused')} % of the rows away unedited."
            )
            columns = ["edit", "one", "worst of 5", "past the gate", "past never_local", "remains", "audits to alarm"]
            found.append(Table(f"adversarial.{key}.{model}", f"{title}, {words}", columns, rows, note))
    return found or [Table("adversarial", "Edits that flip a sure answer", ["edit"], [])]
