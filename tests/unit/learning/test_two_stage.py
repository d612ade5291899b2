import json
import math

import numpy as np
import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_dsplus.learning.distiller import Distiller
from langchain_dsplus.learning.students import DistillableModel, make_student, refit
from langchain_dsplus.learning.targets import PaidAnswers, ask, ask_large, read_target, read_targets
from langchain_dsplus.learning.two_stage import TwoStageConfidenceDistillation
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.small_models.fake import FakeSmallModel
from langchain_dsplus.small_models.sentence import SentenceClassifier
from langchain_dsplus.small_models.sklearn import SklearnClassifier

pytest.importorskip("sklearn")
pytest.importorskip("threadpoolctl")

LABELS = ["a", "b", "c"]
CENTERS = {"a": (1.0, 0.0, 0.0), "b": (0.0, 1.0, 0.0), "c": (0.0, 0.0, 1.0)}


class Points:
    """An encoder that reads a point off the text; remembers how many texts it was asked about."""

    version = "points-1"

    def __init__(self):
        self.asked = 0

    def encode(self, texts):
        self.asked += len(texts)
        return np.array([[float(x) for x in text.split()] for text in texts])


def points(n, seed, spread=0.45):
    rng = np.random.default_rng(seed)
    labels = [LABELS[i] for i in rng.integers(0, 3, n)]
    texts = [" ".join(f"{x:.4f}" for x in np.array(CENTERS[c]) + rng.normal(0, spread, 3)) for c in labels]
    return texts, labels


def sentence(n=30, seed=0):
    return SentenceClassifier(Points(), labels=LABELS).fit(*points(n, seed))


def parse(rows):
    return np.array([[float(x) for x in row.split()] for row in rows])


def tables(n=30, seed=0, labels=LABELS):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    texts, gold = points(n, seed)
    kept = [(t, g) for t, g in zip(texts, gold, strict=True) if g in labels]
    pipeline = make_pipeline(FunctionTransformer(parse), LogisticRegression(C=10.0))
    return SklearnClassifier(pipeline.fit([t for t, _ in kept], [g for _, g in kept]))


def forest(n=60, seed=0):
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    pipeline = make_pipeline(FunctionTransformer(parse), RandomForestClassifier(20, random_state=0))
    return SklearnClassifier(pipeline.fit(*points(n, seed)))


def probabilities(model, texts):
    return np.asarray(model.predict_proba(texts))


def divergence(targets, rows):
    return float((targets * (np.log(np.maximum(targets, 1e-12)) - np.log(np.maximum(rows, 1e-12)))).sum(axis=1).mean())


class Steps(SentenceClassifier):
    """A kind of its own with `train_steps`: what a torch model offers."""

    def train_steps(self, inputs, soft_targets, *, epochs=1, lr=None, seed=0, weights=None):
        assert weights is None
        student = make_student(SentenceClassifier.clone(_as_plain(self)), inputs, lr=lr)
        targets, usable = read_targets(soft_targets, self.labels)
        assert usable.all()
        losses = [student.train(np.arange(len(inputs)), targets, seed=seed) for _ in range(epochs)]
        self._head = student.finish()._head
        self.set_version(None)
        entropy = -(targets * np.log(np.maximum(targets, 1e-12))).sum() / len(inputs)
        return [loss + float(entropy) for loss in losses]

    def calibrate(self, inputs, targets):
        assert len(inputs) == len(targets)
        return 1.0


def _as_plain(model):
    plain = SentenceClassifier(model.encoder, labels=model.labels)
    plain._head = model._head
    return plain


class Kind:
    """Only `clone` and `train_steps`."""

    labels = LABELS

    def __init__(self, inner):
        self.inner = inner

    def clone(self):
        return Kind(self.inner.clone())

    def answers(self, inputs):
        return self.inner.answers(inputs)

    def train_steps(self, inputs, soft_targets, *, epochs=1, lr=None, seed=0, weights=None):
        return self.inner.train_steps(inputs, soft_targets, epochs=epochs, lr=lr, seed=seed)


