"""`ClipClassifier` against a tiny random CLIP, asked by hand."""

import asyncio
import itertools

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("PIL")

import torch
import transformers
from torch import nn

from langchain_dsplus.answer import EscalationContext, InputError
from langchain_dsplus.identity import identify
from langchain_dsplus.prompts.images import ClipClassifier
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.small_models.image import ImageClassifier, ImagePreprocess

LABELS = ["cat", "guinea_pig", "owl", "ant", "cow", "{p}"]
PLAIN = ["a photo of a cat", "a photo of a guinea pig", "a photo of a owl", "a photo of a ant", "a photo of a cow"]
PLAIN = [*PLAIN, "a photo of a {p}"]
SEEN = ImagePreprocess(size=(16, 16), mean=(0.5,), std=(0.5,), resample=3)


def make_tokenizer():
    letters = [chr(number) for number in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(vocab={word: place for place, word in enumerate(words)}, merges=[])


def make_clip(seed=0):
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = {**size, "vocab_size": 190, "max_position_embeddings": 60, "bos_token_id": 188, "eos_token_id": 189}
    config = transformers.CLIPConfig(
        text_config=text, vision_config={**size, "image_size": 16, "patch_size": 8}, projection_dim=8
    )
    torch.manual_seed(seed)
    model = transformers.CLIPModel(config).eval()
    # Random texts are all alike to it: the scale makes the choices differ.
    with torch.no_grad():
        model.logit_scale.fill_(5.0)
    return model


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def clip():
    return make_clip()


@pytest.fixture(scope="module")
def folder(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip")
    clip.save_pretrained(path)
    make_tokenizer().save_pretrained(path)
    (path / "preprocessor_config.json").write_text(
        '{"do_resize": true, "size": {"height": 16, "width": 16}, "image_mean": [0.5], "image_std": [0.5], "resample": 3}'
    )
    return path


def made(model, **options):
    options = {
        "labels": LABELS,
        "tokenizer": make_tokenizer(),
        "preprocess": SEEN,
        "image": {"device": "cpu"},
    } | options
    return ClipClassifier(model, **options)


def pictures(n, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (20, 24, 3), dtype=np.uint8) for _ in range(n)]


def by_hand(clip, picture, texts):
    """The softmax over texts, as the library's own model computes it."""
    tokens = make_tokenizer()(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        pixels = torch.from_numpy(SEEN(picture))[None]
        return clip(**tokens, pixel_values=pixels).logits_per_image.softmax(1)[0].tolist()


def context(numbers):
    return EscalationContext(None, dict(zip(LABELS, numbers, strict=True)))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("pruning", ["soft", "hard", "keep", "none"])
def test_it_compares_the_image_with_the_texts_of_the_classes_that_are_offered(clip, pruning, seed):
    rng = np.random.default_rng(seed)
    large = made(clip, pruning=pruning, proficient=["owl", "cow"] if pruning == "hard" else None, top_k=3)
    for picture in pictures(3, seed):
        numbers = np.round(rng.dirichlet(np.full(6, 0.5)), 4)
        said = context(numbers.tolist())
        texts = dict(zip(LABELS, PLAIN, strict=True))
        top = LABELS[int(numbers.argmax())]
        if pruning == "soft":
            texts = {y: f"{t} with probability {written(p)}" for (y, t), p in zip(texts.items(), numbers, strict=True)}
        elif pruning == "keep":
            kept = sorted(LABELS, key=lambda label: -numbers[LABELS.index(label)])[:3]
            texts = {label: text for label, text in texts.items() if label in kept}
        elif pruning == "hard" and top not in ("owl", "cow"):
            texts = {label: text for label, text in texts.items() if label not in ("owl", "cow")}
        (answer,) = large.answers([{"image": picture, "dsplus": said}])
        wanted = dict(zip(texts, by_hand(clip, picture, list(texts.values())), strict=True))
        assert answer["probabilities"] == pytest.approx({y: wanted.get(y, 0.0) for y in LABELS}, abs=1e-4)
        assert answer["choice"] == max(wanted, key=wanted.get)
        assert answer["confidence"] == answer["probabilities"][answer["choice"]]
        assert said.notes["pruning"].startswith(pruning)
        assert said.notes.get("candidates", LABELS) == list(texts)
        # Without a word of the small model: the plain texts in every mode.
        plain = by_hand(clip, picture, PLAIN)
        for empty in ({}, {"dsplus": EscalationContext(None, {})}, {"probabilities": {}}):
            (answer,) = large.answers([{"image": picture, **empty}])
            assert list(answer["probabilities"].values()) == pytest.approx(plain, abs=1e-4)


def written(p):
    return "<0.01" if p < 0.005 and p > 0 else ">0.99" if 0.995 <= p < 1 else f"{p:.2f}"


def test_on_both_sides_of_a_router(folder):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 6))
    small = ImageClassifier(net, LABELS, preprocess=SEEN, device="cpu", input_key="image")
    large = ClipClassifier(folder, LABELS, pruning="soft", image={"device": "cpu", "batch_size": 3})
    rows = [{"image": picture} for picture in pictures(8)]
    confidence = [answer["confidence"] for answer in small.batch(rows)]
    cut = float(np.median(confidence))
    with ConfidenceRouter(small=small, large=large, threshold=cut, include_route=True) as router:
        found = router.batch(rows)
        later = asyncio.run(router.abatch(rows))
        one = router.invoke(rows[0])
    assert [item["output"] for item in found] == [item["output"] for item in later]
    assert one["output"] == found[0]["output"]
    escalated = [not item["route"]["accepted"] for item in found]
    assert escalated == [not sure > cut for sure in confidence]
    for row, item, answer in zip(rows, found, small.batch(rows), strict=True):
        if item["route"]["accepted"]:
            assert item["output"] == answer["choice"]
        else:
            assert item["route"]["pruning"] == "soft"
            assert item["output"] == large.invoke({**row, "probabilities": answer["probabilities"]})


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_an_image_that_cannot_be_read_spoils_no_other(clip, batch):
    large = made(clip, image={"device": "cpu", "batch_size": batch})
    good = pictures(3)
    values = [{"image": good[0]}, {"image": b"secret"}, {"picture": 1}, {"image": good[1]}, "text", {"image": good[2]}]
    found = large.batch(values, return_exceptions=True)
    assert [isinstance(one, InputError) for one in found] == [False, True, True, False, True, False]
    assert not any("secret" in str(one) for one in found)
    assert [found[0], found[3], found[5]] == large.batch([{"image": one} for one in good])
    with pytest.raises(InputError, match="`input_key`"):
        large.invoke({"picture": 1})


