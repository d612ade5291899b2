"""`dsplus plan` and `collect`: how many rows are needed, and both models asked about every one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_dsplus._json import load_json
from langchain_dsplus._secrets import without_url_secrets
from langchain_dsplus.cli.options import (
    CHAT,
    ApiKeyEnv,
    BaseUrl,
    Concurrency,
    Currency,
    GoldMap,
    MaxCost,
    OtherGold,
    PriceInput,
    PriceOutput,
    Quiet,
    UnknownGold,
    Yes,
    cost_estimate,
    default_messages,
    gold_rules,
    large_chain,
    new_table,
    plain_errors,
    price_of,
    read_label_file,
    read_rows,
    read_table,
    show,
    table_suffix,
    to_be_labeled,
    write_table,
)
from langchain_dsplus.cli.settings import SettingsFile

if TYPE_CHECKING:
    from rich.table import Table

    from langchain_dsplus.outcomes import Outcomes
    from langchain_dsplus.small_models.base import SmallModel

_ERRORS = {"OutputParserException": "its reply was none of the labels"}


def plan(
    max_loss: Annotated[
        str, typer.Option(help="Accuracy that may be lost: '0.5 points', '0.5 %' or a share of inputs below .1.")
    ] = "0.5 points",
    level: Annotated[float, typer.Option(help="Confidence level of the certificate.")] = 0.95,
    harm_rate: Annotated[float, typer.Option(help="Share of inputs that you expect to lose.")] = 0.02,
    gain_rate: Annotated[float, typer.Option(help="Share of inputs that you expect to win.")] = 0.02,
    power: Annotated[float, typer.Option(help="Probability with which it should work out.")] = 0.8,
) -> None:
    """Say how many rows a certificate will need, before anything is collected."""
    with plain_errors():
        from langchain_dsplus.losses import parse_loss
        from langchain_dsplus.threshold.planning import plan_rows

        wanted = parse_loss(max_loss, "--max-loss")
        found = plan_rows(wanted, level, harm_rate=harm_rate, gain_rate=gain_rate, power=power)
        table = new_table("Rows for other losses, at the same rates", "loss, points", "at least", "planned")
        for loss in sorted({0.0025, 0.005, 0.01, 0.02, 0.03, wanted}):
            other = plan_rows(loss, level, harm_rate=harm_rate, gain_rate=gain_rate, power=power)
            rows = "no number is enough" if other.n is None else f"{other.n:,}"
            table.add_row(f"{100 * loss:g}", f"{other.least_n:,}", rows, style="bold" if loss == wanted else "")
    show(found.note, table, "Rates from a pilot: lost and won, each over all rows, at the coverage you hope for.")


def collect(
    dataset: Annotated[Path, typer.Argument(help="Rows to ask about: .csv, .jsonl or .parquet.")],
    small: Annotated[Path, typer.Option(help="Folder of a saved small model.")],
    large: Annotated[str, typer.Option(help="Name of the large model, as its server knows it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Table to write: .jsonl, .csv or .parquet.")],
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = "OPENAI_API_KEY",
    prompt: Annotated[
        Path | None,
        typer.Option(
            help="Prompt with {column} for the row and {candidates} for the labels: a text, or .json: role-text pairs."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Labels, one a line; by default those of the small model.")
    ] = None,
    text: Annotated[
        str, typer.Option(help="Column that the small model reads, unless it was saved with its own.")
    ] = "text",
    gold: Annotated[str, typer.Option(help="Column with the truth; may be missing.")] = "gold",
    id_: Annotated[str, typer.Option("--id", help="Column with an id; may be missing.")] = "id",
    group: Annotated[str, typer.Option(help="Column with a customer or thread; may be missing.")] = "group",
    slice_: Annotated[
        list[str] | None,
        typer.Option("--slice", help="Column that slices the rows, such as language; repeat it for more."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many rows.")] = None,
    max_cost: MaxCost = None,
    price_input: PriceInput = None,
    price_output: PriceOutput = None,
    currency: Currency = "USD",
    concurrency: Concurrency = 8,
    answers: Annotated[
        Path | None, typer.Option(help="Where answers are kept as they come, to resume; by default beside the output.")
    ] = None,
    yes: Yes = False,
    quiet: Quiet = False,
    gold_map: GoldMap = None,
    unknown_gold: UnknownGold = None,
    other_gold: OtherGold = None,
    settings: SettingsFile = None,
) -> None:
    """Ask a saved small model and a large model about every row, and write the table of outcomes.

    Every answer is written down as it comes: after a crash the same command goes on, and asks nothing twice.
    """
    del settings  # it has set the defaults
    with plain_errors():
        from langchain_dsplus.identity import identify
        from langchain_dsplus.traces.collect import collect_outcomes
        from langchain_dsplus.traces.replies import answered_ids

        _check_output(output)
        rules = gold_rules(gold_map, unknown_gold, other_gold)
        price = price_of(large, base_url, price_input, price_output, currency, max_cost)
        rows = read_rows(dataset, limit)
        if unknown := [name for name in slice_ or () if not any(name in row for row in rows)]:
            raise ValueError(f"the data set has no column {unknown} to slice by")
        model = _load_small(small, text, rows)
        names = model.labels if labels is None else read_label_file(labels)
        chain = large_chain(large, base_url, api_key_env, prompt, names, text, rows)
        kept = answers or output.with_name(output.name + ".answers.jsonl")
        gold_key = "gold" if gold in {"id", "input", "group"} else gold  # so that an error names the file's column
        data = _questions(rows, {"id": id_, gold_key: gold, "group": group})
        done = answered_ids(kept)
        missing = sum(str(row["id"]) not in done for row in data)
        show(cost_estimate(chain, data, missing, price, large))
        if missing > 0 and not yes:
            typer.confirm("Go on?", abort=True, err=True)
        identity, unit = identify(chain), currency if price else None
        about = {"large": identity.large, "prompt": identity.prompt, "large_name": large, "currency": unit}
        try:
            outcomes = collect_outcomes(
                model,
                chain,
                data,
                path=kept,
                max_concurrency=concurrency,
                price=price,
                max_cost=max_cost,
                progress=not quiet,
                about={key: value for key, value in about.items() if value is not None},
                gold_key=gold_key,
                **rules,
            )
        except ValueError as error:
            raise ValueError(str(error).replace("`dataset`", str(dataset))) from None
        except KeyboardInterrupt:
            typer.echo(f"Stopped. Answers so far are in {kept}: the same command goes on from there.", err=True)
            raise
        outcomes = _with_slices(outcomes, data, slice_ or ())
        write_table(outcomes, output)
        unlabeled = len(outcomes.to_label(agreements=0))
        from langchain_dsplus.threshold.findings import find_mistakes

        notes = [f"Note: {item.sentence}" for item in find_mistakes(outcomes) if item.severity != "unseen"]
        show(_summary(outcomes), *notes, f"Written to {output}. A router under its certificate asks the same chain:")
        show(*_code(small, large, base_url, api_key_env, prompt, labels, text))
        certify_it = f"Next: dsplus certify {output} -o certificate.json"
        show(to_be_labeled(unlabeled, output, dataset) if unlabeled else certify_it)


def _questions(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows as `collect_outcomes` takes them: what stands in `columns` by its name there, all else as the input."""
    apart = set(columns.values())
    return [
        {
            **{name: row.get(column) for name, column in columns.items()},
            "id": row.get(columns["id"]) if row.get(columns["id"]) is not None else str(place),
            "input": {key: value for key, value in row.items() if key not in apart},
        }
        for place, row in enumerate(rows)
    ]


def _check_output(path: Path) -> None:
    table_suffix(path)
    if path.exists() and read_table(path).about.get("certifications"):
        raise ValueError(f"{path} has been used to certify, and that is counted in it: choose another --output")


def _load_small(folder: Path, column: str, rows: Sequence[Mapping[str, Any]]) -> SmallModel:
    """Load a saved model, and look whether each row has what it reads."""
    from langchain_dsplus.small_models.kinds import load_small_model

    model = load_small_model(folder)
    if model.input_key is None:
        model = model.model_copy(update={"input_key": column})
    empty = next((place for place, row in enumerate(rows, 1) if row.get(str(model.input_key)) is None), None)
    if empty is not None:
        raise ValueError(
            f"row {empty} of the data set has nothing in column {model.input_key!r}; which one to read: --text"
        )
    return model


def _kind(folder: Path) -> Any:
    from langchain_dsplus.small_models.files import SETTINGS

    return load_json((folder / SETTINGS).read_text(encoding="utf-8")).get("kind")


def _code(
    small: Path,
    large: str,
    base_url: str | None,
    api_key_env: str,
    prompt: Path | None,
    labels: Path | None,
    column: str,
) -> Iterator[str]:
    """The chain as a user writes it: one that differs in a setting is refused by the router."""
    asked = {"model": large, **({} if base_url is None else {"base_url": without_url_secrets(base_url)}), **CHAT}
    settings = ", ".join(f"{name}={value!r}" for name, value in asked.items())
    key = f'os.environ.get({api_key_env!r}, "none")'
    messages = repr(default_messages(column)) if prompt is None else f'[("human", Path({str(prompt)!r}).read_text())]'
    if prompt is not None and prompt.suffix.lower() == ".json":
        messages = f"[tuple(pair) for pair in json.loads(Path({str(prompt)!r}).read_text())]"
    names = (
        "small.labels" if labels is None else f"Path({str(labels)!r}).read_text().split('\\n')  # without empty lines"
    )
    yield f"  small = {_kind(small)}.load({str(small)!r})"
    yield f"  labels = {names}"
    yield f'  prompt = PromptPruner.from_messages({messages}, labels=labels, pruning="none")'
    yield f"  large = prompt | ChatOpenAI({settings}, api_key={key}) | LabelParser(labels)"


def _with_slices(outcomes: Outcomes, data: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Outcomes:
    if not columns:
        return outcomes
    from langchain_dsplus.outcomes import Outcomes

    inputs = {str(row["id"]): row["input"] for row in data}
    records = outcomes.to_records()
    for record in records:
        row = inputs[record["id"]]
        record["slices"] = {name: str(row[name]) for name in columns if row.get(name) is not None}
    return Outcomes.from_records(records, about=outcomes.about)


def _summary(outcomes: Outcomes) -> Table:
    import numpy as np

    small, large = outcomes.values("small"), outcomes.values("large")
    table = new_table("Outcomes", "", "rows")
    table.add_row("in all", f"{len(outcomes):,}")
    table.add_row("the models agree", f"{sum(a == b and a is not None for a, b in zip(small, large, strict=True)):,}")
    table.add_row("the small model failed", f"{sum(value is None for value in small):,}")
    failed = [row for row, value in enumerate(large) if value is None]
    table.add_row("the large model failed", f"{len(failed):,}")
    if "error" in outcomes:
        errors = outcomes.values("error")
        for error, rows in Counter(str(errors[row] or "no reply") for row in failed).most_common():
            table.add_row(f"  {_ERRORS.get(error, error)}", f"{rows:,}")
    table.add_row("gold is known", f"{sum(value is not None for value in outcomes.values('gold')):,}")
    for who in ("small", "large"):
        right = outcomes.correct(who)
        known = right[~np.isnan(right)]
        found = outcomes.estimate("accuracy", who)
        if len(known):
            count = f"{int(known.sum()):,} of {len(known):,}" if found.census else found.words()
            table.add_row(f"the {who} model is right", count)
    if "cost_large" in outcomes:
        spent = float(np.nansum(outcomes["cost_large"]))
        table.add_row(f"paid, {outcomes.about.get('currency', '')}", f"{spent:.4g}")
    return table
