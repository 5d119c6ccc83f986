"""A checkpoint whose network runs in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from airlam.errors import CheckpointError
from airlam.models.exported import INPUTS, ExportedModel, ExportedPredictor, exported_format


class OnnxModel(ExportedModel):
    """An exported checkpoint in ONNX Runtime. Arguments, errors: :class:`airlam.models.exported.ExportedModel`."""

    formats = ("onnx", "onnx-int8")
    graph = "model.onnx"

    def open(self, path: Path, threads: int) -> None:
        self.session = open_session(path, threads)
        found = {x.name: x.shape for x in self.session.get_inputs()}
        outputs = [x.name for x in self.session.get_outputs()]
        widths = {name: shape[-1] if len(shape) == 3 else None for name, shape in found.items()}
        if widths != self.widths or outputs != list(self.outputs):
            raise CheckpointError(
                f"{path} takes {found} and gives {outputs}, but config.json describes {self.widths[INPUTS[0]]} "
                f"features on a grid of {self.config.doppler_grid}; they do not belong together; export the checkpoint "
                "again"
            )

    def run(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        return self.session.run(None, arrays)


class OnnxPredictor(ExportedPredictor):
    """Channel prediction by an exported checkpoint in ONNX Runtime. Arguments: :class:`ExportedPredictor`."""

    runtime = OnnxModel


def is_onnx_folder(folder: str | Path) -> bool:
    """Whether ``config.json`` says that the folder holds an exported ONNX graph."""
    return exported_format(folder) in OnnxModel.formats


def open_session(graph: Path | bytes, threads: int) -> Any:
    """An ``onnxruntime.InferenceSession`` of a file or of a serialised model, on the CPU.

    Raises:
        CheckpointError: ONNX Runtime is not installed, or cannot run it.
    """
    name = "the graph" if isinstance(graph, bytes) else str(graph)
    try:
        import onnxruntime
    except ImportError as error:
        raise CheckpointError(f"{name} needs ONNX Runtime; pip install 'airlam[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Between two runs torch needs the cores that waiting threads would otherwise keep busy.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        source = graph if isinstance(graph, bytes) else name
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions have no common base but this
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{name} is no graph that ONNX Runtime can run ({reason}); export it again") from error
