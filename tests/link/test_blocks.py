"""Blocks of a Sionna link: the values of airlam's own calls, Sionna's RZF, and a coded multi-user link with both."""

from __future__ import annotations

import subprocess
import sys
from functools import cache, partial

import numpy as np
import pytest
import torch

from airlam import load_precoder, load_predictor
from airlam.csi import from_sionna, to_sionna
from airlam.link import PrecoderBlock, PredictorBlock

PORTS, USERS, TONES = (2, 2, 2), 4, 24


def h(*shape: int, seed: int = 0, dtype: torch.dtype = torch.complex64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def parts(users: int = USERS, antennas: int = 1, streams: int | None = None, cells: int = 1, **options):
    """Sionna's resource grid and stream management of ``cells`` base stations with ``users`` users each."""
    from sionna.phy.mimo import StreamManagement
    from sionna.phy.ofdm import ResourceGrid

    streams = users * antennas if streams is None else streams
    grid = {"num_ofdm_symbols": 14, "fft_size": TONES, "subcarrier_spacing": 180e3, "num_tx": cells}
    association = np.kron(np.eye(cells, dtype=int), np.ones((users, 1), int))
    return ResourceGrid(**grid, num_streams_per_tx=streams, **options), StreamManagement(association, streams)


def symbols(cells: int = 1, streams: int = USERS, batch: int = 3) -> torch.Tensor:
    return h(batch, cells, streams, 14, TONES, seed=9)


# ---- prediction


@pytest.mark.parametrize("name", ["hold", "ar", "airlam-tiny"])
def test_predictions_are_those_of_the_predictor(name):
    past = h(2, 3, 2, 2, 8, 16, 12)  # 3 receivers of 2 antennas, 2 transmitters
    found = PredictorBlock(name, 2, port_shape=PORTS)(past)
    links = load_predictor(name).predict(from_sionna(past), 2, port_shape=PORTS)
    assert found.shape == (2, 3, 2, 2, 8, 2, 12)
    assert torch.allclose(from_sionna(found), links, atol=1e-5)  # single precision; batches of another shape


def test_one_symbol_of_each_slot_is_seen_and_predictions_are_held():
    past = h(2, 3, 1, 1, 8, 5 * 14, 12)
    found = PredictorBlock("ar", 2, symbols_per_slot=14, csi_symbol=3, port_shape=PORTS)(past)
    want = PredictorBlock("ar", 2, port_shape=PORTS)(past[..., 3::14, :])
    assert torch.equal(found, want.repeat_interleave(14, dim=5))
    middle = PredictorBlock("hold", symbols_per_slot=14)(past)
    assert torch.equal(middle, past[..., -7:-6, :].expand_as(middle))


def test_an_uplink_estimate_becomes_the_downlink():
    """By reciprocity: the same as from the down-link's own estimate."""
    downlink = h(2, 4, 2, 1, 8, 6, 12)
    uplink = downlink.permute(0, 3, 4, 1, 2, 5, 6)  # the base station receives
    for error in (None, "covariance"):
        predict = PredictorBlock("airlam-tiny", 2, port_shape=PORTS, uplink=True, error=error)
        want = PredictorBlock("airlam-tiny", 2, port_shape=PORTS, error=error)(downlink)
        found = predict(uplink)
        for a, b in zip(*((x,) if error is None else x for x in (found, want)), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("error", ["variance", "covariance"])
def test_stated_errors(error):
    past = h(2, 4, 1, 1, 8, 8, 12)
    h_hat, found = PredictorBlock("airlam-tiny", 2, port_shape=PORTS, error=error)(past)
    stated = getattr(load_predictor("airlam-tiny"), f"predict_with_{error}")
    links, want = stated(from_sionna(past), 2, port_shape=PORTS)
    assert torch.allclose(from_sionna(h_hat), links, atol=1e-5)
    if error == "variance":
        assert not found.is_complex() and torch.allclose(from_sionna(found), want, atol=1e-5)
    else:
        assert found.shape == (2, 4, 1, 1, 8, 8, 2, 12)
        one = found[1, 2, 0, 0, :, :, 1, 5]
        assert torch.allclose(one, want.unflatten(0, (2, 4))[1, 2, 1, 5, 0], atol=1e-5)


def test_double_precision_and_own_objects():
    class Last:
        name = "last"

        def predict(self, h_past, num_future, *, port_shape=None, context=None):
            assert h_past.dtype == torch.complex128 and context == {"speed": 3}
            return h_past[..., -1:, :, :, :].expand(*h_past.shape[:-4], num_future, -1, -1, -1)

    past = h(2, 4, 1, 1, 8, 8, 12)
    found = PredictorBlock(Last(), 3, precision="double")(past, {"speed": 3})
    assert found.dtype == torch.complex128 and torch.equal(found, past[..., -1:, :].expand_as(found).to(found.dtype))


@pytest.mark.parametrize(
    ("options", "shape", "error", "message"),
    [
        ({"symbols_per_slot": 0}, None, ValueError, "symbols_per_slot must be at least 1"),
        ({"symbols_per_slot": 7, "csi_symbol": 7}, None, ValueError, "the symbols 0 to 6"),
        ({"error": "bias"}, None, ValueError, "error must be 'variance', 'covariance' or None"),
        ({"predictor": "ar", "error": "covariance"}, None, TypeError, "has no predict_with_covariance"),
        ({}, (2, 8, 12, 1, 8), ValueError, "7 axes"),
        ({"symbols_per_slot": 14}, (1, 1, 1, 1, 8, 20, 12), ValueError, "whole slots of 14"),
        ({"port_shape": (2, 4, 4)}, (1, 1, 1, 1, 8, 20, 12), ValueError, "folds 32 ports"),
        ({"num_future": 0}, (1, 1, 1, 1, 8, 20, 12), ValueError, "num_future must be at least 1"),
    ],
)
def test_what_cannot_be_predicted(options, shape, error, message):
    with pytest.raises(error, match=message):
        PredictorBlock(**({"predictor": "hold"} | options))(h(*shape))


# ---- precoding


@pytest.mark.parametrize(
    ("setup", "channel"),
    [
        ({}, (3, USERS, 1, 1, 8, 14, TONES)),
        ({"users": 2, "antennas": 2}, (3, 2, 2, 1, 8, 14, TONES)),
        ({"users": 2, "cells": 2, "antennas": 2}, (3, 4, 2, 2, 8, 14, TONES)),
        ({"num_guard_carriers": (3, 2), "dc_null": True}, (3, USERS, 1, 1, 8, 14, TONES)),
    ],
)
def test_rzf_is_sionnas(setup, channel):
    """With alpha = no and the power of Sionna's unit-norm beams; matrices and effective channels too."""
    from sionna.phy.ofdm import RZFPrecoder

    grid, streams = parts(**setup)
    x, csi = symbols(channel[3]), h(*channel)
    # nulled subcarriers carry nothing in a mapped grid
    x[..., sorted(set(range(TONES)) - set(grid.effective_subcarrier_ind.tolist()))] = 0
    want, effective = RZFPrecoder(grid, streams, return_effective_channel=True)(x, csi, alpha=0.1)
    found, seen = PrecoderBlock(grid, streams, return_effective_channel=True)(x, csi, 0.1)
    assert found.shape == want.shape and seen.shape == effective.shape
    assert torch.allclose(found, want, atol=1e-4) and torch.allclose(seen, effective, atol=1e-4)  # float32 solves


def test_effective_channel_of_the_true_channel():
    """Of imperfect CSI, as Sionna's RZFPrecodedChannel with h_hat."""
    from sionna.phy.ofdm import RZFPrecodedChannel

    grid, streams = parts()
    told, truth = h(3, USERS, 1, 1, 8, 14, TONES), h(3, USERS, 1, 1, 8, 14, TONES, seed=1)
    want = RZFPrecodedChannel(grid, streams)(truth, torch.ones(3, 1, USERS, 14, TONES), h_hat=told, alpha=0.1)
    _, seen = PrecoderBlock(grid, streams, return_effective_channel=True)(symbols(), told, 0.1, h_true=truth)
    assert torch.allclose(seen, want, atol=1e-4)


@pytest.mark.parametrize("name", ["mrt", "slnr", "wmmse", "airlam-precoder"])
def test_precoders_are_airlams(name):
    grid, streams = parts()
    csi, no = h(3, USERS, 1, 1, 8, 1, TONES), torch.tensor([0.1, 0.2, 0.4])
    found = PrecoderBlock(grid, streams, name, power=2.0).matrices(csi, no)
    rows = csi[:, :, 0, 0].permute(0, 3, 4, 1, 2)  # batch, symbol, tone, user, tx_ant
    want = load_precoder(name).precode(rows, 2.0, no[:, None, None, None].expand(rows.shape[:4]))
    assert torch.allclose(found[:, 0], want, atol=1e-5)
    assert torch.allclose(found.abs().square().sum((-2, -1)), torch.tensor(2.0), atol=1e-4)  # power, not amplitude


@pytest.mark.parametrize("name", ["rzf", "wmmse", "type1", "airlam-precoder"])
def test_precoding_in_double_precision(name):
    x, csi = symbols(), h(3, USERS, 1, 1, 8, 1, TONES)
    found = PrecoderBlock(*parts(), name, precision="double")(x, csi, 1)
    assert found.dtype == torch.complex128
    assert torch.allclose(found.to(torch.complex64), PrecoderBlock(*parts(), name)(x, csi, 1.0), atol=1e-4)


def test_noise_of_each_user():
    grid, streams = parts()
    csi, no = h(3, USERS, 1, 1, 8, 1, TONES), 0.1 + torch.arange(12.0).reshape(3, USERS)
    found = PrecoderBlock(grid, streams, "slnr").matrices(csi, no)
    rows = csi[:, :, 0, 0].permute(0, 3, 4, 1, 2)
    want = load_precoder("slnr").precode(rows, 4.0, no[:, None, None].expand(rows.shape[:4]))
    assert torch.allclose(found[:, 0], want, atol=1e-5)


def test_one_entry_serves_its_symbols_and_estimates_lack_nulled_tones():
    options = {"num_guard_carriers": (3, 2), "dc_null": True}
    grid, streams = parts(**options)
    precode, x = PrecoderBlock(grid, streams), symbols()
    slots = h(3, USERS, 1, 1, 8, 2, grid.num_effective_subcarriers)
    found = precode(x, slots, 0.1)
    assert torch.allclose(found, precode(x, slots.repeat_interleave(7, dim=5), 0.1), atol=1e-5)
    full = h(3, USERS, 1, 1, 8, 2, TONES, seed=5)
    full[..., torch.as_tensor(grid.effective_subcarrier_ind)] = slots
    assert torch.equal(found, precode(x, full, 0.1))
    assert not found[..., [0, 1, 2, 12, -1]].any()


def test_one_stream_for_a_user_of_two_antennas():
    grid, streams = parts(users=4, antennas=2, streams=4)
    csi = h(3, 4, 2, 1, 8, 1, TONES)
    found = PrecoderBlock(grid, streams, load_precoder("rzf", rx_axis=True)).matrices(csi, 0.1)
    rows = csi[:, :, :, 0].permute(0, 4, 5, 1, 2, 3)
    want = load_precoder("rzf", rx_axis=True).precode(rows, 4.0, 0.1)
    assert torch.allclose(found[:, 0], want, atol=1e-5)
    with pytest.raises(ValueError, match=r"give precoder=load_precoder\('rzf', rx_axis=True\), or 8 streams"):
        PrecoderBlock(grid, streams).matrices(csi, 0.1)


def test_a_covariance_reaches_the_precoder():
    grid, streams = parts()
    past = h(3, USERS, 1, 1, 8, 8, TONES)
    h_hat, covariance = PredictorBlock("airlam-tiny", 2, port_shape=PORTS, error="covariance")(past)
    found = PrecoderBlock(grid, streams, "rzf").matrices(h_hat, 0.1, covariance)
    rows = h_hat[:, :, 0, 0].permute(0, 3, 4, 1, 2)
    errors = covariance[:, :, 0, 0].permute(0, 4, 5, 1, 2, 3)
    want = load_precoder("rzf").precode(rows, 4.0, 0.1, error_covariance=errors)
    assert torch.allclose(found[:, 0], want, atol=1e-4)
    assert not torch.allclose(found, PrecoderBlock(grid, streams, "rzf").matrices(h_hat, 0.1), atol=1e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": 1}, "x int must be"),
        ({"x": symbols(streams=3)}, r"num_ofdm_symbols, fft_size. with \(1, 4, 14, 24\)"),
        ({"h": h(3, USERS, 1, 1, 8, TONES)}, "must be .batch_size, num_rx"),
        ({"h": h(2, USERS, 1, 1, 8, 1, TONES)}, "with batch_size 3"),
        ({"h": h(3, 3, 1, 1, 8, 1, TONES)}, "has 3 receivers"),
        ({"h": h(3, USERS, 1, 1, 8, 5, TONES)}, "do not divide the 14"),
        ({"h": h(3, USERS, 1, 1, 8, 1, 20)}, "there are 20 subcarriers, but the grid has 24"),
        ({"h": h(3, USERS, 3, 1, 8, 1, TONES)}, "has 3 antennas and one stream"),
        ({"h": h(3, USERS, 1, 1, 8, 1, TONES) * torch.nan}, "NaN"),
        ({"no": 0.0}, "no must be positive"),
        ({"no": torch.ones(5)}, r"\[batch_size\] or \[batch_size, num_rx\]"),
        ({"error_covariance": h(3, USERS, 1, 1, 8, 4, 1, TONES)}, "with num_tx_ant twice"),
    ],
)
def test_what_cannot_be_precoded(change, message):
    good = {"x": symbols(), "h": h(3, USERS, 1, 1, 8, 1, TONES), "no": 0.1}
    with pytest.raises(ValueError, match=message):
        PrecoderBlock(*parts())(**(good | change))


def test_bad_options_and_results():
    class Flat:
        name = "flat"

        def precode(self, h, power, no, *, error_covariance=None):
            return h

    grid, streams = parts()
    with pytest.raises(ValueError, match="power must be positive"):
        PrecoderBlock(grid, streams, power=0)
    with pytest.raises(TypeError, match="resource_grid must be Sionna's ResourceGrid, got StreamManagement"):
        PrecoderBlock(streams, grid)
    with pytest.raises(ValueError, match="precoder 'flat' gave"):
        PrecoderBlock(grid, streams, Flat()).matrices(h(3, USERS, 1, 1, 8, 1, TONES), 0.1)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.resolve_conj().conj().resolve_conj().conj(),
        lambda x: torch._neg_view(-x),
        lambda x: torch.stack([x, x], -1)[..., 0],
    ],
    ids=["conjugated", "negated", "strided"],
)
def test_views_and_gradients(view):
    """The same for a view of the same values, and results that autograd can keep: a link may be trained around them."""
    precode, predict = PrecoderBlock(*parts()), PredictorBlock("ar", 2, port_shape=PORTS)
    x, past = symbols(), h(3, USERS, 1, 1, 8, 14, TONES)
    assert torch.equal(view(past), past)
    assert torch.allclose(predict(view(past)), predict(past), atol=1e-4)
    assert torch.allclose(precode(view(x), view(past), 0.1), precode(x, past, 0.1), atol=1e-4)
    weight = torch.ones((), requires_grad=True)
    (weight * precode(x, predict(past), 0.1)).abs().sum().backward()
    assert bool(torch.isfinite(weight.grad))


