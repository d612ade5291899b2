"""A provider's faults on every way of asking; a seeded sample here, all of them by `make faults`."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("langchain_openai")
pytest.importorskip("langchain")
pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")

from tests.faults.kills import WRITERS
from tests.faults.matrix import CELLS, FAULTS, provider, run_cell

ROOT = Path(__file__).resolve().parents[2]
SEED = int(os.environ.get("DSPLUS_FAULTS_SEED", "0"))


def sample(seed: int) -> list:
    """Each fault once, and each way with each end, at least."""
    cells = list(CELLS)
    random.Random(seed).shuffle(cells)
    chosen = [next(cell for cell in cells if cell.fault == fault and not cell.end) for fault in FAULTS]
    return list(dict.fromkeys(chosen + list({(cell.way, cell.end): cell for cell in cells}.values())))


@pytest.fixture(scope="module")
def server():
    with provider() as made:
        yield made


@pytest.mark.parametrize("cell", sample(SEED), ids=lambda cell: cell.name)
def test_every_cell_is_the_right_answer_or_a_clear_error_and_the_books_agree(cell, server, tmp_path):
    assert run_cell(cell, server, tmp_path / "shunt") == []


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """One kill of each writer and its troubles, in a process of its own, which forks before it has threads."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork and kill -9")
    folder = tmp_path_factory.mktemp("kills")
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.faults.kills",
        ",".join(WRITERS),
        "1",
        str(SEED),
        str(folder),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return {found["writer"]: found for found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_kill_or_other_trouble_loses_nothing_that_was_acknowledged(writer, killed):
    """500 kills by `make faults`."""
    found = killed[writer]
    assert "error" not in found, found["error"]
    if not found["kills"]:
        pytest.skip("no PostgreSQL is installed (Debian: apt-get install postgresql)")
    assert (found["lost"], found["twice"]) == (0, 0)