def kind():
    made = Steps(Points(), labels=LABELS)
    made.fit(*points(30, 0))
    return made


KINDS = {"sentence": sentence, "sklearn": tables, "forest": forest}


# --- Algorithm 1 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_the_sets_are_those_of_the_paper(name):
    small = KINDS[name]()
    texts, gold = points(200, 1)
    asked = []

    def large(text):
        asked.append(text)
        return {"a": 0.5, "b": 0.5} if len(asked) % 5 == 0 else gold[texts.index(text)]

    threshold = float(np.median(probabilities(small, texts).max(axis=1)))
    result = TwoStageConfidenceDistillation(small, threshold=threshold, rounds=2).distil(texts, large)
    confidence = np.array([answer["confidence"] for answer in small.batch(texts)])
    assert result.x1 == np.flatnonzero(confidence > threshold).tolist()
    assert result.x2 == np.flatnonzero(confidence <= threshold).tolist()
    assert asked == [texts[place] for place in result.x2]
    half = threshold < 0.5
    assert result.x3 == [place for i, place in enumerate(result.x2, 1) if half or i % 5]
    assert result.asked == len(result.x2)
    assert len(result.losses) == 2


def test_equal_to_the_threshold_is_not_sure():
    small = FakeSmallModel({t: {"a": 0.75, "b": 0.25} for t in ("x", "y")})
    distillation = TwoStageConfidenceDistillation(small, threshold=0.75)
    with pytest.raises(TypeError, match="DistillableModel"):
        distillation.distil(["x"], ["a"])
    sure = sentence()
    top = small.batch(["x"])[0]["confidence"]
    assert not top > distillation.small_threshold
    texts, _ = points(20, 3)
    equal = float(sure.batch(texts)[0]["confidence"])
    result = TwoStageConfidenceDistillation(sure, threshold=equal, rounds=1).distil(texts, ["a"] * 20)
    assert 0 in result.x2
    # C_l exactly at the threshold does not teach.
    said = [{"a": 0.75, "b": 0.25}] * 20
    assert not TwoStageConfidenceDistillation(sure, small_threshold=2.0, large_threshold=0.75).distil(texts, said).x3
    assert TwoStageConfidenceDistillation(sure, small_threshold=2.0, large_threshold=0.74).distil(texts, said).x3


@pytest.mark.parametrize("name", ["sentence", "sklearn"])
def test_it_approaches_both_teachers_and_leaves_the_specific_model_alone(name):
    small = KINDS[name](18)
    texts, gold = points(300, 1)
    before, version = probabilities(small, texts), small.version
    threshold = float(np.quantile(before.max(axis=1), 0.5))
    result = TwoStageConfidenceDistillation(small, threshold=threshold, rounds=60).distil(texts, gold)
    assert small.version == version
    np.testing.assert_array_equal(probabilities(small, texts), before)
    after = probabilities(result.model, texts)
    wanted = np.eye(3)[[LABELS.index(label) for label in gold]]
    assert divergence(wanted[result.x3], after[result.x3]) < divergence(wanted[result.x3], before[result.x3]) - 0.02
    first, last = result.losses[0], result.losses[-1]
    assert last[0] < first[0]
    # It stays closer to F_s1 on x1 than training without the second stage does.
    alone = make_student(small, [texts[place] for place in result.x3])
    for number in range(60):
        alone.train(np.arange(len(result.x3)), wanted[result.x3], seed=number)
    forgotten = probabilities(alone.finish(), texts)
    assert divergence(before[result.x1], after[result.x1]) < divergence(before[result.x1], forgotten[result.x1])


