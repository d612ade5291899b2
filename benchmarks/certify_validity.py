"""How often a certificate is wrong: thousands of certify splits of streams whose true loss is known.

A certificate is wrong if the true loss at its threshold exceeds `max_loss`; at level 95 % that may happen in 5 % of
splits. Beside it: `naive`, the laxest threshold whose loss on the split keeps to `max_loss`; `any step`, the same exact
test without the fixed sequence; and for groups the exact test as if each row stood alone.
"""

from __future__ import annotations

import math
from typing import Any

from benchmarks import streams
from benchmarks.harness import Context, Figures, Table, number

SIZES = (1000, 2000, 5000)
FLOOR, OVERALL = 0.10, 0.04
FLOOR_SIZES = (1000,)


def share(key: str, hits: int, runs: int) -> Figures:
    """A share between 0 and 1 with its 95 % Clopper-Pearson interval."""
    from langchain_dsplus.threshold.curves import accuracy_interval

    low, high = accuracy_interval(hits, runs)
    return {key: hits / runs, f"{key}.low": low, f"{key}.high": high}


def measure(context: Context, stream: streams.Stream, n: int, runs: int, asked: int) -> Figures:
    """One stream, one size."""
    import numpy as np

    rng = np.random.default_rng(context.random(f"{stream.name}.{n}").getrandbits(64))
    wrong = {"violations": 0, "naive_violations": 0, "any_step_violations": 0, "rows_violations": 0}
    certified, coverage, per_group = 0, 0.0, 0
    grouped = stream.name in {other.name for other in streams.GROUPED}
    for run_number in range(runs):
        sample = stream.draw(rng, n)
        found = streams.follow(sample)
        counts = {"violations": streams.certified_step(sample, found, stream.max_loss)}
        loss = (found.harms - found.gains) / found.n
        counts["naive_violations"] = streams.last(loss <= stream.max_loss + 1e-12)
        if grouped:
            rows = _rows_alone(found, stream.max_loss)
            counts["rows_violations"] = streams.leading(rows)
        else:
            passed = streams.passing(found.harms, found.gains, found.n, stream.max_loss)
            counts["any_step_violations"] = streams.last(passed)
        for kind, count in counts.items():
            wrong[kind] += bool(stream.truth(streams.threshold_after(found, count)) > stream.max_loss)
        mine = streams.threshold_after(found, counts["violations"])
        certified += counts["violations"] > 0
        coverage += float((sample.scores > mine).mean())
        if run_number < asked:
            theirs = streams.by_certify(sample, stream.max_loss).threshold
            if theirs != mine:
                msg = f"certify says {theirs}, its parts say {mine}: {stream.name}, n = {n}, run {run_number}"
                raise AssertionError(msg)
            if stream.name == "customers":
                per_group += streams.by_certify(sample, stream.max_loss, unit="group").status == "CERTIFIED"
    unused = "any_step_violations" if grouped else "rows_violations"
    figures: Figures = {"certified": certified / runs, "coverage": coverage / runs, "max_loss": stream.max_loss}
    for kind, hits in wrong.items():
        if kind != unused:
            figures |= share(kind, hits, runs)
    if stream.name == "customers":
        figures |= share("group_certified", per_group, asked)
    return {f"{stream.name}.{n}.{key}": value for key, value in figures.items()}


def _rows_alone(found: streams.Steps, max_loss: float) -> Any:
    """Whether each step passes if every row stands alone. The number of rows differs from sample to sample."""
    import numpy as np

    # A critical value takes half a second to find; rounded to hundreds of rows it serves them all.
    n = max(100, round(found.n, -2))
    return np.asarray(streams.tango_score(found.harms, found.gains, found.n, max_loss)) <= streams.critical_value(
        n, max_loss, streams.ALPHA
    )


def class_floor(context: Context, n: int, runs: int) -> Figures:
    """`certify(class_floor=)` where one class of ten loses a hair more than the floor, however strict the threshold.

    Its rows are the surest ones and equally sure, so that any threshold accepts all of them, and the small model harms
    them under every other label in turn, so that no one label can be kept from answering for it. Wrong: the class is
    among those that the promise names, and loses more than the floor with the labels that may be answered.
    """
    import numpy as np

    from langchain_dsplus import Outcomes, certify

    rng = np.random.default_rng(context.random(f"class_floor.{n}").getrandbits(64))
    labels = [f"c{place}" for place in range(10)]
    harm, gain = 1.02 * FLOOR + 0.05, 0.05
    wrong = certified = covered = naive = 0
    for _ in range(runs):
        true = rng.integers(0, 10, n)
        mine = true == 0
        sure = np.where(mine, 0.95, 0.9 * rng.random(n))
        draw = rng.random(n)
        # The others win and lose alike, more so where the small model is unsure.
        lost = np.where(mine, draw < harm, draw < 0.04 * (1.0 - sure))
        won = np.where(mine, draw > 1.0 - gain, draw > 1.0 - 0.04 * (1.0 - sure))
        other = np.where(mine, rng.integers(1, 10, n), (true + 1) % 10)
        table = Outcomes(
            {
                "small": [labels[place] for place in np.where(lost, other, true)],
                "confidence": sure.tolist(),
                "large": [labels[place] for place in np.where(won, other, true)],
                "gold": [labels[place] for place in true],
            },
            about={"labels": labels},
        )
        made = certify(table, f"{100 * OVERALL:g} points", class_floor=f"{100 * FLOOR:g} points")
        loss = (lost[mine].sum() - won[mine].sum()) / max(int(mine.sum()), 1)
        naive += bool(loss <= FLOOR)
        if not made.certified or made.class_floor is None:
            continue
        certified += 1
        named = labels[0] in made.class_floor.covered
        covered += named
        # What is kept from answering harms nobody.
        barred = sum(label in made.class_floor.kept for label in labels[1:]) / 9.0
        kept_own = 0.0 if labels[0] in made.class_floor.kept else 1.0
        wrong += named and (harm * (1.0 - barred) - gain * kept_own) > FLOOR
    return {
        **share(f"class_floor.{n}.violations", wrong, runs),
        **share(f"class_floor.{n}.naive_violations", naive, runs),
        f"class_floor.{n}.certified": certified / runs,
        f"class_floor.{n}.covered": covered / runs,
    }


