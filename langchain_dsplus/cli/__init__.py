"""The command `dsplus`: one module for each group of verbs; what they share stands in `options`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from langchain_dsplus.cli import collect, estimate, learning, models, route, serve, shunt, threshold, transfer

app = typer.Typer(
    name="dsplus",
    help="Small local models in front of a paid large one: how much may stay local, with a promise; models, a demo.",
    no_args_is_help=True,
    add_completion=False,
)
_VERBS: dict[Callable[..., None], str] = {
    estimate.estimate_command: "estimate",
    collect.plan: "plan",
    collect.collect: "collect",
    threshold.label: "label",
    threshold.certify: "certify",
    threshold.report: "report",
    learning.distil: "distil",
    learning.status: "status",
    learning.promote: "promote",
    learning.rollback: "rollback",
    route.route: "route",
    shunt.work: "work",
    shunt.check: "check",
    serve.serve: "serve",
    transfer.compare_transfer: "compare-transfer",
    models.serve_model_command: "serve-model",
    models.demo: "demo",
}
for verb, name in _VERBS.items():
    app.command(name)(verb)
app.add_typer(models.models, name="models")


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
