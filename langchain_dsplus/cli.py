"""The command `dsplus`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from langchain_dsplus import cli_learning, cli_threshold, cli_transfer

app = typer.Typer(
    name="dsplus",
    help="Small local models in front of a paid large one: how much may stay local, with a promise; models, a demo.",
    no_args_is_help=True,
    add_completion=False,
)
models = typer.Typer(help="Model weights and data: what there is, what is here, and fetching it.", no_args_is_help=True)
cli_threshold.add_to(app)
cli_learning.add_to(app)
cli_transfer.add_to(app)
app.add_typer(models, name="models")


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


@contextlib.contextmanager
def _plain_errors(*more: type[Exception]) -> Iterator[None]:
    """Turn errors that tell the user what to do into a message and exit code 1; a bug keeps its traceback."""
    from langchain_dsplus.server import LocalServerError
    from langchain_dsplus.weights import WeightsError

    expected: tuple[type[Exception], ...] = (WeightsError, LocalServerError, ImportError, *more)
    try:
        yield
    except expected as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        raise typer.Exit(1) from error


@models.command("list")
def list_models() -> None:
    """List what can be fetched by name, and where it lies."""
    from langchain_dsplus.weights import WeightsError, cache_dir, cached_path, list_artifacts

    for artifact in list_artifacts():
        try:
            path = cached_path(artifact.name)
        except WeightsError as error:  # its environment variable points nowhere
            here = str(error)
        else:
            here = "not here" if path is None else f"here: {path}"
        typer.secho(artifact.name, bold=True)
        typer.echo(f"  {artifact.kind}, {artifact.size / 1e6:,.1f} MB, {artifact.license}: {artifact.title}\n  {here}")
    typer.echo(f"Cache: {cache_dir()} (DSPLUS_CACHE names another)")


@models.command("pull")
def pull_models(
    names: Annotated[list[str], typer.Argument(help="Names as `dsplus models list` shows them.")],
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Fetch models into the cache and check them; one that was cut off goes on where it stopped."""
    from langchain_dsplus.weights import pull

    with _plain_errors():
        for name in names:
            typer.echo(f"{name}: {pull(name, progress=not quiet)}")


@app.command("serve-model")
def serve_model_command(
    model: Annotated[str, typer.Argument(help="A name from `dsplus models list`, or the path of a GGUF file.")],
    host: Annotated[str, typer.Option(help="Where to listen; beyond this machine only with an API key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 0,
    n_ctx: Annotated[int, typer.Option(help="Tokens of context for each request.")] = 4096,
    threads: Annotated[int | None, typer.Option(help="CPU threads; by default the physical cores.")] = None,
    parallel: Annotated[int, typer.Option(help="Requests worked on at the same time.")] = 1,
    api_key: Annotated[
        str | None, typer.Option(envvar="DSPLUS_SERVER_API_KEY", help="What clients must send.", show_envvar=True)
    ] = None,
) -> None:
    """Serve a GGUF model over the OpenAI protocol until Ctrl-C."""
    from langchain_dsplus.server import serve_model

    with _plain_errors(ValueError):  # what the user typed
        server = serve_model(model, host, port, n_ctx=n_ctx, threads=threads, parallel=parallel, api_key=api_key)
    shown = "os.environ['DSPLUS_SERVER_API_KEY']" if api_key else "'local'"  # a key does not belong on a screen
    with server:
        try:
            typer.echo(f"Serving {server.model} at {server.base_url}")
            typer.echo(f"  ChatOpenAI(base_url={server.base_url!r}, api_key={shown}, model={server.model!r})")
            typer.echo("Ctrl-C stops it.")
            while server.running:
                time.sleep(0.5)
        except KeyboardInterrupt:
            typer.echo("Stopped.")
            return
        typer.secho(f"The server ended by itself.\n{server.log_tail()}", fg="red", err=True)
        raise typer.Exit(1)


@app.command()
def demo(
    model: Annotated[
        Literal["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"],
        typer.Option(help="The local model that plays the large one."),
    ] = "qwen2.5-coder-0.5b",
    large: Annotated[bool, typer.Option("--large", help="Short for --model qwen2.5-coder-1.5b.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for the outcomes and the plot.")] = Path("demo-output"),
    quick: Annotated[bool, typer.Option("--quick", help="Fewer inputs: a look, not a measurement.")] = False,
) -> None:
    """Real reviews, a small model and a real local language model: what may stay local, and what it saves."""
    with _plain_errors():
        from langchain_dsplus.demo import DemoError, run_demo
    with _plain_errors(DemoError):
        run_demo(model="qwen2.5-coder-1.5b" if large else model, quick=quick, output=output)


if __name__ == "__main__":
    app()