def run(context: Context) -> Figures:
    runs, asked = context.pick(3000, 100), context.pick(20, 1)
    figures: Figures = {"runs": runs, "asked": asked * len(SIZES) * len(streams.SINGLE + streams.GROUPED)}
    for stream in streams.SINGLE + streams.GROUPED:
        with context.progress(stream.title, len(SIZES)) as advance:
            for n in SIZES:
                figures |= measure(context, stream, n, runs, asked)
                advance(1)
    floor_runs = context.pick(1000, 20)
    figures["class_floor.runs"] = floor_runs
    with context.progress("a floor under the classes", len(FLOOR_SIZES)) as advance:
        for n in FLOOR_SIZES:
            figures |= class_floor(context, n, floor_runs)
            advance(1)
    for end in ("", ".low", ".high"):
        figures[f"worst{end}"] = max(
            figures[f"{s.name}.{n}.violations{end}"] for s in streams.SINGLE + streams.GROUPED for n in SIZES
        )
    return figures


def percent(figures: Figures, key: str) -> str:
    """A share with its interval, in percent."""
    if key not in figures:
        return "-"
    value, low, high = (100 * figures[name] for name in (key, f"{key}.low", f"{key}.high"))
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def recheck(context: Context, figures: Figures) -> Figures:
    """The flat-loss stream at its smallest size; that `certify` itself says the same is for the run."""
    return measure(context, streams.FLAT_LOSS, SIZES[0], int(figures["runs"]), 0)


def tables(figures: Figures) -> list[Table]:
    rows = []
    for stream in streams.SINGLE + streams.GROUPED:
        for n in SIZES:
            key = f"{stream.name}.{n}"
            if f"{key}.violations" not in figures:
                continue
            other = "any_step_violations" if stream in streams.SINGLE else "rows_violations"
            rows.append(
                [
                    f"{stream.title}, {100 * stream.max_loss:g} points",
                    f"{n:,}",
                    percent(figures, f"{key}.violations"),
                    percent(figures, f"{key}.naive_violations"),
                    percent(figures, f"{key}.{other}"),
                    f"{100 * figures[f'{key}.certified']:.0f}",
                    f"{100 * figures[f'{key}.coverage']:.0f}",
                ]
            )
    per_group = max((figures.get(f"customers.{n}.group_certified", -math.inf) for n in SIZES), default=-math.inf)
    note = (
        f"{number(figures, 'runs', 0)} certify splits a row; in brackets the 95 % Monte Carlo interval (Clopper-"
        "Pearson). Wrong: the true loss at the threshold exceeds `max_loss`; at most 5 % are promised. `naive`: the "
        "laxest threshold whose loss on the split keeps to it. Then, without groups: any step that passes, without the "
        "fixed sequence; with groups: the exact test as if each row stood alone. `certify` itself was asked "
        f"on {number(figures, 'asked', 0)} of the splits and said the same each time."
    )
    if math.isfinite(per_group):
        note += (
            f" The 30 customers with `unit='group'`, a promise per customer: certified in up to {100 * per_group:.0f} "
            "% of splits, though 1.5 points are lost per input."
        )
    worst = []
    for stream in streams.SINGLE + streams.GROUPED:
        keys = [f"{stream.name}.{n}" for n in SIZES if f"{stream.name}.{n}.violations" in figures]
        if keys:
            wrong, naive = (
                max((f"{key}.{what}" for key in keys), key=figures.__getitem__)
                for what in ("violations", "naive_violations")
            )
            title = f"{stream.title}, {100 * stream.max_loss:g} points"
            worst.append([title, percent(figures, wrong), percent(figures, naive)])
    return [
        Table(
            "certify_validity.worst",
            "Wrong, %: the worst of three sample sizes",
            ["stream, promise", "certify", "best threshold on the same rows"],
            worst,
            f"{number(figures, 'runs', 0)} simulated certify splits for each size; in brackets the 95 % Monte Carlo "
            "interval.",
        ),
        Table(
            "certify_validity.all",
            "Certificates that were wrong, %",
            ["stream, promise", "n", "certify", "naive", "any step / row by row", "certified, %", "coverage, %"],
            rows,
            note,
        ),
        Table(
            "certify_validity.class_floor",
            "A floor under the classes: promises that were wrong, %",
            [
                "n",
                "certify",
                "loss of the class on the same rows at most the floor",
                "certified, %",
                "names the class, %",
            ],
            [
                [
                    f"{n:,}",
                    percent(figures, f"class_floor.{n}.violations"),
                    percent(figures, f"class_floor.{n}.naive_violations"),
                    *(f"{100 * figures[f'class_floor.{n}.{what}']:.0f}" for what in ("certified", "covered")),
                ]
                for n in FLOOR_SIZES
                if f"class_floor.{n}.violations" in figures
            ],
            f"{number(figures, 'class_floor.runs', 0)} simulated tables, each with `class_floor='10 points'`. One "
            "class of ten loses 10.2 points of its rows, the surest ones, at every threshold; where it is named, 5 % "
            "may be wrong at most.",
        ),
    ]
