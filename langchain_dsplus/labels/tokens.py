"""From token log-probabilities to probabilities of the offered labels."""

# ruff: noqa: RUF001

from __future__ import annotations

import codecs
import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any, Literal, NamedTuple

from langchain_dsplus.labels.forms import OPEN_SEPARATOR, LabelSet, is_unspaced, prepare
from langchain_dsplus.labels.text import LONGEST_TEXT, SPECIAL, Found, is_cut, locate


class NoLabelMassError(ValueError):
    """The log-probabilities give no offered label any probability."""


class _Token(NamedTuple):
    raw: bytes
    probability: float

    @property
    def stops(self) -> bool:
        return not self.raw or SPECIAL.fullmatch(self.raw.decode("utf-8", "replace")) is not None


def _token(entry: Mapping[str, Any]) -> _Token | None:
    """Read one token; None where it has no usable probability."""
    logprob = entry.get("logprob")
    if isinstance(logprob, bool) or not isinstance(logprob, (int, float)) or math.isnan(logprob):
        return None
    raw = entry.get("bytes")
    text = entry.get("token")
    if isinstance(raw, (list, tuple)) and all(isinstance(b, int) and 0 <= b <= 255 for b in raw) and (raw or not text):
        data = bytes(raw)
    elif isinstance(text, str):
        data = text.encode("utf-8", "replace")
    else:
        return None
    return _Token(data, math.exp(min(float(logprob), 0.0)))


class _Position(NamedTuple):
    sampled: _Token
    others: list[_Token]
    hidden: float
    """Probability that no listed token accounts for."""
    listed: bool
    """Whether there are alternatives at all."""
    least: float
    """The most that a token may have that is not listed: the least of those that are; 1 without a list."""


def _position(entry: object) -> _Position | None:
    if not isinstance(entry, Mapping):
        return None
    top = entry.get("top_logprobs")
    top = top if isinstance(top, list) else []
    alternatives = [t for t in map(_token, (e for e in top if isinstance(e, Mapping))) if t]
    sampled = _token(entry)
    if sampled is None:
        text = entry.get("token")
        sampled = next(
            (t for t in alternatives if isinstance(text, str) and t.raw == text.encode("utf-8", "replace")), None
        )
        if sampled is None:
            return None
    others = [t for t in alternatives if t.raw != sampled.raw]
    least = min((t.probability for t in alternatives), default=1.0)
    total = sampled.probability + sum(t.probability for t in others)
    if total > 1.0:  # rounding, or a server that lists a token twice
        sampled = _Token(sampled.raw, sampled.probability / total)
        others = [_Token(t.raw, t.probability / total) for t in others]
        total = 1.0
    return _Position(sampled, others, 1.0 - total, bool(alternatives), least)


def _text(raw: bytes) -> str:
    """Decode, leaving out a character that is not complete yet."""
    return raw.decode("utf-8", "ignore")


class _Beginnings:
    """Which labels a beginning may still become."""

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels

    def forms(self, text: str) -> tuple[str, str]:
        """The forms in which beginnings are compared: with and without leading quotes and emphasis."""
        key = self.labels.key(text).lstrip(" ")
        if self.labels.merge_separators:
            key = OPEN_SEPARATOR.sub(" ", key)
        return key, key.lstrip(_LEADING)

    def begun(self, text: str) -> list[str]:
        """Labels that begin with a text, or are it."""
        forms = [form for form in self.forms(text) if form]
        begun = [
            label
            for label, key in self.labels.keys.items()
            if any(key.startswith(form) or key == form.rstrip() for form in forms)
        ]
        if len(begun) > 1 and len({self.labels.keys[label] for label in begun}) < len(begun):
            # Of labels that are the same but for case or width, keep those spelled like the text.
            return [label for label in begun if label.startswith(text.strip())] or begun
        return begun

    def fits(self, text: str) -> list[str]:
        """Labels that a text begins; else the one that it begins with, and that it has left behind."""
        begun = self.begun(text)
        if begun:
            return begun
        plain, bare = self.forms(text)
        for form in (plain, bare):
            hit = self.labels.any.match(form)
            if hit is None:
                continue
            behind = form[hit.end() :]
            closed = behind.lstrip("*_`") if bare != plain else behind
            if _LEFT_BEHIND.match(closed) or (closed and is_unspaced(closed[0])):
                label = self.labels.spelled(text.lstrip(_LEADING if form == bare else " ")[: hit.end()])
                return [] if label is None else [label]
        return []


