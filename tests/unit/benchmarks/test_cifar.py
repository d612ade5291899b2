"""`paper_longtail --full` on fake pictures and a tiny random CLIP: the same code, from files to figures."""

import hashlib

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("PIL")

import torch
import transformers

from benchmarks import data
from benchmarks.harness import Context
from benchmarks.paper import cifar, longtail

NAMES = [f"thing_{number}" for number in range(8)]


@pytest.fixture
def pictures(monkeypatch, tmp_path):
    """CIFAR's binary form: 8 classes of blocks of color, in a folder that DSPLUS_DATA names."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "cifar100"
    folder.mkdir(parents=True)
    for name, count in (("train.bin", 400), ("test.bin", 60)):
        y = rng.integers(0, 8, count)
        colors = np.stack([y % 2, y // 2 % 2, y // 4], axis=1) * 150 + rng.integers(0, 60, (count, 3))
        planes = np.repeat(colors.astype(np.uint8), 1024, axis=1)
        body = np.concatenate([np.zeros((count, 1)), y[:, None], planes], axis=1).astype(np.uint8).tobytes()
        (folder / name).write_bytes(body)
        monkeypatch.setitem(data._CIFAR_FILES, name, hashlib.sha256(body).hexdigest())
    (folder / "fine_label_names.txt").write_text("\n".join(NAMES) + "\n")
    monkeypatch.setenv("DSPLUS_DATA", str(tmp_path / "data"))
    return folder


@pytest.fixture
def clip(monkeypatch, tmp_path):
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = {**size, "vocab_size": 190, "max_position_embeddings": 60, "bos_token_id": 188, "eos_token_id": 189}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=text, vision_config={**size, "image_size": 16, "patch_size": 8})
    transformers.CLIPModel(config).save_pretrained(tmp_path / "clip")
    letters = [chr(number) for number in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {word: place for place, word in enumerate(words)}
    transformers.CLIPTokenizer(vocab=vocab, merges=[]).save_pretrained(tmp_path / "clip")
    (tmp_path / "clip" / "preprocessor_config.json").write_text('{"size": {"height": 16, "width": 16}}')
    monkeypatch.setenv("DSPLUS_CLIP", str(tmp_path / "clip"))


def test_from_files_to_figures(pictures, clip, monkeypatch):
    torch.set_num_threads(1)
    sizes = cifar.Sizes(most=40, pool=40, choose=60, epochs=6, rounds=2, blocks=1, head=15, tail=5)
    plain = cifar.full
    monkeypatch.setattr(cifar, "full", lambda context, seeds: plain(context, min(seeds, 2), sizes))
    context = Context("paper_longtail", full=True)
    figures = longtail.run(context)
    assert {f"{arm}.accuracy" for arm in cifar.ARMS} <= figures.keys()
    assert (figures["small.calls"], figures["large.calls"]) == (0, 100)
    assert figures["small.accuracy"] > 30 > figures["large.accuracy"]  # colors are learned, a random CLIP knows nothing
    assert figures["small.head"] > figures["small.tail"]
    # The threshold is chosen on other rows, so that the cascade may lose a little to its better half, and no more.
    assert figures["ds.accuracy"] > figures["small.accuracy"] - 10
    assert longtail.verdict(figures)
    assert longtail.tables(figures)


def test_the_files_are_compared_with_their_sums(pictures):
    found = data.cifar100()
    assert found.labels == NAMES
    assert found.train[0].shape == (400, 32, 32, 3)
    # Planes of one color each: every pixel of a picture is the same.
    assert (found.test[0] == found.test[0][:, :1, :1]).all()
    assert len(set(found.test[0][0, 0, 0].tolist())) > 1
    body = (pictures / "test.bin").read_bytes()
    (pictures / "test.bin").write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"SHA-256 of test\.bin"):
        data.cifar100()


def test_without_a_model_it_says_what_to_name(monkeypatch, tmp_path):
    monkeypatch.setenv("DSPLUS_CLIP", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="DSPLUS_CLIP"):
        cifar.clip_folder()


@pytest.mark.parametrize("blocks", [1, 5])
def test_the_network_has_the_layers_that_its_name_says(blocks):
    net = cifar.resnet(100, blocks)
    layers = [part for part in net.modules() if isinstance(part, (torch.nn.Conv2d, torch.nn.Linear))]
    assert len(layers) == 6 * blocks + 2
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 100)
