"""What of a verdict is really in the text that was judged: its facts, and what its reasons quote."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_dsplus.fidelity.sentences import normalize

_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”|「([^」]+)」|『([^』]+)』|«([^»]+)»')
_NARRATOR = ((r"\b(?:my|mine|the narrator's)\b", "narrators"), (r"\b(?:i|me|the narrator)\b", "narrator"))
"""The adjudicator is told that these are the same person: a fact may name it either way."""
_EDGE = " \t\n.,;:!?。，；：！？…"


def in_text(span: str, text: str) -> bool:
    """Whether a text says a span word for word; case, spaces, quotation marks and `I` for the narrator do not count.

    Example:
        >>> in_text("The narrator cut the cable.", "So I cut  the cable of his stereo.")
        True
        >>> in_text("He cut the cable.", "So I cut the cable of his stereo.")
        False
    """
    wanted = _plain(span)
    if not wanted:
        return False
    if wanted.isascii():
        return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", _plain(text)) is not None
    return wanted in _plain(text)


def grounded(record: Mapping[str, Any], text: str) -> dict[str, Any]:
    """A verdict's record with only such facts as the text has, and only such reasons as quote nothing else.

    Args:
        record: With `facts` and `reasons`, where it has them.
        text: What the judge read.

    Returns:
        The record; with `quotes`, what the reasons quote of the text, and with `unsupported`, the facts and reasons
        that were left out, each where there are any.
    """
    found = dict(record)
    unsupported: list[str] = []
    facts = _texts(record.get("facts"))
    if facts is not None:
        found["facts"] = [fact for fact in facts if in_text(fact, text)]
        unsupported += [fact for fact in facts if not in_text(fact, text)]
    reasons = _texts(record.get("reasons"))
    if reasons is not None:
        quotes = {reason: quotations(reason) for reason in reasons}
        good = [reason for reason in reasons if all(in_text(quote, text) for quote in quotes[reason])]
        found["reasons"] = good
        unsupported += [reason for reason in reasons if reason not in good]
        said = [quote for reason in good for quote in quotes[reason]]
        if said:
            found["quotes"] = said
    if unsupported:
        found["unsupported"] = unsupported
    return found


def quotations(text: str) -> list[str]:
    """What stands between quotation marks.

    Example:
        >>> quotations('He admits that he "cut the cable" at night.')
        ['cut the cable']
    """
    return [next(part for part in match.groups() if part is not None).strip() for match in _QUOTED.finditer(text)]


def _texts(value: Any) -> list[str] | None:
    """A list of texts; None where it is something else."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(item, str) for item in value):
        return None
    return list(value)


def _plain(text: str) -> str:
    text = " ".join(normalize(text).casefold().split())
    for pattern, word in _NARRATOR:
        text = re.sub(pattern, word, text)
    return re.sub("我|叙述者", "narrator", text).replace('"', "").strip(_EDGE)
