"""The demo's story: a log and its estimate, a `DataShunt` in fast motion, untouched sentences, a dispute.

What it takes was fixed beforehand, by arithmetic on other rows than those of the last part. Sentences whose raters were
clear about them: of 128 the local language model had 88 % right; a head with 100 labels has as many right over all, and
98 % of the half that it is surest of, so a cascade is worth having. 200 labels as people have them, half of them there
from the start and half told where the shunt asks. Of 82 past calls that teach, on the four fifths that the head is
surest of, 2.4 % were lost and 3.7 % won: then a promise of five points passes on 121 rows with a probability of 0.8,
and half of 400 past calls are set apart for that (`plan_sample_size(0.05, 0.975, harm_rate=0.024, gain_rate=0.037)`;
with nothing lost 75 rows would do; three points, tried first, had one chance in three). Some 720 calls of the language
model, of half a second, take six minutes on two cores.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.runnables import Runnable, RunnableLambda

from langchain_dsplus._files import replace_file
from langchain_dsplus._imports import require
from langchain_dsplus._json import load_json
from langchain_dsplus._progress import progress_bar
from langchain_dsplus.demo.answers import Answers, Arm, arm
from langchain_dsplus.demo.report import LLM, SHUNT, SMALL, Day, difference, dispute_panel, named, plot, table, words
from langchain_dsplus.demo.snippets import HELD_OUT, LABELS, Snippet, read_snippets, split_snippets
from langchain_dsplus.demo.weights import register_packages

if TYPE_CHECKING:
    from rich.console import Console

    from langchain_dsplus.costs.prices import Price
    from langchain_dsplus.shunt.shunt import DataShunt

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
MAX_LOSS = "5 points"
CLEAR = 1.5
"""Mean rating, of -4 to 4, from which on raters were clear about a sentence."""


@dataclass(frozen=True)
class Sizes:
    """How many sentences and labels.

    Attributes:
        gold: Labels that are there from the start.
        asked: Labels that a person tells, where the shunt asks.
        log: Past calls.
        days: Days after them.
        day: Sentences of a day.
        test: Sentences at the end that nothing has seen.
    """

    gold: int = 100
    asked: int = 100
    log: int = 400
    days: int = 3
    day: int = 100
    test: int = 200


_FULL = Sizes()
_QUICK = Sizes(gold=40, asked=20, log=60, days=1, day=20, test=20)
_FILES = ("results.json", "demo.png", "answers.jsonl", "calls.jsonl")
_SHUNT = "shunt"


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
        output: Folder for answers, the shunt, measurements and the plot.
        seed: Of the split.
        console: Where to print.

    Returns:
        The measurements, as written to `results.json`.
    """
    from rich.console import Console

    register_packages()
    console = console or Console(width=None if sys.stdout.isatty() else 120)
    began = time.perf_counter()
    sizes = _QUICK if quick else _FULL
    console.rule("[bold]1. A log, and what it would save")
    parts = split(read_snippets(least=CLEAR), sizes, seed)
    console.print(
        f"Sentences of Amazon reviews that people rated clearly: {sizes.log} past calls, {sizes.days} days of "
        f"{sizes.day}, {sizes.test} untouched ones at the end; {sizes.gold} labels to begin with, and {sizes.asked} "
        "for what the shunt asks."
    )
    with large_model(model, console) as large:
        folder = _folder(Path(output), {"model": large.title, "seed": seed, "sizes": vars(sizes)}, console)
        answers = Answers(folder / "answers.jsonl", large_chain(large), large.concurrency)
        guess = look_at_log(parts.log, answers, folder, large, console)
        console.rule("[bold]2. A DataShunt in the place of the LLM, in fast motion")
        with start_shunt(folder, parts.gold, answers, large, seed) as shunt:
            days = live(shunt, parts, sizes.asked, console)
            console.rule("[bold]3. Sentences that nothing has seen")
            arms = compare(shunt, parts.test, answers, console)
            status, certified = shunt.status(), shunt.certificate is not None
        console.print(table(arms, large.price, large.price_name))
        promise = f"less than {MAX_LOSS} below it"
        for line in words(arms, certified=certified, promise=promise):
            console.print(line)
        picture = plot(arms, days, folder / "demo.png", large.title, certified=certified)
        console.rule("[bold]4. A dispute: a small model shortens, a gate checks, the large model decides")
        dispute = settle(large, console)
    results = {
        "large": large.title,
        "estimate": guess,
        "certified": certified,
        "status": vars(status),
        "days": [vars(day) for day in days],
        "labels": sizes.gold + sum(day.labels for day in days),
        "price": large.price_name,
        "arms": {arm.name: _measured(arm, arms, large) for arm in arms},
        "dispute": dispute,
        "minutes": (time.perf_counter() - began) / 60,
    }
    replace_file(folder / "results.json", json.dumps(results, ensure_ascii=False, indent=1))
    console.rule("[bold]Done")
    console.print(
        f"{results['minutes']:.1f} minutes. Answers, shunt and measurements: {folder}\nPlot: {picture}\n"
        f"Look at the shunt: dsplus status {folder / _SHUNT}\n"
        "Nothing above was recorded beforehand; another seed or machine gives other numbers."
    )
    return results


