import importlib.util
import json
import math
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from langchain_dsplus.small_models import encoder as encoders
from langchain_dsplus.small_models.base import UNVERIFIABLE
from langchain_dsplus.small_models.encoder import Encoder
from langchain_dsplus.small_models.files import checksum
from langchain_dsplus.small_models.sentence import SentenceClassifier
from langchain_dsplus.small_models.softmax import assign_folds, calibrate, fit_softmax

pytest.importorskip("scipy")
pytest.importorskip("threadpoolctl")

WORDS = {"pos": ["great", "lovely", "quick", "solid", "bright"], "neg": ["awful", "broken", "slow", "dull", "cheap"]}
NOUNS = ["screen", "battery", "case", "sound", "cable", "lens", "keyboard", "box"]
TEXTS = [f"the {noun} is {word}" for words in WORDS.values() for word in words for noun in NOUNS]
LABELS = [label for label, words in WORDS.items() for _ in words for _ in NOUNS]


class Bags:
    """An encoder without weights: each word is a fixed direction. Remembers what it was asked."""

    version = "bags-1"

    def __init__(self):
        self.asked = []

    def encode(self, texts):
        self.asked.append(list(texts))
        return np.array([self.vector(text) for text in texts])

    @staticmethod
    def vector(text):
        rows = [np.random.default_rng(list(word.encode())).normal(size=24) for word in text[:500].split()]
        total = np.sum(rows, axis=0) if rows else np.zeros(24)
        return total / (np.linalg.norm(total) or 1.0)


def fitted(**options):
    return SentenceClassifier(Bags(), **options).fit(TEXTS, LABELS)


def noisy(n, seed=0, flip=0.2):
    """A task that nobody can do perfectly, so that confidence must be honest."""
    rng = np.random.default_rng(seed)
    places = rng.integers(0, len(TEXTS), n)
    labels = [LABELS[i] if rng.random() > flip else ("pos", "neg")[LABELS[i] == "pos"] for i in places]
    return [f"{TEXTS[i]} {rng.integers(0, 10**6)}" for i in places], labels


# --- fit ------------------------------------------------------------------------------------------------------------


def test_fit_and_ask():
    small = fitted()
    assert small.labels == ["neg", "pos"]
    assert small.invoke("the strap is lovely")["choice"] == "pos"
    rows = small.predict_proba(["the strap is lovely", "a dull box"])
    assert rows.dtype == np.float64
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-12)


def test_the_same_rows_give_the_same_model():
    first, again, other = fitted(), fitted(), fitted(seed=1)
    assert first.version == again.version
    assert other.invoke(TEXTS[0])["choice"] == first.invoke(TEXTS[0])["choice"]


def test_the_order_of_the_rows_does_not_choose_the_labels():
    turned = SentenceClassifier(Bags()).fit(TEXTS[::-1], LABELS[::-1])
    assert turned.labels == fitted().labels


def test_soft_targets_that_are_labels_in_disguise_give_the_same_model():
    soft = [{label: 1.0} for label in LABELS]
    assert SentenceClassifier(Bags()).fit(TEXTS, soft).version == fitted().version


