import numpy as np
import pytest

from langchain_dsplus.learning.distiller import Distiller
from langchain_dsplus.small_models.fake import FakeSmallModel
from langchain_dsplus.small_models.sentence import SentenceClassifier
from langchain_dsplus.small_models.sklearn import SklearnClassifier

pytest.importorskip("sklearn")
pytest.importorskip("threadpoolctl")

LABELS = ["a", "b", "c"]
CENTERS = {"a": (1.0, 0.0, 0.0), "b": (0.0, 1.0, 0.0), "c": (0.0, 0.0, 1.0)}


class Points:
    version = "points-1"

    def encode(self, texts):
        return np.array([[float(x) for x in text.split()] for text in texts]).reshape(len(texts), 3)


def points(n, seed, spread=0.4):
    rng = np.random.default_rng(seed)
    labels = [LABELS[i] for i in rng.integers(0, 3, n)]
    texts = [" ".join(f"{x:.4f}" for x in np.array(CENTERS[c]) + rng.normal(0, spread, 3)) for c in labels]
    return texts, labels


def parse(rows):
    return np.array([[float(x) for x in row.split()] for row in rows])


def sentence(gold):
    return SentenceClassifier(Points(), labels=LABELS).fit([t for t, _ in gold], [g for _, g in gold])


def linear(gold):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    pipeline = make_pipeline(FunctionTransformer(parse), LogisticRegression(C=10.0))
    return SklearnClassifier(pipeline.fit([t for t, _ in gold], [g for _, g in gold]))


def trees(gold):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.tree import DecisionTreeClassifier

    pipeline = make_pipeline(FunctionTransformer(parse), DecisionTreeClassifier(max_depth=4, random_state=0))
    return SklearnClassifier(pipeline.fit([t for t, _ in gold], [g for _, g in gold]))


class Kind:
    labels = LABELS

    def __init__(self, log, temperature=1.0):
        self.log, self.temperature = log, temperature
        self.model = FakeSmallModel(lambda text: {"a": 1.0}, labels=LABELS)

    def clone(self):
        return Kind(self.log)

    def answers(self, inputs):
        return self.model.answers(inputs)

    def train_steps(self, inputs, soft_targets, *, epochs=1, lr=None, seed=0, weights=None):
        self.log.append((list(inputs), list(soft_targets), epochs, lr, weights))
        return [0.0] * epochs

    def calibrate(self, inputs, targets):
        self.log.append((list(inputs), list(targets)))
        return 1.5


def gold_rows(n=12, seed=0):
    return list(zip(*points(n, seed), strict=True))


def accuracy(model, seed=99):
    texts, labels = points(600, seed)
    return np.mean([a["choice"] == label for a, label in zip(model.batch(texts), labels, strict=True)])


@pytest.mark.parametrize("make", [sentence, linear, trees])
def test_it_learns_from_the_large_model_and_leaves_the_old_one_alone(make):
    gold = gold_rows()
    small = make(gold)
    before, version = accuracy(small), small.version
    texts, said = points(200, 1)
    result = Distiller(small).distil(gold, list(zip(texts, said, strict=True)))
    assert small.version == version
    assert accuracy(small) == before
    assert accuracy(result.model) >= before + 0.02
    assert (result.n_gold, result.n_large, result.n_anchors) == (12, 200, 0)
    assert result.model.labels == small.labels


def test_confidence_is_honest_after_training():
    gold = gold_rows(60)
    small = sentence(gold)
    texts, labels = points(300, 1, spread=0.7)
    audits = list(zip(texts, labels, strict=True))
    result = Distiller(small).distil(gold, [], audits=audits)
    assert result.n_calibration >= 150
    assert result.temperature > 0
    new, truth = points(800, 5, spread=0.7)
    answers = result.model.batch(new)
    right = np.mean([a["choice"] == t for a, t in zip(answers, truth, strict=True)])
    assert np.mean([a["confidence"] for a in answers]) == pytest.approx(right, abs=0.06)


