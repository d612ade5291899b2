"""Does prompt transfer help a judge of disputes? The paper's Figure 5 on disputes written for this project.

Each pair is one dispute told by both parties, each for itself. A judge reads one telling and says who is more at fault.
The arms: the text as it is (`none`), shortened to its own sentences (`extractive`), rewritten by a small language
model (`llm_...`). Rewrites pass through `PromptTransfer` and its gate: what is unfaithful goes on as the original.
Only the locked half is asked about. Verdicts are distributions from log-probabilities, the mean over both orders of the
options; analyses are sampled. `--quick` asks one model about one pair; the default about a part of the locked half,
`--full` about all of it. Answers are remembered under `DSPLUS_CACHE`: a run that was cut off goes on where it stopped.

With `OPENAI_API_KEY` and `OPENAI_MODEL` set (and `OPENAI_BASE_URL`) that model judges too, and the run costs money.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Context, Figures, Table, interval, number, share

if TYPE_CHECKING:
    from benchmarks.disputes.measures import Pair
    from benchmarks.disputes.memory import Remembered
    from benchmarks.disputes.texts import Dispute

ARMS = {
    "none": "no transfer",
    "extractive": "extractive",
    "llm_135m": "LLM transfer, 135M",
    "llm_0_5b": "LLM transfer, 0.5B",
    "llm_1_5b": "LLM transfer, 1.5B",
}
REWRITERS = {"llm_135m": "smollm2-135m", "llm_0_5b": "qwen2.5-coder-0.5b", "llm_1_5b": "qwen2.5-coder-1.5b"}
"""The models that rewrite, by arm."""
JUDGES = {
    "smollm2_135m": "smollm2-135m",
    "qwen_0_5b": "qwen2.5-coder-0.5b",
    "qwen_1_5b": "qwen2.5-coder-1.5b",
}
"""Local judges: their keys in the figures, and their names."""
ENGLISH_ONLY = {"smollm2_135m"}
PRICED_AS = "gpt-4o"
"""The paid model that the judge's tokens are priced as."""
REWRITER_PRICED_AS = "gpt-4o-mini"
MEASURES = ("accuracy", "unbiased", "both_told", "gold_probability", "swap")


@dataclass(frozen=True)
class Size:
    """How much is asked."""

    judges: tuple[str, ...]
    arms: tuple[str, ...]
    english: int
    chinese: int
    analysed: int
    """Pairs whose statement is analysed several times."""
    samples: int


_ARMS = ("none", "extractive", "llm_0_5b", "llm_1_5b")
SIZES = {
    "quick": Size(("smollm2_135m",), ("none", "extractive", "llm_135m"), 1, 0, 1, 2),
    "default": Size(tuple(JUDGES), _ARMS, 10, 4, 2, 10),
    "full": Size(tuple(JUDGES), _ARMS, 30, 10, 10, 10),
}


class Models:
    """The chat models by name; a local server starts when its model is first asked what is not remembered."""

    def __init__(self, stack: ExitStack, answers: Any) -> None:
        self.stack = stack
        self.answers = answers
        self.running: dict[str, Any] = {}

    def local(self, name: str) -> Remembered:
        from benchmarks.disputes.memory import Remembered

        return Remembered(model=name, start=lambda: self._serve(name), answers=self.answers)

    def _serve(self, name: str) -> Any:
        from benchmarks.disputes.asking import SAMPLES_A_CALL
        from langchain_dsplus.local.server import serve_model

        if name not in self.running:
            for other in self.running.values():  # one at a time: memory
                other.stop()
            server = serve_model(name, n_ctx=1536, parallel=SAMPLES_A_CALL)
            self.running = {name: self.stack.enter_context(server)}
        return self.running[name].chat_model(timeout=600)

    def paid(self, name: str) -> Remembered:
        from langchain_openai import ChatOpenAI

        from benchmarks.disputes.memory import Remembered

        return Remembered(model=name, start=lambda: ChatOpenAI(model=name), answers=self.answers)


def paid_model() -> str | None:
    """The model of the user's own key, from `OPENAI_API_KEY` and `OPENAI_MODEL` (and `OPENAI_BASE_URL`)."""
    return os.environ.get("OPENAI_MODEL") if os.environ.get("OPENAI_API_KEY") else None


def size_of(context: Context) -> Size:
    return SIZES["quick" if context.quick else "full" if context.full else "default"]


