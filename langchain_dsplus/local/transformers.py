"""The engine of `ChatLocal` for transformers folders: GLM, Qwen, SmolLM and every other causal language model."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from langchain_dsplus._imports import require
from langchain_dsplus._progress import quiet_transformers
from langchain_dsplus.local.jobs import (
    Emit,
    End,
    Engine,
    LocalModelError,
    LogprobEntry,
    PromptTooLongError,
    Request,
    Tokens,
)
from langchain_dsplus.small_models.fork import mind_forks
from langchain_dsplus.small_models.networks import import_torch, pick_device
from langchain_dsplus.small_models.refuse import refuse_code
from langchain_dsplus.small_models.transformers import has_tokenizer

_LEAST = -9999.0  # what OpenAI reports for next to nothing; records hold no infinity
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class TorchEngine(Engine):
    """A causal language model of the transformers library with its own chat template. One request at a time.

    Weights must be safetensors; code from the folder or the hub is never run. JSON schemas are followed by constrained
    decoding with llguidance: tokens that would leave the schema get probability 0.

    Args:
        folder: Weights, configuration and tokenizer.
        n_ctx: Tokens of context; at most what the model's positions allow.
        device: torch's name of a device; by default the first accelerator, else the CPU.
        dtype: Of the weights, by torch's name; `auto` takes that of the folder.
        chat_template: Jinja text instead of the folder's own template.
    """

    def __init__(self, folder: Path, *, n_ctx: int, device: str | None, dtype: str, chat_template: str | None) -> None:
        super().__init__(1)
        _check_folder(folder)
        os.environ.setdefault("USE_HUB_KERNELS", "NO")  # some models fetch and run kernels where that package is there
        self._torch = import_torch()
        library = require("transformers", "local")
        closed = {"trust_remote_code": False, "local_files_only": True}
        try:
            with quiet_transformers():
                config = library.AutoConfig.from_pretrained(str(folder), **closed)
                tokenizer = library.AutoTokenizer.from_pretrained(str(folder), **closed)
                module = library.AutoModelForCausalLM.from_pretrained(
                    str(folder), config=config, dtype=dtype, use_safetensors=True, **closed
                )
        except (ImportError, MemoryError):
            raise
        except Exception as error:
            raise LocalModelError(f"transformers cannot load {folder}: see the error above for the reason") from error
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise LocalModelError(f"{folder} holds no tokenizer.json: convert its tokenizer to a fast one first")
        if chat_template is not None:
            tokenizer.chat_template = chat_template
        if not tokenizer.chat_template:
            raise LocalModelError(
                f"{folder} has no chat template: pass `chat_template=`, or take a model that was trained to chat"
            )
        self._tokenizer = tokenizer
        text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
        positions = getattr(text_config, "max_position_embeddings", None)
        self.n_ctx = min(n_ctx, positions) if isinstance(positions, int) and positions > 0 else n_ctx
        self._ends = _end_tokens(module.generation_config, config, text_config, tokenizer)
        # The folder's own sampling settings would be mixed into each call.
        module.generation_config = library.GenerationConfig()
        self._module = module.to(pick_device(device)).eval()
        self._vocabulary = _Vocabulary(tokenizer, int(text_config.vocab_size), self._ends)

    def run(self, request: Request, emit: Emit) -> End:
        """Make a reply."""
        torch = self._torch
        mind_forks(torch)
        library = require("transformers", "local")
        ids = self._prompt(request)
        room = self.n_ctx - len(ids)
        if room < 1:
            raise PromptTooLongError(len(ids), self.n_ctx)
        if request.max_tokens is not None:
            room = min(room, request.max_tokens)
        writer = _Writer(torch, self._vocabulary, request, emit)
        prompt = torch.tensor([ids], device=self._module.device)
        end = sorted(self._ends)
        with torch.inference_mode():
            self._module.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=library.GenerationConfig(
                    max_new_tokens=room,
                    do_sample=False,  # the writer draws
                    eos_token_id=end or None,
                    pad_token_id=end[0] if end else 0,
                ),
                logits_processor=library.LogitsProcessorList([writer.choose]),
                stopping_criteria=library.StoppingCriteriaList([writer.is_done]),
            )
        writer.finish()
        return End("stop" if writer.ended else "length", Tokens(len(ids), writer.written))

    def token_ids(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        return self._pool.submit(  # fast tokenizers refuse concurrent use
            lambda: [int(token) for token in self._tokenizer(text, add_special_tokens=False)["input_ids"]]
        ).result()

    def _prompt(self, request: Request) -> list[int]:
        forbidden = self._vocabulary.special
        messages = [{**message, "content": _inert(message["content"], forbidden)} for message in request.messages]
        try:
            encoded = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=True, **request.template
            )
        except Exception as error:
            # A template's own complaint names roles, not texts.
            raise ValueError(
                f"the chat template refuses these messages: {type(error).__name__}: {str(error)[:200]}"
            ) from error
        return [int(token) for token in encoded["input_ids"]]


class _Vocabulary:
    """The bytes of each token, and grammars over them."""

    def __init__(self, tokenizer: Any, size: int, ends: set[int]) -> None:
        guidance: Any = require("llguidance", "local")
        wrap: Any = require("llguidance.hf", "local").from_tokenizer
        self._matcher = guidance.LLMatcher
        self._size = max(size, len(tokenizer))
        self._tokens = wrap(tokenizer, n_vocab=self._size, eos_token=sorted(ends) or None)
        self.ends = ends
        self._name = tokenizer.convert_ids_to_tokens
        added = getattr(tokenizer, "added_tokens_decoder", {})
        marks = {int(place) for place, token in added.items() if token.special}
        self._silent = ends | marks | {int(token) for token in tokenizer.all_special_ids}
        self._known = len(tokenizer)
        self.special = sorted(
            {str(token) for token in added.values() if token.special} | set(map(str, tokenizer.all_special_tokens)),
            key=len,
            reverse=True,
        )

    def raw(self, token: int) -> bytes:
        """The bytes that a token writes; none for those that only steer."""
        if token in self._silent or token >= self._known:
            return b""
        byte = _BYTE.fullmatch(str(self._name(token)))
        if byte is not None:
            return bytes([int(byte[1], 16)])
        return bytes(self._tokens.decode_bytes([token]))

    def grammar(self, schema: Mapping[str, Any]) -> Any:
        """A matcher that knows which tokens may come next."""
        # Free whitespace lets a small model write blanks for ever.
        form = self._matcher.grammar_from_json_schema(json.dumps(schema), {"whitespace_flexible": False})
        matcher = self._matcher(self._tokens, form)
        if matcher.is_error():
            raise ValueError(
                f"`response_format` holds a JSON schema that llguidance cannot follow: {matcher.get_error()[:200]}"
            )
        return matcher

    def allowed(self, matcher: Any, width: int) -> Any:
        """Which tokens may come next, as booleans, shape (width,)."""
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        flags = np.unpackbits(bits, bitorder="little").astype(bool)[:width]
        return np.pad(flags, (0, width - len(flags)))


class _Writer:
    """Chooses one token after the other, and hands each on.

    It sits where transformers lets one change the scores, so that `generate` does what differs from model to model:
    caches, masks, positions. The choice is forced by leaving only it possible.
    """

    def __init__(self, torch: Any, vocabulary: _Vocabulary, request: Request, emit: Emit) -> None:
        self._torch = torch
        self._vocabulary = vocabulary
        self._request = request
        self._emit = emit
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._matcher = None if request.schema is None else vocabulary.grammar(request.schema)
        self._random = torch.Generator()
        if request.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(request.seed)
        self.ended = False
        self._done = False
        self.written = 0

    def choose(self, ids: Any, scores: Any) -> Any:
        """Stand as a logits processor: take scores, shape (1, vocabulary), and leave one token."""
        row = scores[0].float().cpu()
        token = self._draw(row)
        self._take(token, row)
        forced = self._torch.full_like(scores, -float("inf"))
        forced[0, token] = 0.0
        return forced

    def is_done(self, ids: Any, scores: Any, **kwargs: Any) -> Any:
        """Stand as a stopping criterion."""
        return self._torch.full((ids.shape[0],), self._done, dtype=self._torch.bool, device=ids.device)

    def finish(self) -> None:
        """Hand on what was left of a character that never got complete."""
        rest = self._decoder.decode(b"", final=True)
        if rest:
            self._emit(rest, [])

    def _draw(self, row: Any) -> int:
        torch, request = self._torch, self._request
        if self._matcher is not None:
            allowed = torch.from_numpy(self._vocabulary.allowed(self._matcher, row.shape[0]))
            if not bool(allowed.any()):
                raise LocalModelError(
                    "the vocabulary has no token that goes on with the JSON schema of `response_format`"
                )
            row = row.masked_fill(~allowed, -float("inf"))
        if request.temperature <= 0.0:
            return int(row.argmax())
        row = row / request.temperature
        if request.top_k is not None and 0 < request.top_k < row.shape[0]:
            least = row.topk(request.top_k).values[-1]
            row = row.masked_fill(row < least, -float("inf"))
        chances = row.softmax(-1)
        if request.top_p is not None and request.top_p < 1.0:
            ordered, places = chances.sort(descending=True)
            ordered[ordered.cumsum(-1) - ordered >= request.top_p] = 0.0
            chances = torch.zeros_like(chances).scatter(0, places, ordered)
        return int(torch.multinomial(chances, 1, generator=self._random))

    def _take(self, token: int, row: Any) -> None:
        self.written += 1
        raw = self._vocabulary.raw(token)
        ends = token in self._vocabulary.ends
        if ends:
            self.ended = self._done = True
        elif self._matcher is not None:
            if not self._matcher.consume_token(token):
                raise LocalModelError("llguidance lost its place in the JSON schema of `response_format`")
            if self._matcher.is_stopped():  # the JSON is whole
                self.ended = self._done = True
        if self._emit("" if ends else self._decoder.decode(raw), self._entries(token, row)):
            self._done = True

    def _entries(self, token: int, row: Any) -> Sequence[LogprobEntry]:
        """The chosen token and the likeliest ones, before temperature and schema, as OpenAI reports them."""
        count = self._request.top_logprobs
        if count is None:
            return ()
        logprobs = row.log_softmax(-1)
        best = logprobs.topk(min(count, row.shape[0]))
        others = [self._entry(int(i), float(p)) for p, i in zip(best.values, best.indices, strict=True)]
        return [{**self._entry(token, float(logprobs[token])), "top_logprobs": others}]

    def _entry(self, token: int, logprob: float) -> LogprobEntry:
        raw = self._vocabulary.raw(token)
        return {"token": raw.decode("utf-8", "replace"), "bytes": list(raw), "logprob": max(logprob, _LEAST)}


def _check_folder(folder: Path) -> None:
    refuse_code(folder)
    if not has_tokenizer(folder):  # the library would make an empty one, to which every word is new
        raise ValueError(f"{folder} holds no tokenizer")
    if (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"{folder} holds an adapter to another model, which would be fetched: merge it into that model first"
        )


def _end_tokens(*sources: Any) -> set[int]:
    """All tokens that end a reply: GLM has three."""
    found: set[int] = set()
    for source in sources:
        token = getattr(source, "eos_token_id", None)
        for one in token if isinstance(token, (list, tuple)) else (token,):
            if isinstance(one, int):
                found.add(one)
    return found


def _inert(text: str, special: Sequence[str]) -> str:
    """Break up what the tokenizer would read as a mark of the template: a text must not change roles."""
    for mark in special:
        if len(mark) > 1 and mark in text:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text
