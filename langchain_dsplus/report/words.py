"""Words and numbers as the report writes them: everything that comes from outside is escaped here."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from langchain_dsplus._secrets import without_url_secrets
from langchain_dsplus.losses import points as loss_in_points
from langchain_dsplus.losses import signed_points
from langchain_dsplus.outcomes.sampling import Estimate
from langchain_dsplus.threshold.certificate import Certificate

SPACE = "\u00a0"
MINUS = "\u2212"
NONE = "\u2013"
_HIDDEN = re.compile(
    r"api[-_]?key|secret|passw|credential|authori[sz]ation|bearer|access[-_]?token|auth[-_]?token", re.IGNORECASE
)
_KEY_LIKE = re.compile(r"\b(?:sk|pk|rk|ghp|gho|xox[abp]|hf|AKIA|AIza)[-_A-Za-z0-9]{16,}")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\u202a-\u202e\u2066-\u2069]")


def text(value: Any, limit: int = 200, *, none: str | None = None) -> str:
    """Return a value as HTML text: escaped, cut, without control and direction characters, kept in its own direction.

    Args:
        value: A text, or plain JSON.
        limit: Characters that are kept.
        none: What stands for None, in soft letters.
    """
    if value is None and none is not None:
        return f'<span class="soft">{html.escape(none)}</span>'
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)
    cut = shown[:limit] + (f"… ({len(shown):,} characters)" if len(shown) > limit else "")
    clean = _CONTROL.sub("\ufffd", cut).encode("utf-8", "replace").decode("utf-8")
    return f"<bdi>{html.escape(clean)}</bdi>"


def fact(name: str, value: Any) -> str:
    """Return a value of `about` as HTML text; what looks like a key or a password is not shown."""
    return text(_without_secrets(name, value), 300)


def has_secret(name: str, value: str) -> bool:
    """Whether a name and its text look like those of a key or a password.

    Example:
        >>> has_secret("api_key", "x"), has_secret("large", "gpt-5-mini")
        (True, False)
    """
    return bool(_HIDDEN.search(name) or _KEY_LIKE.search(value)) or without_url_secrets(value) != value


def _without_secrets(name: str, value: Any) -> Any:
    if _HIDDEN.search(name):
        return "(hidden)"
    if isinstance(value, Mapping):
        return {str(key): _without_secrets(str(key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_secrets(name, item) for item in value]
    return _KEY_LIKE.sub("(hidden)", without_url_secrets(value, "(hidden)")) if isinstance(value, str) else value


def words(sentence: str) -> str:
    """Return a sentence of this package, which may quote names that users chose, as HTML text."""
    return html.escape(_CONTROL.sub("\ufffd", sentence).encode("utf-8", "replace").decode("utf-8"))


def percent(value: float, digits: int = 1) -> str:
    """A share in percent.

    Example:
        >>> percent(0.5).replace(SPACE, " ")
        '50.0 %'
    """
    number = f"{100 * value:.{digits}f}"
    return (number.lstrip("-") if float(number) == 0.0 else number.replace("-", MINUS)) + SPACE + "%"


def points(value: float, digits: int = 1) -> str:
    """A difference of shares in percentage points, with its sign."""
    return signed_points(value, digits).replace("-", MINUS)


def whole(value: int) -> str:
    """A count."""
    return f"{value:,}"


def money(value: float) -> str:
    """An amount with four digits that count."""
    rounded = float(f"{value:.4g}")
    decimals = 0 if rounded == 0 else max(0, 3 - math.floor(math.log10(abs(rounded))))
    number = f"{rounded:,.{decimals}f}"
    return number.rstrip("0").rstrip(".") if "." in number else number


def figure_words(found: Estimate | None, value: float | None = None) -> str:
    """A figure with its interval, or what it needs; without one the bare value."""
    if found is None:
        return NONE if value is None else percent(value)
    if found.value is None or not found.known:
        return needs_words(found)
    return f"{percent(found.value)} ({_ends(found)})"


def needs_words(found: Estimate) -> str:
    """What stands in place of a figure that the labels do not carry."""
    if not found.needed:  # nothing to label: no row, or all that is left was skipped
        return NONE if found.high - found.low >= 1.0 else f"from {_ends(found)}"
    return f"needs about {whole(found.needed)} more labels ({_ends(found)} as it is)"


def _ends(found: Estimate) -> str:
    return f"{percent(found.low)} to {percent(found.high)}"


def help_lines(certificate: Certificate) -> list[str]:
    """Say in plain words what would help a certificate that was refused; empty for others."""
    found = dict(certificate.help or {})
    lines: list[str] = []
    if reason := found.get("reason"):
        lines.append(f"Nothing was tested: {reason}.")
    unit = "rows" if certificate.unit == "input" else "groups"
    least = found.get("least_n")
    if least is not None:
        groups = found.get("least_groups")
        like = "" if groups is None else f" in groups like these (about {whole(int(groups))} groups)"
        lines.append(
            f"Below {whole(least)} {unit}{like} nothing can be shown at a loss of "
            f"{loss_in_points(certificate.max_loss)}, even if nothing at all is lost."
        )
    for name, part in (found.get("slices") or {}).items():
        if part["n"] < part["least_n"]:
            lines.append(
                f"The slice {name} has {whole(part['n'])} {unit}, and below {whole(part['least_n'])} nothing can be "
                "shown there."
            )
    for share, rows in (found.get("planned_n") or {}).items():
        planned = f"no number of {unit}" if rows is None else f"about {whole(int(rows))} {unit}"
        lines.append(f"{share} % local: {planned} would show it, if losses come as they did here.")
    smallest = found.get("smallest_loss")
    if smallest is not None:
        at = ", ".join(
            f"{100 * loss:.3g} at {share} % local"
            for share, loss in (found.get("smallest_loss_at") or {}).items()
            if loss is not None and loss > smallest
        )
        lines.append(
            f"The smallest loss that these rows would have shown is {loss_in_points(smallest)}, at the "
            "strictest threshold"
            + (f" ({at})" if at else "")
            + ". That was found in sight of the rows: it is no certificate."
        )
    if found.get("labels_needed"):
        count = int(found["labels_needed"])
        lines.append(
            f"Gold for up to {whole(count)} inputs on which the models differ: without it they count as lost. "
            "`dsplus label` (or `Outcomes.to_label`) writes them to a file."
        )
    return lines
