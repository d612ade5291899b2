"""A sentence encoder's folder as an ONNX graph, made without torch: numbers in 32 bits, or matrices in 8 bits.

In 8 bits each token's vector has a scale of its own, so that no text changes its neighbours' answers. (The usual
dynamic quantization takes one scale for the whole batch: there the same text moves with what stands beside it.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from langchain_dsplus._arrays import Singles
from langchain_dsplus._imports import require
from langchain_dsplus._json import load_json

REVISION = 1
"""Of the graphs: raised where one of them would give other vectors than before."""

_CONTRIB = "com.microsoft"
_OFFSET = {"bert": False, "roberta": True, "xlm-roberta": True, "camembert": True}
"""Architectures that are read, and whether their positions start behind the padding's."""


class NotReadableError(ValueError):
    """A folder that only sentence-transformers can run."""


@dataclass(frozen=True)
class Layout:
    """What a sentence-transformers folder says about itself.

    Attributes:
        config: The network's `config.json`.
        tokens: How many tokens of a text are read.
        pooling: `mean` or `cls`.
        lower: Whether texts are lower-cased before the tokenizer.
    """

    config: Mapping[str, Any]
    tokens: int
    pooling: str
    lower: bool

    @property
    def first_position(self) -> int:
        """The place of the first token in the table of positions."""
        return int(self.config.get("pad_token_id", 0)) + 1 if _OFFSET[self.config["model_type"]] else 0

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self.config["hidden_size"])


def read_layout(folder: Path) -> Layout:
    """Read the configuration of an encoder of the BERT or RoBERTa kind with mean or first-token pooling.

    Raises:
        NotReadableError: If it is another kind, or has parts beside these; the message says which.
    """
    config = _json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in _OFFSET:
        _refuse(folder, f"its network is a {kind!r}")
    for key, wanted in (("hidden_act", "gelu"), ("position_embedding_type", "absolute"), ("is_decoder", False)):
        if config.get(key, wanted) != wanted:
            _refuse(folder, f"`{key}` is {config[key]!r}")
    if not (folder / "tokenizer.json").is_file() or not (folder / "model.safetensors").is_file():
        _refuse(folder, "tokenizer.json or model.safetensors is missing")
    modules = _json(folder / "modules.json")
    names = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]) or modules[0].get("path"):
        _refuse(folder, f"its parts are {names}")
    if _optional(folder / "config_sentence_transformers.json").get("default_prompt_name") is not None:
        _refuse(folder, "it puts a prompt before each text")
    settings = _optional(folder / "sentence_bert_config.json")
    room = int(config["max_position_embeddings"]) - (int(config.get("pad_token_id", 1)) + 1 if _OFFSET[kind] else 0)
    given = settings.get("max_seq_length") or _optional(folder / "tokenizer_config.json").get("model_max_length")
    tokens = min(room, int(given or room))
    pooling = _pooling(folder, _json(folder / str(modules[1]["path"]) / "config.json"))
    return Layout(config, tokens, pooling, bool(settings.get("do_lower_case", False)))


