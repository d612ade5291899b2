"""`dsplus plan`, `collect`, `label`, `certify` and `report`: from a data set to a threshold with a promise."""

from __future__ import annotations

import contextlib
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from langchain_dsplus._json import load_json

if TYPE_CHECKING:
    from rich.table import Table

    from langchain_dsplus.operations.prices import Price
    from langchain_dsplus.outcomes import Outcomes
    from langchain_dsplus.small_models.base import SmallModel
    from langchain_dsplus.threshold.certificate import Certificate

NOT_CERTIFIED = 3
"""Exit code of `dsplus certify` where nothing could be promised; 0 is certified, 1 an error, 2 a wrong option."""

_ERRORS = {"OutputParserException": "its reply was none of the labels"}
_ESTIMATE_ROWS = 200
_CHARACTERS_PER_TOKEN = 4
_REPLY_TOKENS = 20
_CHAT: dict[str, Any] = {"temperature": 0, "max_retries": 3, "timeout": 120}


_GoldMap = Annotated[
    list[str] | None,
    typer.Option(
        "--gold-map",
        help="VALUE=LABEL: what a value of gold stands for, such as 1.0=1. Repeat it, or pass a JSON object.",
    ),
]
_UnknownGold = Annotated[
    list[str] | None,
    typer.Option("--unknown-gold", help="Value of gold that means that nobody knows, such as n/a. Repeat it for more."),
]
_OtherGold = Annotated[
    list[str] | None,
    typer.Option("--other-gold", help="True class that no model offers. Repeat it for more."),
]


def _gold_rules(
    gold_map: Sequence[str] | None, unknown_gold: Sequence[str] | None, other_gold: Sequence[str] | None
) -> dict[str, Any]:
    """The options as every loader takes them."""
    mapped: dict[str, str] = {}
    for text in gold_map or ():
        found: Any = None
        if text.lstrip().startswith("{"):
            with contextlib.suppress(ValueError, RecursionError):
                found = load_json(text)
        elif text.count("=") == 1 and not text.startswith("="):
            found = dict([text.split("=")])
        if not isinstance(found, dict) or not all(isinstance(label, str) for label in found.values()):
            msg = '--gold-map takes VALUE=LABEL, or where one of them holds "=", a JSON object: {"VALUE": "LABEL"}'
            raise ValueError(msg)
        mapped.update(found)
    return {"gold_map": mapped, "unknown_gold": tuple(unknown_gold or ()), "other_gold": tuple(other_gold or ())}


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn what the user can mend into one line and exit code 1."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}", error)
    except (ValueError, TypeError, KeyError, ImportError) as error:
        _fail(str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error), error)


def _fail(message: str, error: Exception) -> None:
    typer.secho(f"Error: {' '.join(message.split())}", fg="red", err=True)
    raise typer.Exit(1) from error


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left")
    return table


def _show(*things: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    for thing in things:
        console.print(thing, soft_wrap=isinstance(thing, str), markup=False)


# --- plan -----------------------------------------------------------------------------------------------------------


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
    with _plain_errors():
        from langchain_dsplus.losses import parse_loss
        from langchain_dsplus.threshold.planning import plan_rows

        wanted = parse_loss(max_loss, "--max-loss")
        found = plan_rows(wanted, level, harm_rate=harm_rate, gain_rate=gain_rate, power=power)
        table = _table("Rows for other losses, at the same rates", "loss, points", "at least", "planned")
        for loss in sorted({0.0025, 0.005, 0.01, 0.02, 0.03, wanted}):
            other = plan_rows(loss, level, harm_rate=harm_rate, gain_rate=gain_rate, power=power)
            rows = "no number is enough" if other.n is None else f"{other.n:,}"
            table.add_row(f"{100 * loss:g}", f"{other.least_n:,}", rows, style="bold" if loss == wanted else "")
    _show(found.note, table, "Rates from a pilot: lost and won, each over all rows, at the coverage you hope for.")


# --- collect --------------------------------------------------------------------------------------------------------


def collect(
    dataset: Annotated[Path, typer.Argument(help="Rows to ask about: .csv, .jsonl or .parquet.")],
    small: Annotated[Path, typer.Option(help="Folder of a saved SentenceClassifier or SklearnClassifier.")],
    large: Annotated[str, typer.Option(help="Name of the large model, as its server knows it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Table to write: .jsonl, .csv or .parquet.")],
    base_url: Annotated[
        str | None, typer.Option(help="A server that speaks the OpenAI protocol; by default OpenAI.")
    ] = None,
    api_key_env: Annotated[str, typer.Option(help="Environment variable that holds the API key.")] = "OPENAI_API_KEY",
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
    max_cost: Annotated[float | None, typer.Option(help="What may be spent; needs prices.")] = None,
    price_input: Annotated[float | None, typer.Option(help="Price of a million prompt tokens.")] = None,
    price_output: Annotated[float | None, typer.Option(help="Price of a million reply tokens.")] = None,
    currency: Annotated[str, typer.Option(help="What prices are in.")] = "USD",
    concurrency: Annotated[int, typer.Option(min=1, help="Calls at a time.")] = 8,
    answers: Annotated[
        Path | None, typer.Option(help="Where answers are kept as they come, to resume; by default beside the output.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before money is spent.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    gold_map: _GoldMap = None,
    unknown_gold: _UnknownGold = None,
    other_gold: _OtherGold = None,
) -> None:
    """Ask a saved small model and a large model about every row, and write the table of outcomes.

    Every answer is written down as it comes: after a crash the same command goes on, and asks nothing twice.
    """
    with _plain_errors():
        from langchain_dsplus.identity import identify
        from langchain_dsplus.operations.collect import collect_outcomes

        _check_output(output)
        rules = _gold_rules(gold_map, unknown_gold, other_gold)
        price = _price(large, base_url, price_input, price_output, currency, max_cost)
        rows = _read_rows(dataset, limit)
        if unknown := [name for name in slice_ or () if not any(name in row for row in rows)]:
            msg = f"the data set has no column {unknown} to slice by"
            raise ValueError(msg)
        model = _load_small(small, text, rows)
        names = model.labels if labels is None else _read_labels(labels)
        chain = _chain(large, base_url, api_key_env, prompt, names, text, rows)
        kept = answers or output.with_name(output.name + ".answers.jsonl")
        apart = {gold, id_, group}
        gold_key = "gold" if gold in {"id", "input", "group"} else gold  # so that an error names the file's column
        data = [
            {
                "id": row.get(id_) if row.get(id_) is not None else str(place),
                "input": {key: value for key, value in row.items() if key not in apart},
                gold_key: row.get(gold),
                "group": row.get(group),
            }
            for place, row in enumerate(rows)
        ]
        done = _answered(kept)
        missing = sum(str(row["id"]) not in done for row in data)
        _show(_estimate(chain, data, missing, price, large))
        if missing > 0 and not yes:
            typer.confirm("Go on?", abort=True, err=True)
        identity = identify(chain)
        about = {
            "large": identity.large,
            "prompt": identity.prompt,
            "large_name": large,
            "currency": currency if price else None,
        }
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
        _write(outcomes, output)
        unlabeled = len(outcomes.to_label())
        from langchain_dsplus.threshold.findings import find_mistakes

        notes = [f"Note: {item.sentence}" for item in find_mistakes(outcomes) if item.severity != "unseen"]
        _show(_summary(outcomes), *notes, f"Written to {output}. A router under its certificate asks the same chain:")
        _show(*_code(small, large, base_url, api_key_env, prompt, labels, text))
        certify_it = f"Next: dsplus certify {output} -o certificate.json"
        _show(_to_be_labeled(unlabeled, output, dataset) if unlabeled else certify_it)


def _price(
    large: str,
    base_url: str | None,
    price_input: float | None,
    price_output: float | None,
    currency: str,
    max_cost: float | None,
) -> Price | None:
    from langchain_dsplus.operations.prices import Price, find_price

    if (price_input is None) != (price_output is None):
        msg = "pass both --price-input and --price-output, per million tokens"
        raise ValueError(msg)
    price: Price | None = None
    if price_input is not None and price_output is not None:
        price = Price(price_input, price_output, currency=currency)
    elif base_url is None:
        price = find_price(large)
    if max_cost is not None and price is None:
        msg = f"--max-cost needs to know what {large} costs: pass --price-input and --price-output"
        raise ValueError(msg)
    return price


def _check_output(path: Path) -> None:
    _suffix(path)
    if path.exists() and _read(path).about.get("certifications"):
        msg = f"{path} has been used to certify, and that is counted in it: choose another --output"
        raise ValueError(msg)


def _read_rows(path: Path, limit: int | None) -> list[dict[str, Any]]:
    """Rows of a data set: dicts by column, None for an empty cell."""
    suffix = path.suffix.lower()
    rows: list[dict[str, Any]]
    if suffix == ".csv":
        from langchain_dsplus.outcomes.files import csv_rows

        with csv_rows(path) as (lines, _):
            header = next(lines, [])
            nothing = dict.fromkeys(filter(None, header))
            rows = [
                nothing | {name: cell or None for name, cell in zip(header, cells, strict=False) if name}
                for cells in lines
            ]
    elif suffix in (".jsonl", ".ndjson"):
        rows = []
        for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
            if line.strip():
                try:
                    row = load_json(line)
                except (ValueError, RecursionError):
                    row = None
                if not isinstance(row, dict):
                    msg = f"{path}: line {number} is not a JSON object"
                    raise ValueError(msg)
                rows.append(row)
    elif suffix == ".parquet":
        from langchain_dsplus._imports import require
        from langchain_dsplus.outcomes.columns import rows_of

        parquet = require("pyarrow.parquet", "parquet")
        with path.open("rb") as opened:
            rows = list(rows_of(parquet.ParquetFile(opened).read()))
    else:
        msg = f"{path}: the data set must be .csv, .jsonl or .parquet"
        raise ValueError(msg)
    if not rows:
        msg = f"{path} holds no rows"
        raise ValueError(msg)
    return rows[:limit]


def _load_small(folder: Path, column: str, rows: Sequence[Mapping[str, Any]]) -> SmallModel:
    """Load a saved model by what its settings say it is."""
    from langchain_dsplus.small_models._files import SETTINGS

    try:
        kind = _kind(folder)
    except (OSError, ValueError, AttributeError):
        msg = f"{folder} is no saved small model: it has no readable {SETTINGS}"
        raise ValueError(msg) from None
    model: SmallModel
    if kind == "SklearnClassifier":
        from langchain_dsplus.small_models.sklearn import SklearnClassifier

        model = SklearnClassifier.load(folder)
    elif kind == "SentenceClassifier":
        from langchain_dsplus.small_models.sentence import SentenceClassifier

        model = SentenceClassifier.load(folder)
    else:
        msg = f"{folder} holds a small model of another kind; here only SentenceClassifier and SklearnClassifier work"
        raise ValueError(msg)
    if model.input_key is None:
        model = model.model_copy(update={"input_key": column})
    empty = next((place for place, row in enumerate(rows, 1) if row.get(str(model.input_key)) is None), None)
    if empty is not None:
        msg = f"row {empty} of the data set has nothing in column {model.input_key!r}; which one to read: --text"
        raise ValueError(msg)
    return model


def _kind(folder: Path) -> Any:
    from langchain_dsplus.small_models._files import SETTINGS

    return load_json((folder / SETTINGS).read_text(encoding="utf-8")).get("kind")


def _read_labels(path: Path) -> list[str]:
    found = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if len(found) < 2:
        msg = f"{path} must hold at least two labels, one a line"
        raise ValueError(msg)
    return found


def _chain(
    large: str,
    base_url: str | None,
    api_key_env: str,
    prompt: Path | None,
    labels: Sequence[str],
    column: str,
    rows: Sequence[Mapping[str, Any]],
) -> Any:
    """The large side: prompt, chat model, label parser."""
    from langchain_dsplus._imports import require
    from langchain_dsplus.prompts.parser import LabelParser
    from langchain_dsplus.prompts.pruner import PromptPruner

    messages = _default_messages(column)
    if prompt is not None:
        source = prompt.read_text(encoding="utf-8")
        messages = _messages(prompt, source, column) if prompt.suffix.lower() == ".json" else [("human", source)]
    template = PromptPruner.from_messages(messages, labels=labels, pruning="none")
    unknown = sorted(set(template.input_variables) - rows[0].keys())
    if unknown:
        msg = f"the prompt asks for {unknown}, and the data set has no such column (write a brace that is text as {{{{)"
        raise ValueError(msg)
    key = os.environ.get(api_key_env)
    if not key and base_url is None:
        msg = f"set {api_key_env} to your API key, or name a server with --base-url"
        raise ValueError(msg)
    chat = require("langchain_openai", "openai").ChatOpenAI
    model = chat(model=large, base_url=base_url, api_key=key or "none", **_CHAT)
    return template | model | LabelParser(labels)


def _default_messages(column: str) -> list[Any]:
    return [("human", "Classify the text.\n\n{" + column + "}")]


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
    asked = {"model": large, **({} if base_url is None else {"base_url": base_url}), **_CHAT}
    settings = ", ".join(f"{name}={value!r}" for name, value in asked.items())
    key = f'os.environ.get({api_key_env!r}, "none")'
    messages = repr(_default_messages(column)) if prompt is None else f'[("human", Path({str(prompt)!r}).read_text())]'
    if prompt is not None and prompt.suffix.lower() == ".json":
        messages = f"[tuple(pair) for pair in json.loads(Path({str(prompt)!r}).read_text())]"
    names = (
        "small.labels" if labels is None else f"Path({str(labels)!r}).read_text().split('\\n')  # without empty lines"
    )
    yield f"  small = {_kind(small)}.load({str(small)!r})"
    yield f"  labels = {names}"
    yield f'  prompt = PromptPruner.from_messages({messages}, labels=labels, pruning="none")'
    yield f"  large = prompt | ChatOpenAI({settings}, api_key={key}) | LabelParser(labels)"


def _messages(path: Path, source: str, column: str) -> list[Any]:
    try:
        found = load_json(source)
    except ValueError:
        found = None
    pairs = isinstance(found, list) and all(isinstance(item, list) and len(item) == 2 for item in found)
    if not found or not pairs or not all(isinstance(part, str) for item in found for part in item):
        msg = f'{path} must hold JSON like [["system", "..."], ["human", "... {{{column}}}"]]'
        raise ValueError(msg)
    return [tuple(item) for item in found]


def _answered(path: Path) -> set[str]:
    """Ids of the rows that the file of answers holds an answer for."""
    found: set[str] = set()
    if not path.exists():
        return found
    for line in path.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError, AttributeError):
            entry = load_json(line)
            if entry.get("side") == "large" and entry.get("label") is not None:
                found.add(str(entry.get("id")))
    return found


def _estimate(chain: Any, rows: Sequence[Mapping[str, Any]], missing: int, price: Price | None, large: str) -> str:
    if missing <= 0:
        return f"All {len(rows):,} rows have been answered already: nothing is asked."
    asked = f"{large} will be asked about {missing:,} rows"
    if missing < len(rows):
        asked += f" ({len(rows) - missing:,} are answered already)"
    if price is None:
        return f"{asked}. What that costs is not known: pass --price-input and --price-output to see it."
    sample = rows[:: max(1, len(rows) // _ESTIMATE_ROWS)]
    template = chain.first
    characters = sum(sum(len(str(m.text)) for m in template.invoke(row["input"]).to_messages()) for row in sample)
    tokens = math.ceil(missing * characters / len(sample) / _CHARACTERS_PER_TOKEN)
    cost = price.cost({"input_tokens": tokens, "output_tokens": _REPLY_TOKENS * missing})
    return (
        f"{asked}: about {tokens:,} prompt tokens, about {cost:.2g} {price.currency} (an estimate: "
        f"{_CHARACTERS_PER_TOKEN} characters a token, {_REPLY_TOKENS} tokens a reply)."
    )


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
    table = _table("Outcomes", "", "rows")
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
        if len(known):
            table.add_row(f"the {who} model is right", f"{int(known.sum()):,} of {len(known):,}")
    if "cost_large" in outcomes:
        spent = float(np.nansum(outcomes["cost_large"]))
        table.add_row(f"paid, {outcomes.about.get('currency', '')}", f"{spent:.4g}")
    return table


# --- certify --------------------------------------------------------------------------------------------------------


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
    gold_map: _GoldMap = None,
    unknown_gold: _UnknownGold = None,
    other_gold: _OtherGold = None,
) -> None:
    """Find the laxest threshold at which little enough accuracy is lost, and write the promise as a certificate.

    Exit code 0: CERTIFIED. 3: NOT_CERTIFIED, and the output says what would help. 1: an error. 2: a wrong option.

    Each use of a table spends error probability, so it is counted in the table: the file is written back. So fill in
    the labels first (`dsplus label`).
    """
    with _plain_errors():
        from langchain_dsplus.losses import parse_loss
        from langchain_dsplus.threshold.certify import certify as test

        parse_loss(max_loss, "--max-loss")
        facts = _about(about or ())
        if labels is not None:
            facts["labels"] = _read_labels(labels)
        table = _read(outcomes, facts, _gold_rules(gold_map, unknown_gold, other_gold))
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
        _write(table, outcomes)  # first: a promise whose cost was not written down would be cheaper the next time
        certificate.to_json(output)
        unknown = len(table.to_label(prompt=prompt))
    _show(*_promise(certificate, outcomes, output, unknown))
    if not certificate.certified:
        raise typer.Exit(NOT_CERTIFIED)


def _check_certificate(output: Path, table: Path) -> None:
    """Refuse where the certificate could not be written: it would be paid for, and lost."""
    if output.resolve() == table.resolve():
        msg = "--output is the table itself: name another file for the certificate"
        raise ValueError(msg)
    if output.suffix.lower() in _TABLES:
        msg = f"{output}: a certificate is JSON: name a file that ends in .json"
        raise ValueError(msg)
    if output.exists():
        msg = f"{output} is there already, and may be a certificate in use: name another --output, or remove it"
        raise ValueError(msg)
    if not output.absolute().parent.is_dir():
        msg = f"{output}: there is no such folder"
        raise ValueError(msg)


def _check_labels(table: Outcomes, never_local: Sequence[str]) -> None:
    """Refuse labels that are not those of the table: nothing could be certified, and it would count."""
    known = table.about.get("labels")
    if known is None:
        return
    listed = {str(label) for item in (known.values() if isinstance(known, Mapping) else [known]) for label in item}
    if unknown := sorted(set(never_local) - listed):
        msg = f"--never-local {', '.join(unknown)}: not one of the labels that the table is about"
        raise ValueError(msg)
    for name in table.small_names or [""]:
        column = f"small.{name}" if name else "small"
        if column in table and len(table) and not table.valid(column).any():
            msg = f"no row's {column!r} is one of the labels that the table is about: are they those of another task?"
            raise ValueError(msg)


def _about(pairs: Sequence[str]) -> dict[str, Any]:
    from langchain_dsplus.report.words import has_secret

    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or name in ("certifications", "data"):
            msg = "--about takes NAME=VALUE, and neither `certifications` nor `data`"
            raise ValueError(msg)
        if has_secret(name, value):
            msg = (
                "--about is written into the table and the certificate, and one of these looks like a key or a password"
            )
            raise ValueError(msg)
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
        msg = f"{path} must hold a JSON list of objects from a small model's name to its threshold"
        raise ValueError(msg)
    return [{name: math.inf if value is None else value for name, value in step.items()} for step in found]


def _promise(certificate: Certificate, outcomes: Path, output: Path, unknown: int) -> Iterator[Any]:
    """What is shown of a certificate; `unknown`: disagreements without gold, in the table."""
    from rich.panel import Panel
    from rich.text import Text

    from langchain_dsplus.losses import signed_points
    from langchain_dsplus.report.words import help_lines

    style = "green" if certificate.certified else "yellow"
    yield Panel(Text(certificate.text), title=certificate.status, border_style=style, expand=False)
    table = _table("On the same rows", "way", "calls of the large model", "accuracy", "against the large model, points")
    for item in certificate.baselines:
        accuracy = "needs gold" if item.accuracy is None else f"{item.accuracy:.1%}"
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
        yield _to_be_labeled(unknown, outcomes)
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


# --- label ----------------------------------------------------------------------------------------------------------


def label(
    outcomes: Annotated[Path, typer.Argument(help="Table of outcomes: .jsonl, .csv or .parquet.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write for a person to fill in: .csv or .jsonl.")
    ] = Path("to_label.csv"),
    read: Annotated[
        Path | None,
        typer.Option(help="The file that was filled in: its labels go into the table; nothing else is done."),
    ] = None,
    max_rows: Annotated[int | None, typer.Option(min=1, help="Only so many rows, the most useful first.")] = None,
    inputs: Annotated[
        Path | None, typer.Option(help="Data set with the texts, to be shown beside the answers.")
    ] = None,
    text: Annotated[str, typer.Option(help="Column of the texts.")] = "text",
    id_: Annotated[str, typer.Option("--id", help="Column of the ids; without one, the row's place.")] = "id",
    prompt: Annotated[
        Literal["plain", "pruned"],
        typer.Option(help="With pruned, also the rows where that prompt changed the answer."),
    ] = "plain",
    gold_map: _GoldMap = None,
    unknown_gold: _UnknownGold = None,
    other_gold: _OtherGold = None,
) -> None:
    """Write the rows whose truth is worth finding out to a file; with --read, take the labels back into the table.

    These are the rows where the models disagree and gold is missing: until somebody says what is true, they count as
    lost. Elsewhere the truth changes nothing. The surest mistakes stand first.
    """
    with _plain_errors():
        rules = _gold_rules(gold_map, unknown_gold, other_gold)
        table = _read(outcomes, rules=rules)
        if read is not None:
            labeled = table.with_gold(read, **rules)
            known, before = (sum(value is not None for value in one.values("gold")) for one in (labeled, table))
            left = len(labeled.to_label(prompt=prompt))
            _write(labeled, outcomes)
            typer.echo(f"{known - before:,} labels are new in {outcomes}; {left:,} disagreements are left without one.")
            typer.echo(f"Next: dsplus certify {outcomes} -o certificate.json")
            return
        texts = None if inputs is None else _texts(inputs, text, id_)
        rows = table.to_label(output, max_rows=max_rows, inputs=texts, prompt=prompt)
    typer.echo(f"{output}: {len(rows):,} of {len(table):,} rows to look at. Fill in the column `gold`.")
    typer.echo(f"Then: dsplus label {outcomes} --read {output}")


def _to_be_labeled(rows: int, outcomes: Path, inputs: Path | None = None) -> str:
    more = "" if inputs is None else f" --inputs {inputs}"
    return (
        f"{rows:,} rows on which the models disagree have no gold and count as lost: label the surest of them before "
        f"you certify. They are written by: dsplus label {outcomes} -o to_label.csv{more}"
    )


# --- report ---------------------------------------------------------------------------------------------------------


def report(
    outcomes: Annotated[Path, typer.Argument(help="Table of outcomes: .jsonl, .csv or .parquet.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Page to write.")] = Path("report.html"),
    certificate: Annotated[
        Path | None, typer.Option("--certificate", "-c", help="Certificate of `dsplus certify`.")
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(help="Data set with the texts, to show those that would be lost. They are then in the page."),
    ] = None,
    text: Annotated[str, typer.Option(help="Column of the texts.")] = "text",
    id_: Annotated[str, typer.Option("--id", help="Column of the ids; without one, the row's place.")] = "id",
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "What may stay local",
    prompt: Annotated[
        Literal["plain", "pruned"] | None,
        typer.Option(help="What escalated inputs are asked, where there is no certificate."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    gold_map: _GoldMap = None,
    unknown_gold: _UnknownGold = None,
    other_gold: _OtherGold = None,
) -> None:
    """Write one HTML page that shows what each threshold gives; it needs no network, and nothing leaves the machine."""
    with _plain_errors():
        from langchain_dsplus.report import write_report
        from langchain_dsplus.threshold.certificate import Certificate

        table = _read(outcomes, rules=_gold_rules(gold_map, unknown_gold, other_gold))
        promise = None if certificate is None else Certificate.from_json(certificate)
        texts = None
        if inputs is not None:
            texts = _texts(inputs, text, id_)
        written = write_report(output, table, promise, inputs=texts, title=title, prompt=prompt)
    typer.echo(f"Written: {written} ({written.stat().st_size / 1e3:,.0f} kB)")
    if open_:
        import webbrowser

        webbrowser.open(written.resolve().as_uri())


def _texts(path: Path, text: str, id_: str) -> dict[str, Any]:
    """The texts of a data set by id."""
    rows = _read_rows(path, None)
    if not any(text in row for row in rows):
        msg = f"{path} has no column {text!r}: name it with --text"
        raise ValueError(msg)
    return {str(row[id_] if row.get(id_) is not None else place): row.get(text) for place, row in enumerate(rows)}


# --- tables on disk -------------------------------------------------------------------------------------------------

_TABLES = (".csv", ".jsonl", ".ndjson", ".parquet")


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in _TABLES:
        msg = f"{path}: a table of outcomes must be .jsonl, .csv or .parquet"
        raise ValueError(msg)
    return suffix


def _read(path: Path, about: Mapping[str, Any] | None = None, rules: Mapping[str, Any] | None = None) -> Outcomes:
    from langchain_dsplus.outcomes import Outcomes

    suffix = _suffix(path)
    try:
        if suffix == ".csv":
            return Outcomes.from_csv(path, about=about, **(rules or {}))
        if suffix == ".parquet":
            return Outcomes.from_parquet(path, about=about, **(rules or {}))
        return Outcomes.from_jsonl(path, about=about, **(rules or {}))
    except ValueError as error:
        hint = _what_instead(path, suffix, "outcomes need a column" in str(error))
        if hint is None:
            raise
        msg = f"{error}. {hint}"
        raise ValueError(msg) from None


def _what_instead(path: Path, suffix: str, lacks: bool) -> str | None:
    """What a file may be that is no table; `lacks`: since a column is not there."""
    if suffix != ".parquet":
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            first = file.readline(1 << 16)
        row: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            row = load_json(first)
        if isinstance(row, dict) and "route_id" in row and "kind" in row:
            return "A recorder wrote this: Outcomes.from_traces(JSONLRecorder.read(...)) makes a table of it"
    if not lacks:
        return None
    return "A table has the columns small, confidence, large, and, where known, id and gold: rename those of the file"


def _write(outcomes: Outcomes, path: Path) -> None:
    suffix = _suffix(path)
    write = {".csv": outcomes.to_csv, ".parquet": outcomes.to_parquet}.get(suffix, outcomes.to_jsonl)
    write(path)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (plan, collect, label, certify, report):
        app.command()(command)
