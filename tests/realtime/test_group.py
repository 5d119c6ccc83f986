"""Groups of users: streams and precoder in one, and what a stream's past errors say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from airlam.baselines import EigenARPredictor, rzf
from airlam.baselines.paths import PathPredictor
from airlam.errors import StoreError
from airlam.realtime import Group, GroupState, PathEngine, Refresher, Stream, engine_for
from airlam.realtime.errors import FORGET, Errors

SHAPE, PANEL, NO = (12, 1, 8), (2, 2, 2), 0.01


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def users(number: int, slots: int, csi_noise: float = 0.01) -> torch.Tensor:
    """Users of two plane waves each, ``[slot, user, 12, 1, 8]``."""
    t, f = torch.arange(slots)[:, None, None], torch.arange(12)[:, None]
    column, row = torch.arange(8) // 2 % 2, torch.arange(8) % 2
    out = []
    for user in range(number):
        h = torch.zeros(slots, 12, 8, dtype=torch.complex64)
        for turns, delay, (x, y), gain in ((0.01, 0.05, (0.1, 0.3), 1.0), (-0.02, -0.2, (-0.3, 0.2), 0.5j)):
            angle = turns * (t + 9 * user) + delay * f + (x + 0.2 * user) * column + (y - 0.15 * user) * row
            h += gain * torch.polar(torch.ones_like(angle), 2 * torch.pi * angle)
        out.append(h[:, :, None])
    return torch.stack(out, 1) + csi_noise**0.5 * noise(slots, number, *SHAPE)


@pytest.fixture(scope="module")
def engine():
    return engine_for(EigenARPredictor(forward_backward=True), SHAPE, 4, history=8, port_shape=PANEL)


def test_a_group_is_its_streams_and_the_precoder(engine):
    h = users(3, 30)
    group, streams = Group(engine, 3, no=NO, trust=0), [Stream(engine) for _ in range(3)]
    for slots in h:
        w = group.push(slots)
        future = torch.stack([stream.push(slot) for stream, slot in zip(streams, slots, strict=True)])
    assert isinstance(w, torch.Tensor) and w.shape == (4, 12, 8, 3)
    expected = rzf(future[..., 0, :].permute(1, 2, 0, 3), 1.0, NO)
    assert torch.allclose(w, expected, atol=1e-4)
    assert isinstance(group.push(h[0].numpy()), np.ndarray)


def test_beams_are_robust_against_the_errors_that_were_seen(engine):
    h = users(3, 60, csi_noise=0.3)
    group = Group(engine, 3, no=NO, trust=1.0, serve=range(1, 3))
    for slots in h:
        w = group.push(slots)
    assert all(errors.known for errors in group.errors)
    spread = np.stack([errors.spread(group.serve) for errors in group.errors], 1)  # [slot, user, 8, 8]
    believed = torch.from_numpy(group.future[1:3, :, :, 0]).transpose(1, 2)
    covariance = torch.from_numpy(spread)[:, None].expand(2, 12, 3, 8, 8)
    expected = rzf(believed, 1.0, NO, error_covariance=covariance)
    # one slot's matrix is renewed at each push: the other one is a push old
    distance = (w - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    assert float(distance.min()) < 1e-3 and float(distance.max()) < 0.05
    assert float((w - rzf(believed, 1.0, NO)).norm() / expected.norm()) > 0.05


def test_taken_slots_are_slots_without_a_prediction(engine):
    h = users(2, 40)
    every, some = Group(engine, 2, no=NO, refresh_every=10**6), Group(engine, 2, no=NO, refresh_every=10**6)
    for i, slots in enumerate(h):
        w = every.push(slots)
        if i < 10 or i % 3 == 0:
            other = some.push(slots)
        else:
            some.take(slots)
    assert len(h) % 3 == 1  # the last one was pushed
    assert some.streams[0].state.slot == 40 and np.array_equal(some.streams[1].state.window, h[-8:, 1])
    assert np.allclose(some.future, every.future, atol=1e-4)
    assert float((w - other).norm() / w.norm()) < 0.2  # errors were compared at other slots, few of them


def test_bad_csi_of_one_user_changes_no_stream(engine):
    h = users(3, 12)
    group = Group(engine, 3, no=NO)
    for slots in h:
        group.push(slots)
    before = group.state
    bad = h[0].clone()
    bad[2, 0, 0, 0] = float("nan")
    for call in (group.push, group.take):
        with pytest.raises(ValueError, match="user 2: h_slot has a mean power of nan"):
            call(bad)
        with pytest.raises(ValueError, match="h_slots are of 2 users, but the group has 3"):
            call(h[0, :2])
        with pytest.raises(ValueError, match=r"user 0: h_slot is torch.complex64 \(12, 1, 4\)"):
            call(h[0, :, :, :, :4])
    assert [user.slot for user in group.state.users] == [user.slot for user in before.users]
    assert np.array_equal(group.state.users[0].window, before.users[0].window)


def test_a_lost_slot_of_one_user(engine):
    h = users(2, 40)
    group = Group(engine, 2, no=NO)
    for number, slots in enumerate(h):
        w = group.push([slots[0], None if number % 10 == 9 else slots[1]], slot=number)
    assert isinstance(w, torch.Tensor) and bool(torch.isfinite(torch.view_as_real(w)).all())
    assert [user.counts.missing for user in group.state.users] == [0, 4]
    group.push(h[0], slot=43)
    assert [user.slot for user in group.state.users] == [44, 44]


def test_users_join_and_leave(engine):
    h = users(3, 60)
    group = Group(engine, 2, no=NO, rounds=1)
    for slots in h[:20]:
        group.push(slots[:2])
    group.add()
    for slots in h[20:40]:
        assert group.push(slots).shape == (4, 12, 8, 3)
    group.remove(0)
    for slots in h[40:]:
        w = group.push(slots[1:])
    assert w.shape == (4, 12, 8, 2) and group.streams[1].state.slot == 40
    with pytest.raises(ValueError, match="user is 2, but must be one of the 2 users"):
        group.remove(2)
    group.remove(0)
    with pytest.raises(ValueError, match="not the last one"):
        group.remove(0)


@pytest.mark.parametrize("rounds", [0, 1])
def test_a_group_goes_on_elsewhere(engine, rounds, tmp_path):
    h = users(3, 60)
    one = Group(engine, 3, no=NO, rounds=rounds, refresh_every=10**6)
    for slots in h[:30]:
        one.push(slots)
    other = Group(engine, 3, no=NO, rounds=rounds, refresh_every=10**6)
    other.state = GroupState.load(one.state.save(tmp_path / "group"), engine)
    for slots in h[30:]:
        w, found = one.push(slots), other.push(slots)
        assert torch.equal(w, found)
    assert np.array_equal(one.future, other.future)
    with pytest.raises(StoreError, match="serves 4 slots, but this group 2"):
        Group(engine, 3, no=NO, serve=range(2)).state = one.state
    with pytest.raises(StoreError, match="holds no state of a group"):
        GroupState.load(tmp_path / "nowhere", engine)
    foreign = engine_for(EigenARPredictor(forward_backward=True), SHAPE, 2, history=8, port_shape=PANEL)
    with pytest.raises(StoreError, match="another method, version or size"):
        GroupState.load(tmp_path / "group", foreign)


def test_with_a_refresher():
    engine = PathEngine(PathPredictor(num_paths=8, rounds=3), SHAPE, 4, port_shape=PANEL)
    h = users(2, 50)
    with Refresher() as refresher:
        group = Group(engine, 2, no=NO, refresher=refresher)
        for slots in h:
            w = group.push(slots)
    assert float((w.abs().square().sum((-2, -1)) - 1).abs().max()) < 1e-5


def test_errors_are_what_they_are():
    """Predictions with known errors: variance by horizon, and covariance, within what their number allows."""
    rng, errors = np.random.default_rng(0), Errors(3, (400, 1, 4))
    root = np.array([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0.1, 0], [0, 0, 0, 0.1]], np.complex64)
    truth = np.zeros((400, 1, 4), np.complex64)
    for _ in range(90):
        white = (rng.standard_normal((3, 400, 1, 4)) + 1j * rng.standard_normal((3, 400, 1, 4))) / np.sqrt(2)
        scale = np.sqrt([1.0, 2.0, 4.0])[:, None, None, None]
        errors.measured(truth)
        errors.predicted((scale * white @ root).astype(np.complex64))
    level = float((np.abs(root) ** 2).sum()) / 4
    assert errors.seen.tolist() == [30, 30, 29]
    assert np.allclose(errors.variance, level * np.array([1, 2, 4]), rtol=0.1)
    covariance = root.conj().T @ root
    for slot, factor in enumerate((1, 2, 4)):
        assert np.allclose(errors.spread(slot), factor * covariance, atol=0.1 * factor)
    assert np.allclose(errors.spread(slice(0, 3), noise=level)[0], 0, atol=0.1)


def test_errors_forget_and_skip_lost_slots():
    errors, zero, one = Errors(2, (1, 1, 1)), np.zeros((1, 1, 1), np.complex64), np.ones((2, 1, 1, 1), np.complex64)
    errors.predicted(one)
    errors.measured(None)
    errors.measured(2 * one[0])
    assert errors.variance.tolist() == [0, 1] and not errors.known
    errors.predicted(one)
    errors.predicted(5 * one)  # one at a time
    errors.measured(zero, lost=1)
    assert errors.variance.tolist() == [0, 1] and errors.seen.tolist() == [0, 2]
    for _ in range(50):
        errors.predicted(3 * one)
        errors.measured(zero)
        errors.measured(zero)
    assert errors.known and abs(errors.variance[1] - 9) < 9 * (1 - FORGET) ** 45


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"users": 0}, "users is 0"),
        ({"trust": -1}, "trust is -1"),
        ({"csi_noise": float("nan")}, "csi_noise is nan"),
        ({"serve": range(2, 5)}, r"serve is range\(2, 5\), but must be a range of the 4 slots"),
        ({"serve": range(0)}, "serve is"),
        ({"tones_per_weight": 5}, "must divide the 12 subcarriers"),
        ({"no": -1}, "no is -1"),
    ],
)
def test_bad_arguments(engine, arguments, words):
    with pytest.raises(ValueError, match=words):
        Group(engine, **({"users": 2, "no": NO} | arguments))
