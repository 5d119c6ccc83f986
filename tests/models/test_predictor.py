"""AirlamPredictor: slots that were not measured, and error variances."""

import pytest
import torch

from airlam.channels import load_channel
from airlam.csi import measure
from airlam.loading import load_predictor
from airlam.models import AirlamConfig, AirlamModel, AirlamPredictor

SHAPE = (2, 2, 2)


def model(**changes):
    torch.manual_seed(0)
    backbone = {
        "model_type": "roberta-prelayernorm",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 66,
        "vocab_size": 2,
        "pad_token_id": 1,
    }
    return AirlamModel(AirlamConfig(backbone=backbone, num_tokens=16, num_groups=2, **changes))


def rays(links=12, slots=20, seed=0):
    """CSI of a few rays with Doppler shifts: predictable."""
    g = torch.Generator().manual_seed(seed)
    n = 6

    def steer(size, spread):
        return torch.exp(2j * torch.pi * spread * torch.rand(links, n, 1, generator=g) * torch.arange(size))

    gain = torch.randn(links, n, dtype=torch.complex64, generator=g)
    slot, tone, port = steer(slots, 0.05), steer(12, 0.3), steer(8, 1.0)
    return torch.einsum("ln,lns,lnf,lnp->lsfp", gain, slot, tone, port)[:, :, :, None].to(torch.complex64)


def test_slots_that_were_not_measured_have_no_influence():
    predictor = AirlamPredictor(model())
    h = rays()[:, :16]
    observed = torch.ones(12, 16, dtype=torch.bool)
    observed[:, [3, 9]] = False
    observed[:6, 15] = False
    outs = []
    for filler in (0.0, 7.0, float("nan")):
        x = torch.where(observed[..., None, None, None], h, torch.tensor(filler, dtype=h.dtype))
        outs.append(predictor.predict(x, 4, port_shape=SHAPE, context={"observed": observed}))
    assert torch.equal(outs[0], outs[1]) and torch.equal(outs[0], outs[2])
    everything = predictor.predict(h, 4, port_shape=SHAPE, context={"observed": torch.ones_like(observed)})
    assert torch.equal(everything, predictor.predict(h, 4, port_shape=SHAPE))


def test_saying_that_slots_are_missing_beats_repeating_the_last_one():
    predictor = load_predictor("airlam-tiny")
    h = rays()
    observed = torch.ones(12, 16, dtype=torch.bool)
    observed[:, [4, 8, 12]] = False
    repeated = h[:, :16].clone()
    repeated[:, [4, 8, 12]] = repeated[:, [3, 7, 11]]
    error = [
        (predictor.predict(repeated, 4, port_shape=SHAPE, context=context) - h[:, 16:]).abs().square().mean()
        for context in ({"observed": observed}, None)
    ]
    assert error[0] < 0.5 * error[1]


@pytest.mark.parametrize(
    ("observed", "message"),
    [
        (torch.ones(12, 15, dtype=torch.bool), "one entry for each slot"),
        (torch.ones(12, 16), "must be bool"),
        (torch.zeros(12, 16, dtype=torch.bool), "without any measured slot"),
    ],
)
def test_bad_masks_are_refused(observed, message):
    with pytest.raises(ValueError, match=message):
        AirlamPredictor(model()).predict(rays()[:, :16], 4, port_shape=SHAPE, context={"observed": observed})


def test_variance_has_the_shape_and_scale_of_the_error():
    predictor = AirlamPredictor(model(error_variance=True), chunk=5)
    h = rays()[:, :16].reshape(3, 4, 16, 12, 1, 8)
    future, variance = predictor.predict_with_variance(h, 4, port_shape=SHAPE)
    assert future.shape == variance.shape == (3, 4, 4, 12, 1, 8) and variance.dtype == torch.float32
    assert torch.allclose(future, predictor.predict(h, 4, port_shape=SHAPE)) and bool((variance >= 0).all())
    scaled = predictor.predict_with_variance(10 * h, 4, port_shape=SHAPE)[1]
    assert torch.allclose(scaled, 100 * variance, rtol=1e-3)
    with pytest.raises(ValueError, match="no error variances"):
        AirlamPredictor(model()).predict_with_variance(h, 4, port_shape=SHAPE)


def test_covariance_of_the_error():
    """Hermitian, positive semidefinite, of one polarisation at a time, with the variances on its diagonal; scales."""
    predictor = AirlamPredictor(model(error_variance=True), chunk=5, views=2)
    h = torch.randn(3, 2, 16, 12, 1, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(3))
    future, variance = predictor.predict_with_variance(h, 2, port_shape=SHAPE)
    again, covariance = predictor.predict_with_covariance(h, 2, port_shape=SHAPE)
    assert torch.equal(future, again) and covariance.shape == (3, 2, 2, 12, 1, 8, 8)
    assert torch.allclose(covariance.diagonal(dim1=-2, dim2=-1).real, variance, rtol=1e-4)
    assert torch.allclose(covariance, covariance.mH, atol=1e-6)
    assert float(torch.linalg.eigvalsh(covariance).min()) > -1e-5 * float(variance.max())
    assert not covariance[..., :4, 4:].any()
    huge = predictor.predict_with_covariance(1e9 * h, 2, port_shape=SHAPE)[1]  # beyond what is squared unscaled
    assert torch.allclose(1e-18 * huge, covariance, rtol=1e-3, atol=1e-6)
    assert predictor.predict_with_covariance(h[:0], 2, port_shape=SHAPE)[1].shape == (0, 2, 2, 12, 1, 8, 8)


