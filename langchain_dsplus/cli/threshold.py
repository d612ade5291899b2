"""`dsplus label`, `certify` and `report`: from a table of outcomes to a threshold with a promise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from langchain_dsplus._json import load_json
from langchain_dsplus.cli.options import (
    TABLES,
    GoldMap,
    IdOrPlace,
    OtherGold,
    TextColumn,
    UnknownGold,
    gold_rules,
    new_table,
    plain_errors,
    read_label_file,
    read_table,
    show,
    texts_by_id,
    to_be_labeled,
    write_table,
)
from langchain_dsplus.cli.serve import Host, label_page
from langchain_dsplus.cli.shunt import is_shunt, report_shunt

if TYPE_CHECKING:
    from langchain_dsplus.outcomes import Outcomes
    from langchain_dsplus.threshold.certificate import Certificate

NOT_CERTIFIED = 3
"""Exit code of `dsplus certify` where nothing could be promised; 0 is certified, 1 an error, 2 a wrong option."""


# --- certify ----------------------------------------------------------------------------------------------------------


def certify(
    outcomes: Annotated[
        Path,
        typer.Argument(
            help="Table of outcomes: .jsonl, .csv or .parquet. Its count of certifications is written back."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Certificate to write, JSON.")] = Path(
        "certificate.json"
    ),
    max_loss: Annotated[
        str, typer.Option(help="Accuracy that may be lost: '0.5 points', '0.5 %' or a share of inputs below .1.")
    ] = "0.5 points",
    level: Annotated[float, typer.Option(help="Confidence level.")] = 0.95,
    slice_: Annotated[
        list[str] | None,
        typer.Option(
            "--slice",
            help="The promise must hold there too: language=de, or language for each value. Repeat it for more.",
        ),
    ] = None,
    prompt: Annotated[Literal["plain", "pruned"], typer.Option(help="What escalated inputs are asked.")] = "plain",
    start: Annotated[
        float | None, typer.Option(help="Threshold to start at, found on other rows; needed with --prompt pruned.")
    ] = None,
    path: Annotated[
        Path | None,
        typer.Option(help="Several small models: JSON list of {name: threshold}, strict to lax, fixed on other rows."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Thresholds to test.")] = 50,
    unusable_large: Annotated[
        Literal["unknown", "wrong"],
        typer.Option(help="What a reply of the large model counts as that is no label; wrong: the small one may gain."),
    ] = "unknown",
    unit: Annotated[Literal["input", "group"], typer.Option(help="What the promise is per.")] = "input",
    never_local: Annotated[
        list[str] | None, typer.Option(help="Label that always escalates. Repeat it for more.")
    ] = None,
    class_floor: Annotated[
        str | None, typer.Option(help="What each class may lose at most, such as '10 points'; by default no promise.")
    ] = None,
    error_cost: Annotated[float, typer.Option(help="Price of one error, in the table's money.")] = 0.0,
    seed: Annotated[int, typer.Option(help="For the draw from each group.")] = 0,
    labels: Annotated[
        Path | None, typer.Option(help="Labels, one a line, where the table does not name them: a router wants them.")
    ] = None,
    about: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE to say what the table is about, such as score=max_probability; VALUE may be JSON."
        ),
    ] = None,
    gold_map: GoldMap = None,
    unknown_gold: UnknownGold = None,
    other_gold: OtherGold = None,
) -> None:
    """Find the laxest threshold at which little enough accuracy is lost, and write the promise as a certificate.

    Exit code 0: CERTIFIED. 3: NOT_CERTIFIED, and the output says what would help. 1: an error. 2: a wrong option.

    Each use of a table spends error probability, so it is counted in the table: the file is written back. So fill in
    the labels first (`dsplus label`).
    """
    with plain_errors():
        from langchain_dsplus.losses import parse_loss
        from langchain_dsplus.threshold.certify import certify as test

        parse_loss(max_loss, "--max-loss")
        facts = _about(about or ())
        if labels is not None:
            facts["labels"] = read_label_file(labels)
        table = read_table(outcomes, facts, gold_rules(gold_map, unknown_gold, other_gold))
        _check_certificate(output, outcomes)
        _check_labels(table, never_local or ())
        steps_of = None if path is None else _path(path)
        certificate = test(
            table,
            max_loss,
            level,
            path=steps_of,
            steps=steps,
            start=start,
            prompt=prompt,
            unusable_large=unusable_large,
            unit=unit,
            slices=tuple(slice_ or ()),
            never_local=tuple(never_local or ()),
            class_floor=class_floor,
            error_cost=error_cost,
            seed=seed,
        )
        write_table(table, outcomes)  # first: a promise whose cost was not written down would be cheaper the next time
        certificate.to_json(output)
        unknown = len(table.to_label(prompt=prompt, agreements=0))
    show(*_promise(certificate, outcomes, output, unknown))
    if not certificate.certified:
        raise typer.Exit(NOT_CERTIFIED)


def _check_certificate(output: Path, table: Path) -> None:
    """Refuse where the certificate could not be written: it would be paid for, and lost."""
    if output.resolve() == table.resolve():
        raise ValueError("--output is the table itself: name another file for the certificate")
    if output.suffix.lower() in TABLES:
        raise ValueError(f"{output}: a certificate is JSON: name a file that ends in .json")
    if output.exists():
        raise ValueError(
            f"{output} is there already, and may be a certificate in use: name another --output, or remove it"
        )
    if not output.absolute().parent.is_dir():
        raise ValueError(f"{output}: there is no such folder")


def _check_labels(table: Outcomes, never_local: Sequence[str]) -> None:
    """Refuse labels that are not those of the table: nothing could be certified, and it would count."""
    known = table.about.get("labels")
    if known is None:
        return
    listed = {str(label) for item in (known.values() if isinstance(known, Mapping) else [known]) for label in item}
    if unknown := sorted(set(never_local) - listed):
        raise ValueError(f"--never-local {', '.join(unknown)}: not one of the labels that the table is about")
    for name in table.small_names or [""]:
        column = f"small.{name}" if name else "small"
        if column in table and len(table) and not table.valid(column).any():
            raise ValueError(
                f"no row's {column!r} is one of the labels that the table is about: are they those of another task?"
            )


def _about(pairs: Sequence[str]) -> dict[str, Any]:
    from langchain_dsplus.report.words import has_secret

    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or name in ("certifications", "data"):
            raise ValueError("--about takes NAME=VALUE, and neither `certifications` nor `data`")
        if has_secret(name, value):
            raise ValueError(
                "--about is written into the table and the certificate, and one of these looks like a key or a password"
            )
        try:
            found[name] = load_json(value)
        except ValueError:
            found[name] = value
    return found


def _path(path: Path) -> list[dict[str, float]]:
    try:
        found = load_json(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(step, dict) for step in found):
        raise ValueError(f"{path} must hold a JSON list of objects from a small model's name to its threshold")
    return [{name: math.inf if value is None else value for name, value in step.items()} for step in found]


def _promise(certificate: Certificate, outcomes: Path, output: Path, unknown: int) -> Iterator[Any]:
    """What is shown of a certificate; `unknown`: disagreements without gold, in the table."""
    from rich.panel import Panel
    from rich.text import Text

    from langchain_dsplus.losses import signed_points
    from langchain_dsplus.report.words import help_lines

    losing = bool(certificate.losing_classes)
    style = "green" if certificate.certified and not losing else "yellow"
    title = f"{certificate.status}, but not for every class" if losing else certificate.status
    yield Panel(Text(certificate.text), title=title, border_style=style, expand=False)
    table = new_table(
        "On the same rows", "way", "calls of the large model", "accuracy", "against the large model, points"
    )
    for item in certificate.baselines:
        accuracy = f"needs gold (about {item.needs_gold:,} labels)" if item.needs_gold else "needs gold"
        if item.accuracy is not None:
            accuracy = f"{item.accuracy:.1%} ({item.low:.1%} to {item.high:.1%})"
        guessed = certificate.unlabeled if item.name == "cascade" else 0 if item.name == "always large" else unknown
        gap = signed_points(-item.loss)
        if guessed:  # each counts as lost
            gap = "needs gold" if item.name == "oracle" else f"at worst {gap}"
        table.add_row(
            item.name, f"{item.escalation_rate:.1%}", accuracy, gap, style="bold" if item.name == "cascade" else ""
        )
    yield table
    if lines := help_lines(certificate):
        yield "What would help:"
        yield from (f"  - {line}" for line in lines)
    if unknown:
        yield to_be_labeled(unknown, outcomes)
    if missing := [name for name in ("score", "labels") if certificate.about.get(name) is None]:
        named = " and ".join(f"`{name}`" for name in missing)
        bind = ", ".join(f"{name}=..." for name in missing)
        if certificate.certified:
            yield (
                f"The table does not say which {named} it is about, and a router wants to know: "
                f"Certificate.from_json({str(output)!r}).bind({bind}). The next time: --about score=..., --labels FILE."
            )
    times = "once" if certificate.certification == 1 else f"{certificate.certification} times"
    yield f"Certificate: {output}. {outcomes} now says that it was used {times} to certify."
    yield f"Look at it: dsplus report {outcomes} --certificate {output} -o report.html"


# --- label ------------------------------------------------------------------------------------------------------------


def label(
    outcomes: Annotated[Path, typer.Argument(help="Table of outcomes: .jsonl, .csv or .parquet; or a shunt's folder.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write for a person to fill in: .csv or .jsonl.")
    ] = Path("to_label.csv"),
    read: Annotated[
        Path | None,
        typer.Option(help="The file that was filled in: its labels go into the table; nothing else is done."),
    ] = None,
    max_rows: Annotated[int | None, typer.Option(min=1, help="Only so many rows, drawn at random.")] = None,
    agreements: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Share of the rows on which the models agree to label, too, at random."),
    ] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Of the random order.")] = 0,
    inputs: Annotated[
        Path | None, typer.Option(help="Data set with the texts, to be shown beside the answers.")
    ] = None,
    text: TextColumn = "text",
    id_: IdOrPlace = "id",
    prompt: Annotated[
        Literal["plain", "pruned"],
        typer.Option(help="With pruned, also the rows where that prompt changed the answer."),
    ] = "plain",
    gold_map: GoldMap = None,
    unknown_gold: UnknownGold = None,
    other_gold: OtherGold = None,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Of a shunt's page; 0 takes a free one.")] = 0,
    open_: Annotated[bool, typer.Option("--open", help="Open a shunt's page in the browser.")] = False,
) -> None:
    """Write the rows whose truth is worth finding out to a file; with --read, take the labels back into the table.

    Of a shunt's folder it serves a page instead, on which one or several people label one disagreement at a time, with
    the keys 1 to 9; what they say is in the shunt's store at once. Only --host, --port and --open matter then.

    These are the rows where the models disagree and gold is missing: until somebody says what is true, they count as
    lost. Elsewhere the truth changes no loss; a random share of those rows tells how often each model is right. The
    file is in random order: fill it in from the top, as far as you get.
    """
    with plain_errors():
        if outcomes.is_dir():
            label_page(outcomes, host, port, browse=open_)
            return
        rules = gold_rules(gold_map, unknown_gold, other_gold)
        table = read_table(outcomes, rules=rules)
        if read is not None:
            labeled = table.with_gold(read, **rules)
            known, before = (sum(value is not None for value in one.values("gold")) for one in (labeled, table))
            left = len(labeled.to_label(prompt=prompt, agreements=0))
            write_table(labeled, outcomes)
            typer.echo(f"{known - before:,} labels are new in {outcomes}; {left:,} disagreements are left without one.")
            typer.echo(f"Next: dsplus certify {outcomes} -o certificate.json")
            return
        texts = None if inputs is None else texts_by_id(inputs, text, id_)
        rows = table.to_label(output, max_rows=max_rows, agreements=agreements, seed=seed, inputs=texts, prompt=prompt)
    typer.echo(f"{output}: {len(rows):,} of {len(table):,} rows to look at. Fill in the column `gold`.")
    typer.echo(f"Then: dsplus label {outcomes} --read {output}")


# --- report -----------------------------------------------------------------------------------------------------------


def report(
    outcomes: Annotated[Path, typer.Argument(help="Table of outcomes: .jsonl, .csv or .parquet; or a shunt's folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Page to write.")] = Path("report.html"),
    certificate: Annotated[
        Path | None, typer.Option("--certificate", "-c", help="Certificate of `dsplus certify`.")
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(help="Data set with the texts, to show those that would be lost. They are then in the page."),
    ] = None,
    text: TextColumn = "text",
    id_: IdOrPlace = "id",
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "What may stay local",
    prompt: Annotated[
        Literal["plain", "pruned"] | None,
        typer.Option(help="What escalated inputs are asked, where there is no certificate."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    gold_map: GoldMap = None,
    unknown_gold: UnknownGold = None,
    other_gold: OtherGold = None,
) -> None:
    """Write one HTML page that shows what each threshold gives; it needs no network, and nothing leaves the machine."""
    with plain_errors():
        from langchain_dsplus.report import write_report
        from langchain_dsplus.threshold.certificate import Certificate

        if is_shunt(outcomes):
            typer.echo(f"Written: {report_shunt(outcomes, output)}")
            return
        table = read_table(outcomes, rules=gold_rules(gold_map, unknown_gold, other_gold))
        promise = None if certificate is None else Certificate.from_json(certificate)
        texts = None
        if inputs is not None:
            texts = texts_by_id(inputs, text, id_)
        written = write_report(output, table, promise, inputs=texts, title=title, prompt=prompt)
    typer.echo(f"Written: {written} ({written.stat().st_size / 1e3:,.0f} kB)")
    if open_:
        import webbrowser

        webbrowser.open(written.resolve().as_uri())
