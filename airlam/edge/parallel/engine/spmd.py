"""A training step in which every rank computes the same thing on its share: links, tokens, heads and hidden units.

Each rank's loss is the sum over its links of ``log NMSE``, divided by the links of the whole batch. Gradients are
summed over the ranks that share out links and tokens: so no link counts twice, whatever the shares are.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from airlam.edge.parallel.engine.building import Part
from airlam.edge.parallel.engine.collectives import TRAFFIC, all_reduce, reduce_from
from airlam.edge.parallel.launching.watchdog import waiting
from airlam.edge.parallel.layout import Layout
from airlam.edge.parallel.recipe import ParallelTraining
from airlam.models.layers import enter, layers_of, leave, run
from airlam.tasks.objectives import Target, energy


class ShareOfLoss(nn.Module):
    """This rank's part of the loss, as a function of its part of the weights."""

    def __init__(self, part: Part, layout: Layout, precision: str) -> None:
        super().__init__()
        self.model = part.model
        self.part, self.layout, self.precision = part, layout, precision

    def forward(self, target: Target, links: int) -> Tensor:
        """Args: target: this rank's links, all of their tokens. links: of the whole batch."""
        with torch.autocast(self.layout.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed"):
            return torch.log(self.errors(target)).sum() / links

    def errors(self, target: Target) -> Tensor:
        """NMSE of each link."""
        layout, sequence = self.layout, self.layout.size("sequence")
        if sequence == 1 and layout.size("tensor") == 1:
            return target.error(target.told(self.model))
        count = target.tokens.features.shape[1]
        first, stop = layout.own("sequence", count)
        self.part.tokens.update(sizes=layout.split("sequence", count), first=first)
        mine = target.part(slice(None), first, stop)
        mine.tokens.hidden = self.hidden(mine.tokens.features, first)
        excess = energy(mine.told(self.model) - mine.kept)
        if sequence > 1:
            excess = reduce_from(excess, layout.group("sequence"))
        return (excess + target.lost) / target.total

    def hidden(self, features: Tensor, first: int) -> Tensor:
        """The backbone's output for tokens of which the first has position ``first``."""
        backbone, own = self.model.backbone, self.part.features
        x = self.model.embedding(features if own is None else features[..., own[0] : own[1]])
        x = enter(backbone, x.to(backbone.dtype), first)
        for _ in range(self.model.config.loops):
            x = run(backbone, x, layers_of(backbone), first, whole=self.layout.size("sequence") == 1)
        return leave(backbone, x).to(features.dtype)


class SPMDStep:
    """Forward and backward pass of modes data, sequence, tensor, looped, and their hybrids.

    Args:
        part: of this rank. layout: of all.
    """

    def __init__(self, run: ParallelTraining, part: Part, layout: Layout) -> None:
        self.layout, self.part = layout, part
        self.share = ShareOfLoss(part, layout, run.precision)
        self.loss: Any = self.share
        # ranks that differ in tensor alone compute the same loss
        self.copies = layout.size("sequence", "tensor")
        self.scale = 1.0
        if run.shard:
            self._count_sharded()
            self.scale = float(layout.size("data"))  # FSDP takes the mean over ranks
        elif layout.size("data", "sequence") > 1:
            self._sum_gradients()

    @property
    def needs_tokens(self) -> bool:
        """Whether this rank needs the batch: all do."""
        return True

    def __call__(self, target: Target | None, links: int) -> float:
        """Gradients of the whole batch's loss on this rank's weights.

        Args:
            target: this rank's links. links: of the whole batch.

        Returns:
            What this rank adds to the loss.
        """
        assert target is not None
        loss = self.loss(target, links)
        with waiting("the sums of the backward pass"):
            (loss * self.scale).backward()
        return float(loss.detach()) / self.copies

    @torch.no_grad()
    def errors(self, target: Target | None) -> Tensor | None:
        """NMSE of each of this rank's links; None where another rank says it."""
        assert target is not None
        found = self.share.errors(target)
        return found if self.layout.place["sequence"] == self.layout.place["tensor"] == 0 else None

    def _sum_gradients(self) -> None:
        """DDP over the ranks that share out links and tokens; its buckets are summed, not averaged."""
        from torch.nn.parallel import DistributedDataParallel

        group = self.layout.group("data", "sequence")

        def summed(_, bucket):  # DDP refuses annotations that are texts
            work = all_reduce(bucket.buffer(), group, async_op=True)
            return work.get_future().then(lambda done: done.value()[0])

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # broadcast_buffers has no successor yet that does this
            self.loss = DistributedDataParallel(
                self.loss,
                process_group=group,
                init_sync=False,  # every rank has filled its weights with the same values
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
            )
        self.loss.register_comm_hook(None, summed)

    def _count_sharded(self) -> None:
        from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

        # nothing is changed in place
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        model = self.part.model
        register_fsdp_forward_method(model, "network")
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_custom_all_gather(_all_gather())
                module.set_custom_reduce_scatter(_reduce_scatter())


def _all_gather() -> Any:
    from torch.distributed.fsdp._fully_shard._fsdp_collectives import DefaultAllGather

    class Counted(DefaultAllGather):
        def __call__(self, output_tensor: Tensor, input_tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            TRAFFIC.add("all_gather", input_tensor)
            return super().__call__(output_tensor, input_tensor, *args, **kwargs)

    return Counted()


def _reduce_scatter() -> Any:
    from torch.distributed.fsdp._fully_shard._fsdp_collectives import DefaultReduceScatter

    class Counted(DefaultReduceScatter):
        def __call__(self, output_tensor: Tensor, input_tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            TRAFFIC.add("reduce_scatter", input_tensor)
            return super().__call__(output_tensor, input_tensor, *args, **kwargs)

    return Counted()
