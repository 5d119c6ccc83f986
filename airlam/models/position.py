"""Positions on the pretrained backbone: one token a station, one token for what a classic method says.

The network moves the ellipse of a start (a classic estimate, or where all users are) and turns and stretches it: with
new weights it gives the start itself. It is trained at one site, for the stations of that site.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig

from airlam.baselines.positioning import NAMES, PositionEstimate, SiteCSI, delay_angle, fingerprint
from airlam.models.backbone import build_backbone, freeze_unused
from airlam.models.config import DEFAULT_BACKBONE
from airlam.models.fields import check_backbone, check_whole, refuse_unknown_fields
from airlam.models.linear import use_onednn
from airlam.models.on_backbone import OnBackbone

DELAYS = 24  # the fingerprint's delays are averaged to so many
SCALE = torch.tensor([50.0, 50.0, 50.0, 20.0, 20.0, 1.0, 1.0, 1.0, 1.0])  # of the delay-angle features
STARTS = 5  # x, y and the ellipse of the start


class PositionInputs(NamedTuple):
    """What the network sees of users: ``stations [user, station, feature]``; of the start ``mean [user, 2]`` and
    ``factor [user, 2, 2]``, the lower Cholesky factor of its covariance, in metres."""

    stations: Tensor
    mean: Tensor
    factor: Tensor

    @classmethod
    def of(cls, csi: SiteCSI, start: PositionEstimate) -> PositionInputs:
        """From measured CSI and a classic estimate."""
        power = (1 + fingerprint(csi)).log10()  # [user, station, delay, beam]
        pooled = nn.functional.adaptive_avg_pool2d(power, (DELAYS, power.shape[-1])).flatten(2)
        values = torch.cat((delay_angle(csi).float() / SCALE, pooled), -1)
        return cls(values, start.mean.float(), torch.linalg.cholesky(start.covariance).float())


class AirlamPositionConfig(PretrainedConfig):
    """What an :class:`AirlamPosition` is made of.

    Args:
        backbone: configuration of the transformer over tokens. stations: of the site. beams: columns times rows of a
            station's panel.

    Example:
        >>> AirlamPositionConfig(stations=6).model_type
        'airlam-position'
    """

    model_type = "airlam-position"

    def __init__(self, backbone: dict[str, Any] | None = None, stations: int = 3, beams: int = 4, **kwargs: Any):
        refuse_unknown_fields(type(self), ("backbone", "stations", "beams"), kwargs)
        self.backbone = check_backbone(dict(DEFAULT_BACKBONE) if backbone is None else backbone)
        self.stations = check_whole("stations", stations, 1, 256)
        self.beams = check_whole("beams", beams, 1, 512)
        super().__init__(**kwargs)


def num_features(beams: int) -> int:
    """Numbers that the network sees of a station.

    Example:
        >>> num_features(4)
        105
    """
    return len(NAMES) + DELAYS * beams


def check_stations(stations: Tensor, config: AirlamPositionConfig) -> None:
    """Raises ValueError unless ``stations [user, station, feature]`` are of the site that the network was made for."""
    count, width = stations.shape[1:]
    if count != config.stations:
        raise ValueError(
            f"the CSI is of {count} stations, but this network was made for {config.stations}; train one for this site"
        )
    if width != num_features(config.beams):
        raise ValueError(
            f"a station has {width} features ({(width - len(NAMES)) // DELAYS} beams), but this network was made for "
            f"{num_features(config.beams)} ({config.beams} beams); train one for these panels"
        )


class AirlamPosition(OnBackbone):
    """See the module's docstring.

    Example:
        >>> model = AirlamPosition(AirlamPositionConfig(stations=3)).eval()
        >>> start = PositionEstimate(torch.zeros(2, 2), torch.eye(2).expand(2, 2, 2))
        >>> csi = SiteCSI(torch.randn(2, 3, 96, 8, dtype=torch.complex64), torch.zeros(3, 4), 1e6, (2, 4, 1))
        >>> model.locate(csi, start).mean.tolist()
        [[0.0, 0.0], [0.0, 0.0]]
    """

    config_class = AirlamPositionConfig
    base_model_prefix = "airlam_position"
    main_input_name = "stations"

    def __init__(self, config: AirlamPositionConfig):
        super().__init__(config)
        self.backbone = build_backbone(config.backbone)
        width = self.backbone.config.hidden_size
        self.embedding = nn.Sequential(nn.Linear(num_features(config.beams), width), nn.GELU(), nn.Linear(width, width))
        self.names = nn.Parameter(torch.zeros(config.stations + 1, width))  # which station a token is of
        self.start = nn.Linear(STARTS, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, STARTS)
        use_onednn(self)
        self.post_init()
        freeze_unused(self)
        nn.init.normal_(self.names, std=0.3)
        nn.init.zeros_(self.head.weight)  # gives the start
        nn.init.zeros_(self.head.bias)

    def forward(self, stations: Tensor, mean: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``[user, 2]`` and lower factor of the covariance ``[user, 2, 2]``; see :class:`PositionInputs`."""
        check_stations(stations, self.config)
        told = torch.cat((mean / 50, factor[:, [0, 1], [0, 1]].log() / 2, factor[:, 1, 0, None] / 20), -1)
        tokens = torch.cat((self.start(told)[:, None], self.embedding(stations)), 1) + self.names
        hidden = self.backbone(inputs_embeds=tokens.to(self.backbone.dtype)).last_hidden_state
        change = self.head(self.norm(hidden[:, 0].to(mean.dtype)))
        moved = mean + (factor @ (3 * change[:, :2, None])).squeeze(-1)
        turn = torch.diag_embed(change[:, 2:4].clamp(-5, 5).exp())
        turn = turn + change[:, 4, None, None] * change.new_tensor([[0.0, 0.0], [1.0, 0.0]])
        return moved, factor @ turn

    def locate(self, csi: SiteCSI, start: PositionEstimate) -> PositionEstimate:
        """Where users are, from their CSI and the start's estimate of them."""
        return located(self, csi, start)


def located(network: Callable[..., tuple[Tensor, ...]], csi: SiteCSI, start: PositionEstimate) -> PositionEstimate:
    """Where users are.

    Args:
        network: takes the tensors of :class:`PositionInputs`, gives what :meth:`AirlamPosition.forward` does.
        csi: of the users. start: a classic estimate of the same users.

    Raises:
        ValueError: no users, or ``start`` is of others.
    """
    if not 0 < len(csi) == len(start.mean):
        raise ValueError(
            f"csi has {len(csi)} users and start {len(start.mean)}; give a start of the same users, at least one"
        )
    with torch.no_grad():
        mean, factor = network(*PositionInputs.of(csi, start))
    return PositionEstimate(mean.double(), (factor @ factor.mT).double())


def position_loss(mean: Tensor, factor: Tensor, truth: Tensor) -> Tensor:
    """Negative log-likelihood of true positions ``[user, 2]`` under Gaussians, ``[user]``, without its constant."""
    miss = torch.linalg.solve_triangular(factor, (truth - mean)[..., None], upper=False)[..., 0]
    return 0.5 * miss.square().sum(-1) + factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


AutoConfig.register("airlam-position", AirlamPositionConfig, exist_ok=True)
AutoModel.register(AirlamPositionConfig, AirlamPosition, exist_ok=True)
