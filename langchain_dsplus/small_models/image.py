"""Image classifiers, of torch or of the transformers library, as small models."""

from __future__ import annotations

import io
import json
import math
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from pydantic import Field, PrivateAttr

from langchain_dsplus._imports import require
from langchain_dsplus._inputs import canonical
from langchain_dsplus._json import load_json
from langchain_dsplus.answer import InputError
from langchain_dsplus.confidence import ScoreFunction
from langchain_dsplus.labels import list_labels
from langchain_dsplus.small_models.files import (
    SETTINGS,
    load_folder,
    pick,
    pick_score,
    plain_errors,
    safetensors_folder,
)
from langchain_dsplus.small_models.networks import (
    FORMAT,
    WEIGHTS,
    Network,
    TorchClassifier,
    built_like,
    describe_module,
    import_torch,
    outline_of,
    pick_device,
    take,
    unpack_weights,
)
from langchain_dsplus.small_models.refuse import refuse_code
from langchain_dsplus.small_models.transformers import (
    adopt_labels,
    build_module,
    check_own_class,
    has_head,
    plain_config,
    read_weights,
    told,
)

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Read by Pillow itself: others call programs (EPS) or are rarely tested."""
_KEEP_IN_MEMORY = 512 * 1024 * 1024
_HALF = (0.5,)


@dataclass(frozen=True)
class ImagePreprocess:
    """From an image to what the network reads: resize, crop to the center, scale, normalize. Pillow and NumPy only.

    Attributes:
        size: (height, width) that every image is stretched to. None leaves the size alone.
        shortest_edge: Instead of `size`: scale so that the shorter side has this many pixels.
        crop: (height, width) cut from the center afterwards, with black where the image is smaller.
        channels: 3 for color, 1 for gray.
        mean: Subtracted after scaling; one number, or one for each channel.
        std: Divided by afterwards; greater than 0.
        scale: Factor on pixels from 0 to 255.
        resample: Pillow's number of the filter: 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic.

    Raises:
        ValueError: If a value does not fit; the message names it.

    Example:
        >>> ImagePreprocess(size=(8, 8), channels=1)(np.zeros((16, 12), dtype=np.uint8)).shape
        (1, 8, 8)
    """

    size: tuple[int, int] | None = None
    shortest_edge: int | None = None
    crop: tuple[int, int] | None = None
    channels: int = 3
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1.0 / 255.0
    resample: int = 2

    def __post_init__(self) -> None:
        """Check what is read from a file as strictly as what is given."""
        for name in ("size", "crop"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, value := tuple(value))
                if len(value) != 2 or not all(_is_count(side) for side in value):
                    raise ValueError(f"`{name}` must be (height, width), whole numbers from 1 to 16384")
        if self.shortest_edge is not None and (self.size is not None or not _is_count(self.shortest_edge)):
            raise ValueError("`shortest_edge` must be a whole number from 1 to 16384, without `size` beside it")
        if self.channels not in (1, 3):
            raise ValueError("`channels` must be 3 (color) or 1 (gray)")
        for name in ("mean", "std"):
            given = getattr(self, name)
            values = tuple(float(v) for v in (given if isinstance(given, (tuple, list)) else (given,)))
            object.__setattr__(self, name, values)
            fine = len(values) in (1, self.channels) and all(map(math.isfinite, values))
            if not fine or (name == "std" and min(values) <= 0):
                raise ValueError(
                    f"`{name}` must be one finite number or {self.channels}" + (" above 0" if name == "std" else "")
                )
        if not 0.0 < self.scale < math.inf:
            raise ValueError("`scale` must be a finite number, greater than 0")
        if isinstance(self.resample, bool) or self.resample not in range(6):
            raise ValueError("`resample` must be a whole number from 0 to 5")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read the settings of a transformers image processor (`preprocessor_config.json`).

        Raises:
            ValueError: If it does something else than resizing, center cropping, scaling and normalizing.
        """
        strange = [key for key in ("crop_pct", "rescale_offset", "do_pad", "do_reduce_labels") if config.get(key)]
        size = _sides(config.get("size")) if config.get("do_resize", True) else None
        crop = _sides(config.get("crop_size")) if config.get("do_center_crop") else None
        edge = None
        if isinstance(size, int):
            edge, size = size, None
        if strange or isinstance(crop, int) or (config.get("do_resize", True) and size is None and edge is None):
            what = strange or ["size"]
            raise ValueError(
                f"this image processor does more than `ImagePreprocess` ({what}): load it and pass it as `preprocess=`"
            )
        normalize = config.get("do_normalize", True)
        return cls(
            size=size,
            shortest_edge=edge,
            crop=crop,
            mean=tuple(config.get("image_mean") or _HALF) if normalize else (0.0,),
            std=tuple(config.get("image_std") or _HALF) if normalize else (1.0,),
            scale=float(config.get("rescale_factor", 1.0 / 255.0)) if config.get("do_rescale", True) else 1.0,
            resample=int(config.get("resample", 2)),
        )

    def __call__(self, image: Any) -> Any:
        """Return pixels of shape (channels, height, width), float32.

        Args:
            image: A PIL image, or an array of shape (height, width) or (height, width, 1, 3 or 4): whole numbers from 0
                to 255 (uint16: to 65535), or floats from 0 to 1.

        Raises:
            InputError: If it is no such image, or resizing would make a huge one of it.
        """
        pixels = self._resized(_to_channels(image, self.channels))
        if self.crop is not None:
            pixels = _center(pixels, *self.crop)
        out = pixels.astype(np.float32) * np.float32(self.scale)
        out = (out - np.array(self.mean, dtype=np.float32)) / np.array(self.std, dtype=np.float32)
        return np.ascontiguousarray(out.transpose(2, 0, 1))

    def _resized(self, pixels: Any) -> Any:
        height, width = pixels.shape[:2]
        goal = self.size
        if self.shortest_edge is not None:
            factor = self.shortest_edge / min(height, width)
            goal = max(1, int(height * factor)), max(1, int(width * factor))
            if max(goal) > 64 * min(goal):
                raise InputError("the image is too long and narrow: one side is more than 64 times the other")
        if goal is None or goal == (height, width):
            return pixels
        library: Any = require("PIL.Image", "local")
        if pixels.dtype == np.uint8:
            flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
            resized = np.asarray(library.fromarray(flat).resize((goal[1], goal[0]), self.resample))
            return resized[:, :, None] if resized.ndim == 2 else resized
        planes = [
            np.asarray(library.fromarray(np.ascontiguousarray(plane)).resize((goal[1], goal[0]), self.resample))
            for plane in pixels.transpose(2, 0, 1)
        ]
        return np.stack(planes, axis=2)