def run(context: Context) -> Figures:
    from benchmarks.disputes.memory import Answers
    from langchain_dsplus.weights import cache_dir

    size = size_of(context)
    english, chinese = read(context)
    disputes = [*english, *chinese]
    figures: Figures = {"pairs": len(disputes), "pairs.en": len(english), "pairs.zh": len(chinese)}
    context.facts |= {"judge priced as": PRICED_AS, "samples": size.samples}
    answers = Answers(cache_dir() / "benchmarks" / "disputes.jsonl")
    judges = dict.fromkeys(size.judges)
    with ExitStack() as stack:
        models = Models(stack, answers)
        chats: dict[str, Remembered] = {judge: models.local(JUDGES[judge]) for judge in judges}
        if (paid := paid_model()) and not context.quick:
            chats["api"] = models.paid(paid)
            context.facts["api"] = paid
        tellings = [(dispute, text) for dispute in disputes for text, _ in dispute.tellings]
        mine = {judge: english if judge in ENGLISH_ONLY else disputes for judge in chats}
        sent = {"none": {text: text for _, text in tellings}}
        pairs: dict[str, dict[str, dict[str, Pair]]] = {judge: {} for judge in chats}
        for arm in size.arms:
            if arm != "none":
                writer = models.local(REWRITERS[arm]) if arm in REWRITERS else None
                found, sent[arm] = rewritten(context, arm, writer, tellings)
                figures |= {f"rewrite.{arm}.{key}": value for key, value in found.items()}
            for judge, chat in chats.items():
                pairs[judge][arm] = judged(context, f"{judge}, {arm}", chat, mine[judge], sent[arm])
        for judge, chat in chats.items():
            hits = analysed(context, (judge, chat), english[: size.analysed], sent, size.samples)
            for key, value in figures_of(context, judge, mine[judge], pairs[judge], hits).items():
                figures[f"{judge}.{key}"] = value
            figures |= costs(figures, judge)
    figures["seconds_asking"] = answers.seconds
    return figures


def read(context: Context) -> tuple[list[Dispute], list[Dispute]]:
    """The English and the Chinese disputes that are asked about."""
    from benchmarks.disputes import texts

    size = size_of(context)
    for language in texts.LANGUAGES:
        context.hash_file(texts.path(language))
    english = texts.even_order(texts.load(["en"], "locked"))[: size.english]
    return english, texts.even_order(texts.load(["zh"], "locked"))[: size.chinese]


def majority(disputes: Sequence[Dispute]) -> float:
    """How often the commonest verdict is right, in percent."""
    gold = [verdict for dispute in disputes for _, verdict in dispute.tellings]
    return 100 * max(gold.count(verdict) for verdict in set(gold)) / len(gold)


def recheck(context: Context, figures: Figures) -> Figures:
    """What needs no judge: the disputes, always naming one party, and money from the tokens that were counted."""
    english, chinese = read(context)
    found: Figures = {"pairs": len(english) + len(chinese), "pairs.en": len(english), "pairs.zh": len(chinese)}
    for judge in (*JUDGES, "api"):
        if f"{judge}.pairs" in figures:
            found |= {f"{judge}.majority": majority(english if judge in ENGLISH_ONLY else [*english, *chinese])}
            found |= costs(figures, judge)
    return found


# --- asking ---------------------------------------------------------------------------------------------------


def judged(
    context: Context, title: str, chat: Remembered, disputes: Sequence[Dispute], sent: dict[str, str]
) -> dict[str, Pair]:
    """The verdicts on each pair, as they read what was sent."""
    from benchmarks.disputes.asking import ask_verdict

    found = {}
    with context.progress(title, 2 * len(disputes)) as advance:
        for dispute in disputes:
            verdicts = []
            for text in (dispute.statement, dispute.twin):
                verdicts.append(ask_verdict(chat, sent[text], dispute.language))
                advance(1)
            found[dispute.id] = (verdicts[0], verdicts[1])
    return found