_LEADING = " \n\"'`*_([{“„«「『《【"
_LEFT_BEHIND = re.compile(r"\s*$|\s*\n|[.,](?!\w)|[;!…。，、！—]|[)\]}\"'”»」』》】]+(?!\w)|\s+[-(]")


SPELLINGS = 4
"""Tokens that may begin one label and still not be listed: with a blank or without, with a capital or without."""


class LabelMass(NamedTuple):
    """What token log-probabilities say of the labels; the three parts sum to 1."""

    labels: dict[str, float]
    """Probability that was seen to go to each label: a lower bound."""
    other: float
    """Probability that was seen to go to no label."""
    unseen: float
    """Probability of tokens that the server did not list and that may begin a label: whose it is, nobody knows."""


def label_probabilities(
    tokens: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    *,
    floor: float = 1e-6,
    finish_reason: str | None = None,
) -> tuple[dict[str, float], float]:
    """Turn the token log-probabilities of one reply into probabilities of the offered labels.

    The label that `match_label` finds in the whole reply says where the label's tokens are: reasoning and a lead-in
    ("The label is", a JSON key) are passed over, and a reply that names no label gives nothing to any for what was
    sampled. From there it walks along the tokens that were sampled. At each position every listed alternative makes
    the text "sampled so far + alternative", with its probability. Case, white space, quotes and (where unambiguous)
    underscores do not matter.

    - A text that is, or begins, exactly one label gives its probability to that label.
    - A text that begins several labels is followed further where it was sampled (an alternative that differs from the
      sampled token only in case or space goes along with it); else its probability is shared evenly among them.
    - A label that begins another one ("card", "card_arrival") is decided by what follows. The end of the reply comes
      as an empty token, as a special token such as `<|im_end|>`, or not at all. In a reply that was cut it is shared.
    - Everything else is `unassigned`: tokens that begin no label, blanks, and what no listed token accounts for. It is
      nobody's: the probability of a label is at least its share of what is assigned, and may be more.

    Before they are normalized, assigned and unassigned probability sum to 1.

    Args:
        tokens: `logprobs.content` in OpenAI's form: `{"token", "logprob", "top_logprobs": [{"token", "logprob"}]}`;
            `bytes` are used where given. A logprob of minus infinity is probability 0; an alternative without a number
            is skipped; a position without a number ends the walk. Natural logarithms.
        labels: The labels that were offered; distinct.
        floor: Least probability of a label, so that logarithms stay finite; 0 <= floor < 1 / number of labels.
        finish_reason: Why the reply ended, as `ending` tells it.

    Returns:
        Probabilities over all labels, in their order, summing to 1; and the unassigned probability, in [0, 1].

    Raises:
        NoLabelMassError: If there are no tokens, or no label got anything.
        ValueError: If `labels` is empty or `floor` is out of range.

    Example:
        >>> top = [{"token": "Yes", "logprob": -0.2231}, {"token": "no", "logprob": -1.6094}]
        >>> p, left = label_probabilities([{**top[0], "top_logprobs": top}], ["yes", "no"])
        >>> round(p["yes"], 2), round(left, 2)
        (0.8, 0.0)
    """
    offered = tuple(dict.fromkeys(labels))
    if not offered:
        raise ValueError("`labels` is empty")
    if not 0.0 <= floor < 1.0 / len(offered):
        raise ValueError(f"`floor` must be at least 0 and below 1 / {len(offered)} labels")
    mass = label_mass(tokens, offered, finish_reason=finish_reason)
    total = math.fsum(mass.labels.values())
    room = 1.0 - floor * len(offered)
    probabilities = {label: floor + room * (mass.labels[label] / total) for label in offered}
    return probabilities, min(1.0, max(0.0, mass.other + mass.unseen))


