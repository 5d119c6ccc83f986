r"""The learned precoder: users are nodes of a graph, a network computes weights for them, a closed form gives the
beams.

Every beam that maximises a utility of the users' rates under a power constraint has the form

.. math:: w_k = \sqrt{p_k}\, v_k/\|v_k\|,\quad
          v_k = \Bigl(\sum_j\lambda_j\,(h_j^H h_j + \beta_j C_j) + \alpha I\Bigr)^{-1} h_k^H

(E. Bjornson, M. Bengtsson, B. Ottersten, "Optimal multiuser transmit beamforming: a difficult problem with a simple
solution structure", IEEE Signal Process. Mag. 2014; :math:`C_j` is the covariance of the CSI's error, which the same
derivation puts beside :math:`h_j^H h_j` when it counts as noise).

So the network does not emit beams. It emits, for each user, the weight :math:`\lambda`, the share of the power
:math:`p`, the trust in the error covariance :math:`\beta`, and for all of them the loading :math:`\alpha`. Equal
weights, equal powers and :math:`\beta = 1` are the robust regularised zero forcing of :func:`airlam.baselines.rzf`: the
start, and what an untrained network does.

In each round the input of the network is the effect of the beams of the round before: the power that each user would
receive of each beam, through the estimate and through its error, relative to the noise. These powers are the edges of
the graph. There is no other input, so the same weights serve any number of users and antennas. Users have no positions,
so their order does not matter.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig

from airlam.baselines.precoding_steps import check_error_covariance, prepared
from airlam.baselines.robust import certain_rates, received_errors
from airlam.csi import resolve_inputs
from airlam.metrics import UTILITIES, utility
from airlam.metrics.rates import noise_of_users
from airlam.models.backbone import build_backbone, freeze_unused
from airlam.models.config import DEFAULT_BACKBONE
from airlam.models.fields import check_backbone, check_choice, check_whole, refuse_unknown_fields
from airlam.models.linear import use_onednn
from airlam.models.on_backbone import OnBackbone

USER_FEATURES = 13
EDGE_FEATURES = 8
BIDIRECTIONAL = ("bert", "roberta", "roberta-prelayernorm")
PLACE = 2  # the one position that all users take: the first that these backbones do not use for padding


class AirlamPrecoderConfig(PretrainedConfig):
    """What an :class:`AirlamPrecoder` is made of.

    Args:
        backbone: configuration of the transformer over users, a bidirectional Hugging Face model type (``bert``,
            ``roberta``, ``roberta-prelayernorm``): a causal one would tell users apart by their order.
        rounds: how often the network corrects the beams.
        edge_width: of the layer that reads a pair of users.
        utility: what it was trained for: ``sum_rate``, ``proportional_fair`` or ``max_min``
            (:func:`airlam.metrics.utility`).

    Example:
        >>> AirlamPrecoderConfig(rounds=1).utility
        'sum_rate'
    """

    model_type = "airlam-precoder"

    def __init__(
        self,
        backbone: dict[str, Any] | None = None,
        rounds: int = 2,
        edge_width: int = 64,
        utility: str = "sum_rate",
        **kwargs: Any,
    ):
        refuse_unknown_fields(type(self), ("backbone", "rounds", "edge_width", "utility"), kwargs)
        self.backbone = check_backbone(dict(DEFAULT_BACKBONE) if backbone is None else backbone, BIDIRECTIONAL)
        self.rounds = check_whole("rounds", rounds, 1, 64)
        self.edge_width = check_whole("edge_width", edge_width, 1, 16384)
        self.utility = check_choice("utility", utility, UTILITIES)
        super().__init__(**kwargs)


def closed_form_beams(
    h: Tensor, spread: Tensor | None, weight: Tensor, doubt: Tensor, share: Tensor, loading: Tensor
) -> Tensor:
    """The beams of the module's docstring, in the units of ``h``.

    Args:
        h: ``complex [..., user, tx_ant]``.
        spread: covariance of its errors ``[..., user, tx_ant, tx_ant]``, in any unit; None: exact.
        weight, doubt, share: lambda, lambda times beta in the units of ``spread``, p ``[..., user]``.
        loading: alpha ``[...]``, positive.

    Returns:
        ``[..., tx_ant, user]``; a user without a channel gets no beam.
    """
    rows = h.to(torch.complex128)
    weight, loading = weight.double(), loading.double()[..., None, None]
    if spread is None:  # (H^H L H + a I)^-1 H^H is H^H (H H^H + a L^-1)^-1 with its columns scaled
        matrix = rows @ rows.mH + torch.diag_embed(loading.squeeze(-1) / weight)
        eye = torch.eye(h.shape[-2], dtype=rows.dtype, device=h.device)
        beams = rows.mH @ torch.linalg.solve(matrix, eye.expand_as(matrix))
    else:
        matrix = rows.mH @ (weight[..., None] * rows)
        matrix = matrix + torch.einsum("...k,...kab->...ab", doubt.to(spread.dtype), spread)
        eye = torch.eye(h.shape[-1], dtype=rows.dtype, device=h.device)
        beams = torch.linalg.solve(matrix + loading * eye, rows.mH)
    norm = torch.linalg.vector_norm(beams, dim=-2, keepdim=True)
    beams = torch.where(norm > 0, beams / norm.clamp_min(1e-300), 0)
    return (beams * share.double().sqrt().unsqueeze(-2)).to(h.dtype)


def _log(x: Tensor) -> Tensor:
    return 0.25 * torch.log(x.clamp(0, 1e12) + 1e-3)


class AirlamPrecoder(OnBackbone):
    """See the module's docstring.

    Example:
        >>> model = AirlamPrecoder(AirlamPrecoderConfig()).eval()
        >>> h = torch.randn(10, 4, 32, dtype=torch.complex64)
        >>> [w.shape for w in model(h, 1.0, 0.01)][-1]
        torch.Size([10, 32, 4])
    """

    config_class = AirlamPrecoderConfig
    base_model_prefix = "airlam_precoder"
    main_input_name = "h"
    init_std = 0.05

    def __init__(self, config: AirlamPrecoderConfig):
        super().__init__(config)
        self.backbone = build_backbone(config.backbone)
        width = self.backbone.config.hidden_size
        self.user = nn.Sequential(nn.Linear(USER_FEATURES, width), nn.GELU(), nn.Linear(width, width))
        self.edge = nn.Sequential(
            nn.Linear(EDGE_FEATURES, config.edge_width), nn.GELU(), nn.Linear(config.edge_width, width)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 4)
        use_onednn(self)
        self.post_init()
        freeze_unused(self)
        nn.init.zeros_(self.head.weight)  # starts as robust regularised zero forcing
        nn.init.zeros_(self.head.bias)

    @resolve_inputs
    def forward(
        self, h: Tensor, power: float | Tensor, no: float | Tensor, error_covariance: Tensor | None = None
    ) -> list[Tensor]:
        """Beams after each round, the classical start first.

        Args:
            h: ``complex [..., user, tx_ant]``, an estimate.
            power: ``[...]`` or one value. no: ``[..., user]``, ``[...]`` or one value.
            error_covariance: as in :func:`airlam.baselines.rzf`; None: the estimate is taken as exact.

        Returns:
            ``rounds + 1`` times ``w [..., tx_ant, user]`` with ``sum_k ||w_k||^2 = power``.
        """
        lead, users = h.shape[:-2], h.shape[-2]
        power = torch.as_tensor(power, dtype=h.real.dtype, device=h.device).expand(lead)
        noise = noise_of_users(no, lead, h).expand(*lead, users)
        # rows of unit noise under unit power: every feature is a ratio
        scale = (power.unsqueeze(-1) / noise).sqrt()
        rows = h * scale[..., None]
        gain = scale.square()  # of error covariances; they are large, and stay as they are
        level = (noise / noise.mean(-1, keepdim=True)).log()  # so that the start is rzf for unequal noise, too
        state = torch.zeros(*lead, users, 4, dtype=h.real.dtype, device=h.device)
        root, out = power.sqrt()[..., None, None], []
        for number in range(self.config.rounds + 1):
            if number:
                state = state + self.look(rows, error_covariance, gain, out[-1] / root, state)
            bounded = state.clamp(-6, 6)
            weight = (bounded[..., 0] + level).exp()
            w = closed_form_beams(
                rows,
                error_covariance,
                weight,
                weight * gain * bounded[..., 1].exp(),
                torch.softmax(bounded[..., 2], -1),
                users * bounded[..., 3].mean(-1).exp(),
            )
            out.append(root * w)
        return out

    def look(self, rows: Tensor, spread: Tensor | None, gain: Tensor, w: Tensor, state: Tensor) -> Tensor:
        """Corrections of every user's four numbers ``[..., user, 4]``, from what the beams ``w`` do."""
        users = rows.shape[-2]
        received = (rows @ w).abs().square()  # [..., user, beam], over the noise
        errors = torch.zeros_like(received) if spread is None else gain[..., None] * received_errors(spread, w)
        energy = rows.abs().square().sum(-1)
        if spread is None:
            unsure = torch.zeros_like(energy)
        else:
            unsure = gain * spread.diagonal(dim1=-2, dim2=-1).real.sum(-1)
        alike = (rows @ rows.mH).abs().square() / (energy.unsqueeze(-1) * energy.unsqueeze(-2)).clamp_min(1e-30)
        own = received.diagonal(dim1=-2, dim2=-1)
        own_error = errors.diagonal(dim1=-2, dim2=-1)
        disturbed, disturbs = received.sum(-1) - own, received.sum(-2) - own
        error, spills = errors.sum(-1), errors.sum(-2)
        size = torch.full_like(own, math.log(users))
        facts = [
            _log(own),
            _log(disturbed),
            _log(error),
            _log(own / (disturbed.clamp_min(0) + error + 1)),
            _log(disturbs),
            _log(spills),
            _log(own_error),
            _log(energy / users),
            _log(unsure / users),
            size,
            state[..., 0],
            state[..., 1],
            state[..., 2],
        ]
        own_pair = own.unsqueeze(-1).expand_as(received)
        sides = [_log(received), _log(errors), _log(alike), _log(own_pair)]
        pairs = torch.stack([side for x in sides for side in (x, x.mT)], -1)
        others = 1 - torch.eye(users, dtype=own.dtype, device=own.device)
        told = (self.edge(pairs) * others[..., None]).sum(-2) / users
        x = (self.user(torch.stack(facts, -1)) + told).flatten(0, -3)
        place = torch.full(x.shape[:2], PLACE, dtype=torch.long, device=x.device)
        hidden = self.backbone(inputs_embeds=x.to(self.backbone.dtype), position_ids=place).last_hidden_state
        return self.head(self.norm(hidden.to(x.dtype))).reshape(state.shape)


