import io
import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from langchain_dsplus.small_models.base import UNVERIFIABLE
from langchain_dsplus.small_models.files import checksum
from langchain_dsplus.small_models.sklearn import SklearnClassifier

pytest.importorskip("sklearn")

from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

TEXTS = [
    "good phone",
    "great sound",
    "love this",
    "works well",
    "nice and quick",
    "bad phone",
    "poor sound",
    "hate this",
    "broke soon",
    "slow and dull",
]
LABELS = ["pos"] * 5 + ["neg"] * 5
TABLE = np.random.default_rng(0).normal(size=(40, 3))
SIGNS = np.where(TABLE[:, 0] + TABLE[:, 1] > 0, "yes", "no")


def pipeline(**options):
    return make_pipeline(TfidfVectorizer(**options), LogisticRegression()).fit(TEXTS, LABELS)


MODELS = {
    "tfidf": lambda: pipeline(),
    "stop words": lambda: pipeline(stop_words=["and", "this"], ngram_range=(1, 2)),
    "naive bayes": lambda: make_pipeline(CountVectorizer(), MultinomialNB()).fit(TEXTS, LABELS),
    "scaled": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(TABLE, SIGNS),
    "forest": lambda: RandomForestClassifier(5, random_state=0, n_jobs=1).fit(TABLE, SIGNS),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=3, random_state=0).fit(TABLE, SIGNS),
    "hist": lambda: HistGradientBoostingClassifier(max_iter=3, random_state=0).fit(TABLE, SIGNS),
    "neighbors": lambda: KNeighborsClassifier(3).fit(TABLE, SIGNS),
    "mlp": lambda: MLPClassifier((4,), max_iter=2000, random_state=0).fit(TABLE, SIGNS),
    "isotonic": lambda: CalibratedClassifierCV(MultinomialNB(), method="isotonic", cv=2).fit(abs(TABLE), SIGNS),
    "sigmoid": lambda: CalibratedClassifierCV(LogisticRegression(), cv=2).fit(TABLE, SIGNS),
}


COMPILED = {
    "forest": ["sklearn.tree._tree.Tree"],
    "boosting": ["sklearn.tree._tree.Tree"],
    "hist": ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
    "neighbors": ["sklearn.metrics._dist_metrics.EuclideanDistance64", "sklearn.neighbors._kd_tree.KDTree"],
}


def test_it_answers_as_the_estimator_does():
    small = SklearnClassifier(pipeline())
    assert small.labels == ["neg", "pos"]
    answers = small.batch(["good sound", "dull"])
    np.testing.assert_allclose(
        [list(a["probabilities"].values()) for a in answers], small.estimator.predict_proba(["good sound", "dull"])
    )
    assert answers[0]["choice"] == "pos"


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        (np.array(["neg", "pos"]), ["neg", "pos"]),
        (np.array([0, 7]), ["0", "7"]),
        (np.array([False, True]), ["False", "True"]),
        ([1, 2], ["1", "2"]),
        (np.array(["neg", "pos"], dtype=object), ["neg", "pos"]),
    ],
)
def test_classes_become_plain_labels(classes, labels):
    duck = SimpleNamespace(predict_proba=lambda inputs: [[0.25, 0.75]] * len(inputs), classes_=classes)
    small = SklearnClassifier(duck)
    assert small.labels == labels
    answer = small.invoke({"any": "input"})
    assert answer == {
        "choice": labels[1],
        "probabilities": dict(zip(labels, [0.25, 0.75], strict=True)),
        "confidence": 0.75,
    }
    assert type(answer["choice"]) is str
    assert small.version == UNVERIFIABLE


def test_rows_of_a_table():
    small = SklearnClassifier(MODELS["scaled"](), input_key="row")
    values = [{"row": row.tolist()} for row in TABLE[:3]]
    assert [a["choice"] for a in small.batch(values)] == SIGNS[:3].tolist()


def test_what_is_no_classifier_is_refused():
    with pytest.raises(TypeError, match="SVC has none"):
        SklearnClassifier(SVC())
    with pytest.raises(TypeError, match="predict_proba"):
        SklearnClassifier(None)
    with pytest.raises(ValueError, match="fit it first"):
        SklearnClassifier(LogisticRegression())
    two_alike = SimpleNamespace(predict_proba=len, classes_=[1, "1"])
    with pytest.raises(ValueError, match="distinct"):
        SklearnClassifier(two_alike)


