"""An agent as an ONNX graph: physical readings and explicit memory in, an action, all values and the next memory out.

Written by hand from the arrays of `drigm.agents.numpy_network`, whose functions it follows line by line, in an opset
and an IR version that ONNX Runtime has read since 1.12.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from drigm.agents.numpy_network import CENTRE_GAIN, CHANGE_SCALE, NO_ACTION, Network
from drigm.core.errors import UserError

OPSET, IR = 17, 8


def load_onnx() -> Any:
    """Return the package onnx; `UserError` says how to install it."""
    try:
        import onnx
    except ImportError:
        raise UserError('onnx: the package is missing; pip install "drigm[onnx]".') from None
    return onnx


class Graph:
    """Nodes under construction; every method returns the name of what it adds."""

    def __init__(self, onnx: Any) -> None:
        self.onnx, self.nodes, self.constants = onnx, list[Any](), list[Any]()

    def constant(self, value: Any) -> str:
        """Add an array."""
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def __call__(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output."""
        return self.several(operator, inputs, [name or f"v{len(self.nodes)}"], **attributes)[0]

    def several(self, operator: str, inputs: Sequence[str], outputs: list[str], **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        self.nodes.append(self.onnx.helper.make_node(operator, list(inputs), outputs, **attributes))
        return outputs

    def affine(self, x: str, weight: np.ndarray, bias: np.ndarray | None = None) -> str:
        """Add ``x @ weight + bias``."""
        product = self("MatMul", x, self.constant(weight))
        return product if bias is None else self("Add", product, self.constant(bias))


def make_model(network: Network, agent: str) -> Any:
    """Return the ONNX model of ``network``, checked; `UserError` where onnx is missing.

    Inputs: ``observation`` [B, O] float, ``available`` [B, A] bool, ``last_action`` [B] int64 (-1 at first), ``hidden``
    and ``cell`` [B, H] float and, where changes are seen, ``previous`` [B, C] float (zeros at first). Outputs:
    ``action`` [B] int64, ``q_values`` [B, A], and ``hidden_next`` and so on: the inputs of the next step.
    """
    onnx = load_onnx()
    helper, kinds = onnx.helper, onnx.TensorProto
    add = Graph(onnx)
    inputs, level, previous = _inputs(add, network)
    hidden, cell = _lstm(add, network, inputs)
    features = add("Concat", hidden, inputs, axis=-1)
    q, wanted = _values(add, network, features, inputs, hidden, level)
    lowest = add.constant(np.array(-np.inf, np.float32))
    chosen = add("Where", "available", wanted, lowest)
    add("ArgMax", chosen, axis=1, keepdims=0, name="action")
    add("Identity", q, name="q_values")
    add("Identity", hidden, name="hidden_next")
    add("Identity", cell, name="cell_next")
    width, size = network.recurrent.shape[0], network.offset.shape[-1]
    count = network.head.shape[-1] if network.levels is None else len(network.levels)
    memory = [("hidden", width), ("cell", width)]
    if previous is not None:
        add("Identity", previous, name="previous_next")
        memory.append(("previous", size + (network.levels is not None) + 1))

    def value(name: str, kind: int, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, kind, ["batch", *shape])

    graph = helper.make_graph(
        add.nodes,
        f"drigm agent {agent}",
        [
            value("observation", kinds.FLOAT, size),
            value("available", kinds.BOOL, count),
            value("last_action", kinds.INT64),
            *(value(name, kinds.FLOAT, n) for name, n in memory),
        ],
        [
            value("action", kinds.INT64),
            value("q_values", kinds.FLOAT, count),
            *(value(f"{name}_next", kinds.FLOAT, n) for name, n in memory),
        ],
        add.constants,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="drigm"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _inputs(add: Graph, net: Network) -> tuple[str, str, str | None]:
    """Return the standardised inputs [B, I], the level of the last action [B, 1], and what is seen [B, C] (or None)."""
    x = add("Div", add("Sub", "observation", add.constant(net.offset)), add.constant(net.scale))
    batch = add("Shape", "observation", start=0, end=1)
    one = add.constant(np.array([1], np.int64))
    shape = add("Concat", batch, one, axis=0)
    ones = add("ConstantOfShape", shape, value=add.onnx.numpy_helper.from_array(np.ones(1, np.float32)))
    parts, level, known, previous = [x], "", "", None
    if net.levels is not None:
        begun = add("Not", add("Equal", "last_action", add.constant(np.array(NO_ACTION, np.int64))))
        known = add("Unsqueeze", add("Cast", begun, to=add.onnx.TensorProto.FLOAT), one)
        index = add("Max", "last_action", add.constant(np.array(0, np.int64)))
        table = add.constant(net.levels.astype(np.float32))
        level = add("Mul", add("Unsqueeze", add("Gather", table, index, axis=0), one), known)
    if net.kept is not None:
        seen = x if net.levels is None else add("Concat", x, level, axis=-1)
        size = net.offset.shape[-1] + (net.levels is not None)
        cut = [add.constant(np.array([k], np.int64)) for k in (0, size, size + 1)]
        before, was = (add("Slice", "previous", cut[k], cut[k + 1], one) for k in (0, 1))
        change = add("Mul", add.constant(np.float32(CHANGE_SCALE)), add("Mul", add("Sub", seen, before), was))
        previous = add("Concat", seen, ones, axis=-1)
        parts = [add("Gather", seen, add.constant(np.array(net.kept, np.int64)), axis=1), change]
    if net.levels is not None and not net.velocity:
        parts += [level, known]
    if net.identity is not None:
        parts.append(add("MatMul", ones, add.constant(net.identity)))
    return add("Concat", *parts, axis=-1), level, previous


def _lstm(add: Graph, net: Network, inputs: str) -> tuple[str, str]:
    """Return the next hidden and cell state [B, H]."""
    if net.levels is None:
        index = add("Add", "last_action", add.constant(np.array(1, np.int64)))
        embedded = add("Gather", add.constant(net.embedding), index, axis=0)
    else:
        embedded = add.constant(net.embedding)
    if net.encoder is None:
        gates = add("Add", add.affine(inputs, net.read), embedded)
    else:
        met = add("Relu", add("Add", add.affine(inputs, net.encoder), embedded))
        gates = add.affine(met, net.read, net.bias)
    gates = add("Tanh", add("Add", gates, add.affine("hidden", net.recurrent)))
    i, f, g, o = add.several("Split", [gates], [f"gate_{name}" for name in "ifgo"], axis=-1)
    half = add.constant(np.float32(0.5))
    i, f, o = (add("Add", add("Mul", gate, half), half) for gate in (i, f, o))
    cell = add("Add", add("Mul", f, "cell"), add("Mul", i, g))
    return add("Mul", o, add("Tanh", cell)), cell


def _values(add: Graph, net: Network, features: str, inputs: str, hidden: str, level: str) -> tuple[str, str]:
    """Return Q [B, A], and what orders the actions as Q does."""
    out = add.affine(features, net.head, net.head_bias)
    if net.levels is None:
        return out, out
    centre = _centre(add, net, features, inputs, hidden, level)
    distance = add("Sub", add.constant(net.levels.astype(np.float32)[None]), centre)
    squared, q = add("Mul", distance, distance), _column(add, out, 0)
    bowls = (net.head.shape[-1] - 2) // 2
    for k in range(bowls):
        steep = add("Softplus", _column(add, out, 2 + k))
        width = add("Add", add("Softplus", _column(add, out, 2 + bowls + k)), add.constant(np.float32(0.01)))
        root = add("Sqrt", add("Add", squared, add("Mul", width, width)))
        q = add("Sub", q, add("Mul", steep, add("Sub", root, width)))
    return q, add("Neg", add("Abs", distance))


def _centre(add: Graph, net: Network, features: str, inputs: str, hidden: str, level: str) -> str:
    aim, bias, gain = net.head[:, 1:2], net.head_bias[:, 1:2], add.constant(np.float32(CENTRE_GAIN))
    if not net.velocity:
        return add("Mul", gain, add.affine(features, aim, bias))
    known = net.recurrent.shape[0]
    half = add.constant(np.float32(0.5))
    far = add("Exp", add("Mul", half, add("Tanh", add.affine(hidden, aim[:known], bias))))
    return add("Add", add("Mul", gain, add("Mul", far, add.affine(inputs, aim[known:]))), level)


def _column(add: Graph, x: str, index: int) -> str:
    """Return column ``index`` of x [B, F] as [B, 1]."""
    return add("Gather", x, add.constant(np.array([index], np.int64)), axis=1)
