"""`dsplus distil`, `status`, `promote` and `rollback`: a better small model from the large one's answers, safely."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_dsplus._json import load_json
from langchain_dsplus.cli.options import (
    ApiKeyEnv,
    BaseUrl,
    Concurrency,
    Currency,
    GoldMap,
    MaxCost,
    OtherGold,
    PriceInput,
    PriceOutput,
    Trusted,
    UnknownGold,
    Yes,
    cost_estimate,
    gold_rules,
    large_chain,
    load_options,
    new_table,
    plain_errors,
    price_of,
    quoted,
    read_rows,
    read_table,
    show,
    texts_by_id,
)
from langchain_dsplus.cli.settings import SettingsFile
from langchain_dsplus.cli.shunt import is_shunt, show_shunt

if TYPE_CHECKING:
    from rich.table import Table

    from langchain_dsplus.costs.prices import Price
    from langchain_dsplus.learning.distiller import DistillerResult
    from langchain_dsplus.learning.material import Material
    from langchain_dsplus.registry.records import Gate, RegistryStatus
    from langchain_dsplus.registry.registry import ModelRegistry
    from langchain_dsplus.small_models.base import SmallModel
    from langchain_dsplus.threshold.certificate import Certificate

KEPT_ASIDE = 3
"""Exit code where a candidate may not go live; 0 is fine, 1 an error, 2 a wrong option."""

_CLASSES_SHOWN = 5
_EVENTS_SHOWN = 8

_Registry = Annotated[Path, typer.Argument(help="Folder of the model registry.")]
_Text = Annotated[str, typer.Option(help="Column, or key, of the texts.")]
_Id = Annotated[str, typer.Option("--id", help="Column of the ids; may be missing.")]


# --- distil ---------------------------------------------------------------------------------------------------------


def distil(
    registry: _Registry,
    gold: Annotated[Path, typer.Option(help="Rows with a text and its true label: .csv, .jsonl or .parquet.")],
    start: Annotated[
        Path | None,
        typer.Option(
            help="Where there is no registry yet: folder of a saved small model or router, its first version."
        ),
    ] = None,
    gate: Annotated[
        Path | None, typer.Option(help="Gold rows that judge the candidate; by default a part of --gold.")
    ] = None,
    gate_share: Annotated[
        float, typer.Option(help="Share of --gold that judges and never trains, always the same rows.")
    ] = 0.5,
    data: Annotated[
        Path | None, typer.Option(help="Rows with texts, and the large model's answers where it was asked.")
    ] = None,
    outcomes: Annotated[
        Path | None, typer.Option(help="Table of outcomes of the rows of --data: what the large model said, by id.")
    ] = None,
    traces: Annotated[str | None, typer.Option(help="URL of a trace store, or the .jsonl file of a recorder.")] = None,
    router: Annotated[str | None, typer.Option(help="The router's name, where the traces are of several.")] = None,
    ask: Annotated[
        str | None, typer.Option(help="Name of a large model to ask about rows without an answer; see --calls.")
    ] = None,
    calls: Annotated[int, typer.Option(min=1, help="How many to ask about, drawn at random.")] = 200,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = "OPENAI_API_KEY",
    prompt: Annotated[Path | None, typer.Option(help="Prompt, as for `dsplus collect`.")] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="Where answers are kept as they come, to resume; by default in the registry."),
    ] = None,
    max_cost: MaxCost = None,
    price_input: PriceInput = None,
    price_output: PriceOutput = None,
    currency: Currency = "USD",
    concurrency: Concurrency = 8,
    text: _Text = "text",
    large: Annotated[
        str, typer.Option(help="Column of the large model's answers in --data; may be missing.")
    ] = "large",
    gold_column: Annotated[str, typer.Option(help="Column of the truth.")] = "gold",
    id_: _Id = "id",
    unbiased: Annotated[
        bool, typer.Option("--unbiased", help="The answered rows of --data were not chosen for being hard.")
    ] = False,
    teacher: Annotated[str | None, typer.Option(help="Who answered, for the record; by default --ask.")] = None,
    max_loss: Annotated[
        str, typer.Option(help="Loss on what the old model answered that the gate must exclude: '2 points', '2 %'.")
    ] = "2 points",
    level: Annotated[float, typer.Option(help="Confidence level of the gate.")] = 0.95,
    max_calibration_error: Annotated[float, typer.Option(help="Rise of the calibration error that is allowed.")] = 0.02,
    old_threshold: Annotated[
        float | None, typer.Option(help="Threshold that is live; by default that of the certificate in force.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    trusted: Trusted = None,
    yes: Yes = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    gold_map: GoldMap = None,
    unknown_gold: UnknownGold = None,
    other_gold: OtherGold = None,
    settings: SettingsFile = None,
) -> None:
    """Train a candidate on the large model's answers and gold rows, and let it pass the gate or keep it aside.

    What is live does not change: `dsplus promote` does that.

    Exit code 0: it may be promoted. 3: it is kept aside, and the output says why. 1: an error. 2: a wrong option.
    """
    del settings  # it has set the defaults
    with plain_errors():
        from langchain_dsplus.learning.distiller import Distiller
        from langchain_dsplus.learning.material import Material
        from langchain_dsplus.losses import parse_loss

        parse_loss(max_loss, "--max-loss")  # before anything is paid for
        found = _open(registry, trusted)
        _check_sources(data, outcomes, traces)
        rules = gold_rules(gold_map, unknown_gold, other_gold)
        rows, others = _rows(gold, text, gold_column), None if gate is None else _rows(gate, text, gold_column)
        begun = None if found.exists else _first(start, trusted)
        model = begun[0] if begun is not None else found.load()
        gold_rows = _labeled(rows, model, rules, gold, gold_column)
        judges = None if gate is None or others is None else _labeled(others, model, rules, gate, gold_column)
        material = Material()
        if data is not None:
            said = None if outcomes is None else _said(outcomes, rules)
            material.add_rows(
                read_rows(data, None), text=text, large=large, gold=gold_column, id_=id_, answers=said, fair=unbiased
            )
        if traces is not None:
            material.add_traces(_trace_rows(traces), _reader(model), text=text, router=router)
        unknown = _keep_known(material, model, rules, data or traces, gold_column)
        _begin(found, begun, start)
        train, kept = (gold_rows, judges) if judges is not None else found.split(gold_rows, gate_share)
        apart = {value for value, _ in kept}
        train = [row for row in [*train, *material.gold] if row[0] not in apart]
        material = material.without(apart)
        if ask is not None:
            teacher = teacher or ask
            price = price_of(ask, base_url, price_input, price_output, currency, max_cost)
            chain = large_chain(ask, base_url, api_key_env, prompt, model.labels, text, [{text: ""}])
            file = answers or found.path / "answers.jsonl"
            _ask(
                model, material, chain, calls, file, price, name=ask, text=text, max_cost=max_cost,
                concurrency=concurrency, seed=seed, yes=yes, quiet=quiet,
            )  # fmt: skip
        with _working("Training", quiet):
            result = Distiller(model, seed=seed).distil(
                train,
                material.large,
                audits=material.audits,
                unlabeled=material.unlabeled,
                other_gold=rules["other_gold"],
            )
        show(_learned(result, material, unknown))
        trained_on = [*train, *material.texts]
        with _working("Writing the candidate", quiet):
            version = found.add(result.model, trained_on=trained_on, ids=material.ids, teacher=teacher, seed=seed)
        fresh = _fresh(found, kept, version.number)
        with _working("The gate", quiet):
            judged = found.gate(
                version.number, fresh, old_threshold=old_threshold, max_loss=max_loss, level=level,
                max_calibration_error=max_calibration_error, other_gold=rules["other_gold"],
            )  # fmt: skip
        show(*_verdict(judged, registry))
    if not judged.report.promoted:
        raise typer.Exit(KEPT_ASIDE)


def _begin(found: ModelRegistry, first: tuple[SmallModel, Certificate | None] | None, start: Path | None) -> None:
    """Make the first version live, where there is no registry yet."""
    if first is not None:
        found.start(first[0], certificate=first[1], note=f"from {start}")
        show(f"Version 1 of {found.path} is live: {start}.")
    elif start is not None:
        show(f"{found.path} is there already: --start is not looked at.")


def _fresh(found: ModelRegistry, rows: list[Any], version: int) -> list[Any]:
    """The rows of the gate that trained no version."""
    fresh = found.fresh(rows, version)
    if len(fresh) < len(rows):
        show(f"{len(rows) - len(fresh):,} rows of the gate had trained a version, and are left out.")
    return fresh


def _check_sources(data: Path | None, outcomes: Path | None, traces: str | None) -> None:
    if outcomes is not None and data is None:
        raise ValueError("--outcomes holds no texts: pass the rows that it is about as --data")
    if data is None and traces is None:
        raise ValueError("pass rows to learn from: --data, --traces, or both")


def _keep_known(material: Material, model: SmallModel, rules: Any, where: Any, column: str) -> int:
    """Read the gold in what is learned from; rows of classes that the model does not offer are dropped, and counted."""
    told = _labeled(material.gold, model, rules, where, column) if material.gold else []
    material.gold = [row for row in told if row[1] in model.label_set]
    return len(told) - len(material.gold)


def _open(path: Path, trusted: Sequence[str] | None) -> ModelRegistry:
    from langchain_dsplus.registry.registry import ModelRegistry

    return ModelRegistry(path, options=load_options(trusted))


def _existing(path: Path, trusted: Sequence[str] | None = None) -> ModelRegistry:
    found = _open(path, trusted)
    if not found.exists:
        raise ValueError(
            f"{path} is neither a shunt (`DataShunt(..., folder={str(path)!r})` makes one) nor a model registry "
            f"(`dsplus distil {quoted(path)} --start FOLDER ...` makes one)"
        )
    return found


def _first(start: Path | None, trusted: Sequence[str] | None) -> tuple[SmallModel, Certificate | None]:
    """The first version: a saved small model, or the only one of a saved router, with its certificate."""
    from langchain_dsplus.routing.persistence import load_any_small_model

    if start is None:
        raise ValueError("there is no registry yet: name the folder of a saved small model or router with --start")
    return load_any_small_model(start, load_options(trusted))


def _rows(path: Path, text: str, gold: str) -> list[tuple[str, Any]]:
    """Texts and their gold, as it came."""
    rows = read_rows(path, None)
    for column in (text, gold):
        if not any(column in row for row in rows):
            raise ValueError(
                f"{path} has no column {column!r}: name it with --{'text' if column == text else 'gold-column'}"
            )
    return [(str(row[text]), row.get(gold)) for row in rows if row.get(text) is not None]


def _labeled(
    rows: Sequence[tuple[str, Any]], model: SmallModel, rules: Mapping[str, Any], where: Path | str | None, column: str
) -> list[tuple[str, str | None]]:
    """The rows with gold, by the one rule for it: None where somebody wrote that nobody knows."""
    from langchain_dsplus.outcomes.cells import missing
    from langchain_dsplus.outcomes.gold import GoldRules, read_labels

    given = [(text, gold) for text, gold in rows if not missing(gold)]
    told = read_labels(
        [gold for _, gold in given], model.labels, GoldRules.of(**rules), where=f"{where}: ", name=column
    )
    if rows and not any(label is not None for label in told):
        raise ValueError(f"{where}: no row has both a text and a true label")
    return [(text, label) for (text, _), label in zip(given, told, strict=True)]


def _said(path: Path, rules: Mapping[str, Any]) -> dict[str, Any]:
    """The large model's answers in a table of outcomes, by id."""
    table = read_table(path, rules=rules)
    return {
        str(name): said
        for name, said in zip(table.values("id"), table.values("large"), strict=True)
        if said is not None
    }


