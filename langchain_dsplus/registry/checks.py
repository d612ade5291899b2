"""What a registry refuses: rows that were used before, and models and certificates that do not belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_dsplus.identity import score_name
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.registry.folders import Folders, reader
from langchain_dsplus.registry.rules import family_of
from langchain_dsplus.registry.state import RegistryError, RowHash, State
from langchain_dsplus.routing.persistence import SmallRecord
from langchain_dsplus.small_models.base import SmallModel
from langchain_dsplus.threshold.certificate import Certificate


def used_inputs(folders: Folders, state: State, number: int, *, gates: bool) -> set[str]:
    """Hashes of the inputs that trained a version or one before it; with `gates` also of those that judged it."""
    family = family_of(state, number)
    used = set().union(*(folders.rows(one)["inputs"] for one in family))
    if gates:
        for entry in state["gates"]:
            if entry["new"] in family:
                used |= set(folders.read_gate(entry)["rows"])
    return used


def gates_before(folders: Folders, state: State, pair: tuple[str, str], rows: Sequence[str]) -> int:
    """How many gates saw some of these rows, or just these two versions."""
    wanted = set(rows)
    return sum(
        (entry["old_sha256"], entry["new_sha256"]) == pair or not wanted.isdisjoint(folders.read_gate(entry)["rows"])
        for entry in state["gates"]
    )


def check_fresh(
    folders: Folders,
    state: State,
    number: int,
    outcomes: Outcomes,
    inputs: Mapping[str, Any] | None,
    *,
    since_promotion: bool,
) -> None:
    """Refuse rows that trained or judged a version; the message names the field, and no row."""
    ids = [str(name) for name in outcomes.values("id")]
    hashes, family = RowHash(state["salt"]), family_of(state, number)
    used_ids = set().union(*(folders.rows(one)["ids"] for one in family))
    known: set[str] = set()
    if inputs is not None and not since_promotion:
        used, read = used_inputs(folders, state, number, gates=True), reader(folders.about(number).get("input_key"))
        known = {name for name in ids if name in inputs}
        again = sum(hashes.input(read(inputs[name])) in used for name in known)
        if again:
            raise RegistryError(
                f"`inputs`: {again} of {len(ids)} rows were used to train or to judge version {number}, or one "
                "before it: certify on rows that came after it went live"
            )
    again = sum(name not in known and hashes.id(name) in used_ids for name in ids)
    if again:
        raise RegistryError(
            f"`id`: {again} of {len(ids)} rows were used to train version {number}, or one before it: certify on "
            "rows that came after it went live"
        )
    if since_promotion or len(known) == len(ids):
        return
    if any(folders.rows(one)["inputs"] for one in family) or any(g["new"] in family for g in state["gates"]):
        raise RegistryError(
            "`inputs`: without them nobody can tell whether these rows were used to train or to judge version "
            f"{number}. Pass the rows' inputs by id, or rows that came after it went live"
        )


def check_like(model: SmallModel, about: Mapping[str, Any]) -> None:
    """Refuse a candidate that cannot take the place of the version that it was made from."""
    record = SmallRecord(**about["small"])
    if set(model.labels) != set(record.labels):
        raise RegistryError(
            "`model` has other labels than the version that it was made from: start a registry of its own"
        )
    if model.name != record.name:
        raise RegistryError(f"`model` is named {model.name!r}, and the small model of this registry {record.name!r}")
    if model.input_key != about.get("input_key"):
        raise RegistryError(
            f"`model` reads the key {model.input_key!r}, the version before it {about.get('input_key')!r}"
        )
    if score_name(model.score) != about["score"]:
        raise RegistryError(
            f"`model` has the score {score_name(model.score)!r}, the version before it {about['score']!r}"
        )


def check_certificate(certificate: Certificate, about: Mapping[str, Any]) -> None:
    """Refuse a certificate that is about another small model."""
    name = about["small"]["name"]
    if name not in certificate.thresholds and len(certificate.thresholds) > 1:
        raise RegistryError(f"`certificate` is about small models {sorted(certificate.thresholds)}, and not {name!r}")
    check_about(certificate.about, about, "`certificate`")


def check_not_void(folders: Folders, state: State, number: int, data: str) -> None:
    """Refuse the rows of a certificate that an alarm or a rollback made void: they promise what they did before."""
    for entry in state["versions"][str(number)]["certificates"]:
        if entry["state"] != "void" or entry.get("cause") not in ("other", "rollback"):
            continue
        try:
            found = folders.read_certificate(entry["id"])
        except RegistryError:  # damaged: nobody can tell
            continue
        if found.about.get("data") == data:
            raise RegistryError(
                f"`outcomes` are the rows of certificate {entry['id']}, which is void: {entry.get('reason')}. Certify "
                "on rows that came after that"
            )


def check_about(said: Mapping[str, Any], about: Mapping[str, Any], who: str) -> None:
    """Compare what rows or a certificate are about with a version."""
    record = SmallRecord(**about["small"])
    found = _of(said.get("small"), record.name)
    if found is None:
        raise RegistryError(
            f"{who}: `about` does not say which `small` model it is about: collect with `about=router.about`"
        )
    if found != record.version:
        raise RegistryError(f"{who}: `small` is not version {about['number']}, so this is about another model")
    labels = _of(said.get("labels"), record.name)
    if labels is not None and not set(record.labels) <= set(labels):
        raise RegistryError(f"{who}: `labels` are not those of version {about['number']}")


def threshold_of(held: Certificate, about: Mapping[str, Any]) -> float:
    """The threshold that is live, on the scale of the model's own confidence."""
    name = about["small"]["name"]
    score = _of(held.about.get("score"), name)
    if score not in (None, about["score"]):
        raise RegistryError(
            f"the certificate is about the score {score!r}, and the gate compares by the model's own, "
            f"{about['score']!r}: pass `old_threshold=` on that scale"
        )
    return held.thresholds[name] if name in held.thresholds else next(iter(held.thresholds.values()))


def _of(value: Any, name: str) -> Any:
    """A fact about one small model: the same for all, or by name."""
    return value.get(name) if isinstance(value, Mapping) else value
