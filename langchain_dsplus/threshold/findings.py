"""What can be seen of a table's honest mistakes before it certifies, and what cannot: one list for all who show it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from langchain_dsplus._arrays import Floats
from langchain_dsplus.losses import points
from langchain_dsplus.outcomes.cells import known_labels
from langchain_dsplus.outcomes.gold import NEVER_SAID
from langchain_dsplus.outcomes.uses import IN_TRAINING, INPUT_HASH, blocks, earlier_uses, repeats
from langchain_dsplus.threshold.differences import model_names
from langchain_dsplus.threshold.judged import JUDGE, HiddenHarms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.outcomes import Outcomes

    Codes: TypeAlias = NDArray[np.int64]

Severity: TypeAlias = Literal["refuse", "name", "unseen"]

LEVEL = 0.001
"""Of the test of gold: a clean table is refused wrongly at most so often."""
CHANGE_LEVEL = 0.01
"""Of all tests for a change along the rows together: a sentence too many costs less than one too few."""
MOST_TRAINED = 0.2
"""Share of training rows from which a table is refused: what is left would be another kind of traffic."""
PERMUTATIONS = 4999
_PLAIN = 5.0
"""Standard deviations above chance from which no permutation is needed: the normal tail there is below 3e-7."""
_VISIBLE = 10.0
"""The most that gold and answers could agree, in standard deviations above chance, for the test to have a say."""
_LEAST = 20
_SORTED = 0.999


@dataclass(frozen=True)
class Finding:
    """One thing about a table that bears on its promise.

    Attributes:
        kind: What it is, for programs.
        severity: `refuse` (nothing is certified), `name` (certificate, report and command line say it), `unseen` (a
            mistake that this table could hide).
        sentence: For people.
        rows: How many rows it is about; 0 where it is about all.
    """

    kind: str
    severity: Severity
    sentence: str
    rows: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def find_mistakes(outcomes: Outcomes, *, seed: int = 0) -> tuple[Finding, ...]:
    """Return what a table shows of honest mistakes, the gravest first, and what it cannot show.

    Seen are: gold that belongs to other rows, one column copied from another, labels in another writing, replies that
    may be no labels where none are named, inputs that stand twice, training rows, earlier certifications, rows sorted
    by confidence, a change along the rows, live rows.

    Example:
        >>> from langchain_dsplus import Outcomes
        >>> rows = [{"small": "a", "confidence": i / 60, "large": "a", "gold": "ab"[i % 2]} for i in range(60)]
        >>> [(item.kind, item.severity) for item in find_mistakes(Outcomes.from_records(rows)) if item.rows]
        [('small_is_large', 'name'), ('sorted', 'name')]
    """
    if not len(outcomes):
        return ()
    found = [
        *_writing(outcomes),
        *_replies(outcomes),
        *_shuffled(outcomes, seed),
        *_live(outcomes),
        *_training(outcomes),
        *_copies(outcomes),
        *_repeats(outcomes),
        *_order(outcomes),
        *_uses(outcomes),
        *_hidden(outcomes),
    ]
    rank = {"refuse": 0, "name": 1, "unseen": 2}
    return tuple(sorted(found, key=lambda item: rank[item.severity]))


def refuse(findings: Sequence[Finding]) -> None:
    """Raise for the first finding with which nothing may be certified. Raises ValueError with its sentence."""
    for finding in findings:
        if finding.severity == "refuse":
            raise ValueError(finding.sentence)


def said_of_judge(judge: HiddenHarms) -> tuple[Finding, ...]:
    """What a certificate says of a judge that errs."""
    if judge.error is None:
        return ()
    words = (
        f"The judge was wrong on {judge.error.wrong:,} of {judge.error.n:,} labelled outputs, so it may hide up to "
        f"{points(judge.hidden)} of loss. That is counted against `max_loss`, with half of the error probability."
    )
    return (Finding("judge", "name", words, judge.error.n),)


def say(findings: Sequence[Finding | Mapping[str, Any]]) -> str:
    """Return what a verdict says of the findings, beginning with a blank; empty where there are none."""
    items = [item.to_dict() if isinstance(item, Finding) else item for item in findings]
    seen = " ".join(str(item["sentence"]) for item in items if item["severity"] != "unseen")
    hidden = " ".join(str(item["sentence"]) for item in items if item["severity"] == "unseen")
    return (f" Note: {seen}" if seen else "") + (f" Not to be seen here: {hidden}" if hidden else "")


def without_training(outcomes: Outcomes) -> Outcomes:
    """Return the table without rows that a small model was trained on; the table itself where there are none."""
    if IN_TRAINING not in outcomes:
        return outcomes
    mine = outcomes[IN_TRAINING] == 1.0
    return outcomes.select(~mine) if mine.any() else outcomes


# --- the mistakes ---------------------------------------------------------------------------------------------------


def _columns(outcomes: Outcomes) -> list[str]:
    """The small models' columns of answers."""
    names = model_names(outcomes)
    found = names if names == ["small"] else [f"small.{name}" for name in names]
    return [name for name in found if name in outcomes]


