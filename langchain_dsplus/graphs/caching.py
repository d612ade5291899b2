"""Keys for LangGraph's node cache: what a node reads, and which models it asks."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.messages import BaseMessage, message_to_dict
from langchain_core.runnables import Runnable

from langchain_dsplus.identity import identify


def cached_by(policy: Any, keys: Sequence[str], parts: Sequence[Any]) -> Any:
    """A `CachePolicy` with a key of ours, where it has none of its own.

    LangGraph's default key is a pickle of the node's whole input, which differs between equal inputs, and it does not
    see which model a node asks: two graphs with one cache would get each other's answers.

    Args:
        policy: The user's policy, or None.
        keys: Of the state: what the node reads.
        parts: What the answer depends on besides: Runnables and texts. A Runnable that cannot be seen into shares its
            cache entries with no other graph.
    """
    if policy is None:
        return None
    from langgraph.types import CachePolicy

    if policy.key_func is not CachePolicy().key_func:
        return policy
    who = [_identity(part) for part in parts]

    def key(state: Mapping[str, Any]) -> str:
        body = [who, {name: state.get(name) for name in keys}]
        text = json.dumps(body, sort_keys=True, default=_plain)
        return hashlib.sha256(text.encode()).hexdigest()

    return replace(policy, key_func=key)


def _identity(part: Any) -> str:
    if not isinstance(part, Runnable):
        return str(part)
    found = identify(part)
    return found.large if found.large is not None and not found.unverifiable else uuid.uuid4().hex


def _plain(value: Any) -> Any:
    return message_to_dict(value) if isinstance(value, BaseMessage) else repr(value)
