"""`Distiller`: train a small model on what the large one said, without forgetting what it knew."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from langchain_dsplus._arrays import Bools, Floats
from langchain_dsplus._inputs import feed_inputs
from langchain_dsplus._shown import Shown
from langchain_dsplus.calibration import TemperatureScaling, softmax
from langchain_dsplus.learning.heads import HeadKind, find_head, name_rows
from langchain_dsplus.learning.noise import correct
from langchain_dsplus.learning.promotion import read_gold
from langchain_dsplus.learning.students import DistillableModel, refit, remember, untrainable
from langchain_dsplus.learning.targets import PaidAnswers, ask, ask_large, read_targets, read_teacher, soften
from langchain_dsplus.outcomes.gold import GoldOptions, GoldRules
from langchain_dsplus.small_models.base import SmallModel
from langchain_dsplus.small_models.sklearn import SklearnClassifier
from langchain_dsplus.small_models.softmax import assign_folds, fit_softmax

_PENALTIES = (0.1, 0.03, 0.01)
_FIRST_PENALTY = 0.03
_OLD_SHARE = 0.3
"""Weight of the old model beside heads trained on all rows, where answers are doubted."""
_TINY = 1e-12
_FOLDS_USED = 3
_QUICK = 50_000_000
_LEAST_HELD_OUT = 20
_HELD_OUT_SHARE = 5


@dataclass(frozen=True)
class DistillerResult:
    """What the distiller made.

    Attributes:
        model: The new small model. The one it came from is as it was. Its threshold must be chosen or certified anew.
        n_gold: Gold rows learned from.
        n_large: Rows learned from with the large model's answer, audits included.
        n_anchors: Rows learned from with the old model's own answer.
        n_names: Labels whose names served as rows.
        unusable: The large model's answers that taught nothing: none, or a label that the model lacks.
        unsure: Those that the large model was not sure of (`large_threshold`).
        overruled: Rows where a gold label stands against the large model's answer, which was dropped.
        doubted: Rows where the class that is likeliest by all evidence is not the one that the large model named.
        contradicted: The old model's answers that were dropped, since the new one contradicts them.
        n_calibration: Rows on which the temperature was fitted, none of which its model had seen.
        temperature: What was found there, by which the model's logits are divided; None where nothing was fitted.
        held_out: Those rows and what heads that had not seen them say: pairs (input, probabilities over the model's
            labels). Empty for kinds that are not fitted in folds.
    """

    model: Any
    n_gold: int
    n_large: int
    n_anchors: int
    n_names: int
    unusable: int
    unsure: int
    overruled: int
    doubted: int
    contradicted: int
    n_calibration: int
    temperature: float | None
    held_out: Sequence[tuple[Any, Floats]] = ()


@dataclass
class _Rows:
    """The training rows: gold, the labels' names, then the large model's."""

    inputs: list[Any]
    targets: Floats
    weights: Floats
    unbiased: Bools
    """Gold and audits: rows that were not chosen for being hard."""
    audit: Bools
    large: Bools
    """The large model's: their targets may be wrong."""

    def extend(self, anchors: _Anchors, weight: float) -> _Rows:
        """The same rows with anchors behind them."""
        n = len(anchors.inputs)
        return _Rows(
            [*self.inputs, *anchors.inputs],
            np.vstack([self.targets, anchors.targets]),
            np.concatenate([self.weights, np.full(n, weight)]),
            np.concatenate([self.unbiased, np.zeros(n, dtype=bool)]),
            np.concatenate([self.audit, np.zeros(n, dtype=bool)]),
            np.concatenate([self.large, np.zeros(n, dtype=bool)]),
        )


@dataclass(frozen=True)
class _Trained:
    """A new model, and what `DistillerResult` says of its training."""

    model: Any
    temperature: float | None = None
    n_calibration: int = 0
    n_anchors: int = 0
    contradicted: int = 0
    doubted: int = 0
    held_out: tuple[NDArray[np.intp], Floats] | None = None
    """Places of the rows that calibrated, and what heads that had not seen them say."""


