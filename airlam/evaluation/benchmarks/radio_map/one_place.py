"""All regions of one place: every method at every share of measured users."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from airlam.baselines.radio_maps import InverseDistance, Kriging, MapEstimate
from airlam.baselines.radio_maps.kriging import CITIES
from airlam.channels.city import City
from airlam.csi import SiteCSI, SiteMap
from airlam.evaluation.benchmarks.radio_map.config import RadioMapConfig
from airlam.evaluation.benchmarks.radio_map.first_estimates import FirstEstimates
from airlam.evaluation.benchmarks.radio_map.judging import judge
from airlam.evaluation.benchmarks.radio_map.sites import Site, draw_site
from airlam.models import AirlamMap, OnnxMap
from airlam.seeds import stream_seed


def run_place(
    config: RadioMapConfig, label: str, model: AirlamMap | OnnxMap | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Plain data of a finished place: for each region, share and method the metrics of each station; and one region's
    maps, to be drawn."""
    place = config.places[label]
    city = City(place["city"]) if "city" in place else None
    record: dict[str, Any] = {"label": label, "regions": [], "cells": [], "picture": None}
    for number in range(place.get("count", 1)):
        seed = place.get("first", 0) + number
        say(f"{label}: region {number + 1} of {place.get('count', 1)}")
        site = draw_site(config, label, seed, city)
        stations = SiteMap.of(site.true, noise=False).worth_mapping()
        true, measured = site.true.of_stations(stations), site.measured.of_stations(stations)
        truth = SiteMap.of(true, noise=False)
        record["recipe"] = site.recipe
        record["regions"].append(
            {
                "seed": seed,
                "stations": len(stations),
                "los": None if true.los is None else float(true.los.float().mean()),
            }
        )
        for share in config.shares:
            count = config.count(share)
            known, asked = SiteMap.of(measured)[:count], slice(count, None)
            shown, draw = {}, stream_seed(config.seed, label, seed, share)
            start = FirstEstimates(true[asked], config.pilot_snr_db, draw)
            for name, found, seconds in _estimates(known, true, site, truth.place[asked], model):
                metrics = judge(found, truth[asked], start, draw)
                cell = {"method": name, "share": share, "region": number, "metrics": metrics, "seconds": seconds}
                record["cells"].append(cell)
                shown[name] = found
            anywhere = known.profile.mean(0)  # of the station: where the user is, is not known
            references = {
                "no-map": start.without_a_map(),
                "no-position": start.nmse(anywhere.expand_as(truth.profile[asked])),
                "truth": start.nmse(truth.profile[asked]),
            }
            for name, values in references.items():
                metrics = {"first_nmse": values}
                record["cells"].append(
                    {"method": name, "share": share, "region": number, "metrics": metrics, "seconds": 0.0}
                )
            if number == 0 and share == config.headline_share:
                record["picture"] = _picture(site, known, truth[asked], shown)
    return record


def _estimates(
    known: SiteMap, true: SiteCSI, site: Site, place: torch.Tensor, model: AirlamMap | OnnxMap | None
) -> Iterator[tuple[str, MapEstimate, float]]:
    methods: dict[str, Any] = {
        "mean": InverseDistance(0.0),
        "nearest": InverseDistance(torch.inf),
        "inverse-distance": InverseDistance(),
        "kriging": Kriging("none"),
        "kriging:distance": Kriging("distance"),
    }
    if site.heights is not None:
        methods["kriging:heights"] = Kriging("heights")
    methods["kriging:cities"] = Kriging("heights", CITIES)
    if model is not None:
        methods["network"] = model
        if site.heights is not None:
            methods["network:no-heights"] = model
    for name, method in methods.items():
        before = time.perf_counter()
        heights = None if name == "network:no-heights" else site.heights
        found = method.fit(known, true.stations, heights).at(place)
        yield name, found, round(time.perf_counter() - before, 3)


def _picture(site: Site, known: SiteMap, truth: SiteMap, shown: dict[str, MapEstimate]) -> dict[str, Any]:
    """Of the station whose powers differ most: what was measured where, what is true elsewhere, and what maps say."""
    station = int(truth.power_db.std(0).argmax())
    said = {
        name: {"power": found.power_db[:, station].tolist(), "spread": found.spread_db[:, station].tolist()}
        for name, found in shown.items()
    }
    return {
        "known": known.place[:, :2].tolist(),
        "known_power": known.power_db[:, station].tolist(),
        "place": truth.place[:, :2].tolist(),
        "power": truth.power_db[:, station].tolist(),
        "said": said,
    }
