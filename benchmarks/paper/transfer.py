"""Figure 5 and Table 6 of the paper: judges of disputes, and what a small model's cleaning of the text does for them.

Disputes written for this project, each told by both parties, put to local judges as they are, with their own sentences
picked (`extractive`) and rewritten by a small model behind the check (`llm`), by `compare_transfer`; and the tasks at
which these judges are competent (reviews, short decisions among distractors), from `benchmarks.transfer` and its cache.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from benchmarks import transfer as competent
from benchmarks.harness import Context, Figures, Table
from benchmarks.paper import table

if TYPE_CHECKING:
    from collections.abc import Sequence

PAPER = {
    "disputes.none.accuracy": "60 (five judges; GLM-3 0, GLM-4 and Gemini 100)",
    "disputes.llm.accuracy": 100,
    "who": "one case, ten analyses by each of five judges; its text goes from 216 to 53 tokens",
}
DIFFERS = [
    "local judges and a local writer of half a billion parameters; ChatGLM3-6B and the paid judges are not to be had",
    "several disputes, told by both parties, instead of one case; in half of the calls the options are reversed",
    "rewrites pass a check; what is unfaithful goes on as the original",
    "intervals over cases, not over seeds",
]
NOT_RECHECKED = "every figure comes from a language model that reads the texts"
SIZES = {"quick": 1, "default": 4, "full": 30}
SETS = ("amazon", "distractors")
ARMS = {
    "disputes.none": "disputes, as told",
    "disputes.extractive": "disputes, own sentences",
    "disputes.llm": "disputes, rewritten",
} | {
    f"{name}.{arm}": f"{competent.SETS[name]}, {competent.ARMS[arm]}"
    for name in SETS
    for arm in ("none", "extractive", "llm")
}


def run(context: Context) -> Figures:
    from benchmarks.disputes import Models, texts
    from benchmarks.disputes.memory import Answers
    from langchain_dsplus.weights import cache_dir

    size = "quick" if context.quick else "full" if context.full else "default"
    disputes = texts.even_order(texts.load(["en"], "locked"))[: SIZES[size]]
    figures: Figures = {"disputes.n": len(disputes)}
    with ExitStack() as stack:
        answers = Answers(cache_dir() / "benchmarks" / "paper_transfer.jsonl")
        chat = Models(stack, answers).local(competent.MODELS["qwen_0_5b"])
        figures |= judged(context, disputes, chat)
    with ExitStack() as stack:
        chat = Models(stack, Answers(cache_dir() / "benchmarks" / "transfer.jsonl")).local("qwen2.5-coder-0.5b")
        chosen = competent.SIZES["quick" if context.quick else "default"]["qwen_0_5b"]
        for name in SETS:
            cases = competent.cases_of(context, name, chosen.texts[name])
            for arm in [each for each in ("none", "extractive", "llm") if each in chosen.arms]:
                found = competent.measure(context, f"{name}, {arm}", cases[: chosen.fewer.get(arm)], arm, chat)
                figures |= {f"{name}.{arm}.{key}": value for key, value in found.items()}
                figures[f"{name}.{arm}.calls"] = 100.0
    return figures


def judged(context: Context, disputes: Sequence[Any], chat: Any) -> Figures:
    """The disputes, by `compare_transfer`."""
    from langchain_dsplus import PromptTransfer
    from langchain_dsplus.transfer import compare_transfer

    cases = [
        {"id": each.id, "text": each.statement, "twin": each.twin, "gold": each.verdict}
        for each in disputes
    ]  # fmt: skip
    writer = chat.with_settings(temperature=0, max_tokens=200)
    arms = {
        "extractive": PromptTransfer("extractive", input_key="text", output_key="text"),
        "llm": PromptTransfer(writer, input_key="text", output_key="text"),
    }
    compared = compare_transfer(
        cases,
        judges={"judge": chat.with_settings(temperature=0, max_tokens=8)},
        transfer=arms,
        n=2,
        max_concurrency=1,
        progress=context.console is not None,
        seed=context.seed,
        version="1",
    )
    figures: Figures = {}
    for name, arm in {"none": "no transfer", "extractive": "extractive", "llm": "llm"}.items():
        found = compared.arm("judge", arm)
        known = {"accuracy": found.right, "accuracy.low": found.right_low, "accuracy.high": found.right_high}
        known |= {"swap": found.swap, "transferred": found.transferred}
        figures |= {f"disputes.{name}.{key}": 100 * value for key, value in known.items() if value is not None}
        if found.tokens_in is not None:
            figures[f"disputes.{name}.tokens"] = found.tokens_in
        figures[f"disputes.{name}.calls"] = 100.0
    return figures


def verdict(figures: Figures) -> str:
    def says(key: str) -> str:
        low, high = figures[f"{key}.accuracy.low"], figures[f"{key}.accuracy.high"]
        return f"{figures[f'{key}.accuracy']:.0f} % ({low:.0f} to {high:.0f})"

    plain, rewritten = (figures.get(f"disputes.{arm}.swap", 0.0) for arm in ("none", "llm"))
    return (
        f"Disputes: as told {says('disputes.none')}, rewritten {says('disputes.llm')} right; the same party is named "
        f"whoever tells it in {plain:.0f} and {rewritten:.0f} % of the cases."
    )


def tables(figures: Figures) -> list[Table]:
    return table("transfer", "Prompt transfer (Figure 5, Table 6)", figures, PAPER, ARMS)
