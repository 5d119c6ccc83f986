"""Predictors and precoders by name, or from a checkpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from airlam.interfaces import CheckpointError, Precoder, Predictor
from airlam.recipes import find_checkpoint, list_recipes, nearest, recipe_root

# name -> (module, class); modules come in when a name is asked for
PREDICTORS = {
    "hold": ("airlam.baselines", "HoldPredictor"),
    "mean": ("airlam.baselines", "MeanPredictor"),
    "wiener": ("airlam.baselines", "WienerPredictor"),
    "kalman": ("airlam.baselines", "KalmanPredictor"),
    "ar": ("airlam.baselines", "ARPredictor"),
    "eigen-ar": ("airlam.baselines", "EigenARPredictor"),
    "pad": ("airlam.baselines", "PADPredictor"),
    "vector-prony": ("airlam.baselines", "VectorPronyPredictor"),
}
PRECODERS = {
    "mrt": ("airlam.baselines", "MRTPrecoder"),
    "zf": ("airlam.baselines", "ZFPrecoder"),
    "zf-wf": ("airlam.baselines", "ZFPrecoder", {"water_filling": True}),
    "rzf": ("airlam.baselines", "RZFPrecoder"),
    "slnr": ("airlam.baselines", "SLNRPrecoder"),
    "wmmse": ("airlam.baselines", "WMMSEPrecoder"),
    "type1": ("airlam.baselines", "Type1Precoder"),
}


def _build(registry: dict[str, tuple], name: str, **options: Any):
    module, attribute, *preset = registry[name]
    build: Callable = getattr(import_module(module), attribute)
    return build(**{**(preset[0] if preset else {}), **options})


def load_predictor(name_or_path: str | Path, **options: Any) -> Predictor:
    """A predictor by name, or from a checkpoint.

    Args:
        name_or_path: ``"hold"``, ``"mean"``, ``"wiener"``, ``"kalman"``, ``"ar"``, ``"eigen-ar"``, ``"pad"``; a
            shipped checkpoint (``"airlam-tiny"``), a checkpoint folder (or a comparator's), one of adapters, a folder
            that ``airlam export`` wrote, or a Lightning ``.ckpt``.
        options: arguments of the predictor's class, for example ``order=8`` for ``"ar"``, ``correction=False`` for a
            checkpoint.

    Raises:
        CheckpointError: no such predictor, or a checkpoint that is missing, corrupt, or not safe to load.

    Example:
        >>> load_predictor("ar", order=8).order
        8
    """
    name = str(name_or_path)
    if name in PREDICTORS:
        return _build(PREDICTORS, name, **options)
    path = Path(name).expanduser()
    if os.path.isfile(path):
        if path.suffix != ".ckpt":
            raise CheckpointError(
                f"{path} is a file, but only Lightning's .ckpt files and folders with config.json and "
                "model.safetensors are checkpoints"
            )
        from airlam.models import AirlamPredictor
        from airlam.tasks import ChannelPrediction, ComparatorTraining
        from airlam.tasks.channel_prediction import read_lightning

        options.setdefault("name", path.stem)
        if "kind" in read_lightning(str(path))["hyper_parameters"]:
            from airlam.models.comparators import ComparatorPredictor

            return ComparatorPredictor(ComparatorTraining.model_from_lightning(str(path)), **options)
        return AirlamPredictor(ChannelPrediction.model_from_lightning(str(path)), **options)
    if os.path.isfile(path / "adapter_config.json"):
        return _load_adapted(path, options)
    try:
        folder = find_checkpoint(path)
    except CheckpointError as error:
        if os.path.isdir(path):
            raise
        if path.suffix == ".ckpt":
            raise CheckpointError(f"no checkpoint file {name}") from error
        known = [*PREDICTORS, *shipped("airlam")]
        raise CheckpointError(
            f"no predictor or checkpoint {name[:200]!r}{nearest(name[:200], known) or ';'} valid names: "
            f"{', '.join(known)}"
        ) from error
    from airlam.models import AirlamPredictor, OnnxPredictor, is_onnx_folder, load_checkpoint
    from airlam.models.checkpoint import read_config

    options.setdefault("name", folder.name)
    if is_onnx_folder(folder):
        return OnnxPredictor(folder, **options)
    if read_config(folder).get("model_type") == "airlam-comparator":
        from airlam.models.comparators import ComparatorPredictor, load_comparator

        return ComparatorPredictor(load_comparator(folder), **options)
    return AirlamPredictor(load_checkpoint(folder), **options)


def _load_adapted(folder: Path, options: dict[str, Any]) -> Predictor:
    from airlam.models import AirlamPredictor, load_checkpoint, load_lora

    base = _base_of_adapters(folder)
    options.setdefault("name", folder.name)
    return AirlamPredictor(load_lora(load_checkpoint(find_checkpoint(base)), folder), **options)


def _base_of_adapters(folder: Path) -> str:
    from airlam.models.checkpoint import read_config

    base = read_config(folder, "adapter_config.json").get("base_model_name_or_path")
    if not base:
        raise CheckpointError(
            f"{folder}/adapter_config.json does not say which checkpoint these adapters belong to: the base was never "
            "saved. Save it with save_checkpoint(model, base_folder), and write that folder into "
            "base_model_name_or_path"
        )
    return base


def load_precoder(name_or_path: str | Path, **options: Any) -> Precoder:
    """A precoder by name, or from a checkpoint.

    Args:
        name_or_path: ``"mrt"``, ``"zf"``, ``"zf-wf"`` (with water-filling), ``"rzf"``, ``"slnr"``, ``"wmmse"``,
            ``"type1"`` (codebook); a shipped checkpoint (``"airlam-precoder"``), a checkpoint folder, a folder of
            adapters, or a Lightning ``.ckpt``.
        options: arguments of the precoder's class, for example ``rx_axis=True``.

    Raises:
        CheckpointError: no such precoder, or a checkpoint that is missing, corrupt, or not safe to load.

    Example:
        >>> load_precoder("rzf").name
        'rzf'
    """
    name = str(name_or_path)
    if name in PRECODERS:
        return _build(PRECODERS, name, **options)
    path = Path(name).expanduser()
    from airlam.models import LearnedPrecoder, adapter_utility, load_learned_precoder, load_lora
    from airlam.models.checkpoint import read_config

    options.setdefault("name", path.stem if path.suffix == ".ckpt" else path.name)
    if os.path.isfile(path):
        from airlam.tasks import Beamforming

        return LearnedPrecoder(Beamforming.model_from_lightning(str(path)), **options)
    if os.path.isfile(path / "adapter_config.json"):
        base = load_learned_precoder(find_checkpoint(_base_of_adapters(path)))
        options.setdefault("utility", adapter_utility(path))
        return LearnedPrecoder(load_lora(base, path), **options)
    try:
        folder = find_checkpoint(path)
    except CheckpointError as error:
        if os.path.isdir(path):
            raise
        known = [*PRECODERS, *shipped("airlam-precoder")]
        raise CheckpointError(
            f"no precoder or checkpoint {name[:200]!r}{nearest(name[:200], known) or ';'} valid names: "
            f"{', '.join(known)}"
        ) from error
    if read_config(folder).get("model_type") == "airlam":
        known = ", ".join([*PRECODERS, *shipped("airlam-precoder")])
        raise CheckpointError(f"{name} predicts channels; precoders are {known}")
    return LearnedPrecoder(load_learned_precoder(folder), **options)


def shipped(model_type: str) -> list[str]:
    """Names of the shipped checkpoints of one type."""
    found = []
    for entry in list_recipes("checkpoints"):
        config = json.loads((recipe_root() / entry / "config.json").read_text(encoding="utf-8"))
        if config.get("model_type") == model_type:
            found.append(Path(entry).name)
    return found