def _judged(outcomes: Outcomes) -> bool:
    """Whether a judge said who is right: then answers are texts rather than labels."""
    return any(name.endswith("_ok") for name in outcomes.columns)


def _words(outcomes: Outcomes, name: str) -> set[str]:
    return set(outcomes.words(name)) if name in outcomes else set()


def _writing(outcomes: Outcomes) -> Iterator[Finding]:
    """Labels that differ only in case or blanks from column to column, and columns without a label in common."""
    if _judged(outcomes):
        return  # texts of their own: no labels
    names = [*_columns(outcomes), "large", "gold"]
    said = {name: words for name in names if (words := _words(outcomes, name))}
    listed = known_labels(outcomes.about) or frozenset()
    forms: dict[str, set[str]] = {}
    for words in said.values():
        for word in words:
            forms.setdefault(" ".join(word.casefold().split()), set()).add(word)
    for twins in forms.values():
        # Two that one column tells apart, or the table's own list, are two labels.
        if len(twins) < 2 or twins <= listed or any(len(twins & words) > 1 for words in said.values()):
            continue
        where = sorted(name for name, words in said.items() if twins & words)
        rows = min(sum(value in twins for value in outcomes.values(name)) for name in where)
        yield Finding(
            "writing",
            "refuse",
            f"the columns {', '.join(map(repr, where))} write one label in {len(twins)} ways that differ only in upper "
            "and lower case or blanks, so answers that are the same count as different. Write it alike in all columns "
            "(for gold: `gold_map`), or list both in `about['labels']` if they are two labels",
            rows,
        )
        return
    large = said.get("large", set())
    for name in _columns(outcomes):
        mine = said.get(name, set())
        if len(mine) > 1 and len(large) > 1 and not mine & large and len(outcomes) >= _LEAST:
            yield Finding(
                "no_common_label",
                "refuse",
                f"the columns {name!r} and 'large' have no label in common: they use two lists of labels, so every "
                "comparison between them would be wrong. Pass `to_label=` where the table is made",
                len(outcomes),
            )


def _replies(outcomes: Outcomes) -> Iterator[Finding]:
    """Where no labels are named: what the large model alone says may be no label, and counts as wrong."""
    if known_labels(outcomes.about) is not None or _judged(outcomes) or "large" not in outcomes:
        return
    others = _words(outcomes, "gold").union(*(_words(outcomes, name) for name in _columns(outcomes)))
    known = outcomes.known_gold()
    count = int((outcomes.said("large") & ~outcomes.within("large", others) & known).sum())
    if count and count >= NEVER_SAID * int(known.sum()):
        yield Finding(
            "replies",
            "name",
            f"On {count:,} of {int(known.sum()):,} rows with gold the large model says what neither gold nor a small "
            "model ever says, and that counts as wrong. If such replies are no labels, name the labels "
            "(`about={'labels': [...]}`, `--labels`): then they are unknown, and never a gain for the small model.",
            count,
        )


