"""The allow-list, loaded: every predictor, adapter, precoder and beam predictor that a request may name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch

from airlam.errors import RecipeError
from airlam.loading import load_precoder, load_predictor
from airlam.models import AirlamModel, AirlamPredictor, load_beams, load_lora
from airlam.models.shared import shared_copy
from airlam.recipes import find_checkpoint, nearest
from airlam.serving.config import Served, ServingConfig
from airlam.serving.errors import ServingError

VARIANCE, COVARIANCE, POOLED, FUTURE = "variance", "covariance", "pooled", "future"


@dataclass
class Method:
    """A predictor that is ready to run.

    Attributes:
        name, adapter: how it is asked for; ``adapter`` may be empty.
        predictor: behind the interface of every predictor.
        model: its network, where requests can share one pass (:mod:`airlam.models.shared_pass`).
        outputs: what it can answer.
        version: a text that changes with its weights.
        fast: answers predictions alone, link after link; what it cannot answer is the predictor's.
    """

    name: str
    adapter: str
    predictor: Any
    model: AirlamModel | None
    outputs: tuple[str, ...]
    version: str
    fast: Any = None


class Catalogue:
    """Everything that a server serves.

    Args:
        precoding: whether precoders and beam predictors are loaded; their names are known without, too.

    Example:
        >>> Catalogue(ServingConfig(predictors={"hold": {}}, classic="hold")).method("hold").outputs
        ('future',)
    """

    def __init__(self, config: ServingConfig, *, precoding: bool = True) -> None:
        self._precoders, self._beams = sorted(config.precoders), sorted(config.beams)
        self.methods: dict[tuple[str, str], Method] = {}
        for name, served in config.predictors.items():
            for method in _methods(name, served):
                self.methods[name, method.adapter] = method
        self.precoders: dict[str, Any] = {}
        self.beams: dict[str, Any] = {}
        if precoding:
            self.precoders = {name: _precoder(name, served) for name, served in config.precoders.items()}
            self.beams = {
                name: load_beams(find_checkpoint(served.source or name)) for name, served in config.beams.items()
            }
        _share_backbones(self._modules())

    def method(self, name: str, adapter: str = "") -> Method:
        """Raises ServingError 404 for one that is not served."""
        found = self.methods.get((name, adapter))
        if found is None:
            names = sorted({each for each, _ in self.methods})
            if name not in names:
                raise _unknown("model", name, names)
            raise _unknown("adapter", adapter, sorted(each for of, each in self.methods if of == name and each))
        return found

    def check_precoder(self, name: str) -> None:
        """Raises ServingError 404 for one that is not served, here or elsewhere."""
        if name not in self._precoders:
            raise _unknown("precoder", name, self._precoders)

    def precoder(self, name: str) -> Any:
        self.check_precoder(name)
        return self.precoders[name]

    def check_beam_model(self, name: str) -> None:
        """As :meth:`check_precoder`."""
        if name not in self._beams:
            raise _unknown("beam model", name, self._beams)

    def beam_model(self, name: str) -> Any:
        self.check_beam_model(name)
        return self.beams[name]

    def plain(self) -> dict[str, Any]:
        """For ``/v1/models``."""
        return {
            "predictors": [
                {"name": m.name, "adapter": m.adapter, "outputs": list(m.outputs), "version": m.version}
                for m in self.methods.values()
            ],
            "precoders": self._precoders,
            "beams": self._beams,
        }

    def _modules(self) -> Iterable[torch.nn.Module]:
        held = [*(m.predictor for m in self.methods.values()), *self.precoders.values(), *self.beams.values()]
        for each in held:
            module = getattr(each, "model", each)
            if isinstance(module, torch.nn.Module):
                yield module


def _unknown(kind: str, name: str, known: list[str]) -> ServingError:
    hint = nearest(name[:80], known) or ";"
    return ServingError(
        404, f"unknown_{kind.replace(' ', '_')}", f"no {kind} {name[:80]!r} is served{hint} served: {', '.join(known)}"
    )


def _methods(name: str, served: Served) -> list[Method]:
    """The predictor itself, and with each of its adapters."""
    predictor = load_predictor(served.source or name, **served.options)
    fast = _fast(name, predictor) if served.runtime == "kernels" else None
    base: Any = predictor.model if isinstance(predictor, AirlamPredictor) else None
    if served.adapters and not isinstance(base, AirlamModel):
        raise RecipeError(f"predictors.{name} has adapters, but only airlam checkpoints take LoRA adapters")
    out = [replace(_method(name, "", predictor), fast=fast)]
    for adapter, folder in served.adapters.items():
        adapted = load_lora(shared_copy(base), os.path.expanduser(folder))
        out.append(
            _method(
                name, adapter, AirlamPredictor(adapted, f"{name}+{adapter}", views=getattr(predictor, "views", None))
            )
        )
    return out


def _method(name: str, adapter: str, predictor: Any) -> Method:
    model: Any = getattr(predictor, "model", None)
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    shares = isinstance(predictor, AirlamPredictor) and isinstance(base, AirlamModel) and predictor.correction
    outputs: tuple[str, ...] = (FUTURE,)
    if shares:
        outputs += (POOLED, VARIANCE, COVARIANCE) if base.config.error_variance else (POOLED,)
    elif hasattr(predictor, "predict_with_variance"):
        outputs += (VARIANCE,)
    return Method(name, adapter, predictor, base if shares else None, outputs, _version(name, adapter, predictor))


def _fast(name: str, predictor: Any) -> Any:
    if not isinstance(predictor, AirlamPredictor):
        raise RecipeError(f"predictors.{name} has runtime 'kernels', which is for airlam checkpoints; leave it out")
    from airlam.realtime import FastPredictor

    return FastPredictor(predictor)


def _version(name: str, adapter: str, predictor: Any) -> str:
    from airlam.realtime.identity import identity_of

    try:
        return identity_of(predictor, (name, adapter))
    except Exception:  # a method of the user's own that cannot be told apart by its values
        return f"{name} {adapter}".strip()


def _precoder(name: str, served: Served) -> Any:
    return load_precoder(served.source or name, **served.options)


def _share_backbones(modules: Iterable[torch.nn.Module]) -> None:
    """Let equal weights lie in memory once: variants that were trained on a frozen backbone bring copies of it."""
    seen: dict[tuple, torch.nn.Parameter] = {}
    for module in modules:
        for parameter in module.parameters():
            if parameter.numel() < 1024:
                continue
            key = (parameter.shape, parameter.dtype, float(parameter.detach().double().sum()))
            first = seen.setdefault(key, parameter)
            if first is not parameter and torch.equal(first, parameter):
                parameter.data = first.data
