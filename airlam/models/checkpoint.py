"""Checkpoints in folders: ``config.json``, ``model.safetensors``, ``README.md`` (model card)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from safetensors import SafetensorError, safe_open
from transformers import PretrainedConfig

from airlam.interfaces import CheckpointError
from airlam.models.airlam_model import AirlamModel
from airlam.models.beams import AirlamBeams
from airlam.models.config import AirlamConfig
from airlam.models.pilots import AirlamPilots
from airlam.models.precoder import AirlamPrecoder
from airlam.recipes import find_checkpoint

# a model of a few megabytes needs no progress bar for each of its files
transformers.logging.disable_progress_bar()

Loaded = TypeVar("Loaded", AirlamModel, AirlamBeams, AirlamPilots, AirlamPrecoder)

TAKEN_BY = {
    "airlam": "airlam.load_predictor takes it",
    "airlam-beams": "airlam.models.load_beams takes it",
    "airlam-pilots": "airlam.models.load_pilots takes it",
    "airlam-precoder": "airlam.load_precoder takes it",
}
CHECKSUM = "weights_sha256"  # key of config.json
PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def load_checkpoint(folder: str | Path) -> AirlamModel:
    """Load an :class:`AirlamModel` from a folder that ``save_pretrained`` or :func:`save_checkpoint` wrote.

    Only safetensors are read, and only plain tensors of the right names and shapes: nothing in a stranger's folder
    is executed.

    Raises:
        CheckpointError: not a folder, no or foreign ``config.json``, pickled, corrupt, or mismatched weights.
    """
    folder = Path(folder)
    if not (folder / "model.safetensors").is_file() and (folder / "model.onnx").is_file():
        raise CheckpointError(f"{folder} holds an exported graph, which only predicts; name the checkpoint behind it")
    hint = "a Hugging Face transformer becomes a backbone with AirlamConfig(backbone=folder)"
    return _load(folder, AirlamModel, hint)


def load_learned_precoder(folder: str | Path) -> AirlamPrecoder:
    """As :func:`load_checkpoint`, an :class:`~airlam.models.precoder.AirlamPrecoder`."""
    return _load(Path(folder), AirlamPrecoder, "precoders are of type 'airlam-precoder'")


def load_pilots(folder: str | Path) -> AirlamPilots:
    """As :func:`load_checkpoint`, an :class:`~airlam.models.pilots.AirlamPilots`."""
    return _load(Path(folder), AirlamPilots, "networks that read pilots are of type 'airlam-pilots'")


def load_beams(folder: str | Path) -> AirlamBeams:
    """As :func:`load_checkpoint`, an :class:`~airlam.models.beams.AirlamBeams`."""
    return _load(Path(folder), AirlamBeams, "networks that predict beams are of type 'airlam-beams'")


def load_shipped(name: str) -> AirlamModel | AirlamBeams | AirlamPilots | AirlamPrecoder:
    """A checkpoint of whatever kind, by its name or folder."""
    folder = find_checkpoint(name)
    loaders: dict[str, Any] = {
        "airlam-beams": load_beams, "airlam-pilots": load_pilots, "airlam-precoder": load_learned_precoder,
    }  # fmt: skip
    return loaders.get(read_config(folder).get("model_type", ""), load_checkpoint)(folder)


def _load(folder: Path, model_class: type[Loaded], hint: str) -> Loaded:
    folder = find_checkpoint(folder)
    fields = read_config(folder)
    config, kind, want = folder / "config.json", fields.get("model_type"), model_class.config_class
    if kind != want.model_type:
        hint = TAKEN_BY.get(str(kind), hint)
        raise CheckpointError(f"{config} describes a model of type {kind!r}, not {want.model_type!r}; {hint}")
    if problem := config_problem(config, want):
        raise CheckpointError(f"{config}: {problem}")
    weights = check_weights(folder, fields)
    try:
        # computes in single precision, whatever the file stores
        found: Any = model_class.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, dtype=torch.float32
        )
    except (ValueError, RuntimeError, OSError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{folder}: config.json and model.safetensors do not belong together ({reason})"
        ) from error
    model: Any = found[0]
    report: dict[str, Any] = found[1]
    wrong = [*report["missing_keys"], *report["unexpected_keys"], *(key[0] for key in report["mismatched_keys"])]
    if wrong:
        raise CheckpointError(f"{weights} lacks or misnames {len(wrong)} tensors, first {sorted(wrong)[0]!r}")
    return model.eval()


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
    try:
        fields = json.loads(config.read_text())
        fields.get("model_type")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise CheckpointError(f"{config} is not valid JSON ({error}); copy the checkpoint again") from error
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


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def config_problem(config: Path, config_class: type[PretrainedConfig] = AirlamConfig) -> str | None:
    """What is wrong with the values of a ``config.json``."""
    try:
        config_class.from_dict(json.loads(config.read_text()))
    except (ValueError, TypeError) as error:
        return str(error).strip().splitlines()[0]
    return None


def save_checkpoint(
    model: AirlamModel | AirlamPilots | AirlamPrecoder,
    folder: str | Path,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> Path:
    """Write ``model`` to ``folder``, atomically: whoever reads finds the old checkpoint or the new one, whole.

    Files in ``folder`` that are not part of the weights (a model card) stay.

    Args:
        dtype: in which weights are stored; ``torch.bfloat16`` halves the file. They load in single precision.
        changes: fields of :class:`AirlamConfig` that differ in the written ``config.json``, such as fewer tokens.
    """

    def write(work: Path) -> dict[str, Any]:
        state = model.state_dict()
        stored = {name: value.to(dtype) for name, value in state.items() if value.is_floating_point()}
        model.save_pretrained(work, state_dict=state | stored)
        written = {**changes, CHECKSUM: file_hash(work / "model.safetensors")}
        config = json.loads((work / "config.json").read_text()) | written
        type(model.config).from_dict(config)  # refuses bad values
        return config

    return replace_files(folder, write)


def replace_files(folder: str | Path, write: Callable[[Path], dict[str, Any]]) -> Path:
    """Write a checkpoint into ``folder``, atomically, leaving other files there alone.

    Args:
        write: puts the weights into the working folder it is given, and returns the fields of ``config.json``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
    try:
        config = write(work)
        (work / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        # the weights first: config.json of an interrupted save still fits the old weights of the same model
        for file in sorted(work.iterdir(), key=lambda path: path.suffix != ".safetensors"):
            with open(file, "rb") as written:
                os.fsync(written.fileno())
            os.chmod(file, 0o644)  # safetensors writes for the owner alone
            os.replace(file, folder / file.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder
