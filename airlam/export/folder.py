"""What all exports share: the network as a module, the folder that appears whole or not at all, the comparison."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from importlib import util
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from airlam.errors import CheckpointError
from airlam.io import file_hash, flush_to_disk, results_folder, use_umask
from airlam.models import AirlamModel, OnBackbone
from airlam.models.checkpoint import CHECKSUM as WEIGHTS_CHECKSUM
from airlam.models.exported import (
    CHECKSUM,
    FORMAT,
    LARGEST_ERROR,
    OUTPUTS,
    PARAMETERS,
    TRACKER,
    TRACKER_CHECKSUM,
    ExportedModel,
)

# Both compute in single precision, but sum in another order; measured: 2e-6, and 1e-5 for the logarithm of a variance.
TOLERANCE = 1e-4


class Network(nn.Module):
    """``model.network`` as a module, without the outputs that are ``None``."""

    def __init__(self, model: AirlamModel):
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, log_periodogram: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        return tuple(x for x in self.model.network(features, log_periodogram, noise) if x is not None)


def check_model(
    model: AirlamModel, packages: tuple[str, ...], what: str, extra: str, kinds: str = "an AirlamModel"
) -> None:
    """Raises CheckpointError or TypeError unless the model can be exported and the packages are there."""
    if not isinstance(model, AirlamModel):
        raise TypeError(f"only {kinds} can be exported, got {type(model).__name__}")
    if model.config.context:
        sensors = ", ".join(model.config.context)
        raise CheckpointError(f"the model has sensors ({sensors}), for which a graph has no inputs; export one without")
    check_packages(packages, what, extra)


def check_packages(packages: tuple[str, ...], what: str, extra: str) -> None:
    """Raises CheckpointError unless the packages are there."""
    if missing := [name for name in packages if util.find_spec(name) is None]:
        raise CheckpointError(f"export to {what} needs {', '.join(missing)}; {extra}")


def write_folder(folder: str | Path, write: Callable[[Path], None]) -> Path:
    """``write`` fills a temporary folder, which then becomes ``folder``; an error leaves nothing."""
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise CheckpointError(f"{folder} exists and is not an empty folder; name another one, or remove it first")
    with results_folder(folder.parent) as parent:
        work = Path(tempfile.mkdtemp(prefix=".exporting-", dir=parent))
        try:
            write(work)
            for path in [*sorted(work.rglob("*")), work]:
                if path.is_file():
                    flush_to_disk(path)
                use_umask(path)
            os.replace(work, folder)  # onto nothing or an empty folder; anything else is refused by the system as well
        except OSError as error:
            why = error.strerror or str(error)
            raise CheckpointError(f"cannot write {folder}: {why}; free some space, or name another folder") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


def example(model: AirlamModel, links: int = 3, tokens: int = 5) -> tuple[Tensor, ...]:
    """Inputs of the network; neither number means anything to it."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(links, tokens, model.num_features, generator=generator)
    log_periodogram = torch.randn(links, tokens, model.config.doppler_grid, generator=generator)
    return features, log_periodogram, torch.rand(links, tokens, generator=generator)


def write_config(model: AirlamModel | OnBackbone, folder: Path, kind: str, graph: str) -> None:
    """``config.json`` and the tracker's weights, beside a graph that is there already."""
    fields = json.loads(model.config.to_json_string(use_diff=True))
    fields.pop(WEIGHTS_CHECKSUM, None)
    fields |= {FORMAT: kind, CHECKSUM: file_hash(folder / graph), PARAMETERS: model.num_parameters()}
    if (tracker := getattr(model, "tracker", None)) is not None:
        save_file({name: x.contiguous() for name, x in tracker.state_dict().items()}, folder / TRACKER)
        fields[TRACKER_CHECKSUM] = file_hash(folder / TRACKER)
    _write_fields(folder, fields)


def record_error(folder: Path, error: float) -> None:
    """Add the largest error of the graph to a ``config.json`` that is there already."""
    _write_fields(folder, json.loads((folder / "config.json").read_text()) | {LARGEST_ERROR: error})


def _write_fields(folder: Path, fields: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")


def compare(network: Network, exported: ExportedModel, inputs: tuple[Tensor, ...]) -> float:
    """The largest error of an output, for three links and for one; see :func:`largest_error`."""
    errors = []
    with torch.no_grad():
        for links in (3, 1):
            features, log_periodogram, noise = given = tuple(x[:links] for x in inputs)
            got = [x for x in exported.network(features, log_periodogram, noise) if x is not None]
            errors.append(largest_error(OUTPUTS, got, network(*given)))
    return max(errors)


def largest_error(names: Sequence[str], got: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest error of an output over its largest value.

    Raises:
        CheckpointError: above :data:`TOLERANCE`, or no number; names the output.

    Example:
        >>> largest_error(["power"], [torch.tensor([1.0, 2.0])], [torch.tensor([1.0, 2.0])])
        0.0
    """
    errors = [0.0]
    for name, a, b in zip(names, got, wanted, strict=False):
        errors.append(float((a - b).abs().max() / b.abs().max().clamp_min(1e-20)))
        if not errors[-1] <= TOLERANCE:
            raise CheckpointError(f"the exported graph's {name} is off by {errors[-1]:.1e}, over {TOLERANCE}")
    return max(errors)
