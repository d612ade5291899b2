"""What a person should label, as a file to fill in, and back."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_dsplus.outcomes.columns import Labels, build, rows_of, to_text
from langchain_dsplus.outcomes.files import csv_rows, dump, json_lines, replacing
from langchain_dsplus.outcomes.gold import GoldRules, other_gold, refusal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.outcomes.table import Outcomes

_JSON = (".jsonl", ".ndjson")
# A spreadsheet runs a cell that begins with one of these (their wide forms too); one more quote makes it a text.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def rows_to_label(
    outcomes: Outcomes, path: str | Path | None, *, max_rows: int | None, inputs: Mapping[str, Any] | None, prompt: str
) -> list[dict[str, Any]]:
    """See `Outcomes.to_label`."""
    if max_rows is not None and max_rows < 0:
        msg = "`max_rows` must be at least 0"
        raise ValueError(msg)
    if prompt not in ("plain", "pruned"):
        msg = f"`prompt` must be 'plain' or 'pruned', not {prompt!r}"
        raise ValueError(msg)
    target = None if path is None else Path(path)
    if target is not None and target.suffix.lower() not in (".csv", *_JSON):
        msg = f"{target}: the file must end in .csv or .jsonl"
        raise ValueError(msg)
    if target is not None and target.is_file():
        msg = f"{target} is there already, and may hold somebody's labels: choose another path, or remove it"
        raise FileExistsError(msg)
    names = [f".{name}" for name in outcomes.small_names] or [""]
    smalls = [f"small{suffix}" for suffix in names]
    columns = [*smalls, "large", *(["large_pruned"] if prompt == "pruned" else [])]
    missing = [column for column in columns if column not in outcomes]
    if missing:
        msg = f"these outcomes have no column {missing[0]!r}: there are no answers to compare"
        raise ValueError(msg)
    open_ = ~outcomes.known_gold()
    judged = ~np.isnan(outcomes.correct("large"))
    highest = np.full(len(outcomes), -np.inf)
    disagree = np.zeros(len(outcomes), dtype=bool)
    for suffix, column in zip(names, smalls, strict=True):
        scores = np.asarray(outcomes[f"confidence{suffix}"], dtype=np.float64)
        mine = _differs(outcomes, column, open_, judged) & np.isfinite(scores) & outcomes.valid(column)
        highest = np.where(mine, np.fmax(highest, scores), highest)
        disagree |= mine
    changed = np.zeros(len(outcomes), dtype=bool)
    if prompt == "pruned":
        changed = _differs(outcomes, "large_pruned", open_, judged)
        for suffix in names:
            scores = np.asarray(outcomes[f"confidence{suffix}"], dtype=np.float64)
            highest = np.where(changed & ~disagree, np.fmax(highest, scores), highest)
    places = np.flatnonzero(disagree | changed)
    # In descending confidence, equal ones in the order of the table.
    places = places[np.argsort(-highest[places], kind="stable")][:max_rows]
    rows = list(_rows(outcomes.select(places), columns, highest[places], disagree[places], inputs))
    if target is not None:
        _write(target, rows, [*_header(columns), *(["input"] if inputs is not None else [])])
    return rows


def _differs(outcomes: Outcomes, column: str, open_: NDArray[np.bool_], judged: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where an answer is not the large model's, and who was right is unknown."""
    said = np.array([value is not None for value in outcomes.values(column)], dtype=bool)
    known = judged & ~np.isnan(outcomes.correct(column))
    return said & open_ & ~known & ~outcomes.agree(column, "large")


def _header(columns: list[str]) -> list[str]:
    return ["id", "confidence", *columns, "reason", "gold"]


def _rows(
    table: Outcomes,
    columns: list[str],
    confidence: NDArray[np.float64],
    disagree: NDArray[np.bool_],
    inputs: Mapping[str, Any] | None,
) -> Iterator[dict[str, Any]]:
    ids, said = table.values("id"), {column: table.values(column) for column in columns}
    for place, name in enumerate(ids):
        large, score = said["large"][place], float(confidence[place])
        smalls = [said[column][place] for column in columns if column.startswith("small")]
        if not disagree[place]:
            reason = "the large model changed its answer on the pruned prompt; "
        elif large is None:
            reason = "the large model failed, the small one answered; "
        elif len({label for label in smalls if label is not None}) > 1:
            reason = "the models disagree; "
        else:
            reason = "the small model and the large one disagree; "
        row: dict[str, Any] = {
            "id": name,
            "confidence": score if np.isfinite(score) else None,
            **{column: said[column][place] for column in columns},
            "reason": reason + "as long as the truth is unknown, this counts as lost",
            "gold": None,
        }
        if inputs is not None:
            text = inputs.get(name)
            row["input"] = text if text is None or isinstance(text, str) else dump(text)
        yield row