def rewritten(
    context: Context, arm: str, chat: Remembered | None, tellings: Sequence[tuple[Dispute, str]]
) -> tuple[Figures, dict[str, str]]:
    """Each text through `PromptTransfer`: figures of the rewrites, and what goes on."""
    from benchmarks.disputes.asking import SAMPLES_A_CALL
    from benchmarks.disputes.drafts import Drafts
    from benchmarks.disputes.texts import recall
    from langchain_dsplus.transfer import PromptTransfer

    transfer = PromptTransfer("extractive" if chat is None else chat.with_settings(temperature=0, max_tokens=400))
    sent: dict[str, str] = {}
    records: list[dict[str, Any]] = []
    drafts: list[Drafts] = []
    with context.progress(f"rewriting, {arm}", len(tellings)) as advance:
        step = 1 if chat is None else SAMPLES_A_CALL  # decoded together: several rewrites take hardly longer than one
        for start in range(0, len(tellings), step):
            batch = tellings[start : start + step]
            mine = [Drafts() for _ in batch]
            done = transfer.batch(
                [{"text": text} for _, text in batch], [{"callbacks": [d], "max_concurrency": step} for d in mine]
            )
            for (_, text), each in zip(batch, done, strict=True):
                sent[text] = each[transfer.output_key]
                records.append(each[transfer.record_key or ""])
            drafts += mine
            advance(len(batch))
    raw = [
        transfer.model.summarize(text) if chat is None else draft.text
        for (_, text), draft in zip(tellings, drafts, strict=True)
    ]
    n = len(tellings)
    reasons: dict[str, int] = {}
    for record in records:
        for code in {reason.partition(":")[0] for reason in record["reasons"]}:
            reasons[code] = reasons.get(code, 0) + 1
    usage = [record["usage"] or {} for record in records]
    return {
        "n": n,
        **share("original", [record["used"] == "original" for record in records]),
        "recall": 100 * math.fsum(recall(d.must_keep, text) for (d, _), text in zip(tellings, raw, strict=True)) / n,
        "recall_sent": 100 * math.fsum(recall(d.must_keep, sent[text]) for d, text in tellings) / n,
        "length": 100 * math.fsum(len(text) for text in raw) / sum(len(text) for _, text in tellings),
        "length_sent": 100 * math.fsum(len(sent[t]) for _, t in tellings) / sum(len(t) for _, t in tellings),
        "tokens_in": math.fsum(each.get("input_tokens", 0) for each in usage) / n,
        "tokens_out": math.fsum(each.get("output_tokens", 0) for each in usage) / n,
        "seconds": math.fsum(r["seconds"] if chat is None else d.seconds for d, r in zip(drafts, records, strict=True))
        / n,
        **{f"reason.{code}": 100 * count / n for code, count in sorted(reasons.items())},
    }, sent


def analysed(
    context: Context,
    judge: tuple[str, Remembered],
    disputes: Sequence[Dispute],
    sent: dict[str, dict[str, str]],
    samples: int,
) -> dict[str, list[float]]:
    """For each arm and each statement, the share of its sampled analyses that end in the gold verdict."""
    from benchmarks.disputes.asking import ask_analyses

    found: dict[str, list[float]] = {arm: [] for arm in sent}
    name, chat = judge
    with context.progress(f"{name}, analyses", len(sent) * len(disputes)) as advance:
        for arm in sent:
            for dispute in disputes:
                text = sent[arm][dispute.statement]
                verdicts = ask_analyses(chat, text, dispute.language, samples, seed=context.seed)
                found[arm].append(sum(verdict == dispute.verdict for verdict in verdicts) / len(verdicts))
                advance(1)
    return found


# --- figures --------------------------------------------------------------------------------------------------


def figures_of(
    context: Context,
    judge: str,
    disputes: Sequence[Dispute],
    pairs: dict[str, dict[str, Pair]],
    hits: dict[str, list[float]],
) -> Figures:
    """The figures of one judge in every arm, and the paired differences to no transfer."""
    from benchmarks.disputes import measures

    rng = context.random(f"{judge}: bootstrap")
    figures: Figures = {"pairs": len(disputes), "majority": majority(disputes)}
    found: dict[str, dict[str, list[float]]] = {}
    for arm in pairs:
        mine = [pairs[arm][dispute.id] for dispute in disputes]
        found[arm] = measures.values(disputes, mine)
        figures |= {f"{arm}.{key}": value for key, value in measures.leanings(mine).items()}
        for name, column in found[arm].items():
            figures |= measures.bootstrap(f"{arm}.{name}", column, rng)
            if arm != "none":
                gaps = [a - b for a, b in zip(column, found["none"][name], strict=True)]
                figures |= measures.bootstrap(f"{arm}.{name}_gain", gaps, rng)
        for language in sorted({d.language for d in disputes}):
            column = [v for v, d in zip(found[arm]["accuracy"], disputes, strict=True) if d.language == language]
            figures |= measures.bootstrap(f"{arm}.accuracy.{language}", column, rng)
        if hits[arm]:
            figures |= measures.bootstrap(f"{arm}.agreement", hits[arm], rng)
            if arm != "none":
                gaps = [a - b for a, b in zip(hits[arm], hits["none"], strict=True)]
                figures |= measures.bootstrap(f"{arm}.agreement_gain", gaps, rng)
    return figures


