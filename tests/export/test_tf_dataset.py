"""Stores as a tf.data.Dataset, in an environment that has TensorFlow (docs/export.md, TensorFlow)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from airlam.data import CSIStore, generate
from airlam.data.batches import StoredBatches, StoredLinks
from airlam.errors import StoreError
from airlam.export import tf_dataset

pytest.importorskip("tensorflow", reason="TensorFlow is not installed: pip install 'airlam[tensorflow]'")
pytestmark = pytest.mark.slow  # TensorFlow takes several seconds to import


RECIPE = {
    "channel": "cdl_a",
    "channel_overrides": {"num_subcarriers": 6, "bs_panel": {"rows": 1, "columns": 2, "polarisation": "dual"}},
    "num_train": 21,
    "num_val": 0,
    "num_test": 7,
    "history": 16,
    "horizon": 4,
    "csi_snr_db": 20.0,
    "batch_size": 4,
    "seed": 3,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = generate(RECIPE, tmp_path_factory.mktemp("store") / "small.h5", workers=1, progress=False)
    with CSIStore(path) as found:
        yield found


def test_a_pass_in_order_is_that_of_airlams_loaders(store):
    links = StoredLinks(store, "test", 16, 4, 20.0, seed=3)
    data = tf_dataset(store, "test", batch_size=3, seed=3)
    for _ in range(2):  # the same noise every time
        batches = list(data.as_numpy_iterator())
        for name in ("h_past", "h_past_true", "h_future", "csi_snr_db", "index"):
            found = np.concatenate([batch[name] for batch in batches])
            wanted = links.__getitems__([*range(len(links))])[name].numpy()
            assert found.dtype == wanted.dtype
            assert np.array_equal(found, wanted), name


def test_training_is_shuffled_and_measured_anew(store):
    links = StoredLinks(store, "train", 8, 2, [5.0, 15.0], seed=1)
    batches = StoredBatches(links, 4)
    data = tf_dataset(store, history=8, horizon=2, csi_snr_db=[5.0, 15.0], batch_size=4, seed=1)
    for number, batch in zip(range(2 * len(batches) + 1), data.as_numpy_iterator(), strict=False):
        assert np.array_equal(batch["h_past"], batches.batch(number)["h_past"].numpy())
    orders = [[*itertools.chain(*(batches.batch(n + p * len(batches))["index"].tolist() for n in range(len(batches))))]
              for p in (0, 1)]  # fmt: skip
    assert orders[0] != orders[1]


def test_tensorflow_trains_on_it(store):
    """A Keras layer from measured to true CSI learns in a few steps."""
    import tensorflow as tf

    def pairs(batch):
        real = [tf.stack([tf.math.real(x), tf.math.imag(x)], -1) for x in (batch["h_past"], batch["h_past_true"])]
        return tuple(tf.reshape(x, (tf.shape(x)[0], -1)) for x in real)

    width = 2 * int(np.prod((16, *store.h.shape[2:])))
    network = tf.keras.Sequential([tf.keras.Input((width,)), tf.keras.layers.Dense(width)])
    network.compile("adam", "mse")
    data = tf_dataset(store, batch_size=8).map(pairs)
    losses = network.fit(data, steps_per_epoch=4, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_what_is_refused(store):
    with pytest.raises(StoreError, match="split is 'training', but"):
        tf_dataset(store, "training")
    with pytest.raises(StoreError, match="holds 20 slots"):
        tf_dataset(store, history=18, horizon=4)
    with pytest.raises(StoreError, match="no links in val"):
        tf_dataset(store, "val")
    with pytest.raises(StoreError, match="at least 1"):
        tf_dataset(store, batch_size=0)
