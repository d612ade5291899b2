"""Figure 5 and Table 6 of the paper: judges of disputes, and what a small model's cleaning of the text does for them.

Disputes written for this project, each told by both parties, put to local judges as they are, with their own sentences
picked (`extractive`) and rewritten by small models behind the check, by `compare_transfer`; and the tasks at which
these judges are competent (reviews, short decisions among distractors), from `benchmarks.transfer` and its cache. What
`benchmarks disputes` asked already is not asked again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import transfer as competent
from benchmarks.harness import Context, Figures, Table, interval, number
from benchmarks.paper import local_models, table

if TYPE_CHECKING:
    from collections.abc import Sequence

DISPUTES = {"none": "as told", "extractive": "own sentences", "llm_0_5b": "rewritten by Qwen-0.5B",
            "llm_1_5b": "rewritten by Qwen-1.5B"}  # fmt: skip
JUDGES = {"qwen_0_5b": "Qwen-0.5B", "qwen_1_5b": "Qwen-1.5B", "smollm2_135m": "SmolLM2-135M"}
PAPER = {
    "disputes.qwen_0_5b.none.accuracy": "60 (five judges; GLM-3 0, GLM-4 and Gemini 100)",
    "disputes.qwen_0_5b.llm_0_5b.accuracy": 100,
    "who": "one case, ten analyses by each of five judges; its text goes from 216 to 53 tokens",
}
DIFFERS = [
    "local judges and writers of 0.1 to 1.5 billion parameters; ChatGLM3-6B and the paid judges are not to be had",
    "several disputes, told by both parties, instead of one case; in half of the calls the options are reversed",
    "rewrites pass a check; what is unfaithful goes on as the original",
    "intervals over cases, not over seeds",
]
NOT_RECHECKED = "every figure comes from a language model that reads the texts"


@dataclass(frozen=True)
class Size:
    """How many disputes are put to which judges, and who rewrites them."""

    disputes: int
    judges: tuple[str, ...] = ("qwen_0_5b",)
    writers: tuple[str, ...] = ("llm_0_5b",)


SIZES = {
    "quick": Size(1),
    "default": Size(4),
    "full": Size(10, tuple(JUDGES), ("llm_0_5b", "llm_1_5b")),
}
SETS = ("amazon", "distractors")
ARMS = {
    f"disputes.{judge}.{arm}": f"disputes, {name}, {title}"
    for judge, name in JUDGES.items()
    for arm, title in DISPUTES.items()
} | {
    f"{name}.{arm}": f"{competent.SETS[name]}, {competent.ARMS[arm]}"
    for name in SETS
    for arm in ("none", "extractive", "llm")
}


def run(context: Context) -> Figures:
    from benchmarks.disputes import texts

    size = "quick" if context.quick else "full" if context.full else "default"
    disputes = texts.even_order(texts.load(["en"], "locked"))[: SIZES[size].disputes]
    figures: Figures = {"disputes.n": len(disputes)} | judged(context, disputes, SIZES[size])
    with local_models(context, "transfer") as models:
        chat = models.local(competent.MODELS["qwen_0_5b"])
        chosen = competent.SIZES["quick" if context.quick else "default"]["qwen_0_5b"]
        for name in SETS:
            cases = competent.cases_of(context, name, chosen.texts[name])
            for arm in [each for each in ("none", "extractive", "llm") if each in chosen.arms]:
                found = competent.measure(context, f"{name}, {arm}", cases[: chosen.fewer.get(arm)], arm, chat)
                figures |= {f"{name}.{arm}.{key}": value for key, value in found.items()}
                figures[f"{name}.{arm}.calls"] = 100.0
    return figures


def judged(context: Context, disputes: Sequence[Any], size: Size) -> Figures:
    """The disputes, by `compare_transfer`."""
    from langchain_core.runnables import RunnableLambda

    from benchmarks.disputes import JUDGES as MODELS
    from benchmarks.disputes import REWRITERS
    from benchmarks.disputes.asking import VERDICT, messages
    from langchain_dsplus import PromptTransfer
    from langchain_dsplus.transfer import compare_transfer

    cases = [
        {"id": each.id, "text": each.statement, "twin": each.twin, "gold": each.verdict}
        for each in disputes
    ]  # fmt: skip
    figures: Figures = {}
    with local_models(context, "disputes") as models:
        arms: dict[str, Any] = {"extractive": PromptTransfer("extractive", input_key="text", output_key="text")}
        for writer in size.writers:
            chat = models.local(REWRITERS[writer]).with_settings(temperature=0, max_tokens=400)
            arms[writer] = PromptTransfer(chat, input_key="text", output_key="text")
        for judge in size.judges:  # one after another: only one model is served at a time
            asked = models.local(MODELS[judge]).with_settings(
                logprobs=True, top_logprobs=20, temperature=0, max_tokens=4
            )

            def decide(value: dict[str, Any], asked: Any = asked) -> Any:
                return asked.invoke(messages(VERDICT, value["text"], "en", value["options"]))

            compared = compare_transfer(
                cases,
                judges={judge: RunnableLambda(decide)},
                transfer=arms,
                n=2,
                max_concurrency=1,
                progress=context.console is not None,
                seed=context.seed,
                version="1",
            )
            for arm in ("none", *arms):
                found = compared.arm(judge, arm.replace("none", "no transfer"))
                known = {"accuracy": found.right, "accuracy.low": found.right_low, "accuracy.high": found.right_high}
                known |= {"swap": found.swap, "transferred": found.transferred, "calls": 1.0}
                key = f"disputes.{judge}.{arm}"
                figures |= {f"{key}.{name}": 100 * value for name, value in known.items() if value is not None}
                if found.tokens_in is not None:
                    figures[f"{key}.tokens"] = found.tokens_in
    return figures


def verdict(figures: Figures) -> str:
    parts = []
    for judge, name in JUDGES.items():
        arms = [arm for arm in DISPUTES if f"disputes.{judge}.{arm}.accuracy" in figures]
        if arms:
            plain, last = (f"disputes.{judge}.{arm}" for arm in ("none", arms[-1]))
            parts.append(
                f"{name} is right in {interval(figures, f'{plain}.accuracy', 0)} % as told, "
                f"{interval(figures, f'{last}.accuracy', 0)} % {DISPUTES[arms[-1]]}, and names the same party whoever "
                f"tells it in {figures.get(f'{plain}.swap', 0.0):.0f} and {figures.get(f'{last}.swap', 0.0):.0f} %"
            )
    return f"{figures['disputes.n']:.0f} disputes: {'; '.join(parts)}."


def tables(figures: Figures) -> list[Table]:
    rows = [
        [ARMS[arm], *(number(figures, f"{arm}.{key}", 0) for key in ("transferred", "swap", "tokens"))]
        for arm in ARMS
        if f"{arm}.transferred" in figures
    ]
    columns = ["", "texts that changed, %", "same party whoever tells it, %", "tokens that the judge reads"]
    passed = Table("paper_transfer.disputes", "What the check let through (Table 6)", columns, rows)
    return [*table("transfer", "Prompt transfer (Figure 5, Table 6)", figures, PAPER, ARMS), passed]
