"""UMi, UMa, RMa, InH, InF of TR 38.901, drop by drop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from airlam.channels.arrival import arrival_delay, check_absolute_delay, excess_delay
from airlam.channels.channel_model import ChannelModel, Chunk, write_normalised
from airlam.channels.drops import Drops, draw_drops, hall_of
from airlam.channels.panels import panel_array
from airlam.channels.ray_capture import CapturedRays
from airlam.channels.ray_evaluation import RayEvaluation, check_ray_delay_spread
from airlam.channels.sionna_stream import import_sionna, sionna_stream
from airlam.channels.stations import STATION_KEYS, check_stations
from airlam.errors import RecipeError
from airlam.recipes import check_choice, check_switch

OUTDOOR: dict[str, tuple[str, ...]] = {"o2i_model": ("low", "high")}
# Keys that only some scenarios have, and their values; the first one is the default.
CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "umi": OUTDOOR,
    "uma": OUTDOOR,
    "rma": OUTDOOR,
    "inh": {"office": ("open", "mixed")},
    "inf": {"factory": ("sh", "sl", "dl", "dh", "hh")},  # TR 38.901 table 7.2-4
}
INDOOR = ("inh", "inf")


class SystemLevelChannel(ChannelModel):
    """A drop is one base station and ``links_per_drop`` users in one snapshot of the topology.

    With ``spatial_consistency`` the users of a drop also share LOS states and cluster randomness that vary smoothly in
    space (TR 38.901 clause 7.6.3.1): such a drop is a *site*. Time evolution is that of the rays' Doppler shifts.

    With ``tracks`` a slot is a point of the user's path, ``slot_duration`` further at its velocity, and all points of
    all users of a drop are one spatially consistent snapshot: angles, delays, powers and the line of sight drift and
    change along the path, besides the Doppler shifts. A batch then says of a link what held at its first slot. Such
    channels are for slots of tens of milliseconds, and for tens of them.

    With ``stations`` a drop has several base stations, each with large- and small-scale parameters of its own
    (:mod:`airlam.channels.stations`). With ``absolute_delay`` paths arrive as late as they are long (clause 7.6.9);
    else the first path of each link has delay zero.
    """

    keys = {
        "fast": "auto",
        "spatial_consistency": False,
        "tracks": False,
        "ray_delay_spread": 0.0,
        "absolute_delay": False,
        **STATION_KEYS,
    }

    @classmethod
    def recipe_keys(cls, scenario: str) -> dict[str, Any]:
        return super().recipe_keys(scenario) | {key: values[0] for key, values in CHOICES[scenario].items()}

    @classmethod
    def check_recipe(cls, recipe: Mapping[str, Any]) -> dict[str, Any]:
        scenario, carrier = recipe["scenario"], recipe["carrier_frequency"]
        _check_state(scenario, recipe["state"], recipe.get("factory"))
        out = super().check_recipe(recipe)
        out["fast"] = check_choice("fast", recipe["fast"], ("auto", "stock"))
        out["spatial_consistency"] = check_switch("spatial_consistency", recipe["spatial_consistency"])
        if not check_switch("tracks", recipe["tracks"]):
            del out["tracks"]  # hashes of recipes older than the key stay as they are
        elif not out["spatial_consistency"]:
            raise RecipeError("tracks is true, but spatial_consistency is not: points of a path would be unrelated")
        elif out["fast"] == "stock":
            raise RecipeError("fast is 'stock', but tracks need airlam's evaluation of rays; leave the key out")
        check_ray_delay_spread(out)
        for key, values in CHOICES[scenario].items():
            out[key] = check_choice(key, recipe[key], values)
        check_absolute_delay(out)
        site = _check_site(out | {"factory": recipe.get("factory"), "scenario": scenario})
        out = {key: value for key, value in out.items() if key not in STATION_KEYS} | site
        if scenario == "rma" and carrier > 30e9:
            raise RecipeError(
                f"carrier_frequency is {carrier:g}, but RMa holds up to 3e+10 Hz (TR 38.901 table 7.4.1-1)"
            )
        return out

    def __init__(self, recipe: dict) -> None:
        super().__init__(recipe)
        self._evaluation: RayEvaluation | None = None

    def _build(self) -> RayEvaluation:
        """Sionna's model, once."""
        if self._evaluation is None:
            import_sionna()
            from sionna.phy.channel import tr38901

            r = self.recipe
            carrier = r["carrier_frequency"]
            arrays = {
                "ut_array": panel_array(r["ut_panel"], carrier),
                "bs_array": panel_array(r["bs_panel"], carrier),
            }
            extra = {
                "inh": lambda: {"indoor_scenario": r["office"]},
                "inf": lambda: {"factory_scenario": r["factory"].upper()},
                "rma": lambda: {},
            }.get(r["scenario"], lambda: {"o2i_model": r["o2i_model"]})()
            kind = {"umi": "UMi", "uma": "UMa", "rma": "RMa", "inh": "InH", "inf": "InF"}[r["scenario"]]
            model = getattr(tr38901, kind)(
                carrier_frequency=carrier,
                direction="downlink",
                enable_spatial_consistency=r["spatial_consistency"],
                precision="single",
                device="cpu",
                **arrays,
                **extra,
            )
            self._evaluation = RayEvaluation.of(model, "_cir_sampler", r)
        return self._evaluation

    def make_chunk(self, h, power, generator, sionna_seed, return_rays):
        if self.recipe.get("tracks"):
            return self._make_tracks(h, power, generator, sionna_seed, return_rays)
        drops = draw_drops(self.recipe, self.drops_per_chunk, generator)
        return self._evaluate(drops, h, power, sionna_seed, return_rays)

    def _make_tracks(self, h, power, generator, sionna_seed, return_rays):
        """Every point as a user of its own, with all slots; point ``i`` contributes slot ``i``."""
        if return_rays:
            raise ValueError("a track has other rays at every slot; return_rays needs a recipe without tracks")
        points = h.shape[1]
        drops = draw_drops(self.recipe, self.drops_per_chunk, generator)
        users, tracks = len(drops.ut_position) * self.links_per_drop, drops.along_tracks(points, self.slot_duration)
        every, strength = h.new_empty(users * points, *h.shape[1:]), power.new_empty(users * points)
        chunk, _ = self._evaluate(tracks, every, strength, sionna_seed, False, points)
        here = torch.arange(points)
        response = every.unflatten(0, (users, points))[:, here, here]
        response *= (chunk.gain * strength.sqrt()).reshape(users, points, 1, 1, 1)
        write_normalised(response, h, power)
        truth = {name: getattr(chunk, name)[::points][: len(h)] for name in Chunk.__dataclass_fields__}
        return Chunk(**(truth | {"gain": torch.ones(len(h))})), None

    def _evaluate(self, drops: Drops, h, power, sionna_seed, return_rays, points=None):
        evaluation = self._build()
        arrival = self._arrival(drops, sionna_seed) if self.recipe.get("absolute_delay") else None
        with sionna_stream(sionna_seed):
            self._set_topology(evaluation.model, drops)
            arguments = (h.shape[1], 1.0 / self.slot_duration)
            gain, delay_spread, atoms = evaluation.run(
                arguments, self.grid(h.shape[1]), h, power, points=points, arrival=arrival, return_rays=return_rays
            )
        links, stations = slice(0, len(h)), drops.bs_position.shape[1]
        lsp = getattr(evaluation.model, "_lsp", None)
        path_loss = getattr(lsp, "pathloss", None)
        scenario = evaluation.model._scenario
        path_loss = scenario.basic_pathloss if path_loss is None else path_loss
        chunk = Chunk(
            gain=gain,
            path_loss_db=path_loss.transpose(1, 2).flatten()[links].clone(),  # [drop, station, user]
            los=scenario.los.transpose(1, 2).flatten()[links].clone(),
            indoor=drops.indoor.flatten().repeat_interleave(stations)[links],
            delay_spread=delay_spread,
            position=drops.ut_position.flatten(0, 1).repeat_interleave(stations, 0)[links],
            velocity=drops.velocity.flatten(0, 1).repeat_interleave(stations, 0)[links],
        )
        return chunk, atoms

    def _arrival(self, drops: Drops, sionna_seed: int) -> Callable[[CapturedRays], Tensor]:
        """Distance and excess of all links of a chunk; random numbers of its own, so all else stays as it is."""
        scenario, hall = self.recipe["scenario"], hall_of(self.recipe)
        kind = f"inf-{self.recipe['factory']}" if scenario == "inf" else scenario
        generator = torch.Generator().manual_seed(sionna_seed % 2**63 ^ 2)
        excess = excess_delay(kind, drops.ut_position, drops.bs_position.shape[1], generator).flatten()
        longest = None if hall is None else max(hall[:2])
        return lambda rays: arrival_delay(rays.distance, rays.los, excess, longest)

    def _set_topology(self, model, drops: Drops) -> None:
        state = self.recipe["state"]
        more = {"in_car": drops.in_car} if self.recipe["scenario"] == "rma" else {}
        if drops.track is not None:
            more["spatial_consistency_track_ids"] = drops.track
        # Without a reset Sionna keeps indoor distances and floors of the first topology, and its stream shifts
        model.reset_topology()
        model.set_topology(
            drops.ut_position,
            drops.bs_position,
            drops.ut_orientation,
            drops.bs_orientation,
            drops.velocity,
            drops.indoor,
            los={"los": True, "nlos": False}.get(state, "random"),
            **more,
        )


def _check_site(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of several stations."""
    hall = hall_of(dict(recipe))
    area = None if hall is None else [-hall[0] / 2, hall[0] / 2, -hall[1] / 2, hall[1] / 2]
    found = check_stations(recipe, coordinates=2, area=area)
    if not found:
        return {}
    if recipe.get("tracks"):
        raise RecipeError(
            "tracks is true, but stations are several; a track has one base station, leave one of them out"
        )
    if hall is None and recipe["state"] in ("indoor", "random"):
        raise RecipeError(
            f"state is {recipe['state']!r}, but users of several stations are outdoors; write los, nlos or outdoor"
        )
    return found


def _check_state(scenario: str, state: object, factory: object) -> None:
    """Users of the indoor scenarios are indoors, and InF-HH has line of sight only."""
    if scenario not in INDOOR:
        return
    if state == "indoor":
        raise RecipeError(f"state is 'indoor', but every user of {scenario} is; write los, nlos or random")
    if factory == "hh" and state == "nlos":
        raise RecipeError("state is 'nlos', but InF-HH has line of sight only; write los")
    check_choice("state", state, ("los", "nlos", "random"))
