"""Channel recipes: what may stand in a ``channels/*.yaml``, its defaults, and the errors of those who mistype."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airlam.channels.array_errors import check_array_errors
from airlam.channels.channel_model import ChannelModel
from airlam.errors import RecipeError
from airlam.io import file_hash
from airlam.recipes.build import check_is_no_class, find_class, is_class_path
from airlam.recipes.checks import check_choice, check_keys, check_number, check_range
from airlam.recipes.locate import find_recipe, list_recipes, nearest
from airlam.recipes.reading import read_yaml

# Each scenario and the class of its links: a model of the package is this line and the class, which has its own keys.
MODELS: dict[str, str] = {
    **{f"cdl_{letter}": "airlam.channels.clustered.ClusteredDelayLine" for letter in "abcde"},
    **{f"tdl_{letter}": "airlam.channels.tapped.TappedDelayLine" for letter in "abcde"},
    **{name: "airlam.channels.system_level.SystemLevelChannel" for name in ("umi", "uma", "rma", "inh", "inf")},
    "ray_traced": "airlam.channels.ray_traced.RayTracedChannel",
    "ray_traced_site": "airlam.channels.ray_traced_site.RayTracedSite",
}
MIXTURE = "mixture"  # of the others, see airlam.channels.mixture

# The headline set-up: 2.4 GHz, 48 tones over 8.64 MHz, one CSI occasion every 0.5 ms, 32 ports.
DEFAULTS: dict[str, Any] = {
    "carrier_frequency": 2.4e9,
    "subcarrier_spacing": 180e3,
    "num_subcarriers": 48,
    "slot_duration": 0.5e-3,
    "speed_kmh": [3.0, 100.0],
    "bs_panel": {"rows": 4, "columns": 4, "polarisation": "dual", "pattern": "38.901"},
    "ut_panel": {"rows": 1, "columns": 1, "polarisation": "single", "pattern": "omni"},
    "array_errors": None,
    "chunk": 32,
}
PANEL_DEFAULTS: dict[str, Any] = {"rows": 1, "columns": 1, "polarisation": "single", "pattern": "omni"}


def scenarios() -> list[str]:
    """The names that a recipe's ``scenario`` may have, besides class paths."""
    return [*MODELS, MIXTURE]


def model_class(scenario: str) -> type[ChannelModel]:
    """The class behind a scenario: one of ``MODELS``, or a class path.

    Raises:
        RecipeError: there is no such class, or it is no channel model.
    """
    found = find_class(MODELS.get(scenario, scenario), "scenario")
    if not (isinstance(found, type) and issubclass(found, ChannelModel)):
        raise RecipeError(f"scenario is {scenario!r}, which is no subclass of airlam.channels.ChannelModel")
    return found


def keys_of(scenario: str) -> dict[str, Any]:
    """The keys a recipe of this scenario may have (besides ``scenario``), with their defaults."""
    keys = DEFAULTS | model_class(scenario).recipe_keys(scenario)
    return keys | {"source": None} if is_class_path(scenario) else keys


def _panel(name: str, value: object, default: Mapping) -> dict:
    if not isinstance(value, Mapping):
        raise RecipeError(f"{name} is {value!r}, but must be a mapping with {', '.join(PANEL_DEFAULTS)}")
    check_keys(name, value, PANEL_DEFAULTS)
    panel = {**default, **value}
    return {
        "rows": check_number(f"{name}.rows", panel["rows"], 1, 64, integer=True),
        "columns": check_number(f"{name}.columns", panel["columns"], 1, 64, integer=True),
        "polarisation": check_choice(f"{name}.polarisation", panel["polarisation"], ("single", "dual")),
        "pattern": check_choice(f"{name}.pattern", str(panel["pattern"]), ("38.901", "omni")),
    }


def check_scenario(value: object) -> str:
    """A known scenario in lower case, or the class path of a :class:`airlam.channels.ChannelModel` as it is."""
    if not isinstance(value, str):
        raise RecipeError(f"scenario is {value!r}, but must be one of {', '.join(scenarios())}")
    if is_class_path(value):
        return value
    scenario = value.lower().replace("-", "_")
    if scenario not in scenarios():
        check_is_no_class(value, "scenario")
        hint = nearest(scenario, scenarios()) or ";"
        raise RecipeError(f"unknown scenario {value!r}{hint} known: {', '.join(scenarios())}")
    return scenario


def resolve(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Every key of a channel recipe, checked, with defaults filled in; plain data.

    Raises:
        RecipeError: names the key, its value, the bound, and the nearest valid name.
    """
    if not isinstance(recipe, Mapping):
        raise RecipeError(f"a channel recipe is a mapping of keys, got {type(recipe).__name__}")
    if "scenario" not in recipe:
        raise RecipeError(f"the recipe has no key 'scenario'; choose one of {', '.join(scenarios())}")
    scenario = check_scenario(recipe["scenario"])
    allowed = keys_of(scenario)
    check_keys(f"a {scenario} recipe", recipe, ("scenario", *allowed))
    r = {**allowed, **recipe, "scenario": scenario}
    common: dict[str, Any] = {
        "scenario": scenario,
        "carrier_frequency": check_number("carrier_frequency", r["carrier_frequency"], 0.5e9, 100e9, unit="Hz"),
        "subcarrier_spacing": check_number("subcarrier_spacing", r["subcarrier_spacing"], 1e3, 100e6, unit="Hz"),
        "num_subcarriers": check_number("num_subcarriers", r["num_subcarriers"], 1, 65536, integer=True),
        "slot_duration": check_number("slot_duration", r["slot_duration"], 1e-6, 0.1, unit="s"),
        "speed_kmh": check_range("speed_kmh", r["speed_kmh"], 0.0, 1000.0, unit="km/h"),
        "bs_panel": _panel("bs_panel", r["bs_panel"], DEFAULTS["bs_panel"]),
        "ut_panel": _panel("ut_panel", r["ut_panel"], DEFAULTS["ut_panel"]),
        "chunk": check_number("chunk", r["chunk"], 1, 4096, integer=True),
    }
    if errors := check_array_errors(r["array_errors"]):
        common["array_errors"] = errors  # only there: hashes of recipes older than the key stay as they are
    model = model_class(scenario)
    out = model.check_recipe(r | common) | common
    if is_class_path(scenario):
        out["source"] = file_hash(inspect.getfile(model))  # other code, other links
    return out


def recipe_names() -> list[str]:
    """Names of the shipped recipes that :func:`airlam.channels.load_channel` takes."""
    return sorted(Path(name).stem for name in list_recipes("channels"))


def read_recipe(recipe: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """The recipe as written: a dict as it is, a YAML file by its path or by its name in ``channels/``.

    Raises:
        RecipeError: no such file (see :func:`airlam.recipes.find_recipe`), or no keys and values in it.
    """
    if isinstance(recipe, Mapping):
        return dict(recipe)
    if not isinstance(recipe, (str, Path)):
        raise RecipeError(f"a channel is a recipe's name, a path or a dict, got {type(recipe).__name__}")
    return read_yaml(find_recipe(recipe, kind="channels"))