def test_gradient_steps_are_those_of_the_divergence():
    small = tables()
    texts, _ = points(16, 2)
    targets = np.random.default_rng(0).dirichlet(np.ones(3), 16)
    student = make_student(small, texts)
    weight, bias, x = student.weight.copy(), student.bias.copy(), student.features

    def loss(w, b):
        z = x @ w + b
        logs = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        return float((targets * (np.log(targets) - logs)).sum() / 16)

    assert student.train(np.arange(16), targets, seed=0) == pytest.approx(loss(weight, bias))
    step = (weight - student.weight) / student.rate
    numeric = np.zeros_like(weight)
    for place in np.ndindex(*weight.shape):
        up, down = weight.copy(), weight.copy()
        up[place] += 1e-6
        down[place] -= 1e-6
        numeric[place] = (loss(up, bias) - loss(down, bias)) / 2e-6
    np.testing.assert_allclose(step, numeric, atol=1e-6)


def test_the_copy_starts_as_the_specific_model():
    texts, _ = points(40, 4)
    for small in (sentence(), tables(), tables(labels=["a", "b"])):
        np.testing.assert_allclose(
            probabilities(make_student(small, texts).finish(), texts), probabilities(small, texts), atol=1e-6
        )


def test_two_classes_go_through_the_one_column_of_scikit_learn():
    small = tables(labels=["a", "b"])
    texts, gold = points(200, 5)
    result = TwoStageConfidenceDistillation(small, threshold=0.8, rounds=20).distil(
        texts, [label if label != "c" else None for label in gold]
    )
    assert result.model.estimator[-1].coef_.shape == (1, 3)
    kept = [place for place in result.x3 if gold[place] != "c"]
    assert kept
    wanted = np.eye(2)[[small.labels.index(gold[place]) for place in kept]]
    rows = [texts[place] for place in kept]
    assert divergence(wanted, probabilities(result.model, rows)) < divergence(wanted, probabilities(small, rows))


def test_with_nothing_to_learn_it_is_the_copy():
    small = sentence()
    texts, _ = points(20, 6)
    unsure = [None, *[{"a": 0.4, "b": 0.3, "c": 0.3}] * 19]
    result = TwoStageConfidenceDistillation(small, small_threshold=1.1, large_threshold=0.5).distil(texts, unsure)
    assert (result.x1, result.x3, result.unusable) == ([], [], 1)
    np.testing.assert_allclose(probabilities(result.model, texts), probabilities(small, texts), atol=1e-6)
    for nothing in (sentence(), tables(), forest()):
        assert TwoStageConfidenceDistillation(nothing, threshold=0.5).distil([], []).x1 == []


def test_one_stage_alone():
    texts, gold = points(60, 7)
    small = sentence()
    only_large = TwoStageConfidenceDistillation(small, small_threshold=1.1, large_threshold=0.5, rounds=2)
    result = only_large.distil(texts, gold)
    assert [loss[1] for loss in result.losses] == [None, None]
    only_small = TwoStageConfidenceDistillation(small, small_threshold=0.0, large_threshold=0.5, rounds=2)
    result = only_small.distil(texts, gold)
    assert result.asked == 0
    assert [loss[0] for loss in result.losses] == [None, None]


def test_calls_are_limited():
    texts, gold = points(60, 7)
    distillation = TwoStageConfidenceDistillation(sentence(), small_threshold=1.1, large_threshold=0.5, max_calls=10)
    assert distillation.distil(texts, gold).x3 == list(range(10))


def test_seeds():
    texts, gold = points(120, 8)

    def run(seed):
        return TwoStageConfidenceDistillation(sentence(), threshold=0.9, rounds=3, seed=seed).distil(texts, gold).model

    assert run(1).version == run(1).version
    assert run(1).version != run(2).version


def test_the_encoder_reads_each_text_once_for_all_rounds():
    small = sentence()
    texts, gold = points(50, 9)
    small.encoder.asked = 0
    TwoStageConfidenceDistillation(small, threshold=0.8, rounds=10).distil(texts, gold)
    assert small.encoder.asked == 100  # once to ask F_s1, once to train F_s2


def test_a_kind_of_its_own():
    small = kind()
    texts, gold = points(100, 1)
    wrapped = Kind(small)
    assert isinstance(wrapped, DistillableModel)
    student = make_student(wrapped, texts)
    targets = np.eye(3)[[LABELS.index(label) for label in gold]]
    first = student.train(np.arange(100), targets, seed=0)
    for number in range(20):
        last = student.train(np.arange(100), targets, seed=number)
    assert last < first
    assert first == pytest.approx(divergence(targets, probabilities(small, texts)), abs=0.2)


