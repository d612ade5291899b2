"""A summary made of the text's own sentences: it can lose something, but it cannot invent anything."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.runnables import RunnableSerializable
from langchain_core.runnables.config import run_in_executor
from pydantic import ConfigDict, Field, PrivateAttr

from langchain_dsplus.fidelity.check import Fidelity
from langchain_dsplus.fidelity.names import read_names
from langchain_dsplus.fidelity.numbers import read_numbers
from langchain_dsplus.fidelity.parties import Parties
from langchain_dsplus.fidelity.sentences import split_sentences
from langchain_dsplus.fidelity.vectors import as_encode, unit_rows

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from numpy.typing import NDArray

DISPUTE_QUESTION = "Who did what to whom, who acted first, who caused the harm, and what was agreed?"
"""What the sentences are compared with where no question is given."""

_AGREED = re.compile(
    r"\b(?:he|she|they|we|I) (?:\w+ )?(?:told|said|promised|agreed|refused|warned|admitted|denied)\b"
    r"|[他她]们?说|对方说|告诉|答应|同意|约定|承诺|拒绝",
    re.IGNORECASE,
)
"""What the parties told each other and agreed on."""

_ACT_BONUS = 0.2
"""What an act is worth, in units of cosine similarity."""

_DISPUTE_QUESTION_ZH = "谁对谁做了什么，谁先动手，谁造成了损失，双方约定了什么？"


class ExtractiveSummarizer(RunnableSerializable[str, str]):
    """Chooses sentences of a text; writes none.

    Sentences are chosen one by one by maximal marginal relevance (Carbonell and Goldstein, 1998): near to the
    question and to the text as a whole, far from what is chosen already, sooner where a party does something, until
    `ratio` of the words is reached. Then come, in any case, the sentences that hold a number, a name, a kind of grave
    act, something that a party said, agreed or did not do, or the acts of a party, where the summary would lose them
    (see `Fidelity`); so a summary may be longer than `ratio`, and a text where every sentence holds a fact comes back
    whole. The order of the text is kept.

    Args:
        encoder: A sentence encoder with `encode(list of str)`, or a callable from texts to an array of shape
            (len(texts), dimensions). By default the package's own, loaded when it is first used.
        question: What the large model will have to decide.
        ratio: Share of the words to aim at, in (0, 1].
        diversity: Weight of being different from what is chosen, in [0, 1].
        fidelity: Says what must be kept. None keeps nothing by force.

    Example:
        ```python
        summarizer = ExtractiveSummarizer(question="Who is at fault?")
        summarizer.invoke("My neighbor is rude. He parked in my drive. It was a nice day. Then I slapped him.")
        ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    encoder: Any = Field(default=None, exclude=True)
    name: str | None = "extractive"
    question: str | None = None
    ratio: float = Field(default=0.4, gt=0, le=1)
    diversity: float = Field(default=0.3, ge=0, le=1)
    fidelity: Fidelity | None = Field(default_factory=Fidelity)

    _encode: Any = PrivateAttr(default=None)

    def __init__(self, encoder: Any = None, **kwargs: Any) -> None:
        if encoder is not None:
            as_encode(encoder)
        super().__init__(encoder=encoder, **kwargs)

    def warmup(self) -> None:
        """Load the encoder, so that the first text does not wait for it."""
        self._vectors(["warm up"])

    def _function(self) -> Callable[[list[str]], Any]:
        if self._encode is None:
            encoder = self.encoder
            if encoder is None:
                from langchain_dsplus.small_models.sentence import Encoder  # noqa: PLC0415

                encoder = Encoder()
            self._encode = as_encode(encoder)
        return self._encode  # type: ignore[no-any-return]

    def _vectors(self, texts: list[str]) -> NDArray[np.float64]:
        return unit_rows(self._function(), texts)

    def choose(self, text: str, question: str | None = None) -> list[str]:
        """Return the chosen sentences, each a verbatim piece of the text, in its order.

        Args:
            text: English or Chinese.
            question: In place of the summarizer's own.
        """
        sentences = split_sentences(text)
        if len(sentences) < 2:
            return sentences
        sizes = [_size(s) for s in sentences]
        budget = self.ratio * sum(sizes)
        facts: list[set[tuple[str, str]]] = [set() for _ in sentences]
        wanted: set[tuple[str, str]] = set()
        if self.fidelity is not None:
            facts = [_facts(sentence) for sentence in sentences]
            wanted = set().union(*facts)
        acts = np.array([any(kind == "party" for kind, _ in each) for each in facts])
        asked = question or self.question or _question(text)
        chosen = self._by_relevance(sentences, sizes, budget, asked, _ACT_BONUS * acts)
        _complete(sentences, chosen, wanted, facts)
        # A sentence that stands twice is wanted once.
        return list(dict.fromkeys(sentences[i] for i in sorted(chosen)))

    def summarize(self, text: str, question: str | None = None) -> str:
        """Return the chosen sentences as one text. Without a traced run."""
        parts = self.choose(text, question)
        return "".join(p + ("" if p[-1:] in "。！？" else " ") for p in parts).strip()

    def _by_relevance(
        self, sentences: list[str], sizes: list[int], budget: float, question: str, bonus: NDArray[np.float64]
    ) -> set[int]:
        vectors = self._vectors([*sentences, question])
        body, asked = vectors[:-1], vectors[-1]
        center = body.mean(axis=0)
        norm = float(np.linalg.norm(center))
        relevance = body @ asked + 0.5 * (body @ (center / norm if norm else center)) + bonus
        chosen: set[int] = set()
        used = 0
        nearest = np.zeros(len(sentences))
        taken = np.zeros(len(sentences), dtype=bool)
        while len(chosen) < len(sentences):
            score = (1 - self.diversity) * relevance - self.diversity * nearest
            score[taken] = -math.inf
            best = int(score.argmax())
            if chosen and used + sizes[best] > budget:
                break
            chosen.add(best)
            taken[best] = True
            used += sizes[best]
            nearest = np.maximum(nearest, body @ body[best])
        return chosen

    # --- Runnable -----------------------------------------------------------------------------------------------

    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> str:  # noqa: A002
        """Summarize one text, as one traced run."""
        return self._call_with_config(self._checked, input, config, **kwargs)

    async def ainvoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> str:  # noqa: A002
        """Async twin of `invoke`; the encoder runs in an executor thread."""

        async def run(text: str) -> str:
            return await run_in_executor(None, self._checked, text)

        return await self._acall_with_config(run, input, config, **kwargs)

    def _checked(self, text: str) -> str:
        if not isinstance(text, str):
            msg = f"a summarizer needs a str, not {type(text).__name__}"
            raise TypeError(msg)
        return self.summarize(text)


def _size(sentence: str) -> int:
    """Words; a Han character is one."""
    han = sum("\u4e00" <= c <= "\u9fff" for c in sentence)
    return max(1, han + len(sentence.split()))


def _question(text: str) -> str:
    han = sum("\u4e00" <= c <= "\u9fff" for c in text)
    return _DISPUTE_QUESTION_ZH if han > len(text) / 4 else DISPUTE_QUESTION


def _complete(
    sentences: list[str], chosen: set[int], wanted: set[tuple[str, str]], each: list[set[tuple[str, str]]]
) -> None:
    """Add the sentences whose facts are lost otherwise; of several with the same fact, the one with most facts."""
    held: set[tuple[str, str]] = set().union(*(each[i] for i in chosen))
    while open_ := wanted - held:
        best = max(range(len(sentences)), key=lambda i: (len(each[i] & open_), -len(sentences[i])))
        if not each[best] & open_:
            break
        chosen.add(best)
        held |= each[best]


def _facts(sentence: str) -> set[tuple[str, str]]:
    """What of a sentence must be kept: numbers, names, what was agreed, who does something."""
    facts = {("number", str(sorted(map(str, n.readings)))) for n in read_numbers(sentence) if not n.weak}
    facts |= {("name", name.word) for name in read_names(sentence)}
    facts |= {("party", f"{who} {verb}") for verb, whos in Parties(sentence).did.items() for who in whos if who != "?"}
    if re.search("[我他她]|对方|邻居", sentence):
        facts.add(("party", sentence))
    if _AGREED.search(sentence):
        facts.add(("agreed", sentence))
    return facts