def label_mass(
    tokens: Sequence[Mapping[str, Any]], labels: Sequence[str], *, finish_reason: str | None = None
) -> LabelMass:
    """What `label_probabilities` reads, before it is normalized.

    Raises:
        NoLabelMassError: If there are no tokens, or no label got anything.

    Example:
        >>> label_mass([{"token": "no", "logprob": math.log(0.25)}], ["yes", "no"])
        LabelMass(labels={'yes': 0.0, 'no': 0.25}, other=0.0, unseen=0.75)
    """
    offered = tuple(dict.fromkeys(labels))
    positions: list[_Position] = []
    for entry in tokens:
        position = _position(entry)
        if position is None:
            break
        positions.append(position)
    if not positions:
        raise NoLabelMassError("the reply carries no token log-probabilities; ask the model for `logprobs`")
    mass = _Walk(positions, prepare(offered), cut=is_cut(finish_reason)).mass()
    if not math.fsum(mass.labels.values()) > 0.0:
        raise NoLabelMassError(
            "no offered label has any probability in the reply; ask for the label alone, raise `top_logprobs`, "
            "or raise `max_tokens`"
        )
    return mass


class _Walk:
    """One walk along the tokens of a reply."""

    def __init__(self, positions: list[_Position], labels: LabelSet, *, cut: bool) -> None:
        self.positions = positions
        self.beginnings = _Beginnings(labels)
        decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        pieces = [decoder.decode(p.sampled.raw) for p in positions]
        text = "".join(pieces)
        self.text = text
        self.ended = positions[-1].sampled.stops
        found = locate(text[:LONGEST_TEXT], labels, cut=cut)
        self.label = None if found is None else found.label
        self.begin = self._begin(pieces, text, found)
        self.seen = dict.fromkeys(labels.labels, 0.0)
        self.other = self.unseen = 0.0

    @staticmethod
    def _begin(pieces: list[str], text: str, found: Found | None) -> int:
        """The position at which the label begins; past the end where there is none."""
        if found is None:
            return len(pieces)
        if not text[: found.start].strip(_LEADING):
            return 0
        ends = list(accumulate(map(len, pieces)))
        return bisect_right(ends, found.start)

    def mass(self) -> LabelMass:
        """Walk."""
        reach = 1.0  # probability of the text sampled so far, its spelling variants included
        path = b""
        live = True  # whether the text so far may still become a label
        concluded = False
        for at, position in enumerate(self.positions):
            if at == self.begin and at > 0:
                path, live = b"", True
            sampled = position.sampled
            stops = sampled.stops and at == len(self.positions) - 1
            ahead = path if sampled.stops else path + sampled.raw
            step = self._alternatives(position, path, ahead, reach, live=live, stops=stops)
            # A list holds the likeliest tokens: what it leaves out is many small ones, and few of them begin a label.
            unseen = min(position.hidden, SPELLINGS * len(self.seen) * position.least)
            self.unseen += reach * unseen
            self.other += reach * (position.hidden - unseen)
            reach *= step
            path = ahead
            if stops:
                break
            text = _text(path)
            if live and self.beginnings.forms(text)[1]:
                if at >= self.begin and self.beginnings.fits(text) == [self.label]:
                    concluded = True
                    break
                live = bool(self.beginnings.begun(text))
        heirs = [self.label] if self.label is not None else []
        if not concluded and self.label is None and live and not self.ended and self.text.strip()[:1] not in ("", "{"):
            heirs = self.beginnings.begun(self.text)  # cut off: each of them may still come
        for heir in heirs:
            self.seen[heir] += reach / len(heirs)
        return LabelMass(self.seen, self.other if heirs else self.other + reach, self.unseen)

    def _alternatives(
        self, position: _Position, path: bytes, ahead: bytes, reach: float, *, live: bool, stops: bool
    ) -> float:
        """Give each alternative its probability; returns that of the sampled token and its variants of spelling."""
        step = position.sampled.probability
        forms = self.beginnings.forms(_text(ahead)) if live else ("", "")
        for other in position.others:
            text = _text(path if other.stops else path + other.raw) if live else ""
            if live and not other.stops and not stops and forms[1] and self.beginnings.forms(text) == forms:
                step += other.probability
                continue
            heirs = self._heirs(text, ended=other.stops) if live else []
            for heir in heirs:
                self.seen[heir] += reach * other.probability / len(heirs)
            if not heirs:
                self.other += reach * other.probability
        return step

    def _heirs(self, text: str, *, ended: bool) -> list[str]:
        """The labels that share the probability of a text that is not followed further."""
        if not any(self.beginnings.forms(text)):
            return []
        if ended:
            label = self.beginnings.labels.exact(text)[1]
            if label is not None:
                return [label]
        fits = self.beginnings.fits(text)
        return fits if not ended or len(fits) == 1 else []


