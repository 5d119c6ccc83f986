"""Checkpoints in folders: ``config.json``, ``model.safetensors``, ``README.md`` (model card)."""

from __future__ import annotations

import copy
import inspect
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PretrainedConfig

from airlam.errors import CheckpointError
from airlam.io import file_hash, flush_to_disk, use_umask
from airlam.models.airlam_model import AirlamModel
from airlam.models.auto import CHECKSUM
from airlam.models.beams import AirlamBeams
from airlam.models.fields import check_size, refuse_unknown_fields, shown
from airlam.models.on_backbone import OnBackbone
from airlam.models.path_model import AirlamPaths
from airlam.models.pilots import AirlamPilots
from airlam.models.position import AirlamPosition
from airlam.models.precoder import AirlamPrecoder
from airlam.models.radio_map import AirlamMap
from airlam.models.shared import SharedBackbone, base_of, check_belongs, load_own, own_tensors, read_shared, write_own
from airlam.recipes import find_checkpoint

# a model of a few megabytes needs no progress bar for each of its files
transformers.logging.disable_progress_bar()

Loaded = TypeVar(
    "Loaded", AirlamModel, AirlamBeams, AirlamMap, AirlamPaths, AirlamPilots, AirlamPosition, AirlamPrecoder
)

TAKEN_BY = {
    "airlam": "airlam.load_predictor takes it",
    "airlam-beams": "airlam.models.load_beams takes it",
    "airlam-map": "airlam.models.load_map takes it",
    "airlam-paths": "airlam.load_predictor takes it",
    "airlam-pilots": "airlam.models.load_pilots takes it",
    "airlam-position": "airlam.models.load_position takes it",
    "airlam-precoder": "airlam.load_precoder takes it",
}
MAX_CONFIG = 1_000_000  # bytes of a config.json; the largest shipped one has 1,000
PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def load_checkpoint(folder: str | Path) -> AirlamModel:
    """Load an :class:`AirlamModel` from a folder that ``save_pretrained`` or :func:`save_checkpoint` wrote.

    Only safetensors are read, and only plain tensors of the right names and shapes: no code in the folder is executed.

    Raises:
        CheckpointError: not a folder, no or foreign ``config.json``, pickled, corrupt, or mismatched weights.
    """
    hint = "a Hugging Face transformer becomes a backbone with AirlamConfig(backbone=folder)"
    return _load(_no_graph(folder), AirlamModel, hint)


def load_learned_precoder(folder: str | Path, *, backbone: Any = None) -> AirlamPrecoder:
    """As :func:`load_checkpoint`, an :class:`~airlam.models.precoder.AirlamPrecoder`.

    Args:
        backbone: of a variant on a shared backbone: the predictor, or its model, whose tensors it takes. They are then
            in memory once, and who trains the one in place changes the other. None: it loads its own.

    Raises:
        CheckpointError: also for a ``backbone`` that the variant was not trained on.
        TypeError: ``backbone`` is no predictor or model of airlam.

    Example:
        >>> tiny = load_checkpoint("airlam-tiny")
        >>> precoder = load_learned_precoder("airlam-precoder-shared", backbone=tiny)
        >>> beams = load_beams("airlam-beams-shared", backbone=tiny)  # the same tensors
    """
    return _load(Path(folder), AirlamPrecoder, "precoders are of type 'airlam-precoder'", backbone)


def load_pilots(folder: str | Path, *, backbone: Any = None) -> AirlamPilots:
    """As :func:`load_learned_precoder`, an :class:`~airlam.models.pilots.AirlamPilots`."""
    return _load(Path(folder), AirlamPilots, "networks that read pilots are of type 'airlam-pilots'", backbone)


def load_paths(folder: str | Path) -> AirlamPaths:
    """As :func:`load_checkpoint`, an :class:`~airlam.models.path_model.AirlamPaths`."""
    return _load(Path(folder), AirlamPaths, "networks that read paths are of type 'airlam-paths'")


def load_map(folder: str | Path) -> AirlamMap:
    """As :func:`load_checkpoint`, an :class:`~airlam.models.radio_map.AirlamMap`."""
    return _load(_no_graph(folder), AirlamMap, "networks that make radio maps are of type 'airlam-map'")


def load_position(folder: str | Path) -> AirlamPosition:
    """As :func:`load_checkpoint`, an :class:`~airlam.models.position.AirlamPosition`: what ``airlam fit`` leaves.

    Example:
        >>> from airlam.models import AirlamPosition, AirlamPositionConfig
        >>> folder = save_checkpoint(AirlamPosition(AirlamPositionConfig(stations=6)), "hall")
        >>> load_position(folder).config.stations
        6
    """
    return _load(_no_graph(folder), AirlamPosition, "networks that locate users are of type 'airlam-position'")


