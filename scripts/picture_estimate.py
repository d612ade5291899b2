# ruff: noqa: T201
"""Draw what `dsplus estimate` prints about recorded answers: `python scripts/picture_estimate.py` (docs/images).

Needs the data set `banking77_gpt` (`python -m benchmarks.data banking77_gpt`). The log holds the 3,080 questions to a
bank's support with what GPT-4 answered; nothing else is known of them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def write_log(path: Path) -> Path:
    """Write the recorded calls as a log of messages, replies and, where a person said it, what was true."""
    from benchmarks import data

    lines = [
        {"messages": [{"role": "user", "content": row.text}], "response": row.large["gpt-4"], "gold": row.label}
        for row in data.shuffled(data.banking77_gpt("test"), 0)
    ]
    path.write_text("".join(json.dumps({**line, "model": "gpt-4"}) + "\n" for line in lines), encoding="utf-8")
    return path


def main() -> int:
    """Write the log, run the command's own function, and save the screen as SVG."""
    from rich.console import Console

    from langchain_dsplus.estimate import estimate

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "estimate.svg")
    parser.add_argument("--gold", action="store_true", help="read what people said is true, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_log(Path("calls.jsonl"))
        columns = {"input": "messages.-1.content", "output": "response", "model": "model"}
        found = estimate("calls.jsonl", columns=columns | ({"gold": "gold"} if arguments.gold else {}))
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            console = Console(record=True, width=100, file=nowhere, force_terminal=True)
            for part in found.parts():
                console.print(part, markup=False)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    console.save_svg(str(arguments.output), title="dsplus estimate calls.jsonl" + (" --gold gold" * arguments.gold))
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