def token_logprobs(reply: object) -> list[Any]:
    """The token log-probabilities that a message carries, in OpenAI's form; empty where there are none."""
    metadata = getattr(reply, "response_metadata", None)
    logprobs = metadata.get("logprobs") if isinstance(metadata, Mapping) else None
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else logprobs
    return content if isinstance(content, list) else []


def mean_token_probability(
    tokens: Sequence[Mapping[str, Any]], *, kind: Literal["arithmetic", "geometric"] = "arithmetic"
) -> float:
    """The mean probability of the tokens of a reply (paper, Section 4.3 and Eq. 9); in [0, 1].

    The mean of the probabilities with which the words were predicted, the end token left out.

    Args:
        tokens: `logprobs.content` in OpenAI's form.
        kind: The arithmetic mean is the paper's. The geometric one is that of the text's probability: one unlikely
            token lowers it more.

    Raises:
        NoLabelMassError: If there is no token with a probability.

    Example:
        >>> mean_token_probability([{"token": "a", "logprob": 0.0}, {"token": "b", "logprob": float("-inf")}])
        0.5
    """
    read = [t for t in map(_token, (e for e in tokens if isinstance(e, Mapping))) if t is not None]
    values = [t.probability for t in read if not t.stops]
    if not values:
        raise NoLabelMassError("the reply carries no token log-probabilities; ask the model for `logprobs`")
    if kind == "geometric":
        return math.exp(math.fsum(map(math.log, values)) / len(values)) if min(values) > 0.0 else 0.0
    return math.fsum(values) / len(values)


def token_quantile(tokens: Sequence[Mapping[str, Any]], quantile: float = 0.0) -> float:
    """A quantile of the probabilities of a reply's tokens (Gupta et al. 2024, 2404.10136); in [0, 1].

    The least sure token is quantile 0. Unlike the probability of the whole reply it does not fall with its length, and
    unlike the mean it is not lifted by the many tokens that follow by themselves. Between two tokens it is linear. The
    end token is left out.

    Args:
        tokens: `logprobs.content` in OpenAI's form.
        quantile: In [0, 1].

    Raises:
        NoLabelMassError: If there is no token with a probability.
        ValueError: If `quantile` is outside [0, 1].

    Example:
        >>> tokens = [{"token": t, "logprob": math.log(p)} for t, p in (("a", 0.9), ("b", 0.25), ("c", 0.75))]
        >>> [round(token_quantile(tokens, q), 3) for q in (0.0, 0.25, 0.5, 1.0)]
        [0.25, 0.5, 0.75, 0.9]
    """
    if not 0.0 <= quantile <= 1.0:
        raise ValueError("`quantile` must lie in [0, 1]")
    values = []
    for token in tokens:
        with suppress(NoLabelMassError):  # the end token, or one without a number
            values.append(mean_token_probability([token]))
    if not values:
        raise NoLabelMassError("the reply carries no token log-probabilities; ask the model for `logprobs`")
    values.sort()
    place = quantile * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])
