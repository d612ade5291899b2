"""What a small model may read of a conversation: a turn that stands by itself, or a rendering of the last turns."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_dsplus.small_models.attachments import find_attachment

LAST_MESSAGES = 6
"""How many messages a rendering has at most."""

LONGEST_MESSAGE = 500
"""Characters of a line before the turn in a rendering; of a longer one the middle is left out."""

LONGEST_TURN = 2_000
"""Characters of the turn itself in a rendering; a longer one has none, since what is left out might turn it round."""

_GREEK_QUESTION = re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]\s*;")


def user_turn(messages: Sequence[BaseMessage]) -> str | None:
    """Return the text of the last message where a user wrote it, and all of the conversation is text; else None.

    Example:
        >>> user_turn([HumanMessage("When do you open?")])
        'When do you open?'
        >>> user_turn([HumanMessage("When do you open?"), AIMessage("At 9.")]) is None
        True
    """
    if not messages or not isinstance(messages[-1], HumanMessage) or find_attachment(messages) is not None:
        return None
    return str(messages[-1].text).strip() or None


def stands_alone(messages: Sequence[BaseMessage], known: Callable[[AIMessage], bool] = lambda _: False) -> bool:
    """Whether the last message can be read without the others: it answers neither a question nor a tool.

    Only the form of the conversation counts, no words. The first turn stands alone. A later one does not where

    - the assistant's last words hold a question mark, of whatever script;
    - it follows a tool's result or a tool call that has none, as after an interrupt;
    - it is one of several messages in a row from the user, of which it is only a part;
    - somebody else than the shunt has said something so far, and the turn is no question itself: requests
      ("Please send me the number.") bear no mark, but their answers are no questions either.

    Args:
        messages: The conversation, the turn last.
        known: Tells the assistant's messages that were written beforehand: such a text asks only with a question mark.

    Example:
        >>> asked = [HumanMessage("Delete my account."), AIMessage("Shall I delete it for good?")]
        >>> stands_alone([*asked, HumanMessage("yes")])
        False
        >>> said = [HumanMessage("Where is my order?"), AIMessage("On its way.")]
        >>> (
        ...     stands_alone([*said, HumanMessage("When do you open?")]),
        ...     stands_alone([*said, HumanMessage("the blue one")]),
        ... )
        (True, False)
    """
    if not messages or not isinstance(messages[-1], HumanMessage):
        return False
    before = [message for message in messages[:-1] if not isinstance(message, SystemMessage)]
    if not before:
        return True
    since = list(takewhile(lambda message: not isinstance(message, HumanMessage), reversed(before)))
    if not since or not isinstance(since[0], AIMessage) or _calls(since[0]):
        return False
    if any(has_question_mark(str(message.text)) for message in since if isinstance(message, AIMessage)):
        return False
    return _is_question(str(messages[-1].text)) or all(known(m) for m in before if isinstance(m, AIMessage))


def waits_for_tool(messages: Sequence[BaseMessage]) -> bool:
    """Whether a tool was called that has not answered, as after an interrupt.

    Example:
        >>> called = AIMessage("", tool_calls=[{"name": "delete", "args": {}, "id": "1"}])
        >>> waits_for_tool([called, HumanMessage("yes")])
        True
        >>> waits_for_tool([called, ToolMessage("Sure?", tool_call_id="1"), HumanMessage("yes")])
        False
    """
    answered = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    calls = (call for message in messages if isinstance(message, AIMessage) for call in _calls(message))
    return any(call.get("id") not in answered for call in calls)


def render_conversation(messages: Sequence[BaseMessage]) -> str | None:
    r"""Return the last turns as a text, a line for each message, the newest last.

    A line is `user: TEXT`, `assistant: TEXT` or `tool NAME: RESULT`; tool calls follow the assistant's text as
    `[calls NAME ARGUMENTS]`, with the arguments as JSON. White space, line breaks with it, becomes one blank: so nobody
    can write a line in another's name. System messages and messages without text or call are left out.

    Returns:
        At most 6 messages (`LAST_MESSAGES`): lines of at most 500 characters (`LONGEST_MESSAGE`, with " ... " in place
        of the middle), and the turn of at most 2,000. None for a longer turn, where nobody wrote one, where there is
        more than text, and while a tool call has no result.

    Example:
        >>> asked = [HumanMessage("Delete my account.\nNow."), AIMessage("Shall I delete it for good?")]
        >>> print(render_conversation([*asked, HumanMessage("yes")]))
        user: Delete my account. Now.
        assistant: Shall I delete it for good?
        user: yes
    """
    turn = user_turn(messages)
    if turn is None or len(turn) > LONGEST_TURN or waits_for_tool(messages):
        return None
    lines = [line for message in messages[:-1] if (line := _line(message)) is not None]
    return "\n".join([*lines[1 - LAST_MESSAGES :], f"user: {_flat(turn)}"])


def has_question_mark(text: str) -> bool:
    """Whether a question mark stands in a text, of any script: Unicode's names of the characters tell.

    Example:
        >>> [has_question_mark(text) for text in ("Sure?", "هل أنت متأكد؟", "Είσαι σίγουρος;", "Wait; no.")]
        [True, True, True, False]
    """
    return _GREEK_QUESTION.search(text) is not None or any(_is_mark(char) for char in set(text))


def _is_mark(char: str) -> bool:
    name = unicodedata.name(char, "")
    return unicodedata.category(char)[0] in "PS" and ("QUESTION" in name or "INTERROBANG" in name)


def _is_question(text: str) -> bool:
    """Whether a question mark stands at the end: behind it may be brackets, quotes, pictures."""
    last = next((place for place in range(len(text) - 1, -1, -1) if text[place].isalnum()), 0)
    return has_question_mark(text[last:])


def _calls(message: AIMessage) -> list[Any]:
    return [*message.tool_calls, *message.invalid_tool_calls]


def _line(message: BaseMessage) -> str | None:
    if isinstance(message, SystemMessage):
        return None
    said = [str(message.text)]
    if isinstance(message, AIMessage):
        who = "assistant"
        for call in _calls(message):
            said.append(f"[calls {call['name']} {json.dumps(call['args'], ensure_ascii=False, default=str)}]")
    else:
        who = "user" if isinstance(message, HumanMessage) else f"{message.type} {message.name or ''}"
    text = _flat(" ".join(said))
    return _cut(f"{_flat(who)}: {text}") if text else None


def _flat(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str) -> str:
    if len(text) <= LONGEST_MESSAGE:
        return text
    half = (LONGEST_MESSAGE - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"