def test_progress_is_shown_on_stderr(capsys):
    texts, gold = points(30, 9)
    TwoStageConfidenceDistillation(sentence(), threshold=0.8, rounds=2, progress=True).distil(texts, gold)
    shown = capsys.readouterr()
    assert "distilling" in shown.err
    assert not shown.out


class Recorded:
    """A student that only remembers what it was shown."""

    rounds = 2

    def __init__(self, model, inputs, *, lr=None):
        del lr
        self.model, self.inputs, self.passes = model, list(inputs), []

    def train(self, places, targets, *, seed):
        del seed
        self.passes.append({self.inputs[place]: row.tolist() for place, row in zip(places, targets, strict=True)})
        assert len(self.passes[-1]) == len(places)
        return 0.0

    def end_round(self):
        self.passes.append("round")

    def finish(self):
        return self.model.clone()


def silent_on(small, texts):
    """The same small model, which cannot answer some texts."""
    plain, bad = small.answers, set(texts)

    class Silent(type(small)):
        def answers(self, inputs, configs=None):
            found = plain(inputs, configs)
            return [ValueError("no") if text in bad else one for text, one in zip(inputs, found, strict=True)]

    small.__class__ = Silent
    return small


@pytest.mark.parametrize("seed", range(12))
def test_each_round_is_a_pass_over_x3_and_a_pass_over_x1(seed, monkeypatch, caplog):
    rng = np.random.default_rng(seed)
    texts, gold = points(int(rng.integers(20, 80)), seed)
    small = sentence()
    confidence = probabilities(small, texts).max(axis=1)
    threshold = float(np.quantile(confidence, rng.uniform(0.1, 0.9)))
    failing = set(rng.choice(len(texts), int(rng.integers(0, 4)), replace=False).tolist())
    silent_on(small, [texts[place] for place in failing])
    made = []
    monkeypatch.setattr(
        "langchain_dsplus.learning.two_stage.make_student", lambda *a, **k: made.append(Recorded(*a, **k)) or made[-1]
    )
    answers = [label if rng.random() < 0.8 else {"a": 0.4, "b": 0.3, "c": 0.3} for label in gold]
    options = {"small_threshold": threshold, "large_threshold": 0.5, "rounds": int(rng.integers(1, 5)), "seed": seed}
    result = TwoStageConfidenceDistillation(small, **options).distil(texts, answers)
    fine = [place for place in range(len(texts)) if place not in failing]
    x1 = [place for place in fine if confidence[place] > threshold]
    x3 = [place for place in fine if confidence[place] <= threshold and isinstance(answers[place], str)]
    assert (result.x1, result.x3, result.failed) == (x1, x3, sorted(failing))
    assert sorted([*result.x1, *result.x2, *result.failed]) == list(range(len(texts)))
    assert result.asked == len(result.x2)
    stages = [
        {texts[place]: [float(label == gold[place]) for label in LABELS] for place in x3},
        {
            texts[place]: row
            for place, row in zip(x1, probabilities(small, [texts[n] for n in x1]).tolist(), strict=True)
        },
    ]
    wanted = [*(stage for stage in stages if stage), "round"] * options["rounds"]
    assert len(made[0].passes) == len(wanted)
    for found, stage in zip(made[0].passes, wanted, strict=True):
        if stage == "round":
            assert found == "round"
        else:
            assert found.keys() == stage.keys()
            for text, row in stage.items():
                assert found[text] == pytest.approx(row, abs=1e-6)
    said = [record.getMessage() for record in caplog.records if "could not answer" in record.getMessage()]
    assert said == (
        [f"the specific model could not answer {len(failing)} of {len(texts)} inputs: they teach nothing"]
        * bool(failing)
    )


