"""Predictors and precoders by name, from a checkpoint, or of a class of your own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airlam.errors import CheckpointError
from airlam.interfaces import Precoder, Predictor
from airlam.methods import build_own, check_made, find, is_own, names
from airlam.recipes import check_is_no_class, find_checkpoint, nearest, shipped_checkpoints

PREDICTORS = ("airlam", "airlam-paths")  # types of checkpoints that predict


def load_predictor(name_or_path: str | Path | Mapping[str, Any] | Predictor, **options: Any) -> Predictor:
    """A predictor by name, from a checkpoint, or of a class of your own.

    Args:
        name_or_path: the name of a registered method (``"hold"``, ``"ar"``, ``"eigen-ar"``, ... ``airlam list
            predictors``); a shipped checkpoint (``"airlam-tiny"``), a checkpoint folder (of a comparator too), a folder
            of adapters, a folder that ``airlam export`` wrote, or a Lightning ``.ckpt``; a class path
            (``"my_gru:MyGRU"``, ``"my_gru.MyGRU"``, ``"folder/my_gru.py:MyGRU"``; the current folder is looked into),
            or ``{"class_path": ..., "init_args": {...}}``; a class; or an object, which comes back as it is.
        options: arguments of the predictor's class, for example ``order=8`` for ``"ar"``, ``correction=False`` for a
            checkpoint.

    Raises:
        CheckpointError: no such predictor, or a checkpoint that is missing, corrupt, or not safe to load.
        RecipeError: a class path that names no predictor, one without a name, or wrong arguments of its class.

    Example:
        >>> load_predictor("ar", order=8).order
        8
        >>> load_predictor({"class_path": "airlam.baselines.ARPredictor", "init_args": {"order": 4}}).order
        4
    """
    if is_own(name_or_path):
        return build_own(name_or_path, "predictor", "predictor", **options)
    name = str(name_or_path)
    method = find(name, "predictor")
    if method is not None and method.factory:
        return check_made(method.build(**options), "predictor", f"predictor {name!r}")
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
    if os.path.isfile(path / "parallel_adapter.json"):
        from airlam.models import AirlamPredictor, load_parallel_adapter

        return AirlamPredictor(load_parallel_adapter(path), **{"name": path.name, **options})
    try:
        folder = find_checkpoint(path)
    except CheckpointError as error:
        if os.path.isdir(path):
            raise
        if path.suffix == ".ckpt":
            raise CheckpointError(f"no checkpoint file {name}") from error
        check_is_no_class(name, "predictor")
        known = [*names("predictor", built=True), *shipped_checkpoints(*PREDICTORS)]
        raise CheckpointError(
            f"no predictor or checkpoint {name[:200]!r}{nearest(name[:200], known) or ';'} valid names: "
            f"{', '.join(known)}"
        ) from error
    from airlam.models import AirlamPredictor, LitertPredictor, OnnxPredictor, exported_format, load_checkpoint
    from airlam.models.checkpoint import read_config

    options.setdefault("name", folder.name)
    if (exported := exported_format(folder)) is not None:
        runtime = LitertPredictor if exported.startswith("litert") else OnnxPredictor
        return runtime(folder, **options)
    kind = read_config(folder).get("model_type")
    if kind == "airlam-comparator":
        from airlam.models.comparators import ComparatorPredictor, load_comparator

        return ComparatorPredictor(load_comparator(folder), **options)
    if kind == "airlam-paths":
        from airlam.models import AirlamPathsPredictor, load_paths

        return AirlamPathsPredictor(load_paths(folder), **options)
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


def load_precoder(name_or_path: str | Path | Mapping[str, Any] | Precoder, **options: Any) -> Precoder:
    """A precoder by name, from a checkpoint, or of a class of your own.

    Args:
        name_or_path: ``"mrt"``, ``"zf"``, ``"zf-wf"`` (with water-filling), ``"rzf"``, ``"slnr"``, ``"wmmse"``,
            ``"type1"`` (codebook); a shipped checkpoint (``"airlam-precoder"``), a checkpoint folder, a folder of
            adapters, or a Lightning ``.ckpt``; a class path, mapping, class or object as in :func:`load_predictor`.
        options: arguments of the precoder's class, for example ``rx_axis=True``. For a variant on a shared backbone
            (``"airlam-precoder-shared"``) also ``backbone``: the predictor whose tensors it takes, so that they are in
            memory once (:func:`airlam.models.load_learned_precoder`).

    Raises:
        CheckpointError: no such precoder, or a checkpoint that is missing, corrupt, or not safe to load.
        RecipeError: a class path that names no precoder, one without a name, or wrong arguments of its class.

    Example:
        >>> load_precoder("rzf").name
        'rzf'
    """
    if is_own(name_or_path):
        return build_own(name_or_path, "precoder", "precoder", **options)
    name = str(name_or_path)
    method = find(name, "precoder")
    if method is not None and method.factory:
        return check_made(method.build(**options), "precoder", f"precoder {name!r}")
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
        check_is_no_class(name, "precoder")
        known = [*names("precoder", built=True), *shipped_checkpoints("airlam-precoder")]
        raise CheckpointError(
            f"no precoder or checkpoint {name[:200]!r}{nearest(name[:200], known) or ';'} valid names: "
            f"{', '.join(known)}"
        ) from error
    if read_config(folder).get("model_type") in PREDICTORS:
        known = ", ".join([*names("precoder", built=True), *shipped_checkpoints("airlam-precoder")])
        raise CheckpointError(f"{name} predicts channels; precoders are {known}")
    return LearnedPrecoder(load_learned_precoder(folder, backbone=options.pop("backbone", None)), **options)
