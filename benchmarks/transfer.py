"""Does a shortened prompt decide as well? Sentiment, questions in chatter, distractors: local LLMs with gold.

Long IMDB and Amazon reviews (sentiment), TREC questions with chatter put around them by a seeded generator, and short
decisions buried in self-praise, feelings and side stories (`distractors.json`, written for this). Each text reaches the
judge as it is (`none`) and shortened to a third: its beginning (`truncate`), its rarest words (`drop`, as token
dropping by self-information does), its own sentences (`extractive`), or shortened by the judge itself (`llm`, behind
the fidelity gate, on fewer texts). Each arm is a `certify_transfer` with a promise of 10 points. With the distractors
transfer should win accuracy back, if the paper is right.

Answers are remembered under `DSPLUS_CACHE`: a run that was cut off goes on where it stopped.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import data
from benchmarks.harness import Context, Figures, Table, interval, number, wilson

if TYPE_CHECKING:
    from random import Random

    from benchmarks.disputes.memory import Remembered

ARMS = {
    "none": "as it is",
    "truncate": "its beginning",
    "drop": "its rarest words",
    "extractive": "its own sentences",
    "llm": "shortened by the LLM",
}
SETS = {
    "imdb": "long IMDB reviews",
    "amazon": "long Amazon reviews",
    "chatter": "TREC questions in chatter",
    "distractors": "distractors",
}
MODELS = {"qwen_0_5b": "qwen2.5-coder-0.5b", "qwen_1_5b": "qwen2.5-coder-1.5b"}
"""Judges: their keys in the figures, and their names."""
PROMISE = "10 points"
THIRD = 1 / 3
NOT_RECHECKED = "every figure comes from a language model that reads the texts"


@dataclass(frozen=True)
class Size:
    """How much one judge is asked."""

    texts: dict[str, int]
    """For each set how many texts, the first of its seeded order."""
    arms: tuple[str, ...]
    fewer: dict[str, int]
    """Arms with fewer texts: an LLM that shortens takes many times as long as one that decides."""


SIZES: dict[str, dict[str, Size]] = {
    "quick": {"qwen_0_5b": Size({"amazon": 5, "distractors": 5}, ("none", "truncate", "extractive"), {})},
    "default": {
        "qwen_0_5b": Size({"imdb": 50, "amazon": 50, "distractors": 42}, tuple(ARMS), {"llm": 8, "drop": 30}),
        "qwen_1_5b": Size(
            {"imdb": 10, "amazon": 10, "chatter": 24}, ("none", "truncate", "extractive", "llm"), {"llm": 4}
        ),
    },
    "full": dict.fromkeys(MODELS, Size(dict.fromkeys(SETS, 120), tuple(ARMS), {"llm": 40})),
}
"""By what two busy cores answer in an hour. The smaller judge cannot tell the classes of questions in chatter and is
not asked about them; the larger was left out of the distractors for time."""


@dataclass(frozen=True)
class Case:
    """One text to decide about."""

    text: str
    task: str
    labels: tuple[str, ...]
    gold: str
    shots: tuple[tuple[str, str], ...] = ()
    """Examples that the judge reads first: texts, and their labels."""


# --- texts ----------------------------------------------------------------------------------------------------


def reviews(rows: Sequence[Any], rng: Random, count: int) -> list[Case]:
    """Long reviews, as many of each sentiment."""
    order = list(rows)
    rng.shuffle(order)
    labels = ("negative", "positive")
    long = [row for row in order if row.label in labels and 150 <= len(row.text.split()) <= 320]
    sides = ([row for row in long if row.label == label] for label in labels)
    mixed = [row for pair in zip(*sides, strict=False) for row in pair]
    return [Case(_plain(row.text), "Is this review positive or negative?", labels, row.label) for row in mixed[:count]]


OPENINGS = (
    "Hi there, hope you are having a nice day!",
    "Sorry to bother you again, I know how busy you all must be.",
    "First of all, thank you for being so kind last time.",
    "So my cousin and I were having dinner yesterday, pasta again, and we got talking.",
    "It has been raining here since Monday and the dog refuses to go out.",
    "I am not very good with computers, please bear with me.",
    "My grandmother always said that there are no stupid questions.",
    "This is a bit random, I know.",
    "We just moved house and nothing is where it should be.",
    "I was up half the night because of this, would you believe it?",
)
CLOSINGS = (
    "Anyway, no rush at all, answer whenever you like.",
    "My sister bet me five euros that nobody knows, so please help me win.",
    "Thanks a million, you are the best!",
    "I will be at the gym until six and then I am free.",
    "By the way, I loved the new logo on your page.",
    "Hope that makes sense, I tend to ramble.",
    "Say hello to everybody in the office from me!",
    "I asked my neighbour too, but he only talks about his garden.",
    "Sorry for the long message, that is just how I am.",
    "Have a great weekend, and do not work too hard!",
)


SHOTS = (
    ("Hi all, it is late here. How many legs has a spider? Thanks!", "number"),
    ("My aunt asked me this at lunch: who painted the Mona Lisa? Have fun!", "human"),
    ("Sorry to ask again. Where is Lima? I am off to bed.", "location"),
    ("We had soup today. Which gem is red? See you!", "entity"),
    ("Silly me, I forgot: what does GPS stand for? Cheers!", "abbreviation"),
    ("Good morning! Why is the sky blue? My dog says hello.", "description"),
)
"""An example of each class: their names alone do not say what is meant. Ours; none is a test question."""


def chatter(rng: Random, count: int) -> list[Case]:
    """Questions with small talk around them."""
    rows = data.trec("test")
    rng.shuffle(rows)
    labels = tuple(sorted({row.label for row in rows}))
    task = "What kind of answer does the question in this message ask for?"
    found = []
    for row in rows[:count]:
        before = rng.sample(OPENINGS, rng.randint(2, 4))
        after = rng.sample(CLOSINGS, rng.randint(2, 4))
        found.append(Case(" ".join([*before, row.text, *after]), task, labels, row.label, SHOTS))
    return found


def distractors(context: Context, count: int) -> list[Case]:
    path = context.hash_file(Path(__file__).with_name("distractors.json"))
    rows = json.loads(path.read_text(encoding="utf-8"))
    context.random("distractors").shuffle(rows)
    return [Case(_plain(row["text"]), row["task"], tuple(row["labels"]), row["gold"]) for row in rows[:count]]


def _plain(text: str) -> str:
    return " ".join(re.sub(r"<[^>]{1,20}>", " ", text).split())


def cases_of(context: Context, name: str, count: int) -> list[Case]:
    rng = context.random(name)
    if name == "imdb":
        context.hash_file(data.find("imdb_gpt35") / "dev.csv")
        return reviews(data.imdb_gpt35(), rng, count)
    if name == "amazon":
        context.hash_file(data.find("amazon_multidomain") / "reviews.csv.gz")
        return reviews(data.amazon_multidomain(), rng, count)
    if name == "chatter":
        context.hash_file(data.find("trec") / "TREC_10.label")
        return chatter(rng, count)
    return distractors(context, count)


# --- shortening -----------------------------------------------------------------------------------------------


def truncate(text: str) -> str:
    """The first third of the words."""
    words = text.split()
    return " ".join(words[: max(1, round(THIRD * len(words)))])


def dropper(texts: Sequence[str]) -> Callable[[str], str]:
    """Token dropping: the third of a text's words that carry most information, by their rarity in these texts."""
    counts = Counter(word for text in texts for word in _words(text))

    def drop(text: str) -> str:
        words = text.split()
        keep = max(1, round(THIRD * len(words)))
        rare = sorted(range(len(words)), key=lambda place: (counts[_bare(words[place])], place))
        return " ".join(words[place] for place in sorted(rare[:keep]))

    return drop


