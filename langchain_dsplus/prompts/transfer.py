"""Prompt transfer: a small model rewrites the input, the large model decides (paper, 4.5)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableLambda, RunnableSerializable
from langchain_core.runnables.config import patch_config, run_in_executor, set_config_context
from pydantic import ConfigDict, Field

from langchain_dsplus.answer import describe_error, is_interrupt, note
from langchain_dsplus.fidelity.sentences import HAN
from langchain_dsplus.fidelity.untrusted import count_instructions, quote_untrusted
from langchain_dsplus.prompts._chunks import cut, find_chat_model, window
from langchain_dsplus.prompts._drafts import Draft, read_draft
from langchain_dsplus.prompts._instructions import REWRITE_PROMPT, REWRITE_PROMPT_ZH
from langchain_dsplus.prompts._records import (
    TransferMoney,
    TransferRecord,
    TransferUsage,
    estimate_tokens,
    money_of,
    usage_of,
)
from langchain_dsplus.prompts.extractive import ExtractiveSummarizer
from langchain_dsplus.prompts.fidelity import Fidelity, FidelityResult

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
    from langchain_core.runnables import RunnableConfig

    from langchain_dsplus.operations.prices import Price

__all__ = [
    "REWRITE_PROMPT",
    "REWRITE_PROMPT_ZH",
    "STATEMENT",
    "TRANSFER_EVENT",
    "FidelityCheck",
    "PromptTransfer",
    "TransferMoney",
    "TransferRecord",
    "TransferUsage",
    "UnfaithfulRewriteError",
    "estimate_tokens",
    "quote_untrusted",
    "usage_of",
]

FidelityCheck: TypeAlias = Callable[[str, str], FidelityResult | Mapping[str, Any] | bool]

TRANSFER_EVENT = "dsplus_transfer"
"""The custom event with which handlers hear of a transfer: its record, without the spans of the text."""

STATEMENT = "STATEMENT OF ONE PARTY"
"""What a text is called in the marked lines around it."""


class UnfaithfulRewriteError(ValueError):
    """The rewrite failed the check and `on_unfaithful="raise"`. The message names the reasons, never the text.

    Attributes:
        record: The `TransferRecord`.
    """

    def __init__(self, message: str, record: TransferRecord) -> None:
        super().__init__(message)
        self.record = record


class _Rewrite(NamedTuple):
    """The driver asks: what does the model make of these?"""

    prompts: list[Any]


class _Check(NamedTuple):
    """The driver asks: are these rewrites faithful?"""

    pairs: list[tuple[str, str]]


class _Done(NamedTuple):
    """What comes of it."""

    output: dict[str, Any]
    record: TransferRecord


class _Part(NamedTuple):
    """One chunk with its rewrite."""

    source: str
    draft: Draft
    found: FidelityResult


_Steps: TypeAlias = Generator[_Rewrite | _Check, list[Any], _Done]


class PromptTransfer(RunnableSerializable[dict[str, Any], dict[str, Any]]):
    """Let a small model rewrite a text for the large one, and pass the rewrite on only if it is faithful.

    As a node of a graph it reads `state[input_key]` and returns only `{output_key: ..., record_key: ...}`: the bare
    text, for a node that marks it (as the dispute graph's adjudicator does), or with `label` the marked text. In a
    pipe, `as_assign()` gives the form that keeps the rest of the input dict; a prompt follows there, so the text is
    marked as a party's statement. The value under `output_key` is always a text that may go on: the rewrite, or
    (unfaithful, model failed, nothing to rewrite) the original.

    - A text without any word goes on as it is, without a call.
    - A text longer than the small model's window is cut into chunks that end where a sentence ends and do not overlap.
      Each is rewritten and checked on its own; of a chunk whose rewrite fails, what `on_unfaithful` says goes on.
    - The work is bounded: longer than `max_chars`, or more chunks than `max_calls`, and the text goes on as it is,
      without a call, with the reason `input_too_long`. A megabyte costs nothing so.
    - A missing key or a value that is not a str raises `TypeError`: that is a mistake in the chain, not in the text.
    - A model that fails: the original goes on, with the reason `model_error` and the error's type. With
      `on_unfaithful="raise"` its error passes through.
    - Where the input holds an escalation context of a `ConfidenceRouter`, the record is noted on it for the `Route`,
      without the spans of the text. Handlers hear it as the custom event `dsplus_transfer`.

    Args:
        model: Who rewrites. A chat model (in this process, or behind a server), which gets `REWRITE_PROMPT`, or for a
            Chinese text `REWRITE_PROMPT_ZH`, and the text marked as untrusted data; any other Runnable or callable
            from str to str (or message), which gets the bare text; an `ExtractiveSummarizer`, or "extractive" for the
            default one.
        input_key: Where the text is.
        output_key: Where the text for the large model goes. May be the same.
        record_key: Where the `TransferRecord` goes; None leaves it out.
        fidelity: The check: `Fidelity` settings, the name of a preset of it (`balanced`, `strict`), or a callable
            from source and rewrite to a `FidelityResult` or a bool,
            called for each chunk. None is `Fidelity()`. For an extractive model, copying is no fault.
        on_unfaithful: What goes on instead of a rewrite that failed the check: the `original`, `both` (rewrite and
            original, marked), or `raise` an `UnfaithfulRewriteError`.
        label: Put what goes on between marked lines that say this of it, so that an instruction inside does not reach
            the large model unmarked. None leaves that to whoever writes the prompt (`quote_untrusted`).
        prompt: Instructions for a chat model, in place of `REWRITE_PROMPT` and `REWRITE_PROMPT_ZH`.
        question: What the large model has to decide; the extractive model looks for it.
        token_counter: From a text to its number of tokens, for the record; by default an estimate that needs no
            tokenizer.
        price: What the small model's tokens cost; None where its calls cost nothing.
        large_price: What the large model's tokens cost: then the record has `money`, what the transfer cost and saved.
        chunk_tokens: Longest chunk, in estimated tokens. By default what the model's context and its longest reply
            allow, at most 1,500.
        chunk_chars: Longest chunk in characters, in place of `chunk_tokens`.
        max_chars: Longest text that is rewritten at all, in characters.
        max_calls: Most chunks that a text is rewritten in.
        context_key: Where an escalation context is.
        keep_input: Whether the output holds the rest of the input too; see `as_assign`.
        name: Name in traces, and of the node.

    Example:
        ```python
        transfer = PromptTransfer(small_chat_model, input_key="statement", output_key="facts")
        chain = transfer.as_assign() | adjudicator_prompt | large

        graph.add_node("transfer", transfer)  # or as a node
        ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    model: Any = Field(exclude=True)
    name: str | None = "transfer"
    input_key: str = "text"
    output_key: str = "rewrite"
    record_key: str | None = "transfer"
    fidelity: Any = Field(default=None, exclude=True)
    on_unfaithful: Literal["original", "both", "raise"] = "original"
    label: str | None = None
    prompt: str | None = None
    question: str | None = None
    token_counter: Callable[[str], int] | None = Field(default=None, exclude=True)
    price: Any = Field(default=None, exclude=True)
    large_price: Any = Field(default=None, exclude=True)
    chunk_tokens: int | None = Field(default=None, gt=0)
    chunk_chars: int | None = Field(default=None, gt=0)
    max_chars: int = Field(default=60_000, gt=0)
    max_calls: int = Field(default=32, gt=0)
    context_key: str = "dsplus"
    keep_input: bool = False
    """Whether the output holds the rest of the input too; see `as_assign`."""

    def __init__(self, model: Any = None, input_key: str = "text", output_key: str = "rewrite", **kwargs: Any) -> None:
        if isinstance(model, str):
            if model != "extractive":
                msg = '`model` must be a model, or "extractive"'
                raise ValueError(msg)
            model = ExtractiveSummarizer()
        elif not isinstance(model, Runnable):
            if not callable(model):
                msg = f"`model` must be a Runnable or a callable from text to text, not {type(model).__name__}"
                raise TypeError(msg)
            model = RunnableLambda(model)
        fidelity = kwargs.pop("fidelity", None)
        if fidelity is None:
            fidelity = Fidelity()
        elif isinstance(fidelity, str):
            fidelity = Fidelity(preset=fidelity)
        elif not callable(fidelity):
            msg = f"`fidelity` must be `Fidelity` settings or a callable, not {type(fidelity).__name__}"
            raise TypeError(msg)
        if isinstance(model, ExtractiveSummarizer) and isinstance(fidelity, Fidelity):
            fidelity = fidelity.extractive()
        for field in ("price", "large_price"):
            if kwargs.get(field) is not None and not callable(getattr(kwargs[field], "cost", None)):
                msg = f"`{field}` must be a `Price`, not {type(kwargs[field]).__name__}"
                raise TypeError(msg)
        prices: list[Price] = [kwargs[f] for f in ("price", "large_price") if kwargs.get(f) is not None]
        if len({price.currency for price in prices}) > 1:
            msg = "`price` and `large_price` must be in one currency"
            raise ValueError(msg)
        super().__init__(model=model, input_key=input_key, output_key=output_key, fidelity=fidelity, **kwargs)
        if self.record_key is not None and self.record_key == self.output_key:
            msg = "`record_key` and `output_key` must differ"
            raise ValueError(msg)

    def as_assign(self, label: str | None = STATEMENT) -> PromptTransfer:
        """The same, returning the whole input dict with the new keys added: for pipes.

        Args:
            label: What the marked lines say of the text. None leaves the text bare: mark it in your prompt then.
        """
        return self.model_copy(update={"keep_input": True, "label": self.label or label})

    def check(self, source: str, rewrite: str) -> FidelityResult:
        """Run the fidelity check alone. A check that raises finds nothing faithful.

        Raises:
            TypeError: If a check of your own returns neither a bool nor a mapping with `faithful`.
        """
        try:
            found = self.fidelity(source, rewrite)
        except Exception as error:  # noqa: BLE001 - a text that cannot be checked is not faithful
            return {"faithful": False, "reasons": [f"check_error: {describe_error(error)}"], "missing": [], "added": []}
        if isinstance(found, bool):
            reasons = [] if found else ["unfaithful: by the check that was given"]
            return {"faithful": found, "reasons": reasons, "missing": [], "added": []}
        if not isinstance(found, Mapping) or not isinstance(found.get("faithful"), bool):
            msg = "`fidelity` must return a bool or a mapping with the bool `faithful`"
            raise TypeError(msg)
        reasons = [str(r) for r in found.get("reasons", ())]
        if not found["faithful"] and not reasons:
            reasons = ["unfaithful: by the check that was given"]
        return {
            "faithful": found["faithful"],
            "reasons": reasons,
            "missing": [str(m) for m in found.get("missing", ())],
            "added": [str(a) for a in found.get("added", ())],
        }

    # --- Runnable -----------------------------------------------------------------------------------------------

    def invoke(
        self,
        input: dict[str, Any],  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Rewrite one text, as one traced run with the model's calls below it, tagged `transfer`.

        Raises:
            TypeError: If the input has no str under `input_key`.
            UnfaithfulRewriteError: With `on_unfaithful="raise"`, if the check fails.
        """
        return self._call_with_config(self._transfer, input, config, **kwargs)

    async def ainvoke(
        self,
        input: dict[str, Any],  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Async twin of `invoke`; an extractive model and the check run in an executor thread."""
        return await self._acall_with_config(self._atransfer, input, config, **kwargs)

    def _transfer(
        self,
        value: dict[str, Any],
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> dict[str, Any]:
        child = patch_config(config, callbacks=run_manager.get_child("transfer"))
        steps = self._steps(value)
        answer: list[Any] | None = None
        while True:
            request, done = _advance(steps, answer)
            if request is None:
                break
            if isinstance(request, _Check) or self._embedded:
                answer = self._work(request, child)
            else:
                try:
                    configs = [child] * len(request.prompts)
                    answer = self.model.batch(request.prompts, configs, return_exceptions=True, **kwargs)
                except Exception as error:  # noqa: BLE001 - judged in `_steps`
                    answer = [error] * len(request.prompts)
        assert done is not None
        if run_manager.handlers:
            run_manager.get_child().on_custom_event(TRANSFER_EVENT, _told(done.record), run_id=run_manager.run_id)
        return done.output

    async def _atransfer(
        self,
        value: dict[str, Any],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> dict[str, Any]:
        child = patch_config(config, callbacks=run_manager.get_child("transfer"))
        steps = self._steps(value)
        answer: list[Any] | None = None
        while True:
            request, done = _advance(steps, answer)
            if request is None:
                break
            if isinstance(request, _Check) or self._embedded:
                answer = await run_in_executor(None, self._work, request, child)
            else:
                try:
                    configs = [child] * len(request.prompts)
                    answer = await self.model.abatch(request.prompts, configs, return_exceptions=True, **kwargs)
                except Exception as error:  # noqa: BLE001 - judged in `_steps`
                    answer = [error] * len(request.prompts)
        assert done is not None
        if run_manager.handlers:
            await run_manager.get_child().on_custom_event(TRANSFER_EVENT, _told(done.record), run_id=run_manager.run_id)
        return done.output

    @property
    def _embedded(self) -> bool:
        """Whether the model works in this thread and has no run of its own."""
        return isinstance(self.model, ExtractiveSummarizer)

    def _work(self, request: _Rewrite | _Check, child: RunnableConfig) -> list[Any]:
        """What is done here, not by a model that is called; a check that calls one does so as a part of this run."""
        if isinstance(request, _Rewrite):
            return [self._summary(text) for text in request.prompts]
        with set_config_context(child) as context:
            return [context.run(self.check, source, rewrite) for source, rewrite in request.pairs]

    def _summary(self, text: str) -> str | Exception:
        try:
            return str(self.model.summarize(text, self.question))
        except Exception as error:  # noqa: BLE001 - judged in `_steps`
            return error

    # --- without I/O --------------------------------------------------------------------------------------------

    def _steps(self, value: Any) -> _Steps:
        """All of a transfer but asking models: `_transfer` and `_atransfer` answer what it yields."""
        started = time.perf_counter()
        text = self._read(value)
        chunks, refusal = self._cut(text)
        outputs: list[Any] = []
        if chunks:
            outputs = yield _Rewrite(self._prompts(chunks, text))
        for output in outputs:
            if isinstance(output, BaseException) and (is_interrupt(output) or not isinstance(output, Exception)):
                raise output
        drafts = [read_draft(output) for output in outputs]
        for draft in drafts:
            if draft.error is not None and self.on_unfaithful == "raise":
                raise draft.error
        pairs = [(chunk, draft.text) for chunk, draft in zip(chunks, drafts, strict=True) if draft.text is not None]
        checked = iter((yield _Check(pairs)) if pairs else [])
        parts = [
            _Part(c, d, _unread(d) if d.text is None else next(checked)) for c, d in zip(chunks, drafts, strict=True)
        ]
        output, used = self._assemble(text, parts)
        record = self._record(text, output, used, parts, refusal)
        record["usage"] = usage_of(outputs)
        record["money"] = money_of(
            self.price,
            self.large_price,
            record["usage"] or _free(outputs),
            record["tokens_before"],
            record["tokens_after"],
        )
        record["seconds"] = round(time.perf_counter() - started, 6)
        if self.on_unfaithful == "raise" and any(d.text is not None for d in drafts) and not record["faithful"]:
            msg = "the rewrite is not faithful: " + "; ".join(record["reasons"])
            raise UnfaithfulRewriteError(msg, record)
        # Routes go to logs and response metadata: no words of the text in them.
        note(value.get(self.context_key), transfer=_told(record))
        if self.label is not None:
            output = quote_untrusted(output, self.label)
        update: dict[str, Any] = {self.output_key: output}
        if self.record_key is not None:
            update[self.record_key] = record
        return _Done({**value, **update} if self.keep_input else update, record)

    def _read(self, value: Any) -> str:
        if not isinstance(value, Mapping):
            msg = f"PromptTransfer needs a dict with the key {self.input_key!r}, not {type(value).__name__}"
            raise TypeError(msg)
        if self.input_key not in value:
            msg = f"the input has no key {self.input_key!r} (`input_key` of PromptTransfer {self.name!r})"
            raise TypeError(msg)
        text = value[self.input_key]
        if not isinstance(text, str):
            msg = f"the input's {self.input_key!r} must be a str, not {type(text).__name__}"
            raise TypeError(msg)
        return text

    def _cut(self, text: str) -> tuple[list[str], str | None]:
        """The chunks to rewrite; or none, and why: nothing is worth a call, or it is too much."""
        if not re.search(r"\w", text):
            return [], "input_empty: there is nothing to rewrite"
        if len(text) > self.max_chars:
            return [], f"input_too_long: more than {self.max_chars} characters (`max_chars`)"
        if self._embedded:
            return [text], None
        if self.chunk_chars is not None:
            chunks = cut(text, self.chunk_chars, len)
        else:
            chunks = cut(text, self.chunk_tokens or window(self.model, estimate_tokens(self._instructions(text)) + 60))
        if len(chunks) > self.max_calls:
            return [], f"input_too_long: {len(chunks)} chunks, at most {self.max_calls} (`max_calls`)"
        return chunks, None

    def _instructions(self, text: str) -> str:
        if self.prompt is not None:
            return self.prompt
        return REWRITE_PROMPT_ZH if is_chinese(text) else REWRITE_PROMPT

    def _prompts(self, chunks: list[str], text: str) -> list[Any]:
        if self._embedded or find_chat_model(self.model)[0] is None:
            return list(chunks)
        name, order = ("陈述", "请改写这段陈述。") if is_chinese(text) else ("ACCOUNT", "Rewrite the account.")
        system = SystemMessage(self._instructions(text))
        return [[system, HumanMessage(quote_untrusted(chunk, name) + f"\n\n{order}")] for chunk in chunks]

    def _assemble(self, text: str, parts: list[_Part]) -> tuple[str, Literal["rewrite", "original", "both", "mixed"]]:
        """What goes on, and what to call it."""
        good = sum(part.found["faithful"] for part in parts)
        if parts and good == len(parts):
            return "\n".join(str(part.draft.text) for part in parts), "rewrite"
        shown = self.on_unfaithful == "both" and any(part.draft.text for part in parts)
        if not good and not shown:
            return text, "original"
        pieces = []
        for part in parts:
            if part.found["faithful"]:
                pieces.append(str(part.draft.text))
            elif part.draft.text and self.on_unfaithful == "both":
                pieces.append(quote_untrusted(part.draft.text, "SUMMARY BY A SMALL MODEL, MAY BE WRONG"))
                pieces.append("")
                pieces.append(quote_untrusted(part.source, "ORIGINAL"))
            else:
                pieces.append(part.source)
        return "\n".join(pieces), "mixed" if good else "both"

    def _record(
        self,
        text: str,
        output: str,
        used: Literal["rewrite", "original", "both", "mixed"],
        parts: list[_Part],
        refusal: str | None,
    ) -> TransferRecord:
        several = len(parts) > 1
        reasons = [
            f"{reason} (chunk {place} of {len(parts)})" if several else reason
            for place, part in enumerate(parts, 1)
            for reason in part.found["reasons"]
        ]
        count = self.token_counter or estimate_tokens
        good = sum(part.found["faithful"] for part in parts)
        return {
            "used": used,
            "faithful": bool(parts) and good == len(parts),
            "reasons": [refusal] if refusal else reasons,
            "missing": [span for part in parts for span in part.found["missing"]],
            "added": [span for part in parts for span in part.found["added"]],
            "chunks": len(parts),
            "chunks_rewritten": good,
            "instructions": count_instructions(text),
            "tokens_before": int(count(text)),
            "tokens_after": int(count(output)),
            "tokens_estimated": self.token_counter is None,
            "usage": None,
            "money": None,
            "calls": len(parts),
            "seconds": 0.0,
        }


def _advance(steps: _Steps, answer: list[Any] | None) -> tuple[_Rewrite | _Check | None, _Done | None]:
    """What the driver asks next; or None, and what came of it."""
    try:
        return (next(steps) if answer is None else steps.send(answer)), None
    except StopIteration as stop:
        return None, stop.value


def _unread(draft: Draft) -> FidelityResult:
    return {"faithful": False, "reasons": [draft.reason or "model_error"], "missing": [], "added": []}


def _free(outputs: list[Any]) -> TransferUsage | None:
    """Nothing was asked: nothing was spent."""
    return None if outputs else {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


def _told(record: TransferRecord) -> dict[str, Any]:
    """A record without the spans of the text."""
    return {k: v for k, v in record.items() if k not in {"missing", "added"}}


def is_chinese(text: str) -> bool:
    """Whether a text is mostly Chinese: a Han character says as much as some three letters.

    Example:
        >>> is_chinese("他把车停在 Main Street。"), is_chinese("He said 你好 to me.")
        (True, False)
    """
    han = len(HAN.findall(text))
    return 3 * han > sum(c.isalpha() for c in text) - han
