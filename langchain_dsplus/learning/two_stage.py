"""Two-stage confidence distillation: Algorithm 1 of the Data Shunt+ paper, as it is written there."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from langchain_dsplus._arrays import Floats, Places
from langchain_dsplus._files import replace_file, replace_folder
from langchain_dsplus._inputs import feed_inputs
from langchain_dsplus._json import load_json
from langchain_dsplus._progress import progress_bar
from langchain_dsplus._shown import Shown
from langchain_dsplus.learning.students import Student, make_student, remember
from langchain_dsplus.learning.targets import PaidAnswers, ask, ask_large, read_targets, read_teacher, soften
from langchain_dsplus.small_models.base import SmallModel

logger = logging.getLogger(__name__)

_FORMAT = 3
_STATE = "state.json"
_ANSWERS = "answers.jsonl"


@dataclass(frozen=True)
class TwoStageResult:
    """What two-stage confidence distillation did.

    Attributes:
        model: The learnable small model F_s2. The specific one, F_s1, is as it was.
        x1: Places of the inputs that F_s1 was sure of.
        x2: Places of those that it was not sure of.
        x3: Places of those in x2 that the large model was sure of.
        failed: Places of the inputs that F_s1 could not answer; they are in none of the sets.
        asked: How many inputs the large model was asked about.
        unusable: How many of its answers taught nothing: none, no distribution, or a label that F_s1 lacks.
        losses: For each round the mean divergence from the large model's answers and from F_s1's, in nats; None where
            a stage had no input.
    """

    model: Any
    x1: list[int]
    x2: list[int]
    x3: list[int]
    failed: list[int]
    asked: int
    unusable: int
    losses: list[tuple[float | None, float | None]] = field(repr=False)


class TwoStageConfidenceDistillation(Shown):
    """Algorithm 1 of the paper (2CD): F_s2 learns from the large model where only that is sure, and else from F_s1.

    F_s2 starts as a copy of F_s1, which stays frozen. x1 are the inputs with C_s1 > threshold, x2 the others. The
    large model is asked about x2; x3 are those where C_l > threshold. Then F_s2 is trained in turns: a pass over x3
    that minimizes KL(F_s2, C_l) (Eq. 7), a pass over x1 that minimizes KL(F_s2, C_s1) (Eq. 8), as often as there are
    rounds. Each pass sees its whole set once, however much larger the other is, as the algorithm has it. The divergence
    is that of distillation: from the teacher's distribution to the student's.

    The paper does not say what becomes of an input that F_s1 cannot answer (an empty text, a damaged image). Here it is
    in none of the sets, and nobody is paid for it: F_s2 is F_s1's copy and cannot read it either. `failed` names them,
    and a warning in the log counts them. At inference such an input escalates.

    No gold label takes part, and nothing is checked: `Distiller` does better with the same calls. F_s2's confidence
    is not F_s1's, so F_s1's threshold or certificate says nothing about it. At inference:
    `ConfidenceRouter(small=[specific, result.model], large=...)`.

    Args:
        specific: F_s1, fitted: a `SentenceClassifier`, a `SklearnClassifier`, or any `DistillableModel`. Of
            scikit-learn's estimators, pipelines that end in logistic regression make gradient steps; any other is
            fitted anew in each round on what it was shown, soft targets as weighted rows.
        threshold: The paper's shunt threshold, for both models.
        small_threshold: One of its own for F_s1, whose score is its `score`.
        large_threshold: One of its own for the large model, whose confidence is its largest probability; 1 for a plain
            label.
        rounds: How often the two stages alternate. The paper gives no number. By default 100 for softmax heads
            (`SentenceClassifier`, logistic regression), 10 for other kinds. A head starts where F_s1's fit ended and
            makes small steps of plain gradient descent: on development rows of Banking77 with MiniLM, 10 rounds gave a
            third of the accuracy that 100 gained. A round of a head costs milliseconds, one of a torch model does not.
        lr: Learning rate (`make_student`). A head's default, 1, is stable for any number of classes; with many of them
            4 in 30 rounds does as well as 1 in 120.
        max_calls: Most inputs of x2 that the large model is asked about, the first ones; by default all.
        seed: Of the order of the inputs.
        checkpoint: A folder that holds each of the large model's answers as it comes, and the state after each round:
            the next call with the same arguments goes on from there, and pays for no answer twice, also where the
            large model's batch was interrupted. It may be deleted afterwards.
        progress: Show a bar on stderr.

    Raises:
        ValueError: If no threshold is given, or an argument is out of range.

    Example:
        ```python
        distillation = TwoStageConfidenceDistillation(specific, threshold=0.9)
        result = distillation.distil(texts, llm_chain)  # or the large model's answers, one per text
        router = ConfidenceRouter(small=[specific, result.model], large=llm_chain, threshold=0.9)
        ```
    """

    def __init__(
        self,
        specific: SmallModel,
        *,
        threshold: float | None = None,
        small_threshold: float | None = None,
        large_threshold: float | None = None,
        rounds: int | None = None,
        lr: float | None = None,
        max_calls: int | None = None,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> None:
        small = threshold if small_threshold is None else small_threshold
        large = threshold if large_threshold is None else large_threshold
        if small is None or large is None:
            raise ValueError("`threshold` is missing (or both `small_threshold` and `large_threshold`)")
        if not (np.isfinite(small) and np.isfinite(large)):
            raise ValueError("`threshold` must be finite")
        if rounds is not None and rounds < 1:
            raise ValueError("`rounds` must be at least 1")
        if lr is not None and not (np.isfinite(lr) and lr > 0.0):
            raise ValueError("`lr` must be a finite number, greater than 0")
        if max_calls is not None and max_calls < 0:
            raise ValueError("`max_calls` must be at least 0")
        self.specific = specific
        self.small_threshold, self.large_threshold = float(small), float(large)
        self.rounds, self.lr, self.max_calls, self.seed = rounds, lr, max_calls, seed
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.progress = progress

    def distil(self, inputs: Sequence[Any], large: Any) -> TwoStageResult:
        """Run Algorithm 1.

        Args:
            inputs: As in `specific.invoke`.
            large: The large model: a Runnable (asked about x2 in one batch) or a callable from one input to an answer;
                or its recorded answers, one per input. An answer is a label, a mapping from label to probability (from
                log-probabilities or vote shares), an `Answer`, or None. Of recorded answers only those on x2 are read.

        Returns:
            F_s2, and which inputs it learned from. With x1 and x3 empty it is F_s1's copy.

        Raises:
            ValueError: If a teacher is broken (F_s1 answered none of the inputs, or no answer of the large model could
                be used), there are not as many answers as inputs, or a checkpoint belongs to other arguments.
            TypeError: If the kind of small model cannot be trained.
        """
        values = list(inputs)
        rows, confidence, answered = ask(self.specific, values)
        failed = np.flatnonzero(~answered).tolist()
        if failed and len(failed) == len(values):
            raise ValueError(
                f"`specific` answered none of the {len(values)} inputs: see what `specific.invoke(inputs[0])` raises"
            )
        if failed:
            logger.warning(
                "the specific model could not answer %d of %d inputs: they teach nothing", len(failed), len(values)
            )
        x1 = np.flatnonzero(answered & (confidence > self.small_threshold))
        x2 = np.flatnonzero(answered & ~(confidence > self.small_threshold))
        chosen = x2 if self.max_calls is None else x2[: self.max_calls]
        key = self._key(values, x1)
        state = self._read(key)
        labels = list(self.specific.labels)
        if state is None:
            paid = None if self.checkpoint is None else PaidAnswers(self.checkpoint / _ANSWERS, key, labels)
            answers = ask_large(large, values, chosen.tolist(), paid)
            taught, usable = read_teacher(answers, labels, paid)
            state = {
                "key": key,
                "round": 0,
                "losses": [],
                "taught": [soften(row, labels) if ok else None for row, ok in zip(taught, usable, strict=True)],
            }
        taught, usable = read_targets(state["taught"], labels)
        sure = usable & (taught.max(axis=1, initial=0.0) > self.large_threshold)
        x3 = chosen[sure]
        model = self.specific.clone()
        used = np.concatenate([x3, x1])
        if len(used):
            student = make_student(self.specific, [values[place] for place in used], lr=self.lr)
            rounds = student.rounds if self.rounds is None else self.rounds
            if state["round"] > rounds:
                raise ValueError(self._foreign())
            large_stage = np.arange(len(x3)), taught[sure]
            small_stage = np.arange(len(x3), len(used)), rows[x1]
            self._alternate(student, large_stage, small_stage, state, rounds)
            model = student.finish()
            remember(model, [values[place] for place in used])
        return TwoStageResult(
            model=model,
            x1=x1.tolist(),
            x2=x2.tolist(),
            x3=x3.tolist(),
            failed=failed,
            asked=len(chosen),
            unusable=int((~usable).sum()),
            losses=[(pair[0], pair[1]) for pair in state["losses"]],
        )

    def _alternate(
        self,
        student: Student,
        large: tuple[Places, Floats],
        small: tuple[Places, Floats],
        state: dict[str, Any],
        rounds: int,
    ) -> None:
        """All rounds that are left, each kept in the checkpoint."""
        if self.checkpoint is not None:
            if state["round"]:
                student.restore(self.checkpoint / f"round-{state['round']}")
            else:
                self._write(state, None)  # the large model's answers are paid for
        with progress_bar("distilling", rounds, done=state["round"], show=self.progress) as advance:
            for number in range(state["round"], rounds):
                state["losses"].append(self._round(student, number, large, small))
                state["round"] = number + 1
                if self.checkpoint is not None:
                    self._write(state, student)
                advance(1)

    def _round(
        self, student: Student, number: int, large: tuple[Places, Floats], small: tuple[Places, Floats]
    ) -> tuple[float | None, float | None]:
        """One pass over x3, one over x1."""
        losses: list[float | None] = []
        for stage, (places, targets) in enumerate((large, small)):
            if not len(places):
                losses.append(None)
                continue
            losses.append(student.train(places, targets, seed=_seed(self.seed, number, stage)))
        student.end_round()
        return losses[0], losses[1]

    # --- checkpoints --------------------------------------------------------------------------------------------

    def _key(self, values: list[Any], x1: Places) -> str:
        """A hash of all that decides the result, but for the large model and the number of rounds."""
        digest = hashlib.sha256()
        settings = [self.small_threshold, self.large_threshold, self.lr, self.max_calls, self.seed, len(values)]
        digest.update(json.dumps([_FORMAT, self.specific.version, self.specific.labels, settings]).encode())
        digest.update(x1.astype(np.int64).tobytes())
        feed_inputs(digest, values)
        return digest.hexdigest()

    def _read(self, key: str) -> dict[str, Any] | None:
        if self.checkpoint is None or not (self.checkpoint / _STATE).exists():
            return None
        path = self.checkpoint / _STATE
        try:
            state: dict[str, Any] = load_json(path.read_text(encoding="utf-8"))
            same = state["key"] == key
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: delete the folder to start anew") from error
        if not same:
            raise ValueError(self._foreign())
        return state

    def _foreign(self) -> str:
        return (
            f"`checkpoint` {self.checkpoint} belongs to other inputs or settings, or another small model: "
            "name another folder, or delete it"
        )

    def _write(self, state: Mapping[str, Any], student: Student | None) -> None:
        """The student first, then the state that names it, in one step: a cut leaves the round before."""
        assert self.checkpoint is not None
        self.checkpoint.mkdir(parents=True, exist_ok=True)
        number = state["round"]
        if student is not None:
            replace_folder(self.checkpoint / f"round-{number}", student.save)
        replace_file(self.checkpoint / _STATE, json.dumps(state, ensure_ascii=False, allow_nan=False))
        (self.checkpoint / _ANSWERS).unlink(missing_ok=True)  # the state holds them now
        if number > 1:
            shutil.rmtree(self.checkpoint / f"round-{number - 1}", ignore_errors=True)


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence([abs(part) for part in parts]).generate_state(1)[0] >> 1)
