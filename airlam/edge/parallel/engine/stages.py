"""A training step of a pipeline: layers are shared out, micro-batches flow through them (torch's schedules).

The first stage reads the tokens, the last one compares with the truth; those between see activations only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from airlam.edge.parallel.engine.building import Part
from airlam.edge.parallel.engine.collectives import TRAFFIC, all_reduce
from airlam.edge.parallel.launching.watchdog import waiting
from airlam.edge.parallel.layout import Layout
from airlam.edge.parallel.recipe import ParallelTraining
from airlam.errors import RecipeError
from airlam.models.layers import enter, layers_of, leave, run
from airlam.tasks.objectives import Target

SCHEDULES = {"1f1b": Schedule1F1B, "gpipe": ScheduleGPipe}


class Layers(nn.Module):
    """One stage: embedding (first stage), some layers, final norm (last stage)."""

    def __init__(self, part: Part, *, first: bool, last: bool, precision: str) -> None:
        super().__init__()
        self.model, self.layers = part.model, part.layers
        self.first, self.last, self.precision = first, last, precision

    def forward(self, x: Tensor) -> Tensor:
        """Features (first stage) or hidden states ``[link, token, width]`` -> hidden states."""
        backbone, dtype = self.model.backbone, x.dtype
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed"):
            if self.first:
                x = enter(backbone, self.model.embedding(x).to(backbone.dtype))
            x = run(backbone, x, layers_of(backbone)[slice(*self.layers)])
            return (leave(backbone, x) if self.last else x).to(dtype)


class CountedStage(PipelineStage):
    """A stage that counts what it sends."""

    def get_fwd_send_ops(self, fwd_chunk_id: int) -> list[dist.P2POp]:
        """Activations to the next stage."""
        return _counted(super().get_fwd_send_ops(fwd_chunk_id))

    def get_bwd_send_ops(self, bwd_chunk_id: int) -> list[dist.P2POp]:
        """Their gradients to the one before."""
        return _counted(super().get_bwd_send_ops(bwd_chunk_id))


def _counted(ops: list[dist.P2POp]) -> list[dist.P2POp]:
    for op in ops:
        TRAFFIC.add("send", op.tensor)
    return ops


class PipelineStep:
    """Forward and backward pass of mode pipeline, and its hybrids with data and tensor."""

    def __init__(self, run: ParallelTraining, part: Part, layout: Layout) -> None:
        self.run, self.part, self.layout = run, part, layout
        self.index, self.stages = layout.place["pipeline"], layout.size("pipeline")
        self.first, self.last = self.index == 0, self.index == self.stages - 1
        self.group = layout.group("pipeline")
        self.body = Layers(part, first=self.first, last=self.last, precision=run.precision)
        self.copies = layout.size("tensor")
        self._schedules: dict[tuple[int, ...], Any] = {}
        self._target: Target | None = None
        self._links = 1

    @property
    def needs_tokens(self) -> bool:
        """Whether this rank needs the batch."""
        return self.first or self.last

    def __call__(self, target: Target | None, links: int) -> float:
        """See :class:`airlam.edge.parallel.engine.spmd.SPMDStep`."""
        shape = self._shape(target)
        schedule = self._schedule(*shape)
        self._target, self._links = target, links
        given = (target.tokens.features,) if self.first and target is not None else ()
        losses: list[Tensor] = []
        numbers = torch.arange(shape[0])
        with waiting("the activations of other stages"):
            schedule.step(*given, **({"target": numbers, "losses": losses} if self.last else {}))
        self._target = None
        if self.layout.size("data") > 1:
            self._sum_gradients()
        return sum(float(loss.detach()) for loss in losses) / self.copies

    @torch.no_grad()
    def errors(self, target: Target | None) -> Tensor | None:
        """NMSE of each link; None on ranks other than the last stage's first. All links flow through in one go."""
        shape, device = self._shape(target), self.layout.device
        if self.first and target is not None:
            x = target.tokens.features
        else:
            dtype = torch.float64 if self.run.precision == "64-true" else torch.float32
            x = torch.empty(*shape, self.part.model.backbone.config.hidden_size, dtype=dtype, device=device)
            dist.recv(x, group=self.group, group_src=self.index - 1)
        x = self.body(x)
        if not self.last:
            dist.send(x, group=self.group, group_dst=self.index + 1)
            return None
        assert target is not None
        seen = target._replace(tokens=replace(target.tokens, hidden=x))
        return seen.error(seen.told(self.part.model)) if self.layout.place["tensor"] == 0 else None

    def _shape(self, target: Target | None) -> tuple[int, int]:
        """(links, tokens) of this batch, which only stages that read it know."""
        shape = torch.zeros(2, dtype=torch.int64, device=self.layout.device)
        if target is not None:
            shape = torch.tensor(target.tokens.features.shape[:2], device=self.layout.device)
        if self.stages > 2:
            TRAFFIC.add("control", shape)
            with waiting("the shape of the batch"):
                dist.broadcast(shape, dist.get_global_rank(self.group, 0), group=self.group)
        return int(shape[0]), int(shape[1])

    def _schedule(self, links: int, tokens: int) -> Any:
        """A schedule for one shape of batch: torch fixes the shapes of what stages send."""
        if (links, tokens) not in self._schedules:
            count = self.run.micro_batches
            if links % count:
                raise RecipeError(
                    f"micro_batches is {count}, but {links} links go through this pipeline; take a number that divides "
                    "them"
                )
            dtype = torch.float64 if self.run.precision == "64-true" else torch.float32
            model, part = self.part.model, links // count
            width = model.backbone.config.hidden_size
            # real values, not memory as it is found: torch runs the stage on them
            inner = torch.zeros(part, tokens, width, dtype=dtype, device=self.layout.device).requires_grad_()
            outer = inner.new_zeros(part, tokens, model.num_features)
            stage = CountedStage(
                self.body,
                self.index,
                self.stages,
                self.layout.device,
                input_args=(outer if self.first else inner,),
                output_args=(torch.zeros_like(inner).requires_grad_(),),
                group=self.group,
            )
            # a schedule without a loss has no backward pass, so all stages get one; the last calls it
            made = SCHEDULES[self.run.schedule](stage, count, loss_fn=self._loss, scale_grads=False)
            self._schedules[links, tokens] = made
        return self._schedules[links, tokens]

    def _loss(self, hidden: Tensor, numbers: Tensor) -> Tensor:
        """What the links of one micro-batch add to the loss."""
        assert self._target is not None
        mine = self._target.part(slice(int(numbers[0]), int(numbers[-1]) + 1))
        mine.tokens.hidden = hidden
        with torch.autocast(hidden.device.type, torch.bfloat16, enabled=self.run.precision == "bf16-mixed"):
            return torch.log(mine.error(mine.told(self.part.model))).sum() / self._links

    def _sum_gradients(self) -> None:
        """One sum over the pipelines that share out the batch (DDP wants one backward pass a step)."""
        grads = [p.grad for p in self.part.model.parameters() if p.grad is not None]
        flat = _flatten_dense_tensors(grads)
        all_reduce(flat, self.layout.group("data"))
        for grad, summed in zip(grads, _unflatten_dense_tensors(flat, grads), strict=True):
            grad.copy_(summed)
