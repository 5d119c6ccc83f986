"""Checks of the fields of model configurations, made before anything is allocated.

A ``config.json`` may come from an untrusted source. Every field is checked for type and bounds, unknown keys are
refused with the nearest known one, and :func:`check_size` counts the parameters of a model on torch's meta device,
which allocates no memory. Errors are ``ValueError`` of one line; the loaders turn them into ``CheckpointError``.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from airlam.recipes import nearest

MAX_PARAMETERS = 1_000_000_000  # of one model: 4 GB in single precision
MAX_INTEGER = 2**20  # of any whole number in a backbone's configuration
MAX_LAYERS = 256
MAX_TEXT, MAX_ENTRIES, MAX_DEPTH = 256, 1024, 4  # of texts, lists and nested values in a backbone's configuration

# Keys that transformers, save_checkpoint or `airlam export` write beside a model's own fields.
WRITTEN_KEYS = frozenset(
    [
        "weights_sha256",
        "shared_backbone",
        "export_format",
        "graph_sha256",
        "tracker_sha256",
        "parameters",
        "largest_error",
        "model_type",
        "torch_dtype",
        "name_or_path",
        "_name_or_path",
        "attn_implementation",
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_commit_hash",
        "transformers_weights",
    ]
)
# Keys in published configurations of backbones that transformers keeps but no longer reads.
LEGACY_KEYS = frozenset(
    [
        "gradient_checkpointing",
        "task_specific_params",
        "position_embedding_type",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
        "n_ctx",
        "use_cache",
        "num_labels",
    ]
)


def shown(value: Any) -> str:
    """``repr`` of a value, cut to a length that fits into a line."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**30:
        return f"a number of {int(math.log10(abs(value))) + 1} digits"
    text = repr(value[:80] if isinstance(value, (str, list, tuple)) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def check_whole(name: str, value: Any, low: int, high: int) -> int:
    """``value`` if it is a whole number in [low, high].

    Example:
        >>> check_whole("views", 2, 1, 3)
        2
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name} must be an integer of at least {low}, got {shown(value)}")
    if value > high:
        raise ValueError(f"{name} must be at most {high}, got {shown(value)}")
    return value


def check_real(name: str, value: Any, low: float, high: float, *, below: bool = False) -> float:
    """``value`` if it is a number in [low, high], or in [low, high) with ``below``."""
    bad = isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high
    if bad or (below and value == high):
        least = f"a number of at least {low:g}" if math.isinf(high) else f"a number from {low:g} to {high:g}"
        raise ValueError(f"{name} must be {least}{f', below {high:g}' if below else ''}, got {shown(value)}")
    return value


def check_flag(name: str, value: Any) -> bool:
    """``value`` if it is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {shown(value)}")
    return value


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """``value`` if it is one of ``choices``."""
    valid = list(choices)
    if not isinstance(value, str) or value not in valid:
        hint = nearest(value, valid) if isinstance(value, str) and len(value) < MAX_TEXT else ""
        raise ValueError(f"{name} is {shown(value)}, but must be one of {', '.join(valid)}{hint}")
    return value


def refuse_unknown(owner: str, keys: Iterable[Any], known: Iterable[str]) -> None:
    """Raises ValueError for the first of ``keys`` that is not ``known``, with the nearest one that is."""
    valid = set(known)
    for key in keys:
        if key not in valid:
            public = sorted(name for name in valid if not name.startswith("_"))
            hint = nearest(str(key)[:MAX_TEXT], public) or "; remove it, or correct its name"
            raise ValueError(f"{owner} has no field {shown(key)}{hint}")


def refuse_unknown_fields(config_class: type[PretrainedConfig], own: Iterable[str], extra: Mapping[str, Any]) -> None:
    """Raises ValueError for a key in ``extra``, what a config's constructor was given besides its ``own`` fields, that
    transformers does not write."""
    refuse_unknown(config_class.__name__, extra, {*own, *common_keys(), *WRITTEN_KEYS})


@functools.cache
def common_keys() -> frozenset[str]:
    """Fields that every configuration of transformers has."""
    return frozenset({*PretrainedConfig().to_dict(), *(field.name for field in dataclasses.fields(PretrainedConfig))})


def check_backbone(spec: Any, allowed: Iterable[str] | None = None) -> dict[str, Any]:
    """A backbone's configuration with all its values checked.

    Args:
        spec: ``dict`` with ``model_type`` and further fields of that Hugging Face configuration.
        allowed: model types; None: all that transformers knows.

    Raises:
        ValueError: not a dict, an unknown model type or field, a value out of bounds.
    """
    if not isinstance(spec, dict):
        raise ValueError(f"backbone must be a dict with a model_type, got {shown(spec)}")
    if "model_type" not in spec:
        raise ValueError(
            "backbone has no model_type; name one beside its other fields, for example model_type: roberta-prelayernorm"
        )
    # a model of airlam cannot be the backbone of another
    types = [name for name in CONFIG_MAPPING if not name.startswith("airlam")] if allowed is None else list(allowed)
    kind = spec["model_type"]
    if not isinstance(kind, str) or kind not in types:
        hint = nearest(kind, types) if isinstance(kind, str) and len(kind) < MAX_TEXT else ""
        listed = f"one of {', '.join(types)}" if allowed is not None else "a model type that transformers knows"
        raise ValueError(f"backbone's model_type is {shown(kind)}, but must be {listed}{hint}")
    for key, value in spec.items():
        _check_value(f"backbone's {shown(key)[1:-1]}", value)
    refuse_unknown(f"a backbone of type {kind!r}", spec, _keys_of(kind))
    backbone_config(spec)
    return spec


def backbone_config(spec: dict[str, Any]) -> PretrainedConfig:
    """The configuration object of a checked backbone."""
    fields = dict(spec)
    kind = fields.pop("model_type")
    try:
        return AutoConfig.for_model(kind, **fields)
    except Exception as error:  # each configuration class checks its own fields, with errors of many types
        raise ValueError(f"backbone of type {kind!r}: {_reason(error)}") from error


def written_backbone(config: PretrainedConfig) -> dict[str, Any]:
    """The configuration of a loaded backbone for ``config.json``, without keys that no code reads."""
    fields = config.to_dict()
    return {key: value for key, value in fields.items() if key in _keys_of(config.model_type)}


@functools.cache
def _keys_of(kind: str) -> frozenset[str]:
    config_class = CONFIG_MAPPING[kind]
    names = {field.name for field in dataclasses.fields(config_class)} | set(config_class.attribute_map)
    try:
        names |= set(config_class().to_dict())
    except Exception:  # a few configurations have no defaults
        pass
    return frozenset(names | common_keys() | WRITTEN_KEYS | LEGACY_KEYS)


def _check_value(name: str, value: Any, depth: int = 0) -> None:
    """Bounds of any value of a backbone's configuration."""
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, int):
        # a layer takes time to make even where it takes no memory
        layers = "layer" in name and not name.endswith("_size")
        check_whole(name, value, -MAX_INTEGER, MAX_LAYERS if layers else MAX_INTEGER)
        if name.endswith(("_size", "_layers", "_heads", "_embeddings", "_positions", "n_embd", "n_layer", "n_head")):
            check_whole(name, value, 1, MAX_INTEGER)
    elif isinstance(value, float):
        check_real(name, value, -1e12, 1e12)
    elif isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise ValueError(f"{name} is a text of {len(value)} characters, but may have at most {MAX_TEXT}")
    elif isinstance(value, (list, tuple, dict)):
        if len(value) > MAX_ENTRIES or depth == MAX_DEPTH:
            raise ValueError(f"{name} holds {len(value)} entries, but may hold at most {MAX_ENTRIES}, {MAX_DEPTH} deep")
        for item in value.values() if isinstance(value, dict) else value:
            _check_value(name, item, depth + 1)
    elif not isinstance(value, torch.dtype):
        raise ValueError(f"{name} is {shown(value)}, but must be a number, a text, a list or a dict")