@pytest.mark.parametrize("name", MODELS)
def test_save_and_load(tmp_path, name):
    pytest.importorskip("skops")
    small = SklearnClassifier(MODELS[name](), name="tiny", score="margin", input_key="x")
    small.save(tmp_path)
    copy = SklearnClassifier.load(tmp_path, trusted=COMPILED.get(name, ()))
    inputs = (
        TEXTS[:3]
        if isinstance(small.estimator[0] if hasattr(small.estimator, "steps") else None, CountVectorizer)
        else abs(TABLE[:3]).tolist()
    )
    values = [{"x": value} for value in inputs]
    assert copy.batch(values) == small.batch(values)
    assert (copy.name, copy.score, copy.input_key, copy.labels) == ("tiny", "margin", "x", small.labels)
    assert len(small.version) == 64
    assert copy.version == small.version


@pytest.mark.parametrize("name", MODELS)
def test_the_version_is_that_of_the_numbers(name):
    first, again = SklearnClassifier(MODELS[name]()), SklearnClassifier(MODELS[name]())
    assert first.version == again.version
    assert first.clone().version == first.version


def test_the_version_changes_when_anything_does():
    versions = {SklearnClassifier(pipeline()).version, SklearnClassifier(pipeline(), score="margin").version}
    moved = pipeline()
    moved[1].coef_ = moved[1].coef_ + 1e-12
    versions.add(SklearnClassifier(moved).version)
    renamed = pipeline()
    renamed[0].vocabulary_ = {"x" + word: place for word, place in renamed[0].vocabulary_.items()}
    versions.add(SklearnClassifier(renamed).version)
    versions.add(SklearnClassifier(pipeline(lowercase=False)).version)
    idf = pipeline()
    idf[0].idf_ = idf[0].idf_ * 2
    versions.add(SklearnClassifier(idf).version)
    assert len(versions) == 6
    forest = MODELS["forest"]()
    before = SklearnClassifier(forest).version
    forest.estimators_[0].tree_.value[0, 0, 0] += 0.25
    assert SklearnClassifier(forest).version != before


def test_code_cannot_be_seen_into():
    estimator = make_pipeline(FunctionTransformer(abs), LogisticRegression()).fit(TABLE, SIGNS)
    assert SklearnClassifier(estimator).version == UNVERIFIABLE
    assert SklearnClassifier(estimator, version="mine-3").version == "mine-3"


class Mine(ClassifierMixin, BaseEstimator):
    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, x):
        return np.full((len(x), len(self.classes_)), 1 / len(self.classes_))


def test_foreign_types_are_refused_until_they_are_trusted(tmp_path):
    pytest.importorskip("skops")
    small = SklearnClassifier(Mine().fit(TEXTS, LABELS))
    assert small.version == UNVERIFIABLE
    small.save(tmp_path)
    with pytest.raises(ValueError, match="Mine"):
        SklearnClassifier.load(tmp_path)
    name = f"{Mine.__module__}.Mine"
    try:
        copy = SklearnClassifier.load(tmp_path, trusted=[name])
    except ModuleNotFoundError:
        pytest.skip("this test module cannot be imported by its name")
    assert copy.invoke("x") == small.invoke("x")


def test_compiled_types_are_refused_until_they_are_trusted(tmp_path):
    pytest.importorskip("skops")
    SklearnClassifier(MODELS["forest"]()).save(tmp_path)
    with pytest.raises(ValueError, match=r"sklearn\.tree\._tree\.Tree.*Pass `trusted="):
        SklearnClassifier.load(tmp_path)


