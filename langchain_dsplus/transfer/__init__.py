"""Prompt transfer: a small model does a subtask on a text, a large one decides, and what that costs is certified."""

from langchain_dsplus.fidelity.untrusted import quote_untrusted
from langchain_dsplus.prompts.instructions import REWRITE_PROMPT, REWRITE_PROMPT_ZH
from langchain_dsplus.prompts.tokens import estimate_tokens
from langchain_dsplus.tags import TRANSFER_EVENT
from langchain_dsplus.transfer._guard import STATEMENT
from langchain_dsplus.transfer.certificate import TransferCertificate
from langchain_dsplus.transfer.certify import acertify_transfer, certify_transfer
from langchain_dsplus.transfer.compare import Arm, Comparison, acompare_transfer, compare_transfer, judge_chain
from langchain_dsplus.transfer.decompose import Decompose
from langchain_dsplus.transfer.node import (
    FidelityCheck,
    PromptTransfer,
    UnfaithfulRewriteError,
    is_chinese,
)
from langchain_dsplus.transfer.records import TransferMoney, TransferRecord, TransferUsage, usage_of
from langchain_dsplus.transfer.subtasks import (
    Subtask,
    extract_fields,
    normalise,
    split_claims,
    summarise,
    translate,
)

__all__ = [
    "REWRITE_PROMPT",
    "REWRITE_PROMPT_ZH",
    "STATEMENT",
    "TRANSFER_EVENT",
    "Arm",
    "Comparison",
    "Decompose",
    "FidelityCheck",
    "PromptTransfer",
    "Subtask",
    "TransferCertificate",
    "TransferMoney",
    "TransferRecord",
    "TransferUsage",
    "UnfaithfulRewriteError",
    "acertify_transfer",
    "acompare_transfer",
    "certify_transfer",
    "compare_transfer",
    "estimate_tokens",
    "extract_fields",
    "is_chinese",
    "judge_chain",
    "normalise",
    "quote_untrusted",
    "split_claims",
    "summarise",
    "translate",
    "usage_of",
]