def broken_answer(rng):
    secret = f"secret-{rng.integers(1000)}"
    return [
        None,
        ValueError(secret),
        secret,
        {"a": 0.7, "b": 0.7},
        {secret: 1.0},
        {"a": math.nan},
        7,
        AIMessage(""),
    ][int(rng.integers(8))]


@pytest.mark.parametrize("learner", ["two_stage", "distiller"])
@pytest.mark.parametrize("seed", range(8))
def test_a_broken_teacher_is_an_error(tmp_path, learner, seed):
    rng = np.random.default_rng(seed)
    texts, gold = points(40, 8)
    answers, mended = {text: broken_answer(rng) for text in texts}, dict(zip(texts, gold, strict=True))

    def large(text):
        if isinstance(answers[text], Exception):
            raise answers[text]
        return answers[text]

    def learn():
        if learner == "two_stage":
            made = TwoStageConfidenceDistillation(
                sentence(), small_threshold=0.9, large_threshold=0.5, rounds=1, checkpoint=tmp_path
            )
            return len(made.distil(texts, RunnableLambda(large)).x3)
        made = Distiller(sentence())
        return made.learn(
            texts, RunnableLambda(large), list(zip(*points(30, 0), strict=True)), budget=10, checkpoint=tmp_path
        ).n_large

    with pytest.raises(ValueError, match="`large` gave no usable answer") as caught:
        learn()
    assert "secret" not in str(caught.value)
    # Mended, it is asked anew: nothing that it said before was kept.
    answers = mended
    assert learn() > 0


def test_a_specific_model_that_answers_nothing_is_an_error():
    texts, gold = points(10, 3)
    small = silent_on(sentence(), texts)
    with pytest.raises(ValueError, match="`specific` answered none of the 10 inputs"):
        TwoStageConfidenceDistillation(small, threshold=0.5).distil(texts, gold)


