"""What a person should label, as a file to fill in, and back."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_dsplus._files import replacing
from langchain_dsplus.outcomes.cells import missing, other_gold, to_text
from langchain_dsplus.outcomes.columns import Labels, build, rows_of, to_int
from langchain_dsplus.outcomes.files import csv_rows, dump, freed, guarded, json_lines
from langchain_dsplus.outcomes.gold import GoldRules, refusal
from langchain_dsplus.outcomes.sampling import AGREE, CHANGED, DISAGREE, GIVEN, STRATA, strata_by_answers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.outcomes.rows import Rows

_JSON = (".jsonl", ".ndjson")


def rows_to_label(
    outcomes: Rows,
    path: str | Path | None,
    *,
    max_rows: int | None,
    agreements: float,
    seed: int,
    inputs: Mapping[str, Any] | None,
    prompt: str,
) -> list[dict[str, Any]]:
    """See `Outcomes.to_label`."""
    if max_rows is not None and max_rows < 0:
        raise ValueError("`max_rows` must be at least 0")
    if isinstance(agreements, bool) or not 0.0 <= agreements <= 1.0:
        raise ValueError("`agreements` is a share of the agreed rows, from 0 to 1: 0.05 for one in twenty")
    if seed < 0:
        raise ValueError("`seed` must be at least 0")
    if prompt not in ("plain", "pruned"):
        raise ValueError(f"`prompt` must be 'plain' or 'pruned', not {prompt!r}")
    target = None if path is None else Path(path)
    if target is not None and target.suffix.lower() not in (".csv", *_JSON):
        raise ValueError(f"{target}: the file must end in .csv or .jsonl")
    if target is not None and target.is_file():
        raise FileExistsError(
            f"{target} is there already, and may hold somebody's labels: choose another path, or remove it"
        )
    names = [f".{name}" for name in outcomes.small_names] or [""]
    smalls = [f"small{suffix}" for suffix in names]
    columns = [*smalls, "large", *(["large_pruned"] if prompt == "pruned" else [])]
    missing = [column for column in columns if column not in outcomes]
    if missing:
        raise ValueError(f"these outcomes have no column {missing[0]!r}: there are no answers to compare")
    stratum = np.array(_settled(outcomes))
    shares = {DISAGREE: 1.0, CHANGED: 1.0 if prompt == "pruned" else agreements, AGREE: agreements}
    drawn = _draw(outcomes, stratum, columns, shares, max_rows=max_rows, seed=seed)
    places = np.array([place for place, _ in drawn], dtype=np.intp)
    rows = list(_rows(outcomes.select(places), columns, stratum[places].tolist(), [n for _, n in drawn], inputs))
    if target is not None:
        _write(target, rows, [*_header(columns), *(["input"] if inputs is not None else [])])
    return rows


def _settled(outcomes: Rows) -> list[str]:
    """The stratum of each row, that of rows whose gold was there before anything was drawn included."""
    known = outcomes.known_gold().tolist()
    told = outcomes.values("stratum") if "stratum" in outcomes else [None] * len(known)
    made = zip(told, known, strata_by_answers(outcomes), strict=True)
    return [before if before is not None else GIVEN if given else by_answer for before, given, by_answer in made]


def _draw(
    outcomes: Rows,
    stratum: NDArray[np.str_],
    columns: list[str],
    shares: Mapping[str, float],
    *,
    max_rows: int | None,
    seed: int,
) -> list[tuple[int, int]]:
    """Places of the rows to label, in the order of the file, each with its place in the order of its stratum.

    Rows of several strata are shuffled into each other evenly: any first part of the file holds all of them, and is a
    random sample of each.
    """
    answered = np.array([[value is not None for value in outcomes.values(column)] for column in columns], dtype=bool)
    said = np.asarray(answered.any(axis=0))
    unjudged = (answered & np.isnan(np.stack([outcomes.correct(column) for column in columns]))).any(axis=0)
    open_ = ~outcomes.known_gold() & unjudged
    before = np.asarray(outcomes["draw"]) if "draw" in outcomes else np.full(len(outcomes), np.nan)
    # Not the stream that somebody else's seed gives: rows may have been made, shuffled or split with that.
    rng = np.random.default_rng((seed, *b"label"))
    found: dict[str, NDArray[np.intp]] = {}
    for name, share in shares.items():
        mine = stratum == name
        rows = rng.permutation(np.flatnonzero(mine & open_))
        if share < 1.0:  # of all its rows: what was drawn before counts
            wanted = math.ceil(share * int((mine & said).sum()) - 1e-9) - int((mine & ~np.isnan(before)).sum())
            rows = rows[np.isnan(before[rows])][: max(wanted, 0)]
        found[name] = rows
    total = sum(map(len, found.values()))
    if max_rows is not None and total > max_rows:
        ends = np.rint(np.cumsum([len(rows) for rows in found.values()]) * (max_rows / total)).astype(int)
        kept = np.diff(ends, prepend=0)
        found = {name: rows[:most] for (name, rows), most in zip(found.items(), kept.tolist(), strict=True)}
    queue = []
    for name, rows in found.items():
        mine = before[(stratum == name) & ~np.isnan(before)]
        first = int(mine.max()) if len(mine) else 0
        queue += [((place + 0.5) / len(rows), row, first + place + 1) for place, row in enumerate(rows.tolist())]
    return [(row, number) for _, row, number in sorted(queue)]


def _header(columns: list[str]) -> list[str]:
    return ["id", "confidence", *columns, "stratum", "draw", "reason", "gold"]


def _rows(
    table: Rows, columns: list[str], strata: list[str], draws: list[int], inputs: Mapping[str, Any] | None
) -> Iterator[dict[str, Any]]:
    ids, said = table.values("id"), {column: table.values(column) for column in columns}
    confidence = _confidence(table, columns, strata)
    for place, (name, stratum, draw) in enumerate(zip(ids, strata, draws, strict=True)):
        score = float(confidence[place])
        row: dict[str, Any] = {
            "id": name,
            "confidence": score if np.isfinite(score) else None,
            **{column: said[column][place] for column in columns},
            "stratum": stratum,
            "draw": draw,
            "reason": _reason(stratum, [said[column][place] for column in columns if column != "large_pruned"]),
            "gold": None,
        }
        if inputs is not None:
            text = inputs.get(name)
            row["input"] = text if text is None or isinstance(text, str) else dump(text)
        yield row


def _confidence(table: Rows, columns: list[str], strata: list[str]) -> NDArray[np.float64]:
    """The highest of the small models' scores; where models disagree, of those that say something else."""
    highest = np.full(len(table), -np.inf)
    differs = np.array([stratum == DISAGREE for stratum in strata], dtype=bool)
    for column in columns:
        if not column.startswith("small"):
            continue
        scores = np.asarray(table[column.replace("small", "confidence", 1)], dtype=np.float64)
        mine = np.isfinite(scores) & (~differs | (table.valid(column) & ~table.agree(column, "large")))
        highest = np.where(mine, np.fmax(highest, scores), highest)
    return highest


