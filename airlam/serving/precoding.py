"""Precoders and beam predictors as a service, of this process or of replicas elsewhere."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from airlam.serving.catalogue import Catalogue
from airlam.serving.errors import ServingError, one_line, refused
from airlam.serving.lanes import Lane


class Precoding(Protocol):
    """Where precoders and beam predictors run."""

    async def precode(self, name: str, h: Tensor, power: Any, no: Any, covariance: Tensor | None) -> Tensor:
        """Precoders ``[..., tx_ant, user]``; arguments as :meth:`airlam.interfaces.Precoder.precode`."""
        ...

    async def scores(self, name: str, power: Tensor, measured: Tensor, horizon: int, port_shape: Any) -> Tensor:
        """Logarithms of probabilities ``[batch, horizon, beam]``."""
        ...


class PrecodingHere:
    """In a thread of this process.

    Args:
        waiting: requests that may wait or run.

    Raises:
        ServingError: 400 for arrays that do not fit together; 503 where too much waits.
    """

    def __init__(self, catalogue: Catalogue, waiting: int) -> None:
        self.catalogue, self.lane = catalogue, Lane("precoding", waiting)

    async def precode(self, name: str, h: Tensor, power: Any, no: Any, covariance: Tensor | None) -> Tensor:
        return await self.lane.run(_precode, self.catalogue.precoder(name), h, power, no, covariance)

    async def scores(self, name: str, power: Tensor, measured: Tensor, horizon: int, port_shape: Any) -> Tensor:
        return await self.lane.run(_scores, self.catalogue.beam_model(name), power, measured, horizon, port_shape)


def _precode(precoder: Any, h: Tensor, power: Any, no: Any, covariance: Tensor | None) -> Tensor:
    try:
        with torch.inference_mode():
            return precoder.precode(h, power, no, error_covariance=covariance)
    except (ValueError, TypeError) as error:
        raise refused("csi", one_line(error)) from None
    except torch.linalg.LinAlgError as error:
        raise refused("singular", one_line(error)) from None
    except RuntimeError as error:  # shapes that do not broadcast
        if "must match" in str(error) or "size" in str(error) or "shape" in str(error):
            raise refused("csi", one_line(error)) from None
        raise ServingError(500, "fault", "the precoder failed") from error


def _scores(model: Any, power: Tensor, measured: Tensor, horizon: int, shape: Any) -> Tensor:
    try:
        return model.scores(power, measured, horizon, port_shape=shape)
    except (ValueError, TypeError) as error:
        raise refused("beams", one_line(error)) from None
