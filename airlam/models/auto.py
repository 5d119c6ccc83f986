"""transformers' ``AutoModel`` gives what airlam's own loading gives; what it cannot load is refused with advice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

from transformers import AutoConfig, PretrainedConfig

from airlam.errors import CheckpointError
from airlam.io import file_hash
from airlam.models.backbone import freeze_unused

CHECKSUM = "weights_sha256"  # key of config.json


class FromPretrained:
    """A mixin before ``PreTrainedModel``: what else a loaded checkpoint needs."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **options: Any) -> Self:
        """As ``PreTrainedModel.from_pretrained``, with the unused layers frozen and local weights compared with their
        checksum.

        Raises:
            CheckpointError: the weights in a local folder are not those that its ``config.json`` states.

        Example:
            >>> import airlam.models
            >>> from transformers import AutoModel
            >>> from airlam.recipes import find_checkpoint
            >>> type(AutoModel.from_pretrained(find_checkpoint("airlam-tiny"))).__name__
            'AirlamModel'
        """
        parent: Any = super()
        found = parent.from_pretrained(pretrained_model_name_or_path, *args, **options)
        model = found[0] if isinstance(found, tuple) else found  # with output_loading_info
        # Not kept: after a training, save_pretrained would write the checksum of the old weights.
        stated = model.config.__dict__.pop(CHECKSUM, None)
        weights = Path(str(pretrained_model_name_or_path)) / "model.safetensors"
        if stated is not None and os.path.isfile(weights) and file_hash(weights) != stated:
            raise CheckpointError(
                f"{weights} is damaged: its SHA-256 is not the one in config.json; copy the checkpoint again "
                f"(or remove {CHECKSUM} from config.json if you changed the weights on purpose)"
            )
        freeze_unused(model)  # transformers makes every parameter trainable
        return found


class ComparatorConfig(PretrainedConfig):
    """Stands for comparators, which are no models of transformers: without it the error would advise an upgrade."""

    model_type = "airlam-comparator"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **options: Any) -> Any:
        """Raises CheckpointError."""
        raise CheckpointError("AutoModel loads no comparators of airlam; use airlam.load_predictor with this folder")


AutoConfig.register(ComparatorConfig.model_type, ComparatorConfig, exist_ok=True)
