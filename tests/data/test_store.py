"""The store: what comes back is what went in, and damage never passes unnoticed."""

from __future__ import annotations

import errno
import pickle
import random

import h5py
import numpy as np
import pytest
import torch

import airlam.data.layout as layout
from airlam.csi import mean_power
from airlam.data import CSIStore, generate
from airlam.data.recipe import blocks_of, load_dataset_recipe
from airlam.errors import StoreError


def sampled(fake, store):
    """What the channel gives for the blocks of a store, unrounded."""
    channel = fake.channel(store.recipe["channel"])
    blocks = blocks_of(store.recipe)
    return [channel.sample(b.count, store.recipe["num_slots"], seed=b.seed) for b in blocks]


def test_links_come_back_within_half_precision(fake, store_path):
    with CSIStore(store_path) as store:
        expected = torch.cat([links.h for links in sampled(fake, store)])
        assert len(store) == 34 and store.h.shape == expected.shape and store.h[0].dtype == torch.complex64
        nmse = (store.h[:] - expected).abs().square().sum() / expected.abs().square().sum()
        # float16 has 11 bits: a uniform rounding error of at most 2^-11 of each part, on average some -76 dB.
        assert 10 * nmse.log10() < -72


def test_every_kind_of_index(store_path):
    store = CSIStore(store_path)
    everything = store.h[:]
    assert torch.equal(store.h[5], everything[5]) and torch.equal(store.h[-1], everything[33])
    assert torch.equal(store.h[[7, 2, 7]], everything[[7, 2, 7]])
    assert torch.equal(store.h[torch.tensor([3, 1])], everything[[3, 1]])
    assert torch.equal(store.h[np.array([3, 1])], everything[[3, 1]])
    assert torch.equal(store.h[4:20:5], everything[4:20:5])
    assert torch.equal(store.read([1, 2], num_slots=3), everything[1:3, :3])
    assert store.h[[]].shape == (0, *everything.shape[1:])
    for wrong in (34, -35, [0, 34]):
        with pytest.raises(IndexError, match="34 links"):
            store.h[wrong]
    with pytest.raises(StoreError, match="'3' is a str"):
        store.h["3"]
    with pytest.raises(ValueError, match="20 slots"):
        store.read([0], num_slots=21)


def test_truth_and_attributes_say_what_it_is(fake, store_path):
    with CSIStore(store_path) as store:
        links = sampled(fake, store)
        for name in ("gain_db", "path_loss_db", "speed", "los", "indoor", "delay_spread", "position", "velocity"):
            assert torch.equal(store.truth[name], torch.cat([getattr(b, name) for b in links])), name
        assert store.truth["drop"].tolist() == list(range(34))  # one link a drop: ids unique over the data set
        assert store.attrs["versions"]["torch"] and store.attrs["seed"] == 3 and store.attrs["slot_duration"] == 0.5e-3
        assert store.recipe["channel"]["scenario"] == "fake" and store.splits["val"] == (20, 26)
        assert "tx_ant" in store.attrs["axes"] and store.attrs["units"]["speed"] == "m/s"
    with h5py.File(store_path) as file:  # any HDF5 tool can read it
        assert file["h"].chunks == (1, 20, 6, 1, 4, 2) and file["h"].dtype == np.float16
        assert file["speed"].attrs["unit"] == "m/s" and file["position"].attrs["axes"] == "link, xyz"


def test_power_is_normalised_with_the_real_channel(tmp_path):
    recipe = {"channel": "uma_nlos", "num_train": 4, "num_val": 0, "num_test": 0, "block_size": 4}
    with CSIStore(generate(recipe, tmp_path / "x.h5", progress=False)) as store:
        # float16 rounds each part by at most 2^-11: the mean power moves by less than 1e-3.
        torch.testing.assert_close(mean_power(store.h[:]), torch.ones(4), rtol=0, atol=1e-3)
        assert store.h.shape == (4, 20, 48, 1, 32) and (store.truth["gain_db"] < -60).all()


def test_any_flipped_byte_is_found_or_does_not_matter(store_path):
    intact = store_path.read_bytes()
    with CSIStore(store_path) as store:
        store.verify()
        h, truth = store.h[:], store.truth
    # All of the description at the beginning, and a sample of the rest.
    places = [*range(0, 8192, 61), *random.Random(0).sample(range(len(intact)), 150), len(intact) - 1]
    found = 0
    for place in places:
        damaged = bytearray(intact)
        damaged[place] ^= 0x10
        store_path.write_bytes(damaged)
        try:
            with CSIStore(store_path) as store:
                store.verify()
                # Bytes between the arrays and unused room in HDF5's structures: nothing may differ then.
                assert torch.equal(store.h[:], h), f"byte {place} changed links unnoticed"
                assert all(torch.equal(store.truth[name], truth[name]) for name in truth)
        except StoreError as error:
            assert "\n" not in str(error)
            found += 1
    assert found > 0.6 * len(places)


