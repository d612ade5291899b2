"""Ask the Python advisory database about every package of this environment: `make audit`.

It needs the network. Where that cannot be had it says why and ends well, since nothing is known then; a finding ends
with exit status 1. pip-audit has an environment of its own, so that it is not audited instead.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
import venv
from pathlib import Path
from typing import Any

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
    command = [
        python,
        "-m",
        "pip_audit",
        "--path",
        sysconfig.get_path("purelib"),
        "--skip-editable",
        "--format",
        "json",
    ]
    done = subprocess.run([*command, "--progress-spinner", "off"], check=False, capture_output=True, text=True)  # noqa: S603
    try:
        text, code = summary(json.loads(done.stdout)["dependencies"])
    except (ValueError, KeyError, TypeError):
        text, code = done.stderr, done.returncode or 1
    print(text)  # noqa: T201
    return code


def summary(packages: list[dict[str, Any]]) -> tuple[str, int]:
    """What pip-audit found, in words, and the exit status: 1 where a package has a known weakness.

    A package that the database does not know is named, since pip-audit counts it as one without a weakness; a mirror
    that hands on packages but no advisories knows none.
    """
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    lines = [
        f"{package['name']} {package['version']}: {weakness['id']} {' '.join(weakness['aliases'])}, "
        f"mended in {', '.join(weakness['fix_versions']) or 'no release yet'}"
        for package in packages
        for weakness in package.get("vulns", ())
    ]
    if len(unknown) == len(packages):
        return f"audit skipped: there are no advisories about any of the {len(packages)} packages (a mirror?)", 0
    known = f"{len(packages) - len(unknown)} packages looked up, {len(lines)} known weaknesses"
    rest = f"; not looked up, since the database does not know them: {', '.join(unknown)}" if unknown else ""
    return "\n".join([*lines, known + rest]), int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