def _shuffled(outcomes: Outcomes, seed: int) -> Iterator[Finding]:
    """Gold that agrees with neither model more than chance does."""
    small = next((name for name in _columns(outcomes) if name in outcomes), None)
    if small is None or "large" not in outcomes:
        reason = "the table holds no answers of both models"
    elif _judged(outcomes):
        reason = "a judge says who is right, and not gold"
    else:
        # Rows on which the models differ may have been chosen for labelling; those on which they agree never were.
        rows = np.flatnonzero(outcomes.known_gold() & outcomes.agree(small, "large"))
        truth, said = _coded(outcomes, ("gold", small), rows)
        if not len(rows):
            reason = "no row on which the models agree has gold"
        elif (truth == truth[0]).all():
            reason = "the rows with gold on which the models agree have one gold value only"
        else:
            verdict = agrees(truth, said, seed=seed)
            if verdict:
                return
            if verdict is False:
                yield Finding(
                    "gold_shuffled",
                    "refuse",
                    f"on {len(rows):,} rows where the models agree, gold is what they say no more often than chance "
                    f"would have it (permutation test at {LEVEL}): does the column 'gold' belong to these rows, in "
                    "this order, and to this task?",
                    len(rows),
                )
                return
            reason = "too few rows with gold, or too few of all classes but one, on which the models agree"
    yield Finding("gold_untested", "unseen", f"Whether gold belongs to these rows was not tested: {reason}.")


def _coded(outcomes: Outcomes, columns: Sequence[str], rows: Codes) -> list[Codes]:
    """Some rows of several columns as numbers, the same number for the same word."""
    words: dict[Any, int] = {}
    found = []
    for name in columns:
        codes, mine = outcomes.coded(name)
        found.append(np.array([words.setdefault(word, len(words)) for word in mine], dtype=np.int64)[codes[rows]])
    return found


def agrees(truth: Codes, mine: Codes, *, seed: int = 0) -> bool | None:
    """Whether answers match gold more often than chance would have it, by a permutation test at .001.

    Chance is gold in any other order. The number of matches has a known mean and variance over all orders. Beyond five
    standard deviations it passes; else 4,999 seeded permutations decide (on more than 20,000 rows, the normal form).
    Where even the most matches that the two could have lie within ten standard deviations of chance, no test has a say.

    Returns:
        None where it cannot be tested.

    Example:
        >>> gold = np.array([0, 1] * 100)
        >>> agrees(gold, gold), agrees(gold, np.array([0, 0, 1, 1] * 50)), agrees(gold[:8], gold[:8])
        (True, False, None)
    """
    n, matches = len(truth), int((truth == mine).sum())
    words = max(truth.max(initial=0), mine.max(initial=0)) + 1
    a, b = (np.bincount(codes, minlength=words).astype(np.float64) for codes in (truth, mine))
    mean = float((a * b).sum()) / n
    # Of sum over rows of [gold at a random place = answer]: Hoeffding (1951), for a matrix of zeros and ones.
    square = float((a * b * (n * n - n * (a + b))).sum()) + float((a * b).sum()) ** 2
    spread = math.sqrt(max(square, 0.0) / (n * n * (n - 1))) if n > 1 else 0.0
    if spread == 0.0 or float(np.minimum(a, b).sum()) - mean < _VISIBLE * spread:
        return None
    above = (matches - mean) / spread
    if above >= _PLAIN or n > 20_000:
        return above >= 3.0902  # the normal distribution's upper .001
    rng = np.random.default_rng(seed)
    equal = sum(int((rng.permutation(truth) == mine).sum()) >= matches for _ in range(PERMUTATIONS))
    return (equal + 1) / (PERMUTATIONS + 1) <= LEVEL


def _live(outcomes: Outcomes) -> Iterator[Finding]:
    """Rows that the large model was not asked about, as in live traffic."""
    if "large" not in outcomes or "large_ok" in outcomes:
        return
    silent = ~outcomes.said("large")
    if "error" in outcomes:
        silent = silent & ~outcomes.said("error")
    if silent.sum() < max(_LEAST, 0.01 * len(outcomes)) or silent.all():
        return
    name = next(column for column in outcomes.columns if column.partition(".")[0] == "confidence")
    confidence = np.nan_to_num(outcomes[name], nan=-math.inf)
    ranks = np.searchsorted(np.sort(confidence[~silent]), confidence[silent])
    if float(ranks.mean()) >= 0.95 * int((~silent).sum()):
        yield Finding(
            "live",
            "refuse",
            f"the large model has no answer on {int(silent.sum()):,} rows, and on these the small model is surest: "
            "rows of live traffic look like this, and are no fair sample. Certify on shadow rows",
            int(silent.sum()),
        )


