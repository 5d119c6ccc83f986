"""Channel recipes: what may stand in a ``channels/*.yaml``, its defaults, and the errors of those who mistype."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airlam.errors import RecipeError
from airlam.io import file_hash
from airlam.recipes.build import find_class, is_class_path
from airlam.recipes.checks import check_choice, check_keys, check_number, check_range, check_switch
from airlam.recipes.locate import find_recipe, list_recipes, nearest
from airlam.recipes.reading import read_yaml

CLUSTERED = tuple(f"cdl_{letter}" for letter in "abcde")
TAPPED = tuple(f"tdl_{letter}" for letter in "abcde")
OUTDOOR = ("umi", "uma", "rma")
INDOOR = ("inh", "inf")
SCENARIOS = (*CLUSTERED, *TAPPED, *OUTDOOR, *INDOOR, "ray_traced", "mixture")

FACTORIES = ("sl", "dl", "sh", "dh", "hh")  # TR 38.901 table 7.2-4
OFFICES = ("open", "mixed")

# The headline set-up: 2.4 GHz, 48 tones over 8.64 MHz, one CSI occasion every 0.5 ms, 32 ports.
DEFAULTS: dict[str, Any] = {
    "carrier_frequency": 2.4e9,
    "subcarrier_spacing": 180e3,
    "num_subcarriers": 48,
    "slot_duration": 0.5e-3,
    "speed_kmh": [3.0, 100.0],
    "bs_panel": {"rows": 4, "columns": 4, "polarisation": "dual", "pattern": "38.901"},
    "ut_panel": {"rows": 1, "columns": 1, "polarisation": "single", "pattern": "omni"},
    "fast": "auto",
    "chunk": 32,
}
CLUSTER_DEFAULTS: dict[str, Any] = {"delay_spread": 100e-9}
SYSTEM_DEFAULTS: dict[str, Any] = {
    "state": "random",
    "links_per_drop": 1,
    "spatial_consistency": False,
    "tracks": False,
}
PANEL_DEFAULTS: dict[str, Any] = {"rows": 1, "columns": 1, "polarisation": "single", "pattern": "omni"}
OUTDOOR_DEFAULTS: dict[str, Any] = {"o2i_model": "low"}
OUTSIDE_DEFAULTS: dict[str, Any] = {"state": "random", "links_per_drop": 1, "source": None}
RAY_TRACED_DEFAULTS: dict[str, Any] = {
    "scene": "munich",
    "bs_position": None,  # None: the scene's own, see airlam.channels.ray_tracing.SCENES
    "bs_bearing_deg": None,
    "bs_downtilt_deg": 10.0,
    "max_distance": 120.0,
    "max_depth": 3,
    "diffraction": True,
    "num_samples": 100_000,
    "key_distance": 0.5,
    "state": "random",
    "links_per_drop": 1,
    "chunk": 64,
}


def keys_of(scenario: str) -> dict[str, Any]:
    """The keys a recipe of this scenario may have (besides ``scenario``), with their defaults."""
    if scenario in CLUSTERED + TAPPED:
        state = "los" if scenario[-1] in "de" else "nlos"
        return {**DEFAULTS, **CLUSTER_DEFAULTS, "state": state}
    if is_class_path(scenario):
        keys = {key: value for key, value in DEFAULTS.items() if key != "fast"}
        return keys | OUTSIDE_DEFAULTS | dict(getattr(find_class(scenario, "scenario"), "keys", {}))
    if scenario == "ray_traced":
        return {key: value for key, value in (DEFAULTS | RAY_TRACED_DEFAULTS).items() if key != "fast"}
    keys = {**DEFAULTS, **SYSTEM_DEFAULTS}
    if scenario in OUTDOOR:
        keys |= OUTDOOR_DEFAULTS
    if scenario == "inf":
        keys |= {"factory": "sh"}
    if scenario == "inh":
        keys |= {"office": "open"}
    return keys


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
        raise RecipeError(f"scenario is {value!r}, but must be one of {', '.join(SCENARIOS)}")
    if is_class_path(value):
        return value
    scenario = value.lower().replace("-", "_")
    if scenario not in SCENARIOS:
        hint = nearest(scenario, SCENARIOS) or ";"
        raise RecipeError(f"unknown scenario {value!r}{hint} known: {', '.join(SCENARIOS)}")
    return scenario


def resolve(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Every key of a channel recipe, checked, with defaults filled in; plain data.

    Raises:
        RecipeError: names the key, its value, the bound, and the nearest valid name.
    """
    if not isinstance(recipe, Mapping):
        raise RecipeError(f"a channel recipe is a mapping of keys, got {type(recipe).__name__}")
    if "scenario" not in recipe:
        raise RecipeError(f"the recipe has no key 'scenario'; choose one of {', '.join(SCENARIOS)}")
    scenario = check_scenario(recipe["scenario"])
    allowed = keys_of(scenario)
    check_keys(f"a {scenario} recipe", recipe, ("scenario", *allowed))
    r = {**allowed, **recipe, "scenario": scenario}
    out: dict[str, Any] = {
        "scenario": scenario,
        "state": _state(scenario, r["state"], r.get("factory")),
        "carrier_frequency": check_number("carrier_frequency", r["carrier_frequency"], 0.5e9, 100e9, unit="Hz"),
        "subcarrier_spacing": check_number("subcarrier_spacing", r["subcarrier_spacing"], 1e3, 100e6, unit="Hz"),
        "num_subcarriers": check_number("num_subcarriers", r["num_subcarriers"], 1, 65536, integer=True),
        "slot_duration": check_number("slot_duration", r["slot_duration"], 1e-6, 0.1, unit="s"),
        "speed_kmh": check_range("speed_kmh", r["speed_kmh"], 0.0, 1000.0, unit="km/h"),
        "bs_panel": _panel("bs_panel", r["bs_panel"], DEFAULTS["bs_panel"]),
        "ut_panel": _panel("ut_panel", r["ut_panel"], DEFAULTS["ut_panel"]),
        "chunk": check_number("chunk", r["chunk"], 1, 4096, integer=True),
    }
    if "fast" in allowed:
        out["fast"] = check_choice("fast", r["fast"], ("auto", "stock"))
    if "delay_spread" in allowed:
        out["delay_spread"] = check_range("delay_spread", r["delay_spread"], 1e-9, 1e-5, unit="s")
    if "links_per_drop" in allowed:
        out["links_per_drop"] = check_number("links_per_drop", r["links_per_drop"], 1, 10_000, integer=True)
    if "spatial_consistency" in allowed:
        out["spatial_consistency"] = check_switch("spatial_consistency", r["spatial_consistency"])
        if check_switch("tracks", r["tracks"]):  # else left out: hashes of recipes older than the key stay as they are
            out["tracks"] = True
            if not out["spatial_consistency"]:
                raise RecipeError("tracks is true, but spatial_consistency is not: points of a path would be unrelated")
            if out.get("fast") == "stock":
                raise RecipeError("fast is 'stock', but tracks need airlam's evaluation of rays; leave the key out")
    if "scene" in allowed:
        out |= _ray_traced(r, out["carrier_frequency"])
    if "o2i_model" in allowed:
        out["o2i_model"] = check_choice("o2i_model", r["o2i_model"], ("low", "high"))
    if "factory" in allowed:
        out["factory"] = check_choice("factory", r["factory"], FACTORIES)
    if "office" in allowed:
        out["office"] = check_choice("office", r["office"], OFFICES)
    if is_class_path(scenario):
        out |= {key: r[key] for key in allowed if key not in out}
        out["source"] = file_hash(inspect.getfile(find_class(scenario, "scenario")))  # other code, other links
    if scenario == "rma" and out["carrier_frequency"] > 30e9:
        raise RecipeError(
            f"carrier_frequency is {out['carrier_frequency']:g}, but RMa holds up to 3e+10 Hz (TR 38.901 table 7.4.1-1)"
        )
    return out