@dataclass(frozen=True)
class _Anchors:
    """Inputs with a distribution each, and which of the candidates they are."""

    inputs: list[Any]
    targets: Floats
    places: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))


class Distiller(Shown):
    """Train a small model on the large model's answers together with the gold rows it was made from.

    What differs from the paper's two-stage distillation:

    - Gold rows are replayed, so what was learned from people is not unlearned from a model.
    - `acquire` draws what to ask at random: the least sure rows are no better, and random ones serve as audits.
    - The large model's answers are doubted: they are wrong most often on just these inputs. What is learned is the
      posterior of its answer and of what models that have not seen that answer think, with the confusions of the large
      model estimated on the way (`large_error`, `noise.correct`). Answers that it is not sure of are dropped
      (`large_threshold`), as in the paper, where it says how sure it is.
    - The labels' own names are rows too (`name_weight`): they say what a class is about.
    - The old model's answers on other inputs are kept as soft targets (`anchor_weight`), but only where nothing
      contradicts them: no gold row and no answer of the large model for that input, and a first new model, trained
      without anchors, that chooses the same class.
    - The model is fitted anew, vocabulary included, and calibrated on rows that were not chosen for being hard, held
      out in folds.

    What is shown of this (`python -m benchmarks distil`, 77 classes and two): as a whole it is more accurate than
    two-stage distillation with a bag of words, and level with it with an encoder's head. Of its parts, each taken away
    alone: gold replay adds accuracy and avoids flips (what was right and becomes wrong) on each of three sets, more
    than all else; doubts avoid flips where there are many classes; names add accuracy to a bag of words, and nothing to
    an encoder. Asking about the least sure rows was no better than random ones and is not offered. Anchors and `keep`
    were not measured alone. With few classes one fit on gold and random rows is as accurate (`IMDB` there): try that
    first.

    Nothing is put in place: see `promotion`.

    Args:
        model: The small model that is live, fitted: a `SentenceClassifier`, a `SklearnClassifier` around scikit-learn
            (pipelines that end in logistic regression are calibrated; others are only fitted anew), or any
            `DistillableModel`, which is trained further from where it is.
        large_weight: Weight of a row with the large model's answer; gold weighs 1.
        large_error: Share of its answers that are wrong, as far as known beforehand, in [0, 1): evidence corrects it.
            0 takes every answer at its word. Softmax heads only; other kinds know `caution` alone.
        large_threshold: Probability that the large model's likeliest class must exceed: the paper's C_l > δ, where its
            answers carry probabilities (from log-probabilities or vote shares). A plain label is 1, and passes.
        caution: Share of the old model's own distribution in such a target, in [0, 1), before it is corrected.
        name_weight: Weight of a row that is a label's name, such as "card arrival" for `card_arrival`; 0 uses none. For
            a `SentenceClassifier` or `SklearnClassifier` that reads texts, and names with a word of three letters.
        anchor_weight: Weight of a row with the old model's own answer; 0 uses none. There are at most as many such rows
            as others.
        keep: Share of the old head's weights in the new head, in [0, 1), where both read the same features
            (`SentenceClassifier`): the average forgets less than either change of the training (Wortsman et al. 2022,
            2109.01903). It is calibrated on audits, or, with fewer than 20 held out, part by part.
        epochs: Passes over the rows, for models with `train_steps`.
        lr: Their learning rate.
        seed: Of folds and orders.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        ```python
        distiller = Distiller(small)
        places = distiller.acquire(texts, budget=400)
        result = distiller.distil(
            gold=train_rows,  # (text, label)
            large=escalations,  # (text, the large model's answer): what the router escalated
            audits=[(texts[place], llm_chain.invoke(texts[place])) for place in places],
            unlabeled=texts,
        )
        report = promotion(small, result.model, held_out_rows)
        ```
    """

    def __init__(
        self,
        model: SmallModel,
        *,
        large_weight: float = 0.5,
        large_error: float = 0.2,
        large_threshold: float = 0.5,
        caution: float = 0.15,
        name_weight: float = 1.0,
        anchor_weight: float = 0.5,
        keep: float = 0.15,
        epochs: int = 3,
        lr: float | None = None,
        seed: int = 0,
    ) -> None:
        if not (math.isfinite(large_weight) and large_weight > 0.0):
            raise ValueError("`large_weight` must be a finite number, greater than 0")
        shares = {"large_error": large_error, "large_threshold": large_threshold, "caution": caution, "keep": keep}
        for name, share in shares.items():
            if not 0.0 <= share < 1.0:
                raise ValueError(f"`{name}` must lie in [0, 1)")
        for name, weight in {"name_weight": name_weight, "anchor_weight": anchor_weight}.items():
            if not (math.isfinite(weight) and weight >= 0.0):
                raise ValueError(f"`{name}` must be a finite number, at least 0")
        if epochs < 1:
            raise ValueError("`epochs` must be at least 1")
        self.model = model
        self.large_weight, self.large_error, self.large_threshold = large_weight, large_error, large_threshold
        self.caution, self.name_weight = caution, name_weight
        self.anchor_weight = anchor_weight
        self.keep, self.epochs, self.lr, self.seed = keep, epochs, lr, seed

    def acquire(self, inputs: Sequence[Any], budget: int, *, exclude: Collection[int] = ()) -> list[int]:
        """Draw at random which unlabeled inputs to ask the large model about: their answers serve as audits.

        Args:
            inputs: Unlabeled inputs.
            budget: How many to draw; fewer where there are fewer.
            exclude: Places that were asked already.

        Returns:
            Places of the inputs.

        Raises:
            ValueError: If `budget` is negative.
        """
        if budget < 0:
            raise ValueError("`budget` must be at least 0")
        free = [place for place in range(len(inputs)) if place not in exclude]
        drawn: list[int] = np.random.default_rng(self.seed).permutation(free)[:budget].tolist()
        return drawn

    def distil(
        self,
        gold: Any,
        large: Sequence[tuple[Any, Any]],
        *,
        audits: Sequence[tuple[Any, Any]] = (),
        unlabeled: Sequence[Any] = (),
        **gold_rules: Unpack[GoldOptions],
    ) -> DistillerResult:
        """Train a new model.

        Args:
            gold: Rows with their true label: pairs (input, label), mappings with `input` and `gold`, or a DataFrame
                with these columns. At best those that the model was made from, and all that came since.
            large: Pairs (input, the large model's answer): escalations. An answer is a label, a mapping from label to
                probability, an `Answer`, a text or message that names a label, or None.
            audits: The same for inputs that were chosen at random: audits of local answers, those of `acquire`. They
                teach as `large` does, and calibrate.
            unlabeled: Further inputs, for the old model's own answers.
            **gold_rules: `gold_map`, `unknown_gold`, `other_gold`, as in `Outcomes`.

        Returns:
            The new model, and what it was made from.

        Raises:
            ValueError: If there is nothing to learn from, or a gold label is not one of the model's.
            TypeError: If the kind of small model cannot be trained.
        """
        labels = list(self.model.labels)
        pairs = self._gold(gold, GoldRules.of(**gold_rules))
        gold_inputs, gold_labels = [value for value, _ in pairs], [label for _, label in pairs]
        wanted, _ = read_targets(gold_labels, labels)
        known = {_identity(value): place for place, value in enumerate(gold_inputs)}

        asked = [*large, *audits]
        taught, usable = read_targets([answer for _, answer in asked], labels)
        sure = usable & (taught.max(axis=1, initial=0.0) > self.large_threshold)
        places = np.array([known.get(_identity(value), -1) for value, _ in asked], dtype=np.intp)
        overruled = places >= 0
        kept = np.flatnonzero(sure & ~overruled)
        large_inputs = [asked[place][0] for place in kept]
        said = taught[kept]
        own, _, answered = ask(self.model, large_inputs)
        mixed = np.where(answered[:, None], (1.0 - self.caution) * said + self.caution * own, said)
        read, named = self._names([*gold_inputs, *large_inputs])

        sizes = [len(gold_inputs), len(read), len(kept)]
        audit = kept >= len(large)
        # Gold that came for an audit is a random row still. Without these, only rows without gold would calibrate:
        # where people label what the models disagree about, those on which they agree.
        drawn = {_identity(value) for value, _ in audits}
        told = np.array([_identity(value) in drawn for value in gold_inputs], dtype=bool)
        rows = _Rows(
            inputs=[*gold_inputs, *(value for _, value in read), *large_inputs],
            targets=np.vstack([wanted, named, mixed]),
            weights=np.repeat([1.0, self.name_weight, self.large_weight], sizes),
            unbiased=np.concatenate([np.repeat([True, False], sizes[:2]), audit]),
            audit=np.concatenate([told, np.zeros(len(read), dtype=bool), audit]),
            large=np.repeat([False, False, True], sizes),
        )
        # The large model's own answer is the reference when calibrating; caution is for training.
        truth = np.vstack([wanted, named, said])
        if not len(gold_inputs) + len(kept):
            raise ValueError("there is nothing to learn from: no gold row, no usable answer")
        anchors = self._anchors(unlabeled, {_identity(value) for value in rows.inputs})
        both = np.flatnonzero(usable & overruled)
        seen = taught[both], wanted[places[both]]
        trained = self._train(rows, truth, anchors, seen)
        # Anchors too: the model has seen them. A model that was saved knows what it must not be certified on.
        remember(trained.model, [*rows.inputs, *anchors.inputs])
        return DistillerResult(
            model=trained.model,
            n_gold=len(gold_inputs),
            n_large=len(kept),
            n_anchors=trained.n_anchors,
            n_names=len(read),
            unusable=int((~usable).sum()),
            unsure=int((usable & ~sure & ~overruled).sum()),
            overruled=int((usable & overruled).sum()),
            doubted=trained.doubted,
            contradicted=trained.contradicted,
            n_calibration=trained.n_calibration,
            temperature=trained.temperature,
            held_out=()
            if trained.held_out is None
            else [(rows.inputs[place], said) for place, said in zip(*trained.held_out, strict=True)],
        )

    def learn(
        self,
        inputs: Sequence[Any],
        large: Any,
        gold: Any,
        *,
        budget: int,
        checkpoint: str | Path | None = None,
        **gold_rules: Unpack[GoldOptions],
    ) -> DistillerResult:
        """Draw inputs, ask the large model about them, train.

        Args:
            inputs: Unlabeled inputs.
            large: The large model: a Runnable (one batch), a callable from one input to an answer, or recorded
                answers, one per input.
            gold: As in `distil`.
            budget: Calls of the large model.
            checkpoint: A folder that holds each of the large model's answers as it comes: after an interruption, the
                next call with the same inputs pays for no answer twice. It may be deleted afterwards.
            **gold_rules: `gold_map`, `unknown_gold`, `other_gold`, as in `Outcomes`.

        Raises:
            ValueError: If an argument is out of range, gold is none of the labels (nothing was asked then), no answer
                of the large model could be used, or the checkpoint belongs to other inputs or labels.
        """
        gold = self._gold(gold, GoldRules.of(**gold_rules))
        values = list(inputs)
        paid = None if checkpoint is None else self._paid(Path(checkpoint), values)
        places = self.acquire(values, budget)
        said = ask_large(large, values, places, paid)
        read_teacher(said, self.model.labels, paid)  # broken: an error, not a fit on gold alone
        audits = [(values[place], answer) for place, answer in zip(places, said, strict=True)]
        return self.distil(gold, [], audits=audits, unlabeled=values)

    def _names(self, inputs: Sequence[Any]) -> tuple[Any, Floats]:
        """The labels' names as rows, each with the distribution that it teaches."""
        read = name_rows(self.model, inputs) if self.name_weight else []
        k = len(self.model.labels)
        return read, np.eye(k)[[place for place, _ in read]].reshape(-1, k)

    def _gold(self, rows: Any, rules: GoldRules) -> list[tuple[Any, str]]:
        """The rows whose gold is one of the model's labels."""
        labels = set(self.model.labels)
        told = zip(*read_gold(rows, self.model.labels, rules, "gold"), strict=True)
        return [(value, label) for value, label in told if label is not None and label in labels]

    def _paid(self, folder: Path, values: list[Any]) -> PaidAnswers:
        digest = hashlib.sha256()
        feed_inputs(digest, [*self.model.labels, len(values), *values])
        return PaidAnswers(folder / "answers.jsonl", digest.hexdigest(), self.model.labels)

    # --- anchors ------------------------------------------------------------------------------------------------

    def _anchors(self, unlabeled: Sequence[Any], taken: Collection[Any]) -> _Anchors:
        """Unlabeled inputs that nobody answered, with the old model's distribution; at most as many as are taken."""
        nothing = _Anchors([], np.zeros((0, len(self.model.labels))))
        if not self.anchor_weight or not len(unlabeled):
            return nothing
        free = {_identity(value): value for value in unlabeled}
        values = [value for same, value in free.items() if same not in taken]
        drawn = np.random.default_rng(self.seed).permutation(len(values))[: len(taken)]
        values = [values[place] for place in sorted(drawn)]
        rows, _, answered = ask(self.model, values)
        kept = np.flatnonzero(answered)
        return _Anchors([values[place] for place in kept], rows[kept])

    # --- training -----------------------------------------------------------------------------------------------

    def _train(self, rows: _Rows, truth: Floats, anchors: _Anchors, seen: tuple[Floats, Floats]) -> _Trained:
        """Train without anchors, then with those that the first result bears out.

        `seen` are answers of the large model on gold rows, and the truth there.
        """
        head = find_head(self.model, rows.inputs, rows.targets, anchors.inputs)
        if head is None and isinstance(self.model, SklearnClassifier):
            first: Any = refit(self.model, rows.inputs, rows.targets, rows.weights)
            agreed = _agree(anchors, ask(first, anchors.inputs)[0])
            whole = rows.extend(agreed, self.anchor_weight)
            if agreed.inputs:
                first = refit(self.model, whole.inputs, whole.targets, whole.weights)
            n_anchors = len(agreed.inputs)
            return _Trained(first, n_anchors=n_anchors, contradicted=len(anchors.inputs) - n_anchors)
        if head is None:
            if not isinstance(self.model, DistillableModel):
                raise untrainable(self.model)
            # Training goes on from the old model, so a first result of its own would cost as much again.
            whole = rows.extend(anchors, self.anchor_weight)
            found = self._train_steps(whole, np.vstack([truth, anchors.targets]))
            return _Trained(*found, n_anchors=len(anchors.inputs))
        n = len(rows.inputs)
        l2 = _FIRST_PENALTY if head.l2 is None else head.l2
        doubting = bool(self.large_error) and rows.large.any()
        if not anchors.inputs and not doubting:
            model, temperature, held_out = self._train_head(head, rows, truth)
            return _Trained(model, temperature, len(held_out[0]), held_out=held_out)
        weight, bias = first_fit = fit_softmax(head.features[:n], rows.targets, rows.weights, l2=l2)
        agreed = _agree(anchors, softmax(_logits(head, head.features[n:], weight, bias, self.keep)))
        doubted = 0
        if doubting:
            rows, doubted = self._doubt(head, rows, truth, seen, (l2, first_fit))
        used = np.concatenate([np.arange(n), n + agreed.places])
        head = replace(head, features=head.features[used])
        rows, truth = rows.extend(agreed, self.anchor_weight), np.vstack([truth, agreed.targets])
        n_anchors = len(agreed.inputs)
        model, temperature, held_out = self._train_head(head, rows, truth, first_fit)
        return _Trained(
            model,
            temperature,
            len(held_out[0]),
            held_out=held_out,
            n_anchors=n_anchors,
            contradicted=len(anchors.inputs) - n_anchors,
            doubted=doubted,
        )

    def _doubt(
        self, head: HeadKind, rows: _Rows, truth: Floats, seen: tuple[Floats, Floats], fitted: tuple[float, Any]
    ) -> tuple[_Rows, int]:
        """Replace the large model's answers by what is likely true, given them and what others think.

        The others are heads that have not seen the answers of their third of the rows, and the old model.
        """
        l2, start = fitted
        large = np.flatnonzero(rows.large)
        groups = _groups(rows.inputs)
        fold = np.random.default_rng(self.seed).integers(0, _FOLDS_USED, int(groups.max()) + 1)[groups[large]]
        features = head.features[: len(rows.inputs)]
        before = np.zeros((len(large), truth.shape[1]))
        for number in range(_FOLDS_USED):
            out = large[fold == number]
            inside = np.setdiff1d(np.arange(len(rows.inputs)), out)
            if not len(out) or not rows.weights[inside].any():
                before[fold == number] = 1.0 / truth.shape[1]
                continue
            weight, bias = fit_softmax(features[inside], rows.targets[inside], rows.weights[inside], l2=l2, start=start)
            before[fold == number] = softmax(_logits(head, features[out], weight, bias, self.keep))
        own, _, answered = ask(self.model, [rows.inputs[place] for place in large])
        own = np.where(answered[:, None], own, before)
        before = np.maximum(before, _TINY) ** (1.0 - _OLD_SHARE) * np.maximum(own, _TINY) ** _OLD_SHARE
        before /= before.sum(axis=1, keepdims=True)
        said = truth[large]
        posterior, _ = correct(said, before, error=self.large_error, known=seen)
        targets = rows.targets.copy()
        targets[large] = posterior
        return replace(rows, targets=targets), int((posterior.argmax(axis=1) != said.argmax(axis=1)).sum())

    def _train_head(
        self, head: HeadKind, rows: _Rows, truth: Floats, first: tuple[Any, Any] | None = None
    ) -> tuple[Any, float, tuple[NDArray[np.intp], Floats]]:
        """Choose penalty and temperature on held-out rows, fit; `first` is a head to start from, to save time.

        The third that is returned: places of the held-out rows, and what heads that had not seen them say.
        """
        choices = _PENALTIES if head.l2 is None else (head.l2,)
        folds = assign_folds(truth.argmax(axis=1), _groups(rows.inputs), seed=self.seed)
        held: list[list[Floats]] = [[] for _ in choices]
        used: list[NDArray[np.intp]] = []
        size = head.features.shape[0] * head.features.shape[1] * truth.shape[1]
        for fold in range(_FOLDS_USED if size <= _QUICK else 1):
            out = np.flatnonzero((folds == fold) & rows.unbiased)
            inside = folds != fold
            if not len(out) or not rows.weights[inside].any():
                continue
            start = first
            for place, choice in enumerate(choices):
                start = fit_softmax(
                    head.features[inside], rows.targets[inside], rows.weights[inside], l2=choice, start=start
                )
                held[place].append((head.features[out] @ start[0]).astype(np.float64) + start[1])
            used.append(out)
        count = sum(map(len, used))
        l2, temperature = choices[min(1, len(choices) - 1)], 1.0
        if count >= _LEAST_HELD_OUT:
            wanted = truth[np.concatenate(used)]
            found = []
            for place, choice in enumerate(choices):
                logits = np.vstack(held[place])
                scaling = TemperatureScaling(bounds=(0.2, 10.0)).fit(logits, wanted)
                loss = -(wanted * np.log(np.maximum(scaling.transform(logits), 1e-300))).sum()
                found.append((float(loss), choice, scaling.temperature))
            _, l2, temperature = min(found)
        weight, bias = fit_softmax(head.features, rows.targets, rows.weights, l2=l2, start=first)
        out = np.concatenate(used) if used else np.zeros(0, dtype=np.intp)
        new = np.vstack(held[choices.index(l2)]) if used else np.zeros((0, truth.shape[1]))
        told = out, softmax(new / temperature)
        if head.old is not None and self.keep:
            return *self._mix(head, (weight, bias, temperature), (out, new), rows, truth), told
        return head.put(weight, bias, temperature), temperature, told

    def _mix(
        self,
        head: HeadKind,
        found: tuple[Any, Any, float],
        held_out: tuple[NDArray[np.intp], Floats],
        rows: _Rows,
        truth: Floats,
    ) -> tuple[Any, float]:
        """Average the new head with the old one; the average is calibrated on held-out audits, if there are enough.

        The old head has seen the gold rows, so those would find it better than it is.
        """
        assert head.old is not None
        weight, bias, temperature = found
        out, logits = held_out
        k = self.keep
        old_weight, old_bias = head.old
        parts = (1.0 - k) * weight / temperature + k * old_weight, (1.0 - k) * bias / temperature + k * old_bias
        fresh = rows.audit[out]
        scale = 1.0
        if int(fresh.sum()) >= _LEAST_HELD_OUT:
            old = (head.features[out[fresh]] @ old_weight).astype(np.float64) + old_bias
            both = (1.0 - k) * logits[fresh] / temperature + k * old
            scale = TemperatureScaling(bounds=(0.2, 10.0)).fit(both, truth[out[fresh]]).temperature
        return head.put(parts[0], parts[1], scale), temperature * scale

    def _train_steps(self, rows: _Rows, truth: Floats) -> tuple[Any, float | None, int]:
        labels = list(self.model.labels)
        model: Any = self.model.clone()
        candidates = np.random.default_rng(self.seed).permutation(np.flatnonzero(rows.unbiased)).tolist()
        out: list[int] = candidates[: len(candidates) // _HELD_OUT_SHARE]
        if len(out) < _LEAST_HELD_OUT or not callable(getattr(model, "calibrate", None)):
            out = []
        inside: list[int] = np.setdiff1d(np.arange(len(rows.inputs)), out).tolist()
        model.train_steps(
            [rows.inputs[place] for place in inside],
            [soften(rows.targets[place], labels) for place in inside],
            epochs=self.epochs,
            lr=self.lr,
            seed=self.seed,
            weights=rows.weights[inside].tolist(),
        )
        if not out:
            return model, None, 0
        temperature = model.calibrate(
            [rows.inputs[place] for place in out], [soften(truth[place], labels) for place in out]
        )
        return model, float(temperature), len(out)


def _agree(anchors: _Anchors, said: Floats) -> _Anchors:
    """Where the new model chooses as the old one does: its distribution times the root of the old one's."""
    places = np.flatnonzero(said.argmax(axis=1) == anchors.targets.argmax(axis=1))
    both = said[places] * np.sqrt(anchors.targets[places])
    both /= np.maximum(both.sum(axis=1, keepdims=True), 1e-300)
    return _Anchors([anchors.inputs[place] for place in places], both, places)


def _logits(head: HeadKind, features: Any, weight: Any, bias: Any, keep: float) -> Floats:
    """A new head's logits, averaged with the old one's where there is one."""
    if head.old is not None and keep:
        weight, bias = (1.0 - keep) * weight + keep * head.old[0], (1.0 - keep) * bias + keep * head.old[1]
    logits: Floats = (features @ weight).astype(np.float64) + bias
    return logits


def _groups(inputs: Sequence[Any]) -> NDArray[np.intp]:
    """A number for each input, the same for equal ones."""
    names: dict[Any, int] = {}
    return np.array([names.setdefault(_identity(value), len(names)) for value in inputs], dtype=np.intp)


def _identity(value: Any) -> Any:
    """What makes two inputs the same: their value where it can be told, else the object."""
    if isinstance(value, Mapping):
        return tuple(sorted(((str(key), _identity(part)) for key, part in value.items()), key=lambda pair: pair[0]))
    if isinstance(value, (list, tuple)):
        return tuple(_identity(part) for part in value)
    content = getattr(value, "content", None)
    if isinstance(content, str):
        return content
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value
