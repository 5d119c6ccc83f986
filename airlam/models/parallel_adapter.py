"""A parallel adapter: a narrow network beside a frozen backbone, which reads the hidden states of its layers.

Each hidden state goes through a projection of its own into a narrow stream; small blocks mix that; what comes out is
added to the backbone's output. No gradient passes through the backbone, so its hidden states are numbers that can be
kept: a link that was seen once needs the backbone no more. The idea is that of PAC (arXiv 2408.10746).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from airlam import __version__
from airlam.errors import CheckpointError
from airlam.io import file_hash
from airlam.models.airlam_model import AirlamModel
from airlam.models.checkpoint import (
    CHECKSUM,
    check_finite,
    compare_shapes,
    load_checkpoint,
    read_config,
    reason_of,
    replace_files,
)
from airlam.models.context import Readings
from airlam.models.fields import check_choice, check_whole
from airlam.models.layers import check_layered, enter, layers_of, leave, run
from airlam.models.spectral_model import Spectra, SpectralModel
from airlam.recipes import find_checkpoint, nearest, shipped_name

CONFIG, WEIGHTS = "parallel_adapter.json", "parallel_adapter.safetensors"
FORMS = ("units", "attention")
MAX_RANK = 1024


class AdapterShape(NamedTuple):
    """What a parallel adapter is made of.

    Attributes:
        width: of the backbone. states: hidden states that it reads. rank: width of the narrow stream.
        form: of its blocks: ``units`` (each token by itself), ``attention`` (tokens see each other, too).
    """

    width: int
    states: int
    rank: int
    form: str


class Block(nn.Module):
    """One block of the narrow stream: attention over the tokens (if asked for), then hidden units."""

    def __init__(self, rank: int, form: str) -> None:
        super().__init__()
        self.heads = next(heads for heads in (4, 2, 1) if rank % heads == 0) if form == "attention" else 0
        if self.heads:
            self.enter, self.mix, self.leave = nn.LayerNorm(rank), nn.Linear(rank, 3 * rank), nn.Linear(rank, rank)
        self.norm, self.wide, self.narrow = nn.LayerNorm(rank), nn.Linear(rank, 2 * rank), nn.Linear(2 * rank, rank)

    def forward(self, x: Tensor) -> Tensor:
        """``[link, token, rank]`` -> the same shape."""
        if self.heads:
            q, k, v = self.mix(self.enter(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            seen = nn.functional.scaled_dot_product_attention(q, k, v)
            x = x + self.leave(seen.transpose(1, 2).flatten(2))
        return x + self.narrow(nn.functional.gelu(self.wide(self.norm(x))))


class ParallelAdapter(nn.Module):
    """The narrow network. It starts silent: its last projection is zero.

    Example:
        >>> adapter = ParallelAdapter(AdapterShape(width=128, states=5, rank=8, form="units"))
        >>> float(adapter(torch.randn(2, 80, 5, 128)).abs().max())
        0.0
    """

    def __init__(self, shape: AdapterShape) -> None:
        super().__init__()
        self.shape = shape
        self.down = nn.ModuleList(nn.Linear(shape.width, shape.rank) for _ in range(shape.states))
        self.blocks = nn.ModuleList(Block(shape.rank, shape.form) for _ in range(shape.states - 1))
        self.up = nn.Linear(shape.rank, shape.width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Hidden states ``[link, token, state, width]`` -> what is added to the last one ``[link, token, width]``."""
        states = nn.functional.layer_norm(states, states.shape[-1:])
        x = self.down[0](states[:, :, 0])
        for number, block in enumerate(self.blocks, 1):
            x = block(x + self.down[number](states[:, :, number]))
        return self.up(x)


def hidden_states(model: AirlamModel, x: Tensor, first: int = 0, stop: int | None = None) -> list[Tensor]:
    """What the adapter reads of the layers ``first <= n < stop`` of a model.

    Args:
        x: tokens' features ``[link, token, feature]`` before layer 0, else the output of layer ``first - 1``.

    Returns:
        Before layer 0 the first layer's input; then each layer's output ``[link, token, width]``. That of the last
        layer is the backbone's.
    """
    layers = layers_of(model.backbone)
    stop, found = len(layers) if stop is None else stop, []
    if first == 0:
        x = enter(model.backbone, model.embedding(x).to(model.backbone.dtype))
        found.append(x)
    for number in range(first, stop):
        x = run(model.backbone, x, layers[number : number + 1])
        found.append(leave(model.backbone, x) if number == len(layers) - 1 else x)
    return found


class AdaptedModel(SpectralModel, nn.Module):
    """A frozen :class:`AirlamModel` with a parallel adapter.

    Where ``Tokens.hidden`` is given, it holds the hidden states that :meth:`states` computed, and the backbone does not
    run.

    Args:
        base: its parameters are frozen. adapter: new or trained.
    """

    def __init__(self, base: AirlamModel, adapter: ParallelAdapter) -> None:
        super().__init__()
        self.base, self.adapter = base.requires_grad_(False), adapter
        self.config = base.config

    @property
    def tracker(self) -> Any:  # type: ignore[override]
        """The base's."""
        return self.base.tracker

    def get_base_model(self) -> AirlamModel:
        """The base, as peft's models give it."""
        return self.base

    def train(self, mode: bool = True) -> AdaptedModel:
        """The adapter alone can be trained: dropout of the base stays off."""
        super().train(mode)
        self.base.eval()
        return self

    @torch.no_grad()
    def states(self, features: Tensor) -> Tensor:
        """The backbone's hidden states for tokens' features: ``[link, token, state, width]``."""
        return torch.stack(hidden_states(self.base, features), 2).to(features.dtype)

    def network(
        self, features: Tensor, log_periodogram: Tensor, noise: Tensor, readings: Readings | None = None
    ) -> Spectra:
        """Embedding, backbone, adapter and head."""
        return self.read(self.states(features), log_periodogram, noise)

    def read(self, hidden: Tensor, log_periodogram: Tensor, noise: Tensor) -> Spectra:
        """Adapter and head, from hidden states."""
        return self.base.read(hidden[:, :, -1] + self.adapter(hidden), log_periodogram, noise)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """See :meth:`airlam.models.SpectralModel.forward`."""
        return SpectralModel.forward(self, *args, **kwargs)