def _words(text: str) -> list[str]:
    return [_bare(word) for word in text.split()]


def _bare(word: str) -> str:
    return word.strip(".,;:!?()\"'").casefold()


def transfers(cases: Sequence[Case], chat: Remembered, arm: str) -> dict[str, Any]:
    """An arm that shortens: for each question its `PromptTransfer`, which puts what it made where the text was."""
    from langchain_dsplus.prompts.extractive import ExtractiveSummarizer
    from langchain_dsplus.transfer import PromptTransfer, summarise

    words = round(THIRD * sum(len(case.text.split()) for case in cases) / len(cases))
    drop = dropper([case.text for case in cases])
    writer = chat.with_settings(temperature=0, max_tokens=round(2.2 * words))
    makers: dict[str, Callable[[str], dict[str, Any]]] = {
        "truncate": lambda _: {"model": truncate, "fidelity": "off"},
        "drop": lambda _: {"model": drop, "fidelity": "off"},
        "extractive": lambda task: {"model": ExtractiveSummarizer(question=task, ratio=THIRD)},
        "llm": lambda task: {"model": writer, "subtask": summarise(task, words=words)},
    }
    tasks = {case.task for case in cases}
    return {task: PromptTransfer(**makers[arm](task), input_key="text", output_key="text") for task in tasks}


# --- deciding -------------------------------------------------------------------------------------------------


QUESTION = "{text}\n\n{task} Answer with exactly one of these and nothing else: {options}."


def question(case: Case) -> dict[str, Any]:
    """What the judge is asked about a case."""
    asked = {"task": case.task, "options": ", ".join(f'"{label}"' for label in case.labels)}
    turns = [(("human", QUESTION.format(text=text, **asked)), ("ai", label)) for text, label in case.shots]
    return {"text": case.text, "shots": [turn for pair in turns for turn in pair], **asked}


def judge(chat: Remembered) -> Any:
    """From a case with its text to a reply."""
    from langchain_core.prompts import ChatPromptTemplate

    prompt = ChatPromptTemplate.from_messages([("placeholder", "{shots}"), ("human", QUESTION)])
    return prompt | chat.with_settings(temperature=0, max_tokens=8)


def run(context: Context) -> Figures:
    from benchmarks.disputes import Models
    from benchmarks.disputes.memory import Answers
    from langchain_dsplus.weights import cache_dir

    size = SIZES["quick" if context.quick else "full" if context.full else "default"]
    answers = Answers(cache_dir() / "benchmarks" / "transfer.jsonl")
    figures: Figures = {}
    with ExitStack() as stack:
        models = Models(stack, answers)
        for model, of in size.items():
            chat = models.local(MODELS[model])
            for name, count in of.texts.items():
                cases = cases_of(context, name, count)
                for arm in of.arms:
                    found = measure(context, f"{name}, {arm}", cases[: of.fewer.get(arm)], arm, chat)
                    figures |= {f"{name}.{model}.{arm}.{key}": value for key, value in found.items()}
    figures["seconds_asking"] = answers.seconds
    return figures


def measure(context: Context, title: str, cases: Sequence[Case], arm: str, chat: Remembered) -> Figures:
    """One arm on one set: a certificate, and what it says."""
    from langchain_core.runnables import RunnableLambda

    from benchmarks.disputes.drafts import Drafts
    from langchain_dsplus.labels import match_label
    from langchain_dsplus.threshold.exact import loss_interval
    from langchain_dsplus.transfer import certify_transfer

    plain = judge(chat) | RunnableLambda(lambda reply: str(reply.text))
    labels = sorted({label for case in cases for label in case.labels})
    transferred = plain
    if arm != "none":
        chains = {task: each.as_assign(label=None) | plain for task, each in transfers(cases, chat, arm).items()}
        transferred = RunnableLambda(lambda row: chains[row["task"]])
    rows = [(question(case), case.gold) for case in cases]
    heard = Drafts()
    context.say(f"{title}: {len(rows)} texts")
    certificate = certify_transfer(
        rows,
        plain=plain,
        transferred=transferred.with_config(callbacks=[heard]),
        max_loss=PROMISE,
        to_label=lambda text: match_label(text, labels) or "none of them",
        max_concurrency=1,
        progress=context.console is not None,
        version="1",
    )
    n = certificate.n
    right = round((certificate.accuracy or {"transferred": 0})["transferred"] * n)
    low, high = wilson(right, n)
    savings = certificate.savings
    figures: Figures = {
        "n": n,
        "accuracy": 100 * right / n,
        "accuracy.low": 100 * low,
        "accuracy.high": 100 * high,
        "certified": float(certificate.certified),
        "loss_upper": 100 * certificate.loss_upper,
        "changed": 100 * certificate.changed / n,
        "seconds": heard.seconds / n,
    }
    if savings is not None:
        figures["tokens"] = savings.tokens_large
        figures["tokens_both"] = savings.tokens_transferred
        for key, saved in (("saved", savings.large), ("saved_both", savings.tokens)):
            figures |= {
                f"{key}": 100 * saved.value,
                f"{key}.low": 100 * saved.low,
                f"{key}.high": 100 * saved.high,
            }
    if arm == "none":
        return figures
    bottom, top = loss_interval(certificate.harms, certificate.gains, n)
    return figures | {"gain": -100 * certificate.loss, "gain.low": -100 * top, "gain.high": -100 * bottom}