def test_part_of_the_old_head_is_kept():
    gold = gold_rows(30)
    small = sentence(gold)
    texts, labels = points(200, 1, spread=0.2)
    rows = list(zip(texts, labels, strict=True))
    old = np.log(small.predict_proba(texts))
    new = np.log(Distiller(small, keep=0.0, large_error=0.0).distil(gold, rows).model.predict_proba(texts))
    both = np.log(Distiller(small, keep=0.25, large_error=0.0).distil(gold, rows).model.predict_proba(texts))

    def gaps(logs):
        return logs[:, 1:] - logs[:, :1]

    np.testing.assert_allclose(gaps(both), 0.75 * gaps(new) + 0.25 * gaps(old), atol=1e-4)


def test_hard_rows_do_not_calibrate():
    gold = gold_rows(60)
    texts, labels = points(100, 1)
    result = Distiller(sentence(gold)).distil(gold, list(zip(texts, labels, strict=True)))
    assert result.n_calibration <= 60


def test_a_pipelines_vocabulary_grows():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    gold = [("card lost", "lost"), ("lost my card", "lost"), ("pin forgotten", "pin"), ("new pin", "pin")]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10.0))
    small = SklearnClassifier(pipeline.fit([t for t, _ in gold], [g for _, g in gold]))
    result = Distiller(small).distil(gold, [("it vanished", "lost"), ("code unknown", "pin")])
    assert result.model.invoke("vanished")["probabilities"]["lost"] > 0.6
    assert "vanished" not in small.estimator[0].vocabulary_
    assert result.temperature == 1.0  # too few rows to fit one


def test_the_model_can_be_saved_and_loaded(tmp_path):
    pytest.importorskip("skops")
    gold = gold_rows(30)
    texts, said = points(60, 1)
    result = Distiller(linear_plain(gold)).distil(
        [(parse([t])[0].tolist(), g) for t, g in gold],
        [(parse([t])[0].tolist(), s) for t, s in zip(texts, said, strict=True)],
    )
    result.model.save(tmp_path / "m")
    loaded = SklearnClassifier.load(tmp_path / "m")
    rows = parse(texts).tolist()
    np.testing.assert_allclose(loaded.predict_proba(rows), result.model.predict_proba(rows))
    assert loaded.version == result.model.version


def linear_plain(gold):
    from sklearn.linear_model import LogisticRegression

    return SklearnClassifier(LogisticRegression(C=10.0).fit(parse([t for t, _ in gold]), [g for _, g in gold]))


def test_gold_overrules_and_slips_are_counted():
    gold = gold_rows()
    texts, _ = points(3, 1)
    large = [(gold[0][0], "b"), (texts[0], "nonsense"), (texts[1], None), (texts[2], "a")]
    result = Distiller(sentence(gold)).distil(gold, large)
    assert (result.n_large, result.unusable, result.overruled) == (1, 2, 1)


def test_anchors_are_what_the_new_model_does_not_contradict():
    gold = gold_rows(60)
    small = sentence(gold)
    unlabeled, _ = points(40, 2, spread=0.2)
    texts, labels = points(200, 3, spread=0.2)
    agreeing = list(zip(texts, labels, strict=True))
    kept = Distiller(small).distil(gold, agreeing, unlabeled=unlabeled)
    assert kept.n_anchors >= 36
    assert kept.n_anchors + kept.contradicted == 40
    # A large model that calls every "a" a "b": what the old model calls "a" is no anchor.
    choices = [answer["choice"] for answer in small.batch(unlabeled)]
    turned = [(text, "b" if label == "a" else label) for text, label in agreeing]
    against = Distiller(small, large_weight=5.0, large_error=0.0, keep=0.0).distil(gold, turned, unlabeled=unlabeled)
    assert against.contradicted >= choices.count("a") - 2 > 0
    assert Distiller(small, anchor_weight=0.0).distil(gold, agreeing, unlabeled=unlabeled).n_anchors == 0