def check_adaptable(model: AirlamModel) -> None:
    """Raises ValueError where no parallel adapter can stand beside a model."""
    check_layered(model.backbone)
    if model.config.context:
        raise ValueError("a parallel adapter does not read tokens of other sensors (context); take all weights")
    if model.config.loops > 1:
        raise ValueError("a parallel adapter does not read looped layers; take lora")


def adapter_shape(model: AirlamModel, rank: int, form: str) -> AdapterShape:
    """The shape of an adapter for ``model``."""
    check_adaptable(model)
    width, states = model.backbone.config.hidden_size, len(layers_of(model.backbone)) + 1
    return AdapterShape(width, states, check_whole("rank", rank, 1, MAX_RANK), check_choice("form", form, FORMS))


def add_parallel_adapter(model: AirlamModel, rank: int = 32, form: str = "attention") -> AdaptedModel:
    """Freeze ``model`` and put a new parallel adapter beside it; at first it predicts as before.

    Args:
        rank: width of the adapter's stream. form: see :class:`AdapterShape`.

    Raises:
        ValueError: a value out of bounds, or a model that no adapter can stand beside.

    Example:
        >>> from airlam.models import AirlamConfig
        >>> adapted = add_parallel_adapter(AirlamModel(AirlamConfig(num_tokens=16, num_groups=0)), rank=8)
        >>> sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        8712
    """
    return AdaptedModel(model, ParallelAdapter(adapter_shape(model, rank, form)))


def save_parallel_adapter(model: AdaptedModel, folder: str | Path) -> Path:
    """Write the adapter of ``model`` into ``folder``, atomically, with the name or path of its base and its checksum.

    :func:`airlam.load_predictor` takes the folder.

    Raises:
        CheckpointError: the base is no checkpoint on the disk, so the adapter could not be loaded again.
    """
    name = str(model.config._name_or_path)
    if not name:
        raise CheckpointError(
            "the adapter's base was never saved; save_checkpoint(model.base, folder) first, load that"
        )
    base = find_checkpoint(name)
    fields = {
        "base": shipped_name(str(base)) or str(base.resolve()),
        "base_sha256": file_hash(base / "model.safetensors"),
        "airlam": __version__,
        **model.adapter.shape._asdict(),
    }

    def write(work: Path) -> None:
        state = {key: value.detach().float().contiguous() for key, value in model.adapter.state_dict().items()}
        save_file(state, work / WEIGHTS)
        text = json.dumps(fields | {CHECKSUM: file_hash(work / WEIGHTS)}, indent=2, sort_keys=True)
        (work / CONFIG).write_text(text + "\n", encoding="utf-8")

    return replace_files(folder, write)


def is_parallel_adapter(folder: str | Path) -> bool:
    """Whether :func:`save_parallel_adapter` wrote a folder."""
    return os.path.isfile(Path(folder) / CONFIG)


def load_parallel_adapter(folder: str | Path, model: AirlamModel | None = None) -> AdaptedModel:
    """The adapter of a folder, beside its base.

    Args:
        model: the base, where it is loaded already; None: as the folder says.

    Raises:
        CheckpointError: a file is missing or damaged, a value is out of bounds, tensors are not those of the adapter,
            or the base is another one than it was trained beside.
    """
    folder = Path(folder)
    fields = read_config(folder, CONFIG)
    known = ("base", "base_sha256", "airlam", CHECKSUM, *AdapterShape._fields)
    for key in (*fields, *known):
        if key not in known or key not in fields:
            what = f"no field {key!r}" if key in known else f"a field {key!r}, which is none{nearest(key, known)}"
            raise CheckpointError(f"{folder / CONFIG} has {what}; copy the adapter again")
    weights = folder / WEIGHTS
    if not weights.is_file() or file_hash(weights) != fields[CHECKSUM]:
        raise CheckpointError(f"{weights} is missing or damaged; copy the adapter again")
    if model is None:
        base = find_checkpoint(str(fields["base"]))
        if file_hash(base / "model.safetensors") != fields["base_sha256"]:
            raise CheckpointError(f"{folder}: the adapter was trained beside other weights than those of {base}")
        model = load_checkpoint(base)
        model.config._name_or_path = str(fields["base"])
    try:
        shape = adapter_shape(model, fields["rank"], fields["form"])
    except ValueError as error:
        raise CheckpointError(f"{folder / CONFIG}: {reason_of(error)}") from error
    for name in ("width", "states"):
        if fields[name] != getattr(shape, name):
            raise CheckpointError(
                f"{folder / CONFIG}: {name} is {fields[name]!r}, but that of the base is {getattr(shape, name)}"
            )
    adapter = ParallelAdapter(shape)
    try:
        found = load_file(weights)
    except Exception as error:  # safetensors' errors are of many types
        raise CheckpointError(f"{weights} is damaged ({reason_of(error)}); copy the adapter again") from error
    compare_shapes(
        weights,
        {name: tuple(value.shape) for name, value in found.items()},
        {name: tuple(value.shape) for name, value in adapter.state_dict().items()},
    )
    check_finite(weights, found)
    adapter.load_state_dict(found)
    return AdaptedModel(model, adapter).eval()