# ---- a link


@cache
def link():
    """Sionna's coded down-link: QPSK of rate 1/2, precoded pilots, LS estimation, LMMSE equalisation."""
    from sionna.phy import config
    from sionna.phy.channel import ApplyOFDMChannel
    from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder
    from sionna.phy.mapping import Demapper, Mapper
    from sionna.phy.ofdm import LMMSEEqualizer, LSChannelEstimator, ResourceGridMapper

    grid, streams = parts(pilot_pattern="kronecker", pilot_ofdm_symbol_indices=[2, 11])
    coded = 2 * int(grid.num_data_symbols)
    encode = LDPC5GEncoder(coded // 2, coded)
    decode = LDPC5GDecoder(encode, hard_out=True)
    to_symbols, to_bits, to_grid = Mapper("qam", 2), Demapper("app", "qam", 2), ResourceGridMapper(grid)
    channel, estimate = ApplyOFDMChannel(), LSChannelEstimator(grid, interpolation_type="lin")
    equalise = LMMSEEqualizer(grid, streams)

    def lost(precode, truth: torch.Tensor, no: float) -> float:
        """Share of transport blocks that are lost over ``truth``, ``[batch, user, 1, 1, tx_ant, 14, tone]``."""
        bits = torch.randint(2, (len(truth), 1, USERS, coded // 2), generator=torch.Generator().manual_seed(1)).float()
        config.seed = 5
        received = channel(precode(to_grid(to_symbols(encode(bits)))), truth, no)
        found, noise = equalise(received, *estimate(received, no), no)
        return float((decode(to_bits(found, noise)) != bits).any(-1).float().mean())

    return grid, streams, lost


def moving_users(batch: int, slots: int) -> torch.Tensor:
    """Four plane waves for each user, Doppler up to 200 Hz, every 0.5 ms; ``[batch * user, slot, tone, 1, tx_ant]``."""
    generator = torch.Generator().manual_seed(3)
    uniform = [2 * torch.rand(batch * USERS, 4, generator=generator) - 1 for _ in range(4)]
    angle, delay, doppler, phase = uniform
    axes = (5e-4 * 200 * doppler, -180e3 * 1e-6 * (1 + delay), angle / 2)
    slot, tone, port = (
        torch.polar(torch.tensor(1.0), 2 * torch.pi * step[..., None] * torch.arange(float(size)))
        for step, size in zip(axes, (slots, TONES, 8), strict=True)
    )
    weight = torch.polar(torch.tensor(0.5), torch.pi * phase)
    return torch.einsum("lp,lps,lpf,lpa->lsfa", weight, slot, tone, port)[:, :, :, None]


def test_a_coded_multi_user_link_with_both_blocks():
    from sionna.phy.ofdm import RZFPrecoder

    grid, streams, lost = link()
    batch, no = 12, 10**-1.2
    csi = to_sionna(moving_users(batch, 20)).reshape(batch, USERS, 1, 1, 8, 20, TONES)
    past, truth = csi[..., :16, :], csi[..., 19:, :].expand(*csi.shape[:5], 14, TONES)
    theirs, ours = RZFPrecoder(grid, streams), PrecoderBlock(grid, streams)
    told = {
        "perfect": truth,
        "stale": past[..., -1:, :].expand_as(truth),
        "predicted": PredictorBlock("ar", 4)(past)[..., -1:, :].expand_as(truth),
    }
    share = {name: lost(partial(ours, h=h_hat, no=no), truth, no) for name, h_hat in told.items()}
    for name, h_hat in told.items():  # the same bits and noise: only rounding differs
        assert share[name] == pytest.approx(lost(partial(theirs, h=h_hat, alpha=no), truth, no), abs=0.03)
    assert share["perfect"] < 0.05 and share["stale"] > 0.4 and share["predicted"] < 0.2, share


def test_sionna_is_imported_late():
    code = "import sys, airlam.link; assert 'sionna' not in sys.modules; airlam.link.PredictorBlock; import sionna.phy"
    subprocess.run([sys.executable, "-c", code], check=True)
