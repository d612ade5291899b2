"""The one place that refuses model folders which would bring code of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langchain_dsplus._json import load_json

_BUILT_IN = frozenset({"eager", "sdpa", "flex_attention"})
_FETCHING = frozenset({"eetq", "fbgemm_fp8", "fp8", "gguf", "metal", "mxfp4", "nvfp4"})
"""Quantizations for which transformers fetches kernels from the hub, and runs them."""


def refuse_code(folder: Path) -> None:
    """Refuse a model folder that names classes outside its library, or kernels: they would be fetched and run.

    Every loader of transformers and sentence-transformers folders calls this before the library reads the folder.

    Raises:
        ValueError: If it does, or such a file is no JSON.
    """
    file = folder / "modules.json"
    if file.is_file():
        modules = _read(file)
        for module in modules if isinstance(modules, list) else [modules]:
            kind = str(module.get("type", "")) if isinstance(module, Mapping) else ""
            if not kind.startswith("sentence_transformers."):
                raise ValueError(
                    f"{file} asks for a class outside sentence-transformers: refused, since that could run code"
                )
    for config in (folder / "config.json", *sorted(folder.glob("*/config.json"))):  # parts of an encoder lie one deeper
        if config.is_file():
            refuse_kernels_in(_read(config), config)


def refuse_kernels_in(body: Any, file: Path) -> None:
    """Refuse a config that asks for kernels of its own, at any depth.

    Raises:
        ValueError: If it does.
    """
    if isinstance(body, list):
        for item in body:
            refuse_kernels_in(item, file)
    if not isinstance(body, Mapping):
        return
    for key, value in body.items():
        if str(key).endswith("_implementation"):
            named = value.values() if isinstance(value, Mapping) else (value,)
            if not all(name is None or name in _BUILT_IN for name in named):
                raise ValueError(
                    f"{file} asks for another `{key}` than transformers' own: refused, since that could run code"
                )
        if key == "quant_method" and str(value).lower() in _FETCHING:
            raise ValueError(
                f"{file} asks for the quantization {value!r}, for which kernels would be fetched and run: refused"
            )
        refuse_kernels_in(value, file)


def _read(file: Path) -> Any:
    try:
        return load_json(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged: it is not JSON") from error