def test_what_decides_is_its_identity(clip):
    changes = [{}, {"pruning": "soft"}, {"prompt": "{label}"}, {"names": {"cat": "tom"}}, {"top_k": 2}]
    known = [identify(made(clip, **change)) for change in changes] + [identify(made(make_clip(1)))]
    assert not any(one.unverifiable for one in known)
    assert all(a.large != b.large for a, b in itertools.combinations(known, 2))
    assert identify(made(clip)).large == known[0].large


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"prompt": "a photo"}, ValueError, "`prompt`"),
        ({"soft_prompt": "{label}"}, ValueError, "`soft_prompt`"),
        ({"tokenizer": None}, ValueError, "`tokenizer`"),
        ({"preprocess": None}, ValueError, "`preprocess`"),
        ({"pruning": "hard"}, ValueError, "`proficient`"),
    ],
)
def test_wrong_arguments(clip, options, error, match):
    with pytest.raises(error, match=match):
        made(clip, **options)


def test_a_model_that_compares_nothing(tmp_path):
    bert = transformers.BertModel(
        transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    )
    with pytest.raises(TypeError, match="get_text_features"):
        made(bert)
    with pytest.raises(TypeError, match="transformers"):
        made(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="safetensors"):
        ClipClassifier(tmp_path, LABELS)
