"""The layouts of data sets that are known, and the choice of one for a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airlam.data.importers.sets.channels4world import Channels4World
from airlam.data.importers.sets.deepmimo import DeepMIMO
from airlam.data.importers.sets.layout import Layout
from airlam.data.importers.sets.llm4cp import Llm4cp
from airlam.data.importers.sets.matlab_5g import Matlab5G
from airlam.data.importers.sets.numpy_arrays import NumpyArrays
from airlam.data.importers.sets.quadriga import QuaDRiGa
from airlam.data.importers.sets.sionna import Sionna
from airlam.data.importers.sets.stored import SUFFIXES, array_shapes
from airlam.data.importers.sets.wifo import WiFo
from airlam.data.importers.sets.wimae import WiMAE
from airlam.errors import RecipeError, StoreError
from airlam.recipes.registry import Registry

OWN: list[type[Layout]] = [NumpyArrays, Llm4cp, WiFo, Matlab5G, Sionna, DeepMIMO, QuaDRiGa, WiMAE, Channels4World]
LAYOUTS: Registry[Layout] = Registry("layout", "airlam.layouts", Layout, OWN)


def choose_layout(path: Path, name: str, options: dict[str, Any]) -> Layout:
    """The layout of a file, made with the user's options.

    Args:
        path: an existing file.
        name: in ``LAYOUTS``, the class path of a :class:`Layout`, or ``auto``: the one that recognises the file.
        options: what the user gave; ``None`` counts as not given.

    Raises:
        StoreError: ``auto``, and no layout or several recognise the file.
        RecipeError: no such layout, or it does not take an option.
    """
    given = {key: value for key, value in options.items() if value is not None}
    cls = _recognised(path, given) if name == "auto" else LAYOUTS.find(name)
    for key in given:
        if key not in cls.options:
            takes = ", ".join(f"--{option.replace('_', '-')}" for option in cls.options) or "no option"
            raise RecipeError(f"layout {cls.name} takes no --{key.replace('_', '-')}; it takes {takes}")
    return cls(**given)


def _recognised(path: Path, given: dict[str, Any]) -> type[Layout]:
    names = LAYOUTS.names()
    fitting = [cls for cls in map(LAYOUTS.find, names) if cls.recognises(path)]
    if len(fitting) > 1 and NumpyArrays in fitting:  # it takes any array; another layout knows more of it
        others = [cls for cls in fitting if cls is not NumpyArrays and set(given) <= set(cls.options)]
        fitting = others or [NumpyArrays]
    if len(fitting) != 1:
        if not fitting and path.is_file() and path.suffix in SUFFIXES:
            array_shapes(path)  # raises if it is damaged
        found = " and ".join(cls.name for cls in fitting) or f"none of {', '.join(names)}"
        raise StoreError(f"{path} looks like {found}; say which it is with --layout NAME")
    return fitting[0]