def check_size(what: str, build: Callable[[], nn.Module]) -> nn.Module:
    """The model that ``build`` makes, on the meta device: its names and shapes, no memory.

    Args:
        what: the name of the model in the error.

    Raises:
        ValueError: it cannot be made, or has more than :data:`MAX_PARAMETERS` parameters.
    """
    state = torch.get_rng_state()
    try:
        with torch.device("meta"):
            model = build()
    except Exception as error:  # layers check their sizes by asserts, zero divisions, RuntimeErrors ...
        raise ValueError(f"{what} cannot be built: {_reason(error)}") from error
    finally:
        torch.set_rng_state(state)
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > MAX_PARAMETERS:
        raise ValueError(
            f"{what} would have {count:,} parameters ({4 * count / 1e9:,.0f} GB), but at most {MAX_PARAMETERS:,} are "
            "built; choose smaller sizes"
        )
    return model


@functools.lru_cache(maxsize=64)
def _sized(spec: str) -> None:
    from transformers import AutoModel

    config = backbone_config(json.loads(spec))
    check_size("the backbone", lambda: AutoModel.from_config(config))


def check_backbone_size(spec: dict[str, Any]) -> None:
    """Raises ValueError for a backbone that cannot be built, or has more than :data:`MAX_PARAMETERS` parameters."""
    _sized(json.dumps(spec, sort_keys=True, default=str))


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # transformers says first which field, then, on the next line, what is wrong with it
    text = " ".join(lines[:2])
    text = text if len(text) <= 200 else text[:197] + "..."
    return f"{type(error).__name__} {text}".strip() if isinstance(error, KeyError) or not text else text
