"""`check_shunt`: whether what a shunt is bound to is still what it was; for CI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_dsplus.identity import identify
from langchain_dsplus.registry.state import RegistryError
from langchain_dsplus.shunt.folder import ShuntFolder
from langchain_dsplus.shunt.rows import KINDS, Ledger

if TYPE_CHECKING:
    from langchain_dsplus.costs.prices import Price
    from langchain_dsplus.registry.registry import ModelRegistry


@dataclass(frozen=True)
class Moved:
    """One part that is no longer what the certificate is about.

    Attributes:
        part: `model`, `large`, `prompt`, `labels`, `data` or `price`.
        message: In words, and what to do.
    """

    part: str
    message: str


def check_shunt(
    folder: ShuntFolder,
    store: Any,
    registry: ModelRegistry,
    *,
    large: Any = None,
    version: str | None = None,
    labels: list[str] | None = None,
    price: Price | None = None,
) -> list[Moved]:
    """Compare a shunt with what its certificate is bound to.

    Args:
        folder: The shunt's.
        store: Its store.
        registry: Its registry.
        large: The chain as it is in the code now; None: what the last process said it was.
        version: As in `DataShunt`.
        labels: The labels as they are in the code now.
        price: The price as it is now.

    Returns:
        What has moved; empty where everything is as it was. Where nothing is in force, only the terms are compared.
    """
    terms = folder.terms()
    found: list[Moved] = []
    held = None
    if registry.exists:
        try:
            held = registry.certificate
            registry.load()
        except RegistryError as error:
            found.append(Moved("model", str(error)))
    seen = terms.large
    if large is not None:
        looked = identify(large, version=version)
        seen = {n: v for n, v in (("large", looked.large), ("prompt", looked.prompt)) if v is not None}
    bound = terms.large if held is None else {n: held.about[n] for n in ("large", "prompt") if n in held.about}
    for part in ("prompt", "large"):
        if bound.get(part) is not None and seen.get(part) is not None and seen[part] != bound[part]:
            found.append(
                Moved(
                    part, f"the {part} is another one than was certified: everything escalates until fresh rows certify"
                )
            )
            break
    if labels is not None and set(labels) != set(terms.labels):
        found.append(
            Moved("labels", f"{len(set(labels) ^ set(terms.labels))} labels differ: a folder of its own is needed")
        )
    if (
        price is not None
        and terms.price is not None
        and any(terms.price.get(name) != getattr(price, name) for name in ("input", "output", "currency"))
    ):
        found.append(Moved("price", "the price is another one: what `status` says was saved is out of date"))
    if held is not None:
        table = folder.life()["uses"][-1]["table"] if folder.life()["uses"] else 0
        ledger = Ledger(terms, store.rows(kind=KINDS))
        since = folder.life()["tables"][table - 1]
        n = len(ledger.table(since, None, terms.bound))
        if n < held.n:
            found.append(Moved("data", f"{held.n - n:,} of the {held.n:,} rows that certified are gone from the store"))
    return found
