import json
import threading

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from langchain_core.messages import HumanMessage
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from langchain_dsplus.answer import InputError, NotFittedError
from langchain_dsplus.confidence import energy
from langchain_dsplus.learning.two_stage import TwoStageConfidenceDistillation
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.small_models.base import UNVERIFIABLE
from langchain_dsplus.small_models.files import checksum
from langchain_dsplus.small_models.transformers import TransformersClassifier

GOOD, BAD = ["good", "great", "love", "fine"], ["bad", "poor", "hate", "dull"]
FILL = ["the", "phone", "sound", "this", "was", "very"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
LABELS = ["neg", "pos"]


def make_tokenizer(**options):
    body = Tokenizer(WordLevel({w: i for i, w in enumerate([*SPECIAL, *GOOD, *BAD, *FILL])}, unk_token="[UNK]"))
    body.pre_tokenizer = Whitespace()
    body.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = dict(zip(["pad_token", "unk_token", "cls_token", "sep_token"], SPECIAL, strict=True))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=body, **{**names, **options})


def make_net(labels=2, seed=0, **options):
    config = transformers.BertConfig(
        vocab_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, num_labels=labels, **options,
    )  # fmt: skip
    torch.manual_seed(seed)
    return transformers.BertForSequenceClassification(config)


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(n):
        label = str(rng.choice(LABELS))
        words = [*rng.choice(FILL, 4), str(rng.choice(GOOD if label == "pos" else BAD))]
        rng.shuffle(words)
        texts.append(" ".join(map(str, words)))
        labels.append(label)
    return texts, labels


def untrained(**options):
    return TransformersClassifier(make_net(), LABELS, tokenizer=make_tokenizer(), device="cpu", **options)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(one_thread):
    return untrained(batch_size=16).fit(*rows(200), epochs=6, lr=5e-3)


def accuracy(model, texts, labels):
    return np.mean([a["choice"] == label for a, label in zip(model.batch(texts), labels, strict=True)])


# --- training -----------------------------------------------------------------------------------------------------


def test_it_learns(trained):
    texts, labels = rows(200, seed=1)
    assert accuracy(untrained(), texts, labels) < 0.75
    assert accuracy(trained, texts, labels) > 0.95