class Parts(NamedTuple):
    """The sentences, each in one part only."""

    gold: list[Snippet]
    log: list[Snippet]
    days: list[list[Snippet]]
    test: list[Snippet]


def split(rows: list[Snippet], sizes: Sizes, seed: int) -> Parts:
    """Split the sentences with a fixed seed; equal texts count once, and the held-out part stays held out."""
    rows = list({row["text"]: row for row in rows}.values())
    parts = split_snippets(rows, validation=HELD_OUT - sizes.test, test=sizes.test, seed=seed)
    pool = list(parts.train)
    random.Random(seed).shuffle(pool)  # noqa: S311 - a split, no secret
    gold, pool = pool[: sizes.gold], pool[sizes.gold :]
    log, pool = pool[: sizes.log], pool[sizes.log :]
    return Parts(gold, log, [pool[n * sizes.day : (n + 1) * sizes.day] for n in range(sizes.days)], parts.test)


def _measured(arm: Arm, arms: Sequence[Arm], large: Large) -> dict[str, Any]:
    """What one way of answering came to."""
    return {
        "accuracy": arm.accuracy,
        "large_calls": arm.calls,
        "input_tokens": arm.tokens("input"),
        "output_tokens": arm.tokens("output"),
        "dollars": arm.dollars(large.price),
        "difference_to_llm": difference(arm, named(arms, LLM)),
    }


def _folder(output: Path, setup: dict[str, Any], console: Console) -> Path:
    """The output folder: continued if it holds an unfinished run of the same setup, emptied of ours otherwise.

    The shunt itself begins anew each time: it is replayed from the answers that are there, in seconds.

    Raises:
        DemoError: If files of these names are there and the folder is not the demo's.
    """
    output.mkdir(parents=True, exist_ok=True)
    marker = output / "setup.json"
    found = [path for name in (*_FILES, _SHUNT) if (path := output / name).exists()]
    if found and not marker.exists():
        raise DemoError(f"`--output` {output} holds {found[0].name}, which is not the demo's: choose another folder")
    try:
        same = load_json(marker.read_text(encoding="utf-8")) == setup
    except (OSError, ValueError):
        same = False
    shutil.rmtree(output / _SHUNT, ignore_errors=True)
    if same and not (output / "results.json").exists():
        if found:
            console.print(f"[bold]Resuming[/bold] the unfinished run in {output}")
    else:
        for name in _FILES:
            (output / name).unlink(missing_ok=True)
        replace_file(marker, json.dumps(setup))
    return output


