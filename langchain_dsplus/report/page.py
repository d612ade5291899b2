"""`render_report`: outcomes and a certificate as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from langchain_dsplus._arrays import Floats
from langchain_dsplus._files import replace_file
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.report.numbers import Part, local_errors
from langchain_dsplus.report.sections import WORST, body
from langchain_dsplus.report.view import View
from langchain_dsplus.report.words import SPACE, figure_words, text
from langchain_dsplus.threshold.certificate import Certificate
from langchain_dsplus.threshold.curves import Prompt


def render_report(
    outcomes: Outcomes,
    certificate: Certificate | None = None,
    *,
    inputs: Mapping[str, Any] | None = None,
    explain: Callable[[Any], Sequence[Mapping[str, Any]]] | None = None,
    title: str = "What may stay local",
    prompt: Prompt | None = None,
    never_local: Sequence[str] | None = None,
    level: float = 0.95,
    max_lost: int = 200,
    currency: str | None = None,
    date: str | None = None,
    lead: str = "",
) -> str:
    """Show outcomes, and what a certificate promises, as one HTML page.

    The page carries its own style and script, draws its own charts and reads nothing from any network: a
    Content-Security-Policy in it forbids that, and any script but its own. It holds totals at some 500 thresholds, and
    the rows that would be lost; no other row, and no input text unless `inputs` is given. Everything that a user typed
    or a model said is escaped; values of `about` that look like keys or passwords are left out.

    Rows where the large model failed do not count. Answers that differ count as lost where nobody knows who is right,
    as in `certify`. Where some rows lack gold, accuracies, errors and calibration count those that have it by how they
    were chosen (`Outcomes.to_label`, `Outcomes.estimate`), with an interval; a figure whose interval is wider than 20
    points is not shown, but how many more labels it needs. Without an accuracy the page shows the difference from the
    large model alone. Intervals are for one threshold at a time: Wilson's for shares, Bonett and Price's for
    differences, both widened by the design effect where rows come in groups.

    Args:
        outcomes: The table. Better rows than those the certificate was made on: then every number is a fresh look.
        certificate: What `certify` returned. Its `prompt` and `never_local` are used.
        inputs: Input texts by id, shown beside the rows that would be lost. They are what users typed: leave them out
            of a page that travels.
        explain: With `inputs`: why the small model was sure, beside each, such as `small.explain`.
        title: Heading of the page.
        prompt: What escalated rows are asked, `plain` (default) or `pruned`, where there is no certificate.
        never_local: Labels that always escalate, where there is no certificate.
        level: Of the intervals.
        max_lost: Rows that would be lost, the most confident first: at most so many are in the page.
        currency: What costs are counted in; default `about["currency"]`.
        date: Shown in the heading; default today (UTC).
        lead: HTML that stands first in the page, as it is: whoever passes it has escaped it.

    Returns:
        The page.

    Raises:
        ValueError: If the large model answered no row, or the certificate is for other small models.

    Example:
        ```python
        page = render_report(outcomes, certificate, title="Support tickets")
        Path("report.html").write_text(page, encoding="utf-8")
        ```
    """
    if not 0.0 < level < 1.0:
        raise ValueError("`level` must lie between 0 and 1")
    if max_lost < 0:
        raise ValueError("`max_lost` must be at least 0")
    view = View.of(outcomes, certificate, prompt=prompt, never_local=never_local, level=level)
    inside = body(
        view,
        title,
        date=date,
        currency=currency or outcomes.about.get("currency"),
        inputs=inputs,
        explain=explain,
        max_lost=max_lost,
        lead=lead,
    )
    return _document(title, inside, view)


def write_report(path: str | Path, outcomes: Outcomes, certificate: Certificate | None = None, **kwargs: Any) -> Path:
    """Write the page of `render_report` to a file, UTF-8, and return its path.

    Args:
        path: The file; an older one is replaced.
        outcomes: The table.
        certificate: What `certify` returned.
        **kwargs: As in `render_report`.

    Example:
        ```python
        write_report("report.html", outcomes, certificate)
        ```
    """
    if not isinstance(path, (str, Path)):
        raise TypeError(
            f"`path` must be a str or Path, not {type(path).__name__}: write_report(path, outcomes, certificate)"
        )
    page = render_report(outcomes, certificate, **kwargs)
    target = Path(path)
    replace_file(target, page)
    return target


def _asset(name: str) -> str:
    return resources.files("langchain_dsplus.report").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _digest(source: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() + "'"


def _document(title: str, inside: str, view: View) -> str:
    style, script = _asset("report.css"), _asset("report.js")
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n'
        f"<title>{text(title, 300).removeprefix('<bdi>').removesuffix('</bdi>')}</title>\n"
        f"<style>{style}</style>\n</head>\n<body>\n{inside}\n"
        f'<script type="application/json" id="data">{embed(_data(view))}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def embed(value: Any) -> str:
    """Return JSON that may stand inside a script element: no `<`, `>`, `&`, and nothing beyond ASCII."""
    body = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return body.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _round(values: Floats, digits: int = 6) -> list[float | None]:
    return [None if math.isnan(value) else round(value, digits) for value in values.tolist()]


def _data(view: View) -> dict[str, Any]:
    """What the script needs, numbers and the package's own words only."""
    count = view.tally
    quality, _, _, _ = view.quality()
    risk = local_errors(view.rows, count.thresholds)
    data: dict[str, Any] = {
        "n": count.n,
        "threshold": [view.threshold(step) for step in range(view.steps)],
        "accepted": count.accepted.tolist(),
        "harms": count.harms.tolist(),
        "gains": count.gains.tolist(),
        "guessed": count.guessed.tolist(),
        "worst": WORST,
        "level": f"{100 * view.level:g}{SPACE}%",
        "loss_low": _round(view.loss_low),
        "loss_high": _round(view.loss_high),
        "quality": _round(quality, 4),
        "risk": _round(100 * risk.value, 4),
        "states": view.states,
        "state": view.state,
        "parts": {name: [_packed(part) for part in found] for name, found in view.parts.items() if found},
    }
    if risk.rates is not None:
        data["risk_words"] = _changes(figure_words(risk.rates.at(step)) for step in range(view.steps))
    if count.has_accuracy:
        data["accuracy"] = _round(count.accuracy)
        data["accuracy_low"], data["accuracy_high"] = _round(view.low), _round(view.high)
    elif count.levels is not None:
        data["accuracy_words"] = _changes(figure_words(count.levels.at(step)) for step in range(view.steps))
    if count.cost is not None and count.large_cost is not None:
        data["cost"] = [float(f"{value:.6g}") for value in count.cost.tolist()]
        data["large_cost"] = float(f"{count.large_cost:.6g}")
    return data


def _packed(part: Part) -> dict[str, Any]:
    """Only the steps at which something changes."""
    change = [
        [int(value) for step in np.flatnonzero(row).tolist() for value in (step, row[step])] for row in part.change
    ]
    packed: dict[str, Any] = {"n": part.n, "known": part.known, "begin": list(part.begin), "change": change}
    if part.levels is not None:
        levels = part.levels
        packed["words"] = _changes(figure_words(levels.at(step)) for step in range(len(levels.value)))
    return packed


def _changes(said: Iterable[str]) -> list[list[Any]]:
    """Texts by step, each once with the first step that it holds for."""
    found: list[list[Any]] = []
    for step, text_ in enumerate(said):
        if not found or found[-1][1] != text_:
            found.append([step, text_])
    return found
