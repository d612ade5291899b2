"""Certified tool calls: how many calls of the large model agreement of cheap models saves, on recorded calls.

720 questions of the Berkeley Function Calling Leaderboard with the calls of 16 models. In each of 50 splits the pair
and the gate are chosen on a quarter, a threshold is certified on half, and the last quarter only reports. There are no
log-probabilities, so a gate is the agreement of cheap models, a score learned from it and from the question, or the
question alone. A call that is cut in the records equals nothing. A question that was not recorded (those that no tool
fits) gets the features of a random other one, so that its absence tells nothing. A refusal counts as 100 % calls.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np

from benchmarks import data
from benchmarks.harness import Context, Figures, Table, interval, number

Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
Bools: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"

CUT = 160
"""Length at which the records are cut."""
LARGE = (
    "claude-3-5-sonnet-20240620",
    "gpt-4o-2024-08-06-FC",
    "gpt-4-0125-preview",
    "gpt-4-turbo-2024-04-09",
)
FIXED = {"claude": LARGE[0], "gpt-4o": LARGE[1]}
CHEAP = (
    "Salesforce_xLAM-7b-fc-r",
    "Salesforce_xLAM-1b-fc-r",
    "meetkai_functionary-small-v3.2-FC",
    "gpt-4o-mini-2024-07-18-FC",
    "NousResearch_Hermes-2-Pro-Llama-3-8B",
)
MOST_PEERS = 3
LOSSES = {"2": 0.02, "1": 0.01}
LEVEL = 0.95
FAMILIES = {
    "agreement": "agreement of cheap models",
    "learned": "learned from agreement, call and question",
    "question": "learned from the question alone",
    "visible": "learned, with the visible part of cut calls",
}
ARMS = {
    "claude.chosen": "claude-3-5-sonnet, best gate",
    **{f"claude.{family}": f"claude-3-5-sonnet, {words}" for family, words in FAMILIES.items()},
    "gpt-4o.chosen": "gpt-4o, best gate",
    "best.chosen": "best large model on the first quarter, best gate",
}
STRICT = ("agreement", "learned", "question")
"""Families that see nothing of a cut call but that it is cut."""


# --- the recorded calls ---------------------------------------------------------------------------------------------


def read_calls(text: str) -> list[dict[str, Any]] | None:
    """What a model calls, in one form for all models; None where the call is cut or cannot be read.

    xLAM wraps its calls in `tool_calls`, Hermes in tags; the hosted models write `{name: arguments as JSON}`, Claude
    and Llama Python. Dots in names are underscores where the provider allows none. A text is a reply without a call.

    Example:
        >>> read_calls('{"tool_calls":[{"name":"a.b","arguments":{"x":1}}]}') == read_calls(
        ...     '[{"a_b":"{\\\\"x\\\\":1.0}"}]'
        ... )
        True
    """
    text = text.strip()
    if text[:1] not in ("[", "{", "<"):
        return []
    if len(text) >= CUT:
        return None
    tagged = re.findall(r"<tool_call>(.*?)</tool_call>", text)
    try:
        value = json.loads(f"[{','.join(tagged)}]" if tagged else text)
    except ValueError:
        return _python(text)
    if isinstance(value, dict):
        value = value.get("tool_calls", value)
    calls = [_call(item) for item in (value if isinstance(value, list) else [value])]
    return None if None in calls else [call for call in calls if call is not None]


def _call(item: Any) -> dict[str, Any] | None:
    if not isinstance(item, dict):
        return None
    if "arguments" in item and isinstance(item.get("name"), str):
        name, args = item["name"], item["arguments"]
    elif len(item) == 1:
        ((name, args),) = item.items()
    else:
        return None
    try:
        args = json.loads(args) if isinstance(args, str) else args
    except ValueError:
        return None
    return {"name": name.replace(".", "_"), "args": args} if isinstance(args, dict) else None


def _python(text: str) -> list[dict[str, Any]] | None:
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        return None
    if not isinstance(tree, ast.List):
        return None
    calls = []
    for node in tree.elts:
        if not isinstance(node, ast.Call) or node.args:
            return None
        args = {str(word.arg): _literal(word.value) for word in node.keywords}
        calls.append({"name": ast.unparse(node.func).replace(".", "_"), "args": args})
    return calls


def _literal(node: ast.expr) -> Any:
    try:
        value = ast.literal_eval(node)
        json.dumps(value)
    except (ValueError, TypeError):
        return ast.unparse(node)
    return value


def visible(text: str) -> frozenset[str]:
    """Words and numbers of a call as far as it was recorded, whatever its form."""
    return frozenset(re.findall(r"[a-z0-9]+", text.lower())) - {"tool", "calls", "name", "arguments", "call"}


class World:
    """The calls in one form, who was right, and features; one column per row."""

    def __init__(self, rows: Sequence[data.CallsRow], seed: int) -> None:
        from langchain_dsplus.chat_dsplus.calls import call_keys

        names = (*LARGE, *CHEAP)
        self.n = len(rows)
        self.right = {name: np.array([row.right[name] for row in rows]) for name in names}
        keys: dict[str, list[Any]] = {}
        read = {name: [read_calls(row.calls[name]) for row in rows] for name in CHEAP}
        for name, calls in read.items():
            keys[name] = [None if item is None else call_keys(item) for item in calls]
        words = {name: [visible(row.calls[name]) for row in rows] for name in CHEAP}
        self.same: dict[tuple[str, str], Floats] = {}
        self.near: dict[tuple[str, str], Floats] = {}
        for one, other in combinations(CHEAP, 2):
            same = np.array(
                [a is not None and a == b for a, b in zip(keys[one], keys[other], strict=True)], dtype=float
            )
            near = np.array([_jaccard(a, b) for a, b in zip(words[one], words[other], strict=True)])
            self.same[one, other] = self.same[other, one] = same
            self.near[one, other] = self.near[other, one] = near
        self.form = {name: np.array([_form(item) for item in calls], dtype=float) for name, calls in read.items()}
        self.question = question_features(rows, seed)

    def peers(self, small: str) -> list[str]:
        """The other cheap models."""
        return [name for name in CHEAP if name != small]

    def loss(self, small: str, large: str) -> np.ndarray:
        """What keeping a row local loses: 1, 0 or -1."""
        found: np.ndarray = self.right[large].astype(int) - self.right[small].astype(int)
        return found

    def features(self, small: str, family: str) -> Floats:
        """What a learned gate sees, shape (n, d)."""
        if family == "question":
            return self.question
        same = np.stack([self.same[small, peer] for peer in self.peers(small)], axis=1)
        total = same.sum(axis=1, keepdims=True)
        parts = [same, total, total > 0, self.form[small], self.question]
        if family == "visible":
            near = np.stack([self.near[small, peer] for peer in self.peers(small)], axis=1)
            parts += [near, near.mean(axis=1, keepdims=True)]
        return np.concatenate(parts, axis=1, dtype=float)


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 1.0


def _form(calls: list[dict[str, Any]] | None) -> list[float]:
    """Cut or unreadable, no call, number of calls, number of arguments."""
    if calls is None:
        return [1.0, 0.0, 0.0, 0.0]
    return [0.0, float(not calls), float(len(calls)), float(sum(len(call["args"]) for call in calls))]


def question_features(rows: Sequence[data.CallsRow], seed: int) -> Floats:
    """Length, numbers, joining words, quotes, code; of a question that was not recorded those of a random other one."""
    texts = [row.question or "" for row in rows]
    found = np.array([_of_question(text) for text in texts])
    known = np.flatnonzero([bool(text) for text in texts])
    rng = np.random.default_rng(seed)
    for place in np.flatnonzero([not text for text in texts]):
        found[place] = found[rng.choice(known)]
    return found


def _of_question(text: str) -> list[float]:
    words = text.lower().split()
    return [
        np.log1p(len(words)),
        len(re.findall(r"\d+(?:\.\d+)?", text)),
        sum(word in ("and", "also", "then", "both", "each") for word in words),
        text.count(",") + text.count(";"),
        text.count("'") + text.count('"') + text.count("`"),
        text.count("?"),
        float("_" in text or "(" in text or "{" in text),
    ]


# --- gates ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gate:
    """One way to decide what stays with one small model."""

    small: str
    family: str
    peers: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its name in the figures."""
        return f"{self.family}({self.small}; {', '.join(self.peers)})" if self.peers else f"{self.family}({self.small})"

    def scores(self, world: World, fit: np.ndarray, rows: np.ndarray) -> Floats | None:
        """Scores of `rows`, learned on `fit` where something is to be learned; None where nothing can be."""
        if self.family == "agreement":
            votes: Floats = np.sum([world.same[self.small, peer][rows] for peer in self.peers], axis=0, dtype=float)
            return votes
        x, right = world.features(self.small, self.family), world.right[self.small]
        if right[fit].sum() < 5 or (~right[fit]).sum() < 5:
            return None
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
        model.fit(x[fit], right[fit])
        # Steps of a hundredth: what the records cannot tell apart stands or falls together.
        chances: Floats = np.round(model.predict_proba(x[rows])[:, 1], 2)
        return chances

    def held_out(self, world: World, rows: np.ndarray, folds: int = 5) -> Floats | None:
        """Scores of the rows that it is fitted on, each by a fit without it."""
        if self.family == "agreement":
            return self.scores(world, rows, rows)
        found = np.empty(len(rows))
        for fold in range(folds):
            out = np.arange(len(rows)) % folds == fold
            scores = self.scores(world, rows[~out], rows[out])
            if scores is None:
                return None
            found[out] = scores
        return found


