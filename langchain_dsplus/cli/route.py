"""`dsplus route`: a saved router over a whole data set."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_dsplus.cli.options import (
    ApiKeyEnv,
    BaseUrl,
    Concurrency,
    Currency,
    MaxCost,
    PriceInput,
    PriceOutput,
    Quiet,
    TextColumn,
    chat_model,
    large_chain,
    model_errors,
    plain_errors,
    price_of,
    read_label_file,
    read_rows,
    show,
)

if TYPE_CHECKING:
    from langchain_dsplus.routing.router import ConfidenceRouter


def route(
    input_: Annotated[Path, typer.Argument(metavar="INPUT", help="Rows to answer: .csv, .jsonl or .parquet.")],
    output: Annotated[Path, typer.Argument(help="Folder for the answers: Parquet files, and the journal of replies.")],
    router: Annotated[Path, typer.Option(help="Folder of a saved router.")],
    large: Annotated[str, typer.Option(help="Name of the large model, as its server knows it.")],
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = "OPENAI_API_KEY",
    prompt: Annotated[
        Path | None,
        typer.Option(help="Prompt, as in `dsplus collect`; by default the router's own, where it was saved with one."),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Labels, one a line; by default the small model's.")] = None,
    text: TextColumn = "text",
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster; `local` starts one here. Without it no Ray is used.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Workers on Ray; by default one for each CPU.")] = None,
    block_size: Annotated[int, typer.Option(min=1, help="Rows that the small model sees at once.")] = 1024,
    per_second: Annotated[float | None, typer.Option(help="Calls of the large model in a second, at most.")] = None,
    max_cost: MaxCost = None,
    price_input: PriceInput = None,
    price_output: PriceOutput = None,
    currency: Currency = "USD",
    concurrency: Concurrency = 8,
    run: Annotated[str, typer.Option(help="Names the run in the ids of decisions.")] = "",
    quiet: Quiet = False,
) -> None:
    """Answer every row of a data set: locally what the router is sure of, the rest by the large model.

    A run that was stopped goes on with the same command, and asks the large model nothing twice.
    """
    from langchain_dsplus.dataset.desk import SpentError

    with model_errors(SpentError), plain_errors():
        from langchain_dsplus.dataset.run import route_dataset

        price = price_of(large, base_url, price_input, price_output, currency, max_cost)
        rows = read_rows(input_, None)
        if prompt is None:
            if empty := next((place for place, row in enumerate(rows, 1) if row.get(text) is None), None):
                raise ValueError(f"row {empty} of {input_} has nothing in column {text!r}; which one to read: --text")
            rows = [{text: row[text]} for row in rows]
        make = functools.partial(
            make_saved_router,
            router,
            large=large,
            base_url=base_url,
            api_key_env=api_key_env,
            prompt=prompt,
            labels=None if labels is None else read_label_file(labels),
            column=text,
            row=rows[0],
        )
        routed = route_dataset(
            rows,
            make,
            output,
            run=run,
            ray=ray,
            workers=workers,
            block_size=block_size,
            per_second=per_second,
            max_cost=max_cost,
            prices=price,
            max_concurrency=concurrency,
            progress=not quiet,
        )
        show(routed.ledger(price, currency=currency))
        failed = sum(said["failed"] for said in routed.parts().values())
        show(f"{len(routed):,} rows in {output}" + (f"; {failed:,} failed: run the command again" if failed else ""))


def make_saved_router(
    folder: Path,
    *,
    large: str,
    base_url: str | None,
    api_key_env: str,
    prompt: Path | None,
    labels: Sequence[str] | None,
    column: str,
    row: Mapping[str, Any],
) -> ConfidenceRouter:
    """The saved router with its large side, in whichever process; the folder must be there."""
    from langchain_dsplus.routing.persistence import SavedRouterError, load_pruner, load_router, load_small_models

    if prompt is None:
        try:
            pruner = load_pruner(folder)
        except SavedRouterError as error:
            if "no pruner" not in str(error):
                raise
        else:
            return load_router(folder, large=pruner.chain(chat_model(large, base_url, api_key_env)))
    if labels is None:
        labels = load_small_models(folder)[0][0].labels
    chain = large_chain(large, base_url, api_key_env, prompt, labels, column, [row])
    return load_router(folder, large=chain)