# --- tables ---------------------------------------------------------------------------------------------------


def tables(figures: Figures) -> list[Table]:
    rows = []
    for name, title in SETS.items():
        for model, called in MODELS.items():
            for arm, words in ARMS.items():
                key = f"{name}.{model}.{arm}"
                if f"{key}.accuracy" not in figures:
                    continue
                certified = {1.0: "yes", 0.0: "no"}[figures[f"{key}.certified"]]
                rows.append(
                    [
                        title,
                        called,
                        words,
                        number(figures, f"{key}.n", 0),
                        interval(figures, f"{key}.accuracy", 0),
                        "-" if arm == "none" else interval(figures, f"{key}.gain", 0, sign=True),
                        number(figures, f"{key}.tokens", 0),
                        "-" if arm == "none" else interval(figures, f"{key}.saved_both", 0),
                        number(figures, f"{key}.seconds", 0),
                        "-" if arm == "none" else certified,
                        "-" if arm == "none" else number(figures, f"{key}.loss_upper", 0),
                        "-" if arm == "none" else number(figures, f"{key}.changed", 0),
                    ]
                )
    columns = [
        "set",
        "judge",
        "text",
        "texts",
        "right, % (95 %)",
        "against as it is, points (95 %)",
        "tokens",
        "tokens saved by both models, % (95 %)",
        "seconds",
        f"certified at {PROMISE}",
        "loss at most, points (95 %)",
        "changed, %",
    ]
    note = (
        "Shortened to a third. Few texts a row: differences of a few points cannot be seen, and a promise of "
        f"{PROMISE} needs 29 texts without a loss. The larger judge was asked about few reviews only, for time. "
        "Tokens of the judge, one call. Seconds of both models, on two cores that had much else to do: told for "
        "their order of magnitude. The LLM that shortens is the judge; its tokens are counted under both models. The "
        "rarest words: by their counts in these texts. About chatter only the larger judge is asked, with an example "
        "of each class in front, which the tokens count: little of them can be saved."
    )
    return [Table("transfer", "Deciding on shortened texts", columns, rows, note), _verdict(figures)]


def _verdict(figures: Figures) -> Table:
    """Whether transfer wins back what distractors cost."""
    rows = []
    for model, called in MODELS.items():
        for arm, words in ARMS.items():
            key = f"distractors.{model}.{arm}.gain"
            if key not in figures or math.isnan(figures[key]):
                continue
            low, high = figures[f"{key}.low"], figures[f"{key}.high"]
            said = "yes" if low > 0 else "no, it loses" if high < 0 else "not shown"
            rows.append([called, words, interval(figures, key, 0, sign=True), said])
    columns = ["judge", "text", "against as it is, points (95 %)", "wins accuracy back"]
    note = "Yes or no where the interval leaves zero out."
    return Table("transfer.distractors", "Does transfer win back what distractors cost?", columns, rows, note)
