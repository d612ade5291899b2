import io
import json
import struct
import zlib

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("PIL")

import torch
import transformers
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

from langchain_dsplus.answer import InputError
from langchain_dsplus.learning.two_stage import TwoStageConfidenceDistillation
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.small_models.base import UNVERIFIABLE
from langchain_dsplus.small_models.files import checksum
from langchain_dsplus.small_models.image import ImageClassifier, ImagePreprocess

DIGITS = [str(d) for d in range(10)]
GRAY = ImagePreprocess(size=(8, 8), channels=1)


def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 10),
    )  # fmt: skip


class Plain(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.width = width
        self.layer = nn.Linear(3 * 8 * 8, 2)

    def forward(self, x):
        return self.layer(x.flatten(1)) * self.width


def untrained(**options):
    return ImageClassifier(build(), DIGITS, preprocess=GRAY, device="cpu", **options)


def plain(**options):
    torch.manual_seed(1)
    return ImageClassifier(Plain(), ["a", "b"], preprocess=ImagePreprocess(size=(8, 8)), device="cpu", **options)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    images = (data.images / 16.0).astype(np.float32)
    labels = [str(d) for d in data.target]
    order = np.random.default_rng(0).permutation(len(images))
    return [images[i] for i in order], [labels[i] for i in order]


@pytest.fixture(scope="module")
def trained(one_thread, digits):
    images, labels = digits
    return untrained().fit(images[:1200], labels[:1200], epochs=5, lr=5e-3)


def png(image, kind="PNG", **options):
    body = io.BytesIO()
    image.save(body, kind, **options)
    return body.getvalue()


def picture(seed=0, size=(20, 30), mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


# --- training -----------------------------------------------------------------------------------------------------


def test_it_learns_digits(trained, digits):
    images, labels = digits[0][1200:], digits[1][1200:]
    right = np.mean([a["choice"] == x for a, x in zip(trained.batch(images), labels, strict=True)])
    assert right > 0.95
    first = np.mean([a["choice"] == x for a, x in zip(untrained().batch(images), labels, strict=True)])
    assert first < 0.3


def test_soft_targets_and_steps(digits):
    model = untrained()
    image = digits[0][0]
    losses = model.train_steps([image] * 16, [{"3": 0.8, "5": 0.2}] * 16, epochs=60, lr=1e-2)
    assert losses[-1] < losses[0]
    p = model.invoke(image)["probabilities"]
    assert (p["3"], p["5"]) == pytest.approx((0.8, 0.2), abs=0.05)


def test_two_stage_distillation(digits):
    images, labels = digits
    specific = untrained().fit(images[:100], labels[:100], epochs=8, lr=5e-3)
    version = specific.version
    images, labels = images[150:900], labels[150:900]
    result = TwoStageConfidenceDistillation(specific, threshold=0.6, rounds=8, lr=5e-3).distil(images, labels)
    assert specific.version == version != result.model.version
    assert len(result.x1) > 50

    def right(model):  # where the large model taught
        answers = model.batch([images[place] for place in result.x3])
        return np.mean([a["choice"] == labels[place] for a, place in zip(answers, result.x3, strict=True)])

    assert right(result.model) > right(specific) + 0.02
    assert result.losses[-1][0] < result.losses[0][0]


def test_steps_leave_batch_norm_as_it_is(digits):
    model = untrained().fit(digits[0][:64], digits[1][:64], epochs=1)
    before = model.module[1].running_mean.clone()
    model.train_steps(digits[0][:1], digits[1][:1])  # one row alone
    assert torch.equal(model.module[1].running_mean, before)
    model.fit(digits[0][:64], digits[1][:64], epochs=1)
    assert not torch.equal(model.module[1].running_mean, before)


def test_many_images_are_opened_batch_by_batch(digits, monkeypatch):
    images, labels = digits
    one = untrained().fit(images[:65], labels[:65], epochs=1)
    monkeypatch.setattr("langchain_dsplus.small_models.image._KEEP_IN_MEMORY", 100)
    two = untrained().fit(images[:65], labels[:65], epochs=1)
    assert one.version == two.version


def test_an_unreadable_image_is_named_by_its_place(digits):
    with pytest.raises(InputError, match="item 2"):
        untrained().fit([*digits[0][:2], b"no image"], ["3", "4", "3"])


def test_a_clone_is_untied(trained, digits):
    copy = trained.clone()
    assert copy.version == trained.version
    copy.train_steps(digits[0][:20], digits[1][:20])
    assert copy.version != trained.version


# --- inputs -------------------------------------------------------------------------------------------------------


def test_the_same_image_in_every_form(tmp_path):
    model = plain()
    image = picture(size=(8, 8))
    body = png(image)
    (tmp_path / "a.png").write_bytes(body)
    array = np.asarray(image)
    forms = [
        image, body, bytearray(body), tmp_path / "a.png", str(tmp_path / "a.png"), array, array.astype(np.int64),
        (array / 255.0), array.astype(np.uint16) * 257, torch.tensor(array), torch.tensor(array).permute(2, 0, 1),
        np.dstack([array, np.full((8, 8), 9, dtype=np.uint8)]),
    ]  # fmt: skip
    expected = model.invoke(image)["probabilities"]
    for number, form in enumerate(forms):
        assert model.invoke(form)["probabilities"] == pytest.approx(expected, abs=1e-5), number
    keyed = plain(input_key="image")
    assert keyed.invoke({"image": body, "text": "x"})["probabilities"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("channels", [1, 3])
def test_color_modes(mode, channels):
    out = ImagePreprocess(size=(5, 6), channels=channels)(picture(mode=mode))
    assert out.shape == (channels, 5, 6)
    assert out.dtype == np.float32
    assert out.min() >= 0.0
    assert 0.01 < out.max() <= 1.0


def test_sixteen_bits():
    deep = Image.fromarray(np.full((8, 8), 65535, dtype=np.uint16))
    assert GRAY(deep).min() == pytest.approx(1.0)
    with pytest.raises(InputError, match="8 bits"):
        GRAY(Image.fromarray(np.full((8, 8), 7, dtype=np.int32)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_kinds_of_file(kind):
    flat = Image.new("RGB", (16, 16), (200, 30, 90))
    read = plain().read(png(flat, kind)).array
    assert read[:, 4, 4] == pytest.approx(np.array([200, 30, 90]) / 255, abs=0.02)


def test_photos_are_turned_as_they_say():
    image = Image.fromarray(np.vstack([np.zeros((8, 16, 3), np.uint8), np.full((8, 16, 3), 255, np.uint8)]))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = plain().read(png(image, "JPEG", exif=exif)).array
    assert turned[:, 0].mean() > 0.9
    assert turned[:, -1].mean() < 0.1


SECRET = "/private/of-a-user.png"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (SECRET, "cannot be opened"),
        ("a\0b", "cannot be opened"),
        ("x" * 10_000, "cannot be opened"),
        ("https://example.org/a.png", "URLs"),
        ("data:image/png;base64,AAAA", "URLs"),
        ("/dev/zero", "no plain file"),
        ("/", "cannot be opened"),
        (b"", "cannot be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be read"),
        (png(picture())[:300], "cannot be read"),
        (7, "PIL image"),
        (None, "PIL image"),
        ({"image": b"", "text": ""}, "input_key"),
        (np.zeros(3), "empty"),
        (np.zeros((0, 4)), "empty"),
        (np.zeros((4, 4, 7)), "shape"),
        (np.full((4, 4), 3.0), "0 to 1"),
        (np.full((4, 4), np.nan), "0 to 1"),
        (np.full((4, 4), -1), "0 to 255"),
        (np.full((4, 4), "a"), "numbers"),
    ],
)
def test_what_is_no_image(value, words):
    with pytest.raises(InputError, match=words) as caught:
        plain().invoke(value)
    assert "private" not in str(caught.value)


def test_a_bad_item_harms_only_itself(trained, digits):
    good, bad, also = trained.batch([digits[0][0], b"no", digits[0][1]], return_exceptions=True)
    assert isinstance(bad, InputError)
    assert [good["choice"], also["choice"]] == [trained.invoke(x)["choice"] for x in digits[0][:2]]

    def ask(_) -> str:
        return "asked"

    router = ConfidenceRouter(small=trained, large=ask, threshold=0.0)
    assert router.batch([digits[0][0], b"no"]) == [good["choice"], "asked"]


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def claimed(width, height, body=b""):
    """A PNG of a few bytes that unpacks to width times height pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height"), [(30_000, 30_000), (8_000, 8_000), (2**31 - 1, 2**31 - 1), (10_000, 9_500)]
)
def test_bombs_are_refused_before_they_are_unpacked(width, height, monkeypatch):
    from PIL import PngImagePlugin

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("unpacked"))
    with pytest.raises(InputError):
        plain().invoke(claimed(width, height))


def test_limits(tmp_path):
    body = png(picture())
    (tmp_path / "a.png").write_bytes(body)
    assert plain(max_pixels=600).invoke(body)["choice"] in "ab"
    for value in (body, picture(), np.asarray(picture()), tmp_path / "a.png"):
        with pytest.raises(InputError, match="max_pixels"):
            plain(max_pixels=599).invoke(value)
    for value in (body, tmp_path / "a.png"):
        with pytest.raises(InputError, match="max_bytes"):
            plain(max_bytes=100).invoke(value)


def test_a_sliver_does_not_grow():
    with pytest.raises(InputError, match="long and narrow"):
        ImagePreprocess(shortest_edge=256, crop=(224, 224))(np.zeros((1, 10_000), np.uint8))


def test_root(tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    for folder in (tmp_path, inside):
        (folder / "a.png").write_bytes(png(picture()))
    (inside / "link.png").symlink_to(tmp_path / "a.png")
    model = plain(root=inside)
    assert model.invoke("a.png")["choice"] in "ab"
    assert model.invoke(inside / "a.png")["choice"] in "ab"
    for path in ("../a.png", tmp_path / "a.png", "link.png"):
        with pytest.raises(InputError, match="outside `root`"):
            model.invoke(path)


# --- preprocessing ------------------------------------------------------------------------------------------------


def test_resizing_cropping_normalizing():
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 20:] = 255
    out = ImagePreprocess(shortest_edge=10, crop=(10, 10), mean=(0.5, 0.5, 0.5), std=(0.5,))(image)
    assert out.shape == (3, 10, 10)
    assert out[:, :, 0] == pytest.approx(-1.0)
    assert out[:, :, -1] == pytest.approx(1.0)
    padded = ImagePreprocess(crop=(30, 40))(np.full((20, 40), 255, np.uint8))
    assert padded[:, :5].max() == 0.0
    assert padded[:, 5:25].min() == 1.0
    assert ImagePreprocess(scale=1.0)(image).max() == 255.0


def test_floats_and_bytes_are_resized_alike():
    array = np.asarray(picture())
    one, two = (ImagePreprocess(size=(9, 7))(x) for x in (array, array / 255.0))
    assert one == pytest.approx(two, abs=0.01)


@pytest.mark.parametrize("edge", ["size", "shortest"])
def test_the_same_as_the_transformers_library(edge):
    size = {"height": 16, "width": 12} if edge == "size" else {"shortest_edge": 16}
    crop = {} if edge == "size" else {"do_center_crop": True, "crop_size": {"height": 12, "width": 12}}
    kind = getattr(transformers, "ViTImageProcessorPil" if edge == "size" else "CLIPImageProcessorPil", None)
    if kind is None:
        pytest.skip("this transformers has no image processor without torchvision")
    processor = kind(size=size, **crop)
    ours = ImagePreprocess.from_config(processor.to_dict())
    image = picture(size=(40, 50))
    theirs = processor(images=[image], return_tensors="np")["pixel_values"][0]
    assert ours(image) == pytest.approx(theirs, abs=1e-4)
    model = ImageClassifier(Plain(), ["a", "b"], preprocess=processor)
    assert model.read(image).array == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        {"size": {"shortest_edge": 224}, "crop_pct": 0.875},
        {"size": {"longest_edge": 224}},
        {"size": {"height": 8, "width": 8}, "do_pad": True},
        {},
    ],
)
def test_other_preprocessing_is_not_guessed(config):
    with pytest.raises(ValueError, match="pass it as `preprocess=`"):
        ImagePreprocess.from_config(config)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"size": (0, 4)}, "size"),
        ({"size": (4,)}, "size"),
        ({"size": (10**6, 4)}, "size"),
        ({"crop": (2, "3")}, "crop"),
        ({"shortest_edge": -1}, "shortest_edge"),
        ({"shortest_edge": 4, "size": (4, 4)}, "shortest_edge"),
        ({"channels": 2}, "channels"),
        ({"mean": (0.1, 0.2)}, "mean"),
        ({"mean": (float("nan"),)}, "mean"),
        ({"std": (0.0,)}, "std"),
        ({"scale": 0}, "scale"),
        ({"resample": 9}, "resample"),
    ],
)
def test_settings_that_do_not_fit(settings, name):
    with pytest.raises(ValueError, match=name):
        ImagePreprocess(**settings)


def test_a_function_of_ones_own():
    def halve(image):
        return np.asarray(image.resize((8, 8)), dtype=np.float32).transpose(2, 0, 1) / 510

    model = ImageClassifier(Plain(), ["a", "b"], preprocess=halve)
    assert model.invoke(np.zeros((4, 4)))["choice"] in "ab"
    assert model.version == UNVERIFIABLE
    assert ImageClassifier(Plain(), ["a", "b"], preprocess=halve, version="1").version == "1"
    flat = ImageClassifier(Plain(), ["a", "b"], preprocess=lambda _: np.zeros(4))
    with pytest.raises(InputError, match="preprocess"):
        flat.invoke(picture())


def test_sizes_must_agree():
    model = ImageClassifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)), ["a", "b"])
    assert len(model.batch([picture(), picture(1)])) == 2
    answers = model.batch([picture(), picture(size=(8, 9))])  # each alone, then
    assert [a["choice"] in "ab" for a in answers] == [True, True]
    with pytest.raises(InputError, match="differ in size"):
        model.fit([picture(), picture(size=(8, 9))], ["a", "b"])


# --- what it is ---------------------------------------------------------------------------------------------------


def test_the_version_names_what_decides():
    assert plain().version == plain().version
    other = plain()
    other.module.width = 5
    other.set_version(None)
    assert other.version != plain().version
    changed = ImageClassifier(plain().module, ["a", "b"], preprocess=ImagePreprocess(size=(8, 8), mean=(0.5,)))
    assert changed.version != plain().version
    local = {}
    exec("class Hidden(Plain): pass", {"Plain": Plain, "__name__": "nowhere"}, local)
    hidden = ImageClassifier(local["Hidden"](), ["a", "b"], preprocess=ImagePreprocess(size=(8, 8)))
    assert hidden.version == UNVERIFIABLE


def test_construction_errors():
    with pytest.raises(ValueError, match="labels"):
        ImageClassifier(Plain())
    with pytest.raises(TypeError, match="torch module"):
        ImageClassifier(3, ["a", "b"])
    with pytest.raises(TypeError, match="preprocess"):
        ImageClassifier(Plain(), ["a", "b"], preprocess=3)
    wide = ImageClassifier(Plain(), ["a", "b", "c"], preprocess=ImagePreprocess(size=(8, 8)))
    with pytest.raises(ValueError, match=r"expected \(1, 3\)"):
        wide.invoke(picture())


def test_energy(digits):
    model = untrained(score="energy")
    logits = model._logits([digits[0][0]])[0]
    assert model.invoke(digits[0][0])["confidence"] == pytest.approx(np.log(np.exp(logits).sum()), abs=1e-5)


# --- files --------------------------------------------------------------------------------------------------------


def test_save_and_load(trained, digits, tmp_path):
    model = trained.clone()
    model.calibrate(digits[0][1200:], digits[1][1200:])
    model.save(tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    again = ImageClassifier.load(tmp_path, build=build, device="cpu")
    assert again.version == model.version
    assert again.batch(digits[0][:20]) == model.batch(digits[0][:20])


def test_load_needs_the_right_module(tmp_path):
    plain().save(tmp_path)
    with pytest.raises(ValueError, match="build="):
        ImageClassifier.load(tmp_path)
    with pytest.raises(ValueError, match="another module"):
        ImageClassifier.load(tmp_path, build=build)
    assert ImageClassifier.load(tmp_path, build=Plain).version == plain().version


def test_a_preprocessing_of_ones_own_is_given_again(tmp_path):
    ImageClassifier(Plain(), ["a", "b"], preprocess=lambda image: np.zeros((3, 8, 8))).save(tmp_path)
    with pytest.raises(ValueError, match="preprocess="):
        ImageClassifier.load(tmp_path, build=Plain)
    ImageClassifier.load(tmp_path, build=Plain, preprocess=lambda image: np.zeros((3, 8, 8))).invoke(picture())


@pytest.mark.parametrize("victim", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("harm", ["missing", "cut", "changed"])
def test_damage_is_noticed(tmp_path, victim, harm):
    plain().save(tmp_path)
    file = tmp_path / victim
    body = file.read_bytes()
    if harm == "missing":
        file.unlink()
    elif harm == "cut":
        file.write_bytes(body[: len(body) // 2])
    else:
        file.write_bytes(body.replace(b'"a"', b'"c"', 1) if victim == "model.json" else body[:-4] + b"1234")
    with pytest.raises(ValueError, match=r"missing|damaged|changed"):
        ImageClassifier.load(tmp_path, build=Plain)


@pytest.mark.parametrize(
    "changes",
    [
        {"preprocess": {"size": [0, 1]}},
        {"preprocess": {"no_such": 1}},
        {"preprocess": []},
        {"labels": ["a"]},
        {"labels": ["a", "b", "c"]},
        {"temperature": float("1e999")},
        {"max_pixels": 0},
        {"config": {"model_type": "vit"}},
        {"config": {}},
    ],
)
def test_forged_settings_are_errors_in_words(tmp_path, changes):
    plain().save(tmp_path)
    body = {**json.loads((tmp_path / "model.json").read_text()), **changes}
    if changes.get("temperature") is None:
        body["sha256"] = checksum(body, (tmp_path / "model.safetensors").read_bytes())
    (tmp_path / "model.json").write_text(json.dumps(body))
    with pytest.raises(ValueError):
        ImageClassifier.load(tmp_path, build=Plain).invoke(picture())


def vit():
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=16, patch_size=4,
        id2label={0: "light", 1: "dark"}, label2id={"light": 0, "dark": 1},
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


def resnet():
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic",
        id2label={0: "light", 1: "dark"}, label2id={"light": 0, "dark": 1},
    )  # fmt: skip
    return transformers.ResNetForImageClassification(config)


@pytest.mark.parametrize("make", [vit, resnet])
def test_transformers_models(make, tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(low, low + 100, (20, 20, 3)).astype(np.uint8) for low in [150, 0] * 20]
    model = ImageClassifier(make(), preprocess=ImagePreprocess(size=(16, 16), mean=(0.5,), std=(0.5,)), device="cpu")
    assert model.labels == ["light", "dark"]
    model.fit(images, ["light", "dark"] * 20, epochs=4, lr=1e-3)
    assert [a["choice"] for a in model.batch(images[:6])] == ["light", "dark"] * 3
    model.save(tmp_path)
    again = ImageClassifier.load(tmp_path, device="cpu")
    assert again.version == model.version
    assert again.batch(images) == model.batch(images)
    with pytest.raises(ValueError, match="image processor"):
        ImageClassifier(make())


def test_a_folder_of_the_transformers_library(tmp_path):
    vit().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="preprocessor_config"):
        ImageClassifier(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 16, "width": 16}}))
    model = ImageClassifier(tmp_path, device="cpu")
    assert model.invoke(picture())["choice"] in ("light", "dark")
    three = ImageClassifier(tmp_path, ["a", "b", "c"], device="cpu")  # a new head
    assert set(three.invoke(picture())["probabilities"]) == {"a", "b", "c"}
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors"):
        ImageClassifier(tmp_path)
