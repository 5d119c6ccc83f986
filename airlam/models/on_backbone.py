"""Base class of the models that use the pretrained backbone with other tokens than those of a channel."""

from __future__ import annotations

from typing import Any, Self

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from airlam.errors import CheckpointError
from airlam.models.airlam_model import AirlamModel
from airlam.models.auto import FromPretrained
from airlam.models.shared import FIELD, SharedBackbone, add_adapters, backbone_hash, shared_copy


class OnBackbone(FromPretrained, PreTrainedModel):
    """A model with a ``backbone`` and layers of its own, which start small.

    Attributes:
        shared: whose backbone it is, where that is frozen and used by others, too (:mod:`airlam.models.shared`); None:
            all weights are its own.
    """

    _supports_sdpa = True
    init_std = 0.04  # of new linear layers
    shared: SharedBackbone | None = None

    def __init__(self, config: PretrainedConfig):
        if getattr(config, FIELD, None) is not None:  # transformers would draw the missing backbone at random
            raise CheckpointError(
                "this checkpoint shares a backbone that is not in it; load it with airlam.load_precoder, or with "
                "load_pilots or load_beams of airlam.models"
            )
        super().__init__(config)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=self.init_std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    @classmethod
    def from_backbone(cls, model: AirlamModel, adapter_rank: int | None = None, **config: Any) -> Self:
        """A new one on the pretrained backbone of ``model``; ``config`` are further fields.

        Args:
            adapter_rank: None: on a copy of the backbone, which is trained, too. A number: on the same tensors, frozen,
                with adapters of this rank in each of its linear layers (0: none).
        """
        spec = model.config.backbone
        assert isinstance(spec, dict)  # a model's own configuration always holds one
        made = cls(cls.config_class(backbone=dict(spec), **config))
        if adapter_rank is None:
            made.backbone.load_state_dict(model.backbone.state_dict())
        else:
            base = str(model.config._name_or_path)
            made.share(model.backbone, SharedBackbone(base, backbone_hash(model.backbone), adapter_rank))
        return made

    def share(self, backbone: nn.Module, shared: SharedBackbone) -> None:
        """Take the tensors of ``backbone`` in place of this model's own, frozen, and add new adapters."""
        self.backbone, self.shared = shared_copy(backbone), shared
        if shared.rank:
            add_adapters(self.backbone, shared.rank)