def _ray_traced(r: Mapping[str, Any], carrier_frequency: float) -> dict[str, Any]:
    """The keys that only ray-traced recipes have."""
    from airlam.channels.ray_tracing import SCENES

    scene = check_choice("scene", r["scene"], tuple(SCENES))
    if not 1e9 <= carrier_frequency <= 60e9:
        raise RecipeError(
            f"carrier_frequency is {carrier_frequency:g}, but the scenes' materials hold from 1e+09 to 6e+10 Hz "
            "(ITU-R P.2040)"
        )
    position = SCENES[scene].position if r["bs_position"] is None else r["bs_position"]
    if not isinstance(position, (list, tuple)) or len(position) != 3:
        raise RecipeError(f"bs_position is {position!r}, but must be [x, y, z] in metres, in the scene's coordinates")
    bearing = SCENES[scene].bearing_deg if r["bs_bearing_deg"] is None else r["bs_bearing_deg"]
    return {
        "scene": scene,
        "bs_position": [check_number(f"bs_position[{i}]", v, -1e4, 1e4, unit="m") for i, v in enumerate(position)],
        "bs_bearing_deg": check_number("bs_bearing_deg", bearing, -360.0, 360.0, unit="degrees"),
        "bs_downtilt_deg": check_number("bs_downtilt_deg", r["bs_downtilt_deg"], -90.0, 90.0, unit="degrees"),
        "max_distance": check_number("max_distance", r["max_distance"], 15.0, 2000.0, unit="m"),
        "max_depth": check_number("max_depth", r["max_depth"], 0, 10, integer=True),
        "diffraction": check_switch("diffraction", r["diffraction"]),
        "num_samples": check_number("num_samples", r["num_samples"], 1000, 10_000_000, integer=True),
        "key_distance": check_number("key_distance", r["key_distance"], 0.01, 10.0, unit="m"),
    }


def _state(scenario: str, state: object, factory: object) -> str:
    if scenario in CLUSTERED + TAPPED:
        has = "los" if scenario[-1] in "de" else "nlos"
        if state != has:
            raise RecipeError(f"state is {state!r}, but {scenario} is {has} by definition; leave the key out")
        return has
    if scenario == "ray_traced":
        return check_choice("state", state, ("los", "nlos", "random"))
    if scenario in INDOOR:
        if state == "indoor":
            raise RecipeError(f"state is 'indoor', but every user of {scenario} is; write los, nlos or random")
        if factory == "hh" and state == "nlos":
            raise RecipeError("state is 'nlos', but InF-HH has line of sight only; write los")
        return check_choice("state", state, ("los", "nlos", "random"))
    return check_choice("state", state, ("los", "nlos", "indoor", "outdoor", "random"))


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
