"""`paper_captions --full`: the paper's own set and large captioner, COCO and BLIP-2.

The 5,000 pictures of val2017 (`python -m benchmarks.data coco`, 1.1 GB, checked), and two folders of captioners of the
transformers library: `DSPLUS_BLIP2` names the large one, `DSPLUS_CAPTIONER` the small one (such as BLIP-base, instead
of the paper's ResNet-101 and LSTM). Each picture is captioned once by both; a seed draws the fifth that chooses.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import data
from benchmarks.harness import Context
from benchmarks.paper.captions import Piece, Said

FOLDERS = {"small": "DSPLUS_CAPTIONER", "large": "DSPLUS_BLIP2"}
REFERENCES = 5
CHOOSE = 5
"""One picture in so many chooses the threshold."""


def folder(variable: str) -> Path:
    """The folder of a captioner.

    Raises:
        FileNotFoundError: If the variable names none.
    """
    found = Path(os.environ.get(variable, "")).expanduser()
    if not (found / "config.json").is_file():
        msg = f"`--full` needs a captioner: name its folder (BLIP-2 as the large one, safetensors) in {variable}"
        raise FileNotFoundError(msg)
    return found


def words_of(text: str) -> str:
    """A caption as BLEU compares it: words in lower case, without marks."""
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


def write(path: Path, pictures: Sequence[bytes], advance: Any, batch: int = 8) -> Said:
    """Greedy captions by a model of transformers, each with its tokens' probabilities."""
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

    model: Any = AutoModelForImageTextToText.from_pretrained(path, local_files_only=True, use_safetensors=True).eval()
    processor: Any = AutoImageProcessor.from_pretrained(path, local_files_only=True)
    tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True)
    special, found = set(tokenizer.all_special_ids), []
    for start in range(0, len(pictures), batch):
        some = [Image.open(io.BytesIO(each)).convert("RGB") for each in pictures[start : start + batch]]
        with torch.inference_mode():
            seen = processor(images=some, return_tensors="pt")["pixel_values"]
            out = model.generate(
                pixel_values=seen, max_new_tokens=30, do_sample=False, num_beams=1, output_scores=True,
                return_dict_in_generate=True,
            )  # fmt: skip
        said = out.sequences[:, -len(out.scores) :]
        sure = torch.softmax(torch.stack(out.scores, 1), -1).gather(2, said[..., None])[..., 0]
        for tokens, chances in zip(said.tolist(), sure.tolist(), strict=True):
            # Behind its end a caption is padded, with tokens that are special too.
            kept = [p for token, p in zip(tokens, chances, strict=True) if token not in special]
            found.append((words_of(tokenizer.decode(tokens, skip_special_tokens=True)), kept))
        advance(len(some))
    return found


def pieces(context: Context, seeds: int) -> Iterator[Piece]:
    """What both say of every picture, in the order of each seed.

    Raises:
        FileNotFoundError: If the pictures or a captioner are not here; the message says what to do.
    """
    paths = {name: folder(variable) for name, variable in FOLDERS.items()}
    rows, archive = data.coco()
    with zipfile.ZipFile(archive) as pictures:
        shown = [pictures.read(row.picture) for row in rows]
    with context.progress("captions", len(paths) * len(rows)) as advance:
        said = {name: write(path, shown, advance) for name, path in paths.items()}
    references = [[words_of(each) for each in row.captions[:REFERENCES]] for row in rows]
    for seed in range(seeds):
        order = context.random(f"pictures {seed}").sample(range(len(rows)), len(rows))
        drawn = {name: [captions[place] for place in order] for name, captions in said.items()}
        yield Piece(drawn, [references[place] for place in order], len(rows) // CHOOSE)
