"""Collectives that are counted, and the differentiable ones that unequal shares need.

torch's own differentiable collectives and DTensor share out in equal parts. These few take parts of any size, on plain
:mod:`torch.distributed`. Every byte that this process hands to a collective is counted in :data:`TRAFFIC`: an
all-reduce of ``x`` counts ``x``, an all-gather this rank's padded part, a send what is sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from airlam.edge.parallel.launching.watchdog import waiting

Group = dist.ProcessGroup | None


class Traffic:
    """Bytes and calls of this process, by kind of collective.

    Example:
        >>> traffic = Traffic()
        >>> traffic.add("all_reduce", torch.zeros(4))
        >>> traffic.take()
        {'all_reduce': 16}
        >>> traffic.take()
        {}
    """

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def add(self, kind: str, x: Tensor) -> None:
        """Count ``x``."""
        self.bytes[kind] += x.numel() * x.element_size()
        self.calls[kind] += 1

    def take(self) -> dict[str, int]:
        """Bytes by kind since the last call."""
        found = dict(self.bytes)
        self.bytes.clear()
        self.calls.clear()
        return found


TRAFFIC = Traffic()


def all_reduce(x: Tensor, group: Group, *, kind: str = "all_reduce", async_op: bool = False) -> Any:
    """Sum ``x`` over the group, in place; with ``async_op`` the handle to wait for.

    Args:
        kind: what it is counted as: ``control`` for the few bytes that are no gradient and no activation.
    """
    TRAFFIC.add(kind, x)
    with waiting(f"an all-reduce ({kind})" if kind != "all_reduce" else "an all-reduce"):
        return dist.all_reduce(x, group=group, async_op=async_op)


def star_reduce(x: Tensor, group: Group) -> None:
    """Sum ``x`` over the group, in place: the first rank, the server, collects and adds, and sends the sum to all."""
    server = dist.get_global_rank(group, 0) if group is not None else 0
    with waiting("a sum at the server"):
        TRAFFIC.add("reduce", x)
        dist.reduce(x, server, group=group)
        TRAFFIC.add("broadcast", x)
        dist.broadcast(x, server, group=group)


def total(x: Tensor, group: Group, star: bool) -> Tensor:
    """The sum of ``x`` over the group, a new tensor."""
    x = x.contiguous().clone()
    if star:
        star_reduce(x, group)
    else:
        all_reduce(x, group)
    return x


class _Copy(torch.autograd.Function):
    """Identity; its gradient is the sum over the group."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group, star: bool) -> Tensor:
        ctx.group, ctx.star = group, star
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return total(grads[0], ctx.group, ctx.star), None, None


class _Reduce(torch.autograd.Function):
    """Sum over the group; its gradient is passed on as it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group, star: bool) -> Tensor:
        return total(x, group, star)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0], None, None


class _Gather(torch.autograd.Function):
    """Parts of any size, concatenated over the group; the gradient of a part is summed over all ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, sizes: Sequence[int], group: Group) -> Tensor:
        ctx.dim, ctx.sizes, ctx.group = dim, sizes, group
        shape = list(x.shape)
        shape[dim] = max(sizes) - x.shape[dim]
        mine = torch.cat([x, x.new_zeros(shape)], dim).contiguous()
        TRAFFIC.add("all_gather", mine)
        parts = [torch.empty_like(mine) for _ in sizes]
        with waiting("an all-gather"):
            dist.all_gather(parts, mine, group=group)
        return torch.cat([part.narrow(dim, 0, size) for part, size in zip(parts, sizes, strict=True)], dim)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        # gloo has no reduce_scatter of unequal parts
        grad = total(grads[0], ctx.group, False)
        rank = dist.get_rank(ctx.group)
        return grad.narrow(ctx.dim, sum(ctx.sizes[:rank]), ctx.sizes[rank]), None, None, None


def copy_to(x: Tensor, group: Group, *, star: bool = False) -> Tensor:
    """The input of a layer whose output features are shared out: ``x`` itself; its gradient is summed over the group.

    Args:
        star: sums run over the server instead of a ring.
    """
    return _Copy.apply(x, group, star)


def reduce_from(x: Tensor, group: Group, *, star: bool = False) -> Tensor:
    """The output of a layer whose input features are shared out: the sum of all parts."""
    return _Reduce.apply(x, group, star)


def gather_parts(x: Tensor, dim: int, sizes: Sequence[int], group: Group) -> Tensor:
    """All parts of a tensor that is shared out along ``dim`` in parts of ``sizes``."""
    return _Gather.apply(x, dim, sizes, group)
