"""`dsplus label FOLDER`: the page of a shunt, its address with the token, and what is refused."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import httpx
from typer.testing import CliRunner

from langchain_dsplus.cli import app
from tests.unit.shunt.conftest import World


def test_a_process_serves_the_page(tmp_path):
    with World(tmp_path).shunt():
        pass
    command = [sys.executable, "-u", "-m", "langchain_dsplus.cli", "label", str(tmp_path / "shunt")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        found = re.search(r"(http://127\.0\.0\.1:\d+)/#(\S{20,})", process.stdout.readline())
        url, token = found.groups()
        assert httpx.get(url, trust_env=False).status_code == 200
        for given, status in ((token, 200), ("", 401)):
            reply = httpx.post(
                f"{url}/api/next", json={"person": "a"}, headers={"x-dsplus-token": given}, trust_env=False
            )
            assert reply.status_code == status
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 130, -signal.SIGINT)
    finally:
        process.kill()
        process.communicate()


def test_a_folder_that_is_no_shunt_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["label", str(tmp_path)])
    assert result.exit_code == 1
    assert "is no shunt" in result.output