class LearnedPrecoder:
    """An :class:`AirlamPrecoder` behind the interface of every precoder.

    Every entry takes the beams, of the start or of one of the rounds, with the highest utility of the rates that are
    certain in spite of CSI errors (:func:`airlam.baselines.robust.certain_rates`). By this utility the result is never
    below the classical start. Users are sorted by their gain before the network and put back into their order after it,
    so that rounding does not depend on the order. For a single user there is no interference: the beam is matched to
    the channel, and the error covariance is not used.

    Args:
        model: the model, or the same adapted by :func:`airlam.models.add_lora`.
        name: of the row in tables.
        rx_axis: ``h`` has a receive-antenna axis, see :mod:`airlam.baselines.precoders`.
        chunk: entries per forward pass, bounds the memory.
        certain: False always takes the last round.
        utility: of the rates (:func:`airlam.metrics.utility`); None: what the model was trained for.

    Example:
        >>> precoder = LearnedPrecoder(AirlamPrecoder(AirlamPrecoderConfig()))
        >>> w = precoder.precode(torch.randn(10, 4, 32, dtype=torch.complex64), 1.0, 0.01)
        >>> w.abs().square().sum((-2, -1)).allclose(torch.ones(10))
        True
    """

    def __init__(
        self,
        model: AirlamPrecoder,
        name: str = "airlam-precoder",
        *,
        rx_axis: bool = False,
        chunk: int = 512,
        certain: bool = True,
        utility: str | None = None,
    ):
        if utility is not None and utility not in UTILITIES:
            raise ValueError(f"utility is {utility!r}, but must be one of {', '.join(UTILITIES)}")
        if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
            raise ValueError(f"chunk is {chunk!r}, but must be a whole number of at least 1")
        self.model, self.name, self.rx_axis, self.chunk = model.eval(), name, rx_axis, chunk
        self.certain, self.utility = certain, utility or _plain(model).config.utility

    @resolve_inputs
    def precode(
        self, h: Tensor, power: float | Tensor, no: float | Tensor, *, error_covariance: Tensor | None = None
    ) -> Tensor:
        """See :class:`airlam.interfaces.Precoder`. Computes in single precision, the closed form in double."""
        rows, power, noise = prepared(h, power, no, self.rx_axis)
        lead, (users, antennas) = rows.shape[:-2], rows.shape[-2:]
        if error_covariance is not None:
            check_error_covariance(error_covariance, rows)
        # only ratios count: units in which the largest coefficient is 1 overflow nowhere
        unit = rows.abs().amax((-2, -1))
        unit = torch.where(unit > 0, unit, torch.ones_like(unit))
        rows = rows / unit[..., None, None]
        order = rows.abs().square().sum(-1).reshape(-1, users).argsort(-1)
        entry = torch.arange(len(order), device=h.device)[:, None]
        flat = rows.to(torch.complex64).reshape(-1, users, antennas)[entry, order]
        p, n = power.float().reshape(-1), (noise.double() / unit.double().square().unsqueeze(-1)).clamp(1e-12, 1e12)
        n, c = n.float().reshape(-1, users)[entry, order], None
        if error_covariance is not None and users > 1:
            c = error_covariance / unit[..., None, None, None] / unit[..., None, None, None]
            c = c.to(torch.complex64).reshape(-1, users, antennas, antennas)[entry, order]
        parts = [flat.new_zeros(0, antennas, users)]
        with torch.inference_mode():
            for start in range(0, len(flat), self.chunk):
                part = slice(start, start + self.chunk)
                parts.append(self._best(flat[part], p[part], n[part], None if c is None else c[part]))
        w = torch.cat(parts).mT[entry, order.argsort(-1)].mT
        return w.reshape(*lead, antennas, users).to(h.dtype)

    def _best(self, h: Tensor, power: Tensor, noise: Tensor, covariance: Tensor | None) -> Tensor:
        rounds = self.model(h, power, noise, covariance)
        if not self.certain:
            return rounds[-1]
        worth = [utility(certain_rates(h, w, noise, covariance), self.utility) for w in rounds]
        best = torch.stack(worth).argmax(0)
        return torch.stack(rounds, 1)[torch.arange(len(h), device=h.device), best]


def _plain(model: Any) -> AirlamPrecoder:
    return model if isinstance(model, AirlamPrecoder) else model.get_base_model()


AutoConfig.register("airlam-precoder", AirlamPrecoderConfig, exist_ok=True)
AutoModel.register(AirlamPrecoderConfig, AirlamPrecoder, exist_ok=True)