def _write(path: Path, rows: list[dict[str, Any]], header: list[str]) -> None:
    if path.suffix.lower() in _JSON:
        with replacing(path) as file:
            file.writelines(dump(row) + "\n" for row in rows)
        return
    with replacing(path, encoding="utf-8-sig") as file:  # with its mark, so that spreadsheets read it as UTF-8
        writer = csv.writer(file)
        writer.writerow(_guarded(name) for name in header)
        writer.writerows([_guarded(row[name]) for name in header] for row in rows)


def _guarded(value: Any) -> str:
    """A cell that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return repr(value)  # a number
    return f"'{value}" if _FORMULA.match(value) else value


def _freed(cell: str) -> str:
    """Undo `_guarded`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


# --- back -----------------------------------------------------------------------------------------------------------


def read_gold(
    outcomes: Outcomes,
    labels: Any,
    rules: GoldRules,
    words: Collection[str],
    about: Mapping[str, Any],
    *,
    named: bool,
) -> dict[int, str]:
    """Gold by place in the table; see `Outcomes.with_gold`."""
    places = {name: place for place, name in enumerate(outcomes.values("id"))}
    before = outcomes.values("gold")
    said = {name: outcomes.values(name) for name in outcomes.columns if name == "large" or name.startswith("small")}
    found: list[tuple[str, int]] = []
    told: list[Any] = []
    seen: set[str] = set()
    for where, row in _read(labels):
        name = _text(row.get("id"), f"{where}, column 'id'")
        if name is None or name not in places:
            msg = f"{where}, column 'id': the table has no row with this id (did a spreadsheet change it?)"
            raise ValueError(msg)
        if name in seen:
            msg = f"{where}, column 'id': the same id as in a row before"
            raise ValueError(msg)
        seen.add(name)
        place = places[name]
        for column, answers in said.items():
            if column in row and (row[column] or None) != (answers[place] or None):
                msg = f"{where}, column {column!r}: not what the table says for this id (were columns sorted apart?)"
                raise ValueError(msg)
        value = row.get("gold")
        told.append(value if isinstance(value, Mapping) else _text(value, f"{where}, column 'gold'"))
        found.append((where, place))
    gold = build("gold", told)
    assert isinstance(gold, Labels)
    gold = rules.apply(gold, words, named=named)
    strange = gold.known() & ~gold.within({*words, *other_gold(about)})
    if named and strange.any():  # else labels may be named later: whoever uses gold looks then
        first = f"{found[int(np.argmax(strange))][0]}, column 'gold'"
        raise ValueError(refusal(gold, strange, words, first, named=True))
    settled = {*words, *other_gold(about)}  # other gold is unknown: here it is put right
    result: dict[int, str] = {}
    for (where, place), label in zip(found, gold.values(), strict=True):
        if label is None:
            continue
        if before[place] in settled and before[place] != label:
            msg = f"{where}, column 'gold': the table already knows another label for this id"
            raise ValueError(msg)
        result[place] = label
    return result


def _text(value: Any, where: str) -> str | None:
    try:
        return None if value is None else to_text(value)
    except TypeError:
        msg = f"{where}: must be a text, or empty"
        raise ValueError(msg) from None


def _read(labels: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows, and where they stand."""
    if isinstance(labels, Mapping):
        for number, (name, label) in enumerate(labels.items(), 1):
            yield f"entry {number} of the mapping", {"id": name, "gold": label}
        return
    if not isinstance(labels, (str, Path)):
        for number, row in enumerate(rows_of(labels), 1):
            where = f"row {number} of the labels"
            if not isinstance(row, Mapping) or "id" not in row:
                msg = f"{where} is no dict with `id` and `gold`"
                raise ValueError(msg)
            yield where, row
        return
    path = Path(labels)
    if path.suffix.lower() in _JSON:
        for number, row in json_lines(path):
            where = f"{path}: line {number}"
            if not isinstance(row, dict) or "id" not in row:
                msg = f"{where} is no JSON object with `id` and `gold`"
                raise ValueError(msg)
            yield where, row
        return
    with csv_rows(path) as (lines, _):
        header = [_freed(cell).strip() for cell in next(lines, [])]
        missing = [name for name in ("id", "gold") if name not in header]
        if missing or len(set(header)) != len(header):
            msg = f"{path}: the header must name each column once, `id` and `gold` among them"
            raise ValueError(msg)
        for number, cells in enumerate(lines, 1):
            where = f"{path}: row {number}"
            if not cells:
                continue
            if len(cells) != len(header):
                msg = f"{where} has {len(cells)} cells, the header has {len(header)}"
                raise ValueError(msg)
            yield where, {name: _freed(cell) for name, cell in zip(header, cells, strict=True)}
