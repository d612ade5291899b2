"""The backends of a sentence encoder: equal to torch, equal to themselves, and without torch where they say so."""

import importlib.util
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from langchain_dsplus.small_models import encoder as encoders
from langchain_dsplus.small_models.encoder import Encoder, as_encoder, installed_backends
from langchain_dsplus.small_models.onnx_engine import Tokens, by_length, graph_file
from langchain_dsplus.small_models.onnx_graph import NotReadableError, read_layout
from langchain_dsplus.small_models.sentence import SentenceClassifier

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
tokenizers = pytest.importorskip("tokenizers")
numpy_tensors = pytest.importorskip("safetensors.numpy")

WORDS = [f"w{n}" for n in range(40)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
OPENVINO = pytest.param(
    "openvino", marks=pytest.mark.skipif("openvino" not in installed_backends(), reason="openvino is not installed")
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DSPLUS_CACHE", str(tmp_path / "cache"))


def texts_of(seed, n=40, longest=30):
    rng = np.random.default_rng(seed)
    made = [" ".join(rng.choice(WORDS, size=rng.integers(0, longest))) for _ in range(n)]
    return [*made, "", "unknown words only", "w1 " * 100]


def write(folder, name, body):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(body), encoding="utf-8")


def tokenizer_file(folder, unknown="[UNK]"):
    vocabulary = {word: place for place, word in enumerate([*SPECIAL, *WORDS])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=unknown))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    made.save(str(folder / "tokenizer.json"))


