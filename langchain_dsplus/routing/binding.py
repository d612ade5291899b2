"""What a certificate is bound to, held against the parts of a router."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

from langchain_dsplus.answer import MismatchError
from langchain_dsplus.costs.usage import reported_by
from langchain_dsplus.identity import identify, score_name
from langchain_dsplus.outcomes.cells import known_labels
from langchain_dsplus.routing.decision import thresholds_of
from langchain_dsplus.small_models.base import UNVERIFIABLE, SmallModel

if TYPE_CHECKING:
    from langchain_core.outputs import LLMResult

    from langchain_dsplus.threshold.certificate import Certificate


@dataclass(frozen=True)
class Binding:
    """How a router's parts compare with its certificate.

    Attributes:
        mismatches: Parts that differ.
        unverifiable: Parts that cannot be compared, since the certificate does not name them or they cannot be seen
            into.
    """

    mismatches: tuple[str, ...]
    unverifiable: tuple[str, ...]


def bind(
    certificate: Certificate,
    models: Sequence[SmallModel],
    names: Sequence[str],
    *,
    score: Any,
    large: Any,
    never_local: frozenset[str],
    version: str | None,
    hidden: bool,
) -> Binding:
    """Compare a router's parts with what a certificate is about.

    Args:
        certificate: The certificate.
        models: The small models.
        names: Their names.
        score: The router's own score; None where the models' scores are used.
        large: The large chain.
        never_local: The router's.
        version: The user's text for what the large chain is.
        hidden: Whether something beside the chain shapes its input and cannot be seen into.

    Raises:
        MismatchError: If score or labels differ or are not named, or the small models' names are others: then the
            thresholds mean something else, and nothing can be made of them.
    """
    thresholds_of(certificate, names)
    about = certificate.about
    missing = [field for field in ("score", "labels") if about.get(field) is None]
    if missing and certificate.certified:
        named = " and ".join(f"`{field}`" for field in missing)
        raise MismatchError(
            f"the certificate does not say which {named} it is about: collect with `about=`, or name them with "
            "`certificate.bind(score=..., labels=...)`",
            missing,
        )
    # One small model alone may have another name than its table gave it.
    called = names if len(names) > 1 else list(certificate.thresholds)
    scores = {
        name: score_name(model.score if score is None else score) for name, model in zip(called, models, strict=True)
    }
    if not missing:
        for name, found in scores.items():
            wanted = _of(about["score"], name)
            if wanted != found:
                raise MismatchError(
                    f"the certificate is about the score {wanted!r}, the router compares {found!r} with the threshold",
                    ["score"],
                )
        if not _same_labels(about, models, called):
            raise MismatchError("the certificate is about other labels than those of the small models", ["labels"])
    mismatches: list[str] = []
    unverifiable: list[str] = []

    def compare(field: str, wanted: Any, found: Any) -> None:
        if wanted is None or wanted == "unverifiable" or found is None or found == "unverifiable":
            unverifiable.append(field)
        elif wanted != found:
            mismatches.append(field)

    for name, model in zip(called, models, strict=True):
        compare("small" if len(names) == 1 else f"small.{name}", _of(about.get("small"), name), model.version)
    if any(found.endswith(f" {UNVERIFIABLE}") for found in scores.values()):
        unverifiable.append("score")
    identity = identify(large, version=version)
    seen = version is not None or not hidden
    # Where the pruned prompt was asked of another chain than the plain one, that is the chain that will be asked.
    end = "_pruned" if certificate.prompt == "pruned" and about.get("large_pruned") is not None else ""
    compare("large", about.get(f"large{end}"), identity.large if seen else None)
    if about.get(f"prompt{end}") is not None or identity.prompt is None:
        compare("prompt", about.get(f"prompt{end}"), identity.prompt if seen else None)
    if len(names) > 1 and list(certificate.thresholds) != list(names):
        mismatches.append("small_order")  # another one answers first
    if set(certificate.never_local) != never_local:
        mismatches.append("never_local")
    return Binding(tuple(mismatches), tuple(dict.fromkeys(unverifiable)))


def _same_labels(about: Mapping[str, Any], models: Sequence[SmallModel], names: Sequence[str]) -> bool:
    if isinstance(wanted := about["labels"], Mapping):
        return all(
            (known_labels({"labels": wanted.get(name)}) or frozenset()) == set(model.labels)
            for name, model in zip(names, models, strict=True)
        )
    return (known_labels(about, "small") or frozenset()) == {label for model in models for label in model.labels}


def _of(value: Any, name: str) -> Any:
    """A fact about one small model: the same for all, or by name."""
    return value.get(name) if isinstance(value, Mapping) else value


def facts(
    models: Sequence[SmallModel], names: Sequence[str], *, score: Any, large: Any, version: str | None
) -> dict[str, Any]:
    """Return what a router's outcomes are about, for `Outcomes.from_traces(about=)`; what is unknown is missing."""
    scores = {n: score_name(model.score if score is None else score) for n, model in zip(names, models, strict=True)}
    one = len(names) == 1
    identity = identify(large, version=version)
    found = {
        "score": next(iter(scores.values())) if len(set(scores.values())) == 1 else scores,
        "labels": list(dict.fromkeys(label for model in models for label in model.labels)),
        "small": models[0].version if one else {n: model.version for n, model in zip(names, models, strict=True)},
        "large": identity.large,
        "prompt": identity.prompt,
    }
    return {name: value for name, value in found.items() if value is not None}


class ReportedNames(BaseCallbackHandler):
    """Hears what the large model calls itself, and tells what the certificate has not seen.

    Args:
        expected: Names and fingerprints that were seen when the outcomes were collected.
        tell: Gets each new name, and whether it is one; a fingerprint is none: providers change it between servers.
    """

    run_inline = True

    def __init__(self, expected: Sequence[str], tell: Callable[[str, bool], None]) -> None:
        self.expected = frozenset(expected)
        self.tell = tell

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Compare the names in a reply with those expected."""
        for generations in response.generations:
            for generation in generations:
                self._compare(getattr(generation, "message", None))

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """The same for a decision model, whose run is a chain's."""
        if hasattr(outputs, "answers"):
            self._compare(outputs)

    def _compare(self, reply: Any) -> None:
        name, fingerprint = reported_by(reply)
        if name is not None and name not in self.expected:
            self.tell(name, True)
        if fingerprint is not None and fingerprint not in self.expected:
            self.tell(fingerprint, False)
