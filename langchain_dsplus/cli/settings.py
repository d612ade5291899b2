"""`dsplus.toml`: what rarely changes between runs of `dsplus collect` and `distil`; an option on the command line wins.

```toml
[large]
base_url = "https://llm.example/v1"
api_key_env = "LLM_KEY"     # the name of the variable: a key itself has no place here
prompt = "prompt.json"      # paths are seen from the file
price_input = 2.0
price_output = 8.0
concurrency = 16

[columns]
text = "message"
gold = "intent"
slice = ["language"]

[gold]
map = { "1.0" = "1" }
unknown = ["n/a"]

[gate]
max_loss = "1 point"
```
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from langchain_dsplus.cli.options import plain_errors

FILE = Path("dsplus.toml")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    def told(self) -> dict[str, Any]:
        """What the file says, by the names of its fields."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class LargeSettings(_Section):
    """`[large]`: how the large model is asked, and what it may cost."""

    base_url: str | None = None
    api_key_env: str | None = None
    prompt: str | None = None
    price_input: float | None = None
    price_output: float | None = None
    currency: str | None = None
    max_cost: float | None = None
    concurrency: int | None = Field(default=None, ge=1)


class ColumnSettings(_Section):
    """`[columns]`: what the columns of the data are called."""

    text: str | None = None
    gold: str | None = None
    id: str | None = None
    group: str | None = None
    large: str | None = None
    slice: list[str] | None = None


class GoldSettings(_Section):
    """`[gold]`: the rules for gold."""

    map: dict[str, str] | None = None
    unknown: list[str] | None = None
    other: list[str] | None = None


class GateSettings(_Section):
    """`[gate]`: what a candidate must pass."""

    share: float | None = None
    max_loss: str | None = None
    level: float | None = None
    max_calibration_error: float | None = None


class Settings(_Section):
    """A settings file.

    Example:
        >>> Settings.model_validate({"columns": {"gold": "intent"}}).options("distil")
        {'gold_column': 'intent'}
    """

    large: LargeSettings = LargeSettings()
    columns: ColumnSettings = ColumnSettings()
    gold: GoldSettings = GoldSettings()
    gate: GateSettings = GateSettings()

    def options(self, verb: str) -> dict[str, Any]:
        """The options of a verb, `collect` or `distil`, that the file sets."""
        gold = self.gold.told()
        found = self.large.told() | {f"{name}_gold": gold[name] for name in ("unknown", "other") if name in gold}
        if "map" in gold:
            found["gold_map"] = [json.dumps(gold["map"])]
        names = _COLUMNS[verb]
        found |= {names[name]: value for name, value in self.columns.told().items() if name in names}
        if verb == "distil":
            gate = self.gate.told()
            found |= {"gate_share" if name == "share" else name: value for name, value in gate.items()}
        return found


_COLUMNS = {
    "collect": {"text": "text", "gold": "gold", "id": "id_", "group": "group", "slice": "slice_"},
    "distil": {"text": "text", "gold": "gold_column", "id": "id_", "large": "large"},
}


def read_settings(path: Path) -> Settings:
    """Read a settings file.

    Raises:
        ValueError: If it is no TOML, or holds something else than settings; the field is named.
    """
    try:
        found = Settings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, line['loc']))}: {line['msg']}" for line in error.errors())
        raise ValueError(f"{path}: {wrong}") from None
    except ValueError as error:  # no TOML, or no UTF-8
        raise ValueError(f"{path} is no TOML: {error}") from None
    if found.large.prompt is not None:
        found.large.prompt = str(path.parent / Path(found.large.prompt).expanduser())
    return found


def _apply(context: typer.Context, path: Path | None) -> Path | None:
    """Make the settings the defaults of the verb."""
    if path is None and not FILE.exists():
        return None
    with plain_errors():
        settings = read_settings(path or FILE)
    context.default_map = {**(context.default_map or {}), **settings.options(str(context.info_name))}
    return path


SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        callback=_apply,
        is_eager=True,
        help="TOML file with what rarely changes; by default dsplus.toml, where there is one. Options win over it.",
    ),
]