def network_folder(folder, kind="bert", pooling="mean", seed=0, **options):
    """A sentence-transformers folder with a small random network."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    sizes = {"vocab_size": 44, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    rest = {"intermediate_size": 64, "max_position_embeddings": 40, "pad_token_id": 0, "initializer_range": 0.2}
    config = transformers.AutoConfig.for_model(kind, **{**sizes, **rest, **options})
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer_file(folder)
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    write(folder, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **marks})
    write(folder, "sentence_bert_config.json", {"max_seq_length": 24, "do_lower_case": False})
    home = "sentence_transformers.models."
    names = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    write(
        folder,
        "modules.json",
        [{"idx": i, "name": str(i), "path": p, "type": home + t} for i, (t, p) in enumerate(names)],
    )
    modes = {f"pooling_mode_{mode}": mode.startswith(pooling) for mode in ("mean_tokens", "cls_token", "max_tokens")}
    write(folder, "1_Pooling/config.json", {"word_embedding_dimension": 32, **modes})
    return folder


# --- the same vectors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["onnx", OPENVINO])
@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_graph_is_torch(kind, pooling, backend, tmp_path):
    pytest.importorskip("sentence_transformers")
    folder = network_folder(tmp_path / "encoder", kind, pooling, seed=len(kind))
    texts = texts_of(1)
    theirs = Encoder(folder, backend="torch").encode(texts)
    np.testing.assert_allclose(Encoder(folder, backend=backend).encode(texts), theirs, atol=3e-6)
    if backend == "onnx":
        near = (Encoder(folder, backend="onnx-int8").encode(texts) * theirs).sum(axis=1)
        assert near.min() > 0.99


@pytest.mark.parametrize("backend", ["onnx", "onnx-int8", OPENVINO])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_text_has_the_same_bits_alone_and_in_any_batch(backend, threads, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    encoder = Encoder(network_folder(tmp_path / "encoder"), backend=backend)
    texts = texts_of(2)
    whole = encoder.encode(texts)
    rng = np.random.default_rng(3)
    for text, row in zip(texts, whole, strict=True):
        np.testing.assert_array_equal(encoder.encode([text])[0], row)
    for _ in range(5):
        places = rng.permutation(len(texts))[: rng.integers(2, len(texts))]
        np.testing.assert_array_equal(encoder.encode([texts[i] for i in places]), whole[places])


@pytest.mark.parametrize("backend", ["onnx", OPENVINO])
def test_many_threads_ask_at_once(backend, tmp_path):
    encoder = Encoder(network_folder(tmp_path / "encoder"), backend=backend)
    texts = texts_of(4)
    whole = encoder.encode(texts)
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda text: encoder.encode([text])[0], texts * 3))
    np.testing.assert_array_equal(rows, np.concatenate([whole] * 3))


def test_by_length_gives_each_place_once_within_the_budget():
    rng = np.random.default_rng(0)
    for _ in range(50):
        lengths = rng.integers(0, 9, rng.integers(0, 40)).tolist()
        groups = list(by_length(lengths, budget := int(rng.integers(1, 30))))
        assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
        for group in groups:
            assert len({lengths[place] for place in group}) == 1
            assert len(group) == 1 or len(group) * lengths[group[0]] <= budget


def test_tokens_are_remembered_and_the_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("langchain_dsplus.small_models.onnx_engine._REMEMBERED", 5)
    tokenizer_file(tmp_path)
    tokens = Tokens(tmp_path / "tokenizer.json", 6, special=True)
    for seed in range(6):
        texts = texts_of(seed, n=3)
        assert tokens.read(texts) == Tokens(tmp_path / "tokenizer.json", 6, special=True).read(texts)
        assert tokens.read(texts[:2]) == tokens.read(texts[:2])
        assert len(tokens._known) <= 5


# --- static vectors -------------------------------------------------------------------------------------------------


def static_folder(folder, *, mapped=False, weighted=False, seed=0):
    folder.mkdir()
    tokenizer_file(folder)
    rng = np.random.default_rng(seed)
    size = len(SPECIAL) + len(WORDS)
    tensors = {"embeddings": rng.normal(size=(10 if mapped else size, 16)).astype(np.float32)}
    if mapped:
        tensors["mapping"] = rng.integers(0, 10, size)
    if weighted:
        tensors["weights"] = rng.random(size)
    numpy_tensors.save_file(tensors, folder / "model.safetensors")
    write(folder, "config.json", {"model_type": "model2vec", "normalize": True})
    return folder


@pytest.mark.parametrize(("mapped", "weighted"), [(False, False), (True, False), (True, True), (False, True)])
def test_static_vectors_are_model2vecs(mapped, weighted, tmp_path):
    model2vec = pytest.importorskip("model2vec")
    folder = static_folder(tmp_path / "static", mapped=mapped, weighted=weighted)
    texts = texts_of(5)
    encoder = Encoder(folder)
    assert encoder.backend == "static"
    ours = encoder.encode(texts)
    theirs = model2vec.StaticModel.from_pretrained(str(folder), force_download=False).encode(texts)
    known = np.linalg.norm(theirs, axis=1) > 0
    np.testing.assert_allclose(ours[known], theirs[known], atol=1e-5)
    assert not ours[~known].any()
    for text, row in zip(texts, ours, strict=True):
        np.testing.assert_array_equal(encoder.encode([text])[0], row)


@pytest.mark.skipif(importlib.util.find_spec("wordllama") is None, reason="wordllama is not installed")
def test_wordllama_is_read_out_of_its_package():
    sys.modules.pop("wordllama", None)
    encoder = Encoder("wordllama")
    assert encoder.backend == "static"
    near = encoder.encode(["a cat sat", "the cat is sitting", "interest rates rose"])
    assert near.shape == (3, 256)
    assert near[0] @ near[1] > near[0] @ near[2]
    assert "wordllama" not in sys.modules


@pytest.mark.parametrize("damage", ["header", "tokenizer"])
def test_a_static_folder_that_is_not_whole_is_named(damage, tmp_path):
    folder = static_folder(tmp_path / "static")
    if damage == "header":
        (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    else:
        (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="no table of static vectors"):
        Encoder(folder, backend="static").load()


# --- which one ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("config.json", {"model_type": "mpnet"}), "mpnet"),
        (("config.json", {"hidden_act": "relu"}), "hidden_act"),
        (("config.json", {"position_embedding_type": "relative_key"}), "position_embedding_type"),
        (("1_Pooling/config.json", {"pooling_mode_max_tokens": True}), "pools by"),
        (("config_sentence_transformers.json", {"default_prompt_name": "query"}), "prompt"),
    ],
)
def test_what_only_torch_runs_is_left_to_torch(change, why, tmp_path):
    folder = network_folder(tmp_path / "encoder")
    file = folder / change[0]
    body = json.loads(file.read_text()) if file.exists() else {}
    write(folder, change[0], {**body, **change[1]})
    with pytest.raises(NotReadableError, match=rf"{why}.*backend='torch'"):
        read_layout(folder)
    with pytest.raises(NotReadableError):
        Encoder(folder, backend="onnx").load()
    assert Encoder(folder).backend == "torch"


def test_auto_follows_device_and_packages(tmp_path, monkeypatch):
    folder = network_folder(tmp_path / "encoder")
    monkeypatch.setattr(encoders, "_has_gpu", lambda: False)
    assert Encoder(folder).backend == "onnx"  # never int8 unasked
    assert Encoder(folder, device="cpu").backend == "torch"
    monkeypatch.setattr(encoders, "_has_gpu", lambda: True)
    assert Encoder(folder).backend == "torch"
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    assert "torch" not in installed_backends()
    assert Encoder(folder).backend == "onnx"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert Encoder(folder).backend == "torch"


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="`backend` must be 'auto' or one of"):
        Encoder("x", backend="tensorflow")
    with pytest.raises(ValueError, match="`device` is torch's"):
        Encoder("x", backend="onnx", device="cpu")

    class Own:
        def encode(self, texts):
            return np.zeros((len(texts), 2))

    with pytest.raises(ValueError, match="an object of your own"):
        as_encoder(Own(), "onnx")


# --- files, forks, imports ------------------------------------------------------------------------------------------


def test_the_graph_is_made_once_and_again_where_it_is_damaged(tmp_path, monkeypatch):
    folder = network_folder(tmp_path / "encoder")
    encoder = Encoder(folder, backend="onnx")
    before = encoder.encode(["w1 w2"])
    file = graph_file(encoder.weights, int8=False)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    encoders._loaded.clear()
    np.testing.assert_array_equal(Encoder(folder, backend="onnx").encode(["w1 w2"]), before)
    assert file.read_bytes() == whole
    monkeypatch.setenv("DSPLUS_CACHE", str(folder / "config.json" / "nowhere"))
    encoders._loaded.clear()
    np.testing.assert_array_equal(Encoder(folder, backend="onnx").encode(["w1 w2"]), before)


SCRIPT = """
import os, signal, sys
sys.modules["torch"] = sys.modules["transformers"] = sys.modules["sentence_transformers"] = None
from langchain_dsplus.small_models.encoder import Encoder
encoder = Encoder(sys.argv[1], backend=sys.argv[2])
before = encoder.encode(["w1 w2 w3", "w4"])
child = os.fork()
if child == 0:
    signal.alarm(30)  # a hang ends here
    for _ in range(2):
        same = (encoder.encode(["w1 w2 w3", "w4"]) == before).all()
    sys.exit(0 if same else 3)  # and leaves as processes do, with all that is torn down then
