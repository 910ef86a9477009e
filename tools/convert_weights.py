"""Turns the source files of the models into ONNX. Runs in the throw-away environment of `build_weights`.

All three networks come out alike: float32 input N × H × W × C with values 0–255 (RGB, or grey for emotions), the
normalisation inside the network, every dimension but the channels dynamic where the network allows it.
Run as `python -m tools.convert_weights SOURCES TARGET`, with numpy, onnx and h5py installed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-not-found,unused-ignore]
import numpy as np
import numpy.typing as npt
import onnx  # type: ignore[import-not-found,unused-ignore]
from onnx import TensorProto, helper, numpy_helper  # type: ignore[import-not-found,unused-ignore]

Array = npt.NDArray[Any]

OPSET = 17
IR_VERSION = 8
RGB_MEAN = (123.675, 116.28, 103.53)
RGB_STD = (58.395, 57.12, 57.375)


def floats(values: npt.ArrayLike) -> Array:
    """As float32."""
    return np.asarray(values, np.float32)


class GraphBuilder:
    """Collects nodes and constants of an ONNX graph; every method returns the name of the tensor it makes."""

    def __init__(self, *, half: bool = False) -> None:
        """`half` stores constants as float16 with a Cast to float32 behind: half the file, same arithmetic."""
        self._half = half
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """One node with one output."""
        return self.add_many(op, *inputs, outputs=1, **attributes)[0]

    def add_many(self, op: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """One node with several outputs."""
        stem = f"{op.lower()}_{len(self._nodes)}"
        names = [stem if outputs == 1 else f"{stem}_{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(op, inputs, names, name=stem, **attributes))
        return names

    def weights(self, value: Array) -> str:
        """Trained numbers; as float16 where the builder was told so."""
        if not self._half:
            return self.constant(value.astype(np.float32))
        return self.add("Cast", self.constant(value.astype(np.float16)), to=TensorProto.FLOAT)

    def constant(self, value: Array) -> str:
        """A constant kept exactly as it is."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def planes(self, name: str) -> str:
        """N × H × W × C → N × C × H × W."""
        return self.add("Transpose", name, perm=(0, 3, 1, 2))

    def save(self, target: Path, *, shape: list[Any], outputs: dict[str, tuple[str, list[Any]]]) -> None:
        """Write the file: input `pixels` of `shape`; `outputs`: public name → (tensor, shape)."""
        for public, (tensor, _) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [tensor], [public], name=public))
        graph = helper.make_graph(
            self._nodes,
            target.stem,
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, (_, s) in outputs.items()],
            initializer=self._constants,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="video-analysis",
        )
        onnx.checker.check_model(model, full_check=True)
        target.write_bytes(model.SerializeToString(deterministic=True))


# --- NanoDet-g: a TensorFlow.js graph model -----------------------------------------------------------------------


def read_tfjs(model: Path) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """Nodes (in topological order) and constants of a TensorFlow.js graph model."""
    document = json.loads(model.read_text())
    (group,) = document["weightsManifest"]
    raw = b"".join((model.parent / path).read_bytes() for path in group["paths"])
    values, offset = {}, 0
    for entry in group["weights"]:
        stored = np.dtype(entry.get("quantization", entry)["dtype"])
        count = int(np.prod(entry["shape"]))
        values[entry["name"]] = np.frombuffer(raw, stored, count, offset).reshape(entry["shape"])
        offset += count * stored.itemsize
    if offset != len(raw):
        raise ValueError(f"{model.name}: the weights have {len(raw)} bytes, its manifest names {offset}")
    return document["modelTopology"]["node"], values


