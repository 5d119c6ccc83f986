"""From a method in a recipe to something that predicts: classical methods tuned in each cell, models, genies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from airlam.channels import LinkBatch
from airlam.csi import mean_power
from airlam.errors import RecipeError
from airlam.evaluation.engine.cell import Cell, Contender
from airlam.evaluation.engine.checks import check_prediction
from airlam.interfaces import Predictor
from airlam.loading import load_precoder, load_predictor
from airlam.methods import Method, check_grid, check_made, find, get, is_declared, is_own, names, own_method, register
from airlam.recipes import check_is_no_class, nearest, shipped_checkpoints

STACK = "stack"
GENIES = ("genie_per_bin", "genie_clusters", "genie_lmmse")
OFF = ":no-correction"
MODEL = "{model}"  # stands for the name of the learned method in a list of methods


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


class Entries:
    """The methods that a benchmark is given, by the names of their rows.

    Attributes:
        label: the name of ``model``, in the place of ``{model}``.
        learned: name -> checkpoint, name of a registered method, or a method of the user's own.
        own: name -> method of the user's own that ``methods`` names.

    Args:
        model: a checkpoint, or a predictor of one's own (:mod:`airlam.methods.own`).
        others: further ones: a list, or a mapping from the names of their rows. Those that ``methods`` does not name
            follow the model.
        methods: names, with ``{model}``, or of shipped checkpoints; or predictors of one's own.

    Raises:
        RecipeError: an unknown name, or one that two rows would have.
    """

    def __init__(self, model: Any, others: Sequence[Any] | Mapping[str, Any], methods: Sequence[Any]):
        self.label, learned = row_of(model, "model")
        self.label = self.label.removesuffix(".ckpt")
        self.learned = {self.label: learned}
        if isinstance(others, str) or not isinstance(others, (Mapping, Iterable)):
            raise RecipeError(f"others is {others!r}, but must be a list, or a mapping from the names of the rows")
        if not methods:
            raise RecipeError(
                "methods is empty, but must name the model and the bar, like [ar, '{model}']; without the key methods "
                "the usual ones are run, and those of others beside them"
            )
        pairs = others.items() if isinstance(others, Mapping) else (("", value) for value in others)
        taken, further = (*GENIES, "perfect", self.label), []
        registered = names("predictor", built=True)
        for name, value in pairs:
            name, what = row_of(value, f"others.{name}" if name else "others", str(name))
            if name == self.label and what == learned:  # the model itself, which has a row
                continue
            # a method registered in this process alone may be this very row, of another benchmark before
            mine = isinstance(what, Method) and not is_declared(name, "predictor")
            if name in taken or (name in registered and not mine):
                raise RecipeError(f"others calls a checkpoint {name!r}, which is another row's name; choose another")
            if name in further:
                raise RecipeError(f"others has two rows called {name!r}; give names: {{name: method, ...}}")
            self.learned[name] = what
            further.append(name)
        self.own: dict[str, Method] = {}
        rows = [row for value in methods if (row := self._name(value))]
        place = max((i + 1 for i, name in enumerate(rows) if name.partition(":")[0] == self.label), default=0)
        rows[place:place] = [name for name in further if name not in rows]
        shipped = set(shipped_checkpoints("airlam", "airlam-paths")) - self.learned.keys()
        self.learned |= {name: name for name in dict.fromkeys(row.removesuffix(OFF) for row in rows) if name in shipped}
        self.names = check_methods(rows, self.learned)

    def _name(self, value: Any) -> str:
        if isinstance(value, str) and not is_own(value):
            if value == MODEL + OFF and isinstance(self.learned[self.label], Method):
                return ""  # only airlam's own networks have a correction that can be switched off
            return value.replace(MODEL, self.label)
        method = own_method(value, "predictor", "methods")
        if method.name in (*self.own, *self.learned):
            raise RecipeError(f"methods has two rows called {method.name!r}; write another name: beside class_path")
        self.own[method.name] = method
        return method.name

    def built(self) -> dict[str, Predictor | Method]:
        """Name -> predictor, or a method that is tuned in every cell."""
        return {name: build_model(name, what) for name, what in {**self.learned, **self.own}.items()}


def row_of(value: Any, source: str, name: str = "", role: str = "predictor") -> tuple[str, str | Method]:
    """The name of a row, and the checkpoint or the method that it shows.

    Args:
        value: a checkpoint, the name of a registered method, or a method of one's own.
        source: the key of the recipe, for errors.
        name: of the row, where the recipe gives one.
    """
    if is_own(value):
        method = own_method(value, role, source, name)
        return method.name, method
    registered = find(str(value), role)
    if registered is not None and registered.factory:
        if name:
            registered = register(replace(registered, name=name, label=name, short=""), replace=True)
        return registered.name, registered
    check_is_no_class(value, source)
    return name or Path(str(value)).name, str(value)


def build_row(name: str, what: str | Method, role: str = "predictor") -> Any:
    """The object behind a row of :func:`row_of`: at its defaults, or from its checkpoint."""
    if isinstance(what, Method):
        return check_made(what.build(), role, f"{role} {name!r}")
    return load_predictor(what, name=name) if role == "predictor" else load_precoder(what, name=name)


def build_model(name: str, what: str | Method) -> Predictor | Method:
    """The predictor behind a row; a classical method with a grid stays a method, which is tuned in every cell."""
    if isinstance(what, Method) and what.kind == "classical" and what.grid:
        return what
    return build_row(name, what)


def check_methods(methods: Iterable[str], models: Iterable[str]) -> list[str]:
    """The names themselves if each is a registered predictor, ``stack``, a genie, ``perfect``, a model or
    ``model:no-correction``.

    Raises:
        RecipeError: an unknown name, with the nearest valid one; or none at all.
    """
    valid = [*names("predictor", built=True), STACK, *GENIES, "perfect"]
    valid += [name for model in models for name in (model, model + OFF)]
    methods = list(methods)
    for name in methods:
        if name not in valid:
            check_is_no_class(name, "methods")
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


def size(method: Any) -> int:
    """Parameters of a method's networks; 0 for a classical method."""
    number = getattr(getattr(method, "model", None), "num_parameters", None)
    if isinstance(number, int):
        return number  # of an exported graph, whose weights torch does not see
    return sum(p.numel() for p in _networks(method).parameters())