def load_beams(folder: str | Path, *, backbone: Any = None) -> AirlamBeams:
    """As :func:`load_learned_precoder`, an :class:`~airlam.models.beams.AirlamBeams`."""
    return _load(Path(folder), AirlamBeams, "networks that predict beams are of type 'airlam-beams'", backbone)


def _no_graph(folder: str | Path) -> Path:
    folder = Path(folder)
    # os.path: where a name is too long for the file system, there is no such file
    graphs = (folder / "model.onnx", folder / "model.tflite")
    if not os.path.isfile(folder / "model.safetensors") and any(os.path.isfile(graph) for graph in graphs):
        raise CheckpointError(f"{folder} holds an exported graph, which only predicts; name the checkpoint behind it")
    return folder


def load_shipped(name: str) -> AirlamModel | OnBackbone:
    """A checkpoint of whatever kind, by its name or folder."""
    folder = find_checkpoint(name)
    loaders: dict[str, Any] = {
        "airlam-beams": load_beams,
        "airlam-map": load_map,
        "airlam-paths": load_paths,
        "airlam-pilots": load_pilots,
        "airlam-position": load_position,
        "airlam-precoder": load_learned_precoder,
    }
    return loaders.get(str(read_config(folder).get("model_type")), load_checkpoint)(folder)


def _load(folder: Path, model_class: type[Loaded], hint: str, backbone: Any = None) -> Loaded:
    folder = find_checkpoint(folder)
    fields = read_config(folder)
    config, kind, want = folder / "config.json", fields.get("model_type"), model_class.config_class
    if kind != want.model_type:
        hint = TAKEN_BY.get(str(kind), hint)
        raise CheckpointError(f"{config} describes a model of type {shown(kind)}, not {want.model_type!r}; {hint}")
    made = made_config(config, fields, want)
    shared = read_shared(config, fields)
    if backbone is not None and shared is None:
        raise CheckpointError(f"{folder} has all its weights of its own and shares no backbone; leave backbone out")
    weights = check_weights(folder, fields)
    # names and shapes first: a config.json that asks for more than the file holds must not cost memory
    try:
        empty = check_size("the model", lambda: model_class(copy.deepcopy(made)))
    except ValueError as error:
        raise CheckpointError(f"{config}: {error}") from error
    if shared is not None:
        return _load_on_shared(folder, empty, weights, shared, backbone)
    check_names(weights, empty.state_dict())
    try:
        # computes in single precision, whatever the file stores
        model = model_class.from_pretrained(folder, config=made, use_safetensors=True, dtype=torch.float32)
    except Exception as error:  # transformers' loaders raise errors of many types
        raise CheckpointError(
            f"{folder}: config.json and model.safetensors do not belong together ({reason_of(error)})"
        ) from error
    check_finite(weights, model.state_dict())
    return model.eval()


def _load_on_shared(folder: Path, empty: Any, weights: Path, shared: SharedBackbone, given: Any) -> Any:
    """The network ``empty`` with the tensors of a variant's folder, on the backbone it belongs to."""
    model = load_checkpoint(shared.base) if given is None else base_of(given)
    check_belongs(folder, shared, model)
    shapes = [{k: tuple(v.shape) for k, v in x.backbone.state_dict().items()} for x in (empty, model)]
    compare_shapes(folder / "config.json", *shapes)
    with torch.random.fork_rng(devices=[]):  # new adapters are drawn, and then replaced
        empty.share(model.backbone, shared)
    check_names(weights, own_tensors(empty))
    load_own(empty, weights)
    check_finite(weights, own_tensors(empty))
    return empty.eval()


def made_config(path: Path, fields: dict[str, Any], config_class: type[PretrainedConfig]) -> Any:
    """The configuration that the fields of a ``config.json`` describe.

    Raises:
        CheckpointError: a field that does not exist, or a value out of bounds.
    """
    own = [name for name in inspect.signature(config_class).parameters if name != "kwargs"]
    try:
        refuse_unknown_fields(config_class, own, fields)
        if isinstance(fields.get("backbone"), str):
            raise ValueError(
                f"backbone is {shown(fields['backbone'])}, but the backbone of a checkpoint is a dict: its weights are "
                "in the same file"
            )
        # what transformers writes beside them (architectures, dtype ...) has no say in how the model is made
        return config_class(**{name: value for name, value in fields.items() if name in own})
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: {reason_of(error)}") from error