class _Pixels(NamedTuple):
    """An image that is ready for the network, shape (channels, height, width)."""

    array: Any


class ImageClassifier(TorchClassifier):
    """Any image classifier of torch or of the transformers library.

    An input is a PIL image, an array (see `ImagePreprocess`), a path, the bytes of a file, or a dict with one of these
    (`input_key`). Files may be PNG, JPEG, WebP, BMP, GIF (first picture), TIFF and PPM; they are turned as their EXIF
    data says. What is too big is refused before it is unpacked. Where inputs come from strangers, give `root`: a str
    is a path, and names any file that the process may read.

    Args:
        model: A torch module from pixels (n, channels, height, width) to logits (n, K); an image classifier of the
            transformers library; or a folder of one, or its name on the hub (safetensors only; its code is never run).
            A module is used as it is, not copied. Its own code is hashed into `version` where the source can be read.
        labels: The classes, in the order of the model's outputs. By default the names in a transformers config.
        preprocess: From an image to the network's pixels: an `ImagePreprocess`; an image processor of the transformers
            library; or a function from a PIL image to an array (channels, height, width). By default what lies in the
            folder; for a torch module `ImagePreprocess()`, which resizes and normalizes nothing.
        device: torch's name of a device; by default the first accelerator, else the CPU.
        batch_size: Images in one step.
        max_pixels: Height times width of an image at most.
        max_bytes: Size of a file at most.
        root: Folder in which paths must lie; by default anywhere.
        **kwargs: `name`, `input_key`, `score`, `version` as in `SmallModel`; also `score="energy"`.

    Raises:
        ValueError: If labels or preprocessing are missing or do not fit.
        TypeError: If `model` or `preprocess` is something else.

    Example:
        ```python
        from torch import nn

        net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))
        small = ImageClassifier(net, labels=list("0123456789"), preprocess=ImagePreprocess(size=(8, 8), channels=1))
        small.fit(images, digits, epochs=10)
        small.invoke("scan.png")["choice"]
        ```
    """

    max_pixels: int = Field(default=50_000_000, ge=1)
    max_bytes: int = Field(default=64 * 1024 * 1024, ge=1)
    root: Path | None = None

    saved_as: ClassVar[str] = "ImageClassifier"

    _preprocess: Any = PrivateAttr(default=None)
    _from_transformers: bool = PrivateAttr(default=False)

    def __init__(
        self, model: Any, labels: Sequence[str] | None = None, *, preprocess: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(labels=list_labels(labels or ()), **kwargs)
        torch = import_torch()
        if isinstance(model, (str, Path)):
            model, preprocess = _read_folder(safetensors_folder(str(model)), self.labels, preprocess)
        if not isinstance(model, torch.nn.Module):
            raise TypeError(
                f"`model` must be a torch module, a folder or a name on the hub, not {type(model).__name__}"
            )
        if type(model).__module__.startswith("transformers."):
            check_own_class(model)
            self._from_transformers = True
            self.labels = adopt_labels(model.config, self.labels)
            if preprocess is None:
                raise ValueError(
                    "`preprocess` is missing: pass the model's image processor, or "
                    "ImagePreprocess(size=..., mean=..., std=...)"
                )
        if len(self.labels) < 2:
            raise ValueError("`labels` needs at least two labels, in the order of the model's outputs")
        preprocess = ImagePreprocess() if preprocess is None else preprocess
        if not callable(preprocess):
            raise TypeError("`preprocess` must be an ImagePreprocess, an image processor, or a function of an image")
        self._preprocess = preprocess
        self._labels_given = True
        self._network = Network(model.to(pick_device(self.device)))

    # --- answers ------------------------------------------------------------------------------------------------

    def read(self, value: Any) -> _Pixels:
        """Make pixels of an input, so that an unreadable image harms only its own item.

        Raises:
            InputError: If there is no image, it is damaged or too big; the message never carries path or image.
        """
        if isinstance(value, _Pixels):
            return value
        value = super().read(value)
        if isinstance(value, Mapping):
            raise InputError(f"the input is a dict: name the key of its image with `input_key=` ({len(value)} keys)")
        image = self._open(value)
        preprocess = self._preprocess
        if isinstance(preprocess, ImagePreprocess):
            return _Pixels(preprocess(image))
        image = _to_picture(image)
        if _is_processor(preprocess):
            found = preprocess(images=[image], return_tensors="np")["pixel_values"][0]
        else:
            found = preprocess(image)
        array = np.asarray(found, dtype=np.float32)
        if array.ndim != 3:
            raise InputError(f"`preprocess` returned shape {array.shape}; expected (channels, height, width)")
        return _Pixels(array)

    def identity(self, value: Any) -> bytes | None:
        """Return the canonical form of an image as it is given: it is not opened for this."""
        try:
            return canonical(super().read(value))
        except InputError:
            return None

    def _read_for_training(self, item: Any) -> Any:
        return item  # opened batch by batch: many images do not fit into memory at once

    def _prepare(self, values: list[Any]) -> list[Any]:
        if not values:
            return []
        first = self.read(values[0])
        if first.array.nbytes * len(values) > _KEEP_IN_MEMORY:
            return [first, *values[1:]]
        ready = [first]
        for place, value in enumerate(values[1:], 1):
            try:
                ready.append(self.read(value))
            except InputError as error:
                raise InputError(f"item {place}: {error}") from None
        return ready

    def _collate(self, items: list[Any]) -> Any:
        arrays = [self.read(item).array for item in items]
        if len({array.shape for array in arrays}) > 1:
            raise InputError(
                "the images differ in size: give ImagePreprocess a `size`, or a `shortest_edge` and a `crop`"
            )
        return import_torch().from_numpy(np.stack(arrays))

    def _forward(self, module: Any, batch: Any) -> Any:
        out = module(pixel_values=batch) if self._from_transformers else module(batch)
        return getattr(out, "logits", out)

    def _open(self, value: Any) -> Any:
        """Return a PIL image or an array; files are opened within the limits."""
        if hasattr(value, "detach"):  # a tensor
            value = value.detach().cpu().numpy()
        if isinstance(value, np.ndarray):
            self._check_pixels(*(value.shape[:2] if value.ndim >= 2 else (0, 0)))
            return value
        library: Any = require("PIL.Image", "local")
        if isinstance(value, (bytes, bytearray, memoryview)):
            value = bytes(value)
            if len(value) > self.max_bytes:
                raise InputError(self._too_long)
        elif isinstance(value, (str, Path)):
            value = self._file(value)
        elif isinstance(value, library.Image):
            self._check_pixels(value.height, value.width)
            return value
        else:
            raise InputError(f"an image must be a PIL image, an array, a path or bytes, not {type(value).__name__}")
        try:
            with library.open(io.BytesIO(value), formats=_FORMATS) as opened:
                self._check_pixels(opened.height, opened.width)  # known before anything is unpacked
                opened.load()
                return require("PIL.ImageOps", "local").exif_transpose(opened)
        except InputError:
            raise
        except Exception as error:  # Pillow raises what its decoders raise, its own warnings as errors among them
            raise InputError(
                f"the image cannot be read: it is damaged, too big, or none of {', '.join(_FORMATS)}"
            ) from error

    def _file(self, name: str | Path) -> bytes:
        if isinstance(name, str) and name[:8].lower().startswith(("http:", "https:", "data:", "ftp:")):
            raise InputError("an image must be a file of this machine: URLs are not fetched")
        try:
            path = Path(name)
            if self.root is not None:
                root = self.root.resolve()
                path = (root / path).resolve()
                if not path.is_relative_to(root):
                    raise InputError("the path lies outside `root`")
            with path.open("rb") as file:
                found = path.stat()
                if not stat.S_ISREG(found.st_mode):
                    raise InputError("the path is no plain file")
                body = file.read(self.max_bytes + 1)
        except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
            raise InputError(f"the image file cannot be opened: {type(error).__name__}") from None
        if len(body) > self.max_bytes:
            raise InputError(self._too_long)
        return body

    @property
    def _too_long(self) -> str:
        return f"the image file has more than {self.max_bytes} bytes (`max_bytes`)"

    def _check_pixels(self, height: int, width: int) -> None:
        if height < 1 or width < 1:
            raise InputError("the image is empty")
        if height * width > self.max_pixels:
            raise InputError(f"the image has more than {self.max_pixels} pixels (`max_pixels`)")

    # --- what it is ---------------------------------------------------------------------------------------------

    def _describe(self) -> dict[str, Any] | None:
        module = self._fitted().module
        preprocess = _describe_preprocess(self._preprocess)
        net = {"config": told(module.config)} if self._from_transformers else describe_module(module)
        if preprocess is None or net is None:
            return None
        return {"class": type(module).__name__, "preprocess": preprocess, **net}

    # --- files --------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write weights (safetensors) and `model.json` into a folder. Of a torch module's code nothing is saved.

        `model.json` is written last and holds a SHA-256 over itself and the weights, so that damage is noticed, and a
        save that was cut off. It is no authentication.
        """
        network = self._fitted()
        own = isinstance(self._preprocess, ImagePreprocess)
        settings = {
            **self._settings(),
            "max_pixels": self.max_pixels,
            "max_bytes": self.max_bytes,
            "preprocess": asdict(self._preprocess) if own else None,
            "config": plain_config(network.module.config) if self._from_transformers else None,
            "module": None if self._from_transformers else outline_of(network.module),
        }
        self._write(path, settings)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        build: Callable[[], Any] | None = None,
        preprocess: Any = None,
        device: str | None = None,
        score: ScoreFunction | None = None,
        root: str | Path | None = None,
    ) -> Self:
        """Read what `save` wrote; runs no code from the folder.

        Args:
            path: The folder.
            build: Returns a new module of the same shape, where a torch module was saved: its code is yours, and is
                not in the folder. A transformers model needs none.
            preprocess: The preprocessing, where it was not an `ImagePreprocess`.
            device: torch's name of a device; by default the first accelerator, else the CPU.
            score: The score, where it was a callable: those are not saved.
            root: Folder in which paths must lie: a place of this machine, so it is not saved.

        Raises:
            ValueError: If a file is missing, cut off or changed, an argument is missing, or `build` makes another
                module.
        """
        folder = Path(path)
        settings, body = load_folder(folder, WEIGHTS, kind=cls.saved_as, version=FORMAT)
        fields = pick(settings, folder, "labels", "name", "input_key")
        known = pick(settings, folder, "score")
        fields.update({name: take(settings, folder, name, int) for name in ("batch_size", "max_pixels", "max_bytes")})
        config = take(settings, folder, "config", dict, type(None))
        saved = take(settings, folder, "preprocess", dict, type(None))
        outline = take(settings, folder, "module", str, type(None))
        if preprocess is None:
            preprocess = _saved_preprocess(saved, folder)
        if config is not None:
            module = build_module(config, "AutoModelForImageClassification", folder)
        elif build is None:
            raise ValueError(
                f"{folder} holds a torch module: pass `build=`, a function that returns a new one of the same shape"
            )
        else:
            module = built_like(build, outline, folder)
        unpack_weights(module, body, folder)
        with plain_errors(folder):
            model = cls(
                module,
                preprocess=preprocess,
                device=device,
                score=pick_score(known, score, folder),
                root=None if root is None else Path(root),
                **fields,
            )
        model._take_over(settings, folder)
        return model


def _read_folder(folder: Path, labels: list[str], preprocess: Any) -> tuple[Any, Any]:
    """Load a transformers image classifier and its preprocessing."""
    if preprocess is None:
        preprocess = read_preprocess(folder)
    refuse_code(folder)
    config = require("transformers", "local").AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    trained = has_head(config, "ForImageClassification", labels)
    if not trained:
        if not labels:
            raise ValueError(f"{folder} has no trained head: name the classes with `labels=`, then call `fit`")
        config.num_labels = len(labels)
    module = read_weights(folder, "AutoModelForImageClassification", config, None if trained else 0)
    return module, preprocess


def read_preprocess(folder: Path) -> ImagePreprocess:
    """Read the preprocessing that lies beside the weights of a transformers model.

    Raises:
        ValueError: If there is none, or it does more than `ImagePreprocess`.
    """
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        raise ValueError(f"{folder} has no preprocessor_config.json: pass `preprocess=`")
    return ImagePreprocess.from_config(load_json(file.read_text(encoding="utf-8")))


def _saved_preprocess(saved: dict[str, Any] | None, folder: Path) -> ImagePreprocess:
    if saved is None:
        raise ValueError(f"{folder} was saved with a preprocessing of your own: pass it as `preprocess=`")
    try:
        return ImagePreprocess(**saved)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / SETTINGS} is damaged: `preprocess` does not fit ({error})") from error


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 16384


def _sides(value: Any) -> tuple[int, int] | int | None:
    """Read a size in the forms of the transformers library; the result is a whole number for the shortest edge."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return int(value[0]), int(value[1])
    if isinstance(value, Mapping):
        if value.keys() == {"height", "width"}:
            return int(value["height"]), int(value["width"])
        if value.keys() == {"shortest_edge"}:
            return int(value["shortest_edge"])
    return None


def _to_channels(image: Any, channels: int) -> Any:
    """An array (height, width, channels), uint8 or float32, from 0 to 255."""
    if hasattr(image, "convert"):  # a PIL image
        if not image.mode.startswith(("I", "F")):
            image = np.asarray(image.convert("RGB" if channels == 3 else "L"))
        else:
            image = np.asarray(image)
            if image.dtype != np.uint16:
                raise InputError(f"images of {image.dtype} pixels are not read: turn it into 8 bits first")
    pixels = _array(image)
    if pixels.shape[2] == 4:
        pixels = pixels[:, :, :3]
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    gray = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)  # as Pillow's "L"
    gray = np.round(gray).astype(np.uint8) if pixels.dtype == np.uint8 else gray
    return gray[:, :, None]