def trained_size(predictor: Predictor) -> int:
    """Parameters of a comparator that its training left unfrozen; 0 for anything else."""
    from airlam.models.comparators import Comparator

    network = getattr(predictor, "model", None)
    if not isinstance(network, Comparator):
        return 0
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def _networks(method: Any) -> nn.ModuleList:
    """All networks that are attributes of a method, or the method itself; parameters that they share count once."""
    values = [method, *getattr(method, "__dict__", {}).values()]
    return nn.ModuleList([value for value in values if isinstance(value, nn.Module)])


def tuned(
    method: str | Method, h_past: Tensor, h_future: Tensor, *, port_shape: Any, context: dict
) -> tuple[Predictor, dict[str, Any]]:
    """A classical predictor tuned on links that no figure is computed on, and what was chosen.

    Args:
        method: the name of a registered predictor, or a method.
    """
    from airlam.baselines import tune

    found = method if isinstance(method, Method) else get(method, "predictor")
    check_grid(found.load(), found.grid, f"predictor {found.name!r}")
    trial, past, future = check_made(found.build(), "predictor", f"predictor {found.name!r}"), h_past[:1], h_future[:1]
    with torch.inference_mode():
        side = {
            key: value[:1] if isinstance(value, Tensor) and value.dim() else value for key, value in context.items()
        }
        tried = trial.predict(past.clone(), future.shape[1], port_shape=port_shape, context=side)
        check_prediction(found.name, tried, past, future.shape[1])  # here it is named, inside tune it would not be
        every = torch.arange(len(h_past))
        if found.tune_links:
            every = every[:: -(-len(every) // found.tune_links)]
        context = {k: v[every] if isinstance(v, Tensor) and v.dim() else v for k, v in context.items()}
        # h_past[every] is a copy: a method that writes into its input cannot spoil what the others are tuned on
        best = tune(
            found.build, h_past[every], h_future[every], grid=found.grid, port_shape=port_shape, context=context
        )
    # infinity (one pooled filter) is not JSON
    shown = {key: "inf" if isinstance(value, float) and math.isinf(value) else value for key, value in best.items()}
    return found.build(**best), shown


def contenders_of_cell(
    cell: Cell,
    links: LinkBatch,
    models: Mapping[str, Predictor | Method],
    observed: Tensor | None = None,
    tuning: tuple[Tensor, Tensor] | None = None,
) -> list[Contender]:
    """Everything that ``cell.methods`` names, ready to predict ``links``; classics tuned on links of other drops.

    Args:
        models: learned methods, and methods of the user's own, by name.
        observed: see :func:`of_predictor`.
        tuning: true CSI of the cell's tuning links and their measured history, where a caller has drawn them already.
    """
    from airlam.baselines import STACK_MEMBERS, fit_stack
    from airlam.baselines.path_memory import remembered

    context = context_of(links)
    port_shape, out = links.port_shape, []
    classics: dict[str, tuple[Predictor, dict[str, Any]]] = {}

    def known() -> tuple[Tensor, Tensor]:
        """History and future of the tuning links."""
        nonlocal tuning
        if tuning is None:
            h = cell.links("tune", cell.num_tune).h
            tuning = (h, cell.observe(h, "tune")[0])
        # the horizon alone: slots that only hold the last prediction say nothing about a filter
        return tuning[1], tuning[0][:, cell.history : cell.history + cell.horizon]

    def classic(name: str, method: Method) -> tuple[Predictor, dict[str, Any]]:
        """A classical predictor, tuned once in this cell (where it has a grid), and what was chosen."""
        if name not in classics and not method.grid:
            classics[name] = method.build(), {}
        elif name not in classics:
            with remembered():
                classics[name] = tuned(method, *known(), port_shape=port_shape, context=context)
        return classics[name]

    for name in cell.methods:
        if name == "perfect":
            out.append(Contender("perfect", lambda *_: torch.empty(0), timed=False))
        elif name in GENIES:
            out.append(genie(name, cell, links))
        elif (model := models.get(name.removesuffix(OFF))) is not None and not isinstance(model, Method):
            out.append(of_model(name, model, links, observed))
        elif name == STACK:
            members = {member: classic(member, get(member, "predictor"))[0] for member in STACK_MEMBERS}
            past, future = known()
            drop = torch.arange(len(past)) // cell.recipe.get("links_per_drop", 1)
            with torch.inference_mode(), remembered():
                predictor, settings = fit_stack(members, past, future, drop, port_shape=port_shape, context=context)
            out.append(of_predictor(name, predictor, context, port_shape, settings))
        else:
            predictor, settings = classic(name, model or get(name, "predictor"))
            out.append(of_predictor(name, predictor, context, port_shape, settings))
    return out


def of_model(name: str, model: Predictor, links: LinkBatch, observed: Tensor | None = None) -> Contender:
    """A learned predictor, ready to predict ``links``, whose speeds and positions it is told; ``name`` says whether its
    correction is off."""
    predictor = without_correction(model) if name.endswith(OFF) else model
    sensed = {**context_of(links), "velocity": links.velocity, "position": links.position}  # for models with sensors
    return of_predictor(name, predictor, sensed, links.port_shape, observed=observed)


def context_of(links: LinkBatch) -> dict[str, Any]:
    """What every predictor is told of the carrier; see :meth:`airlam.interfaces.Predictor.predict`."""
    return {
        "slot_duration": links.slot_duration,
        "subcarrier_spacing": links.subcarrier_spacing,
        "carrier_frequency": links.carrier_frequency,
    }


def without_correction(model: Predictor) -> Predictor:
    """The same network with its learned correction off."""
    from airlam.models import AirlamPredictor

    if not isinstance(model, AirlamPredictor):
        raise RecipeError(
            f"{model.name} is a comparator: it has no classical start; without its correction it is 'hold'"
        )
    return model.uncorrected(f"{model.name}{OFF}")


def genie(name: str, cell: Cell, links: LinkBatch) -> Contender:
    """A genie that looks up the rays of the links it is asked about."""
    from airlam.baselines import cluster_genie, genie_lmmse, per_bin_genie

    grid = {"slot_duration": links.slot_duration, "subcarrier_spacing": links.subcarrier_spacing}
    variance = mean_power(links.h[:, : cell.history]) * 10 ** (-cell.csi_snr_db / 10)
    assert links.rays is not None  # a cell with a genie among its methods asks for them
    every = links.rays

    def predict(h_past: Tensor, num_future: int, index: Tensor) -> Tensor:
        rays, noise = every[index], variance[index]
        if name != "genie_per_bin":
            joint = genie_lmmse if name == "genie_lmmse" else cluster_genie
            return joint(rays, h_past, noise, num_future, **grid)
        return per_bin_genie(rays, h_past, noise, num_future, port_shape=links.port_shape, **grid)

    return Contender(name, predict, timed=False, batch=1)  # one link's matrices stay in the cache: twice as fast
