"""`dsplus models` and `serve-model`: weights of models by name, fetched and served; `dsplus demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from langchain_dsplus.cli.options import Quiet, model_errors

models = typer.Typer(help="Model weights and data: what there is, what is here, and fetching it.", no_args_is_help=True)


@models.command("list")
def list_models() -> None:
    """List what can be fetched by name, and where it lies."""
    from langchain_dsplus.demo import register_packages
    from langchain_dsplus.weights import WeightsError, cache_dir, cached_path, list_artifacts

    register_packages()
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
    quiet: Quiet = False,
) -> None:
    """Fetch models into the cache and check them; one that was cut off goes on where it stopped."""
    from langchain_dsplus.demo import register_packages
    from langchain_dsplus.weights import pull

    register_packages()
    with model_errors():
        for name in names:
            typer.echo(f"{name}: {pull(name, progress=not quiet)}")


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
    from langchain_dsplus.demo import register_packages
    from langchain_dsplus.local.server import serve_model

    register_packages()
    with model_errors(ValueError):  # what the user typed
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
    with model_errors():
        from langchain_dsplus.demo import DemoError, run_demo
    with model_errors(DemoError):
        run_demo(model="qwen2.5-coder-1.5b" if large else model, quick=quick, output=output)
