"""Channel prediction from paths, each told by a network how far it can be trusted and how its cluster spreads.

1. *Paths.* :class:`airlam.baselines.path_fit.PathFit` finds plane waves in the history, jointly over slots, subcarriers
   and the panel: delay, direction, Doppler shift, gains.
2. *Tokens.* Each path is a token (:mod:`airlam.models.path_tokens`). How two paths lie to each other, in delay,
   direction and Doppler shift, biases the attention between them: rays of one cluster belong together.
3. *Backbone.* A Hugging Face transformer over the paths of one link.
4. *Head.* For each path its power, its cluster's mean Doppler shift, and its spreads in Doppler shift, delay and
   direction; for the link the noise.
5. *Joint linear MMSE.* With these statistics all paths' series are estimated and extrapolated at once, and the
   posterior gives the error's variance. A spread in delay or direction is a second series on the path's slope along
   subcarriers, columns or rows.
6. *Mixture.* An :class:`~airlam.models.AirlamModel` inside, which filters coefficients one by one, predicts too. Both
   state the variance of their errors; the better one gets the larger share of the mean, and all of it where the
   history is no sum of paths.

An untrained head leaves the statistics of the classic ``paths``, and shares by the stated variances.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig

from airlam.baselines.eigen_ar import block_diagonal
from airlam.baselines.path_fit import Search
from airlam.baselines.path_memory import recall
from airlam.baselines.path_receiver import by_panel, left_of_variance, mean_of_views, shortened
from airlam.baselines.path_series import Paths, Posterior, Statistics, as_panel
from airlam.baselines.paths import SLOPES
from airlam.csi import PortShape, check_port_shape, normalise, resolve_inputs
from airlam.models.airlam_model import AirlamModel
from airlam.models.backbone import build_backbone, freeze_unused
from airlam.models.config import DEFAULT_BACKBONE, AirlamConfig
from airlam.models.config import FIELDS as CONFIG_FIELDS
from airlam.models.fields import check_backbone, check_real, check_whole, refuse_unknown_fields
from airlam.models.linear import use_onednn
from airlam.models.on_backbone import OnBackbone
from airlam.models.path_tokens import NUM_FEATURES, NUM_PAIR_FEATURES, PathTokens
from airlam.models.predictor import AirlamPredictor

OF_PATH = 6  # power, Doppler shift, Doppler spread, power of each slope
OF_LINK = 3  # noise, scale of the variance, logit of the share of the model inside: means over paths
ALIKE = 0.5  # correlation of both predictions' errors
PAIR_WIDTH = 32


class AirlamPathsConfig(PretrainedConfig):
    """What an :class:`AirlamPaths` is made of.

    Args:
        backbone: configuration of the transformer over paths, any Hugging Face model type that accepts
            ``inputs_embeds`` and an additive attention mask.
        num_paths, threshold, rounds, final: of the search for paths, see
            :class:`airlam.baselines.path_fit.Search`.
        max_history: longest history; of a longer one the last slots count.
        num_atoms: largest number of exponentials in the joint estimate, the strongest ones: more cost time.
        views: from how many histories, each two slots shorter than the one before, the paths' predictions are averaged,
            see :class:`airlam.baselines.PathPredictor`. Two are better and take twice the time.
        inside: fields of the :class:`~airlam.models.AirlamConfig` of the model inside, which needs ``error_variance``;
            its phase tracker serves both.

    Example:
        >>> AirlamPathsConfig().model_type
        'airlam-paths'
    """

    model_type = "airlam-paths"
    context = ()  # it has no sensors

    def __init__(
        self,
        backbone: dict[str, Any] | None = None,
        num_paths: int = 80,
        threshold: float = 12.0,
        rounds: int = 14,
        final: int = 8,
        max_history: int = 32,
        num_atoms: int = 320,
        views: int = 1,
        inside: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        refuse_unknown_fields(type(self), FIELDS, kwargs)
        self.backbone = check_backbone(dict(DEFAULT_BACKBONE) if backbone is None else backbone)
        self.num_paths = check_whole("num_paths", num_paths, 1, 512)
        self.threshold = check_real("threshold", threshold, 1, 1e6)
        self.rounds = check_whole("rounds", rounds, 1, 512)
        self.final = check_whole("final", final, 2, 512)
        self.max_history = check_whole("max_history", max_history, 2, 128)
        self.num_atoms = check_whole("num_atoms", num_atoms, 1, 8192)
        self.views = check_whole("views", views, 1, 16)
        fields = {"error_variance": True, "phase_tracker": True} if inside is None else dict(inside)
        made = AirlamConfig(**fields)
        if not (made.error_variance and made.phase_tracker) or made.context:
            raise ValueError("inside must have error_variance and phase_tracker, and no context")
        if isinstance(made.backbone, str):
            raise ValueError("the backbone of inside must be a dict: its weights are in the same file")
        self.inside = {name: getattr(made, name) for name in INSIDE}
        super().__init__(**kwargs)

    @property
    def search(self) -> Search:
        """How hard paths are looked for."""
        return Search(self.num_paths, self.threshold, self.rounds, final=self.final)


FIELDS = ("backbone", "num_paths", "threshold", "rounds", "final", "max_history", "num_atoms", "views", "inside")
INSIDE = tuple(name for name in CONFIG_FIELDS if name != "context")


class Extrapolated(NamedTuple):
    """``posterior`` of the paths' series; ``factor [link]`` on its variance, and ``variance [link, slot]`` of an
    entry's error with it; ``share [link, slot]`` of the other prediction in the mean."""

    posterior: Posterior
    factor: Tensor
    variance: Tensor
    share: Tensor