class NanoDetConverter:
    """Rewrites the graph in planes (N × C × H × W) throughout.

    The source switches between layouts around every convolution and pads in separate nodes; here a switch of
    layout is only a second name for the same tensor, and padding belongs to the convolution that follows.
    """

    SIDE = 416

    def __init__(self, nodes: list[dict[str, Any]], values: dict[str, Array]) -> None:
        self._nodes = {node["name"]: node for node in nodes}
        self._values = values
        self._builder = GraphBuilder(half=True)
        self._names: dict[str, str] = {}
        self._strides: dict[str, int] = {}
        self._padding: dict[str, int] = {}

    def save(self, target: Path) -> None:
        """Convert and write; scores and distributions of the three scales (strides 8, 16, 32) end to end."""
        for node in self._nodes.values():
            if handler := getattr(self, f"_{node['op'].lower()}", None):
                handler(node, [name for name in node.get("input", []) if not name.startswith("^")])
            elif node["op"] not in ("Const", "SparseToDense", "AddV2"):  # those only compute shapes
                raise ValueError(f"no rule for the operation {node['op']} ({node['name']})")
        scores = self._builder.add("Concat", *(self._names[f"Identity{n}"] for n in ("", "_1", "_2")), axis=1)
        bins = self._builder.add("Concat", *(self._names[f"Identity_{n}"] for n in (3, 4, 5)), axis=1)
        self._builder.save(
            target,
            shape=["N", "H", "W", 3],
            outputs={"scores": (scores, ["N", "cells", 80]), "bins": (bins, ["N", "cells", 44])},
        )

    def _define(self, node: dict[str, Any], tensor: str, stride: int, padding: int = 0) -> None:
        self._names[node["name"]] = tensor
        self._strides[tensor] = stride
        self._padding[node["name"]] = padding

    def _tensor(self, name: str) -> tuple[str, int]:
        tensor = self._names[name]
        return tensor, self._strides[tensor]

    def _same_shape(self, node: dict[str, Any], op: str, inputs: list[str], **attributes: Any) -> None:
        tensors = [self._tensor(name) for name in inputs]
        self._define(node, self._builder.add(op, *(t for t, _ in tensors), **attributes), tensors[0][1])

    def _placeholder(self, node: dict[str, Any], inputs: list[str]) -> None:
        planes = self._builder.planes("pixels")
        mean = self._builder.constant(floats(RGB_MEAN).reshape(1, 3, 1, 1))
        scale = self._builder.constant(floats(1 / np.array(RGB_STD)).reshape(1, 3, 1, 1))
        self._define(node, self._builder.add("Mul", self._builder.add("Sub", planes, mean), scale), 1)

    def _transpose(self, node: dict[str, Any], inputs: list[str]) -> None:
        tensor, stride = self._tensor(inputs[0])
        if len(self._values[inputs[1]]) == 4:  # only a switch of layout
            self._define(node, tensor, stride, self._padding[inputs[0]])
        else:
            self._define(node, self._builder.add("Transpose", tensor, perm=(0, 2, 1)), stride)

    def _pad(self, node: dict[str, Any], inputs: list[str]) -> None:
        if self._values[inputs[1]].tolist() != [[0, 0], [0, 0], [1, 1], [1, 1]]:
            raise ValueError(f"{node['name']}: padding other than 1 pixel around the planes")
        self._define(node, *self._tensor(inputs[0]), padding=1)

    _padv2 = _pad  # of a maximum, with minus infinity: what ONNX's MaxPool does by itself

    def _window(self, node: dict[str, Any], source: str) -> dict[str, Any]:
        stride = int(node["attr"]["strides"]["list"]["i"][1])
        return {"pads": [self._padding[source]] * 4, "strides": [stride] * 2}

    def _conv2d(self, node: dict[str, Any], inputs: list[str]) -> None:
        """Nothing yet: it is written together with its bias."""

    def _add(self, node: dict[str, Any], inputs: list[str]) -> None:
        if inputs[1] not in self._values:
            self._same_shape(node, "Add", inputs)
            return
        convolution = self._nodes[inputs[0]]
        source, kernel = convolution["input"]
        weights = self._values[kernel].transpose(3, 2, 0, 1)
        if self._nodes_is_first(source):
            weights = weights[:, ::-1]  # the source wants BGR, we give RGB
        tensor, stride = self._tensor(source)
        window = self._window(convolution, source)
        output = self._builder.add(
            "Conv",
            tensor,
            self._builder.weights(weights),
            self._builder.weights(self._values[inputs[1]]),
            **window,
        )
        self._define(node, output, stride * window["strides"][0])

    def _nodes_is_first(self, source: str) -> bool:
        return self._names[source] == self._names["input_1"]

    def _maxpool(self, node: dict[str, Any], inputs: list[str]) -> None:
        tensor, stride = self._tensor(inputs[0])
        window = self._window(node, inputs[0])
        output = self._builder.add("MaxPool", tensor, kernel_shape=[3, 3], **window)
        self._define(node, output, stride * window["strides"][0])

    def _leakyrelu(self, node: dict[str, Any], inputs: list[str]) -> None:
        self._same_shape(node, "LeakyRelu", inputs, alpha=node["attr"]["alpha"]["f"])

    def _sigmoid(self, node: dict[str, Any], inputs: list[str]) -> None:
        self._same_shape(node, "Sigmoid", inputs)

    def _identity(self, node: dict[str, Any], inputs: list[str]) -> None:
        self._define(node, *self._tensor(inputs[0]))

    def _concatv2(self, node: dict[str, Any], inputs: list[str]) -> None:
        if int(self._values[inputs[-1]]) != 1:
            raise ValueError(f"{node['name']}: joins along another axis than the channels")
        self._same_shape(node, "Concat", inputs[:-1], axis=1)

    def _resizebilinear(self, node: dict[str, Any], inputs: list[str]) -> None:
        tensor, stride = self._tensor(inputs[0])
        factor = int(self._values[inputs[1]][0]) * stride / self.SIDE
        scales = self._builder.constant(floats((1, 1, factor, factor)))
        output = self._builder.add("Resize", tensor, "", scales, mode="linear")  # half_pixel is the default
        self._define(node, output, int(stride / factor))

    def _splitv(self, node: dict[str, Any], inputs: list[str]) -> None:
        tensor, stride = self._tensor(inputs[0])
        sizes = self._builder.constant(self._values[inputs[1]].astype(np.int64))
        first, second = self._builder.add_many("Split", tensor, sizes, outputs=2, axis=1)
        self._define(node, first, stride)
        self._names[f"{node['name']}:1"] = second
        self._strides[second] = stride

    def _reshape(self, node: dict[str, Any], inputs: list[str]) -> None:
        tensor, stride = self._tensor(inputs[0])
        channels = 44 if inputs[0].endswith(":1") else 80
        shape = self._builder.constant(np.array([0, channels, -1], np.int64))
        self._define(node, self._builder.add("Reshape", tensor, shape), stride)


