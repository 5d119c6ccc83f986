"""Configuration of :class:`airlam.models.AirlamModel`."""

from __future__ import annotations

import inspect
import math
from typing import Any

from transformers import PretrainedConfig

from airlam.models.fields import (
    check_backbone,
    check_choice,
    check_flag,
    check_real,
    check_whole,
    refuse_unknown_fields,
    shown,
)

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


# fields that no weight depends on
FREE = frozenset(
    [
        "num_tokens",
        "num_groups",
        "group_size",
        "start_order",
        "start_ridge",
        "start_classes",
        "start_shrinkage",
        "views",
    ]
    + ["forward_backward"]
)
# name -> least and largest value of the whole numbers of an AirlamConfig
BOUNDS = {
    "num_tokens": (1, 4096),
    "num_groups": (0, 4096),
    "group_size": (1, 4096),
    "doppler_grid": (9, 4097),
    "max_history": (2, 512),
    "views": (1, 3),
    "start_order": (1, 512),
    "start_classes": (1, 512),
    "loops": (1, 64),
}
TRACKED_HISTORY = 128  # longest history of a phase tracker, whose filters grow with its square
MAX_LOCATION = 1024  # characters of a folder or hub id


class AirlamConfig(PretrainedConfig):
    """What an :class:`~airlam.models.AirlamModel` is made of.

    Args:
        backbone: configuration of the transformer between embedding and head, as a ``dict`` of any Hugging Face
            model type whose model accepts ``inputs_embeds``; or the path of a local folder, or a hub id, whose
            pretrained weights are then the start.
        num_tokens: strongest coefficients of the link that become a token each: more cost time, fewer cost accuracy.
        num_groups: further tokens, each for ``group_size`` weaker coefficients of similar energy that share one
            spectrum: each of them alone is too noisy to estimate one.
        group_size: see ``num_groups``. All other coefficients are predicted as zero.
        doppler_grid: points of the Doppler grid on which the head emits a spectrum.
        max_history: longest history; a longer one is cut to its last ``max_history`` slots.
        error_variance: whether the head also gives the variance of each coefficient's prediction error.
        phase_tracker: whether phase and timing offsets of single slots are estimated and removed first.
        context: sensors that become further tokens, out of ``velocity``, ``position``, ``cell``; see
            :mod:`airlam.models.context`.
        views: bases that predictions are averaged over (:mod:`airlam.models.views`), 1 to 3: each takes the time of one
            prediction, and gains less than the one before.
        start_order, start_ridge, start_classes, start_shrinkage: of the classical start, see
            :class:`airlam.baselines.EigenARPredictor`.
        loops: how often the row of layers is run through, with the same parameters each time: depth without
            parameters. For backbones of the types in :data:`airlam.models.layers.LAYERED`.
        forward_backward: whether the basis comes from covariances that are averaged with themselves, reversed and
            conjugated (:meth:`airlam.baselines.eigen_ar.Eigenbasis.of`).

    Raises:
        ValueError: a value of the wrong type or out of bounds (:data:`BOUNDS`,
            :func:`airlam.models.fields.check_backbone`), or a field that does not exist, with the nearest one that
            does.

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
        loops: int = 1,
        forward_backward: bool = False,
        **kwargs: Any,
    ):
        refuse_unknown_fields(type(self), FIELDS, kwargs)
        whole = dict(
            num_tokens=num_tokens,
            num_groups=num_groups,
            group_size=group_size,
            doppler_grid=doppler_grid,
            max_history=max_history,
            views=views,
            start_order=start_order,
            start_classes=start_classes,
            loops=loops,
        )
        for name, value in whole.items():
            setattr(self, name, check_whole(name, value, *BOUNDS[name]))
        self.start_ridge = check_real("start_ridge", start_ridge, 0, 1e12)
        self.start_shrinkage = check_real("start_shrinkage", start_shrinkage, 0, math.inf)
        self.error_variance = check_flag("error_variance", error_variance)
        self.phase_tracker = check_flag("phase_tracker", phase_tracker)
        self.forward_backward = check_flag("forward_backward", forward_backward)
        if phase_tracker and max_history > TRACKED_HISTORY:
            raise ValueError(f"max_history must be at most {TRACKED_HISTORY} with a phase_tracker, got {max_history}")
        if context is not None and not isinstance(context, (list, tuple)):
            raise ValueError(f"context must be a list of {', '.join(SENSORS)}, got {shown(context)}")
        self.context = list(dict.fromkeys(check_choice("a sensor in context", name, SENSORS) for name in context or ()))
        if isinstance(backbone, str):
            if not 0 < len(backbone) <= MAX_LOCATION:
                raise ValueError(f"backbone is a name of {len(backbone)} characters, but may have 1 to {MAX_LOCATION}")
            self.backbone: dict[str, Any] | str = backbone
        else:
            self.backbone = check_backbone(dict(DEFAULT_BACKBONE) if backbone is None else backbone)
        super().__init__(**kwargs)

    def change(self, **fields: Any) -> None:
        """Change fields that no weight depends on (:data:`FREE`).

        Raises:
            ValueError: another field, or a value out of bounds.
        """
        for name in fields:
            if name not in FREE:
                raise ValueError(f"{name} of a trained model cannot be changed, only {', '.join(sorted(FREE))}")
        checked = AirlamConfig(**fields)
        for name in fields:
            setattr(self, name, getattr(checked, name))


FIELDS = tuple(name for name in inspect.signature(AirlamConfig).parameters if name != "kwargs")