def _training(outcomes: Outcomes) -> Iterator[Finding]:
    """Rows that a small model was trained on."""
    flags = outcomes[IN_TRAINING] if IN_TRAINING in outcomes else np.full(len(outcomes), np.nan)
    unknown = int(np.isnan(flags).sum())
    if unknown:
        whom = "the rows" if unknown == len(outcomes) else f"{unknown:,} of the rows"
        yield Finding(
            "training_unseen",
            "unseen",
            f"Whether a small model was trained on {whom}: the column `in_training` does not say.",
        )
    mine = int((flags == 1.0).sum())
    if mine > MOST_TRAINED * len(outcomes):
        yield Finding(
            "training",
            "refuse",
            f"a small model was trained on {mine:,} of the {len(outcomes):,} rows (column 'in_training'), where it is "
            f"better than on new inputs. Above {MOST_TRAINED:.0%} what is left is no fair sample: collect rows that no "
            "model was trained on",
            mine,
        )
    elif mine:
        yield Finding(
            "training",
            "name",
            f"{mine:,} rows are left out, since a small model was trained on them: the promise is about inputs that it "
            "has not seen.",
            mine,
        )


def _copies(outcomes: Outcomes) -> Iterator[Finding]:
    """Two of small, large and gold that say the same wherever both are known."""
    for name in _columns(outcomes):
        for one, other, kind in ((name, "large", "small_is_large"), (name, "gold", "gold_is_small")):
            yield from _copy(outcomes, one, other, kind)
    yield from _copy(outcomes, "large", "gold", "gold_is_large")


def _copy(outcomes: Outcomes, one: str, other: str, kind: str) -> Iterator[Finding]:
    if one not in outcomes or other not in outcomes:
        return
    both = outcomes.said(one) & outcomes.said(other)
    count = int(both.sum())
    if count >= 2 and outcomes.agree(one, other)[both].all():
        yield Finding(
            kind,
            "name",
            f"The columns '{one}' and '{other}' say the same on all {count:,} rows that have both: right where the "
            "models are that good, and just what a copied column looks like.",
            count,
        )


def _repeats(outcomes: Outcomes) -> Iterator[Finding]:
    again = repeats(outcomes)
    if again is None:
        yield Finding(
            "repeats_unseen", "unseen", "Whether inputs stand in the table twice: it has no column `input_hash`."
        )
    elif again:
        yield Finding(
            "repeats",
            "name",
            f"{again:,} rows repeat the input of another row (column `input_hash`): they count as one group with it.",
            again,
        )


def _uses(outcomes: Outcomes) -> Iterator[Finding]:
    before = earlier_uses(outcomes)
    if before is None:
        why = (
            "it has no column `input_hash`"
            if INPUT_HASH not in outcomes
            else "it was neither read from a folder nor written to one"
        )
        yield Finding(
            "uses_unseen", "unseen", f"Whether its rows have certified before, in another copy of the table: {why}."
        )
    elif before:
        times = "once" if before == 1 else f"{before:,} times"
        yield Finding(
            "used",
            "name",
            f"These inputs, or a fifth of them and more, have certified {times} before: this counts as another use of "
            "the same table.",
        )


def _hidden(outcomes: Outcomes) -> Iterator[Finding]:
    """What no table shows."""
    if "group" not in outcomes:
        yield Finding(
            "groups_unseen",
            "unseen",
            "Whether several rows come from one customer or thread: there is no column `group`, so each counts as a "
            "draw of its own.",
        )
    judge = outcomes.about.get(JUDGE)
    if isinstance(judge, Mapping) and judge.get("error") is None and not judge.get("exact"):
        yield Finding(
            "judge_unseen",
            "unseen",
            "How often the judge is wrong: a harm that it calls right is hidden. `calibrate` it on labelled outputs.",
        )
    yield Finding(
        "selection_unseen",
        "unseen",
        "Rows that were left out or picked, such as the head of a sorted table, and a change of prompt or model on the "
        "way that is too small to show.",
    )


# --- along the rows -------------------------------------------------------------------------------------------------