def gates(world: World, families: Sequence[str]) -> Iterator[Gate]:
    """Every gate that may be chosen."""
    for small in CHEAP:
        for family in families:
            if family != "agreement":
                yield Gate(small, family)
                continue
            for size in range(1, MOST_PEERS + 1):
                for peers in combinations(world.peers(small), size):
                    yield Gate(small, family, peers)


def foreseen(scores: Floats, loss: np.ndarray, n: int, max_loss: float, rng: np.random.Generator) -> float:
    """Calls to expect when a threshold is certified on `n` further rows: the mean over tables that may come.

    The steps' rates are drawn from a Dirichlet distribution (Jeffreys' half a harm and half a gain, spread over the
    steps), a table from those, and its steps pass or not as `certify` has it.
    """
    from langchain_dsplus.threshold.exact import critical_value, tango_score

    levels, place = np.unique(-scores, return_inverse=True)
    counts = np.stack([np.bincount(place[loss == kind], minlength=len(levels)) for kind in (1, -1, 0)])
    share = counts.sum(axis=0) / len(scores)
    prior = np.stack([0.5 * share, 0.5 * share, 0.5 * share])
    rates = rng.dirichlet((counts + prior + 1e-9).ravel(), size=200)
    tables = np.stack([rng.multinomial(n, rate) for rate in rates]).reshape(200, 3, len(levels))
    harms, gains, taken = (part.cumsum(axis=1) for part in (tables[:, 0], tables[:, 1], tables.sum(axis=1)))
    passes = tango_score(harms, gains, n, max_loss) <= critical_value(n, max_loss, 1.0 - LEVEL)
    passed = np.cumprod(passes, axis=1).sum(axis=1)
    kept = np.where(passed > 0, taken[np.arange(200), np.maximum(passed - 1, 0)], 0)
    return float(1.0 - kept.mean() / n)