def _trace_rows(where: str, *, kinds: Sequence[str] | None = None, since: str | None = None) -> Iterator[Any]:
    """Rows of a trace store, or of a recorder's file."""
    if where.endswith((".jsonl", ".ndjson")):
        from langchain_dsplus.traces.recorder import JSONLRecorder

        for row in JSONLRecorder.read(where):
            late = since is None or str(row.get("time", "")) >= since
            if late and (kinds is None or row.get("kind") in kinds):
                yield row
        return
    from langchain_dsplus.traces.store import TraceStore

    file = where.removeprefix("sqlite:///")
    if (file != where or "://" not in where) and not Path(file).exists():  # it would be made, and be empty
        raise ValueError(f"{file}: there is no such trace store")
    with TraceStore(where) as store:
        store.check()
        yield from store.rows(kind=kinds, since=since)


def _reader(model: SmallModel) -> Any:
    from langchain_dsplus.registry.folders import reader

    return reader(model.input_key)


def _ask(
    model: SmallModel,
    material: Material,
    chain: Any,
    calls: int,
    file: Path,
    price: Price | None,
    *,
    name: str,
    text: str,
    max_cost: float | None,
    concurrency: int,
    seed: int,
    yes: bool,
    quiet: bool,
) -> None:
    """Ask the large model about unlabeled texts drawn at random, and move them to those with an answer."""
    from langchain_dsplus.learning.distiller import Distiller
    from langchain_dsplus.registry.state import RowHash
    from langchain_dsplus.traces.collect import collect_outcomes
    from langchain_dsplus.traces.replies import answered_ids

    known = {value for value, _ in material.gold}  # the truth would overrule any answer
    texts = [value for value in dict.fromkeys(material.unlabeled) if value not in known]
    places = Distiller(model, seed=seed).acquire(texts, calls)
    hashes = RowHash("")  # an id by content, so that the file of answers fits whatever was chosen this time
    ids = {place: hashes.input(texts[place]) for place in places}
    rows = [{"id": ids[place], "input": {text: texts[place]}} for place in places]
    if not rows:
        show("Every row has an answer or a true label: nothing is asked.")
        return
    done = answered_ids(file)
    missing = sum(row["id"] not in done for row in rows)
    show(cost_estimate(chain, rows, missing, price, name))
    if missing and not yes:
        typer.confirm("Go on?", abort=True, err=True)
    asked = model.model_copy(update={"input_key": text})
    try:
        table = collect_outcomes(
            asked, chain, rows, path=file, max_concurrency=concurrency, price=price, max_cost=max_cost,
            progress=not quiet,
        )  # fmt: skip
    except KeyboardInterrupt:
        typer.echo(f"Stopped. Answers so far are in {file}: the same command goes on from there.", err=True)
        raise typer.Exit(130) from None
    said = {
        key: label for key, label in zip(table.values("id"), table.values("large"), strict=True) if label is not None
    }
    material.audits.extend((texts[place], said[ids[place]]) for place in places if ids[place] in said)
    answered = {texts[place] for place in places if ids[place] in said}
    material.unlabeled = [value for value in material.unlabeled if value not in answered]


