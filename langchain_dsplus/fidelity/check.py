"""Does a rewrite say what the source says? What is invented refuses it; what is lost is measured."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from langchain_dsplus.fidelity.arithmetic import Numbers
from langchain_dsplus.fidelity.instructions import count_instructions
from langchain_dsplus.fidelity.names import Names
from langchain_dsplus.fidelity.parties import Parties
from langchain_dsplus.fidelity.roles import roles_changed
from langchain_dsplus.fidelity.sentences import FUNCTION, HAN, QUOTED, TOKEN, normalize, split_sentences, stem_of
from langchain_dsplus.fidelity.verdicts import count_verdicts

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

_AT_MOST = 20
"""Spans listed in a result; the count in the reason is the full one."""
_ALLOWANCE = 12
"""Words: `the narrator` for `I` makes a short text longer."""
_RUN = 8
_FEW = 3
"""Letters of a word, words of a sentence, that are too few to tell."""
_NEGATION = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|neither|nor|nowhere|cannot|without)\b|n't\b|[不没未别非勿莫]|无(?!论|聊|所谓)",
    re.IGNORECASE,
)


class Recall(TypedDict):
    """What a rewrite kept, as shares of what the source has, from 0 to 1; 1 where the source has none of the kind.

    A loss refuses nothing unless `must_keep` names its kind.
    """

    numbers: float
    """Numbers, amounts, dates and times, by value."""
    names: float
    negations: float
    """Words of negation: how many the rewrite has for those of the source."""
    content: float
    """Content words (of Chinese the characters); what is missing from 1 is the share that was lost."""


class FidelityResult(TypedDict):
    """What the check found. Plain Python types."""

    faithful: bool
    """True where there is no reason against the rewrite."""
    reasons: list[str]
    """`code: explanation`, with counts and shares but never the texts' own words. Empty where faithful."""
    missing: list[str]
    """Numbers and names of the source that the rewrite lost (at most 20)."""
    added: list[str]
    """Numbers, names or sentences of the rewrite without support in the source (at most 20)."""
    recall: NotRequired[Recall]
    spoke: NotRequired[list[str]]
    """The layers that were asked, in order: `rules`, `nli`, `judge`. A layer is asked where those before it passed."""
    refused_by: NotRequired[str | None]
    """The layer that refused."""


