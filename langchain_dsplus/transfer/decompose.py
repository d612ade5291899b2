"""`Decompose`: several subtasks one after another, each with its check and record, one certificate over the whole."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import patch_config
from pydantic import Field

from langchain_dsplus._drive import Call, Plan
from langchain_dsplus.answer import note
from langchain_dsplus.fidelity.untrusted import quote_untrusted
from langchain_dsplus.prompts.tokens import estimate_tokens
from langchain_dsplus.state import as_update
from langchain_dsplus.transfer._guard import Transferring
from langchain_dsplus.transfer.node import PromptTransfer
from langchain_dsplus.transfer.records import TransferRecord, told


class Decompose(Transferring):
    """A chain of transfers: each reads what the one before sent, and its check holds it to that.

    Where a step's result fails its check, what that step's `on_unfaithful` says goes on to the next one: by default the
    step is left out. A certificate is about the whole: `Decompose([...], certificate=...)`; the steps have none.

    Args:
        steps: `PromptTransfer`s, at least one. Their keys, labels and certificates do not count.

    The other arguments are those of `PromptTransfer`: `input_key`, `output_key`, `record_key`, `label`, `certificate`,
    `large`, `audit_rate`, `monitor`, `version`, `name`. The record has the sums over the steps, and theirs as `steps`.

    Raises:
        ValueError: If there is no step, or one has a certificate of its own.
        TypeError: If a step is no `PromptTransfer`.

    Example:
        ```python
        chain = Decompose(
            [PromptTransfer(small, subtask=translate("English")), PromptTransfer(small, subtask=split_claims())],
            input_key="statement",
        )
        chain.invoke({"statement": "..."})["transfer"]["steps"]
        ```
    """

    name: str | None = "decompose"
    steps: list[PromptTransfer] = Field(default_factory=list)

    def __init__(self, steps: Sequence[PromptTransfer] = (), **kwargs: Any) -> None:
        steps = list(steps)
        if not steps:
            raise ValueError("`steps` needs at least one `PromptTransfer`")
        for step in steps:
            if not isinstance(step, PromptTransfer):
                raise TypeError(f"`steps` must be `PromptTransfer`s, not {type(step).__name__}")
            if step.certificate is not None or step.audit_rate:
                raise ValueError(
                    "a step has a certificate or audits of its own: give them to `Decompose`, they are over the whole"
                )
        mine: dict[str, Any] = {"steps": steps}
        super().__init__(**mine, **kwargs)
        self.steps = [step.silent() for step in steps]  # what is proven or not is about the whole

    def identity_parts(self) -> dict[str, Any]:
        """What makes it, for `identify`."""
        return {"steps": [*self.steps], "label": self.label, "version": self.version}

    def _plan(
        self, value: dict[str, Any], run_manager: Any, config: RunnableConfig, **kwargs: Any
    ) -> Plan[dict[str, Any]]:
        child = patch_config(config, callbacks=run_manager.get_child())
        update, record, audit = yield from self._steps(value, child, kwargs)
        self._tell(record, config)
        if audit is not None:
            yield self._guard.later(self, audit, child)
        return update

    def _steps(
        self, value: Any, child: RunnableConfig, kwargs: dict[str, Any]
    ) -> Plan[tuple[dict[str, Any], TransferRecord, Any]]:
        """All steps, up to what others hear about them."""
        started = time.perf_counter()
        text = original = self._read(value)
        refusal = self._guard.refusal(self)
        records: list[TransferRecord] = []
        for step in self.steps if refusal is None else ():
            bare = {"input_key": "text", "output_key": "rewrite", "record_key": "transfer", "label": None}
            alone = step.model_copy(update={**bare, "keep_input": False})
            done = yield Call(alone.invoke, alone.ainvoke, {"text": text}, child, **kwargs)
            text = done["rewrite"]
            records.append(done["transfer"])
        record = self._record(original, text, records, refusal)
        record["seconds"] = round(time.perf_counter() - started, 6)
        note(value.get(self.context_key), transfer=told(record))
        output = text
        if self.label is not None:
            output, original = quote_untrusted(text, self.label), quote_untrusted(original, self.label)
        update: dict[str, Any] = {self.output_key: output}
        audit = None
        if record["used"] != "original":
            self._guard.sent(self, checked=all(step.fidelity is not None for step in self.steps))
            audit = self._guard.audit(self, update, value, original)
        if self.record_key is not None:
            update[self.record_key] = record
        return {**value, **update} if self.keep_input else as_update(value, update), record, audit

    def _record(self, original: str, text: str, records: list[TransferRecord], refusal: str | None) -> TransferRecord:
        used = [record["used"] for record in records]
        whole = "original" if all(each == "original" for each in used) else "mixed"
        if records and all(each == "rewrite" for each in used):
            whole = "rewrite"
        count = self.steps[0].token_counter
        usages = [record["usage"] for record in records if record["usage"] is not None]
        money = [record["money"] for record in records if record["money"] is not None]
        names = ("input_tokens", "output_tokens", "total_tokens")
        certificate = self.certificate
        return {
            "subtask": " > ".join(step.subtask.name for step in self.steps),
            "fidelity": " > ".join(record["fidelity"] for record in records) or "default",
            "certificate": certificate.id if certificate is not None and whole != "original" else None,
            "used": whole,  # type: ignore[typeddict-item]
            "faithful": bool(records) and all(record["faithful"] for record in records),
            "reasons": [refusal]
            if refusal
            else [f"{r['subtask']}: {reason}" for r in records for reason in r["reasons"]],
            "missing": [span for record in records for span in record["missing"]],
            "added": [span for record in records for span in record["added"]],
            "recall": {},
            "layers": list(dict.fromkeys(layer for record in records for layer in record["layers"])),
            "fields": records[-1]["fields"] if records else None,
            "chunks": sum(record["chunks"] for record in records),
            "chunks_rewritten": sum(record["chunks_rewritten"] for record in records),
            "instructions": records[0]["instructions"] if records else 0,
            "tokens_before": int((count or estimate_tokens)(original)),
            "tokens_after": int((count or estimate_tokens)(text)),
            "tokens_estimated": count is None,
            "usage": {name: sum(usage[name] for usage in usages) for name in names} if usages else None,  # type: ignore[typeddict-item,literal-required]
            "money": None
            if not money
            else {
                "spent": math.fsum(each["spent"] for each in money),
                "saved": math.fsum(each["saved"] for each in money),
                "net": math.fsum(each["net"] for each in money),
                "currency": money[0]["currency"],
            },
            "calls": sum(record["calls"] for record in records),
            "seconds": 0.0,
            "steps": [dict(record) for record in records],
        }
