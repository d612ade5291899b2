"""Ask the Python advisory database about every package of this environment: `make audit`.

It needs the network. Where that cannot be had it says why and ends well, since nothing is known then; a finding ends
with pip-audit's exit status. pip-audit has an environment of its own, so that it is not audited instead.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
import venv
from pathlib import Path

ADVISORIES = "https://pypi.org/pypi/pip/json"
HOME = Path(__file__).resolve().parents[1] / "build" / "audit"


def reachable() -> str | None:
    """Why the advisories cannot be had; None where they can."""
    try:
        with urllib.request.urlopen(ADVISORIES, timeout=15) as reply:
            reply.read(1)
    except (urllib.error.URLError, OSError) as error:
        return f"{type(error).__name__} at pypi.org"
    return None


def main() -> int:
    """Run it."""
    why = reachable()
    if why is None:
        python = HOME / "bin" / "python"
        if not python.exists():
            venv.create(HOME, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", "--progress-bar", "off", "pip-audit>=2.7,<3"]
        if subprocess.run(install, check=False).returncode:  # noqa: S603
            why = "pip-audit cannot be installed"
    if why is not None:
        print(f"audit skipped: {why}")  # noqa: T201
        return 0
    command = [python, "-m", "pip_audit", "--path", sysconfig.get_path("purelib"), "--skip-editable"]
    return subprocess.run([*command, "--progress-spinner", "off"], check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