class Fidelity(BaseModel):
    """The check of a rewrite: what is invented refuses it, what is lost is only measured.

    The package's docstring has the table of the rules. They read single words and their neighbors: they know no
    synonyms, and what is invented in ordinary words passes. For that there are two more layers, each optional, each
    asked only where the one before it passed. `nli`, a model of natural language inference, compares every sentence of
    the rewrite with the sentences of the source that are nearest to it (`contradicted`, `not_entailed`). `judge`, a
    chat model, is asked of every such sentence whether the source says so (`judged_unsupported`).

    What is lost never refuses, unless `must_keep` names its kind (`number_missing`, `name_missing`,
    `negation_missing`). It is in the result as `recall`. A summary is meant to lose things; whether the decisions are
    as good is proven by a certificate on many cases, not by this check on one.

    The paper (4.5) sends every rewrite on unchecked: that is `PromptTransfer(fidelity="off")`.

    Args:
        must_keep: Kinds that may not be lost: `numbers`, `names`, `negations`.
        max_ratio: Longest rewrite, as a multiple of the source's words (a Han character is one), plus twelve.
        max_verbatim: Largest share of copied runs of a rewrite that is not shorter; None switches the rule off.
        names: More names to watch for.
        verdicts: Whether the rewrite may decide who is at fault.
        instructions: Whether the rewrite may speak to a model.
        parties: Whether the rules about parties apply. They read the first person as the narrator.
        nli: A model of natural language inference: a folder or hub name (`NLIModel`), `OnnxNLI`, `default_nli()`, any
            Runnable (`ClassifierNLI`), or a callable from pairs of premise and hypothesis to probabilities of
            entailment.
        judge: A chat model, or any Runnable from messages to a text that says yes or no.
        encoder: A sentence encoder that finds the nearest sentences; by default the words that they share.
        min_entailment: Probability below which a sentence does not follow, for models that know entailment.
        max_contradiction: Probability above which a sentence contradicts the source.

    Example:
        ```python
        check = Fidelity()
        check("I paid 40 dollars, and he broke the lamp.", "The narrator paid 50 dollars.")["reasons"]
        # ["number_added: 1 number or date is not in the source"]
        ```
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    must_keep: tuple[Literal["numbers", "names", "negations"], ...] = ()
    max_ratio: float = Field(default=1.2, gt=0)
    max_verbatim: float | None = Field(default=0.8, ge=0, le=1)
    names: tuple[str, ...] = ()
    verdicts: bool = False
    instructions: bool = False
    parties: bool = True
    nli: Any = Field(default=None, exclude=True, repr=False)
    judge: Any = Field(default=None, exclude=True, repr=False)
    encoder: Any = Field(default=None, exclude=True, repr=False)
    min_entailment: float = Field(default=0.5, ge=0, le=1)
    max_contradiction: float = Field(default=0.5, ge=0, le=1)

    def extractive(self) -> Fidelity:
        """The same settings for a rewrite made of the source's own sentences, word for word.

        Copying is no fault there, and nothing can be added: no model is asked. Verdicts and orders to a model refuse.
        """
        update = {"max_verbatim": None, "parties": False, "nli": None, "judge": None}
        return self.model_copy(update=update)

    def __call__(self, source: str, rewrite: str, config: RunnableConfig | None = None) -> FidelityResult:
        """Check a rewrite; the same as `check`."""
        return self.check(source, rewrite, config)

    def check(self, source: str, rewrite: str, config: RunnableConfig | None = None) -> FidelityResult:
        """Compare a rewrite with its source, in time linear in both.

        Args:
            source: The original text.
            rewrite: What the small model made of it.
            config: Callbacks and tags for the calls of the judge; by default those of the run around this one.

        Returns:
            A `FidelityResult`.
        """
        old, new = _Text(source, self.names), _Text(rewrite, self.names)
        reasons: list[str] = []
        added: list[str] = []
        recall, missing, lost = _recall(old, new)
        if new.content or not old.content:
            self._rules(old, new, reasons, added)
            for kind in self.must_keep:
                if lost[kind]:
                    reasons.append(f"{kind[:-1]}_missing: {lost[kind]} {kind} of the source are lost")
        else:
            reasons.append("empty: no word that says anything")
        spoke = ["rules"]
        refused_by: str | None = "rules" if reasons else None
        for layer, model in (("nli", self.nli), ("judge", self.judge)):
            if model is None or refused_by or not new.content:
                continue
            spoken, found, spans = self._ask(layer, source, rewrite, config)
            spoke += [layer] if spoken else []
            reasons += found
            added += spans
            refused_by = layer if found else None
        return {
            "faithful": not reasons,
            "reasons": reasons,
            "missing": missing[:_AT_MOST],
            "added": added[:_AT_MOST],
            "recall": recall,
            "spoke": spoke,
            "refused_by": refused_by,
        }

    def _rules(self, old: _Text, new: _Text, reasons: list[str], added: list[str]) -> None:
        size, whole = len(new.tokens), len(old.tokens)
        if size > self.max_ratio * whole + _ALLOWANCE:
            reasons.append(
                f"too_long: {size} words for {whole} of the source, at most {self.max_ratio:g} times as many"
            )
        if self.max_verbatim is not None and size >= self.max_verbatim * whole > 0:
            copied = copied_share(old.tokens, new.tokens)
            if copied > self.max_verbatim:
                reasons.append(f"copied: {copied:.2f} is the source word for word, and it is hardly shorter")
        if found := _unrelated(old, new):
            reasons.append(f"unrelated: {found} sentences share no word with the source")
        numbers = old.numbers.added(new.numbers)
        if numbers:
            reasons.append(f"number_added: {_count(numbers, 'number or date', 'numbers or dates')} not in the source")
        names = old.names.added(new.names)
        if names:
            reasons.append(f"name_added: {_count(names, 'name', 'names')} not in the source")
        added += [*numbers, *names]
        if found := roles_changed(old.text, new.text):
            reasons.append(f"role_changed: {found} roles or relatives are not those of the source")
        source = old.text if old.latin == new.latin else None
        if not self.instructions and (found := count_instructions(new.text, source)):
            reasons.append(f"instruction: {found} sentences speak to a model or a reader")
        if not self.verdicts and (found := count_verdicts(new.text, source)):
            reasons.append(f"verdict: {found} sentences decide who is right instead of reporting")
        if self.parties:
            ours, theirs = (Parties(text.text, frozenset(n.word for n in text.names.all)) for text in (old, new))
            if theirs.mixed:
                reasons.append("party_mixed: it says both I and the narrator")
            if found := ours.reversed_in(theirs):
                reasons.append(f"party_swapped: {found} places have one party do what the other did to them")

    def _ask(
        self, layer: str, source: str, rewrite: str, config: RunnableConfig | None
    ) -> tuple[bool, list[str], list[str]]:
        """Whether a model had anything to say, its reasons, and the sentences that they are about."""
        if layer == "nli":
            from langchain_dsplus.fidelity.nli import ask_nli

            limits = {"min_entailment": self.min_entailment, "max_contradiction": self.max_contradiction}
            return ask_nli(self.nli, source, rewrite, encoder=self.encoder, **limits)
        from langchain_dsplus.fidelity.judge import ask_judge

        return ask_judge(self.judge, source, rewrite, self.encoder, config)


class _Text:
    """One text, read once."""

    def __init__(self, text: str, names: tuple[str, ...]) -> None:
        self.text = normalize(text)
        self.tokens: list[str] = [token.casefold() for token in TOKEN.findall(self.text)]
        self.numbers = Numbers(self.text)
        self.names = Names(self.text, names)

    @property
    def latin(self) -> bool:
        """Whether it is mostly in letters: a translation from Chinese shares no words."""
        letters: int = sum(token.isascii() for token in self.tokens)
        return 2 * letters > len(self.tokens)

    @cached_property
    def content(self) -> list[str]:
        """The words that say something, without their endings; of Chinese its characters."""
        return [
            token if HAN.match(token) else stem_of(token)
            for token in self.tokens
            if token not in FUNCTION and (len(token) > 1 or HAN.match(token))
        ]


def _unrelated(old: _Text, new: _Text) -> int:
    """Sentences that share no word with the source: made up, or in another language, which no other rule reads.

    A rewrite that is in another language as a whole is a translation.
    """
    known = _starts(old.tokens)
    told = [_starts(TOKEN.findall(sentence)) - _TELLER for sentence in split_sentences(QUOTED.sub(" ", new.text))]
    found = sum(len(words) > _FEW and words.isdisjoint(known) for words in told)
    if old.latin != new.latin and found == sum(len(words) > _FEW for words in told):
        return 0
    whole: set[str] = set().union(*told)
    return found or int(len(whole) >= _FEW and whole.isdisjoint(known))


def _starts(tokens: list[str]) -> set[str]:
    """The first letters of the words that say something; of Chinese the characters."""
    words = (t.casefold() for t in tokens if (len(t) > _FEW - 1 or HAN.match(t)) and not t[0].isdigit())
    return {word[:4] for word in words if word not in FUNCTION and word not in _EMPTY_HAN}


_EMPTY_HAN = frozenset("的了着过是在有和与及也都就又才再还很不没我你他她它们这那个一上下来去说要会能可到对把被给让为")
"""Characters that say nothing of their own."""
_TELLER = _starts(["narrator", *"叙述者讲陈人"])


def _recall(old: _Text, new: _Text) -> tuple[Recall, list[str], dict[str, int]]:
    numbers, lost_numbers = old.numbers.kept(new.numbers)
    names, lost_names = old.names.kept(new.names)
    denied, denies = len(_NEGATION.findall(old.text)), len(_NEGATION.findall(new.text))
    content, told = old.content, set(new.content)
    gone = sum(word not in told for word in content)
    recall: Recall = {
        "numbers": _share(numbers - len(lost_numbers), numbers),
        "names": _share(names - len(lost_names), names),
        "negations": _share(min(denied, denies), denied),
        "content": _share(len(content) - gone, len(content)),
    }
    lost = {"numbers": len(lost_numbers), "names": len(lost_names), "negations": max(0, denied - denies)}
    return recall, [*lost_numbers, *lost_names], lost


def copied_share(old: list[str], new: list[str]) -> float:
    """Share of the rewrite's runs of eight words that stand in the source; of a shorter rewrite, whether it does."""
    size = min(_RUN, len(new))
    known = {tuple(old[i : i + size]) for i in range(len(old) - size + 1)}
    runs = [tuple(new[i : i + size]) for i in range(len(new) - size + 1)]
    return sum(run in known for run in runs) / len(runs) if runs else 0.0


def _share(kept: int, of: int) -> float:
    return kept / of if of else 1.0


def _count(found: list[str], one: str, many: str) -> str:
    return f"1 {one} is" if len(found) == 1 else f"{len(found)} {many} are"


def describe(result: FidelityResult | dict[str, Any]) -> str:
    """One line about a result, without the texts' words: for logs."""
    return "faithful" if result["faithful"] else "; ".join(result["reasons"])
