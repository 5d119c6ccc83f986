"""Base class of the models that use the pretrained backbone with other tokens than those of a channel."""

from __future__ import annotations

from typing import Any, Self

from torch import nn
from transformers import PreTrainedModel

from airlam.models.airlam_model import AirlamModel


class OnBackbone(PreTrainedModel):
    """A model with a ``backbone`` and layers of its own, which start small."""

    _supports_sdpa = True
    init_std = 0.04  # of new linear layers

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=self.init_std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    @classmethod
    def from_backbone(cls, model: AirlamModel, **config: Any) -> Self:
        """A new one on the pretrained backbone of ``model`` (its own is left alone); ``config`` are further fields."""
        spec = model.config.backbone
        assert isinstance(spec, dict)  # a model's own configuration always holds one
        made = cls(cls.config_class(backbone=dict(spec), **config))
        made.backbone.load_state_dict(model.backbone.state_dict())
        return made
