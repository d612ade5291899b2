"""The demo's story: train, validate, choose, route, report; then one dispute."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from langchain_core.callbacks import BaseCallbackHandler

from langchain_dsplus._files import replace_file
from langchain_dsplus._imports import require
from langchain_dsplus._json import load_json
from langchain_dsplus._progress import progress_bar
from langchain_dsplus.demo.arms import Arm, run_arm
from langchain_dsplus.demo.report import Choice, difference, dispute_panel, llm_of, outcomes_of, plot, table, words
from langchain_dsplus.demo.snippets import LABELS, Snippet, Splits, read_snippets, split_snippets
from langchain_dsplus.demo.weights import register_packages
from langchain_dsplus.tags import TRANSFER_TAG

if TYPE_CHECKING:
    from langchain_core.outputs import LLMResult
    from langchain_core.runnables import Runnable
    from rich.console import Console

    from langchain_dsplus.costs.prices import Price
    from langchain_dsplus.small_models.base import SmallModel

PROMPT = [
    (
        "system",
        "You decide whether a sentence from a product review is negative or positive. Answer with that one word.",
    ),
    ("human", "Sentence: {text}"),
]
STATEMENT = (
    "I rent a desk in a shared workshop and I have to tell you what I have had to put up with, because honestly "
    "nobody would believe it. On 3 May I was gluing a frame, which as everyone knows cannot wait, and I am a very"
    " careful person, ask anybody. Marek, who has the desk next to mine and who has never liked me, kept asking "
    "me to move my clamps off his half of the table. He asked three times. I was busy, so I did not move them. It"
    " is not as if they were in his way, I mean who needs a whole half of a table? Then he picked up one clamp "
    "and put it on the floor, on purpose, in the most provoking way. Anyone would have been upset. I threw my "
    "mallet at his cabinet and it cracked the glass door, which cost 180 euros. He did not touch me. I never "
    "meant the glass to break, and frankly a cabinet with a glass door has no business in a workshop. I am the "
    "one who could not finish the frame, so I think that he should pay for the door."
)
_FULL = (250, 350)
_ARMS = 5
_FILES = (
    "results.json",
    "accuracy-against-calls.png",
    "validation.jsonl",
    "validation-outcomes.jsonl",
    "test-outcomes.jsonl",
)
_QUICK = (48, 48)


_Setup: TypeAlias = 'tuple[str, SmallModel, Literal["none", "soft"], dict[str, Any]]'


class DemoError(RuntimeError):
    """The demo cannot go on, and says what to do."""


class Large(NamedTuple):
    """The large model of this run."""

    chat: Any
    title: str
    price: Price
    price_name: str
    concurrency: int
    local: bool


def run_demo(
    *,
    model: str = "qwen2.5-coder-0.5b",
    quick: bool = False,
    output: str | Path = "demo-output",
    seed: int = 0,
    console: Console | None = None,
) -> dict[str, Any]:
    """Run the whole story on real models and print what came out, whatever it is.

    With `OPENAI_API_KEY` set (and `OPENAI_BASE_URL`, `OPENAI_MODEL`), that model is the large one; otherwise a local
    GGUF served over HTTP. A run that was cut off resumes: the large model is not asked again about what it answered.

    Args:
        model: The local model, by its name in `dsplus models list`.
        quick: Fewer inputs.
        output: Folder for outcomes, measurements and the plot.
        seed: Of the split.
        console: Where to print.

    Returns:
        The measurements, as written to `results.json`.
    """
    from rich.console import Console

    register_packages()
    console = console or Console(width=None if sys.stdout.isatty() else 120)
    began = time.perf_counter()
    validation, test = _QUICK if quick else _FULL
    console.rule("[bold]1. Data and models")
    splits = split_snippets(read_snippets(), validation=validation, test=test, seed=seed)
    console.print(
        f"Sentences of Amazon reviews with a clear human rating: {len(splits.train)} to train the small models, "
        f"{len(splits.validation)} to choose the threshold, {len(splits.test)} untouched ones to report on."
    )
    smalls = train(splits, console)
    with large_model(model, console) as large:
        folder = _folder(Path(output), {"model": large.title, "seed": seed, "sizes": [validation, test]}, console)
        console.rule("[bold]2. Validation: both sides answer, then the threshold is chosen")
        choice = choose(smalls, splits, large, folder, console)
        console.rule("[bold]3. The untouched sentences")

        def renew() -> AbstractContextManager[Large]:
            return large_model(model, Console(quiet=True)) if large.local else nullcontext(large)

        arms = compare(smalls, choice, splits.test, renew, folder=folder, console=console)
        arms = without_failures(arms, console)
        console.print(table(arms, large.price, large.price_name))
        for line in words(arms, choice.threshold, large.title):
            console.print(line)
        outcomes = outcomes_of(arms, choice.small, [row for row in splits.test if row["id"] in arms[0].ids])
        outcomes.to_jsonl(folder / "test-outcomes.jsonl")
        picture = plot(arms, choice, outcomes, folder / "accuracy-against-calls.png", large.title)
        console.rule("[bold]4. A dispute: a small model rewrites, the large one decides")
        dispute = settle(large, console)
    results = {
        "large": large.title,
        "small": choice.small.name,
        "threshold": choice.threshold,
        "validation": {"accuracy": choice.accuracy, "large": choice.large_accuracy, "coverage": choice.coverage},
        "price": large.price_name,
        "arms": {arm.name: _measured(arm, arms, large) for arm in arms},
        "dispute": dispute,
        "minutes": (time.perf_counter() - began) / 60,
    }
    replace_file(folder / "results.json", json.dumps(results, ensure_ascii=False, indent=1))
    console.rule("[bold]Done")
    console.print(
        f"{results['minutes']:.1f} minutes. Outcomes, measurements and dispute: {folder}\nPlot: {picture}\n"
        "Nothing above was recorded beforehand; another seed or machine gives other numbers."
    )
    return results


def _measured(arm: Arm, arms: Sequence[Arm], large: Large) -> dict[str, Any]:
    """What one way of answering came to."""
    return {
        "accuracy": arm.accuracy,
        "large_calls": arm.calls,
        "input_tokens": arm.input_tokens,
        "output_tokens": arm.output_tokens,
        "seconds": arm.seconds,
        "dollars": arm.dollars(large.price),
        "difference_to_llm": difference(arm, llm_of(arms)),
    }


def _folder(output: Path, setup: dict[str, Any], console: Console) -> Path:
    """The output folder: continued if it holds an unfinished run of the same setup, emptied of ours otherwise.

    Raises:
        DemoError: If files of these names are there and the folder is not the demo's.
    """
    output.mkdir(parents=True, exist_ok=True)
    marker = output / "setup.json"
    ours = [output / name for name in (*_FILES, *(f"arm-{number}.jsonl" for number in range(_ARMS)))]
    found = [file for file in ours if file.exists()]
    if found and not marker.exists():
        msg = f"`--output` {output} holds {found[0].name}, which is not the demo's: choose another folder"
        raise DemoError(msg)
    try:
        same = load_json(marker.read_text(encoding="utf-8")) == setup
    except (OSError, ValueError):
        same = False
    if same and not (output / "results.json").exists():
        if found:
            console.print(f"[bold]Resuming[/bold] the unfinished run in {output}")
    else:
        for file in found:
            file.unlink()
        replace_file(marker, json.dumps(setup))
    return output


def train(splits: Splits, console: Console) -> list[SmallModel]:
    """Train the two small models, in seconds."""
    from langchain_dsplus.small_models.sentence import SentenceClassifier
    from langchain_dsplus.small_models.sklearn import SklearnClassifier

    text = require("sklearn.feature_extraction.text", "sklearn")
    linear = require("sklearn.linear_model", "sklearn")
    pipeline = require("sklearn.pipeline", "sklearn")
    texts = [row["text"] for row in splits.train]
    gold = [row["gold"] for row in splits.train]
    began = time.perf_counter()
    tfidf = pipeline.make_pipeline(
        text.TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), linear.LogisticRegression(C=10, max_iter=1000)
    ).fit(texts, gold)
    console.print(f"Trained TF-IDF + logistic regression in {time.perf_counter() - began:.1f} s.")
    began = time.perf_counter()
    head = SentenceClassifier("minilm", labels=LABELS, name="sentence head", input_key="text").fit(texts, gold)
    console.print(f"Trained a head on sentence embeddings (MiniLM) in {time.perf_counter() - began:.1f} s.")
    return [SklearnClassifier(tfidf, name="TF-IDF", input_key="text"), head]


@contextmanager
def large_model(model: str, console: Console) -> Iterator[Large]:
    """The paid model if there is a key, a local one over HTTP otherwise."""
    from langchain_dsplus.costs.prices import PRICES, find_price

    settings: dict[str, Any] = {"temperature": 0, "max_retries": 3, "timeout": 120.0}
    if os.environ.get("OPENAI_API_KEY"):
        chat_openai = require("langchain_openai", "openai").ChatOpenAI
        name = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
        console.print(f"OPENAI_API_KEY is set: the large model is [bold]{name}[/bold], and this run costs money.")
        price = find_price(name)
        if price is None:
            console.print(f"No price is known for {name}: the dollars below are gpt-4o-mini's.")
        known = name if price is not None else "gpt-4o-mini"
        yield Large(chat_openai(model=name, **settings), name, price or PRICES["gpt-4o-mini"], known, 8, local=False)
        return
    from langchain_dsplus.local.server import serve_model
    from langchain_dsplus.weights import resolve

    path = resolve(model)
    began = time.perf_counter()
    with serve_model(path, n_ctx=2048, name=model) as server:
        console.print(
            f"No OPENAI_API_KEY: [bold]{model}[/bold] plays the large model, served over HTTP on this machine "
            f"(loaded in {time.perf_counter() - began:.0f} s)."
        )
        yield Large(server.chat_model(**settings), model, PRICES["gpt-4o-mini"], "gpt-4o-mini", 1, local=True)


def large_chain(large: Large, pruning: Literal["none", "soft"]) -> Runnable[Any, Any]:
    """Prompt and chat model; the reply is a message, so that its tokens can be counted."""
    from langchain_dsplus.prompts.pruner import PromptPruner

    prompt = PromptPruner.from_messages(PROMPT, labels=LABELS, pruning=pruning)
    chain: Runnable[Any, Any] = prompt | large.chat.bind(max_tokens=8)
    return chain


def choose(smalls: Sequence[SmallModel], splits: Splits, large: Large, folder: Path, console: Console) -> Choice:
    """Ask the large model about the validation rows once; take the small model and the threshold that do best there."""
    from langchain_dsplus.outcomes import Outcomes
    from langchain_dsplus.prompts.parser import LabelParser
    from langchain_dsplus.threshold.choose import choose_threshold
    from langchain_dsplus.traces.collect import collect_outcomes

    dataset = [{"id": row["id"], "input": {"text": row["text"]}, "gold": row["gold"]} for row in splits.validation]
    collected = collect_outcomes(
        smalls[0],
        large_chain(large, "none") | LabelParser(LABELS),
        dataset,
        path=folder / "validation.jsonl",
        max_concurrency=large.concurrency,
        price=large.price,
    )
    best: Choice | None = None
    for small in smalls:
        answers = small.batch([{"text": row["text"]} for row in splits.validation])
        rows = collected.to_records()
        for row, answer in zip(rows, answers, strict=True):
            row.update(small=answer["choice"], confidence=answer["confidence"], probabilities=answer["probabilities"])
        outcomes = Outcomes.from_records(rows)
        chosen = choose_threshold(outcomes, objective="max_accuracy")
        assert chosen.threshold is not None  # one small model
        console.print(
            f"With {small.name}: accept above {chosen.threshold:.3f} -> {chosen.coverage:.0%} stay local, accuracy "
            f"{chosen.accuracy:.1%}; the LLM alone {chosen.large_accuracy:.1%} (n={len(rows)})."
        )
        option = Choice(
            small, chosen.threshold, outcomes, chosen.accuracy, chosen.large_accuracy, chosen.coverage, chosen.note
        )
        if best is None or (option.accuracy, option.coverage) > (best.accuracy, best.coverage):
            best = option
    if best is None:
        msg = "`smalls` is empty"
        raise ValueError(msg)
    best.outcomes.to_jsonl(folder / "validation-outcomes.jsonl")
    console.print(f"Chosen: [bold]{best.small.name}[/bold], threshold {best.threshold:.3f}. {best.note}")
    return best


def compare(
    smalls: Sequence[SmallModel],
    choice: Choice,
    test: Sequence[Snippet],
    renew: Callable[[], AbstractContextManager[Large]],
    *,
    folder: Path,
    console: Console,
) -> list[Arm]:
    """Answer the test rows in every way: each arm is a router, so all are measured alike."""
    from langchain_dsplus.routing.router import ConfidenceRouter

    alone: list[_Setup] = [(f"small alone: {s.name}", s, "none", {"threshold": 0.0}) for s in smalls]
    setups: list[_Setup] = [
        *alone,
        ("LLM alone", choice.small, "none", {"mode": "off"}),
        ("cascade, plain prompt", choice.small, "none", {"threshold": choice.threshold}),
        ("cascade, soft prompt", choice.small, "soft", {"threshold": choice.threshold}),
    ]
    arms = []
    for number, (name, small, pruning, settings) in enumerate(setups):
        # A local server remembers prompts: each arm gets a fresh one, so that none is quicker for coming later.
        with progress_bar(f"{name:<30}", len(test), show=True, console=console) as advance, renew() as fresh:
            router = ConfidenceRouter(small=small, large=large_chain(fresh, pruning), **settings).warmup()
            path = folder / f"arm-{number}.jsonl"
            arms.append(run_arm(name, router, test, path=path, concurrency=fresh.concurrency, advance=advance))
    return arms


def without_failures(arms: list[Arm], console: Console) -> list[Arm]:
    """Leave rows out of every arm on which the large model failed in one: a failure is no wrong answer.

    Raises:
        DemoError: If it failed on more than a tenth of the rows.
    """
    failed = {row["id"] for arm in arms for row in arm.rows if row.get("error")}
    if not failed:
        return arms
    if len(failed) > len(arms[0].rows) / 10:
        kinds = sorted({row["error"] for arm in arms for row in arm.rows if row.get("error")})
        msg = f"the large model failed on {len(failed)} of {len(arms[0].rows)} rows ({', '.join(kinds)}): run it again"
        raise DemoError(msg)
    console.print(f"The large model failed on {len(failed)} rows, which are left out everywhere; a rerun asks again.")
    return [Arm(arm.name, [row for row in arm.rows if row["id"] not in failed]) for arm in arms]


class Drafts(BaseCallbackHandler):
    """Keeps what the rewriting model wrote, also where the gate lets the original go on."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def on_llm_end(self, response: LLMResult, *, tags: list[str] | None = None, **_: Any) -> None:
        """Read the reply of a call that is part of the transfer."""
        if TRANSFER_TAG in (tags or []):
            self.texts.append(response.generations[0][0].text)


def settle(large: Large, console: Console) -> dict[str, Any]:
    """One dispute through `PromptTransfer` to the adjudicator."""
    from langchain_dsplus.graphs import create_dispute_graph

    chat = large.chat.model_copy(update={"max_tokens": 400})
    drafts = Drafts()
    with console.status("rewriting, checking, judging"):
        state: Any = create_dispute_graph(chat, chat, check=False).invoke(
            {"statement": STATEMENT}, {"callbacks": [drafts]}
        )
    console.print(dispute_panel(STATEMENT, "\n".join(drafts.texts), state))
    if large.local:
        console.print(
            "[bold yellow]Do not trust this verdict.[/bold yellow] A judge this small decides by position and wording, "
            "not by the acts; here it only shows the way a statement takes. Set OPENAI_API_KEY for a model that can "
            "judge."
        )
    return {"transfer": state.get("transfer"), "verdict": state.get("verdict")}
