"""`Outcomes`: what each model said about each input, how sure it was, what was true, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from langchain_dsplus._arrays import Bools, Floats
from langchain_dsplus.outcomes.base import Table
from langchain_dsplus.outcomes.cells import known_labels, missing, other_gold
from langchain_dsplus.outcomes.columns import (
    CHUNK,
    Builder,
    Column,
    Labels,
    Numbers,
    Plain,
    Spread,
    build,
    frame_columns,
    rows_of,
)
from langchain_dsplus.outcomes.files import (
    Header,
    read_csv,
    read_jsonl,
    read_parquet,
    write_csv,
    write_jsonl,
    write_parquet,
)
from langchain_dsplus.outcomes.gold import NEVER_SAID, GoldOptions, GoldRules, refusal, with_other
from langchain_dsplus.outcomes.labelling import read_gold, rows_to_label, sampled
from langchain_dsplus.outcomes.sampling import Estimate, LabelSample
from langchain_dsplus.outcomes.traces import read_traces

Figure: TypeAlias = Literal["accuracy", "errors", "calibration_error", "auroc", "aurc", "e_aurc"]
_OF_CONFIDENCE = ("calibration_error", "auroc", "aurc", "e_aurc")


class Outcomes(Table):
    """A table with one row per input, kept by columns.

    Columns:
        `id`: distinct; numbered where it is missing.
        `small`, `confidence`: the small model's choice and score. Both None where it failed: never accepted.
        `large`: what the large model said to the plain prompt. None where it failed: such a row is left out of every
            comparison, or counts as no gain (see `valid`).
        `gold`: what is true; None where nobody knows. A value outside the labels is never evidence: it is an error, or
            what `gold_map`, `unknown_gold` and `other_gold` say that it is.
        Optional: `probabilities` (dict), `large_pruned`, `group`, `slices` (dict), `cost_*`, `latency_*` (seconds),
        `tokens_*`, `error`, `source` (where a row is from); `small_ok`, `large_ok`, `large_pruned_ok` (bool) where
        right and wrong come from a judge or a test; `small.<name>`, `confidence.<name>`, `probabilities.<name>` for
        several small models. `input_hash` (a keyed hash of the input: rows with the same one count as a group) and
        `in_training` (whether a small model was trained on the input), as `collect_outcomes` and recorders write them.
        `stratum`, `draw` and `label_probability`: how the row came to have gold or not, as `with_gold` writes them.
        Other columns are kept as they are.

    Args:
        columns: Equally long sequences by name.
        about: What the rows are about: score, labels, small (version), large, prompt, ... Plain JSON. It goes with the
            table through files, `select`, `split` and `with_gold`; so does `certifications`, the number of times that
            this table has been certified.
        **gold_rules: `gold_map`, from a value of gold to the label that it stands for: `{"1.0": "1"}`. `unknown_gold`,
            values that mean that nobody knows: `("nan", "n/a")`; they become None. `other_gold`, true classes that no
            model offers: `("other",)`; there, every answer is wrong, and they stay in `about["other_gold"]`. Every way
            to make a table takes these three.

    Attributes:
        folder: Where the table was read from or first written to; None for one in memory alone. There, `certify` keeps
            its journal.

    Raises:
        ValueError: If a column is missing, or a value is not what its column holds; the message names row and column.
            If gold is none of `about["labels"]`: the message names the first such row, how many there are, three
            examples, what they look like, and what to pass.

    Example:
        >>> rows = [{"id": "1", "small": "a", "confidence": 0.9, "large": "b", "gold": "a"}]
        >>> Outcomes.from_records(rows).correct("small").tolist()
        [1.0]
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[Any]],
        *,
        about: Mapping[str, Any] | None = None,
        **gold_rules: Unpack[GoldOptions],
    ) -> None:
        rules = GoldRules.of(**gold_rules)
        given: Mapping[str, Sequence[Any]] = frame_columns(columns) or columns
        lengths = {len(values) for values in given.values()}
        if len(lengths) > 1:
            raise ValueError(f"columns differ in length: {sorted(lengths)}")
        self._set(*_complete({name: build(name, values) for name, values in given.items()}), about or {})
        self._settle(rules, _row)

    @classmethod
    def _new(
        cls, columns: dict[str, Column], about: Mapping[str, Any] | None, rules: GoldRules, where: str = ""
    ) -> Self:
        """A table of columns whose values were checked, but for gold; `where`: the file's path, a colon and a blank."""
        folder = Path(where.removesuffix(": ")).absolute().parent if where else None
        columns, kept = _without_empty_rows(columns)

        def row(place: int) -> str:
            return f"{where}row {place + 1 if kept is None else int(kept[place]) + 1}"

        result = cls._of(*_complete(columns, where, row), about or {}, folder)
        result._settle(rules, row)  # noqa: SLF001 - its own
        return result

    def _settle(self, rules: GoldRules, row: Callable[[int], str]) -> None:
        """Read gold by the rules, and refuse what is no label where labels are named."""
        labels = known_labels(self.about)
        if labels is not None:
            rules.fit(labels)
        gold = self._columns["gold"]
        assert isinstance(gold, Labels)
        words = self._said() if labels is None else labels
        self._columns = {**self._columns, "gold": rules.apply(gold, words, named=labels is not None)}
        self.about = with_other(self.about, rules)
        if labels is not None:
            self._gold(row)

    # --- columns ------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"Outcomes({self._length} rows, columns {self.columns})"

    @property
    def small_names(self) -> list[str]:
        """The names of several small models, in the order of their columns; empty where there is one without a name."""
        names = (
            name for name in self._columns if name.startswith(("confidence.", "small.")) and not name.endswith("_ok")
        )
        return list(dict.fromkeys(name.partition(".")[2] for name in names))

    def correct(self, who: str = "small") -> Floats:
        """Return who was right, shape (n,): 1 right, 0 wrong, NaN unknown.

        `<who>_ok` decides where it is known; else the answer is compared with `gold`. An answer that is None is
        unknown, since it failed. An answer outside the labels is wrong, as it stands; that this must not count as a
        gain for somebody else is for the comparison to see to, by `valid`.

        Args:
            who: `small`, `large`, `large_pruned`, or `small.<name>`.

        Raises:
            KeyError: If the table has neither the answers nor their correctness.
            ValueError: If gold is no evidence; see `known_gold`.
        """
        answers, judged = self._answers(who)
        right = np.full(self._length, np.nan)
        gold = self._columns["gold"]
        if answers is not None and isinstance(gold, Labels):
            known = answers.known() & self.known_gold()
            right[known] = (answers.equals(gold) & ~gold.within(other_gold(self.about)))[known]
        if judged is not None:
            right = np.where(np.isnan(judged), right, judged)
        return right

    def known_gold(self) -> Bools:
        """Return where gold is known and is evidence, shape (n,). Whoever uses gold asks here first.

        Where `about["labels"]` names the labels, gold must be one of them or of `about["other_gold"]`. Where it does
        not, gold that no model ever says is unknown, since a slip of a spreadsheet would else count as "both wrong";
        from 1 % of the rows on it is refused. Rows in which `<who>_ok` judges every answer need no gold.

        Raises:
            ValueError: If gold is none of the labels, or often a word that no model ever says; the message says what
                to do.

        Example:
            >>> rows = [{"small": "a", "confidence": 0.9, "large": "b", "gold": gold} for gold in ("a", None)]
            >>> Outcomes.from_records(rows, about={"labels": ["a", "b"]}).known_gold().tolist()
            [True, False]
        """
        return self._gold(_row)

    def _gold(self, row: Callable[[int], str]) -> Bools:
        """The same; `row` names a row in an error."""
        gold = self._columns["gold"]
        assert isinstance(gold, Labels)
        known = gold.known()
        labels, other = known_labels(self.about), other_gold(self.about)
        words = self._said() if labels is None else labels
        strange = known & ~gold.within(words | other)
        if not strange.any():
            return known
        decides = self._decided_by_gold()
        strange &= decides
        count = int(strange.sum())
        if count and (labels is not None or count >= NEVER_SAID * int((known & decides).sum())):
            at = f"{row(int(np.argmax(strange)))}, column 'gold'"
            raise ValueError(refusal(gold, strange, words, at, named=labels is not None))
        return known & ~strange

    def labels_said(self) -> dict[str, Any]:
        """Return `{"said": ...}`, what stands in the columns of answers and gold, where no labels are named.

        A certificate keeps it, so that labels named later can be held against it. Empty where labels are named, where
        answers are judged, and where there are too many different ones to be labels.
        """
        if known_labels(self.about) is not None or any(name.endswith("_ok") for name in self._columns):
            return {}
        found: dict[str, list[str]] = {}
        for name, column in self._columns.items():
            if name in ("small", "large", "large_pruned", "gold") or name.startswith("small."):
                words = sorted(column.used) if isinstance(column, Labels) else []
                if len(words) > _MOST_SAID:
                    return {}
                found[name] = words
        return {"said": found}

    def _said(self) -> frozenset[str]:
        """What the models say, or could: their answers, and the labels of their probabilities."""
        found: set[str] = set()
        for name, column in self._columns.items():
            if name in ("small", "large", "large_pruned") or name.startswith("small."):
                if isinstance(column, Labels):
                    found.update(column.used)
            elif name == "probabilities" or name.startswith("probabilities."):
                if isinstance(column, Spread):
                    found.update(column.keys)
                else:
                    found.update(label for value in column.values() for label in value or ())
        return frozenset(found)

    def _decided_by_gold(self) -> Bools:
        """Where some answer is not judged, or nobody answered."""
        judged = np.zeros(self._length, dtype=bool)
        open_ = np.zeros(self._length, dtype=bool)
        for name in self._columns:
            who = name.removesuffix("_ok")
            if who in ("small", "large", "large_pruned") or who.startswith("small."):
                answers, verdicts = self._answers(who)
                told = np.zeros(self._length, dtype=bool) if verdicts is None else ~np.isnan(verdicts)
                judged |= told
                if answers is not None:
                    open_ |= answers.known() & ~told
        return open_ | ~judged

    def valid(self, who: str = "large") -> Bools:
        """Return where there is an answer that may be compared, shape (n,).

        False where the model failed (its answer is None) and, where `about["labels"]` is given, where it answered
        outside them. Such a row may be a loss, but never counts as a gain for the small model: a certificate that did
        would be earned by the large model's outages. Where a table has no answers but only their correctness (generated
        texts), a row is valid if that is known.

        Args:
            who: `large`, `large_pruned`, `small`, or `small.<name>`.

        Raises:
            KeyError: If the table has neither the answers nor their correctness.

        Example:
            >>> rows = [{"small": "a", "confidence": 0.9, "large": text} for text in ("a", "I cannot say", None)]
            >>> Outcomes.from_records(rows, about={"labels": ["a", "b"]}).valid("large").tolist()
            [True, False, False]
        """
        answers, judged = self._answers(who)
        if answers is None or (judged is not None and answers.empty()):
            return ~np.isnan(judged) if judged is not None else np.zeros(self._length, dtype=bool)
        labels = known_labels(self.about, who)
        return answers.within(labels) if labels else answers.known()

    def agree(self, one: str, other: str) -> Bools:
        """Return where two columns of answers say the same, shape (n,); False where one says nothing.

        Raises:
            KeyError: If there is no such column.
        """
        first, second = self._columns[one], self._columns[other]
        if isinstance(first, Labels) and isinstance(second, Labels):
            return first.equals(second)
        pairs = zip(first.values(), second.values(), strict=True)
        return np.fromiter((a is not None and a == b for a, b in pairs), dtype=np.bool_, count=self._length)

    def said(self, column: str) -> Bools:
        """Return where a column says something, shape (n,).

        Raises:
            KeyError: If there is no such column.
        """
        return self._columns[column].known()

    def words(self, column: str) -> frozenset[Any]:
        """Return what a column says somewhere.

        Raises:
            KeyError: If there is no such column.
        """
        found = self._columns[column]
        return frozenset(found.used if isinstance(found, Labels) else (v for v in found.values() if v is not None))

    def coded(self, column: str) -> tuple[NDArray[np.int32], list[Any]]:
        """Return a column as places in a list of what it says, -1 where it says nothing, shape (n,), and that list.

        Raises:
            KeyError: If there is no such column.
        """
        found = self._columns[column]
        if isinstance(found, Labels):
            return found.codes, found.words
        place: dict[Any, int] = {}
        codes = (-1 if value is None else place.setdefault(value, len(place)) for value in found.values())
        return np.fromiter(codes, dtype=np.int32, count=self._length), list(place)

    def within(self, column: str, words: Iterable[str]) -> Bools:
        """Return where a column says one of some texts, shape (n,).

        Raises:
            KeyError: If there is no such column.
        """
        found = self._columns[column]
        if isinstance(found, Labels):
            return found.within(words)
        wanted = frozenset(words)
        return np.fromiter((value in wanted for value in found.values()), dtype=np.bool_, count=self._length)

    def _answers(self, who: str) -> tuple[Labels | None, Floats | None]:
        answers, judged = self._columns.get(who), self._columns.get(f"{who}_ok")
        if answers is None and judged is None:
            raise KeyError(f"these outcomes have no column {who!r} and no column {who + '_ok'!r}")
        if answers is not None and not isinstance(answers, Labels):
            raise KeyError(f"the column {who!r} holds no answers")
        return answers, judged.data if isinstance(judged, Numbers) else None

    # --- parts --------------------------------------------------------------------------------------------------

    # --- people -------------------------------------------------------------------------------------------------

    def to_label(
        self,
        path: str | Path | None = None,
        *,
        max_rows: int | None = None,
        agreements: float = 0.05,
        seed: int = 0,
        inputs: Mapping[str, Any] | None = None,
        prompt: str = "plain",
    ) -> list[dict[str, Any]]:
        """Return the rows whose truth is worth finding out, and write them to a file that a person can fill in.

        These are the rows without gold, or with gold that no model ever says, where a small model says something else
        than the large model (on the plain prompt), or the large model failed: as long as nobody knows the truth, they
        count as lost. Everywhere else the truth changes no loss; but how often each model is right depends on it, so a
        random share of those rows is drawn as well (`estimate`).

        The file is in random order, and rows of both kinds are spread evenly over it. So whoever stops early leaves a
        random sample of each: fill it in from the top, and leave a row empty, or write a word of `unknown_gold`, where
        the truth cannot be told. `with_gold` keeps how each row was drawn; the column `draw` says the order, so the
        file may be sorted. A later file goes on where the labels of the earlier ones end.

        Args:
            path: A `.csv` file for a spreadsheet, or `.jsonl`. It must not exist, since it could hold somebody's work.
            max_rows: Only so many, drawn at random, of both kinds in proportion.
            agreements: Share of the rows on which the models agree (or the small one failed) that should have been
                drawn in the end, from 0 to 1. With 0 accuracies stay unknown.
            seed: Of the random order.
            inputs: The texts to judge, by id; written as column `input`.
            prompt: With `pruned`, also all the rows where the large model changed its answer on the pruned prompt.

        Returns:
            Rows with `id`, `confidence` (of several small models that disagree the highest), what each model says,
            `stratum`, `draw` (place in the random order of its stratum, from 1), `reason`, `gold` (None), and `input`
            where `inputs` is given.

        Raises:
            ValueError: If the path's suffix is unknown, `max_rows` is negative, `agreements` is no share, or the table
                has no answers to compare.
            FileExistsError: If there is such a file.

        Example:
            ```python
            outcomes.to_label("to_label.csv", max_rows=50, inputs={row["id"]: row["text"] for row in rows})
            # fill in the column `gold` in a spreadsheet, save as CSV
            outcomes = outcomes.with_gold("to_label.csv")
            ```
        """
        return rows_to_label(
            self, path, max_rows=max_rows, agreements=agreements, seed=seed, inputs=inputs, prompt=prompt
        )

    def with_gold(
        self,
        labels: Any,
        **gold_rules: Unpack[GoldOptions],
    ) -> Outcomes:
        """Return the table with further gold labels; `about` stays, its count of certifications included.

        Args:
            labels: A file that `to_label` wrote and somebody filled in (CSV with commas, semicolons or tabs, or JSONL;
                columns `id` and `gold` are enough), a mapping from id to label, rows, or a DataFrame. An empty cell or
                None means: still unknown. Where the columns `stratum` and `draw` are there, the table keeps which rows
                were drawn; empty ones before the last filled one of their stratum were skipped, and may be right or
                wrong. Without them gold counts as a random sample of the rows on which the models agree, and of those
                on which they do not.
            **gold_rules: `gold_map`, `unknown_gold`, `other_gold`, as in `Outcomes`.

        Raises:
            ValueError: If an id is unknown or stands there twice, a value is not one of `about["labels"]` (where none
                are named, `known_gold` looks at it when it is used), gold is known and another, or a row says something
                else about `small` or `large` than the table (columns that were sorted apart). The message names file,
                row and column.
        """
        rules = GoldRules.of(**gold_rules)
        known = known_labels(self.about)
        if known is not None:
            rules.fit(known)
        about = with_other(self.about, rules)
        words = self._said() if known is None else known
        values = self.values("gold")
        told = read_gold(self, labels, rules, words, about, named=known is not None)
        for place, label in told.gold.items():
            values[place] = label
        further = {"gold": values, **sampled(self, told)}
        columns = {**self._columns, **{name: build(name, column) for name, column in further.items()}}
        return self._of(columns, self._length, about, self.folder)

    def estimate(
        self,
        figure: Figure = "accuracy",
        who: str = "small",
        *,
        rows: ArrayLike | None = None,
        level: float = 0.95,
    ) -> Estimate:
        """Return a figure of accuracy type about all rows, from those that have gold, with its interval.

        After `to_label` the rows with gold are no sample: a mean over them is that of the disagreements. Here each row
        counts by its stratum, as `stratum` and `draw` tell (`outcomes.sampling`). Where every row has gold, it is the
        usual figure.

        Args:
            figure: `accuracy`, `errors` (1 - accuracy), `calibration_error` (adaptive ECE), `auroc`, `aurc`, `e_aurc`.
            who: `small`, `large`, `large_pruned`, or `small.<name>`. The last four figures are about a small model.
            rows: A mask of the rows that the figure is about, shape (n,): a class, a slice, accepted ones. Not of those
                that have gold.
            level: Of the interval.

        Returns:
            The figure. Its `value` is None where labels are missing; `words()` says how many, and gives the bounds.

        Raises:
            KeyError: If there are no such answers.
            ValueError: If `figure` is unknown or needs a small model's confidence, `rows` has another shape, or rows
                without gold were taken out of the table.

        Example:
            >>> rows = [{"small": "a", "confidence": 0.9, "large": "a", "gold": gold} for gold in ("a", None) * 50]
            >>> rows += [{"small": "a", "confidence": 0.6, "large": "b", "gold": gold} for gold in ("a", "b") * 50]
            >>> print(Outcomes.from_records(rows).estimate())  # 50 % where they differ, 100 % where they agree
            75.0 % (67.9 to 81.2)
        """
        inside = np.ones(self._length, dtype=bool) if rows is None else np.asarray(rows)
        if inside.dtype != bool or inside.shape != (self._length,):
            raise ValueError(f"`rows` must be a mask of shape ({self._length},)")
        answers, judged = self._answers(who)
        inside = inside & (np.zeros(self._length, dtype=bool) if answers is None else answers.known())
        if judged is not None:
            inside |= ~np.isnan(judged) & (True if rows is None else np.asarray(rows))
        right = self.correct(who)
        sample = LabelSample.of(self, right, level=level)
        if figure in ("accuracy", "errors"):
            found = sample.within(inside).rate(1.0 - right[inside])
            return found.complement() if figure == "accuracy" else found
        suffix = who.removeprefix("small")
        if figure not in _OF_CONFIDENCE or who.startswith("large") or f"confidence{suffix}" not in self:
            raise ValueError(
                f"`figure` must be 'accuracy' or 'errors', or with a small model's confidence one of "
                f"{', '.join(_OF_CONFIDENCE)}; not {figure!r} of {who!r}"
            )
        confidence = np.asarray(self[f"confidence{suffix}"], dtype=np.float64)
        inside &= np.isfinite(confidence)
        sample, p, y = sample.within(inside), confidence[inside], right[inside]
        if figure == "auroc":
            return sample.auroc(p, y)
        if figure == "calibration_error":
            if ((p < 0.0) | (p > 1.0)).any():
                raise ValueError(f"`confidence{suffix}` is no probability, so it has no calibration error")
            return sample.calibration_error(p, y)
        return sample.aurc(p, 1.0 - y) if figure == "aurc" else sample.e_aurc(p, 1.0 - y)

    # --- records and files --------------------------------------------------------------------------------------

    @classmethod
    def from_records(
        cls,
        rows: Any,
        *,
        about: Mapping[str, Any] | None = None,
        **gold_rules: Unpack[GoldOptions],
    ) -> Outcomes:
        """Build a table from dicts, or from a DataFrame; a key that a row lacks is None there.

        In a DataFrame a missing value (NaN, NaT, NA) is None in every column. Rows in which every value is None are
        left out, as are empty rows of a file.

        Example:
            >>> rows = [{"small": "1", "confidence": 0.9, "large": "1", "gold": gold} for gold in ("1.0", "n/a")]
            >>> table = Outcomes.from_records(
            ...     rows, about={"labels": ["0", "1"]}, gold_map={"1.0": "1"}, unknown_gold="n/a"
            ... )
            >>> table.values("gold")
            ['1', None]
        """
        rules = GoldRules.of(**gold_rules)
        return cls._new(_columns_of(rows_of(rows)), about, rules)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        about: Mapping[str, Any] | None = None,
        **gold_rules: Unpack[GoldOptions],
    ) -> Outcomes:
        """Read a CSV file with a header. An empty cell is None; dicts are JSON; numbers come back exactly.

        A cell of a column that this class does not know is read as JSON where it is JSON (`3`, `true`, `["a"]`,
        `"3"` for the text), and is a text otherwise (`free`, `007`).

        Raises:
            ValueError: If a cell cannot be read; the message names file, row (the first under the header is 1) and
                column, never the cell's text. If bytes are not UTF-8, it names file and line.
        """
        rules = GoldRules.of(**gold_rules)
        columns, found = read_csv(Path(path))
        return cls._new(columns, {**found, **(about or {})}, rules, f"{path}: ")

    @classmethod
    def from_jsonl(
        cls,
        path: str | Path,
        *,
        about: Mapping[str, Any] | None = None,
        **gold_rules: Unpack[GoldOptions],
    ) -> Outcomes:
        """Read a file with one JSON object per line; a line with `about` and columns, as `to_jsonl` writes it, is used.

        Raises:
            ValueError: If a line cannot be read; the message names file, row and column, never the text.
        """
        rules = GoldRules.of(**gold_rules)
        where = f"{path}: "
        found = Header()
        columns = _columns_of(read_jsonl(Path(path), found), where)
        length = len(next(iter(columns.values()))) if columns else 0
        listed = {name: columns[name] if name in columns else build(name, [None] * length) for name in found.names}
        columns = {**listed, **columns}
        return cls._new(columns, {**found.about, **(about or {})}, rules, where)

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        *,
        about: Mapping[str, Any] | None = None,
        **gold_rules: Unpack[GoldOptions],
    ) -> Outcomes:
        """Read a Parquet file (extra `parquet`), one that `to_parquet` wrote or another with such columns.

        Dicts may be structs, maps, or JSON texts. Rows are looked at some ten thousand at a time, so hardly more is
        held than the table. For a folder that `route_dataset` wrote there is `Routed.outcomes`.

        Args:
            path: The file, or a folder whose `*.parquet` files are read one after the other, by name, as one table; a
                column that one of them lacks is empty there.
            about: As in `Outcomes`; it goes before what the file says.
            **gold_rules: `gold_map`, `unknown_gold`, `other_gold`, as in `Outcomes`.

        Raises:
            ValueError: If a value is not what its column holds; the message names file, row (of a folder: of all files
                together) and column. If a folder has no such file, or its files are about different things.
            ImportError: If pyarrow is not installed.
        """
        rules = GoldRules.of(**gold_rules)
        columns, found = read_parquet(Path(path))
        return cls._new(columns, {**found, **(about or {})}, rules, f"{path}: ")

    @classmethod
    def from_traces(
        cls,
        rows: Iterable[Mapping[str, Any]],
        *,
        about: Mapping[str, Any] | None = None,
        small: Sequence[str] | None = None,
        to_label: Callable[[Any], str] | None = None,
        router: str | None = None,
        group_key: str | None = None,
        live: bool = False,
        **gold_rules: Unpack[GoldOptions],
    ) -> Outcomes:
        """Build a table from what a router's recorder wrote down.

        By default from shadow mode alone: there, every input was answered by the large model with the plain prompt and
        by every small model, so the rows are a fair sample of the traffic, which choosing and certifying a threshold
        need. An input counts once both its rows are there; one that was skipped, since too many waited, does not.

        Args:
            rows: Rows of a recorder in any order (`JSONLRecorder.read(path)`), joined by `route_id`, which becomes
                `id`. Rows `{"kind": "gold", "route_id": ..., "gold": ...}` tell what was true; the last one counts.
            about: What the rows are about. The rows do not say: name score, labels and versions here.
            small: The names of several small models in the order in which they are asked (`router.small_names`). With
                one small model it is not needed.
            to_label: From the large chain's output, as it was recorded, to a label; by default a text as it is, a
                message's text, the only field of a dict, stripped. Where it raises, the row gets an `error`.
            router: The router's name, where rows of several are mixed.
            group_key: Where a dict input holds a group (customer, thread).
            live: Also take the decisions of live mode. Column `source` tells them apart: `shadow`; `local` (answered
                locally, the large model was not asked); `audit` (answered locally and checked); `escalated`. What the
                large model said to an escalated input is `large` where it had the plain prompt, and `large_pruned`
                where it may have been pruned. **These rows are no fair sample**: which model was asked depends on the
                confidence. Look at them, but do not certify on them.
            **gold_rules: `gold_map`, `unknown_gold`, `other_gold`, as in `Outcomes`.

        Raises:
            ValueError: If there are rows, but none that can be used; if rows are of several routers or of several small
                models without names; if one `route_id` stands for two decisions; or if no output can be read.

        Example:
            ```python
            router = ConfidenceRouter(small=small, large=chain, mode="shadow", recorder=JSONLRecorder("routes.jsonl"))
            ...
            facts = {"score": "max_probability", "labels": small.labels, "small": small.version}
            outcomes = Outcomes.from_traces(JSONLRecorder.read("routes.jsonl"), about=facts)
            ```
        """
        rules = GoldRules.of(**gold_rules)
        records = read_traces(rows, names=small, to_label=to_label, router=router, group_key=group_key, live=live)
        columns = _columns_of(records) or {name: build(name, []) for name in _LEAST}
        return cls._new(columns, about, rules)

    def to_csv(self, path: str | Path) -> None:
        """Write a CSV file with a header; `from_csv` reads the same numbers back, to the last bit.

        `about` stands in the first row's cell of a column `__about__`, where it is not empty. An empty text in one of
        the columns named above reads back as None: `to_jsonl` and `to_parquet` keep it. In other columns what is no
        text is written as JSON, and so is a text that would read as JSON or is empty. A text that a spreadsheet would
        run as a formula gets a quote more, which `from_csv` takes away. An older file of that name is
        replaced when the new one is whole, and stays where writing fails.
        """
        write_csv(Path(path), self._columns, self.about)
        self.folder = self.folder or Path(path).absolute().parent

    def to_jsonl(self, path: str | Path) -> None:
        """Write a line with `about` and the columns, then one JSON object per row; None is left out.

        An older file of that name is replaced when the new one is whole, and stays where writing fails.
        """
        write_jsonl(Path(path), self._columns, self.about)
        self.folder = self.folder or Path(path).absolute().parent

    def to_parquet(self, path: str | Path) -> None:
        """Write a Parquet file (extra `parquet`): the smallest and quickest of the three for many rows.

        `about` is in the schema's metadata. Dicts, and columns that this class does not know, are JSON texts. An older
        file of that name is replaced when the new one is whole, and stays where writing fails.

        Raises:
            ImportError: If pyarrow is not installed.
        """
        write_parquet(Path(path), self._columns, self.about)
        self.folder = self.folder or Path(path).absolute().parent