def test_soft_targets_are_learned():
    soft = [{"pos": 0.7, "neg": 0.3} if label == "pos" else {"neg": 1.0} for label in LABELS]
    small = SentenceClassifier(Bags(), l2=0.01).fit(TEXTS, soft)
    rows = small.predict_proba(TEXTS)[:, 1]
    assert rows[: len(TEXTS) // 2].mean() == pytest.approx(0.7, abs=0.05)
    assert rows[len(TEXTS) // 2 :].mean() == pytest.approx(0.0, abs=0.05)


def test_labels_and_soft_targets_may_be_mixed():
    mixed = [{"neg": 0.4, "pos": 0.6} if place % 5 == 0 else label for place, label in enumerate(LABELS)]
    assert SentenceClassifier(Bags()).fit(TEXTS, mixed).invoke("a lovely box")["choice"] == "pos"


def test_a_weight_of_two_is_a_row_twice():
    twice = SentenceClassifier(Bags(), l2=0.1).fit([*TEXTS, *TEXTS[:10]], [*LABELS, *LABELS[:10]])
    weights = [2.0] * 10 + [1.0] * (len(TEXTS) - 10)
    weighted = SentenceClassifier(Bags(), l2=0.1).fit(TEXTS, LABELS, weights=weights)
    np.testing.assert_allclose(weighted._head.weight, twice._head.weight, atol=0.02)


def test_the_head_is_scikit_learns_logistic_regression():
    linear_model = pytest.importorskip("sklearn.linear_model")
    features = Bags().encode(TEXTS).astype(np.float32)
    three = np.arange(len(TEXTS)) % 3
    oracle = linear_model.LogisticRegression(C=2.0, tol=1e-8, max_iter=5000).fit(features, three)
    weight, bias = fit_softmax(features, np.eye(3)[three], np.ones(len(three)), l2=0.5)
    z = features @ weight + bias
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(p, oracle.predict_proba(features), atol=2e-3)


def test_confidence_is_honest_on_new_rows():
    small = SentenceClassifier(Bags()).fit(*noisy(800))
    texts, labels = noisy(800, seed=9)
    answers = small.batch(texts)
    confidence = np.mean([answer["confidence"] for answer in answers])
    accuracy = np.mean([answer["choice"] == label for answer, label in zip(answers, labels, strict=True)])
    assert confidence == pytest.approx(accuracy, abs=0.06)


def test_rare_classes():
    texts, labels = [*TEXTS, "an odd thing", "ein Text"], [*LABELS, "other", "foreign"]
    small = SentenceClassifier(Bags()).fit(texts, labels)
    assert small.labels == ["foreign", "neg", "other", "pos"]
    assert small.invoke("an odd thing")["choice"] == "other"
    assert math.isfinite(small.temperature)


def test_two_rows_are_enough():
    small = SentenceClassifier(Bags()).fit(["good", "bad"], ["pos", "neg"])
    assert small.temperature == 1.0
    assert small.invoke("good")["choice"] == "pos"


def test_a_label_without_rows_stays_unlikely():
    small = SentenceClassifier(Bags(), labels=["pos", "neg", "never"]).fit(TEXTS, LABELS)
    assert small.labels == ["pos", "neg", "never"]
    assert small.predict_proba(TEXTS)[:, 2].max() < 0.02


def test_equal_texts_never_train_and_test_each_other():
    # Twenty texts, fifty times each, with labels that mean nothing: copies in training would look like knowledge.
    rng = np.random.default_rng(0)
    texts = [f"{a} {b}" for a in NOUNS for b in NOUNS][:20]
    labels = [("pos", "neg")[i] for i in rng.integers(0, 2, 20)]
    small = SentenceClassifier(Bags()).fit(texts * 50, labels * 50)
    unseen = [f"{a} {a} {b}" for a in NOUNS[::-1] for b in NOUNS]
    assert np.mean([answer["confidence"] for answer in small.batch(unseen)]) < 0.75


def test_fitting_again_learns_the_labels_again():
    small = fitted()
    before = small.version
    small.fit(TEXTS, ["yes" if label == "pos" else "no" for label in LABELS])
    assert small.labels == ["no", "yes"]
    assert small.version != before


@pytest.mark.parametrize(
    ("texts", "targets", "error", "match"),
    [
        ([], [], ValueError, "empty"),
        (["a", "b"], ["x"], ValueError, "2 rows, `targets` has 1"),
        (["a", "b"], ["x", "x"], ValueError, "one class only"),
        (["a", "b"], [{"x": 1.0}, {"x": 1.0, "y": 0.0}], ValueError, "one class only"),
        ("ab", ["x", "y"], TypeError, "list of inputs"),
        (["a", 3], ["x", "y"], TypeError, "item 1 of `texts`"),
        (["a", "b"], ["x", 3], TypeError, "item 1 of `targets`"),
        (["a", "b"], ["x", {1: 1.0}], TypeError, "item 1 of `targets`"),
        (["a", "b"], ["x", {"y": 0.5}], ValueError, "item 1 of `targets`"),
        (["a", "b"], ["x", {"x": -0.5, "y": 1.5}], ValueError, "item 1 of `targets`"),
        (["a", "b"], ["x", {"x": math.nan, "y": 1.0}], ValueError, "item 1 of `targets`"),
        (["a", "b"], ["x", {}], ValueError, "item 1 of `targets`"),
    ],
)
def test_what_cannot_be_fitted_is_refused(texts, targets, error, match):
    with pytest.raises(error, match=match):
        SentenceClassifier(Bags()).fit(texts, targets)


@pytest.mark.parametrize("target", ["maybe", {"maybe": 1.0}])
def test_an_unknown_label_is_named(target):
    with pytest.raises(ValueError, match=r"not in `labels`: .'maybe'"):
        SentenceClassifier(Bags(), labels=["pos", "neg"]).fit(["a", "b", "c"], ["pos", "neg", target])


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [1.0, -1.0], [1.0, math.nan]])
def test_bad_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        SentenceClassifier(Bags()).fit(["a", "b"], ["x", "y"], weights=weights)