def test_covariance_is_that_of_rows():
    """``E[conj(e_a) e_b]`` over draws of uncorrelated coefficients: 20,000 draws, within 5 standard errors."""
    from airlam.baselines.eigen_ar import Eigenbasis

    g = torch.Generator().manual_seed(0)
    basis = Eigenbasis.of(torch.randn(1, 9, 3, 1, 8, dtype=torch.complex64, generator=g), 2)
    variance = torch.rand(1, 24, 1, generator=g)
    draws = torch.randn(1, 24, 20000, dtype=torch.complex64, generator=g) * variance.sqrt()
    e = basis.inverse(draws, 1)[0, :, :, 0]  # draw, tone, port
    sample = torch.einsum("dfa,dfb->fab", e.conj(), e) / len(e)
    assert torch.allclose(sample, basis.inverse_covariance(variance, 1)[0, 0, :, 0], atol=5 / 20000**0.5)


def test_variances_of_coefficients_spread_as_their_energy_does():
    """E|h|^2 of random uncorrelated coefficients, against its sample mean."""
    m = model(error_variance=True).eval()
    with torch.no_grad():
        tokens = m.tokenize(rays(2)[:, :16], 1, SHAPE[0])
        variance = torch.rand(2, tokens.power.shape[1], 1, generator=torch.Generator().manual_seed(1))
        stated = tokens.basis.inverse_power(variance, 1)
        draws = [
            tokens.basis.inverse(torch.randn(variance.shape, dtype=torch.complex64) * variance.sqrt(), 1).abs().square()
            for _ in range(2000)
        ]
    # the mean of 2000 exponential draws has a relative standard error of 2.2 %: 5 of them for 200 entries
    assert torch.allclose(torch.stack(draws).mean(0), stated, rtol=0.12)


def test_bfloat16_changes_little_and_leaves_the_model_alone():
    plain = load_predictor("airlam-tiny")
    fast = AirlamPredictor(plain.model, precision="bfloat16")
    assert plain.model.backbone.dtype == torch.float32 and fast.model.backbone.dtype == torch.bfloat16
    h = rays()[:, :16]
    a, b = (p.predict(h, 4, port_shape=SHAPE) for p in (plain, fast))
    # eight bits of mantissa in the backbone move spectra by about a percent; measured: 30 dB below the prediction
    assert float((a - b).abs().square().mean() / a.abs().square().mean()) < 1e-2
    with pytest.raises(ValueError, match="precision must be"):
        AirlamPredictor(plain.model, precision="int4")


def test_stated_variances_cover_the_errors():
    """Over unseen 3GPP links: complex Gaussian errors exceed three times their variance with probability exp(-3)."""
    batch = load_channel({"scenario": "umi", "state": "nlos", "speed_kmh": 30}).sample(24, 20, seed=11)
    past = measure(batch.h[:, :16], 20.0, torch.Generator().manual_seed(0))
    predicted, variance = load_predictor("airlam-tiny").predict_with_variance(past, 4, port_shape=batch.port_shape)
    square = (predicted - batch.h[:, 16:]).abs().square()
    assert 0.5 < float(square.mean() / variance.mean()) < 2
    # 0.95 for errors that are Gaussian given the variance; entries of few links are correlated
    assert 0.85 < float((square < 3 * variance).float().mean()) < 0.99


def test_options_that_cannot_be_honoured_are_refused():
    h = torch.randn(2, 16, 12, 1, 8, dtype=torch.complex64)
    with pytest.raises(ValueError, match="correction on"):
        AirlamPredictor(model(error_variance=True), correction=False).predict_with_variance(h, 4, port_shape=SHAPE)
    with pytest.raises(ValueError, match="chunk is 0"):
        AirlamPredictor(model(), chunk=0)
    with pytest.raises(TypeError, match="correction is 'no'"):
        AirlamPredictor(model(), correction="no")


def test_slots_beyond_the_longest_history_do_not_count():
    longest = model().config.max_history
    observed = torch.zeros(1, longest + 8, dtype=torch.bool)
    observed[:, :4] = True
    h = torch.randn(1, longest + 8, 12, 1, 8, dtype=torch.complex64)
    with pytest.raises(ValueError, match=f"among the last {longest}"):
        AirlamPredictor(model()).predict(h, 2, port_shape=SHAPE, context={"observed": observed})


def test_readings_may_be_lists_in_several_chunks():
    network = model()
    network.add_context(["velocity"])
    h, v = torch.randn(3, 16, 12, 1, 8, dtype=torch.complex64), torch.randn(3, 3)
    context = {"carrier_frequency": 2e9, "slot_duration": 5e-4}
    whole = AirlamPredictor(network).predict(h, 2, port_shape=SHAPE, context={**context, "velocity": v})
    for given in (v.tolist(), v.numpy()):
        parts = AirlamPredictor(network, chunk=2)
        out = parts.predict(h, 2, port_shape=SHAPE, context={**context, "velocity": given})
        assert torch.allclose(out, whole, atol=1e-5)
    with pytest.raises(ValueError, match="velocity_age_s"):
        bad = {**context, "velocity": v, "velocity_age_s": torch.ones(2)}
        AirlamPredictor(network).predict(h, 2, port_shape=SHAPE, context=bad)
