"""`paper_captions --full` on fake pictures and a tiny random BLIP-2: the same code, from files to figures."""

import hashlib
import io
import json
import zipfile

import numpy as np
import pytest

from benchmarks import data
from benchmarks.harness import Context
from benchmarks.paper import captions, coco

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("sacrebleu")
Image = pytest.importorskip("PIL.Image")

PICTURES = 12
WORDS = ["<s>", "</s>", "<pad>", "<image>", "a", "red", "green", "blue", "square", "on", "grass", "is", "shown"]


@pytest.fixture
def pictures(monkeypatch, tmp_path):
    """COCO's two archives: pictures of one color each, in a folder that DSPLUS_DATA names."""
    folder = tmp_path / "data" / "coco"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"{n:012}.jpg" for n in range(PICTURES)]
    with zipfile.ZipFile(folder / "val2017.zip", "w") as archive:
        for name in names:
            body = io.BytesIO()
            Image.new("RGB", (20, 14), tuple(rng.integers(0, 256, 3).tolist())).save(body, "JPEG")
            archive.writestr(f"val2017/{name}", body.getvalue())
    told = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
        "annotations": [
            {"image_id": n, "caption": f"A {color} square on grass."}
            for n in range(PICTURES)
            for color in ("red", "green", "blue", "Red", "GREEN", "blue")
        ],
    }
    with zipfile.ZipFile(folder / "annotations_trainval2017.zip", "w") as archive:
        archive.writestr("annotations/captions_val2017.json", json.dumps(told))
    sums = {f"x/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    files = tuple(data.Remote(name.partition("/")[2], found, "http://x") for name, found in sums.items())
    monkeypatch.setitem(data.DATA_SETS, "coco", data.DataSet("coco", "fake", "here", "none", files))
    monkeypatch.setenv("DSPLUS_DATA", str(tmp_path / "data"))
    return folder


@pytest.fixture
def blip(monkeypatch, tmp_path):
    """Two random ones of different seeds."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = {
        "hidden_size": 16,
        "word_embed_proj_dim": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "ffn_dim": 32,
    }
    config = transformers.Blip2Config(
        vision_config={**size, "image_size": 16, "patch_size": 8},
        qformer_config={**size, "vocab_size": 16, "encoder_hidden_size": 16},
        text_config={**text, "model_type": "opt", "vocab_size": len(WORDS), "bos_token_id": 0, "eos_token_id": 1,
                     "pad_token_id": 2, "max_position_embeddings": 64},
        num_query_tokens=2,
        image_token_index=3,
    )  # fmt: skip
    for seed, variable in enumerate(coco.FOLDERS.values()):
        torch.manual_seed(seed)
        folder = tmp_path / variable
        model = transformers.Blip2ForConditionalGeneration(config)
        with torch.no_grad():  # so that what it writes depends on what it sees
            for weight in model.parameters():
                weight.normal_(std=0.6)
        model.save_pretrained(folder)
        transformers.BlipImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
        ).save_pretrained(folder)
        monkeypatch.setenv(variable, str(folder))


def test_from_files_to_figures(pictures, blip):
    figures = captions.run(Context("paper_captions", full=True))
    assert (figures["small.calls"], figures["large.calls"]) == (0, 100)
    assert 0 <= figures["router.calls"] <= 100
    for arm in captions.ARMS:
        assert 0 <= figures[f"{arm}.accuracy"] < 60  # random words against captions
    assert captions.verdict(figures)
    assert captions.tables(figures)


def test_a_caption_has_a_probability_for_each_of_its_tokens(pictures, blip):
    rows, archive = data.coco()
    with zipfile.ZipFile(archive) as opened:
        shown = [opened.read(row.picture) for row in rows[:3]]
    found = coco.write(coco.folder("DSPLUS_BLIP2"), shown, lambda _: None, batch=2)
    alone = [coco.write(coco.folder("DSPLUS_BLIP2"), [each], lambda _: None)[0] for each in shown]
    for (text, sure), (same, also) in zip(found, alone, strict=True):
        assert text == same
        assert sure == pytest.approx(also, abs=1e-5)
        assert len(sure) == len(text.split()) > 0  # every token is a word here
        assert all(0 < p <= 1 for p in sure)


def test_damaged_files_and_missing_captioners_are_told(pictures, monkeypatch, tmp_path):
    monkeypatch.setenv("DSPLUS_BLIP2", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="DSPLUS_BLIP2"):
        coco.folder("DSPLUS_BLIP2")
    with (pictures / "val2017.zip").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"SHA-256 of val2017\.zip"):
        data.coco()
