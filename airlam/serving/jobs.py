"""Predictions of many requests in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from airlam.csi import PortShape
from airlam.interfaces import check_csi, check_observed, check_prediction_request
from airlam.models.shared_pass import Answers, Pass, encode, read_out, tokenize
from airlam.serving.catalogue import COVARIANCE, FUTURE, POOLED, VARIANCE, Method
from airlam.serving.config import Warm
from airlam.serving.errors import one_line, refused


class Stages(Protocol):
    """Where the stages behind the tokenizer run."""

    def encode(self, method: Method, links: Pass) -> Pass:
        """See :func:`airlam.models.shared_pass.encode`."""
        ...

    def read_out(self, method: Method, links: Pass, wanted: dict[str, Any]) -> Answers:
        """See :func:`airlam.models.shared_pass.read_out`, whose further arguments are ``wanted``."""
        ...

    def predict(self, method: Method, variance: bool, h_past: Tensor, num_future: int, **arguments: Any) -> tuple:
        """The prediction of a method that has no stages, with ``variance`` the errors' variances too."""
        ...


class Fused:
    """All in this process."""

    def encode(self, method: Method, links: Pass) -> Pass:
        assert method.model is not None
        return encode(method.model, links)

    def read_out(self, method: Method, links: Pass, wanted: dict[str, Any]) -> Answers:
        assert method.model is not None
        return read_out(method.model, links, **wanted)

    def predict(self, method: Method, variance: bool, h_past: Tensor, num_future: int, **arguments: Any) -> tuple:
        return predicted(method.predictor, variance, h_past, num_future, **arguments)


def predicted(predictor: Any, variance: bool, h_past: Tensor, num_future: int, **arguments: Any) -> tuple:
    """The prediction, with ``variance`` that of its errors too; arguments as of every predictor."""
    if variance:
        return predictor.predict_with_variance(h_past, num_future, **arguments)
    return (predictor.predict(h_past, num_future, **arguments),)


@dataclass
class Job:
    """One request for predictions.

    Attributes:
        h_past: ``complex [link, slot, subcarrier, rx_ant, tx_ant]``.
        wanted: names of outputs. subcarriers: indices of those whose covariances are wanted.
        observed: ``bool [link, slot]``; ``None``: every slot was measured.
        context: readings of other sensors. due: when the answer is due, of ``time.monotonic``; ``None``: no deadline.
    """

    method: Method
    h_past: Tensor
    num_future: int
    port_shape: PortShape | None = None
    wanted: frozenset[str] = frozenset({FUTURE})
    observed: Tensor | None = None
    context: dict[str, Any] = field(default_factory=dict)
    subcarriers: tuple[int, ...] | None = None
    due: float | None = None

    def check(self) -> Job:
        """The checks of the predictor, before the job waits with others.

        Raises:
            ServingError: 400 with the value, the bound and the fix.
        """
        unknown = sorted(self.wanted - set(self.method.outputs))
        if unknown:
            raise refused(
                "output",
                f"{self.method.name} does not answer {', '.join(unknown)[:80]!r}; it answers "
                f"{', '.join(self.method.outputs)}",
            )
        try:
            if self.observed is not None:
                check_observed(self.h_past, {"observed": self.observed})
                seen = self.observed[..., None, None, None]
                self.h_past = torch.where(seen, self.h_past, torch.zeros((), dtype=self.h_past.dtype))
            shape = check_prediction_request(self.h_past, self.num_future, self.port_shape)
            if self.subcarriers is not None:
                tones = self.h_past.shape[-3]
                if not self.subcarriers or not all(0 <= k < tones for k in self.subcarriers):
                    raise ValueError(f"subcarriers is {str(self.subcarriers)[:80]}, but must be from 0 to {tones - 1}")
        except (ValueError, TypeError) as error:
            raise refused("csi", one_line(error)) from None
        self.port_shape = shape
        return self

    @property
    def links(self) -> int:
        return len(self.h_past)

    @property
    def alone(self) -> bool:
        """Whether it is to be a pass by itself: what takes link after link gains nothing from company, and would wait
        for it."""
        plain = self.wanted == {FUTURE} and self.observed is None and not self.context
        return self.method.fast is not None and plain

    @property
    def key(self) -> tuple:
        """Jobs of equal keys can share one pass."""
        alone = id(self) if self.context or self.observed is not None or self.alone else 0
        sizes = (*self.h_past.shape[1:], self.h_past.dtype, self.wanted if self.method.model is None else 0)
        return self.method.name, self.method.adapter, sizes, self.num_future, self.port_shape, self.subcarriers, alone


Result = dict[str, Tensor]


def usual_history(warm: Warm) -> tuple[Tensor, PortShape | None]:
    """One link of random CSI of the sizes that are expected, the same each time, and its port shape.

    Example:
        >>> usual_history(Warm(slots=4))[0].shape
        torch.Size([1, 4, 48, 1, 32])
    """
    sizes = (1, warm.slots, warm.subcarriers, warm.rx_ants, warm.tx_ants)
    h_past = torch.randn(sizes, generator=torch.Generator().manual_seed(0), dtype=torch.complex64)
    return h_past, tuple(warm.port_shape) or None  # type: ignore[return-value]