def test_the_same_seed_gives_the_same_model_and_leaves_the_generator_alone():
    models = [untrained() for _ in range(3)]
    state = torch.get_rng_state()
    one, two, other = (m.fit(*rows(40), epochs=1, seed=seed) for m, seed in zip(models, (3, 3, 4), strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert one.version == two.version != other.version


def test_soft_targets_are_matched():
    model = untrained()
    before = model.train_steps(["the phone"] * 32, [{"pos": 0.3, "neg": 0.7}] * 32, epochs=20, lr=1e-2, seed=1)
    assert len(before) == 20
    best = -(0.3 * np.log(0.3) + 0.7 * np.log(0.7))
    assert before[0] > before[-1] >= best - 1e-3
    assert model.invoke("the phone")["probabilities"]["pos"] == pytest.approx(0.3, abs=0.05)


def test_weights_count():
    texts, targets = ["the phone"] * 20, ["pos"] * 10 + ["neg"] * 10
    model = untrained()
    model.train_steps(texts, targets, weights=[1.0] * 10 + [0.0] * 10, epochs=10, lr=1e-2)
    assert model.invoke("the phone")["choice"] == "pos"
    model.train_steps(texts, targets, weights=[0.0] * 10 + [3.0] * 10, epochs=20, lr=1e-2)
    assert model.invoke("the phone")["choice"] == "neg"


def test_training_changes_the_version_and_a_clone_is_untied(trained):
    copy = trained.clone()
    assert copy.version == trained.version
    asked = copy.invoke("great sound")
    copy.train_steps(["great sound"] * 8, ["neg"] * 8, epochs=10, lr=1e-2)
    assert copy.version != trained.version
    assert copy.invoke("great sound")["choice"] == "neg"
    assert trained.invoke("great sound")["probabilities"] == pytest.approx(asked["probabilities"], abs=1e-6)


def test_nothing_to_train_on_changes_nothing(trained):
    copy = trained.clone()
    assert copy.train_steps([], []) == []
    assert copy.version == trained.version


def test_a_fit_that_fails_leaves_the_model_as_it_was(trained):
    copy = trained.clone()
    with pytest.raises(FloatingPointError, match="smaller `lr`"):
        copy.fit(*rows(64), epochs=20, lr=1e30)
    assert copy.version == trained.version


@pytest.mark.parametrize(
    ("texts", "targets", "options", "error", "words"),
    [
        ([], [], {}, ValueError, "empty"),
        (["a", "b"], ["pos"], {}, ValueError, "2 rows"),
        (["a", "b"], ["pos", "pos"], {}, ValueError, "one class"),
        (["a", "b"], ["pos", "maybe"], {}, ValueError, "not in `labels`"),
        (["a", "b"], ["pos", {"neg": 0.5}], {}, ValueError, "item 1 of `targets`"),
        (["a", 7], ["pos", "neg"], {}, TypeError, "item 1 of `inputs`"),
        ("text", ["pos"] * 4, {}, TypeError, "not one str"),
        (["a", "b"], ["pos", "neg"], {"weights": [1, -1]}, ValueError, "weights"),
        (["a", "b"], ["pos", "neg"], {"weights": [0, 0]}, ValueError, "weights"),
        (["a", "b"], ["pos", "neg"], {"epochs": 0}, ValueError, "epochs"),
        (["a", "b"], ["pos", "neg"], {"lr": 0}, ValueError, "lr"),
    ],
)
def test_bad_rows(trained, texts, targets, options, error, words):
    copy = trained.clone()
    with pytest.raises(error, match=words):
        copy.fit(texts, targets, **options)
    assert copy.version == trained.version


def test_two_stage_distillation():
    specific = untrained(batch_size=16).fit(*rows(60), epochs=2, lr=1e-3)
    version = specific.version
    result = TwoStageConfidenceDistillation(specific, threshold=0.8, rounds=3, lr=2e-3).distil(*rows(200, seed=4))
    texts, labels = rows(200, seed=1)
    assert accuracy(specific, texts, labels) < 0.9 < accuracy(result.model, texts, labels)
    assert specific.version == version


def test_calibration_moves_no_choice_and_lowers_the_loss(trained):
    texts, labels = rows(100, seed=2)
    labels = [{"pos": "neg", "neg": "pos"}[x] if i % 5 == 0 else x for i, x in enumerate(labels)]
    copy = trained.clone()
    before = copy.batch(texts)
    t = copy.calibrate(texts, labels)
    after = copy.batch(texts)
    assert t > 1.2
    assert copy.temperature == t
    assert [a["choice"] for a in before] == [a["choice"] for a in after]
    loss = [-np.mean([np.log(a["probabilities"][x]) for a, x in zip(g, labels, strict=True)]) for g in (before, after)]
    assert loss[1] < loss[0]
    assert copy.version != trained.version


# --- answers ------------------------------------------------------------------------------------------------------


def test_kinds_of_input(trained):
    expected = trained.invoke("great phone")
    keyed = trained.model_copy(update={"input_key": "text"})
    for answer in (
        trained.invoke(HumanMessage("great phone")),
        trained.invoke({"text": "great phone"}),
        keyed.invoke({"text": "great phone", "other": "bad"}),
    ):
        assert answer["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)


def test_a_batch_is_one_answer_each_in_order(trained):
    texts, _ = rows(70, seed=5)
    texts[3] = texts[3] * 30
    alone = [trained.invoke(text) for text in texts]
    for one, many in zip(alone, trained.batch(texts), strict=True):
        assert many["choice"] == one["choice"]
        assert many["confidence"] == pytest.approx(one["confidence"], abs=1e-5)


def test_a_bad_item_harms_only_itself(trained):
    one, two, three = trained.batch(["good", 3.5, "bad"], return_exceptions=True)
    assert (one["choice"], three["choice"]) == ("pos", "neg")
    assert isinstance(two, InputError)


@pytest.mark.parametrize("text", ["", "x" * 1_000_000, "good " * 100_000, "\ud800 good", "{a} {{b}}", "\0"])
def test_strange_texts(trained, text):
    assert trained.invoke(text)["choice"] in LABELS


def test_a_text_without_tokens_escalates_alone():
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    model = TransformersClassifier(make_net(), LABELS, tokenizer=tokenizer)
    good, empty = model.batch(["good", ""], return_exceptions=True)
    assert good["choice"] in LABELS
    assert isinstance(empty, InputError)


def test_max_length_cuts(trained):
    short = untrained(max_length=4)
    assert short.length == 4
    one, two = short.batch(["the phone good", "the phone bad"])
    assert one["probabilities"] == pytest.approx(two["probabilities"], abs=1e-6)
    assert trained.length == 64
    assert untrained(max_length=4000).length == 64


@pytest.mark.parametrize("score", ["max_probability", "margin", "entropy", "energy"])
def test_scores(score):
    model = untrained(score=score)
    model._temperature = 2.0
    answer = model.invoke("good phone")
    p = list(answer["probabilities"].values())
    logits = model._logits(["good phone"])[0].tolist()
    expected = {
        "max_probability": max(p),
        "margin": max(p) - min(p),
        "entropy": sum(x * np.log(x) for x in p),
        "energy": energy(logits, temperature=2.0),
    }[score]
    assert answer["confidence"] == pytest.approx(expected, abs=1e-5)
    assert type(answer["confidence"]) is float


def test_many_threads(trained):
    texts, _ = rows(40, seed=6)
    expected = [trained.invoke(t)["confidence"] for t in texts]
    found = {}

    def ask(place):
        found[place] = [a["confidence"] for a in trained.batch(texts[place::4])]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place in range(4):
        assert found[place] == pytest.approx(expected[place::4], abs=1e-5)


async def test_behind_a_router(trained):
    def ask(_) -> str:
        return "asked"

    router = ConfidenceRouter(small=trained, large=ask, threshold=0.9)
    assert router.invoke("great phone") == "pos"
    assert await router.ainvoke(7) == "asked"


def test_nan_weights_escalate(trained):
    copy = trained.clone()
    with torch.no_grad():
        copy.module.classifier.bias.fill_(float("nan"))
    (answer,) = copy.batch(["good"], return_exceptions=True)
    assert isinstance(answer, Exception)


# --- construction -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    make_net().save_pretrained(tmp_path / "net")
    make_tokenizer().save_pretrained(tmp_path / "net")
    return tmp_path / "net"


def test_from_a_folder(folder):
    model = TransformersClassifier(folder)
    assert model.labels == ["LABEL_0", "LABEL_1"]
    named = TransformersClassifier(folder, LABELS)
    answers = model.invoke("good"), named.invoke("good")
    assert list(answers[0]["probabilities"].values()) == list(answers[1]["probabilities"].values())
    assert named.invoke("good")["choice"] in LABELS


def test_a_new_head(folder):
    model = TransformersClassifier(folder, ["a", "b", "c"])
    with pytest.raises(NotFittedError):
        model.invoke("good")
    assert model.version == UNVERIFIABLE
    model.fit(["good", "bad", "the"] * 4, ["a", "b", "c"] * 4, epochs=1)
    assert set(model.invoke("good")["probabilities"]) == {"a", "b", "c"}


def test_a_base_model_takes_its_labels_from_the_targets(tmp_path):
    make_net().bert.save_pretrained(tmp_path)
    model = TransformersClassifier(tmp_path, tokenizer=make_tokenizer(), device="cpu", batch_size=16)
    assert model.labels == []
    model.fit(*rows(200), epochs=6, lr=5e-3)
    assert model.labels == LABELS
    assert accuracy(model, *rows(100, seed=1)) > 0.9
    model.train_steps(["good"], [{"pos": 1.0}])  # fewer labels are no new head
    assert model.labels == LABELS
    with pytest.raises(ValueError, match="labels that the model does not have"):
        model.train_steps(["good"], ["other"])


def test_labels_must_fit(folder):
    net = make_net(id2label={0: "neg", 1: "pos"}, label2id={"neg": 0, "pos": 1})
    assert TransformersClassifier(net, tokenizer=make_tokenizer()).labels == LABELS
    with pytest.raises(ValueError, match="order of the model's outputs"):
        TransformersClassifier(net, ["pos", "neg"], tokenizer=make_tokenizer())
    with pytest.raises(ValueError, match="3 names"):
        TransformersClassifier(net, ["a", "b", "c"], tokenizer=make_tokenizer())
    with pytest.raises(ValueError, match="one class among several"):
        TransformersClassifier(make_net(labels=1), tokenizer=make_tokenizer())
    with pytest.raises(ValueError, match="one class among several"):
        TransformersClassifier(make_net(problem_type="multi_label_classification"), tokenizer=make_tokenizer())


def test_what_is_no_model():
    with pytest.raises(TypeError, match="transformers library"):
        TransformersClassifier(torch.nn.Linear(2, 2), LABELS, tokenizer=make_tokenizer())
    with pytest.raises(ValueError, match="tokenizer"):
        TransformersClassifier(make_net(), LABELS)


def test_a_folder_without_a_tokenizer(tmp_path):
    make_net().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds no tokenizer"):
        TransformersClassifier(tmp_path, LABELS)


def test_only_safetensors_and_no_code(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "code.py").write_text("raise SystemExit('run')")
    config["auto_map"] = {"AutoModelForSequenceClassification": "code.Model", "AutoConfig": "code.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    assert TransformersClassifier(folder, LABELS).invoke("good")["choice"] in LABELS
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "unheard_of"}))
    with pytest.raises(ValueError):
        TransformersClassifier(folder, LABELS)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors"):
        TransformersClassifier(folder, LABELS)


KERNELS = [
    {"attn_implementation": "someone/kernel"},
    {"_attn_implementation": "flash_attention_2"},  # fetched where it is not installed
    {"attn_implementation": {"": "sdpa", "text": "someone/kernel"}},
    {"parts": [{"experts_implementation": "someone/kernel"}]},
]


@pytest.mark.parametrize("setting", KERNELS)
def test_kernels_from_elsewhere_are_refused(folder, tmp_path, setting):
    """The library would fetch and run them, whatever `trust_remote_code` says."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **setting}))
    with pytest.raises(ValueError, match="could run code"):
        TransformersClassifier(folder, LABELS)
    untrained().save(tmp_path / "saved")
    forge(tmp_path / "saved", config=setting)
    with pytest.raises(ValueError, match="could run code"):
        TransformersClassifier.load(tmp_path / "saved")


def forge(path, *, config=None, **changes):
    """Change settings and write a SHA-256 that fits: what somebody may do who can write there."""
    body = json.loads((path / "model.json").read_text())
    body.update(changes)
    body["config"].update(config or {})
    body["sha256"] = checksum(body, (path / "model.safetensors").read_bytes())
    (path / "model.json").write_text(json.dumps(body))


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"model_type": "unheard_of"}},
        {"config": {"model_type": ["bert"]}},
        {"config": {"hidden_size": 16}},
        {"config": {"num_labels": 3, "id2label": {"0": "a", "1": "b", "2": "c"}}},
        {"labels": ["a", "b", "c"]},
        {"labels": ["a"]},
        {"labels": [1, 2]},
        {"temperature": 0},
        {"temperature": "1"},
        {"batch_size": 0},
        {"batch_size": True},
        {"max_length": "8"},
        {"tokenizer": {"../../config.json": "0"}},
        {"tokenizer": {"tokenizer.json": None}},
        {"tokenizer": {}},
        {"tokenizer": []},
    ],
)
def test_forged_settings_are_errors_in_words(tmp_path, changes):
    untrained().save(tmp_path)
    forge(tmp_path, **changes)
    with pytest.raises(ValueError):
        TransformersClassifier.load(tmp_path)


def test_code_named_by_a_saved_config_is_not_run(tmp_path):
    untrained().save(tmp_path)
    (tmp_path / "code.py").write_text("raise SystemExit('run')")
    forge(tmp_path, config={"auto_map": {"AutoModelForSequenceClassification": "code.Model"}})
    assert TransformersClassifier.load(tmp_path, device="cpu").version == untrained().version


def test_a_tokenizer_without_padding():
    tokenizer = make_tokenizer(pad_token=None, eos_token="[SEP]")
    model = TransformersClassifier(make_net(), LABELS, tokenizer=tokenizer)
    assert tokenizer.pad_token is None
    assert len(model.batch(["good phone", "bad"])) == 2
    with pytest.raises(ValueError, match="pad_token"):
        TransformersClassifier(make_net(), LABELS, tokenizer=make_tokenizer(pad_token=None))


def test_the_version_names_what_decides(trained):
    assert len(trained.version) == 64
    version = untrained().version
    assert untrained().version == version
    model = untrained()
    model.batch(["a much longer text than the one before", "good"])
    model.set_version(None)
    assert model.version == version  # asking changes nothing
    assert untrained(max_length=5).version != version
    assert untrained(score="margin").version != version
    other = TransformersClassifier(make_net(seed=1), LABELS, tokenizer=make_tokenizer())
    assert other.version != version


# --- files --------------------------------------------------------------------------------------------------------


def test_save_and_load(trained, tmp_path):
    model = trained.clone()
    model.calibrate(*rows(50, seed=8))
    model.name, model.input_key, model.max_length = "first", "text", 16
    model.set_version(None)
    model.save(tmp_path)
    model.save(tmp_path)  # over itself
    assert {f.suffix for f in tmp_path.rglob("*") if f.is_file()} <= {".json", ".safetensors", ".jinja"}
    again = TransformersClassifier.load(tmp_path, device="cpu")
    assert again.version == model.version
    assert (again.name, again.input_key, again.max_length, again.labels) == ("first", "text", 16, LABELS)
    texts, _ = rows(20, seed=9)
    assert again.batch(texts) == model.batch(texts)
    again.fit(*rows(40), epochs=1)


def test_an_unfitted_one_is_not_saved(tmp_path):
    make_net().bert.save_pretrained(tmp_path)
    with pytest.raises(NotFittedError):
        TransformersClassifier(tmp_path, tokenizer=make_tokenizer()).save(tmp_path / "x")


def test_a_callable_score_is_given_again(tmp_path):
    untrained(score=lambda p: p["pos"]).save(tmp_path)
    with pytest.raises(ValueError, match="score="):
        TransformersClassifier.load(tmp_path)
    assert TransformersClassifier.load(tmp_path, score=lambda p: p["pos"]).invoke("good")["confidence"] < 1


@pytest.mark.parametrize("victim", ["model.json", "model.safetensors", "tokenizer/tokenizer.json"])
@pytest.mark.parametrize("harm", ["missing", "cut", "changed"])
def test_damage_is_noticed(tmp_path, victim, harm):
    untrained().save(tmp_path)
    file = tmp_path / victim
    body = file.read_bytes()
    if harm == "missing":
        file.unlink()
    elif harm == "cut":
        file.write_bytes(body[: len(body) // 2])
    else:
        file.write_bytes(body.replace(b"pos", b"pas", 1) if victim == "model.json" else body[:-9] + b" " * 9)
    with pytest.raises(ValueError, match=r"missing|damaged|changed"):
        TransformersClassifier.load(tmp_path)


def test_files_that_were_not_saved_are_not_read(tmp_path):
    untrained().save(tmp_path)
    (tmp_path / "tokenizer" / "added_tokens.json").write_text('{"phone": 5}')
    assert TransformersClassifier.load(tmp_path).version == untrained().version
