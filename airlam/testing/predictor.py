"""The contract of every predictor, classical or learned: :class:`airlam.interfaces.Predictor`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from airlam.interfaces import Predictor
from airlam.metrics import nmse
from airlam.testing.histories import CONTEXT, PORTS, close, history

VIEWS = {
    "strided": lambda x: torch.stack([x, torch.zeros_like(x)], -1)[..., 0],
    "transposed": lambda x: x.mT.contiguous().mT,
    "conjugated": lambda x: x.conj().resolve_conj().conj(),
    "negated": lambda x: torch._neg_view(-x),
}


class PredictorContract:
    """Tests that every predictor must pass. Subclass it and override :meth:`make`.

    Attributes:
        one_band: the method was trained for 12 subcarriers and 8 ports: other sizes may raise a ``ValueError``.
        bounded_horizon: slots ahead for which a prediction may not grow without bound.
        static_error: largest NMSE on a static, noise-free channel. The default lets 6 % of the energy miss.
        variance_factor: of a method with ``predict_with_variance``: how far the mean of the stated variance may be from
            the mean square of the error, as a factor. None: it may say anything.
    """

    one_band = False
    static_error = 0.06
    bounded_horizon = 64
    variance_factor: float | None = 3.0

    def make(self) -> Predictor:
        """The predictor under test."""
        raise NotImplementedError("override make() to return the predictor under test")

    @pytest.fixture
    def predictor(self) -> Predictor:
        return self.make()

    @staticmethod
    def predict(predictor: Predictor, h_past: Tensor, num_future: int = 4, **options: Any) -> Tensor:
        with torch.no_grad():
            return predictor.predict(h_past, num_future, **{"port_shape": PORTS, "context": CONTEXT, **options})

    def test_it_is_a_predictor(self, predictor):
        assert isinstance(predictor, Predictor)
        assert isinstance(predictor.name, str) and predictor.name

    @pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
    def test_shape_and_dtype(self, predictor, dtype):
        out = self.predict(predictor, history(3, dtype=dtype), 5)
        assert out.shape == (3, 5, 12, 1, 8) and out.dtype == dtype
        assert torch.isfinite(torch.view_as_real(out)).all()

    def test_leading_axes(self, predictor):
        h_past = history(6)
        out = self.predict(predictor, h_past)
        close(self.predict(predictor, h_past.unflatten(0, (2, 3))).flatten(0, 1), out)
        close(self.predict(predictor, h_past[0]), out[0])

    def test_independent_of_the_batch(self, predictor):
        h_past = history(5)
        out = self.predict(predictor, h_past)
        others = h_past.clone()
        for factor in (1000, 0):
            others[1:] *= factor
            close(self.predict(predictor, others)[0], out[0])

    def test_input_is_left_alone(self, predictor):
        h_past = history(2)
        before = h_past.clone()
        self.predict(predictor, h_past)
        assert torch.equal(h_past, before)

    def test_output_is_a_plain_tensor(self, predictor):
        """It can be written to, and autograd can keep it."""
        out = predictor.predict(history(2), 4, port_shape=PORTS, context=CONTEXT)
        assert not out.is_inference()
        weight = torch.ones((), requires_grad=True)
        (out * weight).abs().sum().backward()
        assert weight.grad is not None and bool(torch.isfinite(weight.grad))
        out = out.detach()
        doubled = 2 * out
        out *= 2
        assert torch.equal(out, doubled)

    def test_deterministic(self, predictor):
        h_past = history(2)
        assert torch.equal(self.predict(predictor, h_past), self.predict(predictor, h_past))

    @pytest.mark.parametrize("view", VIEWS)
    def test_a_view_gives_what_its_copy_gives(self, predictor, view):
        """To the bit where only flags differ; strides may change the order of sums."""
        h_past, speed = history(3), torch.tensor([10.0, 20.0, 30.0])
        expected = self.predict(predictor, h_past, context={**CONTEXT, "speed": speed})
        found = self.predict(predictor, VIEWS[view](h_past), context={**CONTEXT, "speed": torch._neg_view(-speed)})
        assert not found.is_conj() and not found.is_neg()
        if view in ("conjugated", "negated"):
            assert torch.equal(found, expected)
        else:
            close(found, expected)

    def test_the_adjoint_is_taken_as_it_is(self, predictor):
        """``g.mH``, as users write it: its transposed and conjugated memory is no copy."""
        g = history(2, rx=2)
        close(self.predict(predictor, g.mH.mH), self.predict(predictor, g))

    def test_equivariant_to_global_phase(self, predictor):
        h_past, turn = history(3), torch.polar(torch.tensor(1.0), torch.tensor(1.234))
        close(self.predict(predictor, turn * h_past), turn * self.predict(predictor, h_past))

    @pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e4])
    def test_equivariant_to_scale(self, predictor, scale):
        h_past = history(3)
        close(self.predict(predictor, scale * h_past) / scale, self.predict(predictor, h_past))

    @pytest.mark.parametrize("exponent", [-20, -12, 18])
    def test_any_scale(self, predictor, exponent):
        """Single precision squares to zero or infinity there; the prediction scales all the same."""
        h_past, scale = history(4), 10.0**exponent
        scaled = self.predict(predictor, h_past * scale) / scale
        # 1e-4: dividing by the peak rounds anew, and an AR roll-out amplifies that
        assert float(nmse(scaled, self.predict(predictor, h_past))) < 1e-4

    def test_zero_csi(self, predictor):
        out = self.predict(predictor, torch.zeros(2, 16, 12, 1, 8, dtype=torch.complex64))
        assert torch.equal(out, torch.zeros_like(out))

    def test_constant_csi_stays_near(self, predictor):
        h_past = history(2)[:, :1].expand(-1, 16, -1, -1, -1)
        assert float(nmse(self.predict(predictor, h_past), h_past[:, :4])) <= self.static_error

    @pytest.mark.parametrize("slots", [1, 2, 3, 5, 8])
    def test_short_histories(self, predictor, slots):
        out = self.predict(predictor, history(2, slots=slots))
        assert out.shape == (2, 4, 12, 1, 8) and torch.isfinite(torch.view_as_real(out)).all()

    def test_long_horizon_stays_bounded(self, predictor):
        """Growing exponentials and noise: energy of the prediction at most 10 times that of the strongest slot."""
        grow = torch.exp(0.2 * torch.arange(16.0))[:, None, None, None]
        noise = torch.randn(2, 16, 12, 1, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
        for h_past in (grow * history(2), history(2) + 3 * noise):
            out = self.predict(predictor, h_past, self.bounded_horizon)
            limit = 10 * h_past.abs().square().sum((-3, -2, -1)).amax(-1)
            grows = "the prediction grows beyond 10 times the strongest slot's energy; bound it (see bounded_horizon)"
            assert bool((out.abs().square().sum((-3, -2, -1)) <= limit[:, None]).all()), grows

    def test_several_receive_antennas(self, predictor):
        out = self.predict(predictor, history(2, rx=2))
        assert out.shape == (2, 4, 12, 2, 8) and torch.isfinite(torch.view_as_real(out)).all()

    def test_no_port_shape_means_one_line(self, predictor):
        h_past = history(2)
        line = self.predict(predictor, h_past, port_shape=(1, 8, 1))
        close(self.predict(predictor, h_past, port_shape=None), line)

    def test_single_antenna_single_tone(self, predictor):
        h_past = history(2)[..., :1, :, :1]
        if self.one_band:
            with pytest.raises(ValueError, match="was made for 12 subcarriers|do not divide"):
                self.predict(predictor, h_past, port_shape=(1, 1, 1))
            return
        out = self.predict(predictor, h_past, port_shape=(1, 1, 1))
        assert out.shape == (2, 4, 1, 1, 1) and torch.isfinite(torch.view_as_real(out)).all()

    def test_a_batch_without_links(self, predictor):
        assert self.predict(predictor, history(4)[:0]).shape == (0, 4, 12, 1, 8)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_nan_is_refused(self, predictor, bad):
        h_past = history(2)
        h_past[1, 3, 2, 0, 1] = bad
        with pytest.raises(ValueError, match="NaN or infinity"):
            self.predict(predictor, h_past)

    @pytest.mark.parametrize("num_future", [0, -1, 10**12])
    def test_horizon_must_be_positive(self, predictor, num_future):
        with pytest.raises(ValueError, match="num_future"):
            self.predict(predictor, history(1), num_future)

    def test_port_shape_must_fit(self, predictor):
        with pytest.raises(ValueError, match="port_shape"):
            self.predict(predictor, history(1), port_shape=(2, 4, 4))

    def test_rank_and_type(self, predictor):
        with pytest.raises(ValueError, match="axes"):
            self.predict(predictor, torch.zeros(16, 12, 8, dtype=torch.complex64))
        with pytest.raises(TypeError, match="complex"):
            self.predict(predictor, torch.zeros(2, 16, 12, 1, 8))

    @pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
    def test_complex32_is_refused_in_words(self, predictor):
        with pytest.raises(TypeError, match=r"h_past is complex32.*give h_past.to\(torch.complex64\)"):
            self.predict(predictor, history(2).to(torch.complex32))

    def test_variance_has_the_size_of_the_error(self, predictor):
        """Over many links; nothing to test where the method states no variance."""
        if not hasattr(predictor, "predict_with_variance"):
            return
        h = history(64, slots=20)
        clean, h_past = h[:, 16:], h[:, :16]
        h_hat, variance = predictor.predict_with_variance(h_past, 4, port_shape=PORTS, context=CONTEXT)
        assert variance.shape == h_hat.shape and not variance.is_complex() and bool((variance >= 0).all())
        close(self.predict(predictor, h_past), h_hat)
        if self.variance_factor is not None:
            error = float((h_hat - clean).abs().square().mean()) - 0.01  # less the noise of `clean`
            assert error / self.variance_factor <= float(variance.mean()) <= error * self.variance_factor