@pytest.mark.parametrize("make", [linear, trees])
def test_anchors_of_other_kinds(make):
    gold = gold_rows(60)
    texts, labels = points(100, 3, spread=0.2)
    unlabeled, _ = points(40, 2, spread=0.2)
    result = Distiller(make(gold)).distil(gold, list(zip(texts, labels, strict=True)), unlabeled=unlabeled)
    assert 30 <= result.n_anchors <= 40
    assert result.n_anchors + result.contradicted == 40


def test_there_are_no_more_anchors_than_other_rows():
    gold = gold_rows(20)
    unlabeled, _ = points(300, 2)
    result = Distiller(sentence(gold)).distil(gold, [], unlabeled=unlabeled)
    assert result.n_anchors + result.contradicted == 20


def test_an_input_that_was_answered_is_no_anchor():
    gold = gold_rows(20)
    asked, said = points(5, 2)
    result = Distiller(sentence(gold)).distil(
        gold, list(zip(asked, said, strict=True)), unlabeled=[*asked, gold[0][0], {"no": "text"}]
    )
    assert result.n_anchors == 0


def test_dict_inputs_and_mappings_of_gold():
    gold = gold_rows(30)
    small = SentenceClassifier(Points(), labels=LABELS, input_key="q").fit([t for t, _ in gold], [g for _, g in gold])
    texts, said = points(20, 1)
    rows = [{"input": {"q": text}, "gold": label} for text, label in gold]
    result = Distiller(small).distil(rows, [({"q": t}, s) for t, s in [*zip(texts, said, strict=True), gold[0]]])
    assert (result.n_large, result.overruled) == (20, 1)


def test_models_with_train_steps_go_on_from_where_they_are():
    log = []
    gold = [(str(i), "a") for i in range(100)]
    distiller = Distiller(Kind(log), epochs=4, lr=0.1, large_weight=0.25)
    result = distiller.distil(gold, [("x", {"b": 1.0})], audits=[("y", "c")])
    (inputs, targets, epochs, lr, weights), (held, _) = log
    assert (epochs, lr) == (4, 0.1)
    assert len(held) == 20
    assert not set(held) & set(inputs)
    assert targets[inputs.index("x")] == pytest.approx({"a": 0.15, "b": 0.85})
    assert weights[inputs.index("x")] == 0.25
    assert (result.temperature, result.n_calibration) == (1.5, 20)
    few = Distiller(Kind([])).distil(gold[:5], [])
    assert (few.temperature, few.n_calibration) == (None, 0)


def test_learn_keeps_to_the_budget_and_never_asks_twice():
    gold = gold_rows()
    small = sentence(gold)
    texts, truth = points(300, 4)
    asked = []

    def large(text):
        asked.append(text)
        return truth[texts.index(text)]

    result = Distiller(small).learn(texts, large, gold, budget=61)
    assert len(asked) == len(set(asked)) == 61
    assert result.n_large == 61
    assert accuracy(result.model) > accuracy(small)
    again = Distiller(small).learn(texts, truth, gold, budget=61)
    assert again.model.version == result.model.version


def test_acquire_draws_at_random_within_the_budget():
    texts, _ = points(50, 4)
    small = sentence(gold_rows())
    drawn = [Distiller(small, seed=seed).acquire(texts, 10, exclude=[0]) for seed in range(60)]
    assert all(len(set(places)) == 10 and 0 not in places for places in drawn)
    counts = np.bincount([place for places in drawn for place in places], minlength=50)
    assert counts[0] == 0
    assert 3 <= counts[1:].min() <= counts[1:].max() <= 26  # 12.2 each; beyond 4 standard deviations
    assert drawn[0] == Distiller(small).acquire(texts, 10, exclude=[0])
    assert sorted(Distiller(small).acquire(texts, 99)) == list(range(50))
    assert Distiller(small).acquire([], 3) == []
    with pytest.raises(ValueError, match="`budget`"):
        Distiller(small).acquire(texts, -1)


