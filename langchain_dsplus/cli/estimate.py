"""`dsplus estimate`: from a log of past calls to what a shunt would save."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from langchain_dsplus.cli.options import (
    Currency,
    PriceInput,
    PriceOutput,
    Quiet,
    plain_errors,
    show,
    told_price,
    write_table,
)

NO_TASK = 3
"""Exit code where the log has no task that a shunt could take; 0 is fine, 1 an error, 2 a wrong option."""


def estimate_command(
    log: Annotated[
        list[str],
        typer.Argument(help="Files (JSONL, CSV, Parquet, a LangChain SQLite cache), folders, or langsmith:PROJECT."),
    ],
    input: Annotated[str | None, typer.Option(help="Path of the input in a row: messages.-1.content")] = None,
    output: Annotated[str | None, typer.Option(help="Path of what the large model said: response")] = None,
    gold: Annotated[str | None, typer.Option(help="Path of what was true, where that is known.")] = None,
    group: Annotated[str | None, typer.Option(help="Path of what rows belong to: customer, thread.")] = None,
    model: Annotated[str | None, typer.Option(help="Path of the large model's name.")] = None,
    usage: Annotated[str | None, typer.Option(help="Path of the tokens, as the provider counts them.")] = None,
    seconds: Annotated[str | None, typer.Option(help="Path of how long the call took.")] = None,
    run_type: Annotated[str | None, typer.Option(help="Of LangSmith runs, only these: llm, chain.")] = None,
    run_name: Annotated[str | None, typer.Option(help="Of LangSmith runs, only those of this name.")] = None,
    task: Annotated[int | None, typer.Option(min=1, help="Number of the task, where the log holds several.")] = None,
    max_loss: Annotated[str, typer.Option(help="What is certified first: '1 point', or a share below .1.")] = "1 point",
    small: Annotated[str, typer.Option(help="sentence, tfidf, or auto: sentence where its weights are here.")] = "auto",
    rows: Annotated[int, typer.Option(min=60, help="Calls of the task that are looked at, drawn at random.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    price_input: PriceInput = None,
    price_output: PriceOutput = None,
    currency: Currency = "USD",
    html: Annotated[Path | None, typer.Option(help="Write a report: one HTML file, no text of an input in it.")] = None,
    table: Annotated[Path | None, typer.Option(help="Write the held-out rows, for `dsplus label`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Tell from past calls what could stay local, certified from agreement, and what it would save."""
    from langchain_dsplus.estimate import estimate
    from langchain_dsplus.traces.logs import Columns

    with plain_errors():
        price = told_price(price_input, price_output, currency)
        named = {"input": input, "output": output, "gold": gold, "group": group, "model": model}
        named |= {"usage": usage, "seconds": seconds}
        given = {name: path for name, path in named.items() if path is not None}
        found = estimate(
            log,
            columns=Columns(**given) if given else None,
            run_type=run_type,
            run_name=run_name,
            task=task,
            small=small,  # type: ignore[arg-type]  # it is checked there
            max_loss=max_loss,
            rows=rows,
            price=price,
            seed=seed,
            progress=not quiet,
        )
        if as_json:
            typer.echo(json.dumps(found.to_dict(), ensure_ascii=False, allow_nan=False, indent=2))
        else:
            show(*found.parts())
        if found.table is not None and html is not None:
            show(f"Report: {found.to_html(html)}")
        if found.table is not None and table is not None:
            write_table(found.table, table)
            show(f"Held-out rows: {table}")
    if found.decision == "NO TASK":
        raise typer.Exit(NO_TASK)