Scored: TypeAlias = "list[tuple[Gate, Floats]]"


def scored(world: World, rows: np.ndarray) -> Scored:
    """Every gate that can be fitted on the quarter for choosing, with its held-out scores there."""
    found = ((gate, gate.held_out(world, rows)) for gate in gates(world, tuple(FAMILIES)))
    return [(gate, scores) for gate, scores in found if scores is not None]


def choose(
    world: World, offered: Scored, large: str, rows: np.ndarray, n: int, max_loss: float, seed: int
) -> dict[str, Gate]:
    """The gate with the fewest calls foreseen, by family; `chosen` is the best of the strict ones."""
    best: dict[str, tuple[float, Gate]] = {}
    for gate, scores in offered:
        calls = foreseen(scores, world.loss(gate.small, large)[rows], n, max_loss, np.random.default_rng(seed))
        for name in (gate.family, *(("chosen",) if gate.family in STRICT else ())):
            if name not in best or calls < best[name][0] - 1e-12:
                best[name] = calls, gate
    return {name: gate for name, (_, gate) in best.items()}


# --- one split ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """Three disjoint sets of rows."""

    choosing: np.ndarray
    certifying: np.ndarray
    reporting: np.ndarray

    @classmethod
    def draw(cls, n: int, seed: int) -> Split:
        """A quarter, a half, a quarter."""
        order = np.random.default_rng(seed).permutation(n)
        quarter, half = n // 4, n // 2
        return cls(order[:quarter], order[quarter : quarter + half], order[quarter + half :])


def certified(world: World, gate: Gate, large: str, split: Split, max_loss: float) -> dict[str, float]:
    """Certify one gate and report on the last quarter."""
    from langchain_dsplus.outcomes import Outcomes
    from langchain_dsplus.threshold.certify import certify

    scores = gate.scores(world, split.choosing, split.certifying)
    new = gate.scores(world, split.choosing, split.reporting)
    if scores is None or new is None:
        msg = "a gate that was chosen can be fitted"
        raise AssertionError(msg)
    rows = [
        {"id": str(row), "small_ok": bool(small), "large_ok": bool(other), "confidence": float(score)}
        for row, small, other, score in zip(
            split.certifying,
            world.right[gate.small][split.certifying],
            world.right[large][split.certifying],
            scores,
            strict=True,
        )
    ]
    certificate = certify(Outcomes.from_records(rows), max_loss=max_loss, level=LEVEL)
    local = new > certificate.thresholds["small"] if certificate.certified else np.zeros(len(new), dtype=bool)
    small, theirs = world.right[gate.small][split.reporting], world.right[large][split.reporting]
    calls = 1.0 - float(local.mean())
    lost = np.where(local, theirs.astype(int) - small, 0)
    return {
        "calls": 100 * calls,
        "refused": 100.0 * (not certificate.certified),
        "accuracy": 100 * float(np.where(local, small, theirs).mean()),
        "large": 100 * float(theirs.mean()),
        "small": 100 * float(small.mean()),
        "random": 100 * float(calls * theirs.mean() + (1.0 - calls) * small.mean()),
        "loss": 100 * float(lost.mean()),
        "noise": 100 * float(lost.std() / np.sqrt(len(lost))),
        "above": 100.0 * bool(lost.mean() > max_loss),
        "cheap_calls": float(1 + (len(gate.peers) or (0 if gate.family == "question" else len(CHEAP) - 1))),
    }


