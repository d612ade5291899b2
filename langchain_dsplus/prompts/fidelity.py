"""Does a rewrite say what the source says? Cheap rules over the two texts, each one easy to explain.

A small model that rewrites a text for a large one loses facts, mixes people up and invents details. `Fidelity` compares
the rewrite with its source before the large model sees it. It reads words, numbers and names, in English and Chinese;
where a sentence encoder or a model of natural language inference is given, that decides what the words leave open. It
leans to the safe side: what it does not recognize as faithful is not faithful, and then the
original text goes on, which costs tokens and nothing else.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from langchain_dsplus.fidelity.sentences import HAN
from langchain_dsplus.fidelity.untrusted import count_instructions
from langchain_dsplus.fidelity.vectors import as_encode
from langchain_dsplus.prompts._gravity import (
    EITHER_WAY,
    LIGHT_VERBS,
    MILD,
    MOTION,
    alike,
    invented,
    is_invented,
    is_loaded,
    is_minor,
    paired,
    strange_deeds,
)
from langchain_dsplus.prompts._reading import Deed, Reading, copied_share
from langchain_dsplus.prompts._support import EncoderJudge, EntailmentJudge, Support
from langchain_dsplus.prompts._words import (
    FUNCTION_HAN,
    KINDS_BY_STEM,
    NEUTRAL,
    NEUTRAL_HAN,
    NEUTRAL_STEMS,
    RECIPROCAL,
    VAGUE,
    stem_of,
)
from langchain_dsplus.prompts.entailment import as_entailment

_MOST_UNSUPPORTED = 0.3
_MINOR_SHARE = 0.25

_AT_MOST = 20
"""Spans listed in a result; the count in the reason is the full one."""


class FidelityResult(TypedDict):
    """What the check found. Plain Python types."""

    faithful: bool
    """True where there is no reason against the rewrite."""
    reasons: list[str]
    """`code: explanation`, with counts and shares but never the texts' own words. Empty where faithful."""
    missing: list[str]
    """Spans of the source that the rewrite lost (at most 20)."""
    added: list[str]
    """Spans of the rewrite without support in the source (at most 20)."""


class Spans(NamedTuple):
    """What of a text must be kept, as `must_keep` finds it."""

    numbers: tuple[str, ...]
    """Canonical: `1250`, `20 %`, `50 $`, `month 3`."""
    names: tuple[str, ...]
    acts: tuple[str, ...]
    """Families of grave acts: `strike`, `damage`, ..."""
    negations: int
    """Negated clauses."""
    parties: tuple[Literal["narrator", "other"], ...]
    """Who does something in the text."""


