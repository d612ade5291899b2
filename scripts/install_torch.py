"""Install a CPU build of torch into this interpreter's environment, and never gigabytes of CUDA by accident.

Run by `make` with the interpreter of the virtual environment; standard library only. In this order:

1. torch is there already: nothing to do.
2. `TORCH_INDEX` (default: PyTorch's CPU index) answers within a few seconds: install from it.
3. Otherwise pip's own configuration, after a dry run: if that would take NVIDIA packages, stop and say why.

Environment: `TORCH_INDEX`, `TORCH_VERSION` (default: see below), `ALLOW_CUDA=1`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
VERSION = "2.13.0"
SECONDS = 5.0


def say(text: str) -> None:
    """Print one line at once."""
    print(f"[torch] {text}", flush=True)  # noqa: T201


def answers(index: str, seconds: float = SECONDS) -> bool:
    """Whether a package index answers in time. Only its reply counts, not its content."""
    url = f"{index.rstrip('/')}/torch/"
    if not url.startswith(("https://", "http://", "file://")):
        return False
    try:
        with urllib.request.urlopen(url, timeout=seconds):  # noqa: S310
            return True
    except urllib.error.HTTPError as error:
        return error.code < 400
    except (OSError, ValueError):
        return False


def pip(*arguments: str) -> int:
    """Run pip of this interpreter."""
    return subprocess.call([sys.executable, "-m", "pip", "--no-input", *arguments])  # noqa: S603


def wanted_packages(requirement: str) -> list[str] | None:
    """Names of what pip would install, from a dry run; None where pip finds no answer."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        if pip("install", "--quiet", "--dry-run", "--report", str(report), requirement) != 0:
            return None
        body = json.loads(report.read_text(encoding="utf-8"))
    return [str(item["metadata"]["name"]).lower() for item in body["install"]]


def is_cuda(name: str) -> bool:
    """Whether a package belongs to a CUDA build."""
    return name.startswith(("nvidia-", "nvidia_", "cuda-", "cuda_")) or name == "triton"


def installed() -> bool:
    """Whether torch is installed completely: pip writes `INSTALLER` last, so a cut-off install lacks it."""
    try:
        return importlib.metadata.distribution("torch").read_text("INSTALLER") is not None
    except importlib.metadata.PackageNotFoundError:
        return False


def main() -> int:
    """Install torch; the exit status."""
    if installed():
        say("already installed")
        return 0
    index = os.environ.get("TORCH_INDEX") or CPU_INDEX
    requirement = f"torch=={os.environ.get('TORCH_VERSION') or VERSION}"
    if answers(index):
        say(f"from {index} (about 200 MB)")
        return pip("install", "--index-url", index, "torch>=2.2")
    say(f"{index} does not answer within {SECONDS:.0f} s: trying pip's own configuration")
    names = wanted_packages(requirement)
    if names is None:
        say(f"pip finds no {requirement} for this Python. Set TORCH_INDEX or TORCH_VERSION.")
        return 1
    cuda = [name for name in names if is_cuda(name)]
    if cuda and os.environ.get("ALLOW_CUDA") != "1":
        say(f"stopped: pip would install a CUDA build of several gigabytes ({len(cuda)} NVIDIA packages).")
        say("Nothing here needs a GPU. Choose one of:")
        say("  make ... TORCH_INDEX=<URL of an index with CPU builds, e.g. a mirror of " + CPU_INDEX + ">")
        say("  PIP_FIND_LINKS=<folder with a CPU wheel of torch> make ...")
        say("  make ... ALLOW_CUDA=1     to take the CUDA build all the same")
        return 1
    return pip("install", requirement)


if __name__ == "__main__":
    sys.exit(main())
