"""Ways to compute the network of an :class:`~airlam.models.AirlamModel` for one link, NumPy arrays in and out.

A way is a function that makes a :data:`Run` for arrays of inputs that stay where they are: the caller fills them and
calls the run. It raises whatever goes wrong while it is made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from airlam.models.exported import INPUTS, OUTPUTS
from airlam.models.lean import LeanNetwork, OneDnnProduct, Product
from airlam.models.onnx_model import open_session
from airlam.models.spectral_model import SpectralModel

if TYPE_CHECKING:
    from openvino import Core

Arrays = tuple[np.ndarray, ...]
Run = Callable[[], Arrays]
Way = Callable[[SpectralModel, Arrays, int], Run]


def by_model(model: SpectralModel, inputs: Arrays, threads: int) -> Run:
    """The model's own network, for every model. ``threads`` is not looked at: torch has its own number."""
    features, log_periodogram, noise = (torch.from_numpy(x) for x in inputs)

    def run() -> Arrays:
        with torch.inference_mode():
            return tuple(x.numpy() for x in model.network(features, log_periodogram, noise) if x is not None)

    return run


def by_torch(model: SpectralModel, inputs: Arrays, threads: int, make: type[Product] = Product) -> Run:
    """The lean network in torch, which has its own number of threads."""
    network = LeanNetwork(model, make)
    tensors = [torch.from_numpy(x) for x in inputs]

    def run() -> Arrays:
        with torch.inference_mode():
            return tuple(x.numpy() for x in network(*tensors))

    return run


def by_onednn(model: SpectralModel, inputs: Arrays, threads: int) -> Run:
    """The lean network in torch with oneDNN's matrix products."""
    return by_torch(model, inputs, threads, OneDnnProduct)


def by_onnxruntime(model: SpectralModel, inputs: Arrays, threads: int) -> Run:
    """The lean network in ONNX Runtime, which reads and writes the same memory in every call."""
    from airlam.realtime.graph import lean_graph

    session = open_session(lean_graph(LeanNetwork(model), inputs[0].shape[1], fused=True), threads)
    binding = session.io_binding()
    for name, x in zip(INPUTS, inputs, strict=True):
        binding.bind_cpu_input(name, x)
    outputs = tuple(np.zeros(x.shape, np.float32) for x in session.get_outputs())
    for name, x in zip(OUTPUTS, outputs, strict=False):
        binding.bind_output(name, "cpu", 0, np.float32, x.shape, x.ctypes.data)

    def run(kept: Arrays = inputs) -> Arrays:  # the binding holds addresses, not arrays
        session.run_with_iobinding(binding)
        return outputs

    return run


@cache
def _core() -> Core:
    """OpenVINO itself, once for the process. Each core gives the thread another stack for signals; of two cores that
    end in the order in which they began, the second leaves one behind that is freed, and the next signal, such as
    that of a child process that ends, kills the process."""
    import openvino

    return openvino.Core()


def by_openvino(model: SpectralModel, inputs: Arrays, threads: int, precision: str = "f32") -> Run:
    """The lean network in OpenVINO; ``precision`` is a name of OpenVINO's."""
    import openvino

    from airlam.realtime.graph import lean_graph

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # the caller's thread stays where the caller put it
    }
    core = _core()
    graph = core.read_model(lean_graph(LeanNetwork(model), inputs[0].shape[1]))
    request = core.compile_model(graph, "CPU", settings).create_infer_request()
    for i, x in enumerate(inputs):
        request.set_input_tensor(i, openvino.Tensor(x, shared_memory=True))
    outputs = tuple(request.get_output_tensor(i).data for i in range(len(graph.outputs)))

    def run() -> Arrays:
        request.infer()
        return outputs

    return run


def by_openvino_rounded(model: SpectralModel, inputs: Arrays, threads: int) -> Run:
    """The same in bfloat16. On processors with AMX it takes about 0.6 of the time."""
    return by_openvino(model, inputs, threads, "bf16")


WAYS: dict[str, Way] = {
    "torch": by_torch,
    "torch-onednn": by_onednn,
    "onnxruntime": by_onnxruntime,
    "openvino": by_openvino,
}
ROUNDED_WAYS: dict[str, Way] = {"openvino-bfloat16": by_openvino_rounded}  # allowed where bfloat16 is