def _array(image: Any) -> Any:
    """Check an array and bring it to (height, width, channels) from 0 to 255, uint8 or float32."""
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4) and pixels.shape[0] in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
        raise InputError(
            f"an image array must have shape (height, width) or (height, width, 1, 3 or 4), not {pixels.shape}"
        )
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return pixels.astype(np.float32) / np.float32(257.0)
    if pixels.dtype == bool or np.issubdtype(pixels.dtype, np.floating):
        top = 1.0
    elif np.issubdtype(pixels.dtype, np.integer):
        top = 255.0
    else:
        raise InputError(f"an image array must hold numbers, not {pixels.dtype}")
    pixels = pixels.astype(np.float32)
    if not (pixels.min() >= 0.0 and pixels.max() <= top):  # also catches NaN
        raise InputError("an image array must hold whole numbers from 0 to 255, or floats from 0 to 1")
    return pixels * np.float32(255.0 / top)


def _to_picture(image: Any) -> Any:
    """A PIL image in color, for a preprocessing that is not ours."""
    if hasattr(image, "convert"):
        return image.convert("RGB")
    library: Any = require("PIL.Image", "local")
    return library.fromarray(np.round(_to_channels(image, 3)).astype(np.uint8))


def _center(pixels: Any, height: int, width: int) -> Any:
    """Cut the center out; black where the image is smaller."""
    have = pixels.shape[:2]
    short = [max(0, want - has) for want, has in zip((height, width), have, strict=True)]
    if any(short):
        pixels = np.pad(pixels, [(gap // 2, gap - gap // 2) for gap in short] + [(0, 0)])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def _is_processor(preprocess: Any) -> bool:
    """Whether it is an image processor of the transformers library."""
    return hasattr(preprocess, "preprocess") and hasattr(preprocess, "to_dict")


def _describe_preprocess(preprocess: Any) -> Any:
    """Plain JSON; None where it cannot be seen into."""
    if isinstance(preprocess, ImagePreprocess):
        return asdict(preprocess)
    if _is_processor(preprocess) and type(preprocess).__module__.startswith("transformers."):
        return json.loads(preprocess.to_json_string())
    return None
