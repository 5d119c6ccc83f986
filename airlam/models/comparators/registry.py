"""Comparators by kind, and in checkpoint folders."""

from __future__ import annotations

import inspect
import json
import pkgutil
from collections.abc import Mapping
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
from airlam.recipes import check_is_no_class, find_checkpoint, is_class_path, nearest
from airlam.recipes.registry import Registry

MODEL_TYPE = "airlam-comparator"  # "model_type" in config.json
# Every other module of this folder is a kind: ``cnn.py`` holds the comparator whose ``kind`` is "cnn".
SHARED = ("comparator", "language", "predictor", "recurrent", "registry", "sequences")
KINDS = tuple(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name not in SHARED)
# Of other packages: registered, declared as entry points, or named by class path.
OUTSIDE = Registry("comparator", "airlam.comparators", Comparator, [], attribute="kind")


def kinds() -> tuple[str, ...]:
    """Kinds by name: those of the package, then those of other packages."""
    return tuple(dict.fromkeys([*KINDS, *OUTSIDE.names()]))


def register_comparator(cls: type[Comparator]) -> type[Comparator]:
    """Add a class of another package under its ``kind``; can be used as a decorator.

    Raises:
        TypeError: no subclass of :class:`Comparator`. ValueError: it has no ``kind``, or another class has it.
    """
    if getattr(cls, "kind", "") in KINDS:
        raise ValueError(f"comparator: the kind {cls.kind!r} of {cls.__qualname__} is taken; choose another")
    return OUTSIDE.register(cls)


def build_comparator(kind: str, **arguments: Any) -> Comparator:
    """A comparator by kind: ``rnn``, ``gru``, ``lstm``, ``cnn``, ``transformer``, ``wifo``, ``llm4cp``, ``minilm``,
    ``refined`` (another kind on top of ``eigen-ar``), or one of another package.

    Args:
        kind: its name, or the class path of a :class:`Comparator`, which is then registered under its own ``kind``.
        arguments: of its class.

    Raises:
        ValueError: no such kind, or a value out of bounds. TypeError: no such argument.

    Example:
        >>> build_comparator("cnn", width=8).config["width"]
        8
    """
    made = _class_of(kind)
    known = inspect.signature(made).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        refuse_unknown(f"comparator {kind!r}", arguments, known)
    check_arguments(arguments)
    if _takes_weights_from_elsewhere(kind, arguments):
        return made(**arguments)
    check_size(f"comparator {kind!r}", lambda: made(**arguments))
    return made(**arguments)


def _class_of(kind: str) -> type[Comparator]:
    if isinstance(kind, str) and kind in KINDS:
        module = import_module(f"airlam.models.comparators.{kind}")
        return next(found for found in vars(module).values() if getattr(found, "kind", None) == kind)
    if isinstance(kind, str) and kind in OUTSIDE.names():
        return OUTSIDE.find(kind)
    if isinstance(kind, str) and is_class_path(kind):
        return register_comparator(OUTSIDE.find(kind))
    check_is_no_class(kind, "comparator")
    hint = nearest(str(kind)[:64], kinds()) or ";"
    raise ValueError(f"no comparator {shown(kind)}{hint} kinds are {', '.join(kinds())}")


def trained_comparator(folder: str | Path, kind: str) -> str:
    """How a recipe or ``--model`` names a trained comparator of one's own, whose class its folder does not name."""
    init_args = f"{{folder: {json.dumps(str(folder))}, kind: {json.dumps(kind)}}}"
    return f"{{class_path: airlam.models.comparators.TrainedComparator, init_args: {init_args}}}"


def check_kind(where: str | Path, described: Mapping[str, Any]) -> None:
    """Raises CheckpointError unless a file names comparators that are known by name: a file never names code."""
    for kind in (described.get("kind"), described.get("network", "cnn")):
        if kind not in kinds():
            hint = nearest(str(kind)[:64], kinds()) or ";"
            folder = Path(where).parent if Path(where).name == "config.json" else "FOLDER"
            raise CheckpointError(
                f"{where}: no comparator {shown(kind)}{hint} kinds are {', '.join(kinds())}; name the class of one of "
                f"your own beside its folder: {trained_comparator(folder, 'my_file.MyClass')}; or register it first: "
                "airlam.models.comparators.register_comparator, or an entry point of airlam.comparators"
            )


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
    check_kind(f"{folder}/config.json", described)
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


def load_own_comparator(folder: str | Path, kind: str) -> Comparator:
    """The comparator of a checkpoint folder, of a class that the caller names and the folder does not.

    Args:
        kind: class path of the :class:`Comparator`, or a kind that is known; of a refined one that of its network.

    Raises:
        CheckpointError: see :func:`load_comparator`; or a folder of another kind. RecipeError: no such class.
    """
    folder, made = find_checkpoint(folder), _class_of(kind)
    described = read_config(folder).get("comparator")
    stored = (described.get("kind"), described.get("network")) if isinstance(described, dict) else ()
    if stored and made.kind not in stored:
        raise CheckpointError(
            f"{folder} holds a comparator of the kind {shown(stored[0])}, but {kind} is of the kind {made.kind!r}; "
            "name the class that was trained"
        )
    return load_comparator(folder)


def _has_language_model(described: dict[str, Any]) -> bool:
    return "minilm" in (described.get("kind"), described.get("network"))