def check_names(path: Path, expected: Mapping[str, Tensor]) -> None:
    """The tensors in a safetensors file are those ``expected``: all of them, no others, of the same shapes.

    Reads the head of the file only.

    Raises:
        CheckpointError: names the first tensor that is missing, that belongs to nothing, or of another shape.
    """
    with safe_open(path, framework="pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    compare_shapes(path, found, {name: tuple(value.shape) for name, value in expected.items()})


def compare_shapes(path: Path, found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raises CheckpointError unless names and shapes in ``found`` are those ``expected``."""
    lost, alien = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if lost or alien:
        parts = [f"lacks {len(lost)} of {len(expected)} tensors (first {shown(lost[0])})"] if lost else []
        parts += [f"holds {len(alien)} that belong to nothing (first {shown(alien[0])})"] if alien else []
        raise CheckpointError(f"{path} {' and '.join(parts)}: it is of another model, or damaged; copy it again")
    for name, shape in expected.items():
        if found[name] != shape:
            raise CheckpointError(
                f"{path}: {name} has the shape {list(found[name])}, but its configuration says {list(shape)}; they do "
                "not belong together"
            )


def check_finite(path: str | Path, state: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError for the first tensor that holds NaN or infinity."""
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{path}: {name} holds NaN or infinity; a training that diverged cannot be used")


def reason_of(error: Exception) -> str:
    """The first line of an error, cut to a length that fits into another."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 300 else lines[0][:297] + "..."


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """``config.json`` (or another ``name``) of a checkpoint folder as a dict.

    Raises:
        CheckpointError: no folder, no such file, or not JSON.
    """
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoint folder {str(folder)!r}; 'airlam list' shows the shipped ones")
    config = folder / name
    if not config.is_file():
        raise CheckpointError(f"{folder} has no {name}: not a checkpoint of airlam")
    if config.stat().st_size > MAX_CONFIG:
        raise CheckpointError(
            f"{config} has {config.stat().st_size:,} bytes, but a configuration has at most {MAX_CONFIG:,}"
        )
    try:
        fields = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, not UTF-8, a number of too many digits
        raise CheckpointError(f"{config} is not valid JSON ({reason_of(error)}); copy the checkpoint again") from error
    if not isinstance(fields, dict):
        raise CheckpointError(f"{config} is not valid JSON of a configuration: it holds no object with fields")
    return fields


def check_weights(folder: Path, config: dict[str, Any]) -> Path:
    """The path of ``model.safetensors``, whole and of the SHA-256 that ``config`` states (if it states one).

    Raises:
        CheckpointError: missing, pickled, corrupt, or another file.
    """
    weights = folder / "model.safetensors"
    if not weights.is_file():
        pickled = [path.name for pattern in PICKLED for path in folder.glob(pattern)]
        why = f"only pickled weights ({pickled[0]}), which are not safe to load" if pickled else "no model.safetensors"
        raise CheckpointError(f"{folder} has {why}; save the model with save_pretrained(safe_serialization=True)")
    try:
        with safe_open(weights, framework="pt") as file:
            file.keys()
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{weights} is corrupt or cut short ({error}); copy the checkpoint again") from error
    stated = config.get(CHECKSUM)
    if stated is not None and stated != file_hash(weights):
        raise CheckpointError(
            f"{weights} is damaged: its SHA-256 is not the one in config.json; copy the checkpoint again "
            f"(or remove {CHECKSUM} from config.json if you changed the weights on purpose)"
        )
    return weights


def save_checkpoint(
    model: AirlamModel | OnBackbone,
    folder: str | Path,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> Path:
    """Write ``model`` to ``folder``, atomically: a reader finds the whole old checkpoint or the whole new one.

    Files in ``folder`` that are not part of the weights (a model card) stay.

    Args:
        dtype: in which weights are stored; ``torch.bfloat16`` halves the file. They load in single precision.
        changes: fields of :class:`AirlamConfig` that differ in the written ``config.json``, such as fewer tokens.
    """

    def write(work: Path) -> dict[str, Any]:
        if getattr(model, "shared", None) is not None:
            return write_own(model, work, dtype) | changes | {CHECKSUM: file_hash(work / "model.safetensors")}
        state = model.state_dict()
        stored = {name: value.to(dtype) for name, value in state.items() if value.is_floating_point()}
        model.save_pretrained(work, state_dict=state | stored)
        written = {**changes, CHECKSUM: file_hash(work / "model.safetensors")}
        config = json.loads((work / "config.json").read_text()) | written
        made_config(work / "config.json", config, type(model.config))  # refuses bad values
        return config

    return replace_files(folder, write)


def replace_files(folder: str | Path, write: Callable[[Path], dict[str, Any] | None]) -> Path:
    """Write a checkpoint into ``folder``, atomically, leaving other files there alone.

    Files get the permissions that the umask leaves.

    Args:
        write: puts files into the working folder it is given, and returns the fields of ``config.json`` (None: none).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
    try:
        config = write(work)
        if config is not None:
            (work / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        # the weights first: config.json of an interrupted save still fits the old weights of the same model
        for file in sorted(work.iterdir(), key=lambda path: path.suffix != ".safetensors"):
            flush_to_disk(file)
            use_umask(file)
            os.replace(file, folder / file.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder
