"""What `dsplus estimate` promises from a log, against what is reached later; its time and memory as the log grows.

Promises: a log is drawn from recorded or simulated traffic, and estimated; then its certified policy, and a live
`DataShunt` that gets the same calls and works twice, answer fresh rows. Banking77 with what GPT-4 answered (recorded),
and CLINC150 (half of its intents) with a simulated large model that is wrong in 6 % of the calls, within the intents at
hand. Agreement is all that anybody knows. Growth: a generated log in a fresh process, word counts as the small model up
to 10^6 rows and the sentence head at 10^4; processor seconds, since other work runs beside it, and wall seconds.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import data
from benchmarks.harness import Context, Figures, Table, number

NOT_RECHECKED = "its figures hang on an encoder and on the machine; tests/unit/estimate measures its parts"
MAX_LOSS = 0.02
SYSTEM = "Name the team that this mail is for. Answer with one word."
_CHILD = """
import json, os, sys, time
from pathlib import Path
from langchain_dsplus.estimate import estimate
wall = time.perf_counter()
found = estimate(sys.argv[1], small=sys.argv[2])
used = os.times()
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps({"wall": time.perf_counter() - wall, "cpu": used.user + used.system, "mb": int(peak.split()[1]) / 1024,
                  "calls": found.calls, "answers": sum(found.task.answers.values())}))