def _order(outcomes: Outcomes) -> Iterator[Finding]:
    """Rows sorted by confidence; and what changes along them."""
    name = next(column for column in outcomes.columns if column.partition(".")[0] == "confidence")
    confidence = outcomes[name]
    steps = np.diff(confidence[np.isfinite(confidence)])
    steps = steps[steps != 0.0]
    if len(steps) >= _LEAST and max((steps > 0).mean(), (steps < 0).mean()) >= _SORTED:
        yield Finding(
            "sorted",
            "name",
            "The rows are sorted by confidence: if they are the head of a longer table, the promise is about inputs "
            "like these alone, and fewer inputs would stay local than it says.",
            len(outcomes),
        )
        return
    series = dict(_series(outcomes, confidence))
    block = blocks(outcomes)
    order = _time_order(outcomes)
    changed = []
    for what, values in series.items():
        p, place = change_point(_by_block(values[order], None if block is None else block[order]))
        if p <= CHANGE_LEVEL / len(series):
            changed.append((what, place))
    if changed:
        what = ", ".join(name for name, _ in changed)
        share = changed[0][1]
        yield Finding(
            "change",
            "name",
            f"Along the rows there is a change beyond chance (after about {share:.0%} of them) in {what}: if they "
            "stand in order of time, a prompt or a model changed on the way, and the promise is about the mixture, not "
            "about today; certify on the rows since. If they are sorted in another way, nothing is wrong.",
            len(outcomes),
        )


def _series(outcomes: Outcomes, confidence: Floats) -> Iterator[tuple[str, Floats]]:
    """What may change along the rows; NaN where it is not known."""
    ranks = np.full(len(confidence), np.nan)
    fine = np.isfinite(confidence)
    ranks[fine] = _ranks(confidence[fine])
    yield "the confidence", ranks
    columns = _columns(outcomes)
    if columns and "large" in outcomes:
        differ = ~outcomes.agree(columns[0], "large")
        yield "how often the models differ", np.where(outcomes.said("large"), differ, np.nan)
    for who, title in ((columns[0] if columns else "small", "the small model"), ("large", "the large model")):
        if who in outcomes or f"{who}_ok" in outcomes:
            yield f"how often {title} is right", outcomes.correct(who)


def _ranks(values: Floats) -> Floats:
    """How many are less than each."""
    order = np.argsort(values, kind="stable")
    places = np.arange(len(values))
    new = np.diff(values[order], prepend=np.nan) != 0.0
    ranks = np.empty(len(values))
    ranks[order] = np.maximum.accumulate(np.where(new, places, 0))
    return ranks


def _time_order(outcomes: Outcomes) -> Codes:
    """The order of the column `time`, where it has one kind of values throughout; else the rows' own."""
    plain = np.arange(len(outcomes))
    if "time" not in outcomes:
        return plain
    times = outcomes.values("time")
    kinds = {type(value) for value in times}
    if kinds not in ({str}, {int}, {float}, {int, float}):
        return plain
    return np.array(sorted(plain.tolist(), key=times.__getitem__), dtype=np.int64)


def _by_block(values: Floats, block: Codes | None) -> Floats:
    """The known values; of rows in one block, which resemble each other, their mean where the first of them stands."""
    known = ~np.isnan(values)
    if block is None:
        return values[known]
    _, first, code = np.unique(block[known], return_index=True, return_inverse=True)
    means = np.bincount(code, weights=values[known]) / np.maximum(np.bincount(code), 1)
    return np.asarray(means[np.argsort(first)], dtype=np.float64)


def change_point(values: Floats) -> tuple[float, float]:
    """Return the p-value of "nothing changes along the values", and the share after which it changes most.

    The largest distance of the partial sums from the straight line, over the standard deviation, is that of a Brownian
    bridge where the order says nothing: P(sup > x) <= 2 exp(-2 x^2) (Kolmogorov), which is used as it is.

    Example:
        >>> import numpy as np
        >>> p, place = change_point(np.repeat([0.0, 1.0], 50))
        >>> p < 0.001, round(place, 2), change_point(np.tile([0.0, 1.0], 50))[0]
        (True, 0.5, 1.0)
    """
    n = len(values)
    spread = float(values.std()) if n else 0.0
    if n < _LEAST or spread == 0.0:
        return 1.0, 0.0
    walk = np.abs(np.cumsum(values - values.mean()))
    place = int(walk.argmax())
    most = float(walk[place]) / (spread * math.sqrt(n))
    return min(2.0 * math.exp(-2.0 * most * most), 1.0), (place + 1) / n
