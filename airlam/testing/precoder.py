"""The contract of every precoder, classical or learned: :class:`airlam.interfaces.Precoder`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from airlam.interfaces import Precoder
from airlam.testing.histories import close


def channels(*shape: int, seed: int = 0, dtype: torch.dtype = torch.complex64) -> Tensor:
    """Independent Rayleigh channels ``[..., user, tx_ant]`` of unit mean power."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class PrecoderContract:
    """Tests that every precoder must pass. Subclass it and override :meth:`make`.

    Attributes:
        max_users: most users for a channel with 8 transmit antennas.
        uses_all_power: ``sum_k ||w_k||^2`` equals the power, instead of only staying below it.
        tolerance: of equalities, relative to the largest weight.
    """

    max_users = 8
    uses_all_power = True
    tolerance = 1e-3

    def make(self) -> Precoder:
        """The precoder under test."""
        raise NotImplementedError("override make() to return the precoder under test")

    @pytest.fixture
    def precoder(self) -> Precoder:
        return self.make()

    def test_it_is_a_precoder(self, precoder):
        assert isinstance(precoder, Precoder)
        assert isinstance(precoder.name, str) and precoder.name

    @pytest.mark.parametrize("users", [1, 2, 4])
    @pytest.mark.parametrize("power, no", [(1.0, 0.1), (5.0, 1e-3)])
    def test_shape_dtype_and_power(self, precoder, users, power, no):
        h = channels(6, users, 8)
        w = precoder.precode(h, power, no)
        assert w.shape == (6, 8, users) and w.dtype == h.dtype
        used = w.abs().square().sum((-2, -1))
        assert float(used.max()) <= power * (1 + 1e-4)  # single precision
        if self.uses_all_power:
            assert float(used.min()) >= power * (1 - 1e-4), (
                "power is left unused; if so intended: uses_all_power = False"
            )

    def test_leading_axes(self, precoder):
        h = channels(6, 3, 8)
        w = precoder.precode(h, 1.0, 0.1)
        close(precoder.precode(h.unflatten(0, (2, 3)), 1.0, 0.1).flatten(0, 1), w, self.tolerance)
        close(precoder.precode(h[0], 1.0, 0.1), w[0], self.tolerance)

    def test_independent_of_the_batch(self, precoder):
        h = channels(5, 3, 8)
        w = precoder.precode(h, 1.0, 0.1)
        others = h.clone()
        others[1:] = channels(4, 3, 8, seed=1)
        close(precoder.precode(others, 1.0, 0.1)[0], w[0], self.tolerance)

    def test_exchanging_users_exchanges_beams(self, precoder):
        h, order = channels(4, 3, 8), [2, 0, 1]
        close(precoder.precode(h[:, order], 1.0, 0.1), precoder.precode(h, 1.0, 0.1)[..., order], self.tolerance)

    def test_input_is_left_alone(self, precoder):
        h = channels(4, 3, 8)
        before = h.clone()
        precoder.precode(h, 1.0, 0.1)
        assert torch.equal(h, before)

    def test_output_is_a_plain_tensor(self, precoder):
        w = precoder.precode(channels(2, 3, 8), 1.0, 0.1)
        assert not w.is_inference()
        w *= 2

    def test_views_of_the_same_values(self, precoder):
        """A conjugated and a strided view give what a contiguous copy gives."""
        h = channels(4, 3, 8)
        w = precoder.precode(h, 1.0, 0.1)
        stored = h.conj().resolve_conj()
        for view in (stored.conj(), stored.mT.contiguous().mH, torch.stack([h, h], -1)[..., 0]):
            close(precoder.precode(view, 1.0, 0.1), w, self.tolerance)

    @pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
    @pytest.mark.parametrize("case", ["zero", "equal users", "one user gone", "tiny", "huge"])
    def test_degenerate_channels_stay_finite_and_within_the_power(self, precoder, case, dtype):
        h = channels(3, 4, 8, dtype=dtype)
        if case == "zero":
            h = torch.zeros_like(h)
        elif case == "equal users":
            h = h[:, :1].expand(-1, 4, -1)
        elif case == "one user gone":
            h = h * torch.tensor([1, 1, 0, 1])[:, None]
        else:
            h = h * (1e-12 if case == "tiny" else 1e12)
        for no in (1e-6, 1.0):
            w = precoder.precode(h, 1.0, no)
            assert torch.isfinite(torch.view_as_real(w)).all()
            assert float(w.abs().square().sum((-2, -1)).max()) <= 1 + 1e-4

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"power": 0.0}, "power must be positive"),
            ({"no": -1.0}, "no must be positive"),
            ({"h": torch.full((2, 3, 8), float("nan"), dtype=torch.complex64)}, "NaN"),
            ({"h": torch.zeros(8, dtype=torch.complex64)}, "axes"),
        ],
    )
    def test_bad_input_is_refused(self, precoder, change, message):
        request = {"h": channels(2, 3, 8), "power": 1.0, "no": 0.1} | change
        with pytest.raises(ValueError, match=message):
            precoder.precode(request["h"], request["power"], request["no"])
