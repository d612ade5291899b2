"""What the models are asked: a verdict with its probabilities, sampled analyses, a rewrite."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_dsplus.graphs import VERDICTS
from langchain_dsplus.labels import NoLabelMassError, label_probabilities, match_label, token_logprobs

if TYPE_CHECKING:
    from benchmarks.disputes.memory import Remembered
    from benchmarks.disputes.texts import Language

SAMPLES_A_CALL = 5
"""A call for several samples reads the prompt once; the server needs as many slots."""

WORDS: dict[str, dict[str, str]] = {
    "en": {verdict: verdict for verdict in VERDICTS},
    "zh": {"narrator": "叙述者", "other party": "对方", "both": "双方", "unclear": "不清楚"},
}
"""The verdicts as a prompt offers them."""

# The statement stands before the options: a server's prompt cache reads it once for both orders.
SYSTEM = {
    "en": "You decide who is more at fault in a dispute between a narrator and another party. You read one party's "
    "statement only. Judge acts, not feelings or opinions.",
    "zh": "你判断一起纠纷中谁的过错更大：叙述者还是对方。你只能看到一方的陈述。只看行为，不看情绪和看法。",
}
VERDICT = {
    "en": "Statement of the narrator:\n{text}\n\nWho is more at fault? Answer with exactly one of these and nothing "
    "else: {options}.",
    "zh": "叙述者的陈述：\n{text}\n\n谁的过错更大？只回答以下之一，不要写别的：{options}。",
}
ANALYSIS = {
    "en": "Statement of the narrator:\n{text}\n\nWho is more at fault: {options}? First the reason in at most twenty "
    "words, then the verdict, as JSON.",
    "zh": "叙述者的陈述：\n{text}\n\n谁的过错更大：{options}？先用不超过三十个字写理由，再写结论，用JSON。",
}


class Verdict(NamedTuple):
    """What a judge makes of a text."""

    forward: dict[str, float]
    backward: dict[str, float]
    tokens_in: int
    """Of one call."""
    tokens_out: int
    unlabelled: float
    """Probability that the reply begins with none of the verdicts, the mean of both orders."""

    @property
    def probabilities(self) -> dict[str, float]:
        """The mean over both option orders."""
        return {v: (self.forward[v] + self.backward[v]) / 2 for v in VERDICTS}

    @property
    def choice(self) -> str:
        """The likeliest verdict."""
        return best(self.probabilities)


def best(probabilities: dict[str, float]) -> str:
    """The likeliest verdict; of equal ones the first."""
    return max(VERDICTS, key=probabilities.__getitem__)


def messages(template: dict[str, str], text: str, language: Language, order: Sequence[str]) -> list[tuple[str, str]]:
    """A prompt with the verdicts offered in an order."""
    comma = "、" if language == "zh" else ", "
    options = comma.join(WORDS[language][verdict] for verdict in order)
    return [("system", SYSTEM[language]), ("human", template[language].format(text=text, options=options))]


def ask_verdict(chat: Remembered, text: str, language: Language) -> Verdict:
    """One distribution over the verdicts for each of the two option orders."""
    asked = chat.with_settings(logprobs=True, top_logprobs=20, temperature=0, max_tokens=4)
    labels = {word: verdict for verdict, word in WORDS[language].items()}
    read: list[dict[str, float]] = []
    left: list[float] = []
    usage: dict[str, Any] = {}
    for order in (VERDICTS, VERDICTS[::-1]):
        reply = asked.invoke(messages(VERDICT, text, language, order))
        usage = usage or dict(reply.usage_metadata or {})
        try:
            found, unassigned = label_probabilities(token_logprobs(reply), list(labels))
        except NoLabelMassError:
            found, unassigned = dict.fromkeys(labels, 1 / len(labels)), 1.0
        read.append({labels[word]: probability for word, probability in found.items()})
        left.append(unassigned)
    forward, backward = read
    return Verdict(forward, backward, usage["input_tokens"], usage["output_tokens"], math.fsum(left) / 2)


def ask_analyses(chat: Remembered, text: str, language: Language, count: int, seed: int) -> list[str | None]:
    """Sampled analyses, half of them with the options the other way round; each one's verdict, None without any."""
    verdicts: list[str | None] = []
    labels = {word: verdict for verdict, word in WORDS[language].items()}
    schema = {
        "type": "object",
        "properties": {
            "reason": {"type": "string", "maxLength": 120 if language == "en" else 40},
            "verdict": {"type": "string", "enum": list(labels)},
        },
        "required": ["reason", "verdict"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "analysis", "schema": schema, "strict": True}}
    call = 0
    while len(verdicts) < count:
        size = min(SAMPLES_A_CALL, count - len(verdicts))
        # In the body, since langchain-openai raises where one of several replies to a schema is cut off.
        body = {"response_format": form}
        asked = chat.with_settings(temperature=0.8, max_tokens=72, n=size, seed=seed + call, extra_body=body)
        order = VERDICTS if call % 2 == 0 else VERDICTS[::-1]
        result = asked.generate([_converted(messages(ANALYSIS, text, language, order))])
        verdicts += [_verdict_in(generation.text, labels) for generation in result.generations[0]]
        call += 1
    return verdicts


def _converted(pairs: list[tuple[str, str]]) -> list[Any]:
    from langchain_core.messages import convert_to_messages

    return convert_to_messages(pairs)


def _verdict_in(text: str, labels: dict[str, str]) -> str | None:
    try:
        word = json.loads(text)["verdict"]
    except (ValueError, KeyError, TypeError):
        return None
    matched = match_label(word, list(labels)) if isinstance(word, str) else None
    return None if matched is None else labels[matched]
