"""Prompt transfer: a small model rewrites the input, the large model decides (paper, 4.5)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import patch_config, run_in_executor, set_config_context
from pydantic import Field, PrivateAttr

from langchain_dsplus._drive import Attempt, Call, Plan
from langchain_dsplus._shown import fields_in_words
from langchain_dsplus.answer import describe_error, failure, note, pass_on
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.fidelity.check import Fidelity, FidelityResult
from langchain_dsplus.fidelity.instructions import count_instructions
from langchain_dsplus.fidelity.sentences import HAN
from langchain_dsplus.fidelity.untrusted import quote_untrusted
from langchain_dsplus.prompts.chunks import cut, find_chat_model, window
from langchain_dsplus.prompts.drafts import Draft, read_draft
from langchain_dsplus.prompts.extractive import ExtractiveSummarizer
from langchain_dsplus.prompts.tokens import estimate_tokens
from langchain_dsplus.state import as_update
from langchain_dsplus.tags import TRANSFER_EVENT, TRANSFER_TAG
from langchain_dsplus.transfer._guard import Transferring
from langchain_dsplus.transfer.records import TransferRecord, TransferUsage, money_of, told, usage_of
from langchain_dsplus.transfer.subtasks import REWRITE, as_subtask, json_schema, merged, shown, values

FidelityCheck: TypeAlias = Callable[[str, str], FidelityResult | Mapping[str, Any] | bool]


class UnfaithfulRewriteError(ValueError):
    """The rewrite failed the check and `on_unfaithful="raise"`. The message names the reasons, never the text.

    Attributes:
        record: The `TransferRecord`.
    """

    def __init__(self, message: str, record: TransferRecord) -> None:
        super().__init__(message)
        self.record = record


class _Done(NamedTuple):
    """What comes of it."""

    output: dict[str, Any]
    record: TransferRecord
    audit: list[dict[str, Any]] | None = None


class _Part(NamedTuple):
    """One chunk with its rewrite."""

    source: str
    draft: Draft
    found: FidelityResult


class PromptTransfer(Transferring):
    """Let a small model do a subtask on a text, and pass the result on only where the check finds nothing invented.

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

    - With `certificate`, the original goes on without a call wherever the certificate does not hold. Without one it
      says once in the log that nothing is proven about the decisions.

    Args:
        model: Who does the subtask. A chat model (in this process, or behind a server), which gets the subtask's
            instructions and the text marked as untrusted data; any other Runnable or callable from str to the result,
            which gets the bare text; an `ExtractiveSummarizer`, or "extractive" for the default one.
        subtask: What it is to do: `rewrite` (the paper's), `summarise`, `split_claims`, `normalise`, or a `Subtask`:
            `summarise(...)`, `extract_fields(schema)`, `translate(...)`, `split_claims(...)`, or your own.
        input_key: Where the text is.
        output_key: Where the text for the large model goes. May be the same.
        record_key: Where the `TransferRecord` goes; None leaves it out.
        fidelity: The check: `"default"`, `Fidelity` settings, or a callable from source and rewrite to a
            `FidelityResult` or a bool, called for each chunk. `"off"` checks nothing, which is the paper's way, and
            says so in the record and once in the log. Copying is no fault of an extractive model or of a subtask that
            takes words over.
        on_unfaithful: What goes on instead of a rewrite that failed the check: the `original`, `both` (rewrite and
            original, marked), or `raise` an `UnfaithfulRewriteError`.
        prompt: Instructions for a chat model, in place of the subtask's.
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
        label: See `Transferring`, as for the other arguments: `context_key`, `keep_input`, `certificate`, `large`,
            `audit_rate`, `monitor`, `version`, `name`.

    Example:
        ```python
        transfer = PromptTransfer(small_chat_model, input_key="statement", output_key="facts")
        chain = transfer.as_assign() | adjudicator_prompt | large

        graph.add_node("transfer", transfer)  # or as a node
        ```
    """

    __str__ = fields_in_words

    model: Any = Field(exclude=True)
    name: str | None = "transfer"
    subtask: Any = REWRITE
    fidelity: Any = Field(default=None, exclude=True)
    on_unfaithful: Literal["original", "both", "raise"] = "original"
    prompt: str | None = None
    question: str | None = None
    token_counter: Callable[[str], int] | None = Field(default=None, exclude=True)
    price: Any = Field(default=None, exclude=True)
    large_price: Any = Field(default=None, exclude=True)
    chunk_tokens: int | None = Field(default=None, gt=0)
    chunk_chars: int | None = Field(default=None, gt=0)
    max_chars: int = Field(default=60_000, gt=0)
    max_calls: int = Field(default=32, gt=0)

    _runner: Any = PrivateAttr(default=None)
    _checked_by: str = PrivateAttr(default="default")

    def __init__(self, model: Any = None, input_key: str = "text", output_key: str = "rewrite", **kwargs: Any) -> None:
        if isinstance(model, str):
            if model != "extractive":
                raise ValueError("`model` must be 'extractive', a chat model, or a callable from text to text")
            model = ExtractiveSummarizer()
        elif not isinstance(model, Runnable):
            if not callable(model):
                raise TypeError(
                    f"`model` must be a Runnable or a callable from text to text, not {type(model).__name__}"
                )
            model = RunnableLambda(model)
        fidelity = kwargs.pop("fidelity", None)
        checked_by = "own"
        if fidelity is None or (isinstance(fidelity, str) and fidelity in {"default", "off"}):
            checked_by = fidelity or "default"
            fidelity = None if fidelity == "off" else Fidelity()
        elif not callable(fidelity):
            raise TypeError(
                f"`fidelity` must be 'default', 'off', `Fidelity` settings or a callable, not {type(fidelity).__name__}"
            )
        subtask = as_subtask(kwargs.pop("subtask", REWRITE), kwargs.get("prompt"))
        if isinstance(fidelity, Fidelity):
            extractive = isinstance(model, ExtractiveSummarizer)
            fidelity = fidelity.extractive() if extractive else _settings(fidelity, subtask.gate)
        for name in ("price", "large_price"):
            if kwargs.get(name) is not None and not callable(getattr(kwargs[name], "cost", None)):
                raise TypeError(f"`{name}` must be a `Price`, not {type(kwargs[name]).__name__}")
        prices: list[Price] = [kwargs[f] for f in ("price", "large_price") if kwargs.get(f) is not None]
        if len({price.currency for price in prices}) > 1:
            raise ValueError("`price` and `large_price` must be in one currency")
        mine = {"model": model, "fidelity": fidelity, "subtask": subtask}
        super().__init__(input_key=input_key, output_key=output_key, **mine, **kwargs)
        self._checked_by = checked_by
        self._runner = _bound(model, subtask)

    def identity_parts(self) -> dict[str, Any]:
        """What makes it, for `identify`: model or `version`, subtask, check, sizes; not where texts come and go."""
        names = ("on_unfaithful", "question", "label", "chunk_tokens", "chunk_chars", "max_chars", "max_calls")
        return {
            "model": _seen(self.model) if self.version is None else self.version,
            "subtask": self.subtask,
            "fidelity": "off" if self.fidelity is None else _seen(self.fidelity),
            **{name: getattr(self, name) for name in names},
        }

    def check(self, source: str, rewrite: str) -> FidelityResult:
        """Run the fidelity check alone. A check that raises finds nothing faithful.

        Raises:
            TypeError: If a check of your own returns neither a bool nor a mapping with `faithful`.
        """
        if self.fidelity is None:
            return {"faithful": True, "reasons": [], "missing": [], "added": []}
        try:
            found = self.fidelity(source, rewrite)
        except Exception as error:  # noqa: BLE001 - a text that cannot be checked is not faithful
            failure(error)
            return {"faithful": False, "reasons": [f"check_error: {describe_error(error)}"], "missing": [], "added": []}
        if isinstance(found, bool):
            reasons = [] if found else ["unfaithful: by the check that was given"]
            return {"faithful": found, "reasons": reasons, "missing": [], "added": []}
        if not isinstance(found, Mapping) or not isinstance(found.get("faithful"), bool):
            raise TypeError("`fidelity` must return a bool or a mapping with the bool `faithful`")
        reasons = [str(r) for r in found.get("reasons", ())]
        if not found["faithful"] and not reasons:
            reasons = ["unfaithful: by the check that was given"]
        faithful = found["faithful"]
        if isinstance(self.fidelity, Fidelity) and self.subtask.gate == "translation":
            # Another language writes names otherwise.
            reasons = [reason for reason in reasons if not reason.startswith(("name_added", "unrelated"))]
            faithful = not reasons
        checked: dict[str, Any] = {
            **found,
            "faithful": faithful,
            "reasons": reasons,
            "missing": [str(m) for m in found.get("missing", ())],
            "added": [str(a) for a in found.get("added", ())],
        }
        return checked  # type: ignore[return-value]

    # --- Runnable -----------------------------------------------------------------------------------------------

    def _plan(
        self, value: dict[str, Any], run_manager: Any, config: RunnableConfig, **kwargs: Any
    ) -> Plan[dict[str, Any]]:
        child = patch_config(config, callbacks=run_manager.get_child(TRANSFER_TAG))
        done = yield from self._steps(value, child, kwargs)
        if run_manager.handlers:
            hears = run_manager.get_child().on_custom_event
            yield Call(hears, hears, TRANSFER_EVENT, told(done.record), run_id=run_manager.run_id)
        self._tell(done.record, config)
        if done.audit is not None:
            yield self._guard.later(self, done.audit, child)
        return done.output

    @property
    def _embedded(self) -> bool:
        """Whether the model works in this thread and has no run of its own."""
        return isinstance(self.model, ExtractiveSummarizer)

    def _rewritten(self, prompts: list[Any], child: RunnableConfig, kwargs: dict[str, Any]) -> Plan[list[Any]]:
        """What the model makes of these; a failure in the place of what failed."""
        if self._embedded:
            return (yield _here(lambda: [self._summary(text) for text in prompts]))  # type: ignore[no-any-return]
        configs = [child] * len(prompts)
        found = yield Attempt(
            self._runner.batch, self._runner.abatch, prompts, configs, return_exceptions=True, **kwargs
        )
        return [found] * len(prompts) if isinstance(found, BaseException) else found

    def _checked_pairs(self, pairs: list[tuple[str, str]], child: RunnableConfig) -> list[FidelityResult]:
        """What the check says; one that calls a model does so as a part of this run."""
        with set_config_context(child) as context:
            return [context.run(self.check, source, rewrite) for source, rewrite in pairs]

    def _summary(self, text: str) -> str | Exception:
        try:
            return str(self.model.summarize(text, self.question))
        except Exception as error:  # noqa: BLE001 - judged in `_steps`
            return failure(error)

    def _steps(self, value: Any, child: RunnableConfig, kwargs: dict[str, Any]) -> Plan[_Done]:
        """A transfer, up to what others hear about it."""
        started = time.perf_counter()
        text = self._read(value)
        refusal = self._guard.refusal(self)
        chunks: list[str] = []
        if refusal is None:
            chunks, refusal = self._cut(text)
        outputs: list[Any] = []
        if chunks:
            outputs = yield from self._rewritten(self._prompts(chunks, text), child, kwargs)
        pass_on(outputs)
        replies = [output["raw"] if isinstance(output, dict) and "raw" in output else output for output in outputs]
        drafts = (
            [self.subtask.read(output) for output in outputs] if not self._embedded else [*map(read_draft, outputs)]
        )
        for draft in drafts:
            if draft.error is not None and self.on_unfaithful == "raise":
                raise draft.error
        strange = self._guard.strange(replies)
        if strange is not None:
            drafts, refusal = [Draft(None, strange) for _ in drafts], strange
        pairs = [(chunk, _checked_text(draft)) for chunk, draft in zip(chunks, drafts, strict=True) if draft.text]
        checked = iter((yield _here(lambda: self._checked_pairs(pairs, child))) if pairs else [])
        parts = [_Part(c, d, next(checked) if d.text else _unread(d)) for c, d in zip(chunks, drafts, strict=True)]
        output, used = self._assemble(text, parts)
        record = self._record(text, output, used, parts, refusal)
        record["usage"] = usage_of(replies)
        record["money"] = money_of(
            self.price,
            self.large_price,
            record["usage"] or _free(outputs),
            record["tokens_before"],
            record["tokens_after"],
        )
        record["seconds"] = round(time.perf_counter() - started, 6)
        refused = any(part.draft.text and not part.found["faithful"] for part in parts)
        if self.on_unfaithful == "raise" and refused:
            raise UnfaithfulRewriteError("the rewrite is not faithful: " + "; ".join(record["reasons"]), record)
        # Routes go to logs and response metadata: no words of the text in them.
        note(value.get(self.context_key), transfer=told(record))
        return self._sent(value, text, output, record)

    def _sent(self, value: Mapping[str, Any], text: str, output: str, record: TransferRecord) -> _Done:
        original = text
        if self.label is not None:
            output, original = quote_untrusted(output, self.label), quote_untrusted(text, self.label)
        update: dict[str, Any] = {self.output_key: output}
        audit = None
        if record["used"] != "original":
            self._guard.sent(self, checked=self.fidelity is not None)
            audit = self._guard.audit(self, update, value, original)
        if self.record_key is not None:
            update[self.record_key] = record
        return _Done({**value, **update} if self.keep_input else as_update(value, update), record, audit)

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
            around = estimate_tokens(self.subtask.told(chinese=is_chinese(text))) + 60
            chunks = cut(text, self.chunk_tokens or window(self.model, around))
        if len(chunks) > self.max_calls:
            return [], f"input_too_long: {len(chunks)} chunks, at most {self.max_calls} (`max_calls`)"
        return chunks, None

    def _prompts(self, chunks: list[str], text: str) -> list[Any]:
        if self._embedded or find_chat_model(self.model)[0] is None:
            return list(chunks)
        chinese = is_chinese(text)
        return [self.subtask.messages(chunk, chinese=chinese) for chunk in chunks]

    def _assemble(self, text: str, parts: list[_Part]) -> tuple[str, Literal["rewrite", "original", "both", "mixed"]]:
        """What goes on, and what to call it."""
        good = sum(part.found["faithful"] for part in parts)
        if parts and good == len(parts):
            if parts[0].draft.fields is not None:
                return shown(merged([part.draft.fields or {} for part in parts])), "rewrite"
            return "\n".join(str(part.draft.text) for part in parts), "rewrite"
        draft_too = self.on_unfaithful == "both" and any(part.draft.text for part in parts)
        if not good and not draft_too:
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
        filled = [part.draft.fields for part in parts if part.draft.fields is not None]
        certificate = self.certificate
        return {
            "subtask": "extractive" if self._embedded else self.subtask.name,
            "fidelity": self._checked_by,
            "certificate": certificate.id if certificate is not None and used != "original" else None,
            "used": used,
            "faithful": bool(parts) and good == len(parts),
            "reasons": [refusal] if refusal else reasons,
            "missing": [span for part in parts for span in part.found["missing"]],
            "added": [span for part in parts for span in part.found["added"]],
            "recall": _least([part.found for part in parts]),
            "layers": list(dict.fromkeys(layer for part in parts for layer in part.found.get("spoke") or ())),
            "fields": merged(filled) if filled and used == "rewrite" else None,
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


def _here(job: Callable[[], Any]) -> Call:
    """Work of this process itself; in async code it is done in an executor thread."""

    async def elsewhere() -> Any:
        return await run_in_executor(None, job)

    return Call(job, elsewhere)


def _unread(draft: Draft) -> FidelityResult:
    return {"faithful": False, "reasons": [draft.reason or "model_error"], "missing": [], "added": []}


def _free(outputs: list[Any]) -> TransferUsage | None:
    """Nothing was asked: nothing was spent."""
    return None if outputs else {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


def _checked_text(draft: Draft) -> str:
    """What the check reads: a filled schema without the names of its fields."""
    return str(draft.text) if draft.fields is None else "\n".join(values(draft.fields))


def _least(found: list[FidelityResult]) -> dict[str, Any]:
    """What the check says is kept, of several chunks the least."""
    least: dict[str, Any] = {}
    for each in found:
        measured: Any = each.get("recall")
        for name, value in (measured or {}).items():
            known = least.get(name)
            least[name] = value if known is None or (value is not None and value < known) else known
    return least


def _settings(fidelity: Fidelity, gate: str) -> Fidelity:
    """The check as a subtask needs it: where words are taken over, copying is no fault; a translation has no `I`."""
    if gate == "rewrite":
        return fidelity
    update: dict[str, Any] = {"max_verbatim": None}
    update |= {"parties": False} if gate == "translation" else {}
    return fidelity.model_copy(update=update)


def _bound(model: Any, subtask: Any) -> Any:
    """The model, told to fill the subtask's schema where it can be."""
    if subtask.schema is None:
        return model
    schema = subtask.schema if isinstance(subtask.schema, type) else json_schema(subtask.schema)
    try:
        return model.with_structured_output(schema, method="json_schema", include_raw=True)
    except (NotImplementedError, AttributeError, ValueError, NameError):  # fallbacks raise the last where they look
        return model


def _seen(value: Any) -> Any:
    """A part for `identify`: of our own records all fields, of anything else the thing itself."""
    if isinstance(value, (ExtractiveSummarizer, Fidelity)):
        return {name: _seen(getattr(value, name)) for name in type(value).model_fields}
    return value


def is_chinese(text: str) -> bool:
    """Whether a text is mostly Chinese: a Han character says as much as some three letters.

    Example:
        >>> is_chinese("他把车停在 Main Street。"), is_chinese("He said 你好 to me.")
        (True, False)
    """
    han = len(HAN.findall(text))
    return 3 * han > sum(c.isalpha() for c in text) - han