class Fidelity(BaseModel):
    """The check, with its settings. Call it with a source and a rewrite.

    The rules, each with the code that its reason starts with:

    - `empty`, `too_long`, `too_short`: the rewrite's length in words (a Han character counts as one word) is within
      `min_ratio` to `max_ratio` of the source's.
    - `verbatim`: at most `max_verbatim` of the rewrite's runs of eight words are copied from the source.
    - `number_missing`, `number_added`: numbers, percentages, amounts, dates and times are the same in both, by value
      (`1,250` = `1250`, `three` = `3` = `三`, `March` = `03`). Where both texts name a unit (percent, currency, am or
      pm), the units agree. `one` and a lone `一` are not read as numbers.
    - `name_missing`, `name_added`: capitalized words inside a sentence and names of several words; in Chinese a surname
      with a title, and whatever `names` lists. A name is kept if a word of it that belongs to no other name is.
    - `negation_missing`: a word that the source only ever negates (the first after `not`, `never`, `no`, `没`) is not
      stated without a negation, and where the source negates anything, the rewrite has a negation somewhere.
      `negation_added`: a word that the source states and never negates is not negated.
    - `act_missing`: for each kind of grave act in the source (violence, damage, threats, theft, ...) the rewrite has a
      word of the same kind, of each party that does it; and everything that a party did (not what it felt, thought, or
      does every day) is told, by its verb or by most of its other words. `acts` adds to the kinds.
    - `party_missing`: a party that does something in the source does something in the rewrite.
    - `party_swapped`: what only the narrator (`I`, `we`) does in the source is not done only by somebody else in the
      rewrite, or the other way round. `party_mixed`: the rewrite does not speak of `I` and of the narrator at once.
    - `claim_as_fact`: what the source only tells as somebody's words (`he says that ...`) the rewrite does not state.
    - `unsupported`: content words of the rewrite whose stem is nowhere in the source, nor a word that may stand for
      it, as a share of all its content words, are at most `max_unsupported`. Neutral words (`claims`, `party`, ...) are
      free. Never free are grave acts, words that color, excuse or accuse (`drunk`, `deliberately`), a clause made
      mostly of unknown words, and an act that the source has in no form.
    - `verdict`: the rewrite does not decide who is at fault, unless it reports that somebody says so.
    - `instruction`: the rewrite holds no order to a model, no role and no mark of a chat template.

    Presets. Numbers, names, negations, roles, verdicts, instructions, grave acts lost or added, and claims told as
    facts refuse always. `balanced` forgives the rest where it is little: acts of no weight (`walked`, `asked`) that are
    not told, up to a quarter of all acts; an act told by another verb of the same party with a word in common; three
    tenths of the words new. `strict` forgives nothing of that and refuses most honest paraphrases; it is for those to
    whom a lost detail costs more than the tokens.

    With an `encoder`, a word without support is forgiven where it is near to a word of the source and keeps its
    sentence near to the source (never a grave act, never an opposite); a lost act is forgiven where a clause of the
    rewrite is near to it; and a sentence that is near to nothing in the source is `unsupported`. Chinese is left to the
    words: encoders may not read it. With `nli`, every sentence of the rewrite must follow from the source
    (`not_entailed`), words without support are forgiven in such sentences, and so is a lost act that follows from the
    rewrite. Numbers, names, negations, parties and grave acts are never forgiven. The models are only asked about what
    the rules leave open.

    A rewrite that passes has no fault that these rules can see; that is not a proof that it has none. The paper (4.5)
    sends every rewrite on unchecked; the case in its Table 6 loses a number and what the other party said.

    Args:
        max_ratio: Longest rewrite, as a multiple of the source.
        min_ratio: Shortest rewrite, as a multiple of the source.
        max_verbatim: Largest share of copied eight-word runs; None switches the rule off (extractive summaries copy).
        preset: `balanced` or `strict`.
        max_unsupported: Largest share of content words without support; None is 0.3, and 0 if strict. At 1 the rule is
            off.
        must_keep: The kinds of spans that must be kept.
        parties: Whether the rules about parties apply. They read the first person as the narrator.
        names: More names to watch for, such as Chinese ones.
        acts: More kinds of grave acts: a kind's name and its words. English words match in every inflection.
        neutral_words: More words that need no support.
        verdicts: Whether the rewrite may decide who is at fault.
        instructions: Whether the rewrite may speak to a model.
        encoder: A sentence encoder: `Encoder()`, a `SentenceClassifier`, anything with `encode`, or a callable from
            texts to an array of shape (len(texts), dimensions).
        nli: A model of natural language inference: a callable from pairs of premise and hypothesis to probabilities of
            entailment; a folder or hub name (`NLIModel`); any Runnable (`ClassifierNLI`).
        min_synonym: What a word needs to be forgiven by the encoder, in units of cosine similarity.
        min_similarity: Cosine to the nearest piece of the source that each sentence of the rewrite needs.
        min_coverage: Cosine to the nearest clause of the rewrite at which an act counts as told.
        min_entailment: Probability from which something follows.

    Example:
        ```python
        check = Fidelity()
        check("I paid 40 dollars, and he broke the lamp.", "The narrator paid; the other party broke the lamp.")
        # {"faithful": False, "reasons": ["number_missing: 1 of 1 ..."], "missing": ["40 $"], "added": []}
        ```
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    max_ratio: float = Field(default=1.2, gt=0)
    min_ratio: float = Field(default=0.08, ge=0)
    max_verbatim: float | None = Field(default=0.8, ge=0, le=1)
    preset: Literal["balanced", "strict"] = "balanced"
    max_unsupported: float | None = Field(default=None, ge=0, le=1)
    must_keep: frozenset[Literal["numbers", "names", "negations", "acts"]] = frozenset(
        {"numbers", "names", "negations", "acts"}
    )
    parties: bool = True
    names: tuple[str, ...] = ()
    acts: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    neutral_words: frozenset[str] = frozenset()
    verdicts: bool = False
    instructions: bool = False
    encoder: Any = Field(default=None, exclude=True, repr=False)
    nli: Any = Field(default=None, exclude=True, repr=False)
    min_synonym: float = Field(default=0.25, ge=-1, le=2)
    min_similarity: float = Field(default=0.2, ge=-1, le=1)
    min_coverage: float = Field(default=0.75, ge=-1, le=1)
    min_entailment: float = Field(default=0.5, ge=0, le=1)

    def extractive(self) -> Fidelity:
        """The same settings for a rewrite made of the source's own sentences.

        Copying them is no fault there, nor can they add anything: neither encoder nor NLI model is asked.
        """
        update = {"max_verbatim": None, "verdicts": True, "instructions": True, "encoder": None, "nli": None}
        return self.model_copy(update=update)

    def __call__(self, source: str, rewrite: str) -> FidelityResult:
        """Check a rewrite; the same as `check`."""
        return self.check(source, rewrite)

    def check(self, source: str, rewrite: str) -> FidelityResult:
        """Compare a rewrite with its source.

        Args:
            source: The original text.
            rewrite: What the small model made of it.

        Returns:
            A `FidelityResult`.
        """
        reasons: list[str] = []
        missing: list[str] = []
        added: list[str] = []
        old = Reading(source, self.names, self.acts)
        new = Reading(rewrite, self.names, self.acts)
        if not new.words:
            return {"faithful": not old.words, "reasons": [] if not old.words else ["empty: no words"],
                    "missing": [], "added": []}  # fmt: skip
        self._length(old, new, reasons)
        self._numbers(old, new, reasons, missing, added)
        self._names(old, new, reasons, missing, added)
        self._negations(old, new, reasons, missing, added)
        if "acts" in self.must_keep:
            gone = [
                kind for kind in old.kinds if kind not in new.kinds and (self.preset == "strict" or kind not in MILD)
            ]
            if gone:
                reasons.append(f"act_missing: {len(gone)} of {len(old.kinds)} kinds of grave acts are lost")
                missing.extend(gone)
        if self.parties:
            self._parties(old, new, reasons, missing)
        if new.verdicts and not self.verdicts:
            reasons.append(f"verdict: {new.verdicts} sentences decide who is at fault instead of reporting")
        if not self.instructions and (found := count_instructions(rewrite)):
            reasons.append(f"instruction: {found} places speak to a model instead of telling what happened")
        # The models are asked only where the rules leave it open: they forgive some of what follows, and add to it.
        judge = None if reasons else self._judge(source, rewrite)
        if "acts" in self.must_keep:
            self._deeds(old, new, judge, reasons, missing)
        self._support(old, new, judge, reasons, added)
        if judge is not None and not reasons:
            reasons.extend(judge.complaints())
        return {
            "faithful": not reasons,
            "reasons": reasons,
            "missing": missing[:_AT_MOST],
            "added": added[:_AT_MOST],
        }

    def _judge(self, source: str, rewrite: str) -> EntailmentJudge | EncoderJudge | None:
        if self.nli is not None:
            return EntailmentJudge(as_entailment(self.nli), source, rewrite, self.min_entailment)
        if self.encoder is not None:
            support = Support(as_encode(self.encoder), source, rewrite)
            return EncoderJudge(support, self.min_synonym, self.min_similarity, self.min_coverage)
        return None

    def must_keep_spans(self, text: str) -> Spans:
        """What of a text has to be kept: what `check` looks for."""
        read = Reading(text, self.names, self.acts)
        return Spans(
            numbers=tuple(sorted(n.label for n in read.numbers)),
            names=tuple(" ".join(name) for name in sorted(read.names)),
            acts=tuple(read.kinds),
            negations=read.negations,
            parties=tuple(p for p in ("narrator", "other") if any(p in a for a in read.actors.values())),
        )

    # --- the rules ----------------------------------------------------------------------------------------------

    def _length(self, old: Reading, new: Reading, reasons: list[str]) -> None:
        ratio = len(new.words) / max(1, len(old.words))
        if ratio > self.max_ratio:
            reasons.append(f"too_long: {ratio:.2f} of the source's words, at most {self.max_ratio:g}")
        if ratio < self.min_ratio:
            reasons.append(f"too_short: {ratio:.2f} of the source's words, at least {self.min_ratio:g}")
        if self.max_verbatim is not None:
            copied = copied_share(old.words, new.words)
            if copied > self.max_verbatim:
                reasons.append(f"verbatim: {copied:.2f} is copied word for word, at most {self.max_verbatim:g}")

    def _numbers(self, old: Reading, new: Reading, reasons: list[str], missing: list[str], added: list[str]) -> None:
        if "numbers" not in self.must_keep:
            return
        lost = [n.label for n in old.numbers if not n.in_(new.numbers)]
        more = [n.label for n in new.numbers if not n.in_(old.numbers)]
        if lost:
            reasons.append(f"number_missing: {len(lost)} of {len(old.numbers)} numbers or dates are lost")
        if more:
            reasons.append(f"number_added: {len(more)} numbers or dates are not in the source")
        missing.extend(sorted(lost))
        added.extend(sorted(more))

    def _names(self, old: Reading, new: Reading, reasons: list[str], missing: list[str], added: list[str]) -> None:
        if "names" not in self.must_keep:
            return
        lost = []
        for name in sorted(old.names):
            shared = {w for other in old.names if other != name for w in other}
            own = [w for w in name if w not in shared]
            kept = any(new.has(w) for w in own) if own else all(new.has(w) for w in name)
            if not kept:
                lost.append(" ".join(name))
        free = NEUTRAL | self.neutral_words
        more = sorted({w for name in new.names for w in name if not old.has(w) and w not in free})
        if lost:
            reasons.append(f"name_missing: {len(lost)} of {len(old.names)} names are lost")
        if more:
            reasons.append(f"name_added: {len(more)} names are not in the source")
        missing.extend(lost)
        added.extend(more)

    def _negations(self, old: Reading, new: Reading, reasons: list[str], missing: list[str], added: list[str]) -> None:
        if "negations" not in self.must_keep:
            return
        lost = sorted((old.heads - old.stated - LIGHT_VERBS) & (new.stated - new.around))
        lost += [verb for verb in old.flips(new) if verb not in lost]
        lost += sorted((old.denied - old.done) & (new.done - new.denied))
        lost += sorted((old.denied & new.finished) - old.finished - new.denied - set(lost))
        more = sorted((old.stated - old.around) & (new.heads - new.stated - new.unwilling))
        if lost:
            reasons.append(f"negation_missing: {len(lost)} negated words are stated without their negation")
        elif (old.negations if self.preset == "strict" or old.han else old.past_negations) and not (
            new.negations or new.weak_negations or old.negated & new.undone
        ):
            reasons.append(f"negation_missing: the source negates {old.negations} times, the rewrite never")
        if more:
            reasons.append(f"negation_added: {len(more)} words are negated that the source states")
        missing.extend(f"not {w}" for w in lost)
        added.extend(f"not {w}" for w in more)

    def _deeds(
        self,
        old: Reading,
        new: Reading,
        judge: EntailmentJudge | EncoderJudge | None,
        reasons: list[str],
        missing: list[str],
    ) -> None:
        lost = lost_deeds(old, new)
        if self.preset == "balanced" and lost:
            lost, _ = paired(lost, strange_deeds(old, new), bare=True)
        if lost and judge is not None:
            told = judge.told([deed.text for deed in lost])
            lost = [deed for deed in lost if deed.text not in told]
        if self.preset == "balanced" and len(lost) <= max(1, _MINOR_SHARE * len(old.deeds)):
            lost = [deed for deed in lost if not is_minor(deed, new)]
        if lost:
            reasons.append(f"act_missing: {len(lost)} of {len(old.deeds)} acts of the parties are lost")
            missing.extend(dict.fromkeys(deed.verb for deed in lost))

    def _parties(self, old: Reading, new: Reading, reasons: list[str], missing: list[str]) -> None:
        did, does = _by_family(old), _by_family(new)
        swapped = [
            act
            for act, who in did.items()
            if act not in RECIPROCAL
            and (act in GRAVE or alike(act, old, new, half=act in MOTION))
            and act not in VAGUE
            and act not in EITHER_WAY
            and len(who) == 1
            and len(does.get(act, ())) == 1
            and does[act] != who
        ]
        for act, who in did.items():  # both struck: neither blow may go
            if act in KINDS and len(who) == 2 and len(does.get(act, ())) == 1:
                reasons.append(f"act_missing: {act} is told of one party only")
                missing.append(act)
        if swapped:
            reasons.append(f"party_swapped: {len(swapped)} acts are told of the wrong party")
        facts = sorted((old.claimed - old.asserted - VAGUE) & (new.asserted - new.claimed))
        if facts:
            reasons.append(f"claim_as_fact: {len(facts)} acts that somebody only claims are told as facts")
            missing.extend(f"claim: {verb}" for verb in facts)
        if new.first_person and new.narrator:
            reasons.append("party_mixed: the rewrite speaks of `I` and of the narrator")
        for party in ("narrator", "other"):
            acts = [deed for deed in old.deeds if deed.party == party]
            acted = any(party in who for who in old.actors.values())
            told = any(party in who for who in new.actors.values()) or (
                self.preset == "balanced" and 2 * sum(new.tells(deed) for deed in acts) > len(acts)
            )
            if acted and not told:
                reasons.append(
                    f"party_missing: the acts of the {party if party == 'narrator' else 'other party'} are lost"
                )
                missing.append("narrator" if party == "narrator" else "other party")

    def _support(
        self,
        old: Reading,
        new: Reading,
        judge: EntailmentJudge | EncoderJudge | None,
        reasons: list[str],
        added: list[str],
    ) -> None:
        free = NEUTRAL | {w.casefold() for w in self.neutral_words}
        total = 0
        strange: list[str] = []
        for word in new.content:
            stem = stem_of(word)
            if word in free or stem in NEUTRAL_STEMS:
                continue
            total += 1
            if not old.supports(word, stem):
                strange.append(word)
        rest = old.supported_han(new)
        for word in (*NEUTRAL_HAN, *self.neutral_words):
            rest = rest.replace(word, " ")
        run = ""
        for char in rest + " ":
            if char == " " or char in FUNCTION_HAN or char in old.han_set:
                total += char != " " and char not in FUNCTION_HAN
                if run:
                    strange.append(run)
                run = ""
            else:
                total += 1
                run += char
        if self.max_unsupported == 1.0:
            hard, limit = set(), 1.0
        elif self.preset == "balanced":
            hard = {w for w in strange if is_loaded(w) and f"no {w}" not in new.lower} | set(
                invented(old, new, set(strange))
            )
            _, extra = paired(lost_deeds(old, new), strange_deeds(old, new))
            hard |= {deed.verb for deed in extra if is_invented(deed, old)}
            limit = _MOST_UNSUPPORTED if self.max_unsupported is None else self.max_unsupported
        else:
            hard, limit = set(), self.max_unsupported or 0.0
        if strange and judge is not None and (hard or sum(map(_weight, strange)) > limit * total):
            forgiven = judge.forgiven_words(strange, old.content)
            strange = [w for w in strange if w not in forgiven]
            hard = {w for w in hard if w not in forgiven} if self.nli is not None else hard
        unknown = sum(map(_weight, strange))
        if hard:
            reasons.append(f"unsupported: {len(hard)} words tell of something that is not in the source")
            added.extend(w for w in sorted(hard) if w not in added)
        elif unknown and unknown / total > limit:
            reasons.append(
                f"unsupported: {unknown} of {total} content words have no support in the source "
                f"({unknown / total:.2f}, at most {limit:g})"
            )
            added.extend(dict.fromkeys(w for w in strange if w not in added))


def _weight(word: str) -> int:
    return len(word) if HAN.match(word) else 1


GRAVE = frozenset(kind for kinds in KINDS_BY_STEM.values() for kind in kinds) - MILD
KINDS = frozenset(kind for kinds in KINDS_BY_STEM.values() for kind in kinds)


def _by_family(read: Reading) -> dict[str, frozenset[str]]:
    """Who does what, with `punched` and `hit` as one act."""
    found: dict[str, frozenset[str]] = {}
    for verb, who in read.actors.items():
        for family in {verb, *KINDS_BY_STEM.get(verb, ())}:
            found[family] = found.get(family, frozenset()) | who
    return found


def lost_deeds(old: Reading, new: Reading) -> list[Deed]:
    """The deeds of a text that another does not tell."""
    known = {deed: new.tells(deed) for deed in dict.fromkeys(old.deeds)}
    return [deed for deed in old.deeds if not known[deed]]


def must_keep(text: str) -> Spans:
    """What of a text has to be kept, by the default settings.

    Example:
        >>> must_keep("I paid 1,250 euros to Marta Lind.").numbers
        ('1250 €',)
    """
    return Fidelity().must_keep_spans(text)


def describe(result: FidelityResult | dict[str, Any]) -> str:
    """One line about a result, without the texts' words: for logs."""
    return "faithful" if result["faithful"] else "; ".join(result["reasons"])
