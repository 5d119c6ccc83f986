"""Mixtures: a random scenario, and random everything else, per draw."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from airlam.channels.channel_model import ChannelModel, check_count
from airlam.channels.delay_line import DelayLine
from airlam.channels.link_batch import LinkBatch
from airlam.channels.recipe import DEFAULTS, MIXTURE, MODELS, check_scenario, keys_of, model_class, resolve
from airlam.constants import SPEED_OF_LIGHT
from airlam.errors import RecipeError
from airlam.recipes import as_number, check_keys, check_number

_OWN_KEYS = ("scenario", "components", "max_ports", "max_doppler_per_slot", "chunk")
_GRID_KEYS = ("carrier_frequency", "subcarrier_spacing", "num_subcarriers", "slot_duration", "bs_panel", "ut_panel")
_WHOLE = ("num_subcarriers", "rows", "columns", "links_per_drop")


class MixtureChannel(ChannelModel):
    """A recipe with ``scenario: mixture``: a list of weighted components, and keys that are drawn.

    A key at the top level holds for every component that knows it; a component's own key comes first. A value is

    - a constant, as in any recipe (``speed_kmh: [3, 100]`` stays a range that each *link* draws from);
    - ``{min: a, max: b}`` (uniform), ``{min: a, max: b, scale: log}`` (uniform in the logarithm): drawn once per draw;
    - ``{choices: [a, b, c]}``, with ``weights: [...]`` if not all are alike.

    ``max_ports`` bounds the base station's ports (panels above it are drawn again); ``max_doppler_per_slot`` bounds the
    Doppler shift in turns per slot by lowering the top speed of a draw (beyond half a turn CSI is white in time).

    Args:
        recipe: from :func:`resolve_mixture`.
        build: makes the channel model of a component's recipe, as :func:`airlam.channels.load_channel` does.

    Example:
        >>> from airlam.channels import load_channel
        >>> load_channel("mixture_broad").draw(seed=5).sample(2, 8, seed=5).h.dim()
        5
    """

    def __init__(self, recipe: dict, build: Callable[[dict], ChannelModel]) -> None:
        super().__init__(recipe)
        self._build = build
        self._common = {k: v for k, v in recipe.items() if k not in _OWN_KEYS}
        self._weights = np.array([c["weight"] for c in recipe["components"]], dtype=float)
        self._shared = self._shared_grid()

    def __reduce__(self):
        return type(self), (self.recipe, self._build)

    def __repr__(self) -> str:
        return f"MixtureChannel({len(self._weights)} components)"

    def draw(self, seed: int) -> ChannelModel:
        """One component with every random field fixed; the same seed gives the same model."""
        return self._fix(check_count(seed, "seed", 0), {})

    def _fix(self, seed: int | tuple[int, ...], overrides: dict) -> ChannelModel:
        rng = np.random.default_rng(np.random.SeedSequence(seed))
        component = self.recipe["components"][rng.choice(len(self._weights), p=self._weights / self._weights.sum())]
        written = _merge(self._common, component)
        drawn = {key: _draw(key, value, rng) for key, value in written.items()}
        limit = self.recipe.get("max_ports", math.inf)
        for _ in range(1000):
            if _num_ports(drawn) <= limit:
                break
            drawn["bs_panel"] = _draw("bs_panel", written["bs_panel"], rng)
        else:
            raise RecipeError(f"max_ports is {limit}, but no bs_panel with so few ports was drawn in 1000 trials")
        model = self._build(resolve({**drawn, **overrides}))
        turns = self.recipe.get("max_doppler_per_slot")
        return model if turns is None else self._build(_limit_speed(model.recipe, turns))

    def sample(self, num_links: int, num_slots: int, *, seed: int, return_rays: bool = False) -> LinkBatch:
        """Links of many scenarios in one batch: every ``chunk`` links (in the recipe) are one draw.

        Raises:
            ValueError: if the recipe draws antennas, carrier, tones or slots, so that links do not share one shape;
                :meth:`draw` then makes one model at a time.
        """
        self._require_shared("sample")
        check_count(num_links, "num_links", 1)
        check_count(seed, "seed", 0)
        step = self.recipe["chunk"]
        parts = []
        for number, start in enumerate(range(0, num_links, step)):
            child = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
            model = self._fix((seed, number), {"chunk": step})  # draws no more links than it returns
            parts.append(model.sample(min(step, num_links - start), num_slots, seed=child, return_rays=return_rays))
        batch = LinkBatch.concatenate(parts)
        batch.recipe = {**copy.deepcopy(self.recipe), "seed": seed}
        return batch

    def _shared_grid(self) -> ChannelModel | None:
        """Any component, if all have the same antennas, carrier, tones and slots."""
        grids = set()
        for component in self.recipe["components"]:
            merged = _merge(self._common, component)
            if any(_is_random(merged.get(key)) for key in _GRID_KEYS):
                return None
            fixed = resolve({k: _first(v) for k, v in merged.items()})
            if fixed.get("links_per_drop", 1) != 1:
                return None
            grids.add(json.dumps([fixed[key] for key in _GRID_KEYS]))
        return self._build(fixed) if len(grids) == 1 else None

    @property
    def stackable(self) -> bool:
        """Whether all links share one shape, so that :meth:`sample` works and a store can hold them."""
        return self._shared is not None

    def _require_shared(self, what: str) -> ChannelModel:
        if self._shared is None:
            raise ValueError(
                f"{what} needs one shape of CSI, but this mixture draws antennas, carrier, tones, slots or drops; "
                "use draw(seed), which returns a model with all of them fixed"
            )
        return self._shared

    def make_chunk(self, *_):
        raise NotImplementedError("a mixture samples through its components")


def _delegate(name: str) -> property:
    return property(lambda self: getattr(self._require_shared(name), name), doc=getattr(ChannelModel, name).__doc__)


for _name in (
    "port_shape",
    "num_tx_ant",
    "num_rx_ant",
    "num_subcarriers",
    "subcarrier_spacing",
    "slot_duration",
    "carrier_frequency",
):
    setattr(MixtureChannel, _name, _delegate(_name))


def resolve_mixture(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A mixture's recipe, checked: every component at both ends of every range and at every choice."""
    known = sorted({key for scenario in MODELS for key in keys_of(scenario)} | set(_OWN_KEYS))
    check_keys("a mixture recipe", recipe, known)
    components = recipe.get("components")
    if not isinstance(components, list) or not components:
        raise RecipeError("a mixture needs 'components': a list of recipes with a scenario and, if wanted, a weight")
    out = {**copy.deepcopy(dict(recipe)), "chunk": check_number("chunk", recipe.get("chunk", 8), 1, 4096, integer=True)}
    if "max_ports" in out:
        out["max_ports"] = check_number("max_ports", out["max_ports"], 1, 4096, integer=True)
    if "max_doppler_per_slot" in out:
        out["max_doppler_per_slot"] = check_number("max_doppler_per_slot", out["max_doppler_per_slot"], 1e-6, 1e3)
    common = {k: v for k, v in recipe.items() if k not in _OWN_KEYS}
    for number, component in enumerate(components):
        if not isinstance(component, Mapping) or "scenario" not in component:
            raise RecipeError(f"components[{number}] is {component!r}, but must be a mapping with a scenario")
        scenario = check_scenario(component["scenario"])
        if scenario == MIXTURE:
            raise RecipeError(f"components[{number}] is a mixture; mixtures do not nest")
        check_keys(f"components[{number}] ({scenario})", component, ("scenario", "weight", *keys_of(scenario)))
        weight = check_number(f"components[{number}].weight", component.get("weight", 1.0), 1e-9, 1e9)
        out["components"][number] = {**out["components"][number], "scenario": scenario, "weight": weight}
        for variant in _variants(_merge(common, component)):
            resolve(variant)
    return out


