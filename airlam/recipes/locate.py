"""Where recipes (YAML) and shipped checkpoints lie: the current folder first, then what came with airlam.

In a source checkout the shipped recipes are the top-level folders beside the package (``channels/``, ``datasets/``,
``tasks/``, ``checkpoints/``); a wheel carries the same folders inside the package, under ``airlam/_recipes/``. Either
way a recipe has the same name, its path from that root: ``tasks/channel_prediction/airlam_tiny.yaml``.

Only the standard library: the command line and every room may use this.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from airlam.errors import CheckpointError, RecipeError

KINDS = ("channels", "datasets", "tasks", "checkpoints")


def recipe_root() -> Path:
    """The folder that holds the shipped ``channels/``, ``datasets/``, ``tasks/`` and ``checkpoints/``."""
    package = Path(__file__).resolve().parent.parent
    packaged = package / "_recipes"
    return packaged if packaged.is_dir() else package.parent


def nearest(name: str, valid: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the valid name closest to ``name``, or nothing when none comes near.

    Example:
        >>> nearest("uma_nols", ["uma_nlos", "cdl_a"])
        "; did you mean 'uma_nlos'?"
    """
    names = list(valid)
    close = sorted((v for v in names if len(name) >= 3 and v.startswith(name)), key=len)[:1]
    close = close or difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def list_recipes(kind: str) -> list[str]:
    """Names of the shipped recipes of one kind: ``channels``, ``datasets``, ``tasks``; or of ``checkpoints`` folders.

    Example:
        >>> "datasets/tiny.yaml" in list_recipes("datasets")
        True
    """
    if kind not in KINDS:
        raise ValueError(f"no kind of recipe {kind!r}{nearest(kind, KINDS)} Kinds are {', '.join(KINDS)}")
    root = recipe_root()
    if kind == "checkpoints":
        return sorted(path.parent.relative_to(root).as_posix() for path in (root / kind).glob("*/config.json"))
    return sorted(path.relative_to(root).as_posix() for path in (root / kind).rglob("*.yaml"))


def find_recipe(name: str | Path, kind: str | None = None) -> Path:
    """The file that a recipe's name stands for.

    Args:
        name: a path, or a shipped recipe's name with or without ``.yaml``: ``datasets/tiny.yaml``, ``datasets/tiny``;
            with ``kind`` also ``tiny``.
        kind: the folder to look into for a bare name.

    Raises:
        RecipeError: nothing there; names the nearest recipe.

    Example:
        >>> find_recipe("tiny", kind="datasets").name
        'tiny.yaml'
    """
    path = Path(name).expanduser()
    candidates = [path]
    if kind and path.parts[:1] != (kind,) and not path.is_absolute():
        candidates.append(Path(kind) / path)
    for root in (Path(), recipe_root()):
        for candidate in candidates:
            for file in (root / candidate, root / f"{candidate}.yaml"):
                if file.is_file():
                    return file
    known = list_recipes(kind) if kind else [name for kind in KINDS[:3] for name in list_recipes(kind)]
    # Compared as the user wrote it: a bare name with bare names, a path with paths.
    spelled = {entry if "/" in str(name) else Path(entry).stem: entry for entry in known}
    wanted = str(name) if "/" in str(name) else path.stem
    raise RecipeError(
        f"no recipe {str(name)!r} here or among the shipped ones{nearest(wanted, spelled) or ';'} "
        f"'airlam list' shows them all"
    )


def find_checkpoint(name: str | Path) -> Path:
    """The checkpoint folder that a name stands for: a folder, or a shipped checkpoint such as ``airlam-tiny``.

    Raises:
        CheckpointError: nothing there; names the nearest one.
    """
    path = Path(name).expanduser()
    for candidate in (path, Path("checkpoints") / path, recipe_root() / "checkpoints" / path, recipe_root() / path):
        if os.path.isfile(candidate / "config.json"):  # False, not an error, where the name is too long for a file
            return candidate
    if os.path.isfile(path / "adapter_config.json"):
        raise CheckpointError(
            f"{path} holds adapters without their base; to go on from them, merge them into a checkpoint: "
            f"save_checkpoint(load_predictor({str(path)!r}).model.merge_and_unload(), 'merged'), load_precoder for a "
            "precoder's"
        )
    if os.path.isdir(path):
        raise CheckpointError(f"{path} has no config.json: not a checkpoint of airlam")
    known = [Path(entry).name for entry in list_recipes("checkpoints")]
    raise CheckpointError(
        f"no checkpoint {str(name)[:200]!r} here or among the shipped ones{nearest(path.name[:200], known) or ';'} "
        f"'airlam list' shows them all"
    )


def shipped_name(path: str) -> str | None:
    """The name of the shipped checkpoint that lies at ``path``, if one does."""
    try:
        shipped = find_checkpoint(Path(path).name)
    except CheckpointError:
        return None
    return Path(path).name if Path(path).expanduser().resolve() == shipped.resolve() else None


def shipped_checkpoints(*model_types: str) -> list[str]:
    """Names of the shipped checkpoints of some types.

    Example:
        >>> "airlam-tiny" in shipped_checkpoints("airlam")
        True
    """
    found = []
    for entry in list_recipes("checkpoints"):
        config = json.loads((recipe_root() / entry / "config.json").read_text(encoding="utf-8"))
        if config.get("model_type") in model_types:
            found.append(Path(entry).name)
    return found
