"""Streams: the same values as the predictor, missing, late and lost slots, gain, state, the background thread."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from airlam import load_predictor
from airlam.baselines.paths import PathPredictor
from airlam.errors import StoreError
from airlam.metrics import nmse
from airlam.realtime import PathEngine, Refresher, State, Stream, StreamPool, engine_for
from airlam.realtime.engine import Memory

SHAPE, PANEL = (12, 1, 8), (2, 2, 2)


class Line:
    """An engine that says what it was given: the prediction is the sum of the window times how often it was renewed."""

    name, identity, history, num_future, shape = "line", "line", 4, 2, (2, 1, 1)

    def __init__(self, seconds: float = 0.0, gate: threading.Event | None = None) -> None:
        self.seconds, self.gate = seconds, gate
        self.broken: list[Exception] = []  # the twin has the same list

    def twin(self) -> Line:
        other = Line(self.seconds, self.gate)
        other.broken = self.broken
        return other

    def check(self, memory: Memory) -> None:
        pass

    def refresh(self, window, memory: Memory | None = None) -> Memory:
        time.sleep(self.seconds)
        if self.gate is not None:
            self.gate.wait(10)
        if self.broken:
            raise self.broken[0]
        times = 1 if memory is None else 1 + int(memory["times"])
        return {"times": np.asarray(times), "seen": window.copy()}

    def advance(self, memory: Memory, window, new: int, out) -> None:
        seen = memory["seen"]
        if new:
            seen[:] = np.concatenate([seen[new:], window[-new:]])
        assert np.array_equal(seen, window)  # every slot is seen once, in order
        out[:] = window[-1]


def slots(number: int, shape=(2, 1, 1), seed: int = 0) -> torch.Tensor:
    return torch.randn(number, *shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def plane_waves(number: int, speed: float = 0.01) -> torch.Tensor:
    """Two paths over slots, 12 subcarriers, 2 polarisations of 2 x 2 ports: ``[slot, 12, 1, 8]``."""
    t, f = torch.arange(number)[:, None, None], torch.arange(12)[:, None]
    column, row = torch.arange(8) // 2 % 2, torch.arange(8) % 2
    h = torch.zeros(number, 12, 8, dtype=torch.complex64)
    for turns, delay, (x, y), gain in ((speed, 0.05, (0.1, 0.3), 1.0), (-2 * speed, -0.2, (-0.3, 0.2), 0.5j)):
        angle = turns * t + delay * f + x * column + y * row
        h += gain * torch.polar(torch.ones_like(angle), 2 * torch.pi * angle)
    return h[:, :, None]


@pytest.fixture(scope="module")
def engine() -> PathEngine:
    return PathEngine(PathPredictor(num_paths=8, rounds=3), SHAPE, 4, port_shape=PANEL)


def test_held_until_the_window_is_full_then_predicted():
    stream = Stream(Line())
    for slot in slots(6):
        future = stream.push(slot)
        assert torch.allclose(future, slot.expand(2, 2, 1, 1), atol=1e-6)  # a gain and its inverse
    assert stream.state.memory and stream.state.filled == 4 and stream.state.slot == 6


def test_a_stream_of_paths_is_the_predictor(engine):
    h = plane_waves(40) + 0.05 * slots(40, SHAPE)
    stream = Stream(engine, refresh_every=1)
    for slot in h:
        future = stream.push(slot)
    assert float(nmse(future[None], plane_waves(44)[None, 40:])) < 2e-3
    fresh = Stream(engine)
    expected = PathPredictor(num_paths=8, rounds=3).predict(h[24:], 4, port_shape=PANEL)
    # sums over ports and slots in another order
    assert torch.allclose(fresh.start(h[24:]), expected, atol=1e-3 * float(expected.abs().max()))


def test_old_filters_go_on_predicting(engine):
    h = plane_waves(204)
    stream = Stream(engine, refresh_every=10**6)
    stream.start(h[:16])
    for slot in h[16:200]:
        future = stream.push(slot)
    assert stream.state.age == 184
    assert float(nmse(future[None], h[None, 200:])) < 1e-3


def test_arrays_and_tensors_and_a_given_output(engine):
    h = plane_waves(18)
    one, other = Stream(engine, refresh_every=10**6), Stream(engine, refresh_every=10**6)
    one.start(h[:16])
    assert isinstance(other.start(h[:16].numpy()), np.ndarray)
    out = np.empty((4, *SHAPE), np.complex64)
    assert other.push(h[16].numpy(), out=out) is out
    assert np.array_equal(out, one.push(h[16]).numpy())
    first = other.push(h[17].numpy())
    kept = first.copy()
    other.push(h[17].numpy())
    assert np.array_equal(first, kept)  # a new array each time


def test_missing_and_lost_slots_are_predicted(engine):
    h = plane_waves(60)
    stream = Stream(engine, refresh_every=10**6)
    stream.start(h[:16])
    for number in range(16, 30):
        stream.push(h[number] if number % 3 else None, slot=number)
    future = stream.push(h[33], slot=33)  # 30, 31, 32 never came
    assert stream.state.counts.missing == 4 + 3 and stream.state.slot == 34
    assert float(nmse(future[None], h[None, 34:38])) < 2e-3


def test_a_long_gap_starts_the_window_anew():
    stream = Stream(Line())
    for slot in slots(5):
        stream.push(slot)
    stream.push(slots(1)[0], slot=100)
    state = stream.state
    assert state.counts.gaps == 1 and state.filled == 1 and state.slot == 101
    for slot in slots(4, seed=1):
        stream.push(slot)
    assert stream.state.filled == 4


def test_late_slots_take_their_place_or_are_counted(engine):
    h = plane_waves(24)
    stream, exact = Stream(engine, refresh_every=10**6), Stream(engine, refresh_every=10**6)
    stream.start(h[:16])
    exact.start(h[:16])
    for number in (16, 17, 19):
        stream.push(h[number], slot=number)
    late = stream.push(h[18], slot=18)
    for number in range(16, 20):
        expected = exact.push(h[number])
    assert stream.state.counts.late == 1 and stream.state.slot == 20
    assert torch.allclose(late, expected, atol=1e-4)
    stream.push(h[0], slot=0)
    assert stream.state.counts.stale == 1 and stream.state.slot == 20


def test_a_jump_of_the_receivers_gain_is_followed(engine):
    h = plane_waves(60)
    stream = Stream(engine, refresh_every=10)
    stream.start(h[:16])
    for slot in h[16:30]:
        stream.push(slot)
    for slot in h[30:50]:
        future = stream.push(8 * slot)
    assert stream.state.counts.jumps == 1
    assert float(nmse(future[None], 8 * h[None, 50:54])) < 1e-3


def test_a_change_of_speed_is_followed(engine):
    slow, fast = plane_waves(60, 0.005), plane_waves(104, 0.03)
    stream = Stream(engine, refresh_every=20)
    stream.start(slow[:16])
    for slot in [*slow[16:], *fast[:100]]:
        future = stream.push(slot)
    assert float(nmse(future[None], fast[None, 100:])) < 1e-3


def test_many_lost_slots_are_no_jump_of_gain(engine):
    h = plane_waves(400)
    stream = Stream(engine, refresh_every=40)
    stream.start(h[:16])
    for number in range(16, 396):
        if number % 8 == 0:  # seven of eight are lost, and what is predicted for them fades
            future = stream.push(h[number], slot=number)
    assert stream.state.counts.jumps == 0 and stream.state.gain == 1.0
    assert float(future.abs().max()) < 2 * float(h.abs().max())


@pytest.mark.parametrize(
    "slot, words",
    [
        (torch.zeros(3, 1, 1, dtype=torch.complex64), r"complex64 \(3, 1, 1\), but must be complex .* \(2, 1, 1\)"),
        (torch.zeros(2, 1, 1), "float32"),
        (torch.full((2, 1, 1), complex("nan")), "NaN"),
        (torch.full((2, 1, 1), 1e20 + 0j), "mean power"),
        ("slot", "str"),
    ],
)
def test_bad_slots_leave_the_stream_as_it_was(slot, words):
    stream = Stream(Line())
    for good in slots(5):
        stream.push(good)
    before = stream.state.window.copy()
    with pytest.raises(ValueError, match=words) as error:
        stream.push(slot)
    assert "\n" not in str(error.value)
    assert np.array_equal(before, stream.state.window) and stream.state.slot == 5


def test_other_bad_arguments():
    stream = Stream(Line())
    with pytest.raises(ValueError, match="starts with at least 4 slots"):
        stream.start(slots(3))
    for number in (-1, 1.5, True):
        with pytest.raises(ValueError, match="slot is"):
            stream.push(slots(1)[0], slot=number)
    with pytest.raises(ValueError, match="out is"):
        stream.push(slots(1)[0], out=np.empty((3, 2, 1, 1), np.complex64))
    with pytest.raises(ValueError, match="refresh_every"):
        Stream(Line(), refresh_every=0)
    with pytest.raises(ValueError, match="views is 2"):
        engine_for(PathPredictor(views=2), SHAPE, 4, port_shape=PANEL)
    with pytest.raises(ValueError, match="num_future"):
        engine_for(PathPredictor(), SHAPE, 0)
    with pytest.raises(ValueError, match="shape is"):
        engine_for(PathPredictor(), (12, 8), 4)
    with pytest.raises(TypeError, match="slot by slot"):
        engine_for(object(), SHAPE, 4)


def test_state_is_saved_restored_and_moved(engine, tmp_path):
    h = plane_waves(30)
    stream = Stream(engine, refresh_every=8)
    stream.start(h[:16])
    for slot in h[16:21]:
        stream.push(slot)
    state = stream.state
    assert state.nbytes > state.window.nbytes + state.memory["inverse"].nbytes
    other = Stream(PathEngine(PathPredictor(num_paths=8, rounds=3), SHAPE, 4, port_shape=PANEL), refresh_every=8)
    other.state = State.load(state.save(tmp_path / "user.safetensors"), other.engine)
    for slot in h[21:]:  # over a refresh
        assert torch.equal(stream.push(slot), other.push(slot))
    other.reset()
    assert other.state.filled == 0 and not other.state.memory


def test_states_of_other_engines_and_foreign_files_are_refused(engine, tmp_path):
    stream = Stream(engine)
    path = stream.state.save(tmp_path / "user.safetensors")
    for predictor, future in ((PathPredictor(num_paths=9, rounds=3), 4), (PathPredictor(num_paths=8, rounds=3), 2)):
        other = PathEngine(predictor, SHAPE, future, port_shape=PANEL)
        with pytest.raises(StoreError, match="another method, version or size"):
            State.load(path, other)
    with pytest.raises(StoreError, match="there is no state"):
        State.load(tmp_path / "none", engine)
    (tmp_path / "text").write_text("text")
    with pytest.raises(StoreError, match="is no state"):
        State.load(tmp_path / "text", engine)
    cut = tmp_path / "cut"
    cut.write_bytes(path.read_bytes()[:200])
    with pytest.raises(StoreError, match="is no state"):
        State.load(cut, engine)


@pytest.mark.parametrize("name, options", [("ar", {}), ("eigen-ar", {"basis_every": 1}), ("paths", {}),
                                           ("airlam-tiny", {"basis_every": 4}), ("airlam-paths", {})])  # fmt: skip
def test_a_forged_state_reaches_no_kernel(name, options, tmp_path):
    """Compiled kernels check no index: a file whose checksum is right is read only if its arrays fit."""
    engine = engine_for(load_predictor(name), SHAPE, 4, port_shape=PANEL, **options)
    stream = Stream(engine)
    stream.start(plane_waves(16))
    good = stream.state
    assert State.load(good.save(tmp_path / "good"), engine).slot == 16
    arrays = {key: x for key, x in good.memory.items() if x.size}
    wrong = []
    for key, x in arrays.items():
        wrong.append({key: x.real.astype("float16" if x.dtype != "float64" else "float32")})
        if x.ndim and key != "shift":  # of any number of paths
            wrong.append({key: x[:-1]})
        if x.dtype.kind in "fc" and x.ndim:
            wrong.append({key: np.full_like(x, np.nan)})
        if x.dtype.kind == "i" and key != "age":
            wrong += [{key: np.full_like(x, 10**6)}, {key: np.full_like(x, -1)}]
    for i, change in enumerate(wrong):
        forged = copy.deepcopy(good)
        forged.memory |= change
        with pytest.raises(StoreError, match="is damaged"):
            State.load(forged.save(tmp_path / f"{i}"), engine)
    for field, value in (("filled", 99), ("unseen", -1), ("slot", 1.5), ("gain", 0.0), ("age", "2"), ("lost", True)):
        forged = copy.deepcopy(good)
        setattr(forged, field, value)
        with pytest.raises(StoreError, match=f"is damaged: {field} is"):
            State.load(forged.save(tmp_path / field), engine)
    forged = copy.deepcopy(good)
    forged.memory["more"] = np.zeros(1)
    with pytest.raises(StoreError, match="its arrays are not those of this method"):
        stream.state = forged
    assert stream.state.slot == 16


def times(stream: Stream) -> int:
    """How often its filters were found."""
    return int(stream.state.memory.get("times", 0))


def test_refreshes_run_beside_the_pushes():
    with Refresher() as refresher:
        streams = [Stream(Line(0.01), refresher, refresh_every=5) for _ in range(3)]
        number, until = 0, time.monotonic() + 60  # refreshes are idle work: on a busy machine they come late
        while refresher.refreshed <= 6 or min(times(stream) for stream in streams) <= 1:
            assert time.monotonic() < until and refresher.error is None
            for user, stream in enumerate(streams):
                stream.push(slots(1, seed=100 * number + user)[0])
            number += 1
            time.sleep(0.001)
        assert all(stream.state.slot == number for stream in streams)


def test_a_refresh_that_fails_leaves_the_old_filters():
    for beside in (True, False):
        with Refresher() as refresher:
            stream = Stream(Line(), refresher if beside else None, refresh_every=2)
            stream.start(slots(4))
            while not stream.state.memory:
                stream.push(slots(1)[0])
            before = int(stream.state.memory["times"])
            stream.engine.broken.append(ArithmeticError("no filters"))
            end = time.monotonic() + 60  # the thread beside may get no turn for long on a busy machine
            while stream.state.counts.failed < 2 and time.monotonic() < end:
                stream.push(slots(1)[0])
                time.sleep(0.002 * beside)
            assert stream.state.counts.failed == 2 and isinstance(stream.error, ArithmeticError)
            assert int(stream.state.memory["times"]) <= before + 1  # one may have been on its way


def test_a_closed_refresher_leaves_streams_with_what_they_have():
    refresher = Refresher()
    stream = Stream(Line(), refresher, refresh_every=1)
    for slot in slots(6):
        stream.push(slot)
    refresher.close()
    refresher.close()
    for slot in slots(30):
        future = stream.push(slot)
    assert torch.allclose(future[0], slots(30)[-1], atol=1e-6)


def test_slots_that_change_while_filters_are_found_are_seen_again():
    gate = threading.Event()
    with Refresher() as refresher:
        stream = Stream(Line(gate=gate), refresher, refresh_every=10**6)
        every = slots(12)
        for number in (0, 1, 2, 3, 4, 5, 7):  # 6 is late; a refresh has begun
            stream.push(every[number], slot=number)
        stream.push(every[6], slot=6)
        gate.set()
        number, until = 8, time.monotonic() + 60
        while number < 12 or (not stream.state.memory and time.monotonic() < until):
            time.sleep(0.02)
            stream.push(every[number % 12], slot=number)  # the engine compares what its memory saw with the window
            number += 1
    assert stream.state.counts.late == 1 and stream.state.memory


def test_numbers_that_start_again_are_followed():
    stream = Stream(Line())
    stream.push(slots(1)[0], slot=10**9)
    for number, slot in enumerate(slots(20)):
        future = stream.push(slot, slot=number)
    assert stream.state.slot == 20 and stream.state.counts.stale == 4
    assert torch.allclose(future[0], slots(20)[-1], atol=1e-6)


def test_another_channel_is_held_until_filters_are_renewed(engine):
    stream = Stream(engine, refresh_every=10**6)
    stream.start(plane_waves(16))
    other = plane_waves(80, 0.012).flip(1) * 1j  # other delays
    for slot in other[:40]:
        future = stream.push(slot)
    assert stream.state.age < 40  # it asked for a refresh by itself
    assert float(nmse(future[None], other[None, 40:44])) < 0.1


def test_a_history_that_is_lost_is_no_history(engine):
    stream = Stream(engine, refresh_every=5)
    stream.start(plane_waves(16))
    for _ in range(40):
        stream.push(None)
    state = stream.state
    assert state.counts.gaps == 1 and state.filled == 0 and state.slot == 56 and state.memory


def test_the_state_is_a_copy():
    stream = Stream(Line())
    for slot in slots(5):
        stream.push(slot)
    before = stream.state
    first = [stream.push(slot) for slot in slots(6, seed=1)]
    stream.state = before
    again = [stream.push(slot) for slot in slots(6, seed=1)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_pool_serves_every_user_in_order():
    found: dict[str, list] = {}
    with StreamPool(Line(), lambda user, slot, h: found.setdefault(user, []).append((slot, h)), waiting=50) as pool:
        for number in range(20):
            for user in ("a", "b", "c"):
                pool.offer(user, slots(1, seed=number)[0])
    assert pool.load.served == 60 and pool.load.dropped == 0
    for user in ("a", "b", "c"):
        assert [slot for slot, _ in found[user]] == list(range(20))
        assert np.allclose(found[user][-1][1][0], slots(1, seed=19)[0].numpy(), atol=1e-6)  # a gain and its inverse


def test_a_pool_drops_the_oldest_where_slots_come_too_fast():
    release, seen = threading.Event(), []

    def deliver(user, slot, h):
        seen.append(slot)
        release.wait(10)

    with StreamPool(Line(), deliver, waiting=2) as pool:
        pool.offer("a", slots(1)[0])
        while not seen:
            time.sleep(0.001)
        for number in range(1, 8):
            pool.offer("a", slots(1, seed=number)[0])
        release.set()
    assert seen == [0, 6, 7] and pool.load.dropped == 5 and pool.load.served == 3
    assert pool.streams["a"].state.counts.gaps == 1  # five lost slots are more than this engine's window of four
    with pytest.raises(RuntimeError, match="closed"):
        pool.offer("a", slots(1)[0])


def test_a_history_that_waits_is_not_dropped_for_slots():
    release, seen = threading.Event(), []

    def deliver(user, slot, h):
        seen.append((slot, type(h)))
        release.wait(10)

    with StreamPool(Line(), deliver, waiting=2) as pool:
        pool.offer("a", slots(1)[0])
        while not seen:
            time.sleep(0.001)
        pool.offer("a", slots(1)[0])
        pool.offer("a", slots(9), slot=20)  # what waits before it is of no use any more
        pool.offer("a", slots(9)[:, :, :, :0], slot=21)  # no history of this engine: takes a slot's place
        for number in range(22, 26):
            pool.offer("a", slots(1, seed=number)[0])
        release.set()
    assert [slot for slot, _ in seen] == [0, 20, 24, 25] and pool.load.dropped == 4
    assert pool.streams["a"].state.slot == 26 and pool.streams["a"].state.counts.missing == 3


def test_a_pool_tells_of_bad_slots_and_forgets_users():
    found = []
    with StreamPool(Line(), lambda user, slot, h: found.append(h), waiting=9) as pool:
        pool.offer("a", slots(1)[0])
        pool.offer("a", torch.zeros(3, 1, 1, dtype=torch.complex64))
        pool.offer("a", slots(1)[0], slot="one")
        while len(found) < 3:
            time.sleep(0.001)
        pool.offer("a", slots(6), slot=9)
        pool.offer("a", slots(1)[0])
        while len(found) < 5:
            time.sleep(0.001)
        assert pool.streams["a"].state.slot == 11 and pool.streams["a"].state.filled == 4
        pool.forget("a")
        pool.forget("a")
    assert isinstance(found[1], ValueError) and isinstance(found[2], ValueError)
    assert pool.load.refused == 2 and not pool.streams
    for arguments, words in (({"waiting": 0}, "waiting is"), ({"refresh_every": 0}, "refresh_every is")):
        with pytest.raises(ValueError, match=words):
            StreamPool(Line(), print, **arguments)
    with pytest.raises(TypeError, match="deliver is"):
        StreamPool(Line(), None)


def test_no_error_of_one_slot_ends_a_pool():
    found = []

    def deliver(user, slot, h):
        found.append(h)
        if slot == 1:
            raise RuntimeError("not delivered")

    engine = Line()
    with StreamPool(engine, deliver, waiting=20) as pool:
        for number in range(8):
            pool.offer("a", slots(1, seed=number)[0])
        while len(found) < 8:
            time.sleep(0.001)
        engine.advance = lambda *_: 1 / 0
        for _ in range(3):
            pool.offer("b", slots(1)[0])
            pool.offer("a", slots(1)[0])
    assert len(found) == 14 and isinstance(pool.error, RuntimeError)
    assert all(isinstance(each, np.ndarray) for each in found[:8])


def test_a_running_pool_does_not_abort_the_interpreter(tmp_path):
    code = """
import sys; sys.path.insert(0, sys.argv[1])
import numpy as np
from airlam import load_predictor
from airlam.baselines.paths import PathPredictor
from airlam.realtime import StreamPool, engine_for
pool = StreamPool(engine_for(PathPredictor(num_paths=8, rounds=3), (12, 1, 8), 4, port_shape=(2, 2, 2)), print)
for user in range(4):
    pool.offer(user, np.random.default_rng(user).standard_normal((16, 12, 1, 8)).astype(np.complex64), slot=15)
"""
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr
