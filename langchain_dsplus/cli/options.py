"""What the verbs share: options, errors in one line, printing, tables and data sets on disk, the large side."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_dsplus._json import load_json

if TYPE_CHECKING:
    from rich.table import Table

    from langchain_dsplus.costs.prices import Price
    from langchain_dsplus.outcomes import Outcomes

TABLES = (".csv", ".jsonl", ".ndjson", ".parquet")
_KEPT = "outcomes.parquet"
_ESTIMATE_ROWS = 200
_CHARACTERS_PER_TOKEN = 4
_REPLY_TOKENS = 20
CHAT: dict[str, Any] = {"temperature": 0, "max_retries": 3, "timeout": 120}

GoldMap = Annotated[
    list[str] | None,
    typer.Option(
        "--gold-map",
        help="VALUE=LABEL: what a value of gold stands for, such as 1.0=1. Repeat it, or pass a JSON object.",
    ),
]
UnknownGold = Annotated[
    list[str] | None,
    typer.Option("--unknown-gold", help="Value of gold that means that nobody knows, such as n/a. Repeat it for more."),
]
OtherGold = Annotated[
    list[str] | None,
    typer.Option("--other-gold", help="True class that no model offers. Repeat it for more."),
]
BaseUrl = Annotated[str | None, typer.Option(help="A server that speaks the OpenAI protocol; by default OpenAI.")]
ApiKeyEnv = Annotated[str, typer.Option(help="Environment variable that holds the API key.")]
MaxCost = Annotated[float | None, typer.Option(help="What may be spent; needs prices.")]
PriceInput = Annotated[float | None, typer.Option(help="Price of a million prompt tokens.")]
PriceOutput = Annotated[float | None, typer.Option(help="Price of a million reply tokens.")]
Currency = Annotated[str, typer.Option(help="What prices are in.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Calls at a time.")]
Trusted = Annotated[
    list[str] | None,
    typer.Option("--trusted", help="Type that a saved scikit-learn model may hold. Repeat it for more."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before money is spent.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]
OutcomesTable = Annotated[Path, typer.Argument(help="Table of outcomes: .jsonl, .csv or .parquet.")]
TextColumn = Annotated[str, typer.Option(help="Column of the texts.")]
IdOrPlace = Annotated[str, typer.Option("--id", help="Column of the ids; without one, the row's place.")]


def load_options(trusted: Sequence[str] | None) -> dict[str, Any] | None:
    """The options of a small model's `load`."""
    return {"trusted": list(trusted)} if trusted else None


def gold_rules(
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
            raise ValueError(
                '--gold-map takes VALUE=LABEL, or where one of them holds "=", a JSON object: {"VALUE": "LABEL"}'
            )
        mapped.update(found)
    return {"gold_map": mapped, "unknown_gold": tuple(unknown_gold or ()), "other_gold": tuple(other_gold or ())}


# --- errors, printing -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what the user can mend into one line and exit code 1."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}", error)
    except (ValueError, TypeError, KeyError, ImportError) as error:
        _fail(str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error), error)


@contextlib.contextmanager
def model_errors(*more: type[Exception]) -> Iterator[None]:
    """Turn errors that tell the user what to do into a message and exit code 1; a bug keeps its traceback."""
    from langchain_dsplus.local.server import LocalServerError
    from langchain_dsplus.weights import WeightsError

    expected: tuple[type[Exception], ...] = (WeightsError, LocalServerError, ImportError, *more)
    try:
        yield
    except expected as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        raise typer.Exit(1) from error


def _fail(message: str, error: Exception) -> None:
    typer.secho(f"Error: {' '.join(message.split())}", fg="red", err=True)
    raise typer.Exit(1) from error


def new_table(title: str, *columns: str) -> Table:
    """An empty table for the screen; all columns but the first are numbers."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left")
    return table


def show(*things: Any) -> None:
    """Print texts, tables and panels."""
    from rich.console import Console

    console = Console(highlight=False)
    for thing in things:
        console.print(thing, soft_wrap=isinstance(thing, str), markup=False)


def quoted(path: Path) -> str:
    """A path as a shell takes it, so that a command can be copied."""
    return shlex.quote(str(path))


def to_be_labeled(rows: int, outcomes: Path, inputs: Path | None = None) -> str:
    """What to do about rows that need a label."""
    more = "" if inputs is None else f" --inputs {inputs}"
    return (
        f"{rows:,} rows on which the models disagree have no gold and count as lost: label them before you "
        f"certify. They are written by: dsplus label {outcomes} -o to_label.csv{more}"
    )


# --- files ------------------------------------------------------------------------------------------------------------


def table_suffix(path: Path) -> str:
    """The kind of a table, from its name."""
    suffix = path.suffix.lower()
    if suffix not in TABLES:
        raise ValueError(f"{path}: a table of outcomes must be .jsonl, .csv or .parquet")
    return suffix


def read_table(path: Path, about: Mapping[str, Any] | None = None, rules: Mapping[str, Any] | None = None) -> Outcomes:
    """A table of outcomes from disk, or what `dsplus route` wrote; `rules` are those for gold."""
    from langchain_dsplus.outcomes import Outcomes

    if path.is_dir():
        return _read_routed(path, about, rules)
    suffix = table_suffix(path)
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
        raise ValueError(f"{error}. {hint}") from None


def _read_routed(path: Path, about: Mapping[str, Any] | None, rules: Mapping[str, Any] | None) -> Outcomes:
    """The rows of a folder as they are now; how often they were certified on stands in a table beside them."""
    from langchain_dsplus.dataset.folder import Routed, is_routed
    from langchain_dsplus.outcomes import Outcomes

    if not is_routed(path):
        raise ValueError(f"{path} is a folder that `dsplus route` did not write: name a table of outcomes")
    kept = path / _KEPT
    before = Outcomes.from_parquet(kept).about if kept.exists() else {}
    return Routed(path).outcomes(about={**before, **(about or {})}, **(rules or {}))


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


def write_table(outcomes: Outcomes, path: Path) -> None:
    """Write a table of outcomes as its name says; into a folder that `dsplus route` wrote, beside its rows."""
    if path.is_dir():
        path /= _KEPT
    suffix = table_suffix(path)
    write = {".csv": outcomes.to_csv, ".parquet": outcomes.to_parquet}.get(suffix, outcomes.to_jsonl)
    write(path)


def read_rows(path: Path, limit: int | None) -> list[dict[str, Any]]:
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
                if cells
            ]
    elif suffix in (".jsonl", ".ndjson"):
        from langchain_dsplus.outcomes.files import json_objects

        rows = list(json_objects(path))
    elif suffix == ".parquet":
        from langchain_dsplus._imports import require
        from langchain_dsplus.outcomes.columns import rows_of

        parquet = require("pyarrow.parquet", "parquet")
        with path.open("rb") as opened:
            rows = list(rows_of(parquet.ParquetFile(opened).read()))
    else:
        raise ValueError(f"{path}: the data set must be .csv, .jsonl or .parquet")
    if not rows:
        raise ValueError(f"{path} holds no rows")
    return rows[:limit]


def texts_by_id(path: Path, text: str, id_: str) -> dict[str, Any]:
    """The texts of a data set by id."""
    rows = read_rows(path, None)
    if not any(text in row for row in rows):
        raise ValueError(f"{path} has no column {text!r}: name it with --text")
    return {str(row[id_] if row.get(id_) is not None else place): row.get(text) for place, row in enumerate(rows)}


def read_label_file(path: Path) -> list[str]:
    """Labels of a file, one a line."""
    found = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if len(found) < 2:
        raise ValueError(f"{path} must hold at least two labels, one a line")
    return found


# --- the large side ---------------------------------------------------------------------------------------------------


def told_price(price_input: float | None, price_output: float | None, currency: str) -> Price | None:
    """The price that the options name, if they name one."""
    from langchain_dsplus.costs.prices import Price

    if (price_input is None) != (price_output is None):
        raise ValueError("pass both --price-input and --price-output, per million tokens")
    if price_input is None or price_output is None:
        return None
    return Price(price_input, price_output, currency=currency)


def price_of(
    large: str,
    base_url: str | None,
    price_input: float | None,
    price_output: float | None,
    currency: str,
    max_cost: float | None,
) -> Price | None:
    """What the large model costs: as told, else by its name; refuses a limit without a price."""
    from langchain_dsplus.costs.prices import find_price

    price = told_price(price_input, price_output, currency)
    if price is None and base_url is None:
        price = find_price(large)
    if max_cost is not None and price is None:
        raise ValueError(f"--max-cost needs to know what {large} costs: pass --price-input and --price-output")
    return price


def large_chain(
    large: str,
    base_url: str | None,
    api_key_env: str,
    prompt: Path | None,
    labels: Sequence[str],
    column: str,
    rows: Sequence[Mapping[str, Any]],
) -> Any:
    """The large side: prompt, chat model, label parser."""
    from langchain_dsplus.prompts.parser import LabelParser
    from langchain_dsplus.prompts.pruner import PromptPruner

    messages = default_messages(column) if prompt is None else prompt_messages(prompt, column)
    template = PromptPruner.from_messages(messages, labels=labels, pruning="none")
    unknown = sorted(set(template.input_variables) - rows[0].keys())
    if unknown:
        raise ValueError(
            f"the prompt asks for {unknown}, and the data set has no such column (write a brace that is text as {{{{)"
        )
    return template | chat_model(large, base_url, api_key_env) | LabelParser(labels)


def chat_model(large: str, base_url: str | None, api_key_env: str) -> Any:
    """The chat model of the large side."""
    from langchain_dsplus._imports import require

    key = os.environ.get(api_key_env)
    if not key and base_url is None:
        raise ValueError(f"set {api_key_env} to your API key, or name a server with --base-url")
    chat = require("langchain_openai", "openai").ChatOpenAI
    return chat(model=large, base_url=base_url, api_key=key or "none", **CHAT)


def default_messages(column: str) -> list[Any]:
    """The prompt where none is named."""
    return [("human", "Classify the text.\n\n{" + column + "}")]


def prompt_messages(path: Path, column: str) -> list[Any]:
    """The prompt of a file: one text, or pairs of role and text as JSON."""
    source = path.read_text(encoding="utf-8")
    if path.suffix.lower() != ".json":
        return [("human", source)]
    try:
        found = load_json(source)
    except ValueError:
        found = None
    pairs = isinstance(found, list) and all(isinstance(item, list) and len(item) == 2 for item in found)
    if not found or not pairs or not all(isinstance(part, str) for item in found for part in item):
        raise ValueError(f'{path} must hold JSON like [["system", "..."], ["human", "... {{{column}}}"]]')
    return [tuple(item) for item in found]


def cost_estimate(chain: Any, rows: Sequence[Mapping[str, Any]], missing: int, price: Price | None, large: str) -> str:
    """What asking about the missing rows will take, in words."""
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
