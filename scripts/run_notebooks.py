# ruff: noqa: T201
"""Execute notebooks headless, in their own folder, and fail on the first error. The files stay as they are.

python scripts/run_notebooks.py cookbook [--write] [--timeout SECONDS]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path


def main() -> int:
    """Run every notebook under the given files and folders; the exit status."""
    parser = argparse.ArgumentParser(description="Execute notebooks headless.")
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--write", action="store_true", help="keep the outputs in the files")
    parser.add_argument("--timeout", type=int, default=1200, help="seconds for one cell")
    arguments = parser.parse_args()

    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    # A plot must not wait for a window, and a kernel must not wait for a debugger.
    os.environ.setdefault("MPLBACKEND", "Agg")
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    found: list[Path] = []
    for path in arguments.paths:
        found += sorted(path.glob("*.ipynb")) if path.is_dir() else [path]
    if not found:
        print(f"no notebooks under {', '.join(map(str, arguments.paths))}")
        return 1
    for path in found:
        start = time.monotonic()
        notebook = nbformat.read(path, as_version=4)
        client = NotebookClient(
            notebook,
            timeout=arguments.timeout,
            kernel_name="python3",
            resources={"metadata": {"path": str(path.parent)}},
        )
        try:
            client.execute()
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            print(f"{path}: FAILED\n{error}")
            return 1
        if arguments.write:
            for cell in notebook.cells:  # warnings name folders of this machine; times make every run a change
                cell.metadata.pop("execution", None)
                if "outputs" in cell:
                    cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
            nbformat.write(notebook, path)
        print(f"{path}: {time.monotonic() - start:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