def _pooling(folder: Path, config: Mapping[str, Any]) -> str:
    chosen = [str(config["pooling_mode"])] if isinstance(config.get("pooling_mode"), str) else []
    chosen = chosen or [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    names = {"mean": "mean", "cls": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if len(chosen) != 1 or chosen[0] not in names or config.get("include_prompt") is False:
        _refuse(folder, f"it pools by {chosen}")
    return names[chosen[0]]


def _refuse(folder: Path, why: str) -> None:
    raise NotReadableError(f"{folder} cannot run without torch: {why}. Use backend='torch'")


def _json(file: Path) -> Any:
    try:
        return load_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise NotReadableError(
            f"{file} is missing or no JSON, so the folder cannot run without torch. Use backend='torch'"
        ) from None


def _optional(file: Path) -> Mapping[str, Any]:
    body = _json(file) if file.is_file() else {}
    return body if isinstance(body, dict) else {}


def build_graph(folder: Path, *, int8: bool) -> bytes:
    """Build the graph from `model.safetensors`: `ids` (batch, tokens) int64 -> `hidden` (batch, tokens, d) float32.

    There is no mask: a batch holds texts of one length.

    Raises:
        ImportError: If `onnx` or `safetensors` is missing; the message carries the pip command.
        NotReadableError: If the folder is of another kind, or a tensor is missing.
    """
    layout = read_layout(folder)
    loaded = require("safetensors.numpy", "onnx").load_file(folder / "model.safetensors")
    prefix = next((name[: -len(_WORDS)] for name in loaded if name.endswith(_WORDS)), "")
    weights = {
        name[len(prefix) :]: tensor.astype(np.float32)
        for name, tensor in loaded.items()
        if name.startswith(prefix) and tensor.dtype.kind == "f"
    }
    graph = _Graph(weights, float(layout.config.get("layer_norm_eps", 1e-12)), int8=int8)
    try:
        x = _embed(graph, layout)
        for number in range(int(layout.config["num_hidden_layers"])):
            x = _layer(graph, x, f"encoder.layer.{number}.", int(layout.config["num_attention_heads"]))
    except KeyError as error:
        raise NotReadableError(
            f"{folder} cannot run without torch: its weights lack {error.args[0]!r}. Use backend='torch'"
        ) from None
    return graph.finish(x, layout.dimension)


_WORDS = "embeddings.word_embeddings.weight"


def _embed(graph: _Graph, layout: Layout) -> str:
    weights = graph.weights
    positions = weights["embeddings.position_embeddings.weight"][layout.first_position :]
    kinds = weights["embeddings.token_type_embeddings.weight"][0]
    shape = graph.node("Shape", ["ids"])
    length = graph.node("Slice", [shape, graph.const(np.array([1])), graph.const(np.array([2]))])
    zero = graph.const(np.array([0]))
    place = graph.node("Slice", [graph.const(positions + kinds), zero, length, zero])
    word = graph.node("Gather", [graph.const(weights[_WORDS]), "ids"])
    norm = [graph.tensor(f"embeddings.LayerNorm.{part}") for part in ("weight", "bias")]
    return graph.node("LayerNormalization", [graph.node("Add", [word, place]), *norm], epsilon=graph.epsilon)


def _layer(graph: _Graph, x: str, name: str, heads: int) -> str:
    """Attention and the two dense matrices, each followed by the sum with what came in."""
    own = f"{name}attention.self."
    joined = {
        part: np.concatenate([graph.weights[f"{own}{of}.{part}"] for of in ("query", "key", "value")])
        for part in ("weight", "bias")
    }
    bias = graph.const(joined["bias"])
    if graph.int8:
        three = graph.nodes("Split", [graph.linear(x, joined["weight"])], 3, axis=-1, num_outputs=3)
        attended = graph.node("MultiHeadAttention", [*three, bias], _CONTRIB, num_heads=heads)
    else:
        matrix = graph.const(joined["weight"].T)
        attended = graph.node("Attention", [x, matrix, bias], _CONTRIB, num_heads=heads)
    x = _sum(graph, attended, x, f"{name}attention.output.")
    wide = graph.linear(x, graph.weights[f"{name}intermediate.dense.weight"])
    wide = graph.node("BiasGelu", [wide, graph.tensor(f"{name}intermediate.dense.bias")], _CONTRIB)
    return _sum(graph, wide, x, f"{name}output.")


def _sum(graph: _Graph, value: str, skip: str, name: str) -> str:
    value = graph.linear(value, graph.weights[f"{name}dense.weight"])
    rest = [graph.tensor(f"{name}{part}") for part in ("LayerNorm.weight", "LayerNorm.bias", "dense.bias")]
    return graph.node("SkipLayerNormalization", [value, skip, *rest], _CONTRIB, epsilon=graph.epsilon)


class _Graph:
    """Nodes and constants, named by number."""

    def __init__(self, weights: Mapping[str, Singles], epsilon: float, *, int8: bool) -> None:
        self.onnx = require("onnx", "onnx")
        self.weights, self.epsilon, self.int8 = weights, epsilon, int8
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._reduced: dict[str, tuple[str, str]] = {}

    def const(self, value: Any) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(self.onnx.numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def tensor(self, name: str) -> str:
        return self.const(self.weights[name])

    def node(self, op: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        return self.nodes(op, inputs, 1, domain, **attributes)[0]

    def nodes(self, op: str, inputs: list[str], outputs: int, domain: str = "", **attributes: Any) -> list[str]:
        names = [f"n{len(self._nodes)}.{place}" for place in range(outputs)]
        self._nodes.append(self.onnx.helper.make_node(op, inputs, names, domain=domain, **attributes))
        return names

    def linear(self, x: str, weight: Singles) -> str:
        """`x @ weight.T`; in 8 bits with a scale for each token and each output."""
        if not self.int8:
            return self.node("MatMul", [x, self.const(weight.T)])
        scale = np.maximum(np.abs(weight).max(axis=1) / np.float32(127), np.float32(1e-12))
        matrix = np.clip(np.rint(weight / scale[:, None]), -127, 127).astype(np.int8)
        one, middle = self.const(np.float32(1)), self.const(np.uint8(128))
        if x not in self._reduced:
            top = self.node("ReduceMax", [self.node("Abs", [x]), self.const(np.array([-1]))], keepdims=1)
            step = self.node(
                "Div", [self.node("Max", [top, self.const(np.float32(1e-12))]), self.const(np.float32(127))]
            )
            whole = self.node("QuantizeLinear", [self.node("Div", [x, step]), one, middle])
            self._reduced[x] = whole, step
        whole, step = self._reduced[x]
        inputs = [whole, self.const(matrix.T), one, self.const(scale.astype(np.float32)), middle]
        return self.node("Mul", [self.node("MatMulIntegerToFloat", inputs, _CONTRIB), step])

    def finish(self, output: str, dimension: int) -> bytes:
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        self._nodes.append(helper.make_node("Identity", [output], ["hidden"]))
        graph = helper.make_graph(
            self._nodes,
            "encoder",
            [helper.make_tensor_value_info("ids", kinds.INT64, ["batch", "tokens"])],
            [helper.make_tensor_value_info("hidden", kinds.FLOAT, ["batch", "tokens", dimension])],
            self._constants,
        )
        versions = [helper.make_opsetid("", 18), helper.make_opsetid(_CONTRIB, 1)]
        return bytes(helper.make_model(graph, opset_imports=versions, ir_version=9).SerializeToString())
