"""Hidden states of a frozen backbone whose layers are shared out: forward in micro-batches, then to their owners."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import ScheduleGPipe

from airlam.edge.parallel.engine.collectives import TRAFFIC
from airlam.edge.parallel.engine.stages import CountedStage
from airlam.edge.parallel.launching.watchdog import waiting
from airlam.edge.parallel.layout import Layout
from airlam.models import AirlamModel
from airlam.models.layers import layers_of
from airlam.models.parallel_adapter import hidden_states


class StatesOfLayers(nn.Module):
    """One stage: its layers' outputs are kept aside, the last one goes on to the next stage."""

    def __init__(self, model: AirlamModel, layers: tuple[int, int]) -> None:
        super().__init__()
        self.model, self.layers = model, layers
        self.found: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Features (first stage) or hidden states ``[link, token, width]`` -> hidden states."""
        states = hidden_states(self.model, x, *self.layers)
        self.found.append(torch.stack(states, 2).to(x.dtype))
        return states[-1].to(x.dtype)


class PipelinedStates:
    """Args:
    model: with this rank's layers. layers: (first, stop) of them. layout: of the stages.
    micro_batches: at most so many.
    """

    def __init__(self, model: AirlamModel, layers: tuple[int, int], layout: Layout, micro_batches: int) -> None:
        self.layout, self.most = layout, micro_batches
        self.body = StatesOfLayers(model, layers)
        self.index, self.stages = layout.place["pipeline"], layout.size("pipeline")
        self.group, self.width = layout.group("pipeline"), model.backbone.config.hidden_size
        every = layout.split("pipeline", len(layers_of(model.backbone)))
        self.counts = [count + (stage == 0) for stage, count in enumerate(every)]  # the first layer's input, too
        self.features = model.num_features
        self._schedules: dict[tuple[Any, ...], Any] = {}

    @torch.no_grad()
    def __call__(self, features: Tensor | None, owned: list[int], tokens: int, dtype: torch.dtype) -> Tensor:
        """The hidden states of this rank's links. All ranks call it together.

        Args:
            features: of all links of the batch, on the first stage. owned: links of each rank. tokens: of a link.

        Returns:
            ``[own link, token, state, width]``.
        """
        links = sum(owned)
        schedule = self._schedule(links, tokens, dtype)
        self.body.found.clear()
        with waiting("the activations of other stages"):
            schedule.step(*(() if features is None else (features,)))
        mine = torch.cat(self.body.found)
        self.body.found.clear()
        return self._to_owners(mine, owned)

    def _to_owners(self, mine: Tensor, owned: list[int]) -> Tensor:
        """States of this rank's layers for all links -> states of all layers for this rank's links."""
        _, tokens, count, width = mine.shape
        parts = list(mine.split(owned))
        one = tokens * width
        sent = [0 if rank == self.index else part.numel() for rank, part in enumerate(parts)]
        received = [
            0 if rank == self.index else owned[self.index] * one * states for rank, states in enumerate(self.counts)
        ]
        out = torch.cat(
            [part.flatten() for rank, part in enumerate(parts) if rank != self.index] or [mine.new_empty(0)]
        )
        into = mine.new_empty(sum(received))
        TRAFFIC.add("all_to_all", out)
        with waiting("the hidden states of other layers"):
            dist.all_to_all_single(into, out, received, sent, group=self.group)
        found = []
        for rank, (block, states) in enumerate(zip(into.split(received), self.counts, strict=True)):
            shape = (owned[self.index], tokens, states, width)
            found.append(parts[self.index] if rank == self.index else block.view(shape))
        return torch.cat(found, 2)

    def _schedule(self, links: int, tokens: int, dtype: torch.dtype) -> Any:
        key = (links, tokens, dtype)
        if key not in self._schedules:
            count = next(number for number in range(min(self.most, links), 0, -1) if links % number == 0)
            device, last = self.layout.device, self.width
            first = self.features if self.index == 0 else self.width
            stage = CountedStage(
                self.body,
                self.index,
                self.stages,
                device,
                input_args=(torch.zeros(links // count, tokens, first, dtype=dtype, device=device),),
                output_args=(torch.zeros(links // count, tokens, last, dtype=dtype, device=device),),
                group=self.group,
            )
            self._schedules[key] = ScheduleGPipe(stage, count)
        return self._schedules[key]
