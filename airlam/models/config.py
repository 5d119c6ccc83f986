"""Configuration of :class:`airlam.models.AirlamModel`."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

SENSORS = ("velocity", "position", "cell")

# Bidirectional, pre-layer-norm, learned positions (a token's position is its rank in energy).
DEFAULT_BACKBONE: dict[str, Any] = {
    "model_type": "roberta-prelayernorm",
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 514,
    "vocab_size": 2,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


class AirlamConfig(PretrainedConfig):
    """What an :class:`~airlam.models.AirlamModel` is made of.

    Args:
        backbone: configuration of the transformer between embedding and head, as a ``dict`` of any Hugging Face
            model type whose model accepts ``inputs_embeds``; or the path of a local folder, or a hub id, whose
            pretrained weights are then the start.
        num_tokens: strongest coefficients of the link that become a token each: more cost time, fewer cost accuracy.
        num_groups: tokens beyond those, each of which stands for ``group_size`` weaker coefficients of like energy:
            too noisy for a spectrum of their own, together they are not.
        group_size: see ``num_groups``. All other coefficients are predicted as zero.
        doppler_grid: points of the Doppler grid on which the head emits a spectrum.
        max_history: longest history; a longer one is cut to its last ``max_history`` slots.
        error_variance: whether the head also gives the variance of each coefficient's prediction error.
        phase_tracker: whether phase and timing offsets of single slots are estimated and removed first.
        context: sensors that become tokens beside those of the CSI, out of ``velocity``, ``position``, ``cell``; see
            :mod:`airlam.models.context`.
        views: bases that predictions are averaged over (:mod:`airlam.models.views`), 1 to 3: each costs the time of
            one, and gains less than the one before.
        start_order, start_ridge, start_classes, start_shrinkage: of the classical start, see
            :class:`airlam.baselines.EigenARPredictor`.

    Example:
        >>> AirlamConfig(num_tokens=64).num_tokens
        64
    """

    model_type = "airlam"

    def __init__(
        self,
        backbone: dict[str, Any] | str | None = None,
        num_tokens: int = 96,
        num_groups: int = 32,
        group_size: int = 8,
        doppler_grid: int = 129,
        max_history: int = 32,
        error_variance: bool = False,
        phase_tracker: bool = False,
        context: list[str] | None = None,
        views: int = 1,
        start_order: int = 12,
        start_ridge: float = 1e-4,
        start_classes: int = 4,
        start_shrinkage: float = 3.0,
        **kwargs: Any,
    ):
        for name, value, low in (
            ("num_tokens", num_tokens, 1),
            ("num_groups", num_groups, 0),
            ("group_size", group_size, 1),
            ("doppler_grid", doppler_grid, 9),
            ("max_history", max_history, 2),
            ("views", views, 1),
            ("start_order", start_order, 1),
            ("start_classes", start_classes, 1),
        ):
            if not isinstance(value, int) or value < low:
                raise ValueError(f"{name} must be an integer of at least {low}, got {value!r}")
        for name, value in (("start_ridge", start_ridge), ("start_shrinkage", start_shrinkage)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
                raise ValueError(f"{name} must be a number of at least 0, got {value!r}")
        self.backbone = dict(DEFAULT_BACKBONE) if backbone is None else backbone
        self.num_tokens, self.num_groups, self.group_size = num_tokens, num_groups, group_size
        self.doppler_grid, self.max_history, self.error_variance = doppler_grid, max_history, bool(error_variance)
        if views > 3:
            raise ValueError(f"views must be at most 3, got {views}")
        self.views = views
        for sensor in context or ():
            if sensor not in SENSORS:
                raise ValueError(f"context names {sensor!r}, but sensors are {', '.join(SENSORS)}")
        self.phase_tracker, self.context = bool(phase_tracker), list(dict.fromkeys(context or ()))
        self.start_order, self.start_ridge = start_order, start_ridge
        self.start_classes, self.start_shrinkage = start_classes, start_shrinkage
        super().__init__(**kwargs)