def one_split(world: World, seed: int) -> dict[str, tuple[str, dict[str, float]]]:
    """All arms of one split: by name, the pair and gate that were taken, and figures."""
    split = Split.draw(world.n, seed)
    offered = scored(world, split.choosing)
    best = max(LARGE, key=lambda name: world.right[name][split.choosing].mean())
    found: dict[str, tuple[str, dict[str, float]]] = {}
    for points, max_loss in LOSSES.items():
        for where, large in (("best", best), *FIXED.items()):
            picked = choose(world, offered, large, split.choosing, len(split.certifying), max_loss, seed)
            for family, gate in picked.items():
                if where == "claude" or family == "chosen":
                    arm = certified(world, gate, large, split, max_loss)
                    found[f"{where}.{family}.{points}"] = f"{large} <- {gate.key}", arm
    return found


def run(context: Context) -> Figures:
    context.hash_file(data.find("bfcl_2024_08") / "calls.jsonl.gz")
    world = World(data.bfcl_2024_08(), context.random("questions that were not recorded").randrange(2**32))
    start = context.random("splits").randrange(2**31)
    splits = context.pick(50, 4)
    values: dict[str, dict[str, list[float]]] = {}
    picks: dict[str, Counter[str]] = {}
    figures: Figures = {"n": world.n, "splits": splits}
    with context.progress("splits", splits) as advance:
        for place in range(splits):
            for arm, (pick, found) in one_split(world, start + place).items():
                picks.setdefault(arm, Counter())[pick] += 1
                for name, value in found.items():
                    values.setdefault(arm, {}).setdefault(name, []).append(value)
                if place == 0:
                    figures |= {f"first.{arm}.{name}": value for name, value in found.items()}
            advance(1)
    for arm, columns in values.items():
        for name, column in columns.items():
            figures[f"{arm}.{name}"] = float(np.mean(column))
        low, high = np.percentile(columns["calls"], [2.5, 97.5])
        figures |= {f"{arm}.calls.low": float(low), f"{arm}.calls.high": float(high)}
    context.facts["picked"] = {arm: dict(count.most_common(5)) for arm, count in picks.items()}
    return figures


def recheck(context: Context, figures: Figures) -> Figures:
    """The first split anew."""
    del figures
    world = World(data.bfcl_2024_08(), context.random("questions that were not recorded").randrange(2**32))
    found = one_split(world, context.random("splits").randrange(2**31))
    return {f"first.{arm}.{name}": value for arm, (_, one) in found.items() for name, value in one.items()}


def tables(figures: Figures) -> list[Table]:
    rows = []
    for points in LOSSES:
        for arm, words in ARMS.items():
            key = f"{arm}.{points}"
            if f"{key}.calls" in figures:
                rows.append(
                    [
                        f"{words}, {points} points" if points != "1" else f"{words}, 1 point",
                        interval(figures, f"{key}.calls"),
                        number(figures, f"{key}.refused", 0),
                        *(number(figures, f"{key}.{name}", 1) for name in ("accuracy", "large", "small", "random")),
                        number(figures, f"{key}.loss", 2),
                        number(figures, f"{key}.noise", 2),
                        number(figures, f"{key}.above", 0),
                        number(figures, f"{key}.cheap_calls", 1),
                    ]
                )
    return [
        Table(
            "tool_calls",
            "Recorded tool calls (BFCL): calls of the large model under a certificate, in %",
            [
                "pair, gate, most loss",
                "calls of the large model (95 % of splits)",
                "nothing certified",
                "right, cascade",
                "right, always large",
                "right, always small",
                "right, random at equal calls",
                "loss seen, points",
                "noise of one split, points",
                "loss seen above the promise, % of splits",
                "cheap calls per input",
            ],
            rows,
            f"{number(figures, 'splits', 0)} splits of {number(figures, 'n', 0)} questions: pair and gate chosen on a "
            "quarter, certified on half (95 %), all figures from the last quarter. Where nothing could be certified "
            "all calls go to the large model, and count so. Gates see agreement of calls that are whole; a cut call "
            "agrees with nothing. Only the row that says so also compares the words of cut calls that were recorded. "
            "Noise: the standard error of the loss that one split sees on its last quarter.",
        )
    ]
