"""The contract of every estimator: :class:`airlam.interfaces.Estimator`."""

from __future__ import annotations

import pytest
import torch

from airlam.interfaces import Estimator
from airlam.testing.histories import PORTS, close, history


class EstimatorContract:
    """Tests that every estimator must pass. Subclass it and override :meth:`make`.

    Attributes:
        axes: the axes that the method estimates along.
    """

    axes: tuple[str, ...] = ("slot", "subcarrier", "column")

    def make(self) -> Estimator:
        """The estimator under test."""
        raise NotImplementedError("override make() to return the estimator under test")

    @pytest.fixture
    def estimator(self) -> Estimator:
        return self.make()

    @staticmethod
    def mask(axis: str) -> torch.Tensor:
        """Every other sample measured."""
        return torch.arange({"slot": 16, "subcarrier": 12, "column": 2}[axis]) % 2 == 0

    def test_shape_dtype_and_finite(self, estimator):
        h = history(3)
        for axis in self.axes:
            out = estimator.estimate(h, self.mask(axis), axis=axis, port_shape=PORTS)
            assert out.shape == h.shape and out.dtype == h.dtype
            assert torch.isfinite(torch.view_as_real(out)).all()

    def test_hidden_samples_are_not_read(self, estimator):
        for axis in self.axes:
            h, mask = history(2), self.mask(axis)
            out = estimator.estimate(h, mask, axis=axis, port_shape=PORTS)
            other = h.clone()
            if axis == "column":
                other.unflatten(-1, PORTS)[..., :, ~mask, :] = 7
            else:
                other.movedim(-4 if axis == "slot" else -3, 0)[~mask] = 7
            close(estimator.estimate(other, mask, axis=axis, port_shape=PORTS), out)

    def test_independent_of_the_batch(self, estimator):
        h = history(4)
        for axis in self.axes:
            out = estimator.estimate(h, self.mask(axis), axis=axis, port_shape=PORTS)
            alone = estimator.estimate(h[:1], self.mask(axis), axis=axis, port_shape=PORTS)
            close(out[:1], alone)

    def test_a_link_without_samples_is_refused(self, estimator):
        axis = self.axes[0]
        with pytest.raises(ValueError, match="without any measured"):
            estimator.estimate(history(2), torch.zeros_like(self.mask(axis)), axis=axis, port_shape=PORTS)
