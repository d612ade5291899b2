"""Figure 6 of the paper: collaboration against fine-tuning. LoRA on SmolLM2-135M, or DS+ around the same model.

600 labels of Amazon reviews. LoRA trains the language model on them; DS+ leaves it as it is and trains a small model
(TF-IDF) on the same 400, choosing its threshold on the other 200. Both are reported on the same reviews, three seeds;
LoRA also as it is after as many processor seconds as DS+ took, nearly all of them to ask about those 200. A step takes
seconds: this is not part of `make paper`. Needs `peft` and `gguf`; `DSPLUS_SMOLLM2_HF` names a transformers folder of
SmolLM2-135M-Instruct, where the GGUF file in the cache should not be unpacked.
"""

from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import Context, Figures, Table, interval
from benchmarks.paper import Routed, against, choose, gain, mean, over_seeds, route, sentiment, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SEEDS = 3
PAPER = {
    "large.accuracy": 62.66,
    "small.accuracy": 61.85,
    "lora.accuracy": 65.04,
    "ds_plus.accuracy": 67.47,
    "who": "LLama3-8B-instruct and XLNet-large on ChaosNLI, LoRA on 160,000 rows",
}
DIFFERS = [
    "SmolLM2-135M instead of LLama3-8B; sentiment instead of ChaosNLI",
    "600 labels for both sides instead of 160,000 for LoRA and other ones for the small model",
]
STEPS = 40
ARMS = {
    "small": "small model alone",
    "large": "SmolLM2, as it is",
    "lora": "SmolLM2 with LoRA",
    "lora_stopped": "SmolLM2 with LoRA, in as many seconds as DS+",
    "ds_plus": "DS+",
}
TRAINED = ("lora", "lora_stopped", "ds_plus")
NOT_RECHECKED = "every figure comes from a language model"


def prompt(text: str) -> str:
    return f"Review: {sentiment.shorten(text)}\nSentiment (positive or negative):"


def load() -> tuple[Any, Any]:
    """Tokenizer and model, for transformers: a folder, or the GGUF file that the package's cache holds, unpacked."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from langchain_dsplus import weights

    own = os.environ.get("DSPLUS_SMOLLM2_HF")
    if own:
        return AutoTokenizer.from_pretrained(own), AutoModelForCausalLM.from_pretrained(own, dtype=torch.float32)
    path = weights.resolve("smollm2-135m")
    read = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return AutoTokenizer.from_pretrained(**read), AutoModelForCausalLM.from_pretrained(**read, dtype=torch.float32)


def says(tokenizer: Any, model: Any, texts: Sequence[str]) -> list[str]:
    """Which label's first token is likelier."""
    import torch

    first = [tokenizer.encode(f" {label}", add_special_tokens=False)[0] for label in sentiment.LABELS]
    found = []
    model.eval()
    with torch.inference_mode():
        for text in texts:
            ids = torch.tensor([tokenizer.encode(prompt(text))])
            found.append(sentiment.LABELS[int(model(ids, logits_to_keep=1).logits[0, -1, first].argmax())])
    return found


def tune(tokenizer: Any, model: Any, rows: Sequence[Any], seed: int) -> Iterator[float]:
    """LoRA of rank 8 on the attention, batches of 8, in place; after each step the processor seconds so far."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    tuned = get_peft_model(model, config)
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=1e-3)
    order, seconds = np.random.default_rng(seed).permutation(len(rows)), 0.0
    for step in range(STEPS):
        started = time.process_time()
        tuned.train()
        for place in order[np.arange(step * 8, step * 8 + 8) % len(rows)]:
            row = rows[int(place)]
            ids = torch.tensor([tokenizer.encode(prompt(row.text))])
            target = torch.tensor(tokenizer.encode(f" {row.label}", add_special_tokens=False)[:1])
            (torch.nn.functional.cross_entropy(tuned(ids, logits_to_keep=1).logits[:, -1], target) / 8).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds += time.process_time() - started
        yield seconds


def run(context: Context) -> Figures:
    asked, rest = sentiment.split(context)
    reported = asked[: context.pick(200, 10)]
    gold = [row.label for row in reported]
    texts = [row.text for row in reported]
    found: dict[str, list[Routed]] = {arm: [] for arm in ARMS}
    took: dict[str, list[float]] = {arm: [] for arm in TRAINED}
    seeds = context.pick(SEEDS, 1)
    with context.progress("seeds", seeds) as advance:
        for seed in range(seeds):
            rows = list(rest)
            context.random(f"labels {seed}").shuffle(rows)
            labelled = rows[: context.pick(600, 60)]
            cut = 2 * len(labelled) // 3
            tokenizer, model = load()
            started = time.process_time()
            small = sentiment.fit("tfidf", labelled[:cut], seed, context)
            choosing = says(tokenizer, model, [row.text for row in labelled[cut:]])
            p = np.asarray(small.predict_proba([row.text for row in labelled[cut:]]))
            said = [small.labels[place] for place in p.argmax(1)]
            threshold = choose(p.max(1).tolist(), said, choosing, [row.label for row in labelled[cut:]])
            took["ds_plus"].append(time.process_time() - started)
            by_text = dict(zip(texts, says(tokenizer, model, texts), strict=True))
            for arm, at in (("small", -1.0), ("large", 1.0), ("ds_plus", threshold)):
                found[arm].append(route(small, lambda text, by=by_text: by[text], texts, gold, at))
            steps = itertools.islice(tune(tokenizer, model, labelled, seed), context.pick(None, 2))
            for arm, most in (("lora_stopped", took["ds_plus"][-1]), ("lora", float("inf"))):
                for seconds in steps:
                    if seconds >= most:
                        break
                right = np.mean([a == b for a, b in zip(says(tokenizer, model, texts), gold, strict=True)])
                found[arm].append(Routed(100 * float(right), 100.0))
                took[arm].append(seconds)
            advance(1)
    figures: Figures = {"n": len(reported)}
    for arm in ARMS:
        figures |= over_seeds(arm, found[arm])
    for arm in TRAINED:
        figures |= mean(f"{arm}.seconds", took[arm])
    for arm in TRAINED[:2] if seeds > 1 else ():
        figures |= gain("ds_plus", arm, found)
    return figures


def verdict(figures: Figures) -> str:
    if "gain.ds_plus.lora.low" not in figures:
        return "One seed: nothing can be said."
    return (
        f"With equal labels DS+ around the untouched model against LoRA: {against(figures, 'ds_plus', 'lora')}, at "
        f"{figures['ds_plus.calls']:.0f} % of its calls, made in {figures['ds_plus.seconds']:.0f} seconds and LoRA in "
        f"{figures['lora.seconds']:.0f}; with equal seconds {against(figures, 'ds_plus', 'lora_stopped')}."
    )


def tables(figures: Figures) -> list[Table]:
    rows = [[ARMS[arm], interval(figures, f"{arm}.seconds", 0)] for arm in TRAINED]
    seconds = Table("paper_lora.seconds", "Until it can be used", ["", "processor seconds"], rows)
    return [*table("lora", "Collaboration against LoRA (Figure 6)", figures, PAPER, ARMS), seconds]
