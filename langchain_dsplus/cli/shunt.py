"""`dsplus work` and `check`, and what `status` and `report` say of a shunt."""

from __future__ import annotations

import importlib
import json
import re
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_dsplus.cli.options import (
    Currency,
    PriceInput,
    PriceOutput,
    Trusted,
    load_options,
    plain_errors,
    read_label_file,
    show,
    told_price,
)

if TYPE_CHECKING:
    from langchain_dsplus.shunt.worker import Worker

MOVED = 1
"""Exit code where a part is no longer what was certified."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_Folder = Annotated[Path, typer.Argument(help="Folder of the shunt.")]
_Traces = Annotated[str | None, typer.Option(help="URL of the trace store, where it is not in the folder.")]


def work(
    folder: _Folder,
    every: Annotated[
        str | None, typer.Option(help="Go on for ever, and look every so often: 30s, 10m, 2h. Without it once.")
    ] = None,
    label_wait: Annotated[
        str | None, typer.Option(help="How long a certification waits for labels: 0s, 2h, 3d; by default a week.")
    ] = None,
    traces: _Traces = None,
    trusted: Trusted = None,
) -> None:
    """Do what is due in a shunt: train, certify, put live, certify again after an alarm; say what was done.

    Whatever serves from the folder goes on meanwhile, and follows within seconds. One process works at a time; killed
    at any point, the next one goes on.
    """
    with plain_errors():
        pause = None if every is None else _seconds(every, "--every")
        wait = None if label_wait is None else _seconds(label_wait, "--label-wait")
        worker = _worker(folder, traces, trusted)
        worker.label_wait = wait
        if pause is None:
            show(str(worker.work()))
            return
    while True:
        try:
            with plain_errors():
                show(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {worker.work()}")
        except typer.Exit:
            pass  # it was said; the next look may find it mended
        except KeyboardInterrupt:
            return
        try:
            time.sleep(pause)
        except KeyboardInterrupt:
            return


def check(
    folder: _Folder,
    chain: Annotated[
        str | None,
        typer.Option(help="The chain as it is in the code now: MODULE:NAME. It is imported from the current folder."),
    ] = None,
    version: Annotated[str | None, typer.Option(help="As in DataShunt, where the chain cannot be seen into.")] = None,
    labels: Annotated[Path | None, typer.Option(help="The labels as they are now: .txt or .json.")] = None,
    price_input: PriceInput = None,
    price_output: PriceOutput = None,
    currency: Currency = "USD",
    traces: _Traces = None,
    trusted: Trusted = None,
) -> None:
    """For CI: whether what a shunt's certificate is bound to is still what it was.

    Compared are the small model's files, the chain and its prompt (with --chain), labels, the rows that certified, the
    price. Exit code 0: nothing has moved. 1: something has, or an error; the output says what. 2: a wrong option.
    """
    with plain_errors():
        from langchain_dsplus.shunt.check import check_shunt

        worker = _worker(folder, traces, trusted)
        found = check_shunt(
            worker.folder,
            worker.store,
            worker.registry,
            large=None if chain is None else _load(chain),
            version=version,
            labels=None if labels is None else read_label_file(labels),
            price=told_price(price_input, price_output, currency),
        )
        for one in found:
            show(f"MOVED {one.part}: {one.message}")
    if found:
        raise typer.Exit(MOVED)
    show("Nothing has moved.")


# --- what `status` and `report` say of a shunt -----------------------------------------------------------------------


def is_shunt(path: Path) -> bool:
    """Whether a folder is a shunt's."""
    from langchain_dsplus.shunt.folder import ShuntFolder

    return ShuntFolder(path).exists


def show_shunt(path: Path, traces: str | None, *, as_json: bool) -> None:
    """Print what a shunt says of itself."""
    from langchain_dsplus.shunt.status import shunt_status

    worker = _worker(path, traces, None)
    found = shunt_status(worker.folder, worker.store, worker.registry)
    if as_json:
        typer.echo(json.dumps(asdict(found), ensure_ascii=False, allow_nan=False, indent=1))
        return
    show(str(found))


def report_shunt(path: Path, output: Path) -> Path:
    """Write the page about a shunt."""
    from langchain_dsplus.shunt.report import write_shunt_report

    worker = _worker(path, None, None)
    return write_shunt_report(worker.folder, worker.store, output)


# --- inside ----------------------------------------------------------------------------------------------------------


def _worker(path: Path, traces: str | None, trusted: list[str] | None) -> Worker:
    from langchain_dsplus.shunt.worker import Worker

    return Worker.open(path, traces=traces, options=load_options(trusted))


def _seconds(text: str, option: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None:
        raise ValueError(f"{option} takes a number and a unit: 30s, 10m, 2h, 1d")
    return float(found[1]) * _UNITS[found[2]]


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    if not module or not name:
        raise ValueError("--chain takes MODULE:NAME, such as app.chains:classify")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--chain {path}: {error}") from None
    return found
