"""Comparators by kind, and in checkpoint folders."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from airlam.errors import CheckpointError
from airlam.io import file_hash
from airlam.models.checkpoint import (
    CHECKSUM,
    check_finite,
    check_names,
    check_weights,
    read_config,
    reason_of,
    replace_files,
)
from airlam.models.comparators.comparator import Comparator, check_arguments
from airlam.models.fields import check_size, refuse_unknown, shown
from airlam.recipes import nearest

MODEL_TYPE = "airlam-comparator"  # "model_type" in config.json
KINDS = {
    "rnn": ("rnn", "RNNComparator"),
    "gru": ("gru", "GRUComparator"),
    "lstm": ("lstm", "LSTMComparator"),
    "cnn": ("cnn", "CNNComparator"),
    "transformer": ("transformer", "TransformerComparator"),
    "wifo": ("wifo", "WiFoComparator"),
    "llm4cp": ("llm4cp", "LLM4CPComparator"),
    "minilm": ("minilm", "MiniLMComparator"),
    "refined": ("refined", "RefinedComparator"),
}


def build_comparator(kind: str, **arguments: Any) -> Comparator:
    """A comparator by kind: ``rnn``, ``gru``, ``lstm``, ``cnn``, ``transformer``, ``wifo``, ``llm4cp``, ``minilm``,
    ``refined`` (another kind on top of ``eigen-ar``).

    Args:
        arguments: of its class.

    Raises:
        ValueError: no such kind, or a value out of bounds. TypeError: no such argument.

    Example:
        >>> build_comparator("cnn", width=8).config["width"]
        8
    """
    if not isinstance(kind, str) or kind not in KINDS:
        hint = nearest(str(kind)[:64], KINDS) or ";"
        raise ValueError(f"no comparator {shown(kind)}{hint} kinds are {', '.join(KINDS)}")
    module, name = KINDS[kind]
    made = getattr(import_module(f"airlam.models.comparators.{module}"), name)
    known = inspect.signature(made).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        refuse_unknown(f"comparator {kind!r}", arguments, known)
    check_arguments(arguments)
    if _takes_weights_from_elsewhere(kind, arguments):
        return made(**arguments)
    check_size(f"comparator {kind!r}", lambda: made(**arguments))
    return made(**arguments)


def _takes_weights_from_elsewhere(kind: str, arguments: dict[str, Any]) -> bool:
    """Whether pretrained weights are read, which set the sizes by themselves."""
    network = arguments.get("network", kind)
    return arguments.get("pretrained", "package" if network == "minilm" else None) is not None


def save_comparator(model: Comparator, folder: str | Path) -> Path:
    """Write ``config.json`` and ``model.safetensors``, atomically, for :func:`airlam.load_predictor`."""

    def write(work: Path) -> dict[str, Any]:
        weights = work / "model.safetensors"
        state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        save_file(state, weights, metadata={"format": "pt"})
        trained = [name for name, value in model.named_parameters() if value.requires_grad]
        size = sum(model.get_parameter(name).numel() for name in trained)
        return {
            "model_type": MODEL_TYPE,
            "comparator": model.config,
            "trainable_parameters": size,
            CHECKSUM: file_hash(weights),
        }

    return replace_files(folder, write)


def load_comparator(folder: str | Path) -> Comparator:
    """The comparator that :func:`save_comparator` wrote.

    Raises:
        CheckpointError: foreign, corrupt, or mismatched.
    """
    folder = Path(folder)
    config = read_config(folder)
    if config.get("model_type") != MODEL_TYPE or not isinstance(config.get("comparator"), dict):
        kind = shown(config.get("model_type"))
        raise CheckpointError(f"{folder} holds no comparator: its model_type is {kind}")
    weights = check_weights(folder, config)
    described = config["comparator"]
    if described.get("pretrained") is not None or "pretrained" not in described and _has_language_model(described):
        raise CheckpointError(
            f"{folder}/config.json: pretrained is {shown(described.get('pretrained'))}, but must be null: the weights "
            "of a checkpoint are in its own file"
        )
    try:
        with torch.random.fork_rng(devices=[]):  # weights that are replaced at once must not move the global generator
            check_names(weights, check_size("the comparator", lambda: build_comparator(**described)).state_dict())
            model = build_comparator(**described)
        model.load_state_dict(load_file(weights))
    except CheckpointError:
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder}: config.json and model.safetensors do not belong together ({reason_of(error)})"
        ) from error
    check_finite(weights, model.state_dict())
    return model.eval()


def _has_language_model(described: dict[str, Any]) -> bool:
    return "minilm" in (described.get("kind"), described.get("network"))
