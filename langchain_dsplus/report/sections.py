"""The parts of the page, each a function from the view to HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np

from langchain_dsplus.answer import failure
from langchain_dsplus.losses import points as loss_in_points
from langchain_dsplus.losses import threshold_words
from langchain_dsplus.outcomes.table import Figure
from langchain_dsplus.report.charts import Plot
from langchain_dsplus.report.numbers import Part, Tally, local_errors, lost_rows, model_column, oracle, reliability
from langchain_dsplus.report.view import View
from langchain_dsplus.report.words import (
    NONE,
    SPACE,
    fact,
    figure_words,
    help_lines,
    money,
    percent,
    points,
    text,
    whole,
    words,
)
from langchain_dsplus.threshold.certificate import Certificate, Step, TestResult, say_losing
from langchain_dsplus.threshold.curves import accuracy_interval
from langchain_dsplus.threshold.deferral import apgr, cost_at_parity, cpt
from langchain_dsplus.threshold.findings import find_mistakes

_ANSWER_LENGTH = 200
_INPUT_LENGTH = 1000
_STRICT_END = 95.0  # percent of inputs that escalate at the first step of a sequence that was not started later
_PRUNED = "always large, pruned prompt"
_AREAS: tuple[Figure, ...] = ("aurc", "e_aurc", "auroc")
WORST = "at worst: gold is missing"
"""Stands in place of an interval where rows count as lost only since nobody knows who is right."""
_BOOTSTRAP_ROWS = 20_000  # beyond, a bootstrap takes seconds and its intervals are thin


def body(
    view: View,
    title: str,
    *,
    date: str | None,
    currency: Any,
    inputs: Mapping[str, Any] | None,
    explain: Callable[[Any], Sequence[Mapping[str, Any]]] | None,
    max_lost: int,
    lead: str = "",
) -> str:
    """Return everything inside the page's body, escaped."""
    sections = [
        lead,
        _verdict(view),
        _controls(view),
        _tiles(view, currency),
        _quality(view),
        f'<div class="two">{_reliability(view)}{_risk(view)}</div>',
        _alternatives(view),
        _baselines(view),
        _parts(view, "classes"),
        _parts(view, "slices"),
        _lost(view, inputs, explain, max_lost),
        _evidence(view),
    ]
    return f"{_head(view, title, date)}<main>{''.join(sections)}</main>{_foot()}"


def _head(view: View, title: str, date: str | None) -> str:
    """Title, rows, date."""
    count = view.tally
    said = [f"{whole(count.n)} inputs"]
    said.append(date or datetime.now(tz=UTC).date().isoformat())
    shown = f" · {SPACE}".join(words(item) for item in said).replace(SPACE, "")
    return f'<header class="top"><h1>{text(title, 300)}</h1><p class="soft">{shown}</p></header>'


def _verdict(view: View) -> str:
    """The certificate in plain words."""
    certificate = view.certificate
    if certificate is None:
        return (
            '<section class="card verdict" aria-labelledby="verdict"><h2 id="verdict">No certificate</h2>'
            '<p class="promise">Nothing on this page is a promise about new inputs: every number is hindsight on these '
            "rows.</p><p>A certificate says, at a level that you choose, how much accuracy the cascade may lose "
            "against the large model alone. Make one with <code>certify</code> on rows that no model was trained on "
            f"and no threshold was chosen on.</p>{_findings(view)}</section>"
        )
    first, *rest = [line for line in certificate.text.split("\n") if line.strip()]
    losing = say_losing(certificate.losing_classes) if certificate.certified else ""
    status = "Certified" if certificate.certified else "Not certified"
    promise = first.removeprefix(f"{certificate.status}. ").removeprefix(f"{certificate.status}, but {losing}. ")
    if losing:  # what a good average hides stands first, before any praise
        status = f"{status}, but {losing}"
    kind = "sure" if certificate.certified and not losing else "refused"
    paragraphs = "".join(f"<p>{_line(line, certificate)}</p>" for line in rest)
    return (
        f'<section class="card verdict {kind}" aria-labelledby="verdict"><h2 id="verdict">{words(status)}</h2>'
        f'<p class="promise">{words(promise)}</p>{paragraphs}{_help(certificate)}{_fit(view, certificate)}</section>'
    )


def _findings(view: View) -> str:
    """What the rows show of honest mistakes, and what they cannot: the same list as in a certificate."""
    found = find_mistakes(view.outcomes)
    seen = "".join(f'<li class="warn">{words(item.sentence)}</li>' for item in found if item.severity != "unseen")
    hidden = "".join(f"<li>{words(item.sentence)}</li>" for item in found if item.severity == "unseen")
    shown = f"<h3>What these rows show</h3><ul>{seen}</ul>" if seen else ""
    return shown + (
        f"<details><summary>What these rows cannot show</summary><ul>{hidden}</ul></details>" if hidden else ""
    )


