"""Start values of a model's weights, one module at a time: no process has to hold a whole model to begin with it."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from airlam.models.airlam_model import AirlamModel
from airlam.models.phase_tracker import PhaseTracker


def empty_model(config: Any) -> AirlamModel:
    """A model of names and shapes, on torch's meta device: it takes no memory for weights."""
    with torch.device("meta"):
        return AirlamModel(config)


def fresh_tracker(model: AirlamModel, seed: int) -> PhaseTracker:
    """A phase tracker with random weights, the same for every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed_of("tracker", seed))
        tracker = PhaseTracker(model.config.max_history)
        tracker.apply(model._init_weights)
        tracker.reset_gates()
    return tracker


def fresh_values(model: AirlamModel, name: str, seed: int) -> dict[str, Tensor]:
    """Parameters and buffers that belong to one module itself, with random start values.

    They depend on the module's name and on ``seed`` only, so every process that makes them makes the same.

    Args:
        model: on the meta device (:func:`empty_model`). name: dotted name of the module.

    Returns:
        full name -> value.
    """
    module = copy.deepcopy(model.get_submodule(name))
    within = name == "backbone" or name.startswith("backbone.")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(_seed_of(name, seed))
        module.to_empty(device="cpu", recurse=False)
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
        for done in (module, *module.modules()):
            done._is_hf_initialized = False  # transformers initialises nothing twice
        initialise = (model.backbone if within else model)._init_weights
        initialise(module)
        initialise(_parent_of(model, name, module))
        if name == "head":  # starts silent, see AirlamModel
            for parameter in module.parameters():
                parameter.zero_()
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return {f"{name}.{key}" if name else key: value.detach() for key, value in own}


def _parent_of(model: AirlamModel, name: str, module: nn.Module) -> nn.Module:
    """A copy of a module's parent that holds ``module``: some families (GPT-2) start a layer as its place demands."""
    above, _, child = name.rpartition(".")
    parent = copy.copy(model.get_submodule(above))
    parent._modules = {**parent._modules, child: module}
    parent._is_hf_initialized = False  # type: ignore[assignment]
    return parent


def _seed_of(name: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "little")
