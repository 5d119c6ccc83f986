"""The graph of a lean network in ONNX, for one link and a fixed number of tokens.

It is written node by node: that takes milliseconds, where an export by tracing takes seconds and two more packages.
All tensors have two dimensions, ``[token, width]``, but inside attention, so that every product is one ``Gemm`` that
runtimes prepare ahead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from airlam.models.exported import INPUTS, OUTPUTS
from airlam.models.lean import LeanNetwork, Product

OPSET, IR_VERSION = 20, 10  # the first opset with Gelu; what runtimes of that time read
CONTRIB = "com.microsoft"


def lean_graph(network: LeanNetwork, tokens: int, *, fused: bool = False) -> bytes:
    """The ONNX model, serialised. Inputs and outputs are those of :class:`~airlam.models.lean.LeanNetwork` for one
    link.

    Args:
        network: what to write.
        tokens: of every call.
        fused: attention as one operator that only ONNX Runtime has.
    """
    return _Writer(network, tokens, fused).model().SerializeToString()


class _Writer:
    """Nodes and constants of a graph under construction; methods take and return names of tensors."""

    def __init__(self, network: LeanNetwork, tokens: int, fused: bool):
        self.network, self.tokens, self.fused = network, tokens, fused
        self.width = network.second.weight.shape[0]
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}

    def node(self, kind: str, *inputs: str, out: str | None = None, domain: str = "", **attributes: Any) -> str:
        """One more node with one output."""
        name = out or f"{kind}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, inputs, [name], name=f"n{len(self.nodes)}", domain=domain, **attributes)
        )
        return name

    def constant(self, value: Tensor | np.ndarray) -> str:
        """One more constant."""
        name = f"c{len(self.constants)}"
        array = value.detach().numpy() if isinstance(value, Tensor) else value
        self.constants[name] = np.ascontiguousarray(array)
        return name

    def number(self, value: float) -> str:
        """A constant without dimensions."""
        return self.constant(np.array(value, np.float32))

    def shaped(self, x: str, *sizes: int, out: str | None = None) -> str:
        """``x`` in another shape."""
        return self.node("Reshape", x, self.constant(np.array(sizes, np.int64)), out=out)

    def columns(self, x: str, first: int, stop: int) -> str:
        """``x[:, first:stop]``."""
        ends = (self.constant(np.array([i], np.int64)) for i in (first, stop, 1))
        return self.node("Slice", x, *ends)

    def product(self, x: str, product: Product, plus: str | None = None) -> str:
        """See :class:`~airlam.models.lean.Product`."""
        y = self.node("Gemm", x, self.constant(product.weight.T), self.constant(product.bias))
        if product.gelu:
            y = self.node("Gelu", y)
        return y if plus is None else self.node("Add", y, plus)

    def normed(self, x: str, norm: nn.LayerNorm) -> str:
        """Layer normalisation."""
        return self.node(
            "LayerNormalization", x, self.constant(norm.weight), self.constant(norm.bias), axis=-1, epsilon=norm.eps
        )

    def mixed(self, x: str, layer: Any) -> str:
        """Attention up to its output product."""
        heads, size = layer.heads, self.width // layer.heads
        if self.fused:
            whole = self.shaped(x, 1, self.tokens, self.width)
            weights = self.constant(layer.joint.weight.T), self.constant(layer.joint.bias)
            y = self.node("Attention", whole, *weights, domain=CONTRIB, num_heads=heads, scale=1.0)
            return self.shaped(y, self.tokens, self.width)
        joint = self.product(x, layer.joint)
        parts = []
        for i, order in enumerate(((1, 0, 2), (1, 2, 0), (1, 0, 2))):
            part = self.shaped(self.columns(joint, i * self.width, (i + 1) * self.width), self.tokens, heads, size)
            parts.append(self.node("Transpose", part, perm=order))
        query, key, value = parts
        weights = self.node("Softmax", self.node("MatMul", query, key), axis=-1)
        y = self.node("Transpose", self.node("MatMul", weights, value), perm=(1, 0, 2))
        return self.shaped(y, self.tokens, self.width)

    def layer(self, x: str, layer: Any) -> str:
        """See :class:`~airlam.models.lean.LeanLayer`."""
        if layer.before:
            x = self.product(self.mixed(self.normed(x, layer.attention), layer), layer.out, x)
            return self.product(self.product(self.normed(x, layer.feedforward), layer.widen), layer.narrow, x)
        x = self.normed(self.product(self.mixed(x, layer), layer.out, x), layer.attention)
        return self.normed(self.product(self.product(x, layer.widen), layer.narrow, x), layer.feedforward)

    def body(self, x: str) -> str:
        """Embedding and backbone."""
        backbone = self.network.backbone
        x = self.product(self.product(x, self.network.first), self.network.second)
        x = self.normed(self.node("Add", x, self.constant(backbone.places[: self.tokens])), backbone.entry)
        for _ in range(backbone.loops):
            for layer in backbone.layers:
                x = self.layer(x, layer)
        return x if backbone.exit is None else self.normed(x, backbone.exit)

    def head(self, x: str) -> None:
        """The head: writes the outputs."""
        network, grid, tokens = self.network, self.network.grid, self.tokens
        out = self.product(self.normed(x, network.norm), network.head)
        logits = self.node("Add", self.columns(out, 0, grid), self.shaped(INPUTS[1], tokens, grid))
        self.shaped(self.node("Softmax", logits, axis=-1), 1, tokens, grid, out=OUTPUTS[0])
        factor = self.node("Clip", self.columns(out, grid, grid + 1), self.number(-8), self.number(8))
        factor = self.shaped(self.node("Exp", factor), 1, tokens)
        self.node("Add", self.node("Mul", INPUTS[2], factor), self.number(1e-7), out=OUTPUTS[1])
        gate = self.node("Sigmoid", self.columns(out, grid + 1, grid + 2))
        self.shaped(gate, 1, tokens, 1, out=OUTPUTS[2])
        if network.error_variance:
            self.shaped(self.columns(out, grid + 2, grid + 3), 1, tokens, 1, out=OUTPUTS[3])

    def model(self) -> Any:
        """The whole."""
        network, tokens = self.network, self.tokens
        features = network.first.weight.shape[1]
        self.head(self.body(self.shaped(INPUTS[0], tokens, features)))
        sizes = dict(zip(INPUTS, ((1, tokens, features), (1, tokens, network.grid), (1, tokens)), strict=True))
        results: dict[str, tuple[int, ...]] = {
            name: (1, tokens, 1) for name in OUTPUTS[: 4 if network.error_variance else 3]
        }
        results |= {OUTPUTS[0]: (1, tokens, network.grid), OUTPUTS[1]: (1, tokens)}
        graph = helper.make_graph(
            self.nodes,
            "lean",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in sizes.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in results.items()],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)][: 2 if self.fused else 1]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