def test_a_flipped_byte_of_a_link_is_found_and_named(store_path):
    with CSIStore(store_path) as store:
        place = store.columns["h"].offset + 21 * store.columns["h"].row_bytes + 100
    with open(store_path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))
    with CSIStore(store_path) as store, pytest.raises(StoreError, match=r"links 20 to 25 \(val\)"):
        store.verify()


@pytest.mark.parametrize("keep", [0, 100, 0.3, 0.99, -1])
def test_truncated_files_are_refused(store_path, keep):
    size = store_path.stat().st_size
    with open(store_path, "r+b") as file:
        file.truncate(int(keep * size) if isinstance(keep, float) else keep if keep >= 0 else size + keep)
    with pytest.raises(StoreError) as caught:
        CSIStore(store_path)
    assert str(store_path) in str(caught.value) and "\n" not in str(caught.value)


def test_truncated_while_open(store_path):
    with CSIStore(store_path) as store:
        with open(store_path, "r+b") as file:
            file.truncate(5000)
        with pytest.raises(StoreError, match="truncated"):
            store.h[33]


def test_foreign_and_missing_files_are_refused(tmp_path):
    with pytest.raises(StoreError, match="airlam generate"):
        CSIStore(tmp_path / "nothing.h5")
    text = tmp_path / "notes.h5"
    text.write_text("not HDF5")
    with pytest.raises(StoreError, match="not an airlam store"):
        CSIStore(text)
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["h"] = np.zeros(3)
    with pytest.raises(StoreError, match="HDF5 file, but not an airlam store"):
        CSIStore(other)
    with pytest.raises(StoreError):
        CSIStore(tmp_path)


def test_a_store_rewritten_by_another_tool_is_refused(store_path, tmp_path):
    packed = tmp_path / "packed.h5"
    with h5py.File(store_path) as old, h5py.File(packed, "w") as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        for name in old:
            new.create_dataset(name, data=old[name][...], compression="gzip")
    with pytest.raises(StoreError, match="rewritten by another tool"):
        CSIStore(packed)


def test_pickles_and_closes(store_path):
    store = CSIStore(store_path)
    copy = pickle.loads(pickle.dumps(store))
    assert torch.equal(copy.h[3], store.h[3])
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.h[0]


@pytest.mark.parametrize("mode", ["r", "r+"])
@pytest.mark.parametrize("options", [{"locking": True}, {"locking": False}, {"locking": "best-effort"}, {}], ids=str)
def test_other_handles_in_the_process_do_not_matter(fake, store_path, mode, options):
    before = CSIStore(store_path)
    with h5py.File(store_path, mode, libver="latest", **options) as other:
        if mode == "r+" and not options:
            other.swmr_mode = True  # marks the file as open for writing
        with CSIStore(store_path) as store:
            store.verify()
        pickle.loads(pickle.dumps(before)).verify()
        before.verify()
        assert generate(fake.recipe(), store_path, progress=False) == store_path


def test_a_file_without_permission_is_not_called_damaged(store_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(layout, "open", refused, raising=False)
    with pytest.raises(StoreError, match="Permission denied; check its permissions"):
        CSIStore(store_path)


def test_a_relative_store_survives_a_change_of_folder(store_path, tmp_path, monkeypatch):
    monkeypatch.chdir(store_path.parent)
    store = CSIStore(store_path.name)
    data = pickle.dumps(store)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert torch.equal(pickle.loads(data).h[3], store.h[3])
    store.verify()


@pytest.mark.parametrize(
    "name, field",
    [
        ("speed", layout.Field("<f8", (), "m/s")),
        ("los", layout.Field("u1", (), "bool")),
        ("position", layout.Field("<f4", ("xy",), "m", (2,))),
        ("drop", layout.Field("<i4", (), "id")),
    ],
)
def test_arrays_of_another_type_are_refused(fake, tmp_path, monkeypatch, name, field):
    recipe = load_dataset_recipe(fake.recipe())
    with monkeypatch.context() as patch:
        patch.setitem(layout.TRUTH, name, field)
        layout.create_store(tmp_path / "x.h5", recipe.content, recipe.channel_model)
    with pytest.raises(StoreError, match=f"array '{name}' is {np.dtype(field.dtype)} .*its recipe asks for"):
        layout.open_layout(tmp_path / "x.h5")


@pytest.mark.parametrize("changes", [{"num_test": 9}, {"num_train": 12}, {"horizon": 5}])
def test_rows_that_the_recipe_does_not_ask_for_are_refused(fake, tmp_path, monkeypatch, changes):
    recipe, other = load_dataset_recipe(fake.recipe()), load_dataset_recipe(fake.recipe(**changes))
    attributes = layout.store_attributes(other.content, recipe.channel_model)
    monkeypatch.setattr(layout, "store_attributes", lambda *_: attributes)
    layout.create_store(tmp_path / "x.h5", recipe.content, recipe.channel_model)
    with pytest.raises(StoreError, match=r"array 'h' is float16 \[34, 20, .*its recipe asks for"):
        layout.open_layout(tmp_path / "x.h5")
