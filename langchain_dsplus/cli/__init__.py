"""The command `dsplus`: one module for each group of verbs; what they share stands in `options`."""

from __future__ import annotations

from typing import Annotated

import typer

from langchain_dsplus.cli import collect, estimate, learning, models, route, serve, shunt, threshold, transfer

app = typer.Typer(
    name="dsplus",
    help="Small local models in front of a paid large one: how much may stay local, with a promise; models, a demo.",
    no_args_is_help=True,
    add_completion=False,
)
for verbs in (estimate, collect, threshold, learning, route, shunt, serve, transfer, models):
    verbs.add_to(app)


def _version(wanted: bool) -> None:
    if wanted:
        from langchain_dsplus import __version__

        typer.echo(f"langchain-dsplus {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Small local models in front of a paid large one: how much may stay local, with a promise; models, a demo."""