def costs(figures: Figures, judge: str) -> Figures:
    """Tokens and money for 1,000 texts, one call each: the judge's, and the rewriting added."""
    from langchain_dsplus.costs.prices import PRICES
    from langchain_dsplus.costs.usage import Usage

    judge_price, rewriter_price = PRICES[PRICED_AS], PRICES[REWRITER_PRICED_AS]
    found: Figures = {}
    for arm in ARMS:
        key = f"{judge}.{arm}"
        if f"{key}.tokens_in" not in figures:
            continue
        # Rounded up: a call costs whole tokens.
        judging = Usage(round(1000 * figures[f"{key}.tokens_in"]), round(1000 * figures[f"{key}.tokens_out"]))
        rewriting = Usage(
            round(1000 * figures.get(f"rewrite.{arm}.tokens_in", 0.0)),
            round(1000 * figures.get(f"rewrite.{arm}.tokens_out", 0.0)),
        )
        found[f"{key}.net_tokens"] = (judging.input + judging.output + rewriting.input + rewriting.output) / 1000
        found[f"{key}.money"] = judge_price.cost(judging)
        found[f"{key}.money_paid_rewriter"] = judge_price.cost(judging) + rewriter_price.cost(rewriting)
    return found


# --- tables ---------------------------------------------------------------------------------------------------


def verdict_line(figures: Figures, key: str) -> str:
    """`helps`, `hurts` or `no gain`: by the interval of a paired difference."""
    low, high = figures.get(f"{key}.low"), figures.get(f"{key}.high")
    if low is None or high is None:
        return "-"
    return "helps" if low > 0 else "hurts" if high < 0 else "no gain"


def change(figures: Figures, key: str, over: str) -> str:
    """One figure against another, as a change in percent."""
    new, old = figures.get(key), figures.get(over)
    return "-" if new is None or not old else f"{100 * (new / old - 1):+.0f} %"


def tables(figures: Figures) -> list[Table]:
    judges = [judge for judge in (*JUDGES, "api") if f"{judge}.pairs" in figures]
    rows = [(judge, arm) for judge in judges for arm in ARMS if f"{judge}.{arm}.accuracy" in figures]
    return [
        _verdicts(figures, rows),
        _gains(figures, [row for row in rows if row[1] != "none"]),
        _leanings(figures, rows),
        _costs(figures, rows),
        _rewrites(figures),
    ]


def _title(judge: str) -> str:
    return JUDGES.get(judge, "the paid model")


def _verdicts(figures: Figures, rows: Sequence[tuple[str, str]]) -> Table:
    columns = [
        "judge",
        "arm",
        "right, % (95 %)",
        "leaning divided out, %",
        "both parties heard, %",
        "swap consistent, %",
    ]
    body = [
        [
            _title(j),
            ARMS[a],
            *(interval(figures, f"{j}.{a}.{m}") for m in ("accuracy", "unbiased", "both_told", "swap")),
        ]
        for j, a in rows
    ]
    for row, (j, a) in zip(body, rows, strict=True):
        row += [interval(figures, f"{j}.{a}.swap_named"), interval(figures, f"{j}.{a}.agreement")]
    note = (
        f"{number(figures, 'pairs.en', 0)} English and {number(figures, 'pairs.zh', 0)} Chinese locked pairs, both "
        "tellings each (SmolLM2 only the English). Four verdicts; always naming one party is right in "
        f"{number(figures, f'{rows[-1][0]}.majority' if rows else '', 0)} %. Leaning divided out: each verdict against "
        "the judge's mean over the other pairs. Both parties heard: the distributions of both tellings together. Swap "
        "consistent: the other party's telling leads to the same person, to both, or to unclear; named: to the same "
        "person. Agreement: "
        "share of ten sampled analyses that end in the gold verdict."
    )
    return Table(
        "disputes.verdicts", "Verdicts", [*columns, "swap consistent and named, %", "agreement, %"], body, note
    )


