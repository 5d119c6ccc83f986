"""The sites of a federated recipe: place, radio, device and way of training of each edge client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airlam.csi import Feedback
from airlam.edge.federated.recipe.options import check_whole, made_of
from airlam.errors import RecipeError
from airlam.recipes import check_choice, check_positive
from airlam.resources import Cell, Device, device, path_loss_db

MODES = ("local", "split")
SITE_KEYS = (
    "channel",
    "device",
    "distance_m",
    "lora_rank",
    "mode",
    "split_layers",
    "feedback",
    "seed",
    "links",
    "copies",
)


@dataclass(frozen=True)
class SiteSpec:
    """One edge client: a place, its radio, its device.

    Attributes:
        label: its name in tables. channel: the channel recipe's name. overrides: keys that replace those of the recipe.
        seed: of the place. links: how many of its ``num_train`` users train, None: all.
        device: what computes there. distance_m: from the edge server's base station.
        lora_rank: of its adapters, None: the run's.
        mode: ``local`` or ``split``. split_layers: layers of the backbone that stay on the device in split mode.
        feedback: how the base station knows the users' CSI, None: it measures.
    """

    label: str
    channel: str | dict[str, Any]
    overrides: dict[str, Any]
    seed: int
    links: int | None
    device: Device
    distance_m: float
    lora_rank: int | None
    mode: str
    split_layers: int
    feedback: Feedback | None


@dataclass(frozen=True)
class SiteDefaults:
    """What the run says for all sites: a site's own keys come first."""

    mode: str
    split_layers: int
    num_train: int
    cell: Cell
    feedback: dict[str, Any] | None


def read_sites(given: Any, defaults: SiteDefaults) -> list[SiteSpec]:
    """The recipe's ``sites``, copies one by one.

    Raises:
        RecipeError: a key or value that does not exist or is out of bounds, or two sites with one label or seed.
    """
    if not isinstance(given, Mapping) or not given:
        raise RecipeError("sites is empty: name at least one, like {street: {channel: umi_site}}")
    made = [
        site
        for number, (label, keys) in enumerate(given.items())
        for site in _copies(label, keys, 1000 * (number + 1), defaults)
    ]
    labels = [site.label for site in made]
    if len(set(labels)) < len(labels):
        raise RecipeError(f"two sites have the same label; copies are numbered: {', '.join(labels)}")
    places: dict[int, str] = {}
    for site in made:
        if site.seed in places:
            raise RecipeError(
                f"sites {places[site.seed]} and {site.label} have the same seed {site.seed}, and so the same place "
                "and radio; give one of them another (copies count up from theirs)"
            )
        places[site.seed] = site.label
    return made


def _copies(label: str, given: Any, seed: int, defaults: SiteDefaults) -> list[SiteSpec]:
    """The sites of one key, ``copies`` of them, with seeds from ``seed`` on unless it has its own."""
    if not isinstance(given, Mapping) or "channel" not in given:
        raise RecipeError(f"sites.{label} is {given!r}, but must name a channel recipe: channel: umi_site")
    where = f"sites.{label}"
    copies = check_whole(f"{where}.copies", given.get("copies", 1), 1)
    links, rank = given.get("links"), given.get("lora_rank")
    for name, value in (("links", links), ("lora_rank", rank)):
        if value is not None:
            check_whole(f"{where}.{name}", value, 1)
    layers = check_whole(f"{where}.split_layers", given.get("split_layers", defaults.split_layers), 0)
    if links is not None and links > defaults.num_train:
        raise RecipeError(f"{where}.links is {links}, but must be at most num_train ({defaults.num_train})")
    mode = check_choice(f"{where}.mode", given.get("mode", defaults.mode), MODES)
    heard = given.get("feedback", defaults.feedback)
    distance = check_positive(f"{where}.distance_m", given.get("distance_m", 150.0))
    try:
        computer = device(given.get("device", "phone"))
        path_loss_db(defaults.cell.scenario, defaults.cell.state, distance, defaults.cell.carrier_frequency)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None
    first = check_whole(f"{where}.seed", given.get("seed", seed), 0)
    return [
        SiteSpec(
            label=label if copies == 1 else f"{label}-{copy + 1}",
            channel=given["channel"],
            overrides={key: value for key, value in given.items() if key not in SITE_KEYS},
            seed=first + copy,
            links=links,
            device=computer,
            distance_m=distance,
            lora_rank=rank,
            mode=mode,
            split_layers=layers if mode == "split" else 0,
            feedback=made_of(Feedback, heard, f"{where}.feedback") if heard else None,
        )
        for copy in range(copies)
    ]
