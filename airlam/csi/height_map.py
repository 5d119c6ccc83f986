"""Roofs and ground of a site, seen from above: a sensor that is no scalar."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class HeightMap:
    """Heights on a square grid; beyond its edge the nearest cell counts.

    Attributes:
        height: ``[y, x]`` m in the site's coordinates, of what is seen from above: roofs, or the ground.
        corner: (x, y) m, the outer corner of the first cell. step: side of a cell [m].

    Raises:
        ValueError: another shape, NaN or infinite heights, a step that is not positive.

    Example:
        >>> wall = HeightMap(torch.tensor([[0.0, 20.0, 0.0]]), (0.0, 0.0), 5.0)
        >>> wall.at(torch.tensor([[2.0, 1.0], [6.0, 1.0]]))
        tensor([ 0., 20.])
        >>> wall.above_line(torch.tensor([2.5, 2.5, 10.0]), torch.tensor([12.5, 2.5, 2.0]), 5)
        tensor([-9.2000, 12.4000, 14.0000, 15.6000, -2.8000])
    """

    height: Tensor
    corner: tuple[float, float]
    step: float

    def __post_init__(self) -> None:
        if self.height.dim() != 2 or not self.height.numel():
            raise ValueError(f"height must be [y, x], got shape {list(self.height.shape)}")
        if not bool(torch.isfinite(self.height).all()):
            raise ValueError("height holds NaN or infinite values; write the ground where nothing was seen")
        if not self.step > 0:
            raise ValueError(f"step is {self.step:g}, but must be above 0 m")

    def at(self, place: Tensor) -> Tensor:
        """Heights ``[...]`` m at places ``[..., 2]``."""
        rows, columns = self.height.shape
        x = ((place[..., 0] - self.corner[0]) / self.step).floor().long().clamp(0, columns - 1)
        y = ((place[..., 1] - self.corner[1]) / self.step).floor().long().clamp(0, rows - 1)
        return self.height[y, x]

    def above_line(self, start: Tensor, end: Tensor, points: int) -> Tensor:
        """How far roofs reach above the straight line from ``start`` to ``end`` ``[..., 3]`` m: ``[..., points]`` m, at
        the middles of ``points`` equal parts; negative where they stay below."""
        share = (torch.arange(points, dtype=start.dtype) + 0.5) / points
        line = start[..., None, :] + (end - start)[..., None, :] * share[:, None]
        return self.at(line[..., :2]) - line[..., 2]
