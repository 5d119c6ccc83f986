"""The recordings of a folder: which are read, which are left out and why."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from airlam.data.importers import IMPORTERS, Recording, read_recording
from airlam.errors import RecipeError, StoreError
from airlam.evaluation.benchmarks.measured.config import FOLDER, MeasuredConfig
from airlam.evaluation.benchmarks.measured.noise import ORDER
from airlam.io import file_hash


@dataclass(frozen=True)
class Found:
    """Recordings that are long enough, by name; the hash of each file; a sentence for each file that is left out."""

    recordings: dict[str, Recording] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def find_recordings(config: MeasuredConfig) -> Found:
    """Read every recording that ``config.data`` names.

    Raises:
        RecipeError: no folder is named, it does not exist, or nothing in it can be used.
    """
    paths = files_of(config)
    stems = [path.stem for path in paths]
    found = Found()
    for path in paths:
        name = path.stem if stems.count(path.stem) == 1 else path.name
        try:
            recording = read_recording(path, config.format)
        except StoreError as error:
            found.left_out.append(f"Left out: {error}.")
            continue
        packets, tones = recording.csi.shape[:2]
        if packets < config.sizes.least:
            found.left_out.append(
                f"Left out: {path.name} has {packets} packets, but at least {config.sizes.least} are needed for "
                "windows that tune, the guard gap, and two blocks of windows that score."
            )
        elif tones <= ORDER:
            found.left_out.append(f"Left out: {path.name} has {tones} tones; its noise needs more than {ORDER}.")
        else:
            found.recordings[name], found.hashes[name] = recording, file_hash(path)
    if not found.recordings:
        raise RecipeError(f"no recording of {paths[0].parent} can be used. " + " ".join(found.left_out))
    return found


def files_of(config: MeasuredConfig) -> list[Path]:
    """The files that ``config.data`` names, in the order of their names.

    Raises:
        RecipeError: no folder is named, it does not exist, or holds no file that an importer takes.
    """
    told = config.data or os.environ.get(FOLDER, "")
    if not told:
        raise RecipeError(f"data is empty and {FOLDER} is not set; name a folder of recordings: --data FOLDER")
    path = Path(told).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise RecipeError(f"data is {told!r}, which is no folder and no file; name a folder of recordings")
    suffixes = {suffix for name in IMPORTERS.names() for suffix in IMPORTERS.find(name).suffixes}
    files = sorted(each for each in path.iterdir() if each.is_file() and not each.name.startswith("."))
    files = [each for each in files if config.format is not None or each.suffix in suffixes]
    if not files:
        raise RecipeError(f"{path} holds no recording; importers take {', '.join(sorted(suffixes))}, or give format")
    return files