"""

Rows = Sequence[tuple[str, str]]


def banking77() -> Rows:
    return [(row.text, row.large["gpt-4-second"]) for row in data.banking77_gpt("test")]


def clinc150(rng: random.Random) -> Rows:
    rows = data.clinc150("train")
    kept = sorted({row.label for row in rows})[::2]
    return [
        (row.text, rng.choice(kept) if rng.random() < 0.06 else row.label) for row in rows if row.label in set(kept)
    ]


# --- growth ---------------------------------------------------------------------------------------------------------


def write_log(path: Path, n: int, rng: random.Random) -> None:
    """Mails of nine words of which 70 % name one of eight teams, as OpenAI requests with their reply."""
    words = [a + b + c for a in "bcdfgh" for b in "aeiou" for c in "klmnrst"]
    with path.open("w", encoding="utf-8") as file:
        for _ in range(n):
            team = f"team{rng.randrange(8)}"
            text = rng.choices(words, k=8)
            if rng.random() < 0.7:
                text.insert(rng.randrange(8), f"about-{team}")
            messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": " ".join(text)}]
            file.write(json.dumps({"messages": messages, "response": team, "model": "gpt-4o-mini"}) + "\n")


def growth(context: Context) -> Figures:
    sizes = context.pick([(10**3, "tfidf"), (10**4, "tfidf"), (10**4, "sentence"), (10**5, "tfidf"), (10**6, "tfidf")],
                         [(10**3, "tfidf"), (10**4, "tfidf")])  # fmt: skip
    figures: Figures = {}
    with context.progress("growth", len(sizes)) as advance, tempfile.TemporaryDirectory() as folder:
        for n, small in sizes:
            path = Path(folder) / f"{n}.jsonl"
            if not path.exists():
                write_log(path, n, context.random(f"log {n}"))
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, str(path), small], capture_output=True, text=True, check=True
            )
            found = json.loads(done.stdout)
            key = f"growth.{small}.{n}"
            figures |= {f"{key}.cpu": found["cpu"], f"{key}.wall": found["wall"], f"{key}.mb": found["mb"]}
            figures[f"{key}.counted"] = float(found["calls"] == n == found["answers"])
            advance(1)
    return figures


# --- promises -------------------------------------------------------------------------------------------------------


def live_share(small: Any, log: Rows, fresh: Rows, labels: list[str], seed: int, folder: Path) -> tuple[float, float]:
    """What a `DataShunt` that has seen the log keeps local of fresh rows, and loses there."""
    from langchain_core.runnables import RunnableLambda

    from langchain_dsplus.shunt import DataShunt
    from langchain_dsplus.small_models.sentence import SentenceClassifier

    said = dict([*log, *fresh])

    def chain(value: str) -> str:
        return said[value]

    shunt = DataShunt(
        RunnableLambda(chain),
        labels,
        folder,
        MAX_LOSS,
        small=SentenceClassifier(small.encoder, labels),
        version="recorded",
        seed=seed,
        follow=None,
        background=False,
        audit_rate=0.001,
        options={"encoder": small.encoder},
        include_route=True,
    )
    with shunt:
        for part in (log[: len(log) // 2], log[len(log) // 2 :]):
            shunt.batch([text for text, _ in part])
            shunt.work()
        found = shunt.batch([text for text, _ in fresh])
    kept = [
        item["output"] == said[text] for item, (text, _) in zip(found, fresh, strict=True) if item["route"]["accepted"]
    ]
    return len(kept) / len(fresh), (len(kept) - sum(kept)) / len(fresh)


def promises(context: Context) -> Figures:
    from langchain_dsplus.estimate import estimate
    from langchain_dsplus.estimate.figures import KnownVectors
    from langchain_dsplus.small_models.encoder import Encoder
    from langchain_dsplus.small_models.sentence import SentenceClassifier

    vectors = KnownVectors(Encoder("minilm", backend="torch"))
    small = SentenceClassifier(vectors)
    rounds = context.pick(2, 1)
    streams = {"banking77": banking77(), "clinc150": clinc150(context.random("simulated"))}
    figures: Figures = {}
    with context.progress("promises", rounds * len(streams)) as advance, tempfile.TemporaryDirectory() as folder:
        for name, rows in streams.items():
            unique = list(dict(rows).items())
            rng = context.random(f"orders {name}")
            told: dict[str, list[float]] = {}
            for turn in range(rounds):
                mixed = rng.sample(unique, min(len(unique), context.pick(2900, 1500)))
                cut = round(len(mixed) * 0.7)
                log, fresh = mixed[:cut], mixed[cut:]
                path = Path(folder) / "log.jsonl"
                lines = (json.dumps({"input": text, "output": label}) for text, label in log)
                path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
                found = estimate(path, small=small, max_loss=MAX_LOSS, seed=turn)
                main = found.main
                assert main is not None
                assert found.model is not None
                answers = found.model.batch([text for text, _ in fresh])
                limit = main.certificate.threshold if main.certificate.certified else float("inf")
                kept = [
                    a["choice"] == label
                    for a, (_, label) in zip(answers, fresh, strict=True)
                    if a["confidence"] > limit
                ]
                labels = sorted({label for _, label in mixed})
                share, loss = live_share(small, log, fresh, labels, turn, Path(folder) / f"{name}{turn}")
                for key, value in {
                    "estimated": main.share, "estimated.low": main.low, "estimated.high": main.high,
                    "promised": main.certified, "reached": len(kept) / len(fresh),
                    "lost": (len(kept) - sum(kept)) / len(fresh), "live": share, "live_lost": loss,
                }.items():  # fmt: skip
                    told.setdefault(key, []).append(value)
                figures[f"{name}.log"] = len(log)
                figures[f"{name}.fresh"] = len(fresh)
                advance(1)
            figures |= {f"{name}.{key}": statistics.mean(values) for key, values in told.items()}
            figures[f"{name}.worst_lost"] = max(told["lost"])
            figures[f"{name}.worst_live_lost"] = max(told["live_lost"])
            figures[f"{name}.rounds"] = rounds
    return figures


def run(context: Context) -> Figures:
    return promises(context) | growth(context)


def tables(figures: Figures) -> list[Table]:
    def percent(key: str) -> str:
        return number({key: 100 * figures[key]} if key in figures else {}, key, 1, " %")

    def interval_of(name: str) -> str:
        low, high = (percent(f"{name}.estimated.{end}") for end in ("low", "high"))
        return f"{percent(f'{name}.estimated')} ({low} to {high})"

    rows = [
        [
            name,
            number(figures, f"{name}.log", 0),
            interval_of(name),
            percent(f"{name}.promised"),
            f"{percent(f'{name}.reached')}, loses {percent(f'{name}.lost')}",
            f"{percent(f'{name}.live')}, loses {percent(f'{name}.live_lost')}",
        ]
        for name in ("banking77", "clinc150")
    ]
    worst = 100 * max(figures.get(f"{name}.worst_lost", 0.0) for name in ("banking77", "clinc150"))
    first = Table(
        "estimate.promises",
        "What the log promises, and what was reached on fresh rows",
        [
            "traffic",
            "calls in the log",
            "could stay local",
            "certified",
            "that policy on fresh rows",
            "a live DataShunt",
        ],
        rows,
        f"At 2 points, from agreement alone; means over {number(figures, 'banking77.rounds', 0)} orders. The most that "
        f"the certified policy lost on fresh rows in any order: {worst:.1f} points.",
    )
    grown = []
    for key in figures:
        if key.startswith("growth.") and key.endswith(".cpu"):
            _, small, n, _ = key.split(".")
            at = key.removesuffix(".cpu")
            grown.append(
                [f"{int(n):,}", "word counts" if small == "tfidf" else "sentence head", f"{figures[key]:.0f} s",
                 f"{figures[f'{at}.wall']:.0f} s", f"{figures[f'{at}.mb']:,.0f} MB"]
            )  # fmt: skip
    second = Table(
        "estimate.growth",
        "Time and memory as the log grows",
        ["rows", "small model", "processor", "wall", "memory"],
        grown,
        "A fresh process each, at most 10,000 calls looked at; counts are exact in each. Wall seconds are those of a "
        "machine with other work beside it.",
    )
    return [first, second]