_MOST_SAID = 1000
_LEAST = ("id", "small", "confidence", "large", "gold")


def _row(place: int) -> str:
    return f"row {place + 1}"


def _without_empty_rows(columns: dict[str, Column]) -> tuple[dict[str, Column], NDArray[np.intp] | None]:
    """Leave out rows in which nothing is known, and say which places stayed; None where all did.

    A spreadsheet writes such rows; they would only thin out the losses.
    """
    full = np.zeros(len(next(iter(columns.values()))) if columns else 0, dtype=bool)
    for column in columns.values():
        full |= column.known()
        if full.all():
            return columns, None
    kept = np.flatnonzero(full)
    return {name: column.take(kept) for name, column in columns.items()}, kept


def _complete(
    columns: dict[str, Column], where: str = "", row: Callable[[int], str] = _row
) -> tuple[dict[str, Column], int]:
    """Add the columns that may be missing, and check what concerns several of them or all rows of one."""
    length = len(next(iter(columns.values()))) if columns else 0
    if length or not columns.keys() <= {"id", "gold"}:  # these alone are what a table without columns is written as
        _require(columns, where)
    if "id" not in columns:
        columns = {"id": Plain([str(place) for place in range(length)]), **columns}
    if "gold" not in columns:
        columns = {**columns, "gold": build("gold", [None] * length)}
    ids = columns["id"].values()
    if None in ids:
        raise ValueError(f"{row(ids.index(None))}, column 'id': must not be empty")
    if len(set(ids)) != len(ids):
        seen: set[Any] = set()
        for place, value in enumerate(ids):
            if value in seen:
                raise ValueError(f"{row(place)}, column 'id': the same id as in a row before")
            seen.add(value)
    return columns, length


