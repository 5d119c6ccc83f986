"""The airlam backbone: CSI -> tokens -> transformer -> Doppler spectra -> predicted CSI.

0. *Receiver.* Phase and timing offsets of single slots are found and removed
   (:class:`airlam.models.phase_tracker.PhaseTracker`; where the checkpoint has one).
1. *Tokens.* The link's own eigenbasis (:class:`airlam.baselines.eigen_ar.Eigenbasis`) turns its history into series;
   the strongest become a token each, weaker ones a token per group, described by features that do not depend on a
   global phase or scale. So the same weights serve every array, band, history length and horizon.
2. *Backbone.* A Hugging Face transformer over the tokens of one link.
3. *Head.* Per token a Doppler power spectrum (the token's own periodogram, reshaped by the network), a noise level,
   and a gate. Spectrum and noise give the linear MMSE filter in closed form; the gate blends its prediction with
   that of the classical start (:func:`airlam.baselines.eigen_ar.class_filters`).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from airlam.models.auto import FromPretrained
from airlam.models.backbone import build_backbone, freeze_unused
from airlam.models.config import AirlamConfig
from airlam.models.context import ContextTokens, Readings
from airlam.models.fields import written_backbone
from airlam.models.layers import check_layered, looped
from airlam.models.linear import use_onednn
from airlam.models.phase_tracker import PhaseTracker
from airlam.models.spectral_model import Spectra, SpectralModel
from airlam.models.tokens import NUM_SCALARS, START_SLOTS


class AirlamModel(SpectralModel, FromPretrained, PreTrainedModel):
    """See the module's docstring.

    Example:
        >>> model = AirlamModel(AirlamConfig(num_tokens=32, num_groups=4)).eval()
        >>> h = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> model(h, 4, port_shape=(2, 4, 4)).shape
        torch.Size([2, 4, 48, 1, 32])
    """

    config_class = AirlamConfig
    base_model_prefix = "airlam"
    main_input_name = "h_past"
    _supports_sdpa = True

    def __init__(self, config: AirlamConfig):
        super().__init__(config)
        self.backbone = build_backbone(config.backbone)
        if isinstance(config.backbone, str):
            # from now on the weights travel with this model: a reload must not look for the folder or the hub again
            config.backbone = written_backbone(self.backbone.config)
        if config.loops > 1:
            check_layered(self.backbone)
            if config.context:
                raise ValueError("loops and context do not go together yet: leave one of them out")
        width = self.backbone.config.hidden_size
        grid = config.doppler_grid
        self.num_features = 2 * config.max_history + 2 * START_SLOTS + grid + NUM_SCALARS
        self.embedding = nn.Sequential(nn.Linear(self.num_features, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, grid + (3 if config.error_variance else 2))
        self.tracker = PhaseTracker(config.max_history) if config.phase_tracker else None
        self.context = ContextTokens(config.context, width) if config.context else None
        use_onednn(self)
        self.post_init()
        if self.tracker is not None:
            self.tracker.reset_gates()
        freeze_unused(self)
        # The head starts silent: spectrum = periodogram, noise = its rough estimate, gate at one half.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def untrained(self) -> AirlamModel:
        """A model of the same shape with random weights, the control for the benefit of pretraining.

        It has this model's tracker, because adaptation does not train the tracker. With a random tracker the control
        would be 1 dB worse for a reason that has nothing to do with the backbone.
        """
        fresh = AirlamModel(copy.deepcopy(self.config))
        if fresh.tracker is not None and self.tracker is not None:
            fresh.tracker.load_state_dict(self.tracker.state_dict())
        return fresh

    def add_tracker(self) -> None:
        """Give the model a new, untrained :class:`~airlam.models.phase_tracker.PhaseTracker` if it has none."""
        if self.tracker is None:
            self.config.phase_tracker = True
            self.tracker = PhaseTracker(self.config.max_history)
            self.tracker.reset_gates()

    def add_context(self, sensors: list[str]) -> None:
        """Give the model new, untrained tokens for readings of ``sensors`` (see :mod:`airlam.models.context`)."""
        self.config.context = AirlamConfig(context=sensors).context
        self.context = ContextTokens(self.config.context, self.backbone.config.hidden_size)
        self.context.apply(self._init_weights)

    def network(
        self, features: Tensor, log_periodogram: Tensor, noise: Tensor, readings: Readings | None = None
    ) -> Spectra:
        """Embedding, backbone and head."""
        return self.read(self.encode(features, readings), log_periodogram, noise)

    def encode(self, features: Tensor, readings: Readings | None = None) -> Tensor:
        """Embedding and backbone: features of tokens -> hidden states ``[link, token, width]``."""
        # the backbone may be in bfloat16, everything before and after it is in single precision
        embedded = self.embedding(features).to(self.backbone.dtype)
        mask = None
        if self.context is not None and readings is not None:
            # behind the others, whose positions stay as in pretraining
            sensed, present = self.context(readings)
            mask = torch.cat([present.new_ones(embedded.shape[:2]), present], 1).long()
            embedded = torch.cat([embedded, sensed.to(embedded.dtype)], 1)
        hidden = self.transform(embedded, mask)
        return hidden[:, : features.shape[1]].to(features.dtype)

    def transform(self, embedded: Tensor, mask: Tensor | None = None) -> Tensor:
        """The backbone: embedded tokens ``[link, token, width]`` -> hidden states of the same shape."""
        if self.config.loops > 1:
            return looped(self.backbone, embedded, self.config.loops)
        return self.backbone(inputs_embeds=embedded, attention_mask=mask).last_hidden_state

    def read(self, hidden: Tensor, log_periodogram: Tensor, noise: Tensor) -> Spectra:
        """The head: the backbone's output ``[link, token, width]`` becomes spectra."""
        out = self.head(self.norm(hidden))
        grid = self.config.doppler_grid
        power = torch.softmax(out[..., :grid] + log_periodogram, -1)
        noise = noise * torch.exp(out[..., grid].clamp(-8, 8)) + 1e-7
        single = torch.promote_types(out.dtype, torch.float32)
        gate = torch.sigmoid(out[..., grid + 1 : grid + 2].to(single))
        log_scale = None
        if self.config.error_variance:
            log_scale = out[..., -1:].to(single)  # see airlam.tasks.calibrate_variance
        return Spectra(power, noise, gate, log_scale)


AutoConfig.register("airlam", AirlamConfig, exist_ok=True)
AutoModel.register(AirlamConfig, AirlamModel, exist_ok=True)