def _reason(stratum: str, said: list[Any]) -> str:
    """Why somebody should look; `said`: by the small models, then by the large one."""
    *smalls, large = said
    if stratum == AGREE:
        return "drawn at random, so that the labels say how often the models are right"
    if stratum == CHANGED:
        first = "the large model changed its answer on the pruned prompt"
    elif large is None:
        first = "the large model failed, the small one answered"
    elif len({label for label in smalls if label is not None}) > 1:
        first = "the models disagree"
    else:
        first = "the small model and the large one disagree"
    return f"{first}; as long as the truth is unknown, this counts as lost"


def _write(path: Path, rows: list[dict[str, Any]], header: list[str]) -> None:
    if path.suffix.lower() in _JSON:
        with replacing(path) as file:
            file.writelines(dump(row) + "\n" for row in rows)
        return
    with replacing(path, encoding="utf-8-sig") as file:  # with its mark, so that spreadsheets read it as UTF-8
        writer = csv.writer(file)
        writer.writerow(guarded(name) for name in header)
        writer.writerows([_shown(row[name]) for name in header] for row in rows)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return guarded(value) if isinstance(value, str) else repr(value)  # a number


# --- back -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """What somebody said about some rows, by their place in the table.

    Attributes:
        gold: Labels.
        drawn: Stratum and place in its random order, of rows that were labelled or skipped.
    """

    gold: dict[int, str]
    drawn: dict[int, tuple[str, int]]


def read_gold(
    outcomes: Rows,
    labels: Any,
    rules: GoldRules,
    words: Collection[str],
    about: Mapping[str, Any],
    *,
    named: bool,
) -> Told:
    """Gold by place in the table, and how the rows were drawn; see `Outcomes.with_gold`."""
    places = {name: place for place, name in enumerate(outcomes.values("id"))}
    before = outcomes.values("gold")
    said = {name: outcomes.values(name) for name in outcomes.columns if name == "large" or name.startswith("small")}
    found: list[tuple[str, int]] = []
    told: list[Any] = []
    seen: set[str] = set()
    ranks: dict[int, tuple[str, int, bool]] = {}
    strata = _Strata(outcomes)
    for where, row in _read(labels):
        name = _text(row.get("id"), f"{where}, column 'id'")
        if name is None or name not in places:
            raise ValueError(f"{where}, column 'id': the table has no row with this id (did a spreadsheet change it?)")
        if name in seen:
            raise ValueError(f"{where}, column 'id': the same id as in a row before")
        seen.add(name)
        place = places[name]
        for column, answers in said.items():
            if column in row and (row[column] or None) != (answers[place] or None):
                raise ValueError(
                    f"{where}, column {column!r}: not what the table says for this id (were columns sorted apart?)"
                )
        value = row.get("gold")
        rank = strata.read(row, place, where)
        if rank is not None:
            ranks[place] = (*rank, not (missing(value) or value == ""))
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
            raise ValueError(f"{where}, column 'gold': the table already knows another label for this id")
        result[place] = label
    return Told(result, _reached(ranks))


def _reached(ranks: Mapping[int, tuple[str, int, bool]]) -> dict[int, tuple[str, int]]:
    """Rows up to the last one of their stratum that somebody said something about: those between were skipped."""
    last: dict[str, int] = {}
    for stratum, draw, answered in ranks.values():
        if answered:
            last[stratum] = max(last.get(stratum, 0), draw)
    return {place: (name, draw) for place, (name, draw, _) in ranks.items() if draw <= last.get(name, 0)}


class _Strata:
    """Reads the columns `stratum` and `draw` of a file, and holds them against the table."""

    def __init__(self, outcomes: Rows) -> None:
        self._made = strata_by_answers(outcomes)
        self._told = outcomes.values("stratum") if "stratum" in outcomes else [None] * len(outcomes)

    def read(self, row: Mapping[str, Any], place: int, where: str) -> tuple[str, int] | None:
        """Stratum and place in its order; None where the file does not say, or the row's gold was there before."""
        name, draw = row.get("stratum"), row.get("draw")
        if missing(name) or name == "" or missing(draw) or draw == "":
            return None
        told = self._told[place]
        if told == GIVEN:
            return None
        if name not in STRATA or name != (self._made[place] if told is None else told):
            raise ValueError(
                f"{where}, column 'stratum': not what the table says for this id (were columns sorted apart?)"
            )
        try:
            number = to_int(float(draw) if isinstance(draw, str) else draw)
        except (TypeError, ValueError):
            number = 0
        if number < 1:
            raise ValueError(f"{where}, column 'draw': must be a whole number from 1 on, as `to_label` wrote it")
        return str(name), number


