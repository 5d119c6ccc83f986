"""Low-rank adapters (LoRA) through peft."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError

from airlam.interfaces import CheckpointError
from airlam.models.airlam_model import AirlamModel
from airlam.models.precoder import AirlamPrecoder
from airlam.recipes import find_checkpoint

UTILITY_FILE = "precoder.json"


def add_lora(
    model: AirlamModel | AirlamPrecoder, rank: int = 8, *, alpha: float | None = None, dropout: float = 0.0
) -> PeftModel:
    """Freeze ``model`` and add trainable low-rank adapters to each of its linear layers.

    The adapters start at zero: at first the adapted model predicts as the original. :func:`save_lora` writes the
    adapters alone, :func:`load_lora` brings them back, ``.merge_and_unload()`` gives a plain model.

    Args:
        rank: rank of every adapter, at least 1.
        alpha: scale of the update is ``alpha / rank``; the default is ``2 * rank``.
        dropout: on the adapters' input while training.

    Example:
        >>> from airlam.models import AirlamConfig, AirlamModel, add_lora
        >>> adapted = add_lora(AirlamModel(AirlamConfig(num_tokens=16, num_groups=0)), rank=2)
        >>> trainable, total = adapted.get_nb_trainable_parameters()
        >>> trainable < 0.1 * total
        True
    """
    if not isinstance(rank, int) or rank < 1:
        raise ValueError(f"rank must be an integer of at least 1, got {rank!r}")
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        lora_dropout=dropout,
        target_modules="all-linear",
        # not part of what is adapted: no gradient reaches it
        exclude_modules=None if getattr(model, "tracker", None) is None else r"tracker\..*",
    )
    with warnings.catch_warnings():  # peft asks transformers for an attribute under its old name
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        return get_peft_model(model, config)


def lora_layers(model: PeftModel) -> dict[str, Any]:
    """The adapted linear layers by their name in the plain model: each has ``base_layer``, ``lora_A``, ``lora_B``."""
    prefix = "base_model.model."
    return {
        name.removeprefix(prefix): module
        for name, module in model.named_modules()
        if hasattr(module, "lora_A") and hasattr(module, "base_layer")
    }


def save_lora(model: PeftModel, folder: str | Path) -> Path:
    """Write the adapters of ``model`` into ``folder``, with the name of their base, or where it lies.

    A shipped checkpoint goes by its name, so that the adapters load on another machine as well. Beside a precoder's
    goes the utility that they were trained for: peft's own file has no place for it.
    """
    folder, base = Path(folder), model.get_base_model()
    if name := str(base.config._name_or_path):
        model.peft_config["default"].base_model_name_or_path = _shipped_name(name) or name
    for config in model.peft_config.values():  # peft writes a set in the order of its hashes, which each process draws
        for name, value in vars(config).items():
            if isinstance(value, set):
                setattr(config, name, sorted(value))
    with warnings.catch_warnings():  # peft would look for the base's vocabulary on the network
        warnings.filterwarnings("ignore", message=".*(Unable to fetch remote file|Could not find a config file).*")
        model.save_pretrained(str(folder), save_embedding_layers=False)
    if (utility := getattr(base.config, "utility", None)) is not None:
        _write_utility(folder, utility)
    return folder


def _shipped_name(path: str) -> str | None:
    """The name of the shipped checkpoint that lies at ``path``, if one does."""
    try:
        shipped = find_checkpoint(Path(path).name)
    except CheckpointError:
        return None
    return Path(path).name if Path(path).expanduser().resolve() == shipped.resolve() else None


def _write_utility(folder: Path, utility: str) -> None:
    path = folder / UTILITY_FILE
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"utility": utility}) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def adapter_utility(folder: str | Path) -> str | None:
    """The utility that a precoder's adapters were trained for, where it is known."""
    path = Path(folder) / UTILITY_FILE
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["utility"]) if path.is_file() else None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete it, and name the utility when loading") from None


def load_lora(model: AirlamModel | AirlamPrecoder, folder: str | Path) -> PeftModel:
    """``model`` with the adapters that ``PeftModel.save_pretrained(folder)`` wrote (safetensors only)."""
    folder = Path(folder)
    if not (folder / "adapter_model.safetensors").is_file():
        raise CheckpointError(f"{folder} holds no adapter_model.safetensors; pickled adapters are not loaded")
    with warnings.catch_warnings():  # as above
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        try:
            return PeftModel.from_pretrained(model, folder, use_safetensors=True)
        except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(f"{folder}: these adapters are damaged or of another model ({reason})") from error