def _line(line: str, certificate: Certificate) -> str:
    """A line of the certificate; of the verdict, what it comes to stands out."""
    if line != certificate.verdict:
        return words(line)
    first, colon, rest = line.partition(":")
    return f"<strong>{words(first + colon)}</strong>{words(rest)}"


def _fit(view: View, certificate: Certificate) -> str:
    """How the rows of the page and the certificate go together."""
    mine, its = view.outcomes.about, certificate.about
    notes = []
    if (data := its.get("data")) is not None:
        same = data == view.outcomes.data_hash()
        notes.append(
            "The numbers below are those of the rows that the certificate was made on."
            if same
            else "The numbers below are those of other rows than the certificate was made on: a fresh look."
        )
    shown = "".join(f'<p class="soft">{note}</p>' for note in notes)
    differ = [
        name
        for name in ("score", "labels", "small", "large", "prompt")
        if mine.get(name) is not None and its.get(name) is not None and mine[name] != its[name]
    ]
    if differ:
        shown += (
            f'<p class="warn">These outcomes are about another {words(", ".join(differ))} than the certificate: what '
            "it promises is not about them.</p>"
        )
    return shown


def _help(certificate: Certificate) -> str:
    """What would help a certificate that was refused."""
    shown = "".join(f"<li>{words(line)}</li>" for line in help_lines(certificate))
    return f"<h3>What would help</h3><ul>{shown}</ul>" if shown else ""


def _controls(view: View) -> str:
    """The slider, and what is promised where it stands."""
    last = view.steps - 1
    state = view.states[view.state[view.start]]
    buttons = "".join(f'<button type="button" data-step="{step}">{words(label)}</button>' for label, step in view.jumps)
    return (
        '<section class="stick" aria-label="Threshold"><div class="row"><label for="slider">Threshold</label>'
        f'<code id="threshold">{words(view.threshold(view.start))}</code>'
        f'<span id="state" class="state {state["kind"]}" role="status">{words(state["text"])}</span></div>'
        f'<input type="range" id="slider" min="0" max="{last}" step="1" value="{view.start}" autocomplete="off" '
        'aria-describedby="why">'
        '<div class="ends"><span>strict: all to the large model</span><span>lax: all local</span></div>'
        f'<p id="why" class="soft">{words(state["why"])}</p><div class="jumps">{buttons}</div>'
        "<noscript><p>Scripts are off: the page shows this one threshold.</p></noscript></section>"
    )


def _tile(name: str, big: str, small: Iterable[str]) -> str:
    lines = "".join(f'<dd class="small">{line}</dd>' for line in small)
    return f'<dl class="tile"><dt>{name}</dt><dd class="big">{big}</dd>{lines}</dl>'


def _span(name: str, content: str) -> str:
    return f'<span id="{name}">{content}</span>'


