"""Lightning's ``.ckpt`` files, read as data: nothing in them is executed, and every value is checked."""

from __future__ import annotations

import zipfile
from typing import Any, TypeVar

import lightning as L
import torch

from airlam.errors import CheckpointError
from airlam.models.checkpoint import check_finite, reason_of
from airlam.models.fields import check_size

Task = TypeVar("Task", bound=L.LightningModule)


def read_lightning(path: str, *, described: bool = True) -> dict[str, Any]:
    """A Lightning ``.ckpt`` as plain data, without running code from it.

    Args:
        described: whether its hyperparameters must say what the model is. A task of one's own may save none; they are
            empty then.

    Raises:
        CheckpointError: the file is damaged, needs code to load, or is no Lightning checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # compares every member with its CRC
    except (zipfile.BadZipFile, EOFError) as error:
        raise CheckpointError(f"{path} is no checkpoint, or cut short (not a whole ZIP file); copy it again") from error
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: {damaged} does not match its checksum; copy it again")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch reports foreign pickles with several types
        raise CheckpointError(
            f"{path} holds more than tensors and plain values, so it is not safe to load; only Lightning checkpoints "
            "of airlam's tasks are read"
        ) from error
    if isinstance(saved, dict) and not described:
        saved.setdefault("hyper_parameters", {})
    if not isinstance(saved, dict) or not {"state_dict", "hyper_parameters"} <= saved.keys():
        raise CheckpointError(
            f"{path} is no Lightning checkpoint: it has no state_dict with hyper_parameters; name one of 'airlam fit'"
        )
    state, hyper = saved["state_dict"], saved["hyper_parameters"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path} is no Lightning checkpoint: its state_dict holds more than tensors")
    if not isinstance(hyper, dict):
        raise CheckpointError(f"{path} is no Lightning checkpoint: its hyper_parameters are no mapping")
    check_finite(path, state)
    return saved


def described_task(cls: type[Task], path: str, saved: dict[str, Any], arguments: dict[str, Any]) -> Task:
    """The task that a checkpoint's hyperparameters describe, with other weights than the checkpoint's.

    Raises:
        CheckpointError: a hyperparameter that does not exist or is out of bounds, or a model much larger than the
            tensors in the file.
    """
    try:
        if not arguments.get("checkpoint") and not arguments.get("backbone"):
            empty = check_size("the model", lambda: cls(**arguments))
            described = sum(value.numel() for value in empty.state_dict().values())
            stored = sum(value.numel() for value in saved["state_dict"].values())
            if described > 2 * stored + 1_000_000:
                raise ValueError(
                    f"its hyperparameters describe {described:,} parameters, but it holds {stored:,}; they do not "
                    "belong together"
                )
        return cls(**arguments)
    except (ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: {reason_of(error)}") from error


def load_state(task: L.LightningModule, path: str, state: dict[str, torch.Tensor]) -> None:
    """The checkpoint's tensors into the task that it describes.

    Raises:
        CheckpointError: other names or shapes.
    """
    try:
        task.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its tensors do not fit the model that it describes") from error
