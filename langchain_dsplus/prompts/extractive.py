"""A text shortened to some of its own sentences: nothing is rewritten, but what is left out can change the picture."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import run_in_executor
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, PrivateAttr
from typing_extensions import TypedDict

from langchain_dsplus._json import load_json
from langchain_dsplus.fidelity.instructions import count_instructions
from langchain_dsplus.fidelity.sentences import HAN
from langchain_dsplus.fidelity.vectors import as_encode, unit_rows
from langchain_dsplus.fidelity.verdicts import count_verdicts
from langchain_dsplus.prompts._lexical import lexical_vectors
from langchain_dsplus.prompts._pieces import References, about, units, whole_sentences
from langchain_dsplus.prompts.tokens import estimate_tokens

logger = logging.getLogger(__name__)

DISPUTE_QUESTION = "Who did what to whom, who acted first, who caused the harm, and what was agreed?"
"""What the sentences are compared with where no question is given."""

_DISPUTE_QUESTIONS = (DISPUTE_QUESTION, "Who is at fault in this dispute, and who harmed whom?")
_DISPUTE_QUESTIONS_ZH = ("谁对谁做了什么，谁先动手，谁造成了损失，双方约定了什么？", "这场纠纷中谁有过错，谁伤害了谁？")

_ABOUT_A_DISPUTE = (0.25, 0.5)
"""The cosine to those at which a question begins to be one about a dispute, and at which it is nothing else."""

_EXAMPLES: dict[str, list[str]] = load_json(Path(__file__).with_name("examples.json").read_bytes())
"""Sentences of accounts, written for this package: what decides a dispute, and what is told beside it.

An encoder learns from them the direction from the one to the other. They are examples of meaning, in no text that
anything is measured on.
"""

_RIDGE = 3.0
"""Penalty on the direction that the examples teach."""

_WHOLE = 0.25
"""What nearness to the text as a whole counts, against nearness to what is asked."""

_ENCODED_AT_MOST = 1_000
"""Sentences of one text that an encoder reads; of a longer text, those that words put first."""

_CHAIN = 30
"""Groups that one may bring along."""
_BLOCK = 128
"""Sentences that are compared with each other; so the work grows with the text, not with its square."""

_LEEWAY = 0.1
"""How far the share of one party may be from its share of the text before the other's sentences go first."""


class Extract(TypedDict):
    """What was kept of a text. Plain Python types."""

    sentences: list[str]
    """Verbatim pieces of the text, in its order."""
    instructions: int
    """Sentences that were left out because they speak to a model."""
    verdicts: int
    """Sentences that were left out because they decide who is at fault."""
    tokens_before: int
    tokens_after: int
    scorer: str
    """Who judged relevance: the encoder's name, or `lexical`."""