# --- checkpoints --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_resume_gives_the_same_model_and_pays_once(tmp_path, name):
    texts, gold = points(120, 8)
    asked = []

    def large(text):
        asked.append(text)
        return gold[texts.index(text)]

    whole = TwoStageConfidenceDistillation(KINDS[name](), threshold=0.9, rounds=4).distil(texts, gold)
    options = {"threshold": 0.9, "checkpoint": tmp_path / "state"}
    TwoStageConfidenceDistillation(KINDS[name](), rounds=2, **options).distil(texts, large)
    paid = len(asked)
    resumed = TwoStageConfidenceDistillation(KINDS[name](), rounds=4, **options).distil(texts, large)
    assert len(asked) == paid > 0
    np.testing.assert_allclose(probabilities(resumed.model, texts), probabilities(whole.model, texts), atol=1e-9)
    np.testing.assert_allclose(resumed.losses, whole.losses, atol=1e-9)
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["round-4", "state.json"]


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    texts, gold = points(60, 8)
    distillation = TwoStageConfidenceDistillation(sentence(), threshold=0.9, rounds=4, checkpoint=tmp_path)
    from langchain_dsplus.learning import students

    plain, calls = students._HeadStudent.train, []

    def failing(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(students._HeadStudent, "train", failing)
    with pytest.raises(KeyboardInterrupt):
        distillation.distil(texts, gold)
    assert json.loads((tmp_path / "state.json").read_text())["round"] == 2
    resumed = distillation.distil(texts, gold)
    monkeypatch.undo()
    whole = TwoStageConfidenceDistillation(sentence(), threshold=0.9, rounds=4).distil(texts, gold)
    np.testing.assert_allclose(probabilities(resumed.model, texts), probabilities(whole.model, texts), atol=1e-9)


@pytest.mark.parametrize("kind", ["callable", "runnable"])
def test_answers_of_an_interrupted_batch_are_kept(tmp_path, kind):
    texts, gold = points(120, 8)
    asked, failing = [], [True]

    def large(text):
        if failing[0] and len(asked) == 5:
            raise KeyboardInterrupt
        asked.append(text)
        return None if len(asked) == 1 else gold[texts.index(text)]

    model = large if kind == "callable" else RunnableLambda(large).with_config(max_concurrency=1)
    options = {"threshold": 0.9, "rounds": 2, "checkpoint": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        TwoStageConfidenceDistillation(sentence(), **options).distil(texts, model)
    kept = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()][1:]
    assert {texts[row["place"]] for row in kept} == set(asked)
    failing[0] = False
    result = TwoStageConfidenceDistillation(sentence(), **options).distil(texts, model)
    assert len(asked) == len(set(asked)) == result.asked > 5
    assert result.unusable == 1  # the first answer was None: paid for, and teaches nothing
    assert not (tmp_path / "answers.jsonl").exists()  # the state holds them now
    again = len(asked)
    TwoStageConfidenceDistillation(sentence(), **options).distil(texts, model)
    assert len(asked) == again


def test_a_failed_answer_is_no_paid_one(tmp_path):
    failing = [True]

    def large(text):
        if failing[0] and text == "y":
            msg = "overloaded"
            raise RuntimeError(msg)
        return "a"

    paid = PaidAnswers(tmp_path / "answers.jsonl", "k", LABELS)
    first = ask_large(RunnableLambda(large), ["x", "y", "z"], [0, 1, 2], paid)
    assert isinstance(first[1], RuntimeError)
    failing[0] = False
    again = ask_large(RunnableLambda(large), ["x", "y", "z"], [1, 2], PaidAnswers(paid.path, "k", LABELS))
    assert again == [{"a": 1.0}, {"a": 1.0}]


def test_a_torn_line_is_dropped_and_a_foreign_file_refused(tmp_path):
    path = tmp_path / "deep" / "answers.jsonl"
    paid = PaidAnswers(path, "k", LABELS)
    paid.keep(3, "b")
    paid.keep(5, None)
    body = path.read_bytes()
    path.write_bytes(body + b'{"place": 7, "ans')
    again = PaidAnswers(path, "k", LABELS)
    assert (3 in again, 5 in again, 7 in again, len(again)) == (True, True, False, 2)
    assert (again[3], again[5]) == ({"b": 1.0}, None)
    again.keep(7, {"a": 0.5, "c": 0.5})
    assert PaidAnswers(path, "k", LABELS)[7] == {"a": 0.5, "c": 0.5}
    with pytest.raises(ValueError, match="other inputs or labels"):
        PaidAnswers(path, "other", LABELS)
    path.write_bytes(b"[1]\n")
    with pytest.raises(ValueError, match="damaged"):
        PaidAnswers(path, "k", LABELS)
    path.write_bytes(b'{"key": "k"')  # cut off before the first answer
    assert len(PaidAnswers(path, "k", LABELS)) == 0


def test_heads_make_many_small_rounds_by_default():
    texts, gold = points(60, 8)
    assert len(TwoStageConfidenceDistillation(sentence(), threshold=0.9).distil(texts, gold).losses) == 100
    assert len(TwoStageConfidenceDistillation(forest(), threshold=0.9).distil(texts, gold).losses) == 10


# --- inference ----------------------------------------------------------------------------------------------------


def test_specific_then_learnable_then_large():
    specific = SentenceClassifier(Points(), labels=LABELS, name="specific").fit(*points(18, 0))
    pool, said = points(400, 1)
    result = TwoStageConfidenceDistillation(specific, threshold=0.8).distil(pool, said)
    learnable = result.model.model_copy(update={"name": "learnable"})
    assert learnable.version != specific.version
    asked = []

    def answer(text: str) -> AIMessage:
        asked.append(text)
        return AIMessage("a")

    texts, _ = points(300, 2)
    thresholds = {"specific": 0.9, "learnable": 0.7}
    router = ConfidenceRouter(
        small=[specific, learnable], large=RunnableLambda(answer), threshold=thresholds, include_route=True
    )
    assert router.small_names == ["specific", "learnable"]
    first, second = probabilities(specific, texts), probabilities(learnable, texts)
    wanted = [
        "specific" if a.max() > 0.9 else "learnable" if b.max() > 0.7 else "large"
        for a, b in zip(first, second, strict=True)
    ]
    assert min(wanted.count(name) for name in ("specific", "learnable", "large")) >= 10
    found = router.batch(texts)
    assert [item["route"]["model"] for item in found] == wanted
    assert sorted(asked) == sorted(text for text, name in zip(texts, wanted, strict=True) if name == "large")
    for item, a, b, name in zip(found, first, second, wanted, strict=True):
        route, rows = item["route"], {"specific": a, "learnable": b}
        assert route["accepted"] == (name != "large")
        # The learnable one is asked only where the specific one is unsure; the threshold is that of the last asked.
        assert len(route["answers"]) == (1 if name == "specific" else 2)
        assert route["threshold"] == (0.9 if name == "specific" else 0.7)
        if name != "large":
            assert item["output"].content == LABELS[int(rows[name].argmax())]
    # Of the inputs that the specific one escalates, the pair keeps those that the large model taught.
    assert wanted.count("learnable") > 0
    # Thresholds follow names, not order; a list follows order; a name that is missing is an error.
    turned = ConfidenceRouter(
        small=[learnable, specific], large=RunnableLambda(answer), threshold=thresholds, include_route=True
    )
    assert [i["route"]["model"] for i in turned.batch(texts)] == [
        "learnable" if b.max() > 0.7 else "specific" if a.max() > 0.9 else "large"
        for a, b in zip(first, second, strict=True)
    ]
    listed = ConfidenceRouter(
        small=[specific, learnable], large=RunnableLambda(answer), threshold=[0.9, 0.7], include_route=True
    )
    assert [i["route"]["model"] for i in listed.batch(texts)] == wanted
    with pytest.raises(ValueError, match="name every small model"):
        ConfidenceRouter(small=[specific, learnable], large=RunnableLambda(answer), threshold={"specific": 0.9})


def test_a_pair_of_one_name_is_numbered():
    def large(text: str) -> AIMessage:
        return AIMessage("a")

    specific = sentence()
    pool, said = points(100, 1)
    learnable = TwoStageConfidenceDistillation(specific, threshold=0.8, rounds=5).distil(pool, said).model
    router = ConfidenceRouter(
        small=[specific, learnable],
        large=RunnableLambda(large),
        threshold={"small": 1.0, "small_2": 0},
    )
    assert router.small_names == ["small", "small_2"]
    assert router.invoke(pool[0]).response_metadata["dsplus"]["model"] == "small_2"


def test_a_foreign_or_damaged_checkpoint_is_refused(tmp_path):
    texts, gold = points(40, 8)
    TwoStageConfidenceDistillation(sentence(), threshold=0.9, rounds=2, checkpoint=tmp_path).distil(texts, gold)
    for other in (
        TwoStageConfidenceDistillation(sentence(), threshold=0.8, rounds=2, checkpoint=tmp_path),
        TwoStageConfidenceDistillation(sentence(), threshold=0.9, rounds=2, seed=5, checkpoint=tmp_path),
        TwoStageConfidenceDistillation(sentence(), threshold=0.9, rounds=1, checkpoint=tmp_path),
        TwoStageConfidenceDistillation(sentence(seed=3), threshold=0.9, rounds=2, checkpoint=tmp_path),
    ):
        with pytest.raises(ValueError, match="belongs to other inputs"):
            other.distil(texts, gold)
    same = TwoStageConfidenceDistillation(sentence(), threshold=0.9, rounds=2, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="belongs to other inputs"):
        same.distil(texts[::-1], gold)
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        same.distil(texts, gold)


# --- arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "`threshold` is missing"),
        ({"small_threshold": 0.5}, "`threshold` is missing"),
        ({"threshold": math.nan}, "finite"),
        ({"threshold": 0.5, "rounds": 0}, "`rounds`"),
        ({"threshold": 0.5, "lr": 0.0}, "`lr`"),
        ({"threshold": 0.5, "max_calls": -1}, "`max_calls`"),
    ],
)
def test_bad_arguments(options, match):
    with pytest.raises(ValueError, match=match):
        TwoStageConfidenceDistillation(sentence(), **options)