# --- CenterFace: already ONNX, of fixed size -----------------------------------------------------------------------


def convert_centerface(source: Path, target: Path) -> None:
    """The same network with free sizes (multiples of 32), a current opset, and outputs that have names."""
    graph = onnx.load(source).graph
    builder = GraphBuilder()
    used = {name for node in graph.node for name in node.input}  # training counters are not
    constants = {
        entry.name: numpy_helper.to_array(entry) for entry in graph.initializer if entry.name in used
    }
    renamed = {name: builder.constant(value) for name, value in constants.items()}
    (pixels,) = used.intersection(entry.name for entry in graph.input).difference(constants)
    renamed[pixels] = builder.planes("pixels")
    for node in graph.node:
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        renamed[node.output[0]] = builder.add(node.op_type, *(renamed[n] for n in node.input), **attributes)
    outputs = {}
    for name, entry in zip(("heatmap", "sizes", "offsets", "landmarks"), graph.output, strict=True):
        channels = entry.type.tensor_type.shape.dim[1].dim_value
        outputs[name] = (renamed[entry.name], ["N", channels, "H4", "W4"])
    builder.save(target, shape=["N", "H", "W", 3], outputs=outputs)


# --- mini-Xception: a Keras model ------------------------------------------------------------------------------------


class MiniXceptionConverter:
    """Walks the layers of the Keras file; a batch normalisation goes into the convolution before it."""

    def __init__(self, source: Path) -> None:
        self._file = h5py.File(source)
        config = json.loads(self._file.attrs["model_config"])["config"]
        self._layers = {layer["name"]: layer for layer in config["layers"]}
        self._builder = GraphBuilder()
        self._tensors: dict[str, tuple[str, int]] = {}  # layer → its output and that one's side

    def save(self, target: Path) -> None:
        """Convert and write; the output `emotions` are probabilities."""
        for name, layer in self._layers.items():
            inputs = [self._tensors[entry[0]] for entry in (layer["inbound_nodes"] or [[]])[0]]
            handler = getattr(self, f"_{layer['class_name'].lower()}")
            self._tensors[name] = handler(name, layer["config"], inputs)
        emotions = self._tensors["predictions"][0]
        self._builder.save(target, shape=["N", 64, 64, 1], outputs={"emotions": (emotions, ["N", 7])})

    def _weights(self, layer: str, kind: str) -> Array:
        values: Array = self._file[f"model_weights/{layer}/{layer}_1/{kind}:0"][()].astype(np.float64)
        return values

    def _inputlayer(self, name: str, config: Any, inputs: Any) -> tuple[str, int]:
        planes = self._builder.planes("pixels")
        scaled = self._builder.add("Mul", planes, self._builder.constant(floats(2 / 255)))
        return self._builder.add("Sub", scaled, self._builder.constant(floats(1))), 64

    def _normalisation(self, layer: str) -> tuple[Array, Array]:
        """(factor, bias) of the batch normalisation that follows `layer`."""
        (after,) = (
            name
            for name, entry in self._layers.items()
            if entry["class_name"] == "BatchNormalization" and entry["inbound_nodes"][0][0][0] == layer
        )
        deviation = np.sqrt(
            self._weights(after, "moving_variance") + self._layers[after]["config"]["epsilon"]
        )
        factor = self._weights(after, "gamma") / deviation
        return factor, self._weights(after, "beta") - self._weights(after, "moving_mean") * factor

    def _window(self, config: Any, side: int, kernel: int) -> tuple[dict[str, Any], int]:
        """Strides and TensorFlow's padding (the odd pixel goes to the end), and the side of the output."""
        stride = config["strides"][0]
        if config["padding"] == "valid":
            return {"strides": [stride] * 2}, (side - kernel) // stride + 1
        result = -(-side // stride)
        total = max((result - 1) * stride + kernel - side, 0)
        return {"strides": [stride] * 2, "pads": [total // 2] * 2 + [total - total // 2] * 2}, result

    def _conv2d(self, name: str, config: Any, inputs: list[tuple[str, int]]) -> tuple[str, int]:
        tensor, side = inputs[0]
        factor, bias = (1.0, self._weights(name, "bias")) if config["use_bias"] else self._normalisation(name)
        kernel = (self._weights(name, "kernel") * factor).transpose(3, 2, 0, 1)
        window, result = self._window(config, side, kernel.shape[2])
        weights = self._builder.weights(kernel), self._builder.weights(bias)
        return self._builder.add("Conv", tensor, *weights, **window), result

    def _separableconv2d(self, name: str, config: Any, inputs: list[tuple[str, int]]) -> tuple[str, int]:
        tensor, side = inputs[0]
        depthwise = self._weights(name, "depthwise_kernel").transpose(2, 3, 0, 1)
        window, result = self._window(config, side, depthwise.shape[2])
        groups = depthwise.shape[0]
        spread = self._builder.add("Conv", tensor, self._builder.weights(depthwise), group=groups, **window)
        factor, bias = self._normalisation(name)
        pointwise = (self._weights(name, "pointwise_kernel") * factor).transpose(3, 2, 0, 1)
        weights = self._builder.weights(pointwise), self._builder.weights(bias)
        return self._builder.add("Conv", spread, *weights), result

    def _batchnormalization(self, name: str, config: Any, inputs: list[tuple[str, int]]) -> tuple[str, int]:
        return inputs[0]

    def _activation(self, name: str, config: Any, inputs: list[tuple[str, int]]) -> tuple[str, int]:
        tensor, side = inputs[0]
        if config["activation"] == "softmax":
            return self._builder.add("Softmax", tensor, axis=1), side
        return self._builder.add("Relu", tensor), side

    def _maxpooling2d(self, name: str, config: Any, inputs: list[tuple[str, int]]) -> tuple[str, int]:
        tensor, side = inputs[0]
        window, result = self._window(config, side, config["pool_size"][0])
        return self._builder.add("MaxPool", tensor, kernel_shape=config["pool_size"], **window), result

    def _add(self, name: str, config: Any, inputs: list[tuple[str, int]]) -> tuple[str, int]:
        return self._builder.add("Add", *(tensor for tensor, _ in inputs)), inputs[0][1]

    def _globalaveragepooling2d(
        self, name: str, config: Any, inputs: list[tuple[str, int]]
    ) -> tuple[str, int]:
        pooled = self._builder.add("GlobalAveragePool", inputs[0][0])
        return self._builder.add("Flatten", pooled, axis=1), 1


def main() -> None:
    """`python -m tools.convert_weights SOURCES TARGET`."""
    sources, target = map(Path, sys.argv[1:])
    NanoDetConverter(*read_tfjs(sources / "nanodet.json")).save(target / "nanodet-g-416.onnx")
    convert_centerface(sources / "centerface.onnx", target / "centerface.onnx")
    MiniXceptionConverter(sources / "emotion_model.hdf5").save(target / "mini-xception-64.onnx")


if __name__ == "__main__":
    main()
