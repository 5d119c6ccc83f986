"""One site: every method at every share of known positions, judged on its test users and on those of shifts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from airlam.baselines.positioning import (
    FeatureRegression,
    Multilateration,
    NearestFingerprints,
    PositionEstimate,
    RadioMap,
    SiteCSI,
    tuned,
)
from airlam.evaluation.benchmarks.positioning.config import PositioningConfig
from airlam.evaluation.benchmarks.positioning.networks import trained
from airlam.evaluation.benchmarks.positioning.site import site_users
from airlam.tasks.position_starts import everywhere, unseen_starts

KINDS: dict[str, type] = {
    "nearest": NearestFingerprints,
    "regression": FeatureRegression,
    "multilateration": Multilateration,
    "map": RadioMap,
}
Method = Callable[[SiteCSI], PositionEstimate]


def run_site(config: PositioningConfig, label: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Plain data of a finished site: for each method, share and group the error [m] and the squared Mahalanobis
    distance of every user; and of the users their places and whether any station has a line of sight."""
    users = site_users(config, label)
    groups = {"test": users.test, **users.shifts}
    record: dict[str, Any] = {"label": label, "recipe": users.recipe, "users": {}, "cells": []}
    for name, csi in groups.items():
        los = csi.los if csi.los is not None else torch.zeros(len(csi), 1, dtype=torch.bool)
        record["users"][name] = {"position": csi.known().tolist(), "los": los.any(1).tolist()}
    for share in config.shares:
        labelled = users.train[: config.count(share)]
        for name, method, settings, parameters, seconds in _methods(config, labelled, users.val):
            say(f"{label}: {name} with {len(labelled)} known positions")
            for group in groups if share == config.headline_share else ("test",):
                found = method(groups[group])
                truth = groups[group].known()
                record["cells"].append(
                    {
                        "method": name,
                        "share": share,
                        "labelled": len(labelled),
                        "group": group,
                        "error": (found.mean - truth[:, :2]).norm(dim=1).tolist(),
                        "distance": found.distance(truth).tolist(),
                        "settings": settings,
                        "parameters": parameters,
                        "seconds": seconds,
                    }
                )
    return record


def _methods(
    config: PositioningConfig, labelled: SiteCSI, validation: SiteCSI
) -> Iterator[tuple[str, Method, dict[str, Any], int, float]]:
    """Name, method, settings, trained parameters, seconds to fit and tune."""
    maps = None
    for name, kind in KINDS.items():
        before = time.perf_counter()
        if name == "multilateration" and labelled.h.shape[1] < 2:
            continue  # one station cannot tell two unknowns
        made = tuned(kind, labelled, validation)
        maps = made if name == "map" else maps
        yield name, made.locate, made.settings, 0, round(time.perf_counter() - before, 1)
    if not config.networks:
        return
    assert maps is not None
    before = time.perf_counter()
    starts, start = unseen_starts(maps, labelled), maps.locate
    crossed = time.perf_counter() - before
    nothing = everywhere(labelled)
    for name, those, one, pretrained in (
        ("network", starts, start, True),
        ("network:random-start", starts, start, False),
        ("network:no-map", nothing(labelled), nothing, True),
    ):
        before = time.perf_counter()
        method, facts = trained(config, labelled, validation, those, one, pretrained=pretrained, seed=config.seed)
        spent = time.perf_counter() - before + (crossed if one is start else 0.0)
        yield name, method, facts, facts["parameters"], round(spent, 1)