def test_as_many_answers_as_inputs():
    with pytest.raises(ValueError, match="`large` has 1 answers"):
        TwoStageConfidenceDistillation(sentence(), threshold=0.5).distil(["1 0 0", "0 1 0"], ["a"])


# --- what a teacher says ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "row"),
    [
        ("a", [1, 0, 0]),
        ("Label: A", [1, 0, 0]),
        (AIMessage("b"), [0, 1, 0]),
        ({"a": 0.5, "c": 0.5}, [0.5, 0, 0.5]),
        ({"a": 0.6, "other": 0.4}, [1, 0, 0]),
        ({"choice": "b", "probabilities": {"a": 0.25, "b": 0.75}, "confidence": 0.75}, [0.25, 0.75, 0]),
        ({"choice": "b", "probabilities": {}, "confidence": 1.0}, [0, 1, 0]),
        ({"a": 0.3, "other": 0.7}, None),
        ({"a": 0.3, "b": 0.3}, None),
        ({"a": math.nan, "b": 0.5}, None),
        ({"a": -0.5, "b": 1.5}, None),
        ({"a": "x"}, None),
        ("no such thing", None),
        (None, None),
        (ValueError("failed"), None),
        (7, None),
    ],
)
def test_targets(value, row):
    found = read_target(value, LABELS)
    assert (found is None) if row is None else found == pytest.approx(row)