def test_a_failed_fit_changes_nothing():
    small = fitted()
    before = small.version, small.invoke(TEXTS[0])
    with pytest.raises(ValueError, match="one class"):
        small.fit(["a"], ["x"])
    assert (small.version, small.invoke(TEXTS[0])) == before


def test_before_fit():
    small = SentenceClassifier(Bags(), labels=["a", "b"])
    with pytest.raises(RuntimeError, match="not fitted"):
        small.invoke("x")
    with pytest.raises(RuntimeError, match="not fitted"):
        _ = small.temperature
    assert small.version == UNVERIFIABLE


def test_bad_settings():
    with pytest.raises(TypeError, match="encode"):
        SentenceClassifier(3)
    with pytest.raises(ValueError, match="l2"):
        SentenceClassifier(Bags(), l2=0.0)
    with pytest.raises(ValueError, match="distinct"):
        SentenceClassifier(Bags(), labels=["a", "a"])


def test_folds():
    classes = np.array([0] * 10 + [1] * 3 + [2])
    groups = np.arange(14)
    folds = assign_folds(classes, groups, seed=0)
    assert folds[13] == -1
    assert sorted(np.bincount(folds[:10], minlength=5)) == [2] * 5
    assert len(set(folds[10:13].tolist())) == 3
    together = assign_folds(np.zeros(12, dtype=int), np.arange(12) // 3, seed=0)
    assert all(len(set(together[start : start + 3].tolist())) == 1 for start in range(0, 12, 3))


def test_the_penalty_is_the_one_that_does_best_on_held_out_rows():
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(300, 20)) * 0.05).astype(np.float32)
    noise = np.eye(2)[rng.integers(0, 2, 300)]
    clear = np.eye(2)[(features[:, 0] > 0).astype(int)]
    options = {"l2": None, "seed": 0}
    ones, groups = np.ones(300), np.arange(300)
    assert calibrate(features, noise, ones, groups, **options)[0] == 1.0
    assert calibrate(features, clear, ones, groups, **options)[0] == 0.01
    assert calibrate(features, noise, ones, groups, l2=0.3, seed=0)[0] == 0.3


# --- answers --------------------------------------------------------------------------------------------------------


def test_energy_is_the_log_sum_of_the_logits():
    small = fitted(score="energy")
    head = small._head
    z = Bags().encode(["a lovely box"]).astype(np.float32) @ head.weight + head.bias
    t = small.temperature
    answer = small.invoke("a lovely box")
    assert answer["confidence"] == pytest.approx(t * np.log(np.exp(z / t).sum()), rel=1e-5)
    assert answer["probabilities"] == fitted().invoke("a lovely box")["probabilities"]


def test_one_batch_is_one_call_of_the_encoder():
    small = fitted()
    small.encoder.asked.clear()
    small.batch(["a", 7, "b"], return_exceptions=True)
    assert small.encoder.asked == [["a", "b"]]


def test_embeddings_and_warmup():
    small = SentenceClassifier(Bags())
    small.warmup()
    assert small.embeddings(["a", "b"]).shape == (2, 24)


def test_an_encoder_that_returns_nonsense_is_found_out():
    class Bad:
        def encode(self, texts):
            return np.zeros(3)

    with pytest.raises(ValueError, match="shape"):
        SentenceClassifier(Bad()).fit(["a", "b"], ["x", "y"])


