"""A model's profile measured on this host, one thread, medians of several runs."""

from __future__ import annotations

import platform
import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from airlam.edge.parallel.cost_model.profiling import ModelProfile, Part, parameters_of, shapes_of, sizes_of
from airlam.models import AirlamConfig, AirlamModel, SpectralModel
from airlam.models.layers import enter, layers_of, leave, run
from airlam.models.spectral_model import Spectra
from airlam.resources import count_activations, count_flops
from airlam.tasks.objectives import forecast_target


@dataclass(frozen=True)
class Links:
    """What a profile's links look like: slots of history and future, tones, and ports as (polarisations, columns,
    rows)."""

    history: int = 16
    horizon: int = 4
    subcarriers: int = 48
    ports: tuple[int, int, int] = (2, 4, 4)


def measure_profile(
    config: AirlamConfig,
    *,
    links: int = 16,
    shape: Links | None = None,
    attention: str | None = None,
    repeats: int = 7,
    progress: Callable[[str], Any] = lambda part: None,
) -> ModelProfile:
    """Run every part of a training step on random links.

    Args:
        config: of the model. links: of a call; a quarter of them tells what a call costs beside its links.
        shape: of the links. attention: implementation, as transformers names it; None: the backbone's default.
        repeats: of each measurement, whose median counts.
        progress: called with the name of each part before it is measured.
    """
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AirlamModel(config).train()
        nn.init.normal_(model.head.weight, std=0.02)  # a fresh head is zero
        if attention is not None:
            model.backbone.set_attn_implementation(attention)
        many = _Step(model, links, shape or Links())
        few = _Step(model, max(1, links // 4), shape or Links())
        parts = {}
        for name in ("tokens", "embedding", "layer", "head", "tail"):
            progress(name)
            parts[name] = _measure(name, many, few, repeats, parameters_of(model).get(name, (0, 0)))
        progress("optimiser")
        parts["optimiser"] = _optimiser(model, repeats)
        layer = parts["layer"]
        seconds = layer.forward_link + layer.backward_link
        common = _common(many, repeats) / links
        sizes = sizes_of(model, many.target.tokens.features.shape[1])
        return ModelProfile(
            **sizes,
            parts=parts,
            attention=_attention_share(sizes, config),
            common=min(0.5, common / seconds),
            shapes=shapes_of(model),
            flops_per_second=(layer.forward_flops + layer.backward_flops) / seconds,
            host=platform.node() or "host",
            measured=True,
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def peak_bytes(work: Callable[[], Any]) -> int:
    """The most bytes of new tensors that are alive at once during ``work()``.

    Example:
        >>> peak_bytes(lambda: torch.ones(1000).add(1).add(1).sum())
        8000
    """
    with _Alive() as alive:
        work()
    return alive.peak


class _Alive(TorchDispatchMode):
    """Counts the storages that operations return, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in torch.utils._pytree.tree_leaves(out):
            if isinstance(x, Tensor):
                storage = x.untyped_storage()
                key = storage._cdata
                if key not in self.known:
                    self.known[key] = storage.nbytes()
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._free, key)
        self.peak = max(self.peak, self.now)
        return out

    def _free(self, key: int) -> None:
        self.now -= self.known.pop(key, 0)


class _Given(SpectralModel):
    """A model whose network has already answered: what is left is the tail."""

    tracker = None

    def __init__(self, config: AirlamConfig, spectra: Spectra) -> None:
        self.config, self.answer = config, spectra

    def spectra(self, tokens: Any) -> Spectra:
        return self.answer


class _Step:
    """A batch of random links at every place of a training step."""

    def __init__(self, model: AirlamModel, links: int, shape: Links) -> None:
        ports = shape.ports[0] * shape.ports[1] * shape.ports[2]
        size = (links, shape.history + shape.horizon, shape.subcarriers, 1, ports)
        h = torch.randn(size, dtype=torch.complex64)
        self.model, self.links, self.ports = model, links, shape.ports
        self.past, self.future = h[:, : shape.history], h[:, shape.history :]
        self.target = self.tokens()
        with torch.no_grad():
            self.x = enter(model.backbone, self.embedding())
            self.answer = model.read(leave(model.backbone, self.x), *self._known())

    def _known(self) -> tuple[Tensor, Tensor]:
        return self.target.tokens.log_periodogram, self.target.tokens.noise

    def tokens(self) -> Any:
        return forecast_target(self.model, self.past, self.future, self.ports)

    def embedding(self) -> Tensor:
        return self.model.embedding(self.target.tokens.features)

    def forward(self, name: str) -> tuple[list[Tensor], list[Tensor]]:
        """A part's outputs, and what their gradient is wanted of."""
        model = self.model
        if name == "embedding":
            out = enter(model.backbone, self.embedding())
            return [out], [p for p in model.embedding.parameters()]
        x = self.x.clone().requires_grad_()
        if name == "layer":
            layer = layers_of(model.backbone)[0]
            out = run(model.backbone, x, [layer])
            return [out], [x, *(p for p in layer.parameters() if p.requires_grad)]
        if name == "head":
            spectra = model.read(leave(model.backbone, x), *self._known())
            wanted = [x, *model.norm.parameters(), *model.head.parameters()]
            return [t for t in spectra if t is not None and t.requires_grad], wanted
        leaves: Any = [None if t is None else t.detach().clone().requires_grad_() for t in self.answer]
        given = _Given(model.config, Spectra(*leaves))
        error = self.target.error(self.target.told(given))
        return [error.log().mean()], [leaf for leaf in leaves if leaf is not None]

    def backward(self, outputs: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
        ones = [torch.ones_like(out) for out in outputs]
        torch.autograd.backward(outputs, ones)
        for x in wanted:
            x.grad = None


def _measure(name: str, many: _Step, few: _Step, repeats: int, count: tuple[int, int]) -> Part:
    if name == "tokens":
        slope, call = _affine([(s.links, _median(s.tokens, repeats)) for s in (many, few)])
        t = many.target.tokens
        kept = sum(x.nbytes for x in (t.features, t.log_periodogram, t.noise, t.series, many.target.kept))
        return Part(
            forward_link=slope,
            forward_call=call,
            activation_bytes=kept / many.links,
            working_bytes=max(0.0, peak_bytes(many.tokens) - kept) / many.links,
            forward_flops=count_flops(many.tokens) / many.links,
        )
    ways = [(s.links, *_both(s, name, repeats)) for s in (many, few)]
    forward_link, forward_call = _affine([(links, f) for links, f, _ in ways])
    backward_link, backward_call = _affine([(links, b) for links, _, b in ways])
    flops = count_flops(lambda: many.forward(name))
    kept = count_activations(lambda: many.forward(name))
    weights = 4 * sum(count)  # kept too, but counted as weights
    kept = max(0, kept - weights)
    return Part(
        parameters=count[0],
        frozen=count[1],
        forward_flops=flops / many.links,
        backward_flops=(count_flops(lambda: many.backward(*many.forward(name))) - flops) / many.links,
        forward_link=forward_link,
        backward_link=backward_link,
        forward_call=forward_call,
        backward_call=backward_call,
        activation_bytes=kept / many.links,
        working_bytes=max(0.0, peak_bytes(lambda: many.backward(*many.forward(name))) - kept) / many.links,
    )


def _affine(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Seconds a link and a call from the times of two numbers of links; neither is negative."""
    (many, slow), (few, fast) = points
    if many == few or fast >= slow:
        return slow / many, 0.0
    slope = min((slow - fast) / (many - few), slow / many)
    return slope, max(0.0, slow - slope * many)


def _median(work: Callable[[], Any], repeats: int) -> float:
    """Seconds of ``work()``, after two runs that do not count."""
    took = []
    for n in range(repeats + 2):
        start = time.perf_counter()
        work()
        if n > 1:
            took.append(time.perf_counter() - start)
    return statistics.median(took)


def _both(step: _Step, name: str, repeats: int) -> tuple[float, float]:
    """Median seconds forward and backward."""
    forward, backward = [], []
    for n in range(repeats + 2):
        start = time.perf_counter()
        outputs, wanted = step.forward(name)
        middle = time.perf_counter()
        step.backward(outputs, wanted)
        if n > 1:
            forward.append(middle - start)
            backward.append(time.perf_counter() - middle)
    return statistics.median(forward), statistics.median(backward)


def _optimiser(model: AirlamModel, repeats: int) -> Part:
    """AdamW; its ``forward_link`` is of one weight."""
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:
        p.grad = torch.full_like(p, 1e-3)
    adamw = torch.optim.AdamW(trained, lr=1e-6)
    seconds = _median(adamw.step, repeats)
    for p in trained:
        p.grad = None
    return Part(forward_link=seconds / sum(p.numel() for p in trained))


def _common(step: _Step, repeats: int) -> float:
    """Seconds of a layer's norms and sums, forward and backward."""
    x = step.x.clone().requires_grad_()
    norm = nn.LayerNorm(x.shape[-1])

    def work() -> None:
        y = x + norm(x)
        y = y + norm(y)
        torch.autograd.grad(y, [x, *norm.parameters()], torch.ones_like(y))

    return _median(work, repeats)


def _attention_share(sizes: dict[str, int], config: AirlamConfig) -> float:
    from airlam.edge.parallel.cost_model.profiling import count_profile

    return count_profile(config, tokens=sizes["tokens"]).attention
