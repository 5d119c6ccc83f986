"""``store.h[index]`` is what NumPy gives for the same index on the same data."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import airlam.data.store as store_module
from airlam.data import CSIStore
from airlam.errors import StoreError

SHAPE = (34, 20, 6, 1, 4)


class Stored:
    """A store and its CSI as a NumPy array."""

    def __init__(self, store, everything):
        self.pair = store, everything

    def __iter__(self):
        return iter(self.pair)


@pytest.fixture
def stored(store_path):
    """The store and its CSI as h5py reads it."""
    with h5py.File(store_path, "r") as file:
        pairs = file["h"][...].astype(np.float32)
    everything = pairs.view(np.complex64)[..., 0]
    assert everything.shape == SHAPE
    with CSIStore(store_path) as store:
        yield Stored(store, everything)


def integers(size, shape):
    values = st.lists(st.integers(-size, size - 1), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
    return values.map(lambda v: np.array(v, dtype=np.int64).reshape(shape))


@st.composite
def indices(draw):
    """A tuple of slices, integers, integer arrays, masks of one or more axes, None and ...; often valid for NumPy."""
    common = draw(st.sampled_from([(1,), (3,), (2, 3), (0,)]))
    parts, axis, ellipsis = [], 0, False
    while axis < 5:
        kind = draw(st.sampled_from(["stop", "slice", "slice", "int", "array", "mask", "None", "..."]))
        if kind == "stop":
            break
        size = SHAPE[axis]
        if kind == "slice":
            ends = st.none() | st.integers(-size - 2, size + 2)
            parts.append(slice(draw(ends), draw(ends), draw(st.sampled_from([None, 1, 2, 7, -1, -3]))))
            axis += 1
        elif kind == "int":
            parts.append(draw(st.integers(-size, size - 1)))
            axis += 1
        elif kind == "array":
            shape = draw(st.sampled_from([common, (1,), ()]))
            parts.append(draw(integers(size, shape)))
            axis += 1
        elif kind == "mask":
            width = draw(st.integers(1, min(3, 5 - axis)))
            shape = SHAPE[axis : axis + width]
            seed, share = draw(st.integers(0, 99)), draw(st.sampled_from([0.0, 0.1, 0.6, 1.0]))
            parts.append(np.random.default_rng(seed).random(shape) < share)
            axis += width
        elif kind == "None":
            parts.append(None)
        elif not ellipsis:
            ellipsis = True
            parts.append(Ellipsis)
            axis = draw(st.integers(axis, 5))
    return tuple(parts)


def as_given(part, draw):
    """The same part as a list, a tensor or a NumPy integer."""
    if isinstance(part, np.ndarray):
        return draw(st.sampled_from([part, torch.from_numpy(np.array(part)), part.tolist()]))
    return draw(st.sampled_from([part, np.int32(part), torch.tensor(part)])) if isinstance(part, int) else part


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_index_means_what_it_means_to_numpy(stored, data):
    store, everything = stored
    index = data.draw(indices())
    try:
        wanted = everything[index]
    except IndexError:
        wanted = None
    given_index = tuple(as_given(part, data.draw) for part in index)
    if len(given_index) == 1 and data.draw(st.booleans()):
        given_index = given_index[0]
    if wanted is None:
        with pytest.raises((IndexError, StoreError)):
            store.h[given_index]
        return
    assume(wanted.nbytes < 2**28)
    step = data.draw(st.sampled_from([1, 5, 1000]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "links_at_once", lambda shape: step)
        found = store.h[given_index]
    assert found.dtype == torch.complex64 and found.shape == wanted.shape
    np.testing.assert_array_equal(found.numpy(), wanted)


def test_a_mask_from_the_truth_chooses_its_links(stored):
    store, everything = stored
    mask = store.truth["speed"] > store.truth["speed"].median()
    assert 0 < mask.sum() < 34
    np.testing.assert_array_equal(store.h[mask].numpy(), everything[mask.numpy()])
    np.testing.assert_array_equal(store.h[2, 7].numpy(), everything[2, 7])
    np.testing.assert_array_equal(store.h[..., 0].numpy(), everything[..., 0])


@pytest.mark.parametrize(
    "index, words",
    [
        ("speed", "'speed' is a str"),
        (1.5, "1.5 is a float"),
        (True, "True is a bool"),
        ([0.5], "0.5.* is a list"),
        ([[1], [1, 2]], "not an array"),
        (np.ones(33, bool), r"shape \[33\].*link: \[34\]"),
        ({}, "is a dict"),
        (np.ones((34, 19), bool), r"link, slot: \[34, 20\]"),
        ((..., ...), "more than once"),
        ((0,) * 6, "6 axes"),
        (([0, 1], [0, 1, 2]), r"\[2\] and \[3\]"),
        (slice(0.5, 2), "slice"),
        (slice(1, 2, 0), "zero"),
        (torch.tensor([0.5]), "Tensor"),
        (torch.tensor(True), "Tensor"),
    ],
)
def test_other_indices_are_named_in_one_line(stored, index, words):
    with pytest.raises(StoreError, match=words) as caught:
        stored.pair[0].h[index]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "index, words", [(34, "link 34 .* 34 links"), ((0, -21), "slot -21"), ((..., [4]), "tx_ant 4")]
)
def test_integers_out_of_range(stored, index, words):
    with pytest.raises(IndexError, match=words):
        stored.pair[0].h[index]


def test_only_the_slots_asked_for_are_read(stored, monkeypatch):
    store, everything = stored
    read, sizes = store_module.read_into, []

    def counted(file, target, position):
        sizes.append(target.nbytes)
        read(file, target, position)

    monkeypatch.setattr(store_module, "read_into", counted)
    np.testing.assert_array_equal(store.h[3:9, 4:6].numpy(), everything[3:9, 4:6])
    assert sum(sizes) == 6 * 2 * store.columns["h"].row_bytes // 20
    sizes.clear()
    np.testing.assert_array_equal(store.h[3:9].numpy(), everything[3:9])
    assert sizes == [6 * store.columns["h"].row_bytes]  # consecutive links in one piece
