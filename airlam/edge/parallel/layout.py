"""Which rank does what: a mesh of ranks with up to two dimensions larger than one, and the share of each rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airlam.edge.parallel.shares import share_out
from airlam.errors import RecipeError

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

DIMS = ("data", "pipeline", "sequence", "tensor")  # outermost first
WHAT = {"data": "links of a batch", "pipeline": "layers", "sequence": "tokens", "tensor": "attention heads"}


@dataclass(frozen=True)
class Mesh:
    """How many ranks each dimension has. Ranks count through ``tensor`` first, ``data`` last.

    Example:
        >>> Mesh(data=2, tensor=2).place(3)
        {'data': 1, 'pipeline': 0, 'sequence': 0, 'tensor': 1}
    """

    data: int = 1
    pipeline: int = 1
    sequence: int = 1
    tensor: int = 1

    @property
    def sizes(self) -> dict[str, int]:
        """dimension -> ranks."""
        return {name: getattr(self, name) for name in DIMS}

    @property
    def ranks(self) -> int:
        """Ranks in all."""
        product = 1
        for size in self.sizes.values():
            product *= size
        return product

    def place(self, rank: int) -> dict[str, int]:
        """dimension -> index of this rank along it."""
        found = {}
        for name in reversed(DIMS):
            rank, found[name] = divmod(rank, getattr(self, name))
        return {name: found[name] for name in DIMS}


def compute_device() -> torch.device:
    """Where this rank computes: the GPU that NCCL was started for, else the CPU."""
    import torch
    import torch.distributed as dist

    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


class Layout:
    """This rank's place in the mesh and its process groups.

    Args:
        mesh: of all ranks; the default process group must exist.
        shares: dimension -> weights of its ranks, whole numbers; a missing one: equal.
        star: whether sums of the tensor dimension run over a server instead of a ring.
    """

    def __init__(self, mesh: Mesh, shares: dict[str, Sequence[int]] | None = None, *, star: bool = False):
        import torch.distributed as dist
        from torch.distributed.device_mesh import init_device_mesh

        self.mesh, self.star = mesh, star
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        if mesh.ranks != self.world:
            raise RecipeError(f"the mesh has {mesh.ranks} ranks ({mesh.sizes}), but {self.world} were started")
        self.place = mesh.place(self.rank)
        self.device = compute_device()
        self.device_mesh = init_device_mesh(self.device.type, tuple(mesh.sizes.values()), mesh_dim_names=DIMS)
        self.shares: dict[str, Sequence[int]] = {}
        for name in DIMS:
            weights = (shares or {}).get(name) or [1] * mesh.sizes[name]
            if len(weights) != mesh.sizes[name]:
                raise RecipeError(
                    f"shares.{name} has {len(weights)} entries, but {mesh.sizes[name]} ranks share the {WHAT[name]}"
                )
            self.shares[name] = list(weights)
        self._groups: dict[tuple[str, ...], Any] = {}
        for names in (("data", "sequence"), ("sequence", "tensor"), ("pipeline", "sequence", "tensor")):
            self._groups[names] = self._joint(names)

    def size(self, *names: str) -> int:
        """Ranks along some dimensions together."""
        product = 1
        for name in names:
            product *= self.mesh.sizes[name]
        return product

    def group(self, *names: str) -> dist.ProcessGroup:
        """This rank's group along one dimension, or along (data, sequence), (sequence, tensor), (pipeline, sequence,
        tensor) together."""
        return self.device_mesh.get_group(names[0]) if len(names) == 1 else self._groups[names]

    def split(self, name: str, count: int) -> list[int]:
        """``count`` things shared out over the ranks of a dimension.

        Raises:
            RecipeError: fewer things than ranks.
        """
        return share_out(count, self.shares[name], what=WHAT[name])

    def own(self, name: str, count: int) -> tuple[int, int]:
        """(first, stop) of this rank's part of ``count`` things along a dimension."""
        parts, index = self.split(name, count), self.place[name]
        return sum(parts[:index]), sum(parts[: index + 1])

    def _joint(self, names: tuple[str, ...]) -> Any:
        """A group of all ranks that differ from this one only along ``names``."""
        import torch.distributed as dist

        families: dict[tuple[int, ...], list[int]] = {}
        for rank in range(self.world):
            place = self.mesh.place(rank)
            families.setdefault(tuple(place[n] for n in DIMS if n not in names), []).append(rank)
        mine = None
        for ranks in families.values():  # every rank makes every group, in the same order
            group = dist.new_group(ranks)
            if self.rank in ranks:
                mine = group
        return mine