def _merge(common: Mapping, component: Mapping) -> dict[str, Any]:
    """The component's recipe: its own keys over those top-level keys that its scenario knows."""
    scenario = component["scenario"]
    keys = keys_of(scenario).keys()
    if issubclass(model_class(scenario), DelayLine):
        keys = keys - {"state"}  # each has its own by definition
    merged = {k: v for k, v in common.items() if k in keys}
    return {**copy.deepcopy(merged), **{k: v for k, v in copy.deepcopy(dict(component)).items() if k != "weight"}}


def _is_draw(value: object) -> bool:
    return isinstance(value, Mapping) and ("choices" in value or "min" in value or "max" in value)


def _is_random(value: object) -> bool:
    return _is_draw(value) or (isinstance(value, Mapping) and any(_is_random(v) for v in value.values()))


def _candidates(key: str, value: Any) -> list:
    """Every value at which a drawn field has to be valid: the ends of a range, or all choices."""
    if not _is_draw(value):
        return [value]
    if "choices" in value:
        check_keys(key, value, ("choices", "weights"))
        choices = value["choices"]
        if not isinstance(choices, list) or not choices:
            raise RecipeError(f"{key}.choices is {choices!r}, but must be a list that is not empty")
        weights = value.get("weights", [1.0] * len(choices))
        if not isinstance(weights, list) or len(weights) != len(choices):
            raise RecipeError(f"{key}.weights must hold one number for each of the {len(choices)} choices")
        for i, weight in enumerate(weights):
            check_number(f"{key}.weights[{i}]", weight, 1e-9, 1e9)
        return choices
    check_keys(key, value, ("min", "max", "scale"))
    ends = [check_number(f"{key}.{end}", value.get(end), -math.inf, math.inf) for end in ("min", "max")]
    if ends[0] > ends[1]:
        raise RecipeError(f"{key}.min is {ends[0]:g}, but must not exceed max {ends[1]:g}")
    if value.get("scale", "uniform") not in ("uniform", "log"):
        raise RecipeError(f"{key}.scale is {value['scale']!r}, but must be uniform or log")
    if value.get("scale") == "log" and ends[0] <= 0:
        raise RecipeError(f"{key}.min is {ends[0]:g}, but must be positive where scale is log")
    return ends


