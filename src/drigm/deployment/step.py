"""One step of an agent's network, in NumPy or in ONNX Runtime; both keep the memory, and neither knows of a guard."""

from __future__ import annotations

from typing import Any

import numpy as np

from drigm.agents.numpy_network import NO_ACTION, Memory, Network, advance, cleared, preferences, q_values


class NumpyNetwork:
    """Weights that act in NumPy.

    Args:
        arrays: the weights, without leading axes.
    """

    def __init__(self, arrays: Network) -> None:
        self.arrays = arrays

    def reset(self, rows: int) -> None:
        """Clear the memory of ``rows`` episodes."""
        self.memory = cleared(self.arrays, (rows,))

    def step(
        self, readings: np.ndarray, last: np.ndarray, mask: np.ndarray, keep: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the greedy actions [B], counted from 0, and where the network gave finite numbers [B].

        Args:
            readings: [B, O] float32 in physical units.
            last: the previous actions [B], -1 at first.
            mask: which actions are available [B, A].
            keep: [B, 1] float32, 0 where the memory is cleared first.
        """
        x = (readings - self.arrays.offset) / self.arrays.scale
        memory, features = advance(self.arrays, self.memory, x, last, keep)
        wanted = preferences(self.arrays, features, last)
        finite = np.asarray(np.isfinite(wanted).all(axis=-1))
        self.memory, self.seen = memory if finite.all() else Memory(*map(_sound, memory)), (features, last)
        return np.where(mask, wanted, -np.inf).argmax(axis=-1), finite

    def q_values(self) -> np.ndarray:
        """Return the values of all actions at the last step [B, A]."""
        return q_values(self.arrays, *self.seen)

    def try_out(self, readings: int, actions: int) -> None:
        """Raise ValueError unless the arrays fit each other, and an agent of so many readings and actions."""
        self.reset(1)
        self.step(np.zeros((1, readings), np.float32), np.full(1, NO_ACTION), np.ones((1, actions), bool), _CLEAR)
        if self.arrays.offset.shape != (1, readings) or self.q_values().shape != (1, actions):
            raise ValueError("the network is of other readings or actions")


class OnnxNetwork:
    """A graph that acts in ONNX Runtime, by the same methods; it uses one core.

    Args:
        data: the file's bytes.

    Raises:
        ImportError: ONNX Runtime is not installed.
        ValueError: it cannot read the graph.
    """

    def __init__(self, data: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what goes wrong is said by whoever asked
        try:
            self.session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no class of their own
            raise ValueError(str(error)) from None
        self.outputs = [one.name for one in self.session.get_outputs()]
        self.sizes: dict[str, int] = {one.name: one.shape[-1] for one in self.session.get_inputs()}
        self.carried = [name for name in self.sizes if f"{name}_next" in self.outputs]

    def reset(self, rows: int) -> None:
        """Clear the memory of ``rows`` episodes."""
        self.memory = {name: np.zeros((rows, self.sizes[name]), np.float32) for name in self.carried}

    def step(
        self, readings: np.ndarray, last: np.ndarray, mask: np.ndarray, keep: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what `NumpyNetwork.step` returns; a graph that fails gave no finite numbers."""
        memory = {name: x * keep for name, x in self.memory.items()}
        try:
            found = self._run(readings, last, mask, memory)
        except Exception:  # an agent never raises
            self.values = np.full(mask.shape, np.nan, np.float32)
            return mask.argmax(axis=-1), np.zeros(len(mask), bool)
        self.values = found["q_values"]
        finite = np.asarray(np.isfinite(self.values).all(axis=-1))
        after = {name: found[f"{name}_next"] for name in self.memory}
        self.memory = after if finite.all() else {name: _sound(x) for name, x in after.items()}
        return found["action"], finite

    def q_values(self) -> np.ndarray:
        """Return the values of all actions at the last step [B, A]."""
        return self.values

    def try_out(self, readings: int, actions: int) -> None:
        """Raise ValueError unless the graph is of an agent of so many readings and actions."""
        self.reset(1)
        try:
            found = self._run(
                np.zeros((1, readings), np.float32), np.full(1, NO_ACTION), np.ones((1, actions), bool), self.memory
            )
            same = found["q_values"].shape == (1, actions) and found["action"].shape == (1,)
        except Exception:  # as of a file
            same = False
        if not same:
            raise ValueError("the graph is of other readings or actions")

    def _run(self, readings: np.ndarray, last: np.ndarray, mask: np.ndarray, memory: dict[str, Any]) -> dict[str, Any]:
        feeds = {"observation": readings, "available": mask, "last_action": last.astype(np.int64), **memory}
        return dict(zip(self.outputs, self.session.run(None, feeds), strict=True))


_CLEAR = np.zeros((1, 1), np.float32)


def _sound(memory: Any) -> Any:
    """Return a memory with zeros for what is no finite number, which clearing would leave (0 times NaN is NaN)."""
    return None if memory is None else np.nan_to_num(memory, posinf=0.0, neginf=0.0)
