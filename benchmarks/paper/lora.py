"""Figure 6 of the paper: collaboration against fine-tuning. LoRA on SmolLM2-135M, or DS+ around the same model.

600 labels of Amazon reviews. LoRA trains the language model on them; DS+ leaves it as it is and trains a small model
(TF-IDF) on the same 400, choosing its threshold on the other 200. Both are reported on the same reviews, three seeds.
A step takes seconds on two cores: this is not part of `make paper`. Needs `peft` and `gguf`; `DSPLUS_SMOLLM2_HF` names
a transformers folder of SmolLM2-135M-Instruct, where the GGUF file in the cache should not be unpacked.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import Context, Figures, Table
from benchmarks.paper import Routed, against, choose, gain, over_seeds, route, sentiment, table

if TYPE_CHECKING:
    from collections.abc import Sequence

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
ARMS = {"small": "small model alone", "large": "SmolLM2, as it is", "lora": "SmolLM2 with LoRA", "ds_plus": "DS+"}
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
            found.append(sentiment.LABELS[int(model(ids).logits[0, -1, first].argmax())])
    return found


def tune(tokenizer: Any, model: Any, rows: Sequence[Any], steps: int, seed: int) -> Any:
    """LoRA of rank 8 on the attention, batches of 8."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    tuned = get_peft_model(model, config)
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=1e-3)
    order = np.random.default_rng(seed).permutation(len(rows))
    tuned.train()
    for step in range(steps):
        for place in order[np.arange(step * 8, step * 8 + 8) % len(rows)]:
            row = rows[int(place)]
            ids = torch.tensor([tokenizer.encode(prompt(row.text))])
            target = torch.tensor(tokenizer.encode(f" {row.label}", add_special_tokens=False)[:1])
            (torch.nn.functional.cross_entropy(tuned(ids).logits[:, -1], target) / 8).backward()
        optimizer.step()
        optimizer.zero_grad()
    return tuned


def run(context: Context) -> Figures:
    asked, rest = sentiment.split(context)
    reported = asked[: context.pick(200, 10)]
    gold = [row.label for row in reported]
    found: dict[str, list[Routed]] = {arm: [] for arm in ARMS}
    seeds = context.pick(SEEDS, 1)
    with context.progress("seeds", seeds) as advance:
        for seed in range(seeds):
            rows = list(rest)
            context.random(f"labels {seed}").shuffle(rows)
            labelled = rows[: context.pick(600, 60)]
            cut = 2 * len(labelled) // 3
            small = sentiment.fit("tfidf", labelled[:cut], seed, context)
            tokenizer, model = load()
            plain = says(tokenizer, model, [row.text for row in [*labelled[cut:], *reported]])
            choosing, large = plain[: len(labelled) - cut], plain[len(labelled) - cut :]
            p = np.asarray(small.predict_proba([row.text for row in labelled[cut:]]))
            said = [small.labels[place] for place in p.argmax(1)]
            threshold = choose(p.max(1).tolist(), said, choosing, [row.label for row in labelled[cut:]])
            by_text = {row.text: label for row, label in zip(reported, large, strict=True)}
            texts = [row.text for row in reported]
            for arm, at in (("small", -1.0), ("large", 1.0), ("ds_plus", threshold)):
                found[arm].append(route(small, lambda text, by=by_text: by[text], texts, gold, at))
            tuned = tune(tokenizer, model, labelled, context.pick(40, 2), seed)
            right = np.mean([a == b for a, b in zip(says(tokenizer, tuned, texts), gold, strict=True)])
            found["lora"].append(Routed(100 * float(right), 100.0))
            advance(1)
    figures: Figures = {"n": len(reported)}
    for arm in ARMS:
        figures |= over_seeds(arm, found[arm])
    return figures | (gain("ds_plus", "lora", found) if seeds > 1 else {})


def verdict(figures: Figures) -> str:
    if "gain.ds_plus.lora.low" not in figures:
        return "One seed: nothing can be said."
    return (
        f"With equal labels DS+ around the untouched model against LoRA: {against(figures, 'ds_plus', 'lora')}, at "
        f"{figures['ds_plus.calls']:.0f} % of its calls."
    )


def tables(figures: Figures) -> list[Table]:
    return table("lora", "Collaboration against LoRA (Figure 6)", figures, PAPER, ARMS)
