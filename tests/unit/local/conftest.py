"""A GLM small enough to be made on the spot: random, and trained for a moment to say one sentence or one JSON."""

from __future__ import annotations

import json

import pytest

from langchain_dsplus.local.chat import ChatLocal

SENTENCE = "the cat sat on the mat and said hello to you."
JOKE = json.dumps({"setup": "the cat sat", "punchline": "on you"}, separators=(",", ":"))
TEMPLATE = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
MARKS = ["<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]


def glm_tokenizer():
    """Byte-level BPE with GLM's marks and GLM's form of chat."""
    tokenizers = pytest.importorskip("tokenizers")
    from transformers import PreTrainedTokenizerFast

    level = tokenizers.pre_tokenizers.ByteLevel
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer, bpe.decoder = level(add_prefix_space=False), tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=MARKS, initial_alphabet=sorted(level.alphabet()), show_progress=False
    )
    words = "setup punchline type properties string title description required object additional false joke about cats"
    bpe.train_from_iterator([SENTENCE, JOKE, *words.split(), json.dumps(words)] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=MARKS[0], pad_token=MARKS[0])
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def glm_model(tokenizer, **settings):
    torch = pytest.importorskip("torch")
    from transformers import GlmConfig, GlmForCausalLM

    ends = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|user|>", "<|observation|>"])
    config = GlmConfig(
        vocab_size=len(tokenizer) + 5,  # padded, as real ones are
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, max_position_embeddings=2048, pad_token_id=0, eos_token_id=ends,
        **settings,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GlmForCausalLM(config)


def _train(model, tokenizer, steps=110):
    """Teach it to answer with `JOKE` where the prompt ends in a wish for JSON, and with `SENTENCE` everywhere else."""
    import torch

    random = torch.Generator().manual_seed(1)
    text = tokenizer("Hello! Write me a joke about cats, please. What is it that you said, and why? Only one. ")[
        "input_ids"
    ]
    start = tokenizer(f"[gMASK]<sop>{MARKS[4]}\n")["input_ids"]
    wishes = [tokenizer(wish)["input_ids"] for wish in (' "additionalProperties": false}', " nothing other than JSON.")]
    answer = tokenizer(f"{MARKS[5]}\n")["input_ids"]
    replies = [tokenizer(reply)["input_ids"] + [0] for reply in (SENTENCE, JOKE)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so little work is slower on several
    model.train()
    for _ in range(steps):
        rows = []
        for number in range(8):
            length = int(torch.randint(1, 50, (1,), generator=random))
            if number % 4 < 2:
                words = torch.randint(7, len(tokenizer), (length,), generator=random).tolist()
            else:
                words = (text * 2)[length : 2 * length]
            wish = wishes[number % 3 % 2] if number % 2 else []
            rows.append((start + words + wish + answer, replies[number % 2]))
        longest = max(len(prompt) + len(reply) for prompt, reply in rows)
        padding = [longest - len(prompt) - len(reply) for prompt, reply in rows]
        ids = torch.tensor([p + r + [0] * n for (p, r), n in zip(rows, padding, strict=True)])
        labels = torch.tensor([[-100] * len(p) + r + [-100] * n for (p, r), n in zip(rows, padding, strict=True)])
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    return model.eval()


@pytest.fixture(scope="session")
def random_glm(tmp_path_factory):
    """Folder of a random GLM: it writes broken characters, and never ends."""
    folder = tmp_path_factory.mktemp("random") / "random-glm"
    tokenizer = glm_tokenizer()
    tokenizer.save_pretrained(folder)
    glm_model(tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_glm(tmp_path_factory):
    """Folder of a GLM that answers with `SENTENCE`, or with `JOKE` where JSON is asked for."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny-glm"
    tokenizer = glm_tokenizer()
    tokenizer.save_pretrained(folder)
    _train(glm_model(tokenizer), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def loaded_glm(tiny_glm):
    """`ChatLocal` on it, held, so that instances with the same settings need not load it again; one torch thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so little work is slower on several
    with ChatLocal(tiny_glm, n_ctx=1024) as llm:
        llm.warmup()
        yield llm
    torch.set_num_threads(threads)