class ExtractiveSummarizer(RunnableSerializable[str, str]):
    """Keeps the sentences of a text that matter for a question, within a budget; writes none.

    A sentence counts by its nearness to the question, and a little to the text as a whole, less what the kept ones say
    already (maximal marginal relevance, Carbonell and Goldstein, 1998). Without a question, the text is taken
    for somebody's account of a dispute: nearness to acts, harm and agreements counts, less nearness to self-praise,
    feelings and memories (learned from examples that come with the package). A question is taken for one about
    a dispute as far as it is near to one.

    - The order is kept. A sentence is kept whole, with all of a quotation that it is a part of.
    - A short reply ("I refused.") stays with the sentence before it. A sentence whose pronoun has its antecedent
      elsewhere brings that sentence along.
    - What the narrator says of themselves and what of others keep about the proportion that they have in the text.
    - A sentence that speaks to a model is left out, and so is one that decides who is at fault; both are counted
      (`select`). The rules are those of `Fidelity`.

    Nothing is invented, but a choice can mislead: what is left out may have been the other side of it, and antecedents
    are found by position, not by grammar. Measure it on your own cases (`python -m benchmarks extractive`).

    Args:
        encoder: A sentence encoder: an object with `encode(list of str)`, a callable from texts to an array of shape
            (len(texts), dimensions), or the name or folder of one. By default the package's own, loaded when it is
            first used; where it cannot be had, words alone ("lexical", which is blind to meaning), said once in the log
            and each time in `select`. "lexical" asks for that. The default encoder reads English: for another language
            name one that reads it.
        question: What the large model will have to decide.
        ratio: The budget as a share of the text's tokens, in (0, 1].
        max_tokens: The budget in tokens, in place of `ratio`. It holds for every text but one: the best sentence is
            kept even where it is longer.
        diversity: Weight of being different from what is kept, in [0, 1].
        token_counter: From a text to its number of tokens; by default an estimate that needs no tokenizer.

    Example:
        ```python
        summarizer = ExtractiveSummarizer(question="Who is at fault?", ratio=0.4)
        summarizer.invoke("My neighbor is rude. He parked in my drive. It was a nice day. Then I slapped him.")
        ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    encoder: Any = Field(default=None, exclude=True)
    name: str | None = "extractive"
    question: str | None = None
    ratio: float = Field(default=0.5, gt=0, le=1)
    max_tokens: int | None = Field(default=None, gt=0)
    diversity: float = Field(default=0.1, ge=0, le=1)
    token_counter: Callable[[str], int] | None = Field(default=None, exclude=True)

    _ready: tuple[str, Callable[[list[str]], Any]] | None = PrivateAttr(default=None)
    _anchors: dict[bool, NDArray[np.float64]] = PrivateAttr(default_factory=dict)

    def __init__(self, encoder: Any = None, **kwargs: Any) -> None:
        if encoder is not None and not isinstance(encoder, str):
            as_encode(encoder)
        super().__init__(encoder=encoder, **kwargs)

    def warmup(self) -> None:
        """Load the encoder, so that the first text does not wait for it."""
        _, encode = self._scorer()
        encode(["warm up"])

    def _scorer(self) -> tuple[str, Callable[[list[str]], Any]]:
        """Name and function of who judges relevance; decided once."""
        if self._ready is None:
            self._ready = _scorer(self.encoder)
        return self._ready

    def select(self, text: str, question: str | None = None) -> Extract:
        """Choose the sentences to keep, and say what was done.

        Args:
            text: Anything.
            question: In place of the summarizer's own.

        Raises:
            TypeError: If the text is no str.
            ValueError: If the encoder returns another shape, or numbers that are not finite.
        """
        if not isinstance(text, str):
            msg = f"a summarizer needs a str, not {type(text).__name__}"
            raise TypeError(msg)
        count = self.token_counter or estimate_tokens
        sentences = whole_sentences(text)
        tokens = [int(count(s + _gap(s))) for s in sentences]
        before = int(count(text))
        orders = [count_instructions(s) > 0 for s in sentences]
        verdicts = [count_verdicts(s) > 0 for s in sentences]
        barred = [a or b for a, b in zip(orders, verdicts, strict=True)]
        first: dict[str, int] = {}
        spare = [first.setdefault(s, i) != i for i, s in enumerate(sentences)]  # what stands twice is wanted once
        budget = self.ratio * before if self.max_tokens is None else float(self.max_tokens)
        scorer = "none"
        kept = [i for i in range(len(sentences)) if not barred[i] and not spare[i]]
        if len(kept) > 1 and count(_join([sentences[i] for i in kept])) > budget:
            scorer, relevance, vectors = self._score(text, sentences, kept, question or self.question)
            out = [a or b for a, b in zip(barred, spare, strict=True)]
            kept = _choose(_Rated(sentences, out, tokens, relevance, vectors), budget, self.diversity)
        chosen = [sentences[i] for i in kept]
        return {
            "sentences": chosen,
            "instructions": sum(orders),
            "verdicts": sum(verdicts),
            "tokens_before": before,
            "tokens_after": int(count(_join(chosen))),
            "scorer": scorer,
        }

    def choose(self, text: str, question: str | None = None) -> list[str]:
        """Return the chosen sentences, each a verbatim piece of the text, in its order; see `select`."""
        return self.select(text, question)["sentences"]

    def summarize(self, text: str, question: str | None = None) -> str:
        """Return the chosen sentences as one text. Without a traced run."""
        return _join(self.select(text, question)["sentences"])

    def _score(
        self, text: str, sentences: Sequence[str], kept: list[int], question: str | None
    ) -> tuple[str, NDArray[np.float64], NDArray[np.float32]]:
        """Who judged, the relevance of each sentence, and vectors by which it is seen what is said twice."""
        chinese = len(HAN.findall(text)) > len(text) / 4
        disputes = _DISPUTE_QUESTIONS_ZH if chinese else _DISPUTE_QUESTIONS
        anchors = [
            *disputes,
            *_EXAMPLES["decisive_zh" if chinese else "decisive"],
            *_EXAMPLES["beside_zh" if chinese else "beside"],
        ]
        name, encode = self._scorer()
        relevance = np.full(len(sentences), -math.inf)

        def score(encode: Callable[[list[str]], Any], places: list[int]) -> NDArray[np.float64]:
            texts = [*(sentences[i] for i in places), question or disputes[0]]
            if encode is lexical_vectors:  # what a word weighs depends on all the texts
                rows = unit_rows(encode, [*texts, *anchors])
                rows, fixed = rows[: len(texts)], rows[len(texts) :]
            else:
                if chinese not in self._anchors:
                    self._anchors[chinese] = unit_rows(encode, anchors)
                rows, fixed = unit_rows(encode, texts), self._anchors[chinese]
            relevance[places] = _relevance(rows[:-1], rows[-1], fixed)
            return rows[:-1]

        if len(kept) > _ENCODED_AT_MOST and encode is not lexical_vectors:
            score(lexical_vectors, kept)
            kept = sorted(sorted(kept, key=lambda i: -relevance[i])[:_ENCODED_AT_MOST])
            relevance -= 100.0  # behind all that the encoder reads
        rows = score(encode, kept)
        vectors = np.zeros((len(sentences), rows.shape[1]), dtype=np.float32)
        vectors[kept] = rows
        return name, relevance, vectors

    # --- Runnable -----------------------------------------------------------------------------------------------

    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> str:
        """Summarize one text, as one traced run."""
        return self._call_with_config(self._run, input, config, **kwargs)

    async def ainvoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> str:
        """Async twin of `invoke`; the encoder runs in an executor thread."""

        async def run(text: str) -> str:
            return await run_in_executor(None, self._run, text)

        return await self._acall_with_config(run, input, config, **kwargs)

    def _run(self, text: str) -> str:
        return self.summarize(text)


def _scorer(encoder: Any) -> tuple[str, Callable[[list[str]], Any]]:
    if encoder is not None and not isinstance(encoder, str):
        return str(getattr(encoder, "name", type(encoder).__name__)), as_encode(encoder)
    if encoder == "lexical":
        return "lexical", lexical_vectors
    from langchain_dsplus.small_models.encoder import DEFAULT_ENCODER, Encoder
    from langchain_dsplus.weights import WeightsError

    if encoder is not None:
        return encoder, Encoder(encoder).encode
    try:
        return DEFAULT_ENCODER, Encoder().load().encode
    except (ImportError, OSError, WeightsError) as error:
        logger.warning("extractive: no sentence encoder (%s); words alone decide (`encoder=`)", type(error).__name__)
        return "lexical", lexical_vectors


def _relevance(
    body: NDArray[np.float64], asked: NDArray[np.float64], anchors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Nearness to the question, to what decides disputes as far as the question is about one, and to the whole.

    Args:
        body: Unit vectors of the sentences.
        asked: That of the question.
        anchors: Those of two questions about disputes and of the examples, the decisive half first.
    """
    disputes, examples = anchors[:2], anchors[2:]
    low, high = _ABOUT_A_DISPUTE
    share = min(max((float((disputes @ asked).max()) - low) / (high - low), 0.0), 1.0)
    direction = _direction(examples)
    near = share * _spread(body @ direction) + (1 - share) * _spread(body @ asked)
    result: NDArray[np.float64] = near + _WHOLE * _spread(body @ body.mean(axis=0))
    return result


def _direction(examples: NDArray[np.float64]) -> NDArray[np.float64]:
    """From what is told beside to what decides: ridge regression, in its dual form since the examples are few."""
    side = np.ones(len(examples))
    side[len(examples) // 2 :] = -1.0
    centered = examples - examples.mean(axis=0)
    result: NDArray[np.float64] = centered.T @ np.linalg.solve(centered @ centered.T + _RIDGE * np.eye(len(side)), side)
    return result


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    scale = float(values.std())
    result: NDArray[np.float64] = (values - values.mean()) / scale if scale > 0 else np.zeros_like(values)
    return result


class _Group(NamedTuple):
    """Sentences that stand or fall together."""

    members: tuple[int, ...]
    mine: float
    """Tokens that speak of the narrator; what speaks of both parties counts half for each."""
    others: float


class _Rated(NamedTuple):
    """Sentences with what is known of them."""

    sentences: Sequence[str]
    barred: Sequence[bool]
    tokens: Sequence[int]
    relevance: NDArray[np.float64]
    vectors: NDArray[np.float32]


def _choose(text: _Rated, budget: float, diversity: float) -> list[int]:
    """The places to keep, in their order: block by block, each with its share of the budget."""
    references = References(text.sentences)
    groups = [
        _group(members, text, references.known) for members in units(text.sentences, text.barred, references.known)
    ]
    best = [max(group.members, key=text.relevance.__getitem__) for group in groups]
    value = text.relevance[best] - text.relevance[best].min()
    value /= value.max() or 1.0
    own = np.array([sum(text.tokens[i] for i in group.members) for group in groups], dtype=np.float64)
    # What the best sentences of the whole text would take of each block is what the block may take.
    order = np.argsort(-value, kind="stable")
    within = np.zeros(len(groups))
    within[order] = np.diff(np.minimum(np.cumsum(own[order]), budget), prepend=0.0)
    kept = _Kept(groups, text.tokens, references)
    allowed = 0.0
    for start in range(0, len(groups), _BLOCK):
        block = slice(start, start + _BLOCK)
        allowed += float(within[block].sum())
        kept.fill(groups[block], value[block], text.vectors[best[block]], allowed, diversity)
    if not kept.places:
        kept.places.update(groups[int(value.argmax())].members)
    return sorted(kept.places)


class _Kept:
    """What is kept so far."""

    def __init__(self, groups: Sequence[_Group], tokens: Sequence[int], references: References) -> None:
        self.places: set[int] = set()
        self.used = 0
        self._home = {i: group for group in groups for i in group.members}
        self._tokens, self._references = tokens, references
        self._mine = self._others = 0.0
        mine, others = sum(g.mine for g in groups), sum(g.others for g in groups)
        self._share = mine / (mine + others) if mine + others else 0.5

    def _with(self, group: _Group, room: float) -> tuple[set[int], int]:
        """The places that a group adds, and their tokens; it stops where these are too many for the room that is left.

        Its own, those that say whom its pronouns mean, and those for pronouns behind it that it makes ambiguous: of a
        chain that goes on and on (`He ... He ...`) the nearest.
        """
        new: set[int] = set()
        cost = followed = 0
        todo = [group]
        both = _Both(self.places, new)
        while todo and cost <= room and followed < _CHAIN:
            followed += 1
            members = todo.pop().members
            cost += sum(self._tokens[i] for i in members if i not in both)
            new.update(members)
            near = {i for m in members for i in (m, *self._references.after(m)) if i in both}
            for i in near:
                lost = self._references.lost(i, both)
                if lost is not None and lost in self._home:
                    todo.append(self._home[lost])
        return new - self.places, cost

    def fill(
        self,
        groups: Sequence[_Group],
        value: NDArray[np.float64],
        vectors: NDArray[np.float32],
        allowed: float,
        diversity: float,
    ) -> None:
        """Add groups of one block, the best first, while they fit."""
        open_ = np.ones(len(groups), dtype=bool)
        nearest = np.zeros(len(groups))
        while open_.any():
            score = np.where(open_, (1 - diversity) * value - diversity * nearest, -math.inf)
            first = self._behind(groups, open_)
            place = int((np.where(first, score, -math.inf) if first.any() else score).argmax())
            open_[place] = False
            new, cost = self._with(groups[place], allowed - self.used)
            if self.used + cost <= allowed:
                self.used += cost
                self.places |= new
                for group in {self._home[i] for i in new}:
                    self._mine += group.mine
                    self._others += group.others
                nearest = np.maximum(nearest, vectors @ vectors[place])

    def _behind(self, groups: Sequence[_Group], open_: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The groups that do not widen the gap between the parties."""
        total = self._mine + self._others
        gap = self._mine / total - self._share if total else 0.0
        if abs(gap) <= _LEEWAY:
            return open_
        fair = [g.mine <= g.others if gap > 0 else g.others <= g.mine for g in groups]
        behind: NDArray[np.bool_] = open_ & np.array(fair, dtype=bool)
        return behind


class _Both(Container[int]):
    """Two sets as one, without copying."""

    def __init__(self, kept: set[int], new: set[int]) -> None:
        self.kept, self.new = kept, new

    def __contains__(self, place: object) -> bool:
        return place in self.kept or place in self.new


def _group(members: Sequence[int], text: _Rated, known: frozenset[str]) -> _Group:
    mine = others = 0.0
    for i in members:
        narrator, somebody = about(text.sentences[i], known)
        if narrator or somebody:
            mine += text.tokens[i] * narrator / (narrator + somebody)
            others += text.tokens[i] * somebody / (narrator + somebody)
    return _Group(tuple(members), mine, others)


def _join(sentences: Sequence[str]) -> str:
    return "".join(s + _gap(s) for s in sentences).strip()


def _gap(sentence: str) -> str:
    """What stands between a sentence and the next."""
    return "" if sentence[-1] in "。！？”」』" else " "
