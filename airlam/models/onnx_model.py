"""A checkpoint whose network runs in ONNX Runtime: what ``airlam export`` writes.

The graph holds the parts with learned weights, which take most of the time: embedding, backbone and head, from token
features to Doppler spectra, all real numbers. Eigenvectors and Cholesky factors do not exist in ONNX, nor do complex
numbers in ONNX Runtime; so the eigenbasis in front of the graph and the closed-form filters behind it stay in torch;
their code is that of :class:`~airlam.models.SpectralModel`. So does the tracker of phases and timing, a hundredth of
the work.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from airlam.errors import CheckpointError
from airlam.io import file_hash
from airlam.models.checkpoint import check_finite, check_names, made_config, read_config, reason_of
from airlam.models.config import AirlamConfig
from airlam.models.context import Readings
from airlam.models.fields import MAX_PARAMETERS, check_whole, shown
from airlam.models.phase_tracker import PhaseTracker
from airlam.models.predictor import AirlamPredictor
from airlam.models.spectral_model import Spectra, SpectralModel
from airlam.models.tokens import NUM_SCALARS, START_SLOTS

GRAPH, TRACKER = "model.onnx", "tracker.safetensors"
FORMAT, CHECKSUM, TRACKER_CHECKSUM = "export_format", "graph_sha256", "tracker_sha256"  # keys of config.json
FORMATS = ("onnx", "onnx-int8")
PARAMETERS = "parameters"  # key of config.json: of the checkpoint behind the graph
INPUTS = ("features", "log_periodogram", "noise")
OUTPUTS = ("power", "noise_variance", "gate", "log_scale")  # the last one only with AirlamConfig.error_variance


def is_onnx_folder(folder: str | Path) -> bool:
    """Whether ``config.json`` says that the folder holds an exported graph."""
    try:
        fields = json.loads((Path(folder) / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(fields, dict) and FORMAT in fields


class OnnxModel(SpectralModel, nn.Module):
    """An exported checkpoint. It predicts; it cannot be trained or adapted.

    Args:
        folder: what ``airlam export`` wrote.
        threads: of ONNX Runtime; the default is torch's number at that moment.

    Raises:
        CheckpointError: no such folder, damaged or foreign files, or ONNX Runtime is not installed.
    """

    def __init__(self, folder: str | Path, threads: int | None = None):
        super().__init__()
        folder = Path(folder)
        if threads is not None and (not isinstance(threads, int) or threads < 1):
            raise ValueError(f"threads must be an integer of at least 1, got {threads!r}")
        if not is_onnx_folder(folder):
            raise CheckpointError(f"{folder} holds no exported graph; 'airlam export' makes one")
        fields = read_config(folder)
        if fields[FORMAT] not in FORMATS:
            raise CheckpointError(f"{folder}/config.json: {FORMAT} is {shown(fields[FORMAT])}, not one of {FORMATS}")
        if fields.get("model_type") != AirlamConfig.model_type:
            raise CheckpointError(
                f"{folder}/config.json: model_type is {shown(fields.get('model_type'))}, but only models of type "
                f"{AirlamConfig.model_type!r} are exported"
            )
        self.config = made_config(folder / "config.json", fields, AirlamConfig)
        try:
            self.num_parameters = check_whole(PARAMETERS, fields.get(PARAMETERS, 0), 0, MAX_PARAMETERS)
        except ValueError as error:
            raise CheckpointError(f"{folder}/config.json: {error}") from error
        # Quantisation scales activations by the largest value of the tensor that it is handed. No link may change the
        # prediction of another, so each goes through alone.
        self.one_by_one = fields[FORMAT] == "onnx-int8"
        _check_file(folder / GRAPH, fields.get(CHECKSUM))
        self.session = open_session(folder / GRAPH, torch.get_num_threads() if threads is None else threads)
        self._check_graph(folder / GRAPH)
        self.tracker = PhaseTracker(self.config.max_history) if self.config.phase_tracker else None
        if self.tracker is not None:
            _check_file(folder / TRACKER, fields.get(TRACKER_CHECKSUM))
            try:
                check_names(folder / TRACKER, self.tracker.state_dict())
                self.tracker.load_state_dict(load_file(folder / TRACKER))
            except (SafetensorError, RuntimeError) as error:
                raise CheckpointError(
                    f"{folder / TRACKER} does not belong to this config.json ({reason_of(error)})"
                ) from error
            check_finite(folder / TRACKER, self.tracker.state_dict())

    def _check_graph(self, path: Path) -> None:
        """Raises CheckpointError unless inputs and outputs of the graph are those that ``config.json`` describes."""
        config, grid = self.config, self.config.doppler_grid
        features = 2 * config.max_history + 2 * START_SLOTS + grid + NUM_SCALARS
        wanted = dict(zip(INPUTS, (features, grid, None), strict=True))
        found = {x.name: x.shape for x in self.session.get_inputs()}
        outputs = [x.name for x in self.session.get_outputs()]
        widths = {name: shape[-1] if len(shape) == 3 else None for name, shape in found.items()}
        if widths != wanted or outputs != list(OUTPUTS if config.error_variance else OUTPUTS[:-1]):
            raise CheckpointError(
                f"{path} takes {found} and gives {outputs}, but config.json describes {features} features on a grid of "
                f"{grid}; they do not belong together; export the checkpoint again"
            )

    def network(
        self, features: Tensor, log_periodogram: Tensor, noise: Tensor, readings: Readings | None = None
    ) -> Spectra:
        """The graph, which has no sensors."""
        inputs = (features, log_periodogram, noise)
        if not self.one_by_one or len(features) == 1:
            return self._run(inputs)
        parts = zip(*(self._run(tuple(x[i : i + 1] for x in inputs)) for i in range(len(features))), strict=True)
        joined: list[Any] = [None if part[0] is None else torch.cat(part) for part in parts]
        return Spectra(*joined)

    def _run(self, inputs: tuple[Tensor, ...]) -> Spectra:
        arrays = {name: np.ascontiguousarray(x.detach().cpu().numpy()) for name, x in zip(INPUTS, inputs, strict=True)}
        out = [torch.from_numpy(x).to(inputs[0].device) for x in self.session.run(None, arrays)]
        return Spectra(*out, *[None] * (len(OUTPUTS) - len(out)))


class OnnxPredictor(AirlamPredictor):
    """Channel prediction by an exported checkpoint; ``airlam.load_predictor(folder)`` makes one.

    Args:
        folder: what ``airlam export`` wrote.
        name: of the row in tables; by default the folder's.
        correction, chunk, views: see :class:`AirlamPredictor`.
        threads: of ONNX Runtime; the default is torch's number at that moment.
    """

    def __init__(
        self,
        folder: str | Path,
        name: str | None = None,
        *,
        correction: bool = True,
        chunk: int = 64,
        views: int | None = None,
        threads: int | None = None,
    ):
        model = OnnxModel(folder, threads)
        super().__init__(model, name or Path(folder).name, correction=correction, chunk=chunk, views=views)


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


def _check_file(path: Path, stated: str | None) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path.parent} has no {path.name}; export the checkpoint again")
    if stated is not None and stated != file_hash(path):
        raise CheckpointError(f"{path} is damaged: its SHA-256 is not the one in config.json; export it again")