print(encoder.backend, os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.parametrize("backend", ["auto", OPENVINO])
def test_it_runs_without_torch_and_after_a_fork(backend, tmp_path):
    folder = network_folder(tmp_path / "encoder")
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", SCRIPT, str(folder), backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    ran, status = done.stdout.split()
    assert ran == backend.replace("auto", "onnx"), done.stderr[-2000:]
    assert status == "0", done.stderr[-2000:]


# --- a classifier on it ---------------------------------------------------------------------------------------------


def classifier(folder, backend="onnx"):
    texts = [f"w{n % 40} w{n * 7 % 40}" for n in range(120)]
    labels = ["low" if n % 40 < 20 else "high" for n in range(120)]
    return SentenceClassifier(folder, backend=backend, l2=0.1).fit(texts, labels), texts


def test_the_backend_is_in_the_version_and_is_saved(tmp_path):
    folder = network_folder(tmp_path / "encoder")
    small, texts = classifier(folder)
    small.save(tmp_path / "saved")
    same = SentenceClassifier.load(tmp_path / "saved")
    assert (same.encoder.backend, same.version) == ("onnx", small.version)
    assert same.batch(texts[:5]) == small.batch(texts[:5])
    other = SentenceClassifier.load(tmp_path / "saved", backend="onnx-int8")
    assert other.encoder.backend == "onnx-int8"
    assert other.version != small.version


def test_a_folder_from_before_there_was_a_choice_runs_on_torch(tmp_path):
    pytest.importorskip("sentence_transformers")
    from langchain_dsplus.small_models.files import checksum

    small, _ = classifier(network_folder(tmp_path / "encoder"), "torch")
    small.save(tmp_path / "saved")
    file = tmp_path / "saved" / "model.json"
    settings = json.loads(file.read_text())
    del settings["backend"]
    settings["sha256"] = checksum(settings, (tmp_path / "saved" / "head.safetensors").read_bytes())
    file.write_text(json.dumps(settings))
    loaded = SentenceClassifier.load(tmp_path / "saved")
    assert (loaded.encoder.backend, loaded.version) == ("torch", small.version)


def test_another_backend_keeps_the_version_only_after_a_check(tmp_path):
    pytest.importorskip("sentence_transformers")
    small, texts = classifier(network_folder(tmp_path / "encoder"), "torch")
    assert small.with_backend("onnx").version != small.version
    checked = small.with_backend("onnx", equal_on=texts)
    assert (checked.version, checked.encoder.backend) == (small.version, "onnx")
    with pytest.raises(ValueError, match="at least 100"):
        small.with_backend("onnx", equal_on=texts[:99])
    with pytest.raises(ValueError, match=r"of 120 rows of `equal_on` otherwise"):
        small.with_backend("onnx-int8", equal_on=texts, tolerance=1e-9)


@pytest.mark.encoder
def test_the_real_encoder_needs_no_torch_and_agrees_with_it(encoder_path):
    pytest.importorskip("sentence_transformers")
    texts = ["how are you", "", "雪の日", "word " * 300, "\ud800", "UPPER {case}\n\ttab", "a"]
    theirs = Encoder(encoder_path, backend="torch").encode(texts)
    for backend, least in (("onnx", 0.999999), ("onnx-int8", 0.97)):
        encoder = Encoder(Path(encoder_path), backend=backend)
        ours = encoder.encode(texts)
        assert (ours * theirs).sum(axis=1).min() > least
        for text, row in zip(texts, ours, strict=True):
            np.testing.assert_array_equal(encoder.encode([text])[0], row)