def look_at_log(
    rows: Sequence[Snippet], answers: Answers, folder: Path, large: Large, console: Console
) -> dict[str, Any]:
    """Let the large model answer the past calls, write them as a log, and estimate from it what could stay local."""
    from langchain_dsplus.estimate import estimate

    with progress_bar("past calls of the LLM", len(rows), show=True, console=console) as advance:
        said = answers.ask([row["text"] for row in rows], advance)
    fine = [entry for entry in said if not entry.get("error")]
    if len(fine) < 0.9 * len(rows):
        kinds = sorted({entry["error"] for entry in said if entry.get("error")})
        failed = f"{len(rows) - len(fine)} of {len(rows)} sentences ({', '.join(kinds)})"
        key = "" if large.local else "; check OPENAI_API_KEY, OPENAI_BASE_URL and OPENAI_MODEL, then"
        raise DemoError(f"the large model failed on {failed}{key or ':'} run it again")
    log = folder / "calls.jsonl"
    lines = [{"input": entry["text"], "output": entry["reply"], "model": large.price_name} for entry in fine]
    replace_file(log, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    console.print(f"[bold]dsplus estimate {log}[/bold]")
    found = estimate(log, columns={"input": "input", "output": "output", "model": "model"}, max_loss=MAX_LOSS)
    for part in found.parts():
        console.print(part, markup=False)
    return {"decision": found.decision, "verdict": found.verdict}


def start_shunt(folder: Path, gold: Sequence[Snippet], answers: Answers, large: Large, seed: int) -> DataShunt:
    """The shunt in the place of the chain, with the labels that are there."""
    from langchain_dsplus.shunt.shunt import DataShunt
    from langchain_dsplus.small_models.sentence import SentenceClassifier

    return DataShunt(
        RunnableLambda(answers).with_types(output_type=str),
        LABELS,
        folder / _SHUNT,
        MAX_LOSS,
        small=SentenceClassifier("minilm", labels=LABELS, name="sentence head", input_key="text"),
        gold=[({"text": row["text"]}, row["gold"]) for row in gold],
        input_key="text",
        version=f"{large.title}, the demo's prompt",
        price=large.price,
        seed=seed,
        label_wait=7 * 86_400.0,  # somebody tells labels here: a certification waits for those of its disagreements
        include_route=True,
        background=False,  # a day lasts seconds here: what is audited is waited for
    )


def live(shunt: DataShunt, parts: Parts, labels: int, console: Console) -> list[Day]:
    """Let days pass: sentences come, a person tells the labels that are asked for, `work` does what is due."""
    every = [parts.log, *parts.days]
    truth = {row["text"]: row["gold"] for rows in every for row in rows}
    days: list[Day] = []
    for number, rows in enumerate(every, start=1):
        with progress_bar(f"day {number}", len(rows), show=True, console=console) as advance:
            results = shunt.batch([{"text": row["text"]} for row in rows], return_exceptions=True)
            advance(len(rows))
        done, told = shunt.work(), 0
        words_said = [*done.did]
        while labels > told and (now := _tell(shunt, truth, labels - told)):
            told += now
            words_said += shunt.work().did
        labels -= told
        if not labels:
            shunt.worker.label_wait = 0.0  # nobody tells any more: a certification need not wait
            words_said += shunt.work().did
        steps = [said for said in words_said if said.startswith("Certified:")][:-1]  # the last one says it all
        words_said = [said for said in words_said if said not in steps]
        local = sum(not isinstance(result, Exception) and result["route"]["accepted"] for result in results)
        days.append(Day(len(rows), local, told, " ".join(words_said)))
        console.print(
            f"Day {number}: {len(rows)} sentences, [bold]{local} answered locally[/bold], {told} labels told. "
            + (days[-1].words or str(done))
        )
    console.print(str(shunt.status()), markup=False)
    return days


def _tell(shunt: DataShunt, truth: dict[str, str], most: int) -> int:
    """A person says what is true of the disagreements that the shunt asks about; the number of labels."""
    asked = [row for row in shunt.to_label(most) if row["input"] in truth]
    shunt.add_gold({row["id"]: truth[row["input"]] for row in asked})
    return len(asked)


def compare(shunt: DataShunt, rows: Sequence[Snippet], answers: Answers, console: Console) -> list[Arm]:
    """Answer the untouched sentences in every way: the large model, the shunt's small model, the shunt.

    Raises:
        DemoError: If the large model failed on more than a tenth of them.
    """
    with progress_bar("LLM alone", len(rows), show=True, console=console) as advance:
        said = answers.ask([row["text"] for row in rows], advance)
    kept = [(row, entry) for row, entry in zip(rows, said, strict=True) if not entry.get("error")]
    if len(kept) < 0.9 * len(rows):
        raise DemoError(f"the large model failed on {len(rows) - len(kept)} of {len(rows)} sentences: run it again")
    rows, said = [row for row, _ in kept], [entry for _, entry in kept]
    inputs = [{"text": row["text"]} for row in rows]
    small = shunt.worker.registry.load() if shunt.worker.registry.exists else None
    alone = [answer["choice"] for answer in small.batch(inputs)] if small is not None else [LABELS[0]] * len(rows)
    routed = shunt.batch(inputs)
    local = [result["route"]["accepted"] for result in routed]
    asked = [None if fine else entry for fine, entry in zip(local, said, strict=True)]
    mixed = [result["output"] if entry is None else entry["label"] for result, entry in zip(routed, asked, strict=True)]
    return [
        arm(LLM, rows, [entry["label"] for entry in said], said),
        arm(SMALL, rows, alone, [None] * len(rows)),
        arm(SHUNT, rows, mixed, asked),
    ]


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


def large_chain(large: Large) -> Runnable[Any, Any]:
    """Prompt and chat model; the reply is a message, so that its tokens can be counted."""
    from langchain_core.prompts import ChatPromptTemplate

    chain: Runnable[Any, Any] = ChatPromptTemplate.from_messages(PROMPT) | large.chat.bind(max_tokens=8)
    return chain


def settle(large: Large, console: Console) -> dict[str, Any]:
    """One dispute through `PromptTransfer` to the adjudicator; the rewrite chooses sentences, and writes none."""
    from langchain_dsplus.graphs import create_dispute_graph
    from langchain_dsplus.prompts.extractive import ExtractiveSummarizer

    chat = large.chat.model_copy(update={"max_tokens": 400})
    with console.status("shortening, checking, judging"):
        state: Any = create_dispute_graph(ExtractiveSummarizer(ratio=0.6), chat, check=False).invoke(
            {"statement": STATEMENT}
        )
    console.print(dispute_panel(STATEMENT, state))
    if large.local:
        console.print(
            "[bold yellow]Do not trust this verdict.[/bold yellow] A judge this small decides by position and wording, "
            "not by the acts; here it only shows the way a statement takes. Set OPENAI_API_KEY for a model that can "
            "judge."
        )
    return {"transfer": state.get("transfer"), "verdict": state.get("verdict")}
