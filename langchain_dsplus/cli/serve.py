"""`dsplus serve`: a shunt behind the OpenAI protocol."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_dsplus._json import load_json
from langchain_dsplus.cli.options import (
    Trusted,
    load_options,
    model_errors,
    plain_errors,
    prompt_messages,
    read_label_file,
)

if TYPE_CHECKING:
    from langchain_dsplus.serve.tasks import Task

_TOKEN = "DSPLUS_SERVE_TOKEN"  # noqa: S105 - the variable that holds it
_LOCAL = ("127.0.0.1", "::1", "localhost")
Host = Annotated[str, typer.Option(help="Where to listen; beyond this machine only with DSPLUS_SERVE_TOKEN set.")]


def token_for(host: str) -> str | None:
    """The token that is wanted, from the environment.

    Raises:
        ValueError: If others could reach the server, and there is none.
    """
    token = os.environ.get(_TOKEN) or None
    if token is None and host not in _LOCAL:
        raise ValueError(f"{host} can be reached from other machines: set {_TOKEN} to a token that clients must send")
    return token


def serve(
    folders: Annotated[list[Path], typer.Argument(help="Folder of the shunt; several serve several tasks.")],
    upstream: Annotated[str, typer.Option(help="Base URL of your provider, such as https://api.openai.com/v1.")],
    model: Annotated[str | None, typer.Option(help="The large model's name, as clients send it.")] = None,
    prompt: Annotated[
        Path | None,
        typer.Option(
            help="The task's prompt: a text (the system's; or, where it holds {text}, the user's), or .json such as "
            '[["system", "..."], ["user", "... {text}"]]. Kept in the folder from the first start on.'
        ),
    ] = None,
    question: Annotated[
        Path | None, typer.Option(help="Instead of a prompt: the question of /v1/decisions, as JSON.")
    ] = None,
    reply: Annotated[str, typer.Option(help="What a local answer says.")] = "{label}",
    labels: Annotated[Path | None, typer.Option(help="The task's labels, one a line, where the folder is new.")] = None,
    max_loss: Annotated[str | None, typer.Option(help="What may be lost, where the folder is new: '1 point'.")] = None,
    version: Annotated[str | None, typer.Option(help="As in DataShunt, where a chain has made the folder.")] = None,
    trusted: Trusted = None,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8080,
    max_requests: Annotated[int, typer.Option(min=1, help="At a time; more get 503.")] = 256,
    max_body: Annotated[float, typer.Option(min=0.001, help="Megabytes of a request; more gets 413.")] = 16.0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds between two bytes of the upstream.")] = 600.0,
    drain: Annotated[float, typer.Option(min=0.0, help="Seconds that a shutdown waits for requests.")] = 30.0,
) -> None:
    """Serve a shunt to any client of the OpenAI protocol: one changed base URL.

    What is the shunt's task goes through it; everything else passes to your provider untouched, and so do its faults.
    Until something is certified (`dsplus work FOLDER --every 10m`) everything goes up and is recorded. Keys are passed
    on, and neither kept nor logged. Where DSPLUS_SERVE_TOKEN is set, clients must send it as x-dsplus-token.
    """
    with model_errors(), plain_errors():
        from langchain_dsplus.serve.app import Limits, create_app
        from langchain_dsplus.serve.open import open_shunt
        from langchain_dsplus.serve.run import run
        from langchain_dsplus.serve.upstream import Upstream

        task = _task(model, prompt, question, reply)
        if len(folders) > 1 and (task is not None or labels is not None):
            raise ValueError("several folders are served as they are: start each new one alone first")
        token = token_for(host)
        provider = Upstream(upstream, timeout=timeout)
        shunts = [
            open_shunt(
                folder,
                task,
                provider,
                labels=None if labels is None else read_label_file(labels),
                max_loss=max_loss,
                version=version,
                options=load_options(trusted),
            )
            for folder in folders
        ]
        limits = Limits(requests=max_requests, body=int(max_body * 1e6), drain_seconds=drain)
        app = create_app(shunts, provider, token=token, limits=limits)
        run(app, host, port, drain_seconds=drain, say=lambda url: typer.echo(f"Serving at {url}/v1 (Ctrl-C stops it)"))


def label_page(folder: Path, host: str, port: int, *, browse: bool) -> None:
    """Serve the page on which people label a shunt's disagreements."""
    import secrets
    import webbrowser

    from langchain_dsplus.serve.label import label_app
    from langchain_dsplus.serve.run import run
    from langchain_dsplus.shunt.folder import ShuntFolder
    from langchain_dsplus.traces.store import TraceStore

    here = ShuntFolder(folder)
    token = os.environ.get(_TOKEN) or secrets.token_urlsafe(24)

    def say(url: str) -> None:
        typer.echo(f"Label at {url}/#{token} (Ctrl-C stops it; several people may work at once)")
        if browse:
            webbrowser.open(f"{url}/#{token}")

    with TraceStore(here.traces) as store:
        run(label_app(here, store, token), host, port, drain_seconds=2.0, say=say)


def _task(model: str | None, prompt: Path | None, question: Path | None, reply: str) -> Task | None:
    from langchain_dsplus.serve.tasks import ChatTask, DecisionTask

    if model is None and prompt is None and question is None:
        return None
    if model is None or (prompt is None) == (question is None):
        raise ValueError("pass --model and either --prompt or --question, or none of them")
    if question is not None:
        return DecisionTask(model, load_json(question.read_bytes()))
    assert prompt is not None
    return ChatTask(model, prompt_messages(prompt, "text"), reply)