def test_a_clone_shares_the_encoder_and_nothing_else():
    small = fitted()
    before = small.version, small.invoke("a dull box")
    copy = small.clone()
    assert copy.encoder is small.encoder
    assert copy.version == small.version
    copy.fit(TEXTS, ["yes" if label == "pos" else "no" for label in LABELS])
    assert (small.version, small.invoke("a dull box")) == before
    assert small.labels == ["neg", "pos"]


# --- files ----------------------------------------------------------------------------------------------------------


def test_save_and_load(tmp_path):
    small = fitted(name="tiny", input_key="text", score="energy", seed=3)
    small.save(tmp_path)
    copy = SentenceClassifier.load(tmp_path, encoder=Bags())
    assert copy.batch([{"text": t} for t in TEXTS]) == small.batch([{"text": t} for t in TEXTS])
    assert (copy.version, copy.labels, copy.name, copy.seed) == (small.version, small.labels, "tiny", 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head.safetensors", "model.json"]
    copy.save(tmp_path)
    assert SentenceClassifier.load(tmp_path, encoder=Bags()).version == small.version


def test_labels_of_every_kind_survive(tmp_path):
    labels = ['a "quoted"\nlabel', "{brace}", "雪", ""]
    small = SentenceClassifier(Bags()).fit(TEXTS[:8], labels * 2)
    small.save(tmp_path)
    assert SentenceClassifier.load(tmp_path, encoder=Bags()).labels == sorted(labels)


def test_another_encoder_is_refused(tmp_path):
    fitted().save(tmp_path)
    other = Bags()
    other.version = "bags-2"
    with pytest.raises(ValueError, match="not the one"):
        SentenceClassifier.load(tmp_path, encoder=other)
    with pytest.raises(ValueError, match="encoder="):
        SentenceClassifier.load(tmp_path)


def test_an_encoder_without_a_version_cannot_be_verified(tmp_path):
    class Nameless:
        def encode(self, texts):
            return Bags().encode(texts)

    small = SentenceClassifier(Nameless()).fit(TEXTS, LABELS)
    assert small.version == UNVERIFIABLE
    small.save(tmp_path)
    assert SentenceClassifier.load(tmp_path, encoder=Nameless()).invoke("a dull box") == small.invoke("a dull box")


def test_a_score_of_ones_own_must_be_given_again(tmp_path):
    small = fitted(score=lambda p: p["pos"])
    small.save(tmp_path)
    with pytest.raises(ValueError, match="score="):
        SentenceClassifier.load(tmp_path, encoder=Bags())
    assert SentenceClassifier.load(tmp_path, encoder=Bags(), score=small.score).invoke("x") == small.invoke("x")


def test_what_is_not_fitted_is_not_saved(tmp_path):
    with pytest.raises(RuntimeError, match="not fitted"):
        SentenceClassifier(Bags()).save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_damaged_folder_is_refused(tmp_path):
    fitted().save(tmp_path)
    head, settings = tmp_path / "head.safetensors", tmp_path / "model.json"
    body, text = head.read_bytes(), settings.read_text(encoding="utf-8")

    def refused(match):
        with pytest.raises(ValueError, match=match) as caught:
            SentenceClassifier.load(tmp_path, encoder=Bags())
        assert type(caught.value) is ValueError

    head.write_bytes(body[:-4])
    refused("SHA-256 differs")
    head.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    refused("SHA-256 differs")
    head.unlink()
    refused(r"head\.safetensors is missing")
    head.write_bytes(body)
    settings.write_text(text[: len(text) // 2], encoding="utf-8")
    refused("not JSON")
    for changes, match in [
        ({"kind": "Other"}, "no saved SentenceClassifier"),
        ({"format": 1}, "format 1"),
        ({"labels": ["one"]}, "does not fit the labels"),
        ({"labels": None}, "damaged"),
        ({"temperature": "hot"}, "`temperature` has a wrong type"),
        ({"temperature": True}, "`temperature` has a wrong type"),
        ({"name": 5}, "`name` has a wrong type"),
        ({"seed": "1"}, "`seed` has a wrong type"),
        ({"encoder": {"a": 1}}, "`encoder` has a wrong type"),
        ({"l2": -1.0}, r"not allowed for \['l2'\]"),
        ({"score": "nonsense"}, "not allowed"),
        ({"temperature": 0.0}, "not finite"),
        ({"encoder_version": "x"}, "not the one"),
    ]:
        changed = {**json.loads(text), **changes}
        if "kind" not in changes and "format" not in changes:
            settings.write_text(json.dumps(changed), encoding="utf-8")
            refused("SHA-256 differs")
        settings.write_text(json.dumps({**changed, "sha256": checksum(changed, body)}), encoding="utf-8")
        refused(match)
    changed = {**json.loads(text), "labels": json.loads(text)["labels"][::-1]}
    settings.write_text(json.dumps(changed), encoding="utf-8")
    refused("SHA-256 differs")
    settings.write_text(json.dumps({**changed, "temperature": math.nan}), encoding="utf-8")
    refused("not JSON")
    settings.unlink()
    refused(r"model\.json is missing")
    with pytest.raises(ValueError, match="no saved"):
        SentenceClassifier.load(tmp_path / "nowhere")


def test_another_heads_body_is_refused(tmp_path):
    fitted().save(tmp_path / "one")
    SentenceClassifier(Bags()).fit(TEXTS, LABELS[::-1]).save(tmp_path / "two")
    shutil.copy(tmp_path / "two" / "head.safetensors", tmp_path / "one")
    with pytest.raises(ValueError, match="from another save"):
        SentenceClassifier.load(tmp_path / "one", encoder=Bags())


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e308])
def test_weights_of_any_size_do_not_overflow(scale):
    small = SentenceClassifier(Bags()).fit(TEXTS, LABELS, weights=[scale] * len(TEXTS))
    assert np.isfinite(small.predict_proba(TEXTS)).all()
    assert math.isfinite(small.temperature)


def test_weights_scale_the_penalty_and_nothing_else():
    heavy = SentenceClassifier(Bags(), l2=0.1).fit(TEXTS, LABELS, weights=[4.0] * len(TEXTS))
    light = SentenceClassifier(Bags(), l2=0.025).fit(TEXTS, LABELS)
    np.testing.assert_allclose(heavy.predict_proba(TEXTS), light.predict_proba(TEXTS), atol=1e-3)


@pytest.mark.parametrize("value", ["secret", "0.5", None, math.nan, 10**400, [1.0]])
def test_a_soft_target_that_is_no_number_names_its_row(value):
    targets = [{"a": 0.5, "b": 0.5}, {"a": value}]
    with pytest.raises(ValueError, match="item 1 of `targets` must hold probabilities") as caught:
        SentenceClassifier(Bags()).fit(["one", "two"], targets)
    assert "secret" not in str(caught.value)


# --- the encoder ----------------------------------------------------------------------------------------------------


def folder_of(path, **files):
    path.mkdir(exist_ok=True)
    for name, body in files.items():
        (path / name.replace("__", ".")).write_text(body, encoding="utf-8")
    return path


def test_a_folder_that_asks_for_code_is_refused(tmp_path):
    pytest.importorskip("sentence_transformers")
    marker = tmp_path / "ran"
    folder = folder_of(
        tmp_path / "encoder",
        modules__json='[{"idx": 0, "name": "0", "path": "", "type": "evil.Model"}]',
        evil__py=f"open({str(marker)!r}, 'w').close()",
    )
    with pytest.raises(ValueError, match="refused"):
        Encoder(folder).load()
    assert not marker.exists()


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no \.safetensors"):
        _ = Encoder(folder_of(tmp_path / "empty", config__json="{}")).version


def test_the_version_is_that_of_the_files(tmp_path):
    files = {"model__safetensors": "weights", "config__json": "{}"}
    one = folder_of(tmp_path / "one", **files)
    two = folder_of(tmp_path / "two", README__md="other", **files)
    three = folder_of(tmp_path / "three", **{**files, "config__json": "{ }"})
    versions = [Encoder(folder).version for folder in (one, two, three)]
    assert versions[0] == versions[1] != versions[2]


def test_naming_an_encoder_loads_nothing():
    code = (
        "import sys; from langchain_dsplus.small_models.sentence import SentenceClassifier; "
        "SentenceClassifier('nowhere'); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'sentence_transformers', 'scipy', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.fixture(scope="module")
def encoder(encoder_path):
    pytest.importorskip("sentence_transformers")
    return Encoder(encoder_path, backend="torch").load()


@pytest.mark.encoder
class TestRealEncoder:
    def test_it_agrees_with_sentence_transformers(self, encoder):
        texts = [*TEXTS, "", "雪の日", "word " * 2000, "{brace}\n\ttab", "UPPER case"]
        theirs = encoder.engine.model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        ours = encoder.encode(texts)
        assert ours.dtype == np.float32
        assert ours.shape == (len(texts), 384) == (len(texts), encoder.dimension)
        np.testing.assert_allclose(ours, theirs, atol=2e-6)
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1.0, atol=1e-5)

    def test_edges(self, encoder):
        assert encoder.encode([]).shape == (0, 384)
        rows = encoder.encode(["a", "b", "a", "\ud800", "a"])
        assert (rows[0] == rows[2]).all()
        assert (rows[0] == rows[4]).all()
        for value in (3, None, b"x"):
            with pytest.raises(TypeError, match="item 1"):
                encoder.encode(["a", value])

    def test_a_megabyte_costs_no_more_than_a_page(self, encoder):
        for unit in ("word ", "x", "ab,", " ", "雪"):
            text = unit * (1_000_000 // len(unit))
            started = time.process_time()
            assert np.isfinite(encoder.encode([text])).all()
            assert time.process_time() - started < 5

    def test_many_threads(self, encoder):
        alone = encoder.encode(TEXTS[:64])
        with ThreadPoolExecutor(64) as pool:
            rows = list(pool.map(lambda text: encoder.encode([text])[0], TEXTS[:64]))
        np.testing.assert_allclose(rows, alone, atol=2e-6)

    def test_it_is_loaded_once(self, encoder, encoder_path):
        other = Encoder(str(encoder_path), backend="torch")
        assert other.engine is encoder.engine
        assert other.version == encoder.version

    def test_from_fit_to_load(self, encoder_path, tmp_path):
        small = SentenceClassifier(encoder_path).fit(TEXTS, LABELS)
        unseen = ["what a marvelous little thing", "fell apart after a day, useless"]
        assert [answer["choice"] for answer in small.batch(unseen)] == ["pos", "neg"]
        small.save(tmp_path)
        copy = SentenceClassifier.load(tmp_path)
        assert copy.version == small.version
        assert copy.batch(unseen) == small.batch(unseen)
        for text, answer in zip(unseen, small.batch(unseen), strict=True):
            alone = small.invoke(text)
            assert alone["choice"] == answer["choice"]
            assert alone["confidence"] == pytest.approx(answer["confidence"], abs=1e-5)

    def test_a_progress_bar_changes_nothing(self, encoder, capsys):
        np.testing.assert_array_equal(encoder.encode(TEXTS[:5], progress=True), encoder.encode(TEXTS[:5]))
        assert "encoding" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("backend", "module", "extra"),
    [
        ("torch", "sentence_transformers", "local"),
        ("onnx", "onnxruntime", "onnx"),
        ("onnx-int8", "onnx", "onnx"),
        ("openvino", "openvino", "openvino"),
        ("static", "tokenizers", "static"),
    ],
)
def test_a_missing_extra_is_said_before_anything_is_downloaded(backend, module, extra, monkeypatch):
    real = importlib.util.find_spec  # what else the backend needs is taken to be here
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else real(name) or name)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(encoders, "model_folder", lambda name: pytest.fail("it went on to fetch the encoder"))
    with pytest.raises(ImportError, match=rf"`{module}` is not .*pip install 'langchain-dsplus\[{extra}\]'"):
        SentenceClassifier("minilm", labels=["a", "b"], backend=backend).fit(["x", "y"], ["a", "b"])


def test_auto_with_nothing_installed_says_so(monkeypatch):
    for module in ("sentence_transformers", "tokenizers"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(encoders, "model_folder", lambda name: pytest.fail("it went on to fetch the encoder"))
    with pytest.raises(ImportError, match=r"langchain-dsplus\[local\]"):
        SentenceClassifier("minilm", labels=["a", "b"]).fit(["x", "y"], ["a", "b"])


def test_an_unfitted_model_in_a_router_is_named_in_the_log(caplog):
    from langchain_dsplus import ConfidenceRouter

    def ask(_) -> str:
        return "LARGE"

    assert ConfidenceRouter(small=SentenceClassifier(Bags()), large=ask).invoke("x") == "LARGE"
    assert "not fitted" in caplog.text