def _tiles(view: View, currency: Any) -> str:
    """The numbers at the slider."""
    count, at = view.tally, view.start
    accepted = int(count.accepted[at])
    share = accepted / count.n
    harms, gains, guessed = int(count.harms[at]), int(count.gains[at]), int(count.guessed[at])
    named = f"{100 * view.level:g}{SPACE}%"
    tiles = [
        _tile(
            "Answered locally",
            _span("coverage", percent(share)),
            [_span("coverage-rows", f"{whole(accepted)} of {whole(count.n)} inputs")],
        ),
        _tile(
            "Calls of the large model",
            _span("escalated", percent(1 - share)),
            [_span("escalated-rows", f"{whole(count.n - accepted)} of {whole(count.n)} inputs")],
        ),
    ]
    tiles += _accuracy_tile(view, named)
    gap = points((gains - harms) / count.n)
    between = f"{named}: {points(-view.loss_high[at])} to {points(-view.loss_low[at])} points"
    tiles.append(
        _tile(
            "Against the large model",
            _span("gain", gap) + '<span class="unit"> points</span>',
            [_span("gain-range", WORST if guessed else between)],
        )
    )
    note = f"{whole(guessed)} of the lost only for lack of gold" if guessed else ""
    tiles.append(
        _tile(
            "Inputs lost / won",
            f"{_span('harms', whole(harms))} / {_span('gains', whole(gains))}",
            ["against the large model alone", _span("guessed", note)],
        )
    )
    if count.cost is not None and count.large_cost is not None:
        now, all_large = float(count.cost[at]), count.large_cost
        saved = 1 - now / all_large if all_large else 0.0
        sign = "+" if saved < 0 else "\u2212"
        tiles.append(
            _tile(
                "Cost per 1,000 inputs" + (f", {text(currency, 12)}" if currency else ""),
                _span("cost", money(now)),
                [_span("cost-saved", f"large model alone {money(all_large)} ({sign}{percent(abs(saved), 0)})")],
            )
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _accuracy_tile(view: View, named: str) -> list[str]:
    """Accuracy at the slider, or how many labels it needs; nothing where there is neither."""
    count, at = view.tally, view.start
    if count.has_accuracy:
        alone = _span("large-accuracy", figure_words(count.large_level, view.large_accuracy))
        return [
            _tile(
                "Accuracy",
                _span("accuracy", percent(count.accuracy[at])),
                [
                    f"{named}: " + _span("accuracy-range", f"{percent(view.low[at])} to {percent(view.high[at])}"),
                    f"large model alone {alone}",
                ],
            )
        ]
    if count.levels is not None and count.large_level is not None:
        return [
            _tile(
                "Accuracy",
                NONE,
                [
                    _span("accuracy-needs", figure_words(count.levels.at(at))),
                    "large model alone " + _span("large-accuracy", figure_words(count.large_level)),
                ],
            )
        ]
    return []


def _pad(
    low: float, high: float, share: float = 0.06, *, bounds: tuple[float, float] = (-1e9, 1e9)
) -> tuple[float, float]:
    room = max(share * (high - low), 0.25)
    return max(bounds[0], low - room), min(bounds[1], high + room)


def _key(kind: str, label: str) -> str:
    mark = (
        f'<rect class="{kind}" x="0" y="0" width="30" height="10"/>'
        if kind in ("band", "certified")
        else f'<line class="line {kind}" x1="0" x2="30" y1="5" y2="5"/>'
    )
    return f'<li><svg viewBox="0 0 30 10" aria-hidden="true">{mark}</svg>{label}</li>'


def _quality(view: View) -> str:
    """The cost-quality curve."""
    count = view.tally
    y, low, high, large = view.quality()
    x = 100 * (1 - count.coverage)
    known = count.has_accuracy
    every = known and count.levels is None  # the oracle needs to know of each row who is right
    bends, best = oracle(view.rows) if every else (np.empty(0), np.empty(0))
    seen = [*low.tolist(), *high.tolist(), large, *(100 * best).tolist()]
    bounds = (0.0, 100.0) if known else (-100.0, 100.0)
    plot = Plot(
        "quality",
        "Quality against the share of inputs that reach the large model",
        x=(0.0, 100.0),
        y=_pad(min(seen), max(seen), bounds=bounds),
        x_label="inputs that reach the large model (escalation rate), %",
        y_label="accuracy, %" if known else "against the large model alone, percentage points",
        size=(1040, 400),
    )
    at = view.certified_step
    if at is not None:
        edge = float(x[at])
        plot.shade(edge, _certified_up_to(view, x), "certified")
        plot.upright(edge, *plot.y, "edge")
        anchor, shift = ("end", -6.0) if edge > 70 else ("start", 6.0)
        plot.text(edge, plot.y[0], "certified", anchor=anchor, shift=(shift, -8))
    plot.band(x, low, high, "cascade")
    plot.line([0, 100], [large, large], "large")
    plot.line([x[-1], x[0]], [y[-1], y[0]], "random")
    if every:
        plot.line(100 * bends, 100 * best, "oracle")
    plot.line(x, y, "cascade")
    plot.dot(float(x[-1]), float(y[-1]), "small")
    plot.text(float(x[-1]), float(y[-1]), "always small", shift=(10, 4))
    plot.dot(float(x[0]), float(y[0]), "large")
    name = "always large" if view.prompt == "plain" else _PRUNED
    plot.text(float(x[0]), float(y[0]), name, anchor="end", shift=(-10, -10))
    plot.moving()
    keys = [_key("cascade", "cascade"), _key("band", f"{100 * view.level:g}{SPACE}% interval at one threshold")]
    keys += [_key("large", "large model alone"), _key("random", "a coin at the same number of calls")]
    if every:
        keys.append(_key("oracle", "oracle: knows who is right (nobody does)"))
    if at is not None:
        keys.append(_key("certified", "certificate"))
    return (
        '<section class="card"><h2>Cost and quality</h2><p class="soft">Each point is one threshold. Left is cheap, up '
        "is good. Click or drag to move the threshold.</p>"
        f'{_gold_note(count)}<div class="chartbox">{plot.svg()}</div><ul class="legend">{"".join(keys)}</ul></section>'
    )


def _gold_note(count: Tally) -> str:
    """What the rows without gold do to the curve."""
    note = ""
    if not count.has_accuracy:
        missing = count.compared - count.known
        note = (
            f'<p class="soft">Gold is missing for {whole(missing)} rows, and the others do not tell how often the '
            "models are right; the difference from the large model needs gold only where the models differ.</p>"
        )
        if guessed := int(count.guessed.max()):
            note += (
                f'<p class="warn">On up to {whole(guessed)} rows the models differ and gold is missing: they count as '
                "lost, so this curve is the worst case. Labels for them lift it (<code>dsplus label</code>).</p>"
            )
    elif count.levels is not None:
        note = (
            f'<p class="soft">Gold is known for {whole(count.known)} of {whole(count.compared)} rows. Accuracy counts '
            "each by how it was chosen: rows on which the models agree, and rows on which they do not.</p>"
        )
    elif count.known < count.n:
        note = (
            f'<p class="soft">Accuracy over the {whole(count.known)} rows whose gold is known and on which the large '
            "model gave a label.</p>"
        )
    return note


def _certified_up_to(view: View, rates: Any) -> float:
    """The escalation rate of the strictest step that passed; all of it where the sequence began near the strict end."""
    sure = [s for s, kind in enumerate(view.state) if view.states[kind]["kind"] == "sure" and view.tally.accepted[s]]
    rate = float(rates[sure[0]])
    return 100.0 if view.prompt == "plain" and rate >= _STRICT_END else rate


def _reliability(view: View) -> str:
    """Confidence against accuracy."""
    found = reliability(view.outcomes, view.rows)
    head = '<section class="card"><h2>Does confidence mean what it says?</h2>'
    if found is None:
        reason = (
            "Nobody knows yet where the small model was right: that needs gold."
            if np.isnan(view.rows.right[0]).all()
            else "The score is no probability, and the table holds no probabilities: there is nothing to compare with "
            "accuracy. Thresholds work with any score."
        )
        return f'{head}<p class="soft">{reason}</p></section>'
    plot = Plot(
        "reliability",
        "Accuracy of the small model against its confidence",
        x=(0.0, 1.0),
        y=(0.0, 100.0),
        x_label=f"{found.what} of the small model",
        y_label="it is right, %",
        size=(520, 340),
    )
    plot.line([0, 1], [0, 100], "ideal")
    for item, low, high in zip(found.bins, found.low, found.high, strict=True):
        plot.upright(item.confidence, 100 * low, 100 * high, "interval")
        plot.dot(item.confidence, 100 * item.accuracy, "cascade", radius=4)
    off = _span("calibration-error", figure_words(found.error))
    error = f"Off by {off} on average (ECE)." if found.error.known else f"How far off it is on average (ECE): {off}."
    if not found.bins:
        note = "No dot can be shown: too few rows of like confidence are labelled."
        return f'{head}<p class="soft">{error} {note}</p></section>'
    rows = sum(item.n for item in found.bins)
    return (
        f'{head}<p class="soft">Each dot: about {whole(round(rows / len(found.bins)))} rows of like confidence. On the '
        "line, confidence is honest; above it, the small model is better than it says, below it, worse. "
        f"{error}</p>{plot.svg()}</section>"
    )


def _risk(view: View) -> str:
    """Errors among accepted rows against coverage."""
    head = '<section class="card"><h2>Errors among local answers</h2>'
    found = local_errors(view.rows, view.tally.thresholds)
    risk, at = found.value, view.start
    shown = ~np.isnan(risk)
    bare = percent(risk[at]) if shown[at] else NONE
    now = bare if found.rates is None else figure_words(found.rates.at(at))
    now = f"At the threshold above, wrong among the local answers: {_span('local-errors', now)}."
    area = ""
    if len(view.rows.names) == 1:
        aurc, e_aurc, auroc = (
            _span(name.replace("_", "-"), figure_words(view.outcomes.estimate(name, level=view.level)))
            for name in _AREAS
        )
        area = (
            f" Area under the curve (AURC): {aurc}; above a perfect order: {e_aurc}. It ranks right above wrong "
            f"(AUROC): {auroc}."
        )
    if not shown.any():
        nothing = "Nobody knows where the small model was right." if found.rates is None else now + area
        return f'{head}<p class="soft">{nothing}</p></section>'
    x, y = 100 * view.tally.coverage[shown], 100 * risk[shown]
    # The first few rows make a jagged start: the axis goes by what stands on a share of rows that tells something.
    settled = y[x >= min(2.0, float(x[-1]))]
    high = settled if found.rates is None else 100 * found.rates.high[shown]
    plot = Plot(
        "risk",
        "Errors of the small model among the inputs it answers, against coverage",
        x=(0.0, 100.0),
        y=(0.0, max(1.0, 1.08 * float(high.max()))),
        x_label="answered locally (coverage), %",
        y_label="local answers that are wrong, %",
        size=(520, 340),
    )
    if found.rates is not None:
        plot.band(x, 100 * found.rates.low[shown], high, "cascade")
    plot.line(x, np.minimum(y, plot.y[1]), "cascade")
    plot.moving()
    return (
        f'{head}<p class="soft">The small model by itself, the surest first: it should start low and rise. '
        f"{now}{area}</p>{plot.svg()}</section>"
    )


def _baselines(view: View) -> str:
    """Other ways to spend the money, and how good the order is in which inputs escalate."""
    certificate, count = view.certificate, view.tally
    lines: list[tuple[str, float, str, str, str]] = []
    if certificate is not None and certificate.baselines:
        for item in certificate.baselines:
            between = f"{percent(item.low)} to {percent(item.high)}"
            if item.needs_gold:
                between += f" (needs about {whole(item.needs_gold)} more labels)"
            accuracy = NONE if item.accuracy is None else percent(item.accuracy)
            gap = _gap(item.loss, item.loss_low, item.loss_high) if item.name != "always large" else NONE
            if _guessed(view, item.name):
                gap = NONE if item.name == "oracle" else f"at worst {points(-item.loss)}"
            lines.append((item.name, item.escalation_rate, accuracy, between, gap))
        source = "On the rows that the certificate was made on."
    else:
        if not count.has_accuracy:
            return ""
        if count.large_level is None:
            low, high = accuracy_interval(count.large, count.known, level=view.level)
        else:
            low, high = count.large_level.low, count.large_level.high
        lines.append(("always large", 1.0, percent(view.large_accuracy), f"{percent(low)} to {percent(high)}", NONE))
        ways = [("always small", view.steps - 1)]
        if view.prompt == "pruned":
            ways.insert(0, (_PRUNED, 0))
        for name, step in ways:
            between = f"{percent(view.low[step])} to {percent(view.high[step])}"
            gap = _gap(float(count.loss[step]), float(view.loss_low[step]), float(view.loss_high[step]))
            lines.append((name, 1 - float(count.coverage[step]), percent(count.accuracy[step]), between, gap))
        source = "On these rows."
        if count.levels is None:
            bends, best = oracle(view.rows)
            low, high = accuracy_interval(round(best[1] * count.known), count.known, level=view.level)
            between = f"{percent(low)} to {percent(high)}"
            lines.append(("oracle", float(bends[1]), percent(best[1]), between, points(best[1] - view.large_accuracy)))
            source += " The oracle knows who is right and asks the large model only where that helps."
    body = "".join(
        f'<tr{" class=best" if name == "cascade" else ""}><th scope="row">{words(name)}</th><td>{percent(rate)}</td>'
        f"<td>{accuracy}</td><td>{between}</td><td>{gap}</td></tr>"
        for name, rate, accuracy, between, gap in lines
    )
    heads = (
        "way",
        "calls of the large model",
        "accuracy",
        f"{100 * view.level:g}{SPACE}% interval",
        "against the large model, points",
    )
    return (
        f'<section class="card"><h2>Is a cascade worth it?</h2><p class="soft">{source}</p><div class="scroll"><table>'
        f"{_table_head(heads)}<tbody>{body}</tbody></table></div>{_deferral(view)}</section>"
    )


def _alternatives(view: View) -> str:
    """The certified thresholds that somebody may prefer, side by side; the default first."""
    certificate = view.certificate
    found = certificate.alternatives if certificate is not None else ()
    if certificate is None or not found:
        return ""
    head = _table_head(["", "threshold", "calls of the large model", "accuracy against the large model alone"])
    rows = "".join(
        f"<tr><td>{words(item.name)}</td><td>{words(threshold_words(item.thresholds))}</td>"
        f"<td>{percent(item.calls)}</td><td>{_gap(item.loss, item.loss_low, item.loss_high)}</td></tr>"
        for item in found
    )
    note = (
        "All of them passed, so the promise holds for each. The first is the default: it makes the fewest calls that "
        "the promise allows, and it alone is not chosen by its loss on these rows, so the others look better here than "
        "they will be."
    )
    if not certificate.error_cost:
        note += " Without a price of errors (<code>error_cost</code>) the last is the first."
    return (
        '<section class="card" aria-labelledby="alternatives"><h2 id="alternatives">What else is certified</h2>'
        f'<div class="scroll"><table>{head}<tbody>{rows}</tbody></table></div><p class="soft">{note}</p></section>'
    )


def _guessed(view: View, way: str) -> int:
    """Rows that count as lost in a baseline of the certificate only for lack of gold, as far as the page knows."""
    certificate, count = view.certificate, view.tally
    if certificate is None or way == "always large":
        return 0
    if way == "cascade":
        return certificate.unlabeled
    same = certificate.about.get("data") == view.outcomes.data_hash()
    return int(count.guessed[-1]) if same else 0


def _gap(loss: float, low: float, high: float) -> str:
    return f"{points(-loss)} ({points(-high)} to {points(-low)})"


def _deferral(view: View) -> str:
    """APGR, CPT and parity: how good the small model's order is, in hindsight."""
    outcomes, count = view.outcomes, view.tally
    barred = view.certificate is not None and view.certificate.never_local
    if not (count.has_accuracy or count.levels is not None) or len(view.rows.names) > 1 or barred:
        return ""
    draws = 200 if count.n <= _BOOTSTRAP_ROWS else 0
    kwargs: dict[str, Any] = {"prompt": view.prompt, "bootstrap": draws, "level": view.level}
    if view.certificate is not None:
        kwargs["unusable_large"] = view.certificate.unusable_large
    lines: list[tuple[str, str, str, str]] = []

    def between(low: float | None, high: float | None, shown: Any) -> str:
        return NONE if low is None or high is None else f"{shown(low)} to {shown(high)}"

    def plain(value: float) -> str:
        return f"{value:.3f}"

    with suppress(ValueError):  # the large model is no better: there is no gap to recover
        found = apgr(outcomes, **kwargs)
        meaning = "average share of the gap between the two models that is recovered; 0.5 is a coin"
        lines.append(("APGR", plain(found), between(found.low, found.high, plain), meaning))
    for share in (0.5, 0.8, 0.95):
        with suppress(ValueError):
            found = cpt(outcomes, share, **kwargs)
            meaning = f"calls that recover {share:.0%} of the gap; a coin needs {share:.0%}"
            lines.append((f"CPT({share:.0%})", percent(found), between(found.low, found.high, percent), meaning))
    with suppress(ValueError):
        parity = cost_at_parity(outcomes, **kwargs)
        meaning = "fewest calls at which the cascade is as right as the large model alone"
        lines.append(
            ("calls at parity", percent(parity.escalation_rate), between(parity.low, parity.high, percent), meaning)
        )
        if parity.cost_share is not None:
            ends = between(parity.cost_share_low, parity.cost_share_high, percent)
            meaning = "the same in money, the small side included; above 100 % it does not pay"
            lines.append(("cost at parity", percent(parity.cost_share), ends, meaning))
    if not lines:
        return ""
    body = "".join(
        f'<tr><th scope="row">{name}</th><td>{value}</td><td>{ends}</td><td class="left">{words(meaning)}</td></tr>'
        for name, value, ends, meaning in lines
    )
    heads = ("figure", "here", f"{100 * view.level:g}{SPACE}% interval (bootstrap)", "what it is")
    return (
        '<h3>How well it knows what to escalate</h3><p class="soft">On the rows of this page, in hindsight: good for '
        'comparing small models and scores, no promise.</p><div class="scroll"><table>'
        f"{_table_head(heads, left=(0, 3))}<tbody>{body}</tbody></table></div>"
    )


def _table_head(names: Sequence[str], *, sortable: bool = False, left: Sequence[int] = (0,)) -> str:
    cells = "".join(
        f'<th scope="col"{" class=left" if place in left else ""}>'
        + (f'<button type="button">{name}</button>' if sortable else name)
        + "</th>"
        for place, name in enumerate(names)
    )
    return f"<thead><tr>{cells}</tr></thead>"


_PARTS = {
    "classes": ("By class", "class", "The class is the true one."),
    "slices": ("By slice", "slice", ""),
}


def _parts(view: View, name: str) -> str:
    """The table by class or by slice."""
    found = view.parts[name]
    if not found:
        return ""
    title, column, note = _PARTS[name]
    if name == "classes" and view.class_column == "large":
        note = "The class is what the large model said, since gold is not known of all rows."
    certified = set(view.certificate.slices) if view.certificate is not None and name == "slices" else set()
    if certified:
        note += " The promise holds within: " + ", ".join(sorted(certified)) + "."
    note += (
        " All others without a promise: few rows make wide swings."
        if certified
        else " Without a promise: few rows make wide swings."
    )
    lines = []
    for place, part in enumerate(found):
        accepted, harms, gains, right = (part.begin[k] + int(part.change[k, : view.start + 1].sum()) for k in range(4))
        share = accepted / part.n
        gap = (gains - harms) / part.n
        kind = "bad" if gap < 0 else "good" if gap > 0 else ""
        lines.append(
            f'<tr data-part="{place}"><th scope="row">{text(part.name, 80)}</th><td>{whole(part.n)}</td>'
            f'<td><span>{percent(share)}</span><meter min="0" max="1" value="{share:.4f}" aria-hidden="true"></meter>'
            "</td>"
            f"<td>{_accuracy(part, right, view.start)}</td>"
            f"<td>{_large_accuracy(part)}</td>"
            f'<td>{whole(harms)}</td><td>{whole(gains)}</td><td><span class="{kind}">{points(gap)}</span></td></tr>'
        )
    heads = (column, "inputs", "answered locally", "accuracy", "large model alone", "lost", "won", "against it, points")
    return (
        f'<section class="card long"><h2>{title}</h2><p class="soft">{words(note.strip())} Click a heading to sort.</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{title}"><table id="{name}">'
        f"{_table_head(heads, sortable=True)}<tbody>{''.join(lines)}</tbody></table></div></section>"
    )


def _accuracy(part: Part, right: int, step: int) -> str:
    if part.levels is not None:
        return figure_words(part.levels.at(step))
    return percent(right / part.known) if part.known else NONE


def _large_accuracy(part: Part) -> str:
    if part.large_level is not None:
        return figure_words(part.large_level)
    return percent(part.large / part.known) if part.known else NONE


def _reasons(explain: Callable[[Any], Sequence[Mapping[str, Any]]], value: Any) -> str:
    """Why the small model was sure of an input, escaped; a dash where it cannot say."""
    try:
        found = explain(value)
    except Exception as error:  # noqa: BLE001 - a reason is no part of the evidence
        failure(error)
        return NONE
    return "; ".join(text(f"{one['what']} ({one['label']}, {one['weight']:.2f})", _ANSWER_LENGTH) for one in found)


def _lost(
    view: View,
    inputs: Mapping[str, Any] | None,
    explain: Callable[[Any], Sequence[Mapping[str, Any]]] | None,
    most: int,
) -> str:
    """The rows that would be lost."""
    names, outcomes = view.rows.names, view.outcomes
    found = lost_rows(view.rows, view.tally.thresholds)[:most]
    columns = [*(model_column(outcomes, name) for name in names), "large_pruned", "large", "gold"]
    said = {name: outcomes.values(name) if name in outcomes else [None] * len(outcomes) for name in ("id", *columns)}
    lines = []
    for item in found:
        answer = text(said[columns[item.who]][item.row], _ANSWER_LENGTH, none=NONE)
        if item.who == len(names):
            answer += ' <span class="soft">(large model, pruned prompt)</span>'
        elif len(names) > 1:
            answer += f' <span class="soft">({text(names[item.who], 60)})</span>'
        truth = text(said["gold"][item.row], _ANSWER_LENGTH, none="judged")
        if item.guessed:
            truth = '<span class="soft">unknown: counted as lost</span>'
        name = said["id"][item.row]
        cells = [
            f'<th scope="row">{text(name, 80)}</th>',
            f"<td>{item.confidence:.4f}</td>" if math.isfinite(item.confidence) else f"<td>{NONE}</td>",
            f'<td class="left word">{answer}</td>',
            f'<td class="left word">{text(said["large"][item.row], _ANSWER_LENGTH, none=NONE)}</td>',
            f'<td class="left word">{truth}</td>',
        ]
        if inputs is not None:
            value = inputs.get(str(name))
            cells.append(f'<td class="text">{text(value, _INPUT_LENGTH, none=NONE)}</td>')
            if explain is not None:
                cells.append(f'<td class="text">{_reasons(explain, value)}</td>')
        hidden = "" if item.first <= view.start < item.end else " hidden"
        lines.append(f'<tr data-from="{item.first}" data-to="{item.end}"{hidden}>{"".join(cells)}</tr>')
    heads = ["input", "confidence", "answer used", "large model", "gold", *(["text"] if inputs is not None else [])]
    heads += ["why it was sure"] if inputs is not None and explain is not None else []
    note = "" if inputs is not None else " The inputs themselves are not in this file."
    table = (
        '<div class="scroll" tabindex="0" role="region" aria-label="Inputs that would be lost"><table id="lost">'
        f"{_table_head(heads, left=(0, 2, 3, 4, 5, 6))}<tbody>{''.join(lines)}</tbody></table></div>"
        if lines
        else ""
    )
    harms = int(view.tally.harms[view.start])
    return (
        '<section class="card long"><h2>Inputs that would be lost</h2><p class="soft">The large model alone gets them '
        f"right, the cascade does not: the surest mistakes first.{note}</p>"
        f'<p><strong id="lost-count">{whole(harms)} at this threshold.</strong></p>{table}</section>'
    )


def _evidence(view: View) -> str:
    """Test, binding, steps."""
    certificate = view.certificate
    parts = []
    if certificate is not None:
        shown = {
            "status": certificate.status,
            "loses less than": loss_in_points(certificate.max_loss),
            "level": percent(certificate.level),
            "error probability spent": f"{certificate.alpha:.4g}",
            "p-value": f"{certificate.p_value:.4g}",
            "tested on": f"{whole(certificate.n)} {certificate.unit}s"
            + ("" if certificate.groups is None else f" in {whole(certificate.groups)} groups"),
            "replies of the large model that are no label": f"{whole(certificate.unusable)}, counted as "
            f"{certificate.unusable_large}",
            **(
                {"replies to the pruned prompt that are no label": f"{whole(certificate.unusable_pruned)}, wrong"}
                if certificate.prompt == "pruned"
                else {}
            ),
            "no reply of the large model": whole(certificate.unanswered),
            "escalated inputs get": f"the {certificate.prompt} prompt",
            "certification of this table": f"no. {certificate.certification}",
            "upper bound of the loss": NONE
            if certificate.loss_upper is None
            else f"{points(certificate.loss_upper, 2)} points",
            "id": certificate.id,
        }
        if certificate.never_local:
            shown["never answered locally"] = ", ".join(certificate.never_local)
        parts.append(_facts("The certificate", {k: text(v, 300) for k, v in shown.items()}))
        parts.append(_facts("What it is bound to", {k: fact(k, v) for k, v in certificate.about.items()}))
        parts.append(_steps(certificate))
    about = {name: fact(name, value) for name, value in view.outcomes.about.items()}
    parts.append(_facts("What these outcomes are about", about))
    inside = "".join(part for part in parts if part)
    nothing = "<p>The table says nothing about itself.</p>"
    return f'<section class="card long"><h2>Evidence</h2>{inside or nothing}</section>'


def _facts(title: str, facts: Mapping[str, str]) -> str:
    if not facts:
        return ""
    shown = "".join(f"<dt>{text(name, 80)}</dt><dd>{value}</dd>" for name, value in facts.items())
    return f'<h3>{title}</h3><dl class="facts">{shown}</dl>'


def _steps(certificate: Certificate) -> str:
    if not certificate.steps:
        return ""
    names = list(dict.fromkeys(name for step in certificate.steps for name in step.tests))
    lines = []
    for step in certificate.steps:
        verdict = "passed" if step.passed else "not tested" if step.p_value is None else "failed"
        tests = "".join(f"<td>{_p_value(step.tests.get(name))}</td>" for name in names)
        chosen = step.thresholds == certificate.thresholds
        kind = "best" if chosen else "" if step.p_value is not None else "out"
        lines.append(
            f'<tr class="{kind}"><th scope="row"><code>{words(threshold_words(step.thresholds, None))}</code></th>'
            f"<td>{percent(step.coverage)}</td><td>{whole(step.harms)}</td><td>{whole(step.gains)}</td>"
            f"<td>{_p_value(step)}</td>{tests}<td>{verdict}</td></tr>"
        )
    heads = ["threshold", "coverage", "lost", "won", "p", *(f"p, {text(name, 60)}" for name in names), "result"]
    return (
        "<details><summary>Every step of the test, from strict to lax</summary>"
        '<p class="soft">Each threshold was fixed before the labels were looked at; the test stops at the first that '
        'fails.</p><div class="scroll" tabindex="0" role="region" aria-label="Steps of the test"><table>'
        f"{_table_head(heads)}<tbody>{''.join(lines)}</tbody></table></div></details>"
    )


def _p_value(test: Step | TestResult | None) -> str:
    return NONE if test is None or test.p_value is None else f"{test.p_value:.3g}"


_GLOSSARY = {
    "small model": "the cheap local model that is asked first",
    "large model": "the model that costs money; alone, with its plain prompt, it is what everything is compared with",
    "confidence": "how sure the small model is of its answer",
    "threshold": "the small model's answer is used where its confidence is above it; else the large model is asked",
    "coverage": "share of inputs that the small model answers",
    "lost": "inputs that the large model alone gets right and the cascade does not; won: the other way round",
    "certificate": "a promise about new inputs like these, with a stated risk of being wrong; a number without one is "
    "hindsight",
}


def _foot() -> str:
    """Words."""
    shown = "".join(f"<dt>{name}</dt><dd>{meaning}</dd>" for name, meaning in _GLOSSARY.items())
    return (
        f'<footer><details><summary>Words</summary><dl class="facts">{shown}</dl></details>'
        "<p>Made by langchain-dsplus. This file needs no network and sends nothing.</p></footer>"
    )