@contextlib.contextmanager
def _working(what: str, quiet: bool) -> Iterator[None]:
    if quiet:
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{what} ..."):
        yield


def _learned(result: DistillerResult, material: Material, unknown: int) -> Table:
    table = new_table("Learned from", "", "rows")
    table.add_row("gold", f"{result.n_gold:,}")
    table.add_row("the large model's answers", f"{result.n_large:,}")
    table.add_row("the small model's own answers", f"{result.n_anchors:,}")
    for words, count in (
        ("left out: gold says otherwise", result.overruled),
        ("left out: the large model was not sure", result.unsure),
        ("left out: the answer is none of the labels", result.unusable),
        ("left out: gold with another label", unknown),
        ("left out: without a text", material.skipped),
    ):
        if count:
            table.add_row(words, f"{count:,}")
    table.add_row("calibrated on", f"{result.n_calibration:,}")
    return table


def _verdict(gate: Gate, registry: Path) -> Iterator[Any]:
    from rich.panel import Panel
    from rich.text import Text

    report = gate.report
    table = new_table(f"Gate: version {gate.new} against version {gate.old}, {report.n:,} gold rows", "", "old", "new")
    table.add_row("accuracy", f"{report.accuracy_old:.1%}", f"{report.accuracy_new:.1%}")
    table.add_row("stays local at the old one's risk", f"{report.coverage_old:.1%}", f"{report.coverage_new:.1%}")
    table.add_row("calibration error", f"{report.calibration_old:.3f}", f"{report.calibration_new:.3f}")
    yield table
    slice_ = new_table(f"On the {report.n_answered:,} rows that the old one answered", "", "rows")
    slice_.add_row("lost: only the old one is right", f"{report.negative_flips:,}")
    slice_.add_row("won: only the new one is right", f"{report.positive_flips:,}")
    slice_.add_row("loss at most, points", f"{100 * report.loss_upper:.2f}")
    slice_.add_row(f"p (passes at {1 - gate.level:.3g})", f"{report.p_value:.3g}")
    yield slice_
    if lost := [change for change in report.classes if change.negative_flips][:_CLASSES_SHOWN]:
        classes = new_table("Classes that lose most", "class", "rows", "lost", "won")
        for change in lost:
            classes.add_row(
                change.label, f"{change.n:,}", f"{change.negative_flips:,}", f"{change.positive_flips:,}",
                style="red" if change.label in report.worst_classes else "",
            )  # fmt: skip
        yield classes
    if report.promoted:
        words, style = f"Version {gate.new} may go live: dsplus promote {quoted(registry)} {gate.new}", "green"
    else:
        reasons = "\n".join(f"- {reason}" for reason in report.reasons)
        words, style = f"Version {gate.new} is kept aside. Version {gate.old} stays live.\n{reasons}", "yellow"
    yield Panel(Text(words), title="PASSED" if report.promoted else "KEPT ASIDE", border_style=style, expand=False)
    if gate.earlier:
        yield (
            f"{gate.earlier} gates before this one saw some of these rows, or these two versions: each halves the "
            "error probability. Fresh gold rows would count in full."
        )