@pytest.mark.parametrize(
    "options",
    [
        {"large_weight": 0.0},
        {"caution": 1.0},
        {"anchor_weight": -1.0},
        {"epochs": 0},
        {"keep": 1.0},
        {"large_error": 1.0},
        {"large_threshold": 1.0},
        {"name_weight": float("nan")},
    ],
)
def test_bad_arguments(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"`{name}`"):
        Distiller(sentence(gold_rows()), **options)


def test_bad_rows():
    small = sentence(gold_rows())
    with pytest.raises(ValueError, match="nothing to learn"):
        Distiller(small).distil([], [])
    with pytest.raises(ValueError, match="`gold`: row 1, column 'gold': 1 of 1 values of gold are none of the labels"):
        Distiller(small).distil([("1 0 0", "zzz")], [])
    with pytest.raises(TypeError, match="DistillableModel"):
        Distiller(FakeSmallModel({"x": {"a": 1.0}})).distil([("x", "a")], [])


# --- doubt ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [sentence, linear])
def test_a_large_model_with_a_habit_is_corrected(make):
    gold = gold_rows(40)
    small = make(gold)
    texts, truth = points(300, 6, spread=0.25)
    rng = np.random.default_rng(0)
    said = ["b" if label == "a" and rng.random() < 0.6 else label for label in truth]
    rows = list(zip(texts, said, strict=True))
    believing = Distiller(small, large_error=0.0, large_weight=2.0).distil(gold, rows)
    doubting = Distiller(small, large_weight=2.0).distil(gold, rows)
    wrong = sum(a != b for a, b in zip(said, truth, strict=True))
    assert believing.doubted == 0
    assert 0.3 * wrong < doubting.doubted < 1.4 * wrong
    assert accuracy(doubting.model) > accuracy(believing.model) + 0.02


def test_answers_on_gold_rows_show_how_the_large_model_errs():
    gold = gold_rows(60, seed=3)
    small = sentence(gold_rows(9))
    texts, truth = points(100, 6)
    habit = {"a": "b", "b": "b", "c": "c"}
    rows = [(text, habit[label]) for text, label in zip(texts, truth, strict=True)]
    known = [(text, habit[label]) for text, label in gold]
    blind = Distiller(small).distil(gold, rows)
    seeing = Distiller(small).distil(gold, [*rows, *known])
    assert seeing.overruled == 60
    assert seeing.n_large == blind.n_large == 100
    assert seeing.doubted > blind.doubted


def test_answers_that_the_large_model_is_not_sure_of_are_dropped():
    gold = gold_rows(20)
    texts, _ = points(4, 6)
    said = [{"a": 0.5, "b": 0.5}, {"a": 0.6, "b": 0.4}, {"choice": "c", "probabilities": {}, "confidence": 1.0}, "b"]
    rows = list(zip(texts, said, strict=True))
    result = Distiller(sentence(gold)).distil(gold, rows)
    assert (result.n_large, result.unsure, result.unusable) == (3, 1, 0)
    strict = Distiller(sentence(gold), large_threshold=0.9).distil(
        gold, rows, audits=[(gold[0][0], {"a": 0.8, "b": 0.2})]
    )
    assert (strict.n_large, strict.unsure, strict.overruled) == (2, 2, 1)
    every = Distiller(sentence(gold), large_threshold=0.0).distil(gold, rows)
    assert (every.n_large, every.unsure) == (4, 0)


# --- names of labels ------------------------------------------------------------------------------------------------


class Words:
    """Counts of letters: an encoder that reads any text."""

    version = "words-1"

    def __init__(self):
        self.read = []

    def encode(self, texts):
        self.read += texts
        return np.array([[text.count(letter) for letter in "abcdefghijklmnop"] for text in texts], dtype=float)


