"""Networks of several tasks on one frozen backbone: each brings its own layers and low-rank adapters.

A network on a shared backbone (:meth:`airlam.models.OnBackbone.from_backbone` with ``adapter_rank``) has modules of its
own around the tensors of another model's backbone. The tensors are the same ones in memory, so a further network costs
its own layers only. They are frozen. The adapters (LoRA, by peft) stay beside them: merged, they would need a copy.

The checkpoint of such a network holds what is its own, and the SHA-256 of the backbone that it belongs to.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from airlam.errors import CheckpointError
from airlam.models.airlam_model import AirlamModel
from airlam.models.fields import check_whole, refuse_unknown, shown
from airlam.models.linear import use_onednn
from airlam.recipes import shipped_name

MAX_RANK = 1024
FIELD = "shared_backbone"  # of config.json


class SharedBackbone(NamedTuple):
    """What a network says of the backbone that it shares.

    Attributes:
        base: name or folder of the checkpoint whose backbone it is. sha256: of that backbone (:func:`backbone_hash`).
        rank: of the adapters in each of its linear layers; 0: none.
    """

    base: str
    sha256: str
    rank: int


def check_start(adapter_rank: int | None, backbone: str | None, checkpoint: str | None) -> None:
    """Raises ValueError where ``adapter_rank`` is given without the backbone alone that a task then starts from."""
    if adapter_rank is not None and (backbone is None or checkpoint is not None):
        raise ValueError("adapter_rank adapts a shared backbone: name its checkpoint as backbone, and no checkpoint")


def backbone_hash(backbone: nn.Module) -> str:
    """SHA-256 of a backbone's tensors in memory: names, types, shapes and values, in the order of the names.

    Example:
        >>> one, other = nn.Linear(2, 1), nn.Linear(2, 1)
        >>> backbone_hash(one) == backbone_hash(other)
        False
        >>> other.load_state_dict(one.state_dict())
        <All keys matched successfully>
        >>> backbone_hash(one) == backbone_hash(other)
        True
    """
    found = hashlib.sha256()
    for name, value in sorted(backbone.state_dict().items()):
        value = value.detach().cpu().contiguous()
        found.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def shared_copy(backbone: nn.Module) -> Any:
    """New modules around the same tensors, frozen: layers can be added to the copy, and the original stays as it is.

    Example:
        >>> one = nn.Linear(2, 1)
        >>> other = shared_copy(one)
        >>> other.weight.data_ptr() == one.weight.data_ptr(), other.weight.requires_grad, one.weight.requires_grad
        (True, False, True)
    """
    kept: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in backbone.parameters()}
    kept |= {id(b): b for b in backbone.buffers()}
    return copy.deepcopy(backbone, kept)


class Adapted(LoraLinear):
    """As peft's linear layer with an adapter; in inference mode with two operators more than the plain layer has.

    For one group of eight users a layer then takes 30 us more than without adapter; with peft's forward pass, 80 us.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``[..., in_features]`` -> ``[..., out_features]``."""
        if not torch.is_inference_mode_enabled() or args or kwargs:
            return super().forward(x, *args, **kwargs)
        out = self.base_layer(x)
        down, up = self.lora_A["default"].weight, self.lora_B["default"].weight
        narrow = nn.functional.linear(x, down).flatten(0, -2)
        out.view(-1, out.shape[-1]).addmm_(narrow, up.t(), alpha=self.scaling["default"])
        return out


def add_adapters(backbone: nn.Module, rank: int) -> None:
    """Put trainable low-rank adapters into each linear layer of a frozen backbone; at first they change nothing."""
    check_whole("adapter_rank", rank, 1, MAX_RANK)
    # nothing reads the pooler
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", exclude_modules=r".*pooler.*")
    inject_adapter_in_model(config, backbone)
    use_onednn(backbone)
    for layer in backbone.modules():
        if type(layer) is LoraLinear:
            layer.__class__ = Adapted


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a network on a shared backbone does not share: its layers and its adapters, by their names."""
    state = model.state_dict()
    return {name: value for name, value in state.items() if not name.startswith("backbone.") or ".lora_" in name}


def write_own(model: Any, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Write the tensors that are a network's own, and give the further fields of its ``config.json``.

    Raises:
        CheckpointError: the backbone is that of no checkpoint, so the network could not be loaded again.
    """
    if not model.shared.base:
        raise CheckpointError(
            "the shared backbone was never saved: save_checkpoint(its model, folder), and start from load_checkpoint"
        )
    state = {name: value.detach().to(dtype).contiguous() for name, value in own_tensors(model).items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    model.config.save_pretrained(folder)
    base = model.shared.base
    base = shipped_name(base) or (str(Path(base).resolve()) if Path(base).is_dir() else base)
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return written | {FIELD: model.shared._replace(base=base)._asdict()}


def read_shared(path: Path, fields: dict[str, Any]) -> SharedBackbone | None:
    """What a ``config.json`` says of a shared backbone; None: nothing, the weights are all in the checkpoint.

    Raises:
        CheckpointError: other fields, or a value out of bounds.
    """
    told = fields.get(FIELD)
    if told is None:
        return None
    try:
        if isinstance(told, dict):
            refuse_unknown(FIELD, told, SharedBackbone._fields)
        if not isinstance(told, dict) or told.keys() != set(SharedBackbone._fields):
            raise ValueError(f"{FIELD} is {shown(told)}, but must hold {', '.join(SharedBackbone._fields)}")
        if not isinstance(told["base"], str) or not 0 < len(told["base"]) <= 1024:
            raise ValueError(f"{FIELD}'s base is {shown(told['base'])}, but must be a name of 1 to 1024 characters")
        if not isinstance(told["sha256"], str) or not re.fullmatch("[0-9a-f]{64}", told["sha256"]):
            raise ValueError(f"{FIELD}'s sha256 is {shown(told['sha256'])}, but must be 64 hexadecimal digits")
        check_whole(f"{FIELD}'s rank", told["rank"], 0, MAX_RANK)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return SharedBackbone(**told)


def base_of(given: Any) -> AirlamModel:
    """The model behind what a caller hands over: an :class:`AirlamModel`, or a predictor with one.

    Raises:
        TypeError: something else.
    """
    found = getattr(given, "model", given)
    if not isinstance(found, AirlamModel) and callable(getattr(found, "get_base_model", None)):
        found = found.get_base_model()
    if not isinstance(found, AirlamModel):
        raise TypeError(
            f"backbone is {type(given).__name__}, but must be a predictor of a checkpoint such as "
            "load_predictor('airlam-tiny'), or its model"
        )
    return found


def check_belongs(folder: Path, shared: SharedBackbone, model: AirlamModel) -> None:
    """Raises CheckpointError unless ``model`` has the backbone that the network in ``folder`` was trained on."""
    found = backbone_hash(model.backbone)
    if found != shared.sha256:
        whose = str(model.config._name_or_path) or "the model that was given"
        raise CheckpointError(
            f"the backbone of {whose} has sha256 {found[:16]}..., but {folder} belongs to {shared.sha256[:16]}... "
            f"(that of {shared.base[:200]}); load that, or train the variant anew"
        )


def load_own(model: nn.Module, weights: Path) -> None:
    """The tensors of a file in place of those that are a network's own; they may have had no memory so far."""
    own = {name: value.float() for name, value in load_file(weights).items()}
    model.load_state_dict(own, strict=False, assign=True)