def sampled(outcomes: Rows, told: Told) -> dict[str, list[Any]]:
    """Return the columns `stratum`, `draw` and `label_probability` with further draws; {} where nothing was drawn."""
    if not told.drawn and "stratum" not in outcomes:
        return {}
    names = _settled(outcomes)
    draws = outcomes.values("draw") if "draw" in outcomes else [None] * len(names)
    for place, (_, number) in told.drawn.items():
        if draws[place] is None and names[place] != GIVEN:
            draws[place] = number
    size, labels = dict.fromkeys(STRATA, 0), dict.fromkeys(STRATA, 0)
    for place, (name, known) in enumerate(zip(names, outcomes.known_gold().tolist(), strict=True)):
        size[name] += 1
        labels[name] += known or place in told.gold
    return {
        "stratum": names,
        "draw": draws,
        "label_probability": [labels[name] / size[name] for name in names],
    }


def _text(value: Any, where: str) -> str | None:
    try:
        return None if value is None else to_text(value)
    except TypeError:
        raise ValueError(f"{where}: must be a text, or empty") from None


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
                raise ValueError(f"{where} is no dict with `id` and `gold`")
            yield where, row
        return
    path = Path(labels)
    if path.suffix.lower() in _JSON:
        for number, row in json_lines(path):
            where = f"{path}: line {number}"
            if not isinstance(row, dict) or "id" not in row:
                raise ValueError(f"{where} is no JSON object with `id` and `gold`")
            yield where, row
        return
    with csv_rows(path) as (lines, _):
        header = [freed(cell).strip() for cell in next(lines, [])]
        missing = [name for name in ("id", "gold") if name not in header]
        if missing or len(set(header)) != len(header):
            raise ValueError(f"{path}: the header must name each column once, `id` and `gold` among them")
        for number, cells in enumerate(lines, 1):
            where = f"{path}: row {number}"
            if not cells:
                continue
            if len(cells) != len(header):
                raise ValueError(f"{where} has {len(cells)} cells, the header has {len(header)}")
            yield where, {name: freed(cell) for name, cell in zip(header, cells, strict=True)}
