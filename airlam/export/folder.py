"""What all exports share: the network as a module, the folder that appears whole or not at all, the comparison."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from importlib import util
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from airlam.errors import CheckpointError
from airlam.io import file_hash, flush_to_disk, results_folder, use_umask
from airlam.models import AirlamModel
from airlam.models.checkpoint import CHECKSUM as WEIGHTS_CHECKSUM
from airlam.models.exported import (
    CHECKSUM,
    FORMAT,
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


def check_model(model: AirlamModel, packages: tuple[str, ...], what: str, extra: str) -> None:
    """Raises CheckpointError or TypeError unless the model can be exported and the packages are there."""
    if not isinstance(model, AirlamModel):
        raise TypeError(f"only an AirlamModel can be exported, got {type(model).__name__}")
    if model.config.context:
        sensors = ", ".join(model.config.context)
        raise CheckpointError(f"the model has sensors ({sensors}), for which a graph has no inputs; export one without")
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


def write_config(model: AirlamModel, folder: Path, kind: str, graph: str) -> None:
    """``config.json`` and the tracker's weights, beside a graph that is there already."""
    fields = json.loads(model.config.to_json_string(use_diff=True))
    fields.pop(WEIGHTS_CHECKSUM, None)
    fields |= {FORMAT: kind, CHECKSUM: file_hash(folder / graph), PARAMETERS: model.num_parameters()}
    if model.tracker is not None:
        save_file({name: x.contiguous() for name, x in model.tracker.state_dict().items()}, folder / TRACKER)
        fields[TRACKER_CHECKSUM] = file_hash(folder / TRACKER)
    (folder / "config.json").write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")


def compare(network: Network, exported: ExportedModel, inputs: tuple[Tensor, ...]) -> None:
    """Every output, for three links and for one, against the model."""
    with torch.no_grad():
        for links in (3, 1):
            features, log_periodogram, noise = given = tuple(x[:links] for x in inputs)
            wanted = network(*given)
            got = [x for x in exported.network(features, log_periodogram, noise) if x is not None]
            for name, a, b in zip(OUTPUTS, got, wanted, strict=False):
                error = float((a - b).abs().max() / b.abs().max().clamp_min(1e-20))
                if not error <= TOLERANCE:
                    raise CheckpointError(f"the exported graph's {name} is off by {error:.1e}, over {TOLERANCE}")
