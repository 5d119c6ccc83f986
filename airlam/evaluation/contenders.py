"""From a method's name in a recipe to something that predicts: classics tuned per cell, the model, the genies."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from airlam.csi import mean_power
from airlam.interfaces import Predictor, RecipeError
from airlam.loading import PREDICTORS, load_predictor
from airlam.recipes import nearest

if TYPE_CHECKING:
    from airlam.channels import LinkBatch
    from airlam.evaluation.cells import Cell

CLASSICS = tuple(PREDICTORS)
STACK = "stack"
GENIES = ("genie_per_bin", "genie_lmmse")
OFF = ":no-correction"
GRIDS: dict[str, dict[str, tuple]] = {  # of classics that airlam.baselines.tune has no grid for
    "eigen-ar": {
        "shrinkage": (1.0, 3.0, 6.0, 12.0, 30.0, math.inf),
        "num_bins": (64, 128, 256, 512, 1024),
        "num_classes": (1, 2, 4, 8),
        "order": (2, 4, 8, 10, 12),
        "ridge": (1e-5, 1e-4, 1e-3, 1e-2),
    },
}


@dataclass
class Contender:
    """A method in one cell.

    Attributes:
        name: in tables.
        predict: ``(h_past [link, ...], num_future, links) -> h_future``; ``links`` are the indices of those links in
            the cell, for a genie that looks up their rays.
        settings: what tuning chose.
        parameters: (total, trained): of a comparator what its training left unfrozen, else what was trained for this
            cell.
        timed: whether its latency means anything (a genie's does not).
        batch: links per call; results do not depend on it.
    """

    name: str
    predict: Callable[[Tensor, int, Tensor], Tensor]
    settings: dict[str, Any] = field(default_factory=dict)
    parameters: tuple[int, int] = (0, 0)
    timed: bool = True
    batch: int = 32


def trainable(model: str) -> Predictor:
    """The predictor of a checkpoint whose network can be looked into and trained.

    Raises:
        RecipeError: a classic, a comparator, or an exported graph. CheckpointError: no such checkpoint.
    """
    from airlam.models import AirlamModel

    predictor = load_predictor(model)
    if not isinstance(getattr(predictor, "model", None), AirlamModel):
        raise RecipeError(f"model is {model!r}, but must be a checkpoint of airlam's own here, like airlam-tiny")
    return predictor


def check_methods(methods: Iterable[str], models: Iterable[str]) -> list[str]:
    """The names themselves if each is a classic, ``stack``, a genie, ``perfect``, a model or ``model:no-correction``.

    Raises:
        RecipeError: an unknown name, with the nearest valid one; or none at all.
    """
    valid = [*CLASSICS, STACK, *GENIES, "perfect", *(name for model in models for name in (model, model + OFF))]
    methods = list(methods)
    for name in methods:
        if name not in valid:
            raise RecipeError(f"no method {name!r}{nearest(str(name), valid) or ';'} methods are {', '.join(valid)}")
    if not methods:
        raise RecipeError(f"methods is empty; choose from {', '.join(valid)}")
    return list(dict.fromkeys(methods))


def of_predictor(
    name: str,
    predictor: Predictor,
    context: dict,
    port_shape: Any,
    settings: dict | None = None,
    trained: int = 0,
    observed: Tensor | None = None,
) -> Contender:
    """A contender from anything that keeps the ``Predictor`` protocol.

    Args:
        context: see :meth:`airlam.interfaces.Predictor.predict`; tensors hold an entry for each link of the cell.
        trained: weights adapted for this cell.
        observed: ``bool [link, slot]`` of the cell, where slots were lost; methods that know what to do with it do.
    """

    def predict(h_past: Tensor, num_future: int, links: Tensor) -> Tensor:
        whole = context if observed is None else {**context, "observed": observed}
        mine = {key: value[links] if isinstance(value, Tensor) else value for key, value in whole.items()}
        return predictor.predict(h_past, num_future, port_shape=port_shape, context=mine)

    return Contender(name, predict, settings or {}, (size(predictor), trained or trained_size(predictor)))


def size(predictor: Predictor) -> int:
    """Parameters of a predictor's network; 0 for a classical method."""
    from airlam.models.onnx_model import OnnxModel

    network = getattr(predictor, "model", None)
    if isinstance(network, OnnxModel):
        return network.num_parameters
    return sum(p.numel() for p in network.parameters()) if isinstance(network, torch.nn.Module) else 0


def trained_size(predictor: Predictor) -> int:
    """Parameters of a comparator that its training left unfrozen; 0 for anything else."""
    from airlam.models.comparators import Comparator

    network = getattr(predictor, "model", None)
    if not isinstance(network, Comparator):
        return 0
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def fingerprint(predictor: Predictor) -> str:
    """Hash of a predictor's weights and settings: results of others are never mistaken for its own."""
    network = getattr(predictor, "model", None)
    config = getattr(network, "config", None)
    digest = hashlib.sha256(type(predictor).__name__.encode())
    if hasattr(config, "to_json_string"):
        digest.update(config.to_json_string().encode())
    elif isinstance(config, dict):
        digest.update(json.dumps(config, sort_keys=True).encode())
    if getattr(predictor, "views", None) is not None:
        digest.update(f"views {predictor.views}".encode())  # type: ignore[attr-defined]
    if isinstance(network, torch.nn.Module):
        for name, value in sorted(network.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def tuned(
    name: str, h_past: Tensor, h_future: Tensor, *, port_shape: Any, context: dict
) -> tuple[Predictor, dict[str, Any]]:
    """A classical predictor tuned on links that no figure is computed on, and what was chosen."""
    from airlam.baselines import DEFAULT_GRIDS, tune

    predictor_class = type(load_predictor(name))
    grid = DEFAULT_GRIDS.get(predictor_class, GRIDS.get(name, {}))
    with torch.inference_mode():
        found = tune(predictor_class, h_past, h_future, grid=grid, port_shape=port_shape, context=context)
    # infinity (one pooled filter) is not JSON
    shown = {key: "inf" if isinstance(value, float) and math.isinf(value) else value for key, value in found.items()}
    return predictor_class(**found), shown


def contenders_of_cell(
    cell: Cell,
    links: LinkBatch,
    models: Mapping[str, Predictor],
    observed: Tensor | None = None,
    tuning: tuple[Tensor, Tensor] | None = None,
) -> list[Contender]:
    """Everything that ``cell.methods`` names, ready to predict ``links``; classics tuned on links of other drops.

    Args:
        models: learned methods by name.
        observed: see :func:`of_predictor`.
        tuning: true CSI of the cell's tuning links and their measured history, where a caller has drawn them already.
    """
    from airlam.baselines import STACK_MEMBERS, fit_stack

    context = {
        "slot_duration": links.slot_duration,
        "subcarrier_spacing": links.subcarrier_spacing,
        "carrier_frequency": links.carrier_frequency,
    }
    port_shape, out = links.port_shape, []
    classics: dict[str, tuple[Predictor, dict[str, Any]]] = {"hold": (load_predictor("hold"), {})}

    def known() -> tuple[Tensor, Tensor]:
        """History and future of the tuning links."""
        nonlocal tuning
        if tuning is None:
            h = cell.links("tune", cell.num_tune).h
            tuning = (h, cell.observe(h, "tune")[0])
        # the horizon alone: slots that only hold the last prediction say nothing about a filter
        return tuning[1], tuning[0][:, cell.history : cell.history + cell.horizon]

    def classic(name: str) -> tuple[Predictor, dict[str, Any]]:
        """A classical predictor, tuned once in this cell, and what was chosen."""
        if name not in classics:
            classics[name] = tuned(name, *known(), port_shape=port_shape, context=context)
        return classics[name]

    for name in cell.methods:
        if name == "perfect":
            out.append(Contender("perfect", lambda *_: torch.empty(0), timed=False))
        elif name in GENIES:
            out.append(genie(name, cell, links))
        elif name.removesuffix(OFF) in models:
            model = models[name.removesuffix(OFF)]
            predictor = without_correction(model) if name.endswith(OFF) else model
            sensed = {**context, "velocity": links.velocity, "position": links.position}  # for models with sensors
            out.append(of_predictor(name, predictor, sensed, port_shape, observed=observed))
        elif name == STACK:
            members = {member: classic(member)[0] for member in STACK_MEMBERS}
            past, future = known()
            drop = torch.arange(len(past)) // cell.recipe.get("links_per_drop", 1)
            with torch.inference_mode():
                predictor, settings = fit_stack(members, past, future, drop, port_shape=port_shape, context=context)
            out.append(of_predictor(name, predictor, context, port_shape, settings))
        else:
            predictor, settings = classic(name)
            out.append(of_predictor(name, predictor, context, port_shape, settings))
    return out


def without_correction(model: Predictor) -> Predictor:
    """The same network with its learned correction off."""
    from airlam.models import AirlamPredictor

    if not isinstance(model, AirlamPredictor):
        raise RecipeError(
            f"{model.name} is a comparator: it has no classical start; without its correction it is 'hold'"
        )
    return AirlamPredictor(model.model, f"{model.name}{OFF}", correction=False, views=model.views)


def genie(name: str, cell: Cell, links: LinkBatch) -> Contender:
    """A genie that looks up the rays of the links it is asked about."""
    from airlam.baselines import genie_lmmse, per_bin_genie

    grid = {"slot_duration": links.slot_duration, "subcarrier_spacing": links.subcarrier_spacing}
    variance = mean_power(links.h[:, : cell.history]) * 10 ** (-cell.csi_snr_db / 10)

    def predict(h_past: Tensor, num_future: int, index: Tensor) -> Tensor:
        rays, noise = links.rays[index], variance[index]
        if name == "genie_lmmse":
            return genie_lmmse(rays, h_past, noise, num_future, **grid)
        return per_bin_genie(rays, h_past, noise, num_future, port_shape=links.port_shape, **grid)

    return Contender(name, predict, timed=False, batch=1)  # one link's matrices stay in the cache: twice as fast
