"""Beam prediction on the pretrained backbone: one token a beam, from incomplete noisy sweeps to the best beams.

The start is the exponential average of each beam's measurements; the network sees all sweeps, marks what was not
measured, and adds to the logarithm of that average. Nothing depends on the size of the codebook or on which beams were
measured when, so one network takes any panel of up to 512 beams; its accuracy depends on the panels of its training.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig

from airlam.baselines.beam_tracking import LastBest, check_sweeps
from airlam.csi import PortShape, check_port_shape, resolve_inputs
from airlam.models.backbone import build_backbone, freeze_unused
from airlam.models.config import DEFAULT_BACKBONE
from airlam.models.fields import check_backbone, check_real, check_whole, refuse_unknown_fields
from airlam.models.inference import in_inference_mode
from airlam.models.linear import use_onednn
from airlam.models.on_backbone import OnBackbone

PLACE = 9  # sine and cosine of one and two turns along columns and rows, polarisation
FACTS = 4


class AirlamBeamsConfig(PretrainedConfig):
    """What an :class:`AirlamBeams` is made of.

    Args:
        backbone: configuration of the transformer over beams, any Hugging Face model type that accepts
            ``inputs_embeds``.
        history: sweeps that are used; of a longer history the last ones. horizon: sweeps ahead.
        memory: of the exponential average that is the start.

    Example:
        >>> AirlamBeamsConfig().model_type
        'airlam-beams'
    """

    model_type = "airlam-beams"

    def __init__(
        self,
        backbone: dict[str, Any] | None = None,
        history: int = 8,
        horizon: int = 4,
        memory: float = 0.6,
        **kwargs: Any,
    ):
        refuse_unknown_fields(type(self), ("backbone", "history", "horizon", "memory"), kwargs)
        self.backbone = check_backbone(dict(DEFAULT_BACKBONE) if backbone is None else backbone)
        self.history = check_whole("history", history, 1, 512)
        self.horizon = check_whole("horizon", horizon, 1, 512)
        self.memory = check_real("memory", memory, 0, 1, below=True)
        super().__init__(**kwargs)


class AirlamBeams(OnBackbone):
    """See the module's docstring.

    Example:
        >>> model = AirlamBeams(AirlamBeamsConfig()).eval()
        >>> power, measured = torch.rand(2, 8, 16), torch.rand(8, 16) < 0.5
        >>> model.scores(power, measured, 2, port_shape=(1, 4, 4)).shape
        torch.Size([2, 2, 16])
    """

    config_class = AirlamBeamsConfig
    base_model_prefix = "airlam_beams"
    main_input_name = "power"

    def __init__(self, config: AirlamBeamsConfig):
        super().__init__(config)
        self.backbone = build_backbone(config.backbone)
        width = self.backbone.config.hidden_size
        self.embedding = nn.Sequential(
            nn.Linear(2 * config.history + PLACE + FACTS, width), nn.GELU(), nn.Linear(width, width)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.horizon)
        use_onednn(self)
        self.post_init()
        freeze_unused(self)
        nn.init.zeros_(self.head.weight)  # starts as the average
        nn.init.zeros_(self.head.bias)

    @property
    def start(self) -> LastBest:
        """The classical predictor it starts from."""
        return LastBest(self.config.memory)

    @in_inference_mode
    @resolve_inputs
    def scores(self, power: Tensor, measured: Tensor, horizon: int = 1, *, port_shape: PortShape) -> Tensor:
        """Logarithm of the probability that a beam will be the best, ``[batch, horizon, beam]``.

        Args:
            power: ``[batch, sweep, beam]``, of :func:`airlam.csi.measure_beams`; what was not measured may hold
                anything.
            measured: ``bool [sweep, beam]`` or one for every entry.
            horizon: sweeps ahead, at most the configuration's.
            port_shape: (polarisations, columns, rows) of the codebook, :func:`airlam.csi.dft_codebook`.

        Raises:
            TypeError, ValueError: wrong shapes, NaN, nothing measured, a horizon that it was not trained for.
        """
        check_sweeps(power, measured, horizon)
        if horizon > self.config.horizon:
            raise ValueError(
                f"horizon is {horizon}, but this network was trained for at most {self.config.horizon}; ask for less, "
                "or train one with model.horizon"
            )
        return self(power, measured, port_shape=port_shape)[:, :horizon].log_softmax(-1)

    @resolve_inputs
    def forward(self, power: Tensor, measured: Tensor, *, port_shape: PortShape) -> Tensor:
        """Scores before the softmax, ``[batch, horizon, beam]`` of the whole horizon."""
        if power.dim() == 3 and measured.dim() > 1 and power.shape[1] > self.config.history:
            power, measured = power[:, -self.config.history :], measured[..., -self.config.history :, :]
        measured = check_sweeps(power, measured, 1)
        shape = check_port_shape(power.shape[-1], port_shape)
        limit = getattr(self.backbone.config, "max_position_embeddings", 514) - 2
        if power.shape[-1] > limit:
            raise ValueError(f"the codebook has {power.shape[-1]} beams, but this backbone takes at most {limit}")
        power = torch.where(measured, power, torch.zeros_like(power)).float()
        start = self.start.average(power, measured).clamp_min(-3)
        level = torch.where(measured, power.clamp_min(1e-3).log(), torch.zeros_like(power)).transpose(1, 2)
        seen = measured.transpose(1, 2).float()
        missing = self.config.history - power.shape[1]
        sweeps = [nn.functional.pad(x, (missing, 0)) for x in (level / 4, seen)]
        top = start.amax(-1, keepdim=True)
        facts = torch.stack([start / 4, (top / 4).expand_as(start), (start - top) / 4, measured.any(1).float()], -1)
        place = _places(shape).to(power.device).expand(len(power), -1, -1)
        embedded = self.embedding(torch.cat([*sweeps, facts, place], -1)).to(self.backbone.dtype)
        hidden = self.backbone(inputs_embeds=embedded).last_hidden_state
        change = self.head(self.norm(hidden.to(start.dtype)))
        return (start[..., None] + 4 * change).transpose(1, 2)


def _places(port_shape: PortShape) -> Tensor:
    """Positions of the beams on the DFT grid ``[beam, PLACE]``."""
    polarisations, columns, rows = port_shape
    p, c, r = torch.meshgrid(*(torch.arange(n) for n in port_shape), indexing="ij")
    turns = [2 * math.pi * k * x / n for x, n in ((c, columns), (r, rows)) for k in (1, 2)]
    waves = [f(x) for x in turns for f in (torch.sin, torch.cos)]
    return torch.stack([*waves, p.float()], -1).reshape(polarisations * columns * rows, PLACE)


AutoConfig.register("airlam-beams", AirlamBeamsConfig, exist_ok=True)
AutoModel.register(AirlamBeamsConfig, AirlamBeams, exist_ok=True)
