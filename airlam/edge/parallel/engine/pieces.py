"""Where the tensors of one rank lie in the whole model, in a form that torch's distributed checkpoints understand.

DTensor describes equal parts. A :class:`Held` tensor is a block of any size at any place, so a checkpoint that three
ranks wrote in parts of 3 : 1 : 1 can be read by two in equal parts, or by one process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType


@dataclass(frozen=True)
class Piece:
    """A block of a tensor.

    Attributes:
        shape: of the whole. offsets: where the block begins. sizes: of the block.

    Example:
        >>> Piece.along((4, 6), 0, 1, 2).of(torch.arange(24).view(4, 6)).shape
        torch.Size([2, 6])
    """

    shape: tuple[int, ...]
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]

    @classmethod
    def whole(cls, shape: Any) -> Piece:
        """All of it."""
        return cls(tuple(shape), (0,) * len(shape), tuple(shape))

    @classmethod
    def along(cls, shape: Any, dim: int, first: int, count: int) -> Piece:
        """``count`` entries from ``first`` on along one axis, all of the others."""
        offsets, sizes = [0] * len(shape), list(shape)
        offsets[dim], sizes[dim] = first, count
        return cls(tuple(shape), tuple(offsets), tuple(sizes))

    @property
    def slices(self) -> tuple[slice, ...]:
        """Index of the block in the whole."""
        return tuple(slice(o, o + n) for o, n in zip(self.offsets, self.sizes, strict=True))

    @property
    def numel(self) -> int:
        """Entries of the block."""
        return torch.Size(self.sizes).numel()

    def of(self, whole: Tensor) -> Tensor:
        """The block of a whole tensor."""
        return whole[self.slices]


class Held(Tensor):
    """A tensor of this rank and its place in the whole; see ``torch.distributed._checkpointable``.

    It shares the memory of the tensor that it is made of. ``size()`` is that of the whole, as with a DTensor.
    """

    tensor: Tensor
    piece: Piece

    @staticmethod
    def __new__(cls, tensor: Tensor, piece: Piece) -> Held:
        found = Tensor._make_subclass(cls, tensor.detach())
        found.tensor, found.piece = tensor.detach(), piece
        return found

    def __init__(self, tensor: Tensor, piece: Piece) -> None:
        super().__init__()

    def size(self, dim: int | None = None) -> Any:
        """Shape of the whole."""
        shape = torch.Size(self.piece.shape)
        return shape if dim is None else shape[dim]

    def _chunk(self) -> ChunkStorageMetadata:
        return ChunkStorageMetadata(offsets=torch.Size(self.piece.offsets), sizes=torch.Size(self.piece.sizes))

    def __create_write_items__(self, fqn: str, _: Any) -> list[WriteItem]:
        if not self.piece.numel:
            return []
        data = TensorWriteData(
            chunk=self._chunk(), properties=TensorProperties.create_from_tensor(self.tensor), size=self.size()
        )
        index = MetadataIndex(fqn, torch.Size(self.piece.offsets))
        return [WriteItem(index=index, type=WriteItemType.SHARD, tensor_data=data)]

    def __create_chunk_list__(self) -> list[ChunkStorageMetadata]:
        return [self._chunk()] if self.piece.numel else []

    def __get_tensor_shard__(self, index: MetadataIndex) -> Tensor:
        return self.tensor