def test_a_damaged_folder_is_refused(tmp_path):
    pytest.importorskip("skops")
    SklearnClassifier(pipeline()).save(tmp_path)
    settings = (tmp_path / "model.json").read_text(encoding="utf-8")
    body = (tmp_path / "model.skops").read_bytes()

    def refused(match):
        with pytest.raises(ValueError, match=match):
            SklearnClassifier.load(tmp_path)

    (tmp_path / "model.skops").write_bytes(body[:-9])
    refused("SHA-256 differs")
    (tmp_path / "model.skops").unlink()
    refused(r"model\.skops is missing")
    (tmp_path / "model.skops").write_bytes(body)
    (tmp_path / "model.json").write_text(settings[:30], encoding="utf-8")
    refused("not JSON")
    for key, value in (("kind", "Other"), ("format", 99), ("labels", None)):
        changed = json.loads(settings)
        if value is None:
            del changed[key]
        else:
            changed[key] = value
        changed["sha256"] = checksum(changed, body)
        (tmp_path / "model.json").write_text(json.dumps(changed), encoding="utf-8")
        refused("no saved|format|`labels` is missing")
    (tmp_path / "model.json").unlink()
    refused(r"model\.json is missing")


@pytest.mark.parametrize("megabytes", [1, 30])
@pytest.mark.parametrize("member", ["schema.json", "0.npy", "nothing.bin"])
def test_an_archive_that_unpacks_to_more_than_it_is_is_refused_unread(megabytes, member, tmp_path, monkeypatch):
    SklearnClassifier(pipeline()).save(tmp_path)
    body = tmp_path / "model.skops"
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, b" " * (megabytes << 20))
    body.write_bytes(bomb.getvalue())
    settings = json.loads((tmp_path / "model.json").read_text())
    settings["sha256"] = checksum(settings, body.read_bytes())
    (tmp_path / "model.json").write_text(json.dumps(settings))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(ValueError, match=r"would unpack to [0-9,]+ bytes"):
        SklearnClassifier.load(tmp_path)


def test_a_score_of_ones_own_must_be_given_again(tmp_path):
    pytest.importorskip("skops")
    small = SklearnClassifier(pipeline(), score=lambda p: p["pos"])
    small.save(tmp_path)
    with pytest.raises(ValueError, match="score="):
        SklearnClassifier.load(tmp_path)
    assert SklearnClassifier.load(tmp_path, score=small.score).invoke("good") == small.invoke("good")


def test_a_clone_is_untied():
    small = SklearnClassifier(pipeline())
    before = small.invoke("good phone")
    copy = small.clone()
    copy.estimator[1].coef_ *= -1
    assert small.invoke("good phone") == before
    assert copy.invoke("good phone") != before


@pytest.mark.parametrize("change", [{"labels": ["pos", "neg"]}, {"score": "margin"}, {"name": "x"}, {"more": 1}])
def test_changed_settings_are_noticed(tmp_path, change):
    pytest.importorskip("skops")
    SklearnClassifier(pipeline()).save(tmp_path)
    settings = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    (tmp_path / "model.json").write_text(json.dumps({**settings, **change}), encoding="utf-8")
    with pytest.raises(ValueError, match="SHA-256 differs"):
        SklearnClassifier.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"labels": "neg"}, "`labels` has a wrong type"),
        ({"labels": [1, 2]}, "`labels` has a wrong type"),
        ({"name": 5}, "`name` has a wrong type"),
        ({"input_key": ["a"]}, "`input_key` has a wrong type"),
        ({"score": 3}, "`score` has a wrong type"),
        ({"score": "nonsense"}, "not allowed"),
    ],
)
def test_settings_of_wrong_types_are_named(tmp_path, change, match):
    pytest.importorskip("skops")
    SklearnClassifier(pipeline()).save(tmp_path)
    settings = json.loads((tmp_path / "model.json").read_text(encoding="utf-8")) | change
    settings["sha256"] = checksum(settings, (tmp_path / "model.skops").read_bytes())
    (tmp_path / "model.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ValueError, match=match) as caught:
        SklearnClassifier.load(tmp_path)
    assert type(caught.value) is ValueError


def test_labels_that_would_swap_the_classes_are_refused():
    class Estimator:
        classes_ = np.array(["animal", "fruit"])

        def predict_proba(self, rows):
            return [[0.1, 0.9] for _ in rows]

    with pytest.raises(ValueError, match="order"):
        SklearnClassifier(Estimator(), labels=["fruit", "animal"])
    assert SklearnClassifier(Estimator(), labels=["tier", "obst"]).invoke("apple")["choice"] == "obst"
