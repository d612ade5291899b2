"""The whole way to a certificate with a pruned prompt, in one call and in the right order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from langchain_dsplus.losses import Loss, parse_loss
from langchain_dsplus.prompts.conformal import ConformalCandidates
from langchain_dsplus.prompts.proficient import proficient_classes
from langchain_dsplus.prompts.pruner import PromptPruner
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.threshold.certify import certify
from langchain_dsplus.threshold.choose import choose_threshold
from langchain_dsplus.threshold.differences import UnusableLarge
from langchain_dsplus.traces.collect import collect_outcomes

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import Runnable

    from langchain_dsplus.answer import Answer
    from langchain_dsplus.outcomes import Outcomes
    from langchain_dsplus.threshold.certificate import Certificate
    from langchain_dsplus.threshold.choose import ThresholdChoice


@dataclass(frozen=True, repr=False)
class CertifiedCascade:
    """What `certify_cascade` found.

    Attributes:
        certificate: For the cascade with the pruned prompt; or a refusal.
        start: The provisional threshold, from the fit split.
        prompt: The pruner as it was frozen: its candidates, or the classes it may remove.
        small: The small model.
        large: The chain: prompt, model and parser.
        fit: Outcomes of the fit split.
        outcomes: Outcomes of the certify split, plain and pruned answers.
    """

    certificate: Certificate
    start: ThresholdChoice
    prompt: PromptPruner
    small: Any
    large: Runnable[Any, Any]
    fit: Outcomes
    outcomes: Outcomes

    def __str__(self) -> str:
        return str(self.certificate)

    def __repr__(self) -> str:
        found = self.certificate
        return f"CertifiedCascade({found.status}, coverage {found.coverage:.3f}, {len(self.outcomes)} rows)"

    def router(self, **settings: Any) -> ConfidenceRouter:
        """Return a router under the certificate.

        Args:
            **settings: Of `ConfidenceRouter`, such as `recorder=`, `audit_rate=`, `to_output=`.
        """
        never_local = self.certificate.never_local
        return ConfidenceRouter(
            small=self.small, large=self.large, threshold=self.certificate, never_local=never_local, **settings
        )


def certify_cascade(
    small: Any,
    prompt: PromptPruner,
    llm: Runnable[Any, Any],
    dataset: Iterable[Any],
    *,
    pruning: Literal["soft", "hard", "keep"] | None = None,
    max_loss: Loss = 0.005,
    level: float = 0.95,
    fit_share: float = 0.4,
    alpha: float = 0.05,
    max_risk: float = 0.01,
    objective: Literal["match_large", "max_accuracy"] = "max_accuracy",
    error_cost: float = 0.0,
    never_local: Sequence[str] = (),
    slices: Sequence[str] = (),
    unusable_large: UnusableLarge = "unknown",
    label: Callable[[Outcomes], Outcomes] | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
    **collect: Any,
) -> CertifiedCascade:
    """Certify a cascade whose escalated inputs are asked a pruned prompt: every step, in the order that keeps it valid.

    1. The rows are split once, at random, rows of one group together: a fit split and a certify split.
    2. On the fit split the large model answers the plain prompt, and `choose_threshold` finds a provisional threshold.
    3. The prompt is frozen, on the fit split alone: with `keep` the conformal candidates (one band ends at that
       threshold), with `hard` the classes the small model excels at, at most `max_risk` of them escalated.
    4. On the certify split the large model answers the plain prompt, and the frozen pruned one on the rows that may be
       escalated under it (those not above the provisional threshold; the others never see it).
    5. `certify(prompt="pruned")` starts at the provisional threshold and goes laxer. Rows on which the pruned prompt
       changed the answer count, lost or won; without gold, as lost.

    The small model must have been trained on other rows. Where `hard` finds no class to remove, the pruned prompt is
    the plain one, and is certified as such.

    Args:
        small: A small model.
        prompt: The pruner, with labels and messages.
        llm: What follows the prompt: chat model, or model and parser.
        dataset: As `collect_outcomes` takes it; inputs are dicts.
        pruning: `soft`, `hard` or `keep`; by default the prompt's own.
        max_loss: As in `certify`.
        level: As in `certify`.
        fit_share: Share of the rows in the fit split, in (0, 1).
        alpha: Largest share of misses of the conformal candidates (`keep`).
        max_risk: Largest share of removed classes among escalated inputs (`hard`).
        objective: Of the provisional threshold. The most accurate one is a good place to start: the laxest that matched
            the large model there often does not on other rows, and then the first step fails.
        error_cost: As in `certify`.
        never_local: Labels that always escalate.
        slices: As in `certify`.
        unusable_large: As in `certify`, and as in `choose_threshold`.
        label: Gets the certify split before it is certified, and returns it with gold: the place for a person
            (`Outcomes.to_label(prompt="pruned")`, `Outcomes.with_gold`).
        folder: Where the large model's answers are kept, so that a second call goes on after a crash.
        seed: Of the split.
        **collect: Passed on to `collect_outcomes`: `price`, `max_cost` (for each of the two splits), `input_key`,
            `to_label`, `version`, ...

    Raises:
        ValueError: If an argument does not fit.

    Example:
        ```python
        prompt = PromptPruner.from_messages([("human", "Classify: {text}")], labels=small.labels)
        found = certify_cascade(small, prompt, llm | LabelParser(small.labels), rows, pruning="keep", folder="answers")
        print(found.certificate)
        router = found.router(recorder=JSONLRecorder("routes.jsonl"))
        ```
    """
    parse_loss(max_loss)  # before anything is paid for
    mode = prompt.pruning if pruning is None else pruning
    if mode == "none":
        msg = "`pruning` must be 'soft', 'hard' or 'keep': without pruning, `collect_outcomes` and `certify` are enough"
        raise ValueError(msg)
    if not 0.0 < fit_share < 1.0:
        msg = "`fit_share` must lie between 0 and 1"
        raise ValueError(msg)
    if reserved := sorted({"path", "large_pruned", "pruned_for"} & collect.keys()):
        msg = f"{reserved} are set by this function; the answers are kept in `folder`"
        raise ValueError(msg)
    place = None if folder is None else Path(folder)
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)

    def at(name: str) -> Path | None:
        return None if place is None else place / f"{name}.jsonl"

    first, second = _split(list(dataset), fit_share, seed, collect)
    plain = _frozen(prompt, pruning="none", proficient=None, conformal=None) | llm
    fit = collect_outcomes(small, plain, first, path=at("fit"), **collect)
    start = choose_threshold(fit, objective, unusable_large=unusable_large, seed=seed)
    threshold = start.threshold
    if threshold is None:
        msg = "`small` must be one small model: the procedure does not know several yet"
        raise ValueError(msg)

    if mode == "keep":
        found = ConformalCandidates.fit(fit, alpha, threshold=threshold, labels=prompt.labels)
        frozen = _frozen(prompt, pruning="keep", proficient=None, conformal=found)
    elif mode == "hard":
        classes = proficient_classes(fit, threshold, labels=prompt.labels, max_risk=max_risk, level=level)
        frozen = _frozen(prompt, pruning="hard", proficient=list(classes), conformal=None)
    else:
        frozen = _frozen(prompt, pruning="soft", proficient=prompt.proficient, conformal=None)
    changes = mode != "hard" or bool(frozen.proficient)

    large = frozen | llm
    barred = frozenset(never_local)

    def escalated(answer: Answer) -> bool:
        return not answer["confidence"] > threshold or answer["choice"] in barred

    pruned: dict[str, Any] = {"large_pruned": large, "pruned_for": escalated} if changes else {}
    outcomes = collect_outcomes(small, large, second, path=at("certify"), **pruned, **collect)
    if label is not None:
        outcomes = label(outcomes)
    outcomes.folder = None  # a procedure that is resumed asks the same question of the same rows: it is one use
    certificate = certify(
        outcomes,
        max_loss,
        level,
        prompt="pruned" if changes else "plain",
        unusable_large=unusable_large,
        start=threshold if changes else None,
        slices=slices,
        never_local=never_local,
        error_cost=error_cost,
        seed=seed,
    )
    return CertifiedCascade(certificate, start, frozen, small, large, fit, outcomes)


def _frozen(prompt: PromptPruner, **changes: Any) -> PromptPruner:
    """A copy with other settings, checked as a new one is."""
    fields = {name: getattr(prompt, name) for name in type(prompt).model_fields}
    return type(prompt)(**{**fields, **changes})


def _split(
    rows: Sequence[Any], share: float, seed: int, collect: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Two random parts as mappings with ids of their own; rows of one group stay together."""
    id_key, group_key = collect.get("id_key", "id"), collect.get("group_key", "group")
    input_key, gold_key = collect.get("input_key", "input"), collect.get("gold_key", "gold")
    named: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        if isinstance(row, Mapping):
            named.append({**row, id_key: row.get(id_key, str(place))})
        elif input_key is not None and isinstance(row, Sequence) and not isinstance(row, str) and len(row) == 2:
            named.append({input_key: row[0], gold_key: row[1], id_key: str(place)})
        else:
            msg = f"row {place + 1} of `dataset` must be a mapping or an (input, gold) pair, not {type(row).__name__}"
            raise ValueError(msg)
    members: dict[Any, list[int]] = {}
    for place, row in enumerate(named):
        group = row.get(group_key)
        members.setdefault(("row", place) if group is None else ("group", group), []).append(place)
    blocks = list(members.values())
    chosen: set[int] = set()
    for block in np.random.default_rng(seed).permutation(len(blocks)).tolist():
        if len(chosen) >= round(share * len(named)):
            break
        chosen.update(blocks[block])
    if not chosen or len(chosen) == len(named):
        msg = "`dataset` has too few rows (or groups) for two splits"
        raise ValueError(msg)
    first = [row for place, row in enumerate(named) if place in chosen]
    return first, [row for place, row in enumerate(named) if place not in chosen]