class OfPaths(NamedTuple):
    """What paths alone say of links of unit power: ``future``, the prediction; ``own``, the variance or covariance of
    each entry's error; ``variance`` and ``share`` of :class:`Extrapolated`."""

    future: Tensor
    own: Tensor
    variance: Tensor
    share: Tensor


class AirlamPaths(OnBackbone):
    """See the module's docstring.

    Example:
        >>> model = AirlamPaths(AirlamPathsConfig()).eval()
        >>> h = torch.randn(2, 16, 12, 1, 8, dtype=torch.complex64)
        >>> model(h, 4, port_shape=(2, 2, 2)).shape
        torch.Size([2, 4, 12, 1, 8])
    """

    config_class = AirlamPathsConfig
    base_model_prefix = "airlam_paths"
    main_input_name = "h_past"

    def __init__(self, config: AirlamPathsConfig):
        super().__init__(config)
        self.backbone = build_backbone(config.backbone)
        width, heads = self.backbone.config.hidden_size, self.backbone.config.num_attention_heads
        self.embedding = nn.Sequential(nn.Linear(NUM_FEATURES, width), nn.GELU(), nn.Linear(width, width))
        self.attraction = nn.Sequential(
            nn.Linear(NUM_PAIR_FEATURES, PAIR_WIDTH), nn.GELU(), nn.Linear(PAIR_WIDTH, heads)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, OF_PATH + OF_LINK)
        self.inside = AirlamModel(AirlamConfig(**copy.deepcopy(config.inside)))
        self.inside.requires_grad_(False)
        use_onednn(self)
        self.post_init()
        freeze_unused(self)
        nn.init.zeros_(self.head.weight)  # starts as the classic
        nn.init.zeros_(self.head.bias)

    @classmethod
    def around(cls, model: AirlamModel, *, pretrained: bool = False, **config: Any) -> Self:
        """A new one with a copy of ``model`` inside, which has forward-backward covariances there.

        Args:
            pretrained: whether its backbone is also the start of the one that reads paths; else that starts at random.
            config: fields of :class:`AirlamPathsConfig`.
        """
        made = cls.from_backbone(model, **config) if pretrained else cls(cls.config_class(**config))
        made.replace_inside(model)
        return made

    def replace_inside(self, model: AirlamModel) -> None:
        """Put a copy of ``model`` in the place of the model inside, with forward-backward covariances."""
        fields = {name: getattr(model.config, name) for name in INSIDE} | {"forward_backward": True}
        self.config.inside = copy.deepcopy(fields)
        self.inside = AirlamModel(AirlamConfig(**copy.deepcopy(fields)))
        self.inside.load_state_dict(model.state_dict())
        self.inside.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """The model inside stays as it is."""
        super().train(mode)
        self.inside.eval()
        return self

    def statistics(self, paths: Paths) -> tuple[Statistics, Tensor, Tensor]:
        """What the network says of paths; and of each link ``[link]`` the logarithm of a factor on the variance, and a
        summand of the logit of the other model's share."""
        tokens = PathTokens.of(paths)
        live = paths.live
        bias = self.attraction(tokens.pairs).movedim(-1, 1)
        bias = bias.masked_fill(~live[:, None, None, :], -1e4)
        embedded = self.embedding(tokens.features)
        hidden = self.backbone(inputs_embeds=embedded, attention_mask=bias).last_hidden_state
        out = self.head(self.norm(hidden)).double()
        of_link = (out[..., OF_PATH:] * live[..., None]).sum(1) / live.sum(1, keepdim=True).clamp_min(1)
        log_power, width = out[..., 0].clamp(-12, 8), tokens.width[:, None]
        slopes = log_power[..., None] + out[..., 3:OF_PATH].clamp(-8, 8) + out.new_tensor(SLOPES).log()
        power = tokens.power[..., None] * torch.exp(torch.cat([log_power[..., None], slopes], -1))
        statistics = Statistics(
            power.movedim(-1, 1),
            paths.shift[..., 0] + 2 * width * torch.tanh(out[..., 1]),
            width * torch.exp(out[..., 2].clamp(-5, 3)),
            paths.noise * torch.exp(of_link[:, 0].clamp(-3, 5)),
        )
        return statistics, of_link[:, 1].clamp(-8, 8), of_link[:, 2]

    def extrapolate(self, paths: Paths, num_future: int, other: Tensor) -> Extrapolated:
        """The joint estimate of the paths' series, and how it goes together with the prediction of the model inside.

        Args:
            other: variance ``[link, slot]`` that the model inside states of an entry.
        """
        statistics, log_scale, logit = self.statistics(paths)
        posterior = Posterior.of(paths, statistics, num_future, self.config.num_atoms)
        # the network's factor is no part of the logit: else the share would teach it, not the error
        known = posterior.variance().clamp_min(1e-9)
        share = torch.sigmoid(known.log() - other.clamp_min(1e-9).log() + logit[:, None])
        factor = torch.exp(log_scale)
        return Extrapolated(posterior, factor, known * factor[:, None], share)

    def find(self, h_past: Tensor, shape: PortShape, observed: Tensor | None = None) -> Paths:
        """Paths in histories ``[link, slot, subcarrier, rx_ant, tx_ant]`` of unit power, tracked before."""
        with torch.no_grad():
            return recall(as_panel(h_past, shape), self.config.search, observed)

    @resolve_inputs
    def forward(
        self,
        h_past: Tensor,
        num_future: int,
        *,
        port_shape: PortShape | None = None,
        observed: Tensor | None = None,
        context: dict[str, Any] | None = None,
        views: int | None = None,
    ) -> Tensor:
        """Predict ``complex64 [link, num_future, subcarrier, rx_ant, tx_ant]``.

        Args:
            h_past: measured CSI ``complex64 [link, slot, subcarrier, rx_ant, tx_ant]``.
            num_future: slots to predict.
            port_shape: (polarisations, columns, rows) of ``tx_ant``.
            observed: ``bool [link, slot]``, False where a slot was not measured.
            context: not used.
            views: in the place of the configuration's.
        """
        return self.forward_with_variance(h_past, num_future, port_shape=port_shape, observed=observed, views=views)[0]

    @resolve_inputs
    def forward_with_variance(
        self,
        h_past: Tensor,
        num_future: int,
        *,
        port_shape: PortShape | None = None,
        observed: Tensor | None = None,
        context: dict[str, Any] | None = None,
        views: int | None = None,
        covariance: bool = False,
        subcarriers: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`forward`, and the variance of each entry's error, real, of the same shape; with ``covariance`` that
        of the errors of all ports, see :meth:`airlam.models.SpectralModel.forward_with_variance`.

        The paths' part of the variance is the mean over the entries of a slot, that of the covariance is not."""
        shape = check_port_shape(h_past.shape[-1], port_shape)
        h_past = h_past[:, -self.config.max_history :]
        if observed is not None:
            observed = observed[:, -self.config.max_history :]
            h_past = h_past * observed[:, :, None, None, None]
        other, spread = self.inside.forward_with_variance(
            h_past,
            num_future,
            port_shape=shape,
            observed=observed,
            covariance=covariance,
            subcarriers=subcarriers,
        )
        x, scale = normalise(h_past)
        if observed is not None:  # power of the slots that there are
            more = observed.to(scale.dtype).mean(1).sqrt()[:, None, None, None, None]
            x, scale = x * more, scale / more
        of_entry = spread.diagonal(dim1=-2, dim2=-1).real if covariance else spread
        of_slot = (of_entry / scale.square()).mean((2, 3, 4)).clamp_min(1e-9)
        tracked = self.inside.track(x, observed)
        parts = []
        for group, panel in by_panel(tracked, shape, observed):
            mask = None if observed is None else observed[group]
            seen, weights = [], []
            for history, part, weight in shortened(tracked[group], mask, views or self.config.views):
                paths = self.find(history, panel, part)
                seen.append(self._of_paths(paths, of_slot[group], x, subcarriers, covariance, panel[0]))
                weights.append(weight)
            parts.append((group, averaged(seen, weights)))
        future, own, variance, share = parts[0][1] if len(parts) == 1 else merged(parts)
        future, share = future * scale, share.to(scale.dtype)
        lead = (...,) + (None,) * (spread.dim() - 2)
        own = own * scale.square().view(-1, *(1,) * (own.dim() - 1))
        part, ratio = share[lead], (of_slot / variance).sqrt().to(scale.dtype)[lead]
        both = ALIKE * part * (1 - part) * (own * ratio + spread / ratio)
        share = share[:, :, None, None, None]
        return future + share * (other - future), (1 - part).square() * own + part.square() * spread + both

    def _of_paths(
        self, paths: Paths, other: Tensor, x: Tensor, subcarriers: Tensor | None, covariance: bool, polarisations: int
    ) -> OfPaths:
        """Of histories of unit power shaped like ``x``."""
        posterior, factor, variance, share = self.extrapolate(paths, other.shape[1], other)
        future = paths.synthesise(posterior.series().to(x.dtype), x.shape[3], subcarriers)
        own = variance.to(x.real.dtype)[:, :, None, None, None]
        if covariance:
            ports = (posterior.port_covariance(subcarriers) * factor[:, None, None, None, None]).to(x.dtype)
            whole = block_diagonal(ports[..., None, :, :].expand(*ports.shape[:-2], polarisations, -1, -1))
            own = whole[:, :, :, None]
        return OfPaths(future, own, variance, share)


def averaged(views: Sequence[OfPaths], weights: Sequence[Tensor]) -> OfPaths:
    """The mean of what paths of several histories say, with ``weights [link]`` of 0 or 1."""
    future, own, variance, share = (mean_of_views(values, weights) for values in zip(*views, strict=True))
    left = left_of_variance(weights).to(variance.dtype)
    return OfPaths(future, own * left.view(-1, *(1,) * (own.dim() - 1)).to(own.dtype), variance * left[:, None], share)


def merged(parts: Sequence[tuple[Tensor, OfPaths]]) -> OfPaths:
    """Results of groups of links, in the order of the links. Each part: ``bool [link]``, and what its links have."""
    out = OfPaths(*(value.new_zeros(len(parts[0][0]), *value.shape[1:]) for value in parts[0][1]))
    for group, values in parts:
        for whole, value in zip(out, values, strict=True):
            whole[group] = value
    return out


class AirlamPathsPredictor(AirlamPredictor):
    """Channel prediction by an :class:`AirlamPaths`.

    Args:
        model: its network. name: of the row in tables. chunk: links at a time, bounds the memory.
        views: from how many histories predictions are averaged, in the place of the checkpoint's number
            (``AirlamPathsConfig.views``): two take twice as long as one, for some tenths of a decibel.

    Example:
        >>> predictor = AirlamPathsPredictor(AirlamPaths(AirlamPathsConfig()))
        >>> predictor.predict(torch.randn(16, 12, 1, 4, dtype=torch.complex64), 4).shape
        torch.Size([4, 12, 1, 4])
    """

    def __init__(
        self, model: AirlamPaths, name: str = "airlam-paths", *, chunk: int = 16, views: int | None = None
    ) -> None:
        self.model, self.name, self.chunk = model.eval(), name, check_whole("chunk", chunk, 1, 4096)
        self.views = None if views is None else check_whole("views", views, 1, 16)

    def uncorrected(self, name: str) -> AirlamPathsPredictor:
        """The same with a head that says nothing: the statistics of ``paths``, averaged with the model inside by the
        variances that both state."""
        plain = copy.deepcopy(self.model)
        nn.init.zeros_(plain.head.weight)
        nn.init.zeros_(plain.head.bias)
        return AirlamPathsPredictor(plain, name, chunk=self.chunk, views=self.views)

    @resolve_inputs
    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :meth:`AirlamPredictor.predict`."""
        return self._run(functools.partial(self.model, views=self.views), h_past, num_future, port_shape, context)[0]

    def _with_variance(self, covariance: bool = False) -> Callable:
        return functools.partial(self.model.forward_with_variance, views=self.views, covariance=covariance)


AutoConfig.register("airlam-paths", AirlamPathsConfig, exist_ok=True)
AutoModel.register(AirlamPathsConfig, AirlamPaths, exist_ok=True)