def _variants(recipe: Mapping) -> Iterator[dict]:
    """The recipe with each drawn field in turn at each of its candidates, the others at their first."""
    paths: list[tuple[str, ...]] = [(key,) for key in recipe]
    paths += [
        (key, inner)
        for key, value in recipe.items()
        if isinstance(value, Mapping) and not _is_draw(value)
        for inner in value
    ]
    base = {key: _first(value, key) for key, value in recipe.items()}
    yield base
    for path in paths:
        value = recipe[path[0]] if len(path) == 1 else recipe[path[0]][path[1]]
        for candidate in _candidates(".".join(path), value)[1:]:
            variant = copy.deepcopy(base)
            target = variant if len(path) == 1 else variant[path[0]]
            target[path[-1]] = _first(candidate)
            yield variant


def _first(value: Any, key: str = "") -> Any:
    if _is_draw(value):
        return _first(_candidates(key, value)[0], key)
    return {k: _first(v, f"{key}.{k}") for k, v in value.items()} if isinstance(value, Mapping) else value


def _draw(key: str, value: Any, rng: np.random.Generator) -> Any:
    """Fix one field."""
    if not _is_draw(value):
        return {k: _draw(k, v, rng) for k, v in value.items()} if isinstance(value, Mapping) else value
    if "choices" in value:
        weights = np.array(value.get("weights", [1.0] * len(value["choices"])), dtype=float)
        return _draw(key, value["choices"][rng.choice(len(weights), p=weights / weights.sum())], rng)
    low, high = (float(value[end]) for end in ("min", "max"))
    if key in _WHOLE:  # both ends count
        low, high = low - 0.5 + 1e-9, high + 0.5 - 1e-9
    if value.get("scale") == "log":
        drawn = math.exp(rng.uniform(math.log(low), math.log(high)))
    else:
        drawn = rng.uniform(low, high)
    return round(drawn) if key in _WHOLE else drawn


def _num_ports(recipe: Mapping) -> int:
    panel = {**DEFAULTS["bs_panel"], **recipe.get("bs_panel", {})}
    return as_number(panel["rows"]) * as_number(panel["columns"]) * (1 + (panel["polarisation"] == "dual"))


def _limit_speed(recipe: dict[str, Any], turns: float) -> dict[str, Any]:
    """A resolved recipe with a top speed of at most ``turns`` Doppler turns per slot."""
    top = 3.6 * turns / recipe["slot_duration"] * SPEED_OF_LIGHT / recipe["carrier_frequency"]
    speed = recipe["speed_kmh"]
    return {**recipe, "speed_kmh": [min(v, top) for v in speed] if isinstance(speed, list) else min(speed, top)}