def test_the_names_of_the_labels_teach():
    labels = ["lost_card", "pin-code", "NewAccount", "n/a", "42"]
    gold = [("where is it", "lost_card"), ("hi", "pin-code"), ("go", "NewAccount"), ("mmm", "n/a"), ("x", "42")]
    small = SentenceClassifier(Words(), labels=labels).fit([t for t, _ in gold], [g for _, g in gold])
    result = Distiller(small).distil(gold, [])
    assert (result.n_names, result.n_gold) == (3, 5)
    assert {"lost card", "pin code", "New Account"} < set(small.encoder.read)
    assert result.model.invoke("lost card")["choice"] == "lost_card"
    without = Distiller(small, name_weight=0.0).distil(gold, [])
    assert without.n_names == 0
    gap = [m.invoke("pin code")["probabilities"]["pin-code"] for m in (result.model, without.model)]
    assert gap[0] > gap[1]


def test_names_go_in_by_the_input_key_and_only_where_texts_are_read():
    gold = [({"q": "where is it"}, "lost card"), ({"q": "hi"}, "pin code")] * 3
    small = SentenceClassifier(Words(), labels=["lost card", "pin code"], input_key="q")
    small.fit([row["q"] for row, _ in gold], [g for _, g in gold])
    assert Distiller(small).distil(gold, []).n_names == 2
    from sklearn.linear_model import LogisticRegression

    rows = [[0.0, 1.0], [1.0, 0.0]] * 3
    table = SklearnClassifier(LogisticRegression().fit(rows, ["lost", "found"] * 3))
    assert Distiller(table).distil(list(zip(rows, ["lost", "found"] * 3, strict=True)), []).n_names == 0
    # A pipeline that cannot read a name is left alone with it.
    pipeline = linear([(text, {"a": "apple", "b": "berry", "c": "cherry"}[g]) for text, g in gold_rows()])
    named = [(text, {"a": "apple", "b": "berry", "c": "cherry"}[g]) for text, g in gold_rows()]
    assert Distiller(pipeline).distil(named, []).n_names == 0


# --- answers that are paid for --------------------------------------------------------------------------------------


def test_an_interrupted_learn_pays_for_no_answer_twice(tmp_path):
    gold = gold_rows()
    texts, truth = points(120, 4)
    asked = []

    def large(text):
        if len(asked) == 25:
            asked.append(None)
            raise KeyboardInterrupt
        asked.append(text)
        return truth[texts.index(text)]

    options = {"budget": 40, "checkpoint": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        Distiller(sentence(gold)).learn(texts, large, gold, **options)
    result = Distiller(sentence(gold)).learn(texts, large, gold, **options)
    asked.remove(None)
    assert len(asked) == len(set(asked)) == result.n_large == 40
    whole = Distiller(sentence(gold)).learn(texts, truth, gold, budget=40)
    assert result.model.version == whole.model.version
    with pytest.raises(ValueError, match="other inputs"):
        Distiller(sentence(gold)).learn(texts[1:], large, gold, **options)


def test_gold_that_came_for_an_audit_calibrates():
    """Where people label the audits on which the models disagree, calibration must not see the others alone."""
    gold = gold_rows(60)
    small = sentence(gold)
    texts, labels = points(400, 1, spread=0.9)
    choices = [answer["choice"] for answer in small.batch(texts)]
    audits = list(zip(texts, labels, strict=True))
    corrected = [row for row, choice in zip(audits, choices, strict=True) if row[1] != choice]
    assert len(corrected) > 60
    result = Distiller(small).distil([*gold, *corrected], [], audits=audits)
    assert result.n_calibration > 200
    new, truth = points(1500, 5, spread=0.9)
    answers = result.model.batch(new)
    right = np.mean([a["choice"] == t for a, t in zip(answers, truth, strict=True)])
    assert np.mean([a["confidence"] for a in answers]) == pytest.approx(right, abs=0.06)