# --- status ---------------------------------------------------------------------------------------------------------


def status(
    registry: Annotated[Path, typer.Argument(help="Folder of a shunt, or of a model registry.")],
    traces: Annotated[
        str | None, typer.Option(help="URL of a trace store, or the .jsonl file of a recorder: what happened since.")
    ] = None,
    router: Annotated[str | None, typer.Option(help="The router's name, where the traces are of several.")] = None,
    audits: Annotated[Path | None, typer.Option(help="The file of an AuditMonitor: its alarms.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="For programs: one JSON object.")] = False,
) -> None:
    """Show what is live under which certificate, candidates and why they were kept aside, and what to do next.

    Of a shunt: what is live, since when, why not more, what it saved, and what it waits for.
    """
    with plain_errors():
        if is_shunt(registry):
            show_shunt(registry, traces, as_json=json_)
            return
        found = _existing(registry).status()
        counts = None if traces is None else _counts(traces, router, found)
        alarms = None if audits is None else _alarms(audits)
        if json_:
            typer.echo(json.dumps(_plain(found, counts, alarms), ensure_ascii=False, allow_nan=False, indent=1))
            return
        show(*_words(found, registry, counts, alarms))


def _words(
    found: RegistryStatus, registry: Path, counts: Mapping[str, Any] | None, alarms: Sequence[Mapping[str, Any]] | None
) -> Iterator[Any]:
    live = found.live
    if live is not None:
        yield f"Live: version {live.number} of {live.name!r}, since {_when(live.since)}."
    if found.certificate is not None:
        yield f"Certificate {found.certificate.id}:", found.certificate.text
    else:
        yield "No certificate is in force: nothing stays local."
        for entry in reversed(live.certificates if live is not None else []):
            yield f"Certificate {entry['id']} is void: {entry.get('reason')}"
            break
    versions = _left(new_table("Versions", "", "state", "made", "from", "trained on", "why"), 1, 2, 5)
    for version in found.versions:
        parent = "" if version.parent is None else str(version.parent)
        why = "; ".join(version.reasons)
        style = "bold" if version.state == "live" else ""
        made = _when(version.made)
        versions.add_row(str(version.number), version.state, made, parent, f"{version.n_rows:,}", why, style=style)
    yield versions
    if counts is not None:
        table = new_table(f"Traffic since {_when(live.since if live is not None else None)}", "", "rows")
        table.add_row("decisions", f"{counts['decisions']:,}")
        for reason, number in counts["reasons"].items():
            table.add_row(f"  {reason}", f"{number:,}")
        table.add_row("in shadow, small model asked", f"{counts['shadow']:,}")
        table.add_row("audits", f"{counts['audits']:,}")
        table.add_row("gold", f"{counts['gold']:,}")
        yield table
        rate = counts["escalation_rate"]
        yield "Nothing was decided live." if rate is None else f"Escalated: {rate:.1%} of live decisions."
        if counts["reasons"].get("alarm"):
            yield "An alarm of the audits holds: inputs go to the large model that would stay local. Certify again."
    if alarms is not None:
        yield from (f"Alarm ({alarm['kind']}), {_when(alarm['time'])}: {alarm['message']}" for alarm in alarms)
        if not alarms:
            yield "No alarm."
    history = _left(new_table("Last changes", "when", "what", "version", ""), 1, 3)
    for event in found.history[-_EVENTS_SHOWN:]:
        number = "" if event["version"] is None else str(event["version"])
        history.add_row(_when(event["time"]), event["event"], number, event["note"])
    yield history
    yield f"Next: {found.next_step}"
    yield from _commands(found, registry)


def _left(table: Table, *places: int) -> Table:
    """Words stand to the left in their columns."""
    for place in places:
        table.columns[place].justify = "left"
    return table


def _commands(found: RegistryStatus, registry: Path) -> Iterator[str]:
    if "promote it" in found.next_step:
        yield f"  dsplus promote {quoted(registry)}"
    elif found.certificate is None and found.live is not None:
        yield f"  dsplus certify outcomes.jsonl -o certificate.json   (rows after {found.live.since})"
        yield f"  dsplus promote {quoted(registry)} --certificate certificate.json --outcomes outcomes.jsonl"


def _counts(traces: str, router: str | None, found: RegistryStatus) -> dict[str, Any]:
    since = None if found.live is None else found.live.since
    reasons: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    accepted = decided = 0
    for row in _trace_rows(traces, kinds=("route", "shadow", "audit", "gold"), since=since):
        if router is not None and row.get("router") not in (router, None):
            continue
        kinds[str(row.get("kind"))] += 1
        if row.get("kind") == "route":
            route = row.get("route") or {}
            reason = str(route.get("reason"))
            reasons[reason] += 1
            if reason not in {"shadow", "off"}:
                decided += 1
                accepted += bool(route.get("accepted"))
    return {
        "since": since,
        "decisions": kinds["route"],
        "reasons": dict(reasons.most_common()),
        "shadow": kinds["shadow"],
        "audits": kinds["audit"],
        "gold": kinds["gold"],
        "escalation_rate": None if not decided else 1 - accepted / decided,
    }


def _alarms(path: Path) -> list[dict[str, Any]]:
    try:
        body = load_json(path.read_text(encoding="utf-8"))
        return [{name: alarm[name] for name in ("kind", "message", "time", "rung")} for alarm in body["alarms"]]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is no file of an AuditMonitor") from None


def _plain(
    found: RegistryStatus, counts: Mapping[str, Any] | None, alarms: Sequence[Mapping[str, Any]] | None
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "live": None if found.live is None else found.live.number,
        "certificate": None if found.certificate is None else found.certificate.to_dict(),
        "versions": [asdict(version) for version in found.versions],
        "gates": [asdict(gate) for gate in found.gates],
        "history": found.history,
        "next_step": found.next_step,
        "traces": counts,
        "alarms": alarms,
    }


def _when(time: str | None) -> str:
    if time is None:
        return "never"
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M UTC")
    return time


# --- promote, rollback ----------------------------------------------------------------------------------------------


def promote(
    registry: _Registry,
    version: Annotated[
        int | None, typer.Argument(help="The candidate; by default the newest that has passed its gate.")
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", "-c", help="Put this certificate of the live version in force instead."),
    ] = None,
    outcomes: Annotated[Path | None, typer.Option(help="With --certificate: the table that it was made from.")] = None,
    inputs: Annotated[
        Path | None, typer.Option(help="With --certificate: the data set with the texts of those rows.")
    ] = None,
    since_promotion: Annotated[
        bool,
        typer.Option("--since-promotion", help="With --certificate: all rows came after the version went live."),
    ] = False,
    text: _Text = "text",
    id_: _Id = "id",
) -> None:
    """Put a candidate that has passed its gate in the live version's place, or a new certificate in force.

    After a promotion nothing stays local until the new version is certified on fresh rows: rows that came since, or
    that were used neither to train nor to judge it.

    Exit code 0: done. 3: the candidate may not go live, and the output says why. 1: an error. 2: a wrong option.
    """
    with plain_errors():
        from langchain_dsplus.registry.rules import NotPromotedError
        from langchain_dsplus.threshold.certificate import Certificate

        found = _existing(registry)
        if certificate is not None:
            if version is not None or outcomes is None:
                raise ValueError(
                    "--certificate is for the live version: pass --outcomes, the table that it was made from, alone"
                )
            texts = None if inputs is None else texts_by_id(inputs, text, id_)
            promise = Certificate.from_json(certificate)
            found.attach(promise, read_table(outcomes), inputs=texts, since_promotion=since_promotion)
            show(f"Certificate {promise.id} is in force for version {found.live.number}.", promise.text)
            return
        held = found.certificate
        try:
            live = found.promote(version)
        except NotPromotedError as error:
            typer.secho(f"Not promoted: {error}", fg="yellow", err=True)
            raise typer.Exit(KEPT_ASIDE) from None
        state = found.status()
    gone = "" if held is None else f" Certificate {held.id} of the version before it is void."
    show(f"Version {live.number} is live.{gone}")
    show("Running routers follow at their next `refresh`, or restart.")
    show(f"Next: {state.next_step}", *_commands(state, registry))


def rollback(
    registry: _Registry,
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
) -> None:
    """Go back to the version that was live before, with its certificate where that still fits."""
    with plain_errors():
        found = _existing(registry)
        left = found.live.number
        live = found.rollback(reason)
        state = found.status()
    held = f"under certificate {state.certificate.id}" if state.certificate is not None else "without a certificate"
    show(f"Version {live.number} is live again, {held}. Version {left} needs a new gate to come back.")
    show("Running routers follow at their next `refresh`, or restart.")
    show(f"Next: {state.next_step}", *_commands(state, registry))