def _gains(figures: Figures, rows: Sequence[tuple[str, str]]) -> Table:
    body = []
    for j, a in rows:
        key = f"{j}.{a}"
        body.append(
            [
                _title(j),
                ARMS[a],
                *(
                    interval(figures, f"{key}.{m}_gain", sign=True)
                    for m in ("accuracy", "gold_probability", "swap", "agreement")
                ),
                change(figures, f"{key}.tokens_in", f"{j}.none.tokens_in"),
                verdict_line(figures, f"{key}.accuracy_gain"),
            ]
        )
    columns = ["judge", "arm", "right", "probability of gold", "swap consistent", "agreement", "tokens in", "verdict"]
    note = (
        f"{number(figures, 'pairs.en', 0)} English and {number(figures, 'pairs.zh', 0)} Chinese pairs (SmolLM2 only "
        "the English). Paired differences to no transfer in points, with 95 % intervals over pairs. The verdict is "
        "that of the share of right verdicts: helps or hurts where the interval leaves zero out, else no gain was "
        "shown."
    )
    return Table("disputes.gains", "Does transfer help?", columns, body, note)


def _leanings(figures: Figures, rows: Sequence[tuple[str, str]]) -> Table:
    body = [
        [
            _title(j),
            ARMS[a],
            interval(figures, f"{j}.{a}.sides_with_narrator"),
            number(figures, f"{j}.{a}.position_bias", 1),
            number(figures, f"{j}.{a}.unlabelled", 0),
        ]
        for j, a in rows
    ]
    columns = ["judge", "arm", "blames the other party, % (95 %)", "position bias, points", "no verdict begun, %"]
    note = (
        "Position bias: how much probability a party gains when it is offered near the front instead of near the end. "
        "No verdict begun: probability that the reply begins with other words."
    )
    return Table("disputes.leanings", "What the judges do whatever the text says", columns, body, note)


def _costs(figures: Figures, rows: Sequence[tuple[str, str]]) -> Table:
    body = [
        [
            _title(j),
            ARMS[a],
            number(figures, f"{j}.{a}.tokens_in", 0),
            number(figures, f"{j}.{a}.net_tokens", 0),
            number(figures, f"{j}.{a}.money", 3),
            change(figures, f"{j}.{a}.money", f"{j}.none.money"),
            number(figures, f"{j}.{a}.money_paid_rewriter", 3),
            change(figures, f"{j}.{a}.money_paid_rewriter", f"{j}.none.money"),
        ]
        for j, a in rows
    ]
    columns = [
        "judge",
        "arm",
        "tokens in",
        "tokens of both models",
        "USD per 1,000, rewriter local",
        "change",
        f"rewriter priced as {REWRITER_PRICED_AS}",
        "change",
    ]
    from langchain_dsplus.costs.prices import PRICES, PRICES_DATE

    judge, rewriter = PRICES[PRICED_AS], PRICES[REWRITER_PRICED_AS]
    note = (
        f"Per text, one call each. The judge's tokens are priced as {PRICED_AS} ({judge.input:g} and {judge.output:g} "
        f"USD per million in and out), a paid rewriter's as {REWRITER_PRICED_AS} ({rewriter.input:g} and "
        f"{rewriter.output:g}); list prices of {PRICES_DATE}. A local rewriter costs no money, but time. Its tokens "
        "are the mean over all texts, both languages."
    )
    return Table("disputes.costs", "Tokens and money", columns, body, note)


def _rewrites(figures: Figures) -> Table:
    body = []
    for arm, title in ARMS.items():
        if f"rewrite.{arm}.n" not in figures:
            continue
        key = f"rewrite.{arm}"
        codes = {k.removeprefix(f"{key}.reason."): v for k, v in figures.items() if k.startswith(f"{key}.reason.")}
        common = sorted(codes, key=lambda code: (-codes[code], code))[:3]
        body.append(
            [
                title,
                interval(figures, f"{key}.original"),
                number(figures, f"{key}.recall", 0),
                number(figures, f"{key}.recall_sent", 0),
                number(figures, f"{key}.length", 0),
                number(figures, f"{key}.length_sent", 0),
                number(figures, f"{key}.seconds", 1),
                ", ".join(f"{code} {codes[code]:.0f} %" for code in common) or "-",
            ]
        )
    columns = [
        "rewriter",
        "gate sent the original, % (95 %)",
        "facts kept in the draft, %",
        "facts in what was sent, %",
        "length of the draft, %",
        "length of what was sent, %",
        "seconds a text (an LLM: five at once)",
        "the gate's reasons",
    ]
    note = (
        f"{number(figures, 'rewrite.extractive.n', 0)} texts. Facts are found by their spans: a paraphrase counts as "
        "lost. Lengths in characters, of the original's."
    )
    return Table("disputes.rewrites", "The rewrites and the gate", columns, body, note)