def run(jobs: Sequence[Job], stages: Stages | None = None) -> list[Result | Exception]:
    """The results of jobs, those of equal keys in one pass; one that fails does not touch the others.

    Args:
        stages: where backbone and heads run; ``None``: here.
    """
    groups: dict[tuple, list[int]] = {}
    for number, job in enumerate(jobs):
        groups.setdefault(job.key, []).append(number)
    out: list[Result | Exception] = [RuntimeError("not run")] * len(jobs)
    for numbers in groups.values():
        found = _run_group([jobs[number] for number in numbers], stages or Fused())
        for number, result in zip(numbers, found, strict=True):
            out[number] = result
    return out


def _run_group(jobs: list[Job], stages: Stages) -> list[Result | Exception]:
    try:
        with torch.inference_mode():
            if jobs[0].alone or jobs[0].method.model is None:
                return list(_as_one(jobs, stages))
            return list(_together(jobs, stages))
    except Exception as error:
        if len(jobs) == 1:
            return [error]
        return [_run_group([job], stages)[0] for job in jobs]  # which of them it was


def _as_one(jobs: list[Job], stages: Stages) -> list[Result]:
    """Through the interface of every predictor, whose predictions do not depend on the other links of the batch."""
    first, method = jobs[0], jobs[0].method
    context = dict(first.context)
    if first.observed is not None:
        context["observed"] = first.observed
    arguments = {"port_shape": first.port_shape, "context": context or None}
    h_past = torch.cat([job.h_past for job in jobs])
    if first.alone:
        values = predicted(method.fast, False, h_past, first.num_future, **arguments)
    else:
        values = stages.predict(method, VARIANCE in first.wanted, h_past, first.num_future, **arguments)
    parts = [value.split([job.links for job in jobs]) for value in values]
    return [dict(zip((FUTURE, VARIANCE), each, strict=False)) for each in zip(*parts, strict=True)]


def _together(jobs: list[Job], stages: Stages) -> list[Result]:
    first, method = jobs[0], jobs[0].method
    assert method.model is not None
    h_past = torch.cat([job.h_past for job in jobs])
    views = getattr(method.predictor, "views", None)
    links = tokenize(
        method.model,
        h_past,
        first.num_future,
        port_shape=first.port_shape,
        observed=first.observed,
        context=first.context or None,
        views=views,
    )
    links = stages.encode(method, links)
    owner = torch.repeat_interleave(torch.arange(len(jobs)), torch.tensor([job.links for job in jobs]))
    of = {name: _links_of(jobs, owner, name) for name in (VARIANCE, COVARIANCE)}
    wanted = {
        **of,
        POOLED: any(POOLED in job.wanted for job in jobs),
        "subcarriers": None if first.subcarriers is None else torch.tensor(first.subcarriers),
    }
    answers = stages.read_out(method, links, wanted)
    out: list[Result] = []
    for number, job in enumerate(jobs):
        dtype = job.h_past.dtype
        result = {FUTURE: answers.future[owner == number].to(dtype)}
        for name, value in ((VARIANCE, answers.variance), (COVARIANCE, answers.covariance)):
            if name in job.wanted and value is not None:
                mine = owner[of[name]] == number
                result[name] = value[mine].to(dtype if value.is_complex() else dtype.to_real())
        if POOLED in job.wanted and answers.pooled is not None:
            result[POOLED] = answers.pooled[owner == number]
        out.append(result)
    return out


def _links_of(jobs: list[Job], owner: Tensor, name: str) -> Tensor | None:
    """Indices of the links of the jobs that want an output."""
    asked = torch.tensor([name in job.wanted for job in jobs])
    return asked[owner].nonzero()[:, 0] if bool(asked.any()) else None


def checked_links(h: Tensor, axes: int, most: int, name: str) -> tuple[Tensor, tuple[int, ...]]:
    """``h`` with its leading axes flattened to one, and those axes.

    Args:
        axes: of one entry. most: entries that a request may hold.
    """
    if h.dim() < axes:
        raise refused("rank", f"{name} has {h.dim()} axes {tuple(h.shape)}, but must have at least {axes}")
    lead = tuple(h.shape[: h.dim() - axes])
    flat = h.reshape(-1, *h.shape[h.dim() - axes :]) if 0 not in h.shape else h.new_zeros(0, *h.shape[-axes:])
    if 0 in h.shape:
        raise refused("empty", f"{name} has an empty axis: {tuple(h.shape)}")
    if len(flat) > most:
        raise refused("links", f"{name} has {len(flat)} entries, but at most {most} a request; send several requests")
    return flat, lead


def finite(h: Tensor, name: str = "h") -> Tensor:
    """As :func:`airlam.interfaces.check_csi`, with the error of a server."""
    try:
        return check_csi(h, name=name)
    except (ValueError, TypeError) as error:
        raise refused("csi", one_line(error)) from None