def _require(columns: Mapping[str, Any], where: str) -> None:
    def has(*names: str) -> bool:
        return any(name in columns for name in names)

    several = any(name.startswith("small.") for name in columns)
    for found, names in (
        (has("small", "small_ok") or several, "`small` (or `small_ok`)"),
        (has("confidence") or any(name.startswith("confidence.") for name in columns), "`confidence`"),
        (has("large", "large_ok"), "`large` (or `large_ok`)"),
    ):
        if not found:
            raise ValueError(f"{where}outcomes need a column {names}")


def _columns_of(rows: Iterable[Mapping[str, Any]], where: str = "") -> dict[str, Column]:
    """Columns from rows, without keeping the rows."""
    builders: dict[str, Builder] = {}
    chunk: list[Mapping[str, Any]] = []
    count = 0

    def flush() -> None:
        for row in chunk:
            if not row.keys() <= builders.keys():
                for name in row:
                    if name not in builders:
                        builders[name] = Builder(name, where)
                        builders[name].pad(count - len(chunk))
        for name, builder in builders.items():
            builder.add([row.get(name) for row in chunk])
        chunk.clear()

    for row in rows:
        if not isinstance(row, Mapping):
            raise TypeError(f"{where}row {count + 1} is {type(row).__name__}, not a dict")
        count += 1
        chunk.append({} if all(map(missing, row.values())) else row)
        if len(chunk) == CHUNK:
            flush()
    flush()
    return {name: builder.done() for name, builder in builders.items()}
