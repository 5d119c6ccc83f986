"""Checkpoints whose network runs in another runtime: what ``airlam export`` writes, but for the graph itself.

The graph holds the parts with learned weights, which take most of the time: embedding, backbone and head, from token
features to Doppler spectra, all real numbers. Eigenvectors, Cholesky factors and complex numbers do not exist in ONNX
Runtime and LiteRT; so the eigenbasis in front of the graph and the closed-form filters behind it stay in torch;
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
from transformers import PretrainedConfig

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

TRACKER = "tracker.safetensors"
FORMAT, CHECKSUM, TRACKER_CHECKSUM = "export_format", "graph_sha256", "tracker_sha256"  # keys of config.json
PARAMETERS = "parameters"  # key of config.json: of the checkpoint behind the graph
LARGEST_ERROR = "largest_error"  # key of config.json: of an output over its largest value, against torch
RUN_BY = {
    "airlam": "airlam.load_predictor runs it",
    "airlam-map": "airlam.models.OnnxMap runs it",
    "airlam-position": "airlam.models.OnnxPosition runs it",
}
INPUTS = ("features", "log_periodogram", "noise")
OUTPUTS = ("power", "noise_variance", "gate", "log_scale")  # the last one only with AirlamConfig.error_variance


def exported_format(folder: str | Path) -> str | None:
    """``"onnx"``, ``"onnx-int8"``, ``"litert"`` or ``"litert-int8"`` as ``config.json`` has it; ``None`` if it is no
    exported checkpoint."""
    try:
        fields = json.loads((Path(folder) / "config.json").read_text())
    except (OSError, ValueError):
        return None
    return str(fields[FORMAT]) if isinstance(fields, dict) and FORMAT in fields else None


def read_exported(folder: Path, formats: tuple[str, ...], graph: str, made: type[PretrainedConfig]) -> Any:
    """Configuration of type ``made``, and the fields of ``config.json``, of a folder whose ``graph`` is undamaged.

    Raises:
        CheckpointError: no such folder, damaged or foreign files, another format or type of model.
    """
    if exported_format(folder) is None:
        raise CheckpointError(f"{folder} holds no exported graph; 'airlam export' makes one")
    fields = read_config(folder)
    if fields[FORMAT] not in formats:
        raise CheckpointError(f"{folder}/config.json: {FORMAT} is {shown(fields[FORMAT])}, not one of {formats}")
    if (kind := fields.get("model_type")) != made.model_type:
        raise CheckpointError(
            f"{folder}/config.json: model_type is {shown(kind)}, but only models of type {made.model_type!r} run here; "
            f"{RUN_BY.get(str(kind), 'export another checkpoint')}"
        )
    config = made_config(folder / "config.json", fields, made)
    try:
        fields[PARAMETERS] = check_whole(PARAMETERS, fields.get(PARAMETERS, 0), 0, MAX_PARAMETERS)
    except ValueError as error:
        raise CheckpointError(f"{folder}/config.json: {error}") from error
    _check_file(folder / graph, fields.get(CHECKSUM))
    return config, fields


def check_threads(threads: int | None) -> int:
    """``threads`` of a runtime; None: torch's number at this moment."""
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise ValueError(f"threads must be an integer of at least 1, got {threads!r}")
    return torch.get_num_threads() if threads is None else threads


class ExportedModel(SpectralModel, nn.Module):
    """An exported checkpoint. It predicts; it cannot be trained or adapted.

    A subclass names its ``formats`` and the file of its ``graph``, opens it in :meth:`open`, and runs it in
    :meth:`run`.

    Args:
        folder: what ``airlam export`` wrote.
        threads: of the runtime; the default is torch's number at that moment.

    Raises:
        CheckpointError: no such folder, damaged or foreign files, or the runtime is not installed.
    """

    formats: tuple[str, ...]
    graph: str

    def __init__(self, folder: str | Path, threads: int | None = None):
        super().__init__()
        folder, threads = Path(folder), check_threads(threads)
        self.config, fields = read_exported(folder, self.formats, self.graph, AirlamConfig)
        self.num_parameters = fields[PARAMETERS]
        # Quantisation scales activations by the largest value of the tensor that it is handed. No link may change the
        # prediction of another, so each goes through alone.
        self.one_by_one = str(fields[FORMAT]).endswith("-int8")
        self.open(folder / self.graph, threads)
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

    def open(self, path: Path, threads: int) -> None:
        """Open the graph; raise CheckpointError unless it is what ``config.json`` describes."""
        raise NotImplementedError

    def run(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Outputs of the graph in the order of ``OUTPUTS``; ``arrays``: float32, by the names of ``INPUTS``."""
        raise NotImplementedError

    @property
    def widths(self) -> dict[str, int | None]:
        """Last axis of each input, as ``config.json`` has it."""
        grid = self.config.doppler_grid
        features = 2 * self.config.max_history + 2 * START_SLOTS + grid + NUM_SCALARS
        return dict(zip(INPUTS, (features, grid, None), strict=True))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Outputs that a graph of this configuration has."""
        return OUTPUTS if self.config.error_variance else OUTPUTS[:-1]

    def network(
        self, features: Tensor, log_periodogram: Tensor, noise: Tensor, readings: Readings | None = None
    ) -> Spectra:
        """The graph, which has no sensors."""
        inputs = (features, log_periodogram, noise)
        if not self.one_by_one or len(features) == 1:
            return self._run(inputs)
        if len(features) == 0:
            one = noise.unsqueeze(-1)
            return Spectra(log_periodogram, noise, one, one if self.config.error_variance else None)
        parts = zip(*(self._run(tuple(x[i : i + 1] for x in inputs)) for i in range(len(features))), strict=True)
        joined: list[Any] = [None if part[0] is None else torch.cat(part) for part in parts]
        return Spectra(*joined)

    def _run(self, inputs: tuple[Tensor, ...]) -> Spectra:
        arrays = {name: np.ascontiguousarray(x.detach().cpu().numpy()) for name, x in zip(INPUTS, inputs, strict=True)}
        out = [torch.from_numpy(x).to(inputs[0].device) for x in self.run(arrays)]
        return Spectra(*out, *[None] * (len(OUTPUTS) - len(out)))


class ExportedPredictor(AirlamPredictor):
    """Channel prediction by an exported checkpoint; ``airlam.load_predictor(folder)`` makes one.

    Args:
        folder: what ``airlam export`` wrote.
        name: of the row in tables; by default the folder's.
        correction, chunk, views: see :class:`AirlamPredictor`.
        threads: of the runtime; the default is torch's number at that moment.
    """

    runtime: type[ExportedModel]

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
        model = self.runtime(folder, threads)
        super().__init__(model, name or Path(folder).name, correction=correction, chunk=chunk, views=views)


def _check_file(path: Path, stated: str | None) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path.parent} has no {path.name}; export the checkpoint again")
    if stated is not None and stated != file_hash(path):
        raise CheckpointError(f"{path} is damaged: its SHA-256 is not the one in config.json; export it again")
