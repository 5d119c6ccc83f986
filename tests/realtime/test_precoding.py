"""The precoder of a stream against airlam's own, and what it promises: exact power, order of users, warm starts."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airlam.baselines import rzf, wmmse
from airlam.metrics import sum_rate
from airlam.realtime import FastPrecoder, kernels
from airlam.realtime.precoding import whitened

COMPILED = pytest.param(True, marks=pytest.mark.skipif(not kernels.available(), reason="needs numba"))
TOLERANCE = 1e-4  # rows are in single precision, systems in double; with more users than antennas 2e-5 is left


@pytest.fixture(params=[COMPILED, False], ids=["compiled", "plain"])
def compiled(request):
    return request.param


def channel(users: int, slots: int, tones: int, ports: int, *, rx: int = 1, seed: int = 0) -> np.ndarray:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(users, slots, tones, rx, ports, dtype=torch.complex64, generator=g).numpy()


def rows(h: np.ndarray) -> torch.Tensor:
    """``[slot, tone, user, rx_ant, tx_ant]``, as the slow precoders take it; without one receive antenna."""
    x = torch.from_numpy(h).permute(1, 2, 0, 3, 4)
    return x.squeeze(-2) if x.shape[-2] == 1 else x


def per_entry(variance: np.ndarray, tones: int) -> torch.Tensor:
    """``[user, slot]`` -> ``[slot, tone, user]``."""
    return torch.from_numpy(variance).float().T[:, None].expand(-1, tones, -1)


def distance(w: np.ndarray, expected: torch.Tensor) -> float:
    return float(np.linalg.norm(w - expected.numpy()) / np.linalg.norm(expected.numpy()))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    users=st.integers(1, 9),
    slots=st.integers(1, 4),
    tones=st.sampled_from([1, 5, 16, 17, 48]),
    ports=st.sampled_from([4, 8, 32]),
    rounds=st.integers(0, 3),
    snr_db=st.sampled_from([0.0, 20.0, 30.0]),
    seed=st.integers(0, 99),
)
def test_white_errors_as_the_slow_precoders(compiled, users, slots, tones, ports, rounds, snr_db, seed):
    h, no, power = channel(users, slots, tones, ports, seed=seed), 10 ** (-snr_db / 10), 2.0
    variance = np.random.default_rng(seed).uniform(0, 0.2, (users, slots))
    w = FastPrecoder(no=no, power=power, rounds=rounds, compiled=compiled).precode(h, variance=variance)
    covariance = per_entry(variance, tones)[..., None, None] * torch.eye(ports)
    h = rows(h)
    if rounds:
        expected = wmmse(h, power, no, num_iterations=rounds, error_covariance=covariance)
    else:
        expected = rzf(h, power, no, error_covariance=covariance)
    # more users than antennas: systems that are nearly singular, the same rates
    if users < ports:
        assert distance(w, expected) < TOLERANCE
    rate = [sum_rate(h, x, no) for x in (torch.from_numpy(w), expected)]
    assert torch.allclose(*rate, rtol=1e-2 if users >= ports else 1e-4)
    assert np.allclose((np.abs(w) ** 2).sum((-2, -1)), power, rtol=1e-5)


def test_one_covariance_for_all_users_as_the_slow_precoders(compiled):
    h, no = channel(3, 2, 5, 8), 0.05
    x = channel(3, 2, 1, 8, rx=8, seed=1)[:, :, 0]  # [user, slot, 8, 8]
    each = 0.02 * np.conj(x.swapaxes(-1, -2)) @ x
    w = FastPrecoder(no=no, compiled=compiled).precode(h, whitening=whitened(each.sum(0), 3, no))
    spread = torch.from_numpy(each).transpose(0, 1)[:, None].expand(2, 5, 3, 8, 8)
    assert distance(w, rzf(rows(h), 1.0, no, error_covariance=spread)) < TOLERANCE
    # WMMSE takes the sum in equal shares; it begins with other powers of the same beams, and ends at the same ones
    w = FastPrecoder(no=no, rounds=200, compiled=compiled).precode(h, whitening=whitened(each.sum(0), 3, no))
    shared = torch.from_numpy(each.mean(0))[:, None, None].expand(2, 5, 3, 8, 8)
    assert distance(w, wmmse(rows(h), 1.0, no, num_iterations=200, error_covariance=shared)) < 1e-3


def test_several_receive_antennas_as_the_slow_precoders(compiled):
    h = channel(3, 2, 4, 8, rx=2)
    w = FastPrecoder(no=0.01, compiled=compiled).precode(h)
    assert distance(w, rzf(rows(h), 1.0, 0.01, rx_axis=True)) < TOLERANCE


@pytest.mark.skipif(not kernels.available(), reason="needs numba")
@pytest.mark.parametrize("rounds", [0, 1, 4])
def test_without_numba_the_values_are_the_same(rounds):
    made = [FastPrecoder(no=0.01, rounds=rounds, tones_per_weight=2, compiled=way) for way in (True, False)]
    for seed in range(3):  # warm from the second on
        h, variance = channel(4, 3, 12, 8, seed=seed), np.full((4, 3), 0.05)
        w = [precoder.precode(h, variance=variance) for precoder in made]
        assert np.allclose(*w, atol=1e-5)
    assert not rounds or np.allclose(*(precoder.warm for precoder in made), rtol=1e-4)


@pytest.mark.parametrize("rounds", [0, 2])
def test_the_order_of_users_does_not_matter(compiled, rounds):
    h, variance, order = channel(5, 2, 7, 16), np.linspace(0, 0.2, 10).reshape(5, 2), [3, 0, 4, 1, 2]
    w = FastPrecoder(no=0.01, rounds=rounds, compiled=compiled).precode(h, variance=variance)
    other = FastPrecoder(no=0.01, rounds=rounds, compiled=compiled).precode(h[order], variance=variance[order])
    assert np.allclose(w[..., order], other, atol=1e-5)


def test_more_doubt_is_more_regularisation(compiled):
    """Beams move from zero forcing, without interference, to matched ones, with the most signal."""
    h, leak, gain = channel(4, 1, 6, 8), [], []
    for variance in (0.0, 0.1, 1.0, 1e6):
        w = FastPrecoder(no=1e-6, compiled=compiled).precode(h, variance=np.full((4, 1), variance))
        seen = (rows(h) @ torch.from_numpy(w)).abs().square()
        own = seen.diagonal(dim1=-2, dim2=-1)
        leak.append(float(seen.sum() - own.sum()))
        gain.append(float(own.sum()))
    assert leak == sorted(leak) and gain == sorted(gain)
    matched = rows(h).conj().mT
    assert distance(w, matched / matched.norm(dim=-2, keepdim=True) / 2) < 1e-3


def test_a_warm_start_converges_where_the_channel_stands_still(compiled):
    h, no = channel(4, 1, 8, 6), 0.03  # at some tones one of them is served no more
    h = np.repeat(h, 3, axis=1)  # all slots alike
    precoder, best = FastPrecoder(no=no, rounds=1, compiled=compiled), wmmse(rows(h), 1.0, no, num_iterations=400)
    found = [float(sum_rate(rows(h), torch.from_numpy(precoder.precode(h)), no).mean()) for _ in range(400)]
    top = float(sum_rate(rows(h), best, no).mean())
    assert found[0] < 0.999 * top
    assert found[-1] > 0.9999 * top  # WMMSE creeps
    assert found[40] > found[4] > found[0]


def test_a_user_comes_back(compiled):
    h, no = channel(3, 1, 4, 8), 0.01
    weak = h.copy()
    weak[0] *= 1e-4
    precoder = FastPrecoder(no=no, rounds=1, compiled=compiled)
    for _ in range(20):
        w = precoder.precode(weak)
    assert float((np.abs(w[..., 0]) ** 2).sum(-1).max()) < 0.01
    for _ in range(20):
        w = precoder.precode(h)
    expected = wmmse(rows(h), 1.0, no, num_iterations=20)
    assert float(sum_rate(rows(h), torch.from_numpy(w), no).mean()) > 0.99 * float(
        sum_rate(rows(h), expected, no).mean()
    )


def test_the_weights_of_the_last_slot_move_on(compiled):
    """Slot ``i`` begins where slot ``i + 1`` of the call before ended."""
    h, no = channel(4, 3, 2, 8), 0.01
    precoder = FastPrecoder(no=no, rounds=8, compiled=compiled)
    precoder.precode(h)
    later = np.concatenate([h[:, 1:], h[:, -1:]], 1)
    w = FastPrecoder(no=no, rounds=9, compiled=compiled).precode(later)
    precoder.rounds = 1
    assert np.allclose(precoder.precode(later), w, atol=1e-4)


def test_tones_share_the_beams_of_their_middle(compiled):
    h = channel(3, 2, 12, 8)
    w = FastPrecoder(no=0.01, tones_per_weight=4, compiled=compiled).precode(h)
    assert np.array_equal(w[:, 0:4], np.repeat(w[:, :1], 4, 1))
    assert np.allclose(w[:, ::4], FastPrecoder(no=0.01, compiled=compiled).precode(h[:, :, 2::4].copy()), atol=1e-6)


@pytest.mark.parametrize("rounds", [0, 2])
def test_users_without_a_channel_get_nothing(compiled, rounds):
    h = channel(3, 1, 4, 8)
    h[1] = 0
    w = FastPrecoder(no=0.01, rounds=rounds, compiled=compiled).precode(h)
    assert np.isfinite(w).all() and not w[..., 1].any() and w[..., 0].any()
    assert not FastPrecoder(no=0.01, rounds=rounds, compiled=compiled).precode(np.zeros_like(h)).any()


def test_later_calls_allocate_little(compiled):
    if not compiled:
        pytest.skip("NumPy makes new arrays")
    h, out = channel(4, 4, 48, 32), np.empty((4, 48, 32, 4), np.complex64)
    whitening = np.tile(np.eye(32, dtype=np.complex64), (4, 1, 1))
    precoder = FastPrecoder(no=0.01, rounds=1)
    h = np.ascontiguousarray(h.swapaxes(0, 1)).swapaxes(0, 1)  # as a group keeps them
    for _ in range(3):
        assert precoder.precode(h, whitening=whitening, out=out) is out
    tracemalloc.start()
    for _ in range(10):
        precoder.precode(h, whitening=whitening, out=out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000, peak


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"no": 0.0}, "no is 0.0, but must be a positive number"),
        ({"no": 0.1, "power": -1}, "power is -1"),
        ({"no": 0.1, "rounds": 1.5}, "rounds is 1.5"),
        ({"no": 0.1, "tones_per_weight": 0}, "tones_per_weight is 0"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        FastPrecoder(**arguments)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"h": channel(2, 1, 4, 4)[0]}, r"complex64 \(1, 4, 1, 4\), but must be complex64 \[user"),
        ({"h": channel(2, 1, 4, 4) * np.nan}, "NaN"),
        ({"variance": np.zeros((2, 2))}, r"variance has the shape \(2, 2\), but must have \(2, 1\)"),
        ({"variance": -np.ones((2, 1))}, "not negative"),
        ({"whitening": np.eye(4)}, r"whitening has the shape \(4, 4\)"),
        ({"out": np.zeros((1, 4, 4, 3), np.complex64)}, "contiguous array complex64"),
    ],
)
def test_bad_input(change, words):
    with pytest.raises(ValueError, match=words):
        FastPrecoder(no=0.1).precode(**({"h": channel(2, 1, 4, 4)} | change))
    with pytest.raises(ValueError, match="must divide the 4 subcarriers"):
        FastPrecoder(no=0.1, tones_per_weight=3).precode(channel(2, 1, 4, 4))