def test_a_runnable_is_asked_in_one_batch_and_may_fail():
    batches = []

    def answer(text):
        batches.append(text)
        if text == "bad":
            msg = "no"
            raise RuntimeError(msg)
        return "a"

    found = ask_large(RunnableLambda(answer), ["x", "bad", "y"], [1, 2])
    assert isinstance(found[0], RuntimeError)
    assert found[1] == "a"
    assert sorted(batches) == ["bad", "y"]
    assert ask_large(RunnableLambda(answer), ["x"], []) == []


def test_what_the_small_model_cannot_answer_is_in_neither_set():
    small = FakeSmallModel({"x": {"a": 0.9, "b": 0.1}})
    rows, confidence, answered = ask(small, ["x", "y"])
    assert answered.tolist() == [True, False]
    assert confidence[1] == -math.inf
    assert rows[1].tolist() == [0, 0]


# --- fitting anew -------------------------------------------------------------------------------------------------


def test_refit_on_soft_targets_is_the_soft_cross_entropy():
    from sklearn.linear_model import LogisticRegression

    from langchain_dsplus.small_models.softmax import fit_softmax

    texts, gold = points(80, 3)
    x = parse(texts)
    targets = np.random.default_rng(1).dirichlet(np.ones(3), 80)
    targets = np.where(targets < 0.02, 0.0, targets)
    targets /= targets.sum(axis=1, keepdims=True)
    small = SklearnClassifier(LogisticRegression(C=1.0, tol=1e-8, max_iter=2000).fit(x, gold))
    weights = np.random.default_rng(2).uniform(0.5, 2.0, 80)
    copy = refit(small, list(x), targets, weights)
    w, b = fit_softmax(x, targets, weights, l2=1.0)
    z = x @ w + b
    wanted = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(copy.predict_proba(list(x)), wanted, atol=5e-3)
    assert copy.version != small.version


def test_refit_keeps_the_classes_and_says_what_it_cannot_do():
    small = forest()
    texts, _ = points(30, 3)
    copy = refit(small, texts, np.tile([1.0, 0.0, 0.0], (30, 1)))
    assert copy.labels == LABELS
    assert probabilities(copy, texts).shape == (30, 3)
    assert probabilities(copy, texts)[:, 0].mean() > 0.95
    with pytest.raises(ValueError, match="nothing to fit"):
        refit(small, texts, np.eye(3)[[0] * 30], np.zeros(30))

    class Own:
        classes_ = LABELS

        def predict_proba(self, rows):
            return np.full((len(rows), 3), 1 / 3)

    with pytest.raises(TypeError, match="no scikit-learn estimator"):
        refit(SklearnClassifier(Own()), texts, np.eye(3)[[0] * 30])
