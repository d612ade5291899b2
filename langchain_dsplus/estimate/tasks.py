"""The tasks in a log: calls that share a prompt template, and the closed set of answers that they chose from.

A template is what the prompts of many calls have in common at their start and their end, word by word, numbers apart.
Where those that begin alike go on in a few ways only, four words long, and nearly all of them in one of these, each way
is a task of its own; where they go on in many, the text that varies begins. Ways that differ in fewer words are tasks
where their answers differ. Prompts that differ in numbers alone count once: they are inputs of one kind, not tasks. No
word has a meaning here, in whatever language.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_dsplus._json import load_json
from langchain_dsplus.outcomes import default_label

LEAST = 60
"""Calls below which nothing is said about a task."""
_HEAD = 4
"""Words in a row that make texts begin alike."""
_SHARE, _COVERED, _FEW = 0.02, 0.8, 20
"""A beginning counts from this share of the prompts, and this many, on; together they must cover so many of them."""
_ALL = 0.995
"""Share of the prompts that beginnings of one word must cover, where their answers differ."""
_CLOSED = 0.95
"""Share of the answers that a closed set must cover."""
_TWICE = 2
_WORDY = 5
_DIGITS = re.compile(r"\d+")
_BETWEEN = "\n\n"


@dataclass(frozen=True)
class Task:
    """A prompt template with its answers.

    Attributes:
        number: From 1, the most frequent one first.
        shape: What a prompt consists of: roles of its messages, or keys of its dict.
        prefix: Words that all prompts begin with, digits as 0.
        suffix: Words that all end with.
        holes: Places in both where numbers vary, those of the suffix counted from its end, negative.
        key: Key of the answer, where the large model answers with a JSON object.
        labels: The closed set of answers; empty where there is none.
        why_not: Why nothing can be estimated; empty where it can.
        calls: Calls of this task in the whole log.
        answers: Answers by label in the whole log; others stand under "".
        spellings: Label by what all ways to write it share.
    """

    number: int
    shape: str
    prefix: tuple[str, ...]
    suffix: tuple[str, ...]
    holes: tuple[int, ...] = ()
    key: str | None = None
    labels: tuple[str, ...] = ()
    why_not: str = ""
    calls: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    spellings: dict[str, str] = field(default_factory=dict, repr=False)

    def matches(self, shape: str, words: Sequence[str]) -> bool:
        """Whether a prompt is one of its."""
        a, b = len(self.prefix), len(self.suffix)
        return (
            shape == self.shape
            and len(words) >= a + b
            and tuple(words[:a]) == self.prefix
            and (not b or tuple(words[-b:]) == self.suffix)
        )

    def variable(self, text: str) -> str:
        """What a prompt holds beside the template: the numbers that vary in it, and the text."""
        words = text.split() if self.holes else []
        numbers = [words[place] for place in self.holes]
        if self.prefix:
            text = (text.split(None, len(self.prefix)) + [""] * len(self.prefix))[len(self.prefix)]
        if self.suffix:
            text = (text.rsplit(None, len(self.suffix)) or [""])[0]
        return " ".join([*numbers, text.strip()]).strip()

    def label(self, output: Any) -> str | None:
        """The label in an output; None where there is none of the set."""
        said = answers_of(output).get(self.key or "")
        return None if said is None else self.spellings.get(_alike(said))

    def name(self, length: int = 48) -> str:
        """Some words of its template, for a list."""
        words = " ".join([*self.prefix, "...", *self.suffix]) if self.prefix or self.suffix else "(bare inputs)"
        words = words if len(words) <= length else words[: length - 3] + "..."
        return words if self.key is None else f"{words} -> {self.key}"


# --- prompts and answers ----------------------------------------------------------------------------------------------


def prompt_of(call: Mapping[str, Any]) -> tuple[str, str]:
    """Return the shape of a call's prompt, and its text."""
    value, name = call["input"], call.get("name")
    head = f"{name}: " if isinstance(name, str) else ""
    messages = [value] if isinstance(value, Mapping) and value.keys() == {"type", "content"} else value
    if isinstance(messages, list) and messages and all(_is_message(item) for item in messages):
        return head + ", ".join(str(m["type"]) for m in messages), _BETWEEN.join(_text(m["content"]) for m in messages)
    if isinstance(value, Mapping):
        return head + f"{{{', '.join(value)}}}", _BETWEEN.join(_text(part) for part in value.values())
    return head + "text", _text(value)


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and "type" in value and "content" in value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(
        isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in value
    ):
        return "".join(part["text"] for part in value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def words_of(text: str) -> list[str]:
    """The words of a prompt, digits as 0: dates and counters are no templates of their own."""
    return _DIGITS.sub("0", text).split()


def answers_of(output: Any) -> dict[str, str]:
    """Return what an output says: under "" a text, or the fields of a JSON object that could be labels."""
    value = output
    if isinstance(output, Mapping) and _is_message(output):
        value = _text(output["content"])
    if isinstance(value, str):
        value = value.strip()
        body = value.removeprefix("```json").removeprefix("```").removesuffix("```").strip()
        if not body.startswith("{"):
            return {"": value} if value else {}
        try:
            value = load_json(body)
        except ValueError:
            return {"": value}
    if isinstance(value, Mapping):
        return {
            key: str(item).lower() if isinstance(item, bool) else str(item)
            for key, item in value.items()
            if isinstance(item, (str, int)) and str(item)
        }
    try:
        return {"": default_label(value)}
    except TypeError:
        return {}


def _alike(said: str) -> str:
    """What two ways to write a label share."""
    plain = " ".join(said.casefold().split())
    return plain.strip(" .\"'`*") or plain


# --- templates --------------------------------------------------------------------------------------------------------


@dataclass
class _Group:
    shape: str
    prefix: tuple[str, ...]
    suffix: tuple[str, ...]
    holes: tuple[int, ...]
    rows: list[int]


def find_tasks(calls: Sequence[Mapping[str, Any]]) -> list[Task]:
    """Return the tasks of a sample of calls, the most frequent first, with their labels; counts are the sample's."""
    prompts = [prompt_of(call) for call in calls]
    answers = [answers_of(call["output"]) for call in calls]
    by_shape: dict[str, dict[tuple[str, ...], list[int]]] = defaultdict(lambda: defaultdict(list))
    pool: dict[str, str] = {}  # a word of many prompts is held once
    for place, (shape, text) in enumerate(prompts):
        by_shape[shape][tuple(pool.setdefault(word, word) for word in words_of(text))].append(place)
    groups: list[_Group] = []
    for shape, texts in by_shape.items():
        for prefix, front in _split(list(texts.items()), (), answers):
            turned = [(words[len(prefix) :][::-1], rows) for words, rows in front]
            for suffix, both in _split(turned, (), answers):
                rows = [row for _, members in both for row in members]
                holes = _holes([prompts[row][1] for row in rows], prefix, suffix)
                groups.append(_Group(shape, prefix, suffix[::-1], holes, rows))
    tasks: list[Task] = []
    for group in groups:
        said = [answers[row] for row in group.rows]
        fields = Counter(key for found in said for key in found)
        open_ = [key for key, count in fields.items() if count >= 0.9 * len(said)] or [""]
        sets = {key: closed_set([found.get(key) for found in said]) for key in open_}
        good = [key for key in open_ if sets[key][0]]
        for key in good or open_[:1]:
            keys, why = sets[key]
            labels = tuple(dict.fromkeys(keys.values()))
            base = (group.shape, group.prefix, group.suffix, group.holes, key or None, labels, why, len(group.rows))
            tasks.append(Task(0, *base, spellings=keys))
    tasks.sort(key=lambda task: (-task.calls, task.shape, task.prefix, task.key or ""))
    return [_numbered(task, number) for number, task in enumerate(tasks, 1)]


def _numbered(task: Task, number: int, calls: int | None = None, answers: dict[str, int] | None = None) -> Task:
    values = vars(task) | {"number": number}
    return Task(**values | ({} if calls is None else {"calls": calls, "answers": answers or {}}))


_Rows = list[tuple[tuple[str, ...], list[int]]]


def _holes(texts: Iterable[str], prefix: Sequence[str], backward: Sequence[str]) -> tuple[int, ...]:
    """Places of a template's words with numbers that vary; `backward` is its suffix from the end."""
    places = [place for place, word in enumerate(prefix) if "0" in word]
    places += [-1 - place for place, word in enumerate(backward) if "0" in word][::-1]
    seen: dict[int, set[str]] = {place: set() for place in places}
    for text in texts if places else ():
        words = text.split()
        for place in places:
            seen[place].add(words[place])
    return tuple(place for place in places if len(seen[place]) > 1)


def _split(
    rows: _Rows, before: tuple[str, ...], answers: Sequence[Mapping[str, str]]
) -> list[tuple[tuple[str, ...], _Rows]]:
    """Distinct prompts by what they begin with; each beginning as long as it is the same for all of its prompts."""
    done = len(before)
    if len(rows) < _FEW:
        return [(before, rows)]
    shortest = min(len(words) for words, _ in rows)
    first, last = min(words for words, _ in rows), max(words for words, _ in rows)
    while done < shortest and first[done] == last[done]:
        done += 1
    before = first[:done]
    parts = _parts(rows, done, _HEAD, _COVERED)
    if not parts:
        parts = _parts(rows, done, 1, _ALL)
        if len(parts) < _TWICE or not _differ([inside for head, inside in parts.items() if head], answers):
            return [(before, rows)]
    found = [part for head, inside in parts.items() if head for part in _split(inside, before + head, answers)]
    return found + ([(before, parts[()])] if parts.get(()) else [])


def _parts(rows: _Rows, start: int, length: int, covered: float) -> dict[tuple[str, ...], _Rows]:
    """Prompts by their next words, others under (); nothing where the frequent ones do not cover so many of them."""
    heads = Counter(words[start : start + length] for words, _ in rows)
    frequent = {head for head, count in heads.items() if count >= max(_FEW, _SHARE * len(rows)) and head}
    if sum(heads[head] for head in frequent) < covered * len(rows):
        return {}
    parts: dict[tuple[str, ...], _Rows] = defaultdict(list)
    for words, members in rows:
        head = words[start : start + length]
        parts[head if head in frequent else ()].append((words, members))
    return parts


def _differ(parts: Sequence[_Rows], answers: Sequence[Mapping[str, str]]) -> bool:
    """Whether parts have closed sets of answers each, at least two, and no two parts have one in common."""
    taken: set[str] = set()
    for part in parts:
        said = [answers[row] for _, members in part for row in members]
        keys = closed_set([" ".join(sorted(found.values())) or None for found in said])[0].keys()
        if not keys or taken & keys:
            return False
        taken |= keys
    return True


def closed_set(said: Sequence[str | None]) -> tuple[dict[str, str], str]:
    """Return labels by key by what spellings share, or none and the reason in words.

    Closed: a few answers come again and again, at least two of them, and cover 95 % of the calls.
    """
    raw = Counter(answer for answer in said if answer)
    total = len(said)
    counts: Counter[str] = Counter()
    best: dict[str, str] = {}
    for answer, count in raw.most_common():  # the most frequent way to write a label stands for it
        key = _alike(answer)
        best.setdefault(key, answer)
        counts[key] += count
    if total < LEAST:
        return {}, f"too few rows: {total:,} calls, and below {LEAST} nothing can be said"
    again = {key: count for key, count in counts.items() if count >= max(_TWICE, 0.0005 * total)}
    covered = sum(again.values())
    if covered < _CLOSED * total or len(again) > total / 5:
        wordy = sorted(len(answer.split()) for answer in raw.elements())
        once = sum(count == 1 for count in counts.values()) / total
        kind = "free text" if wordy and wordy[len(wordy) // 2] >= _WORDY else "no closed set of answers"
        return {}, (
            f"{kind}: {len(counts):,} different answers to {total:,} calls, {once:.0%} of the calls have one of their "
            "own. A shunt chooses from a closed set; where your chain takes a label out of the text, name it "
            "(--output), or export the chain's runs"
        )
    if len(again) < _TWICE:
        return {}, "no closed set of answers: all calls got the same one, so no model is needed"
    return {key: best[key] for key in again}, ""


def count(tasks: Sequence[Task], calls: Iterable[Mapping[str, Any]]) -> Iterable[tuple[Mapping[str, Any], list[Task]]]:
    """Yield calls with their tasks (several where an answer has several fields); the longest template wins."""
    order = sorted(tasks, key=lambda task: -len(task.prefix) - len(task.suffix))
    for call in calls:
        shape, text = prompt_of(call)
        words = words_of(text)
        first = next((task for task in order if task.matches(shape, words)), None)
        if first is None:
            yield call, []
        else:
            same = (first.shape, first.prefix, first.suffix)
            yield call, [task for task in tasks if (task.shape, task.prefix, task.suffix) == same]
