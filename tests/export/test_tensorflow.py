"""The network for TensorFlow, in an environment that has it (docs/export.md, TensorFlow).

A relative tolerance of 1e-4: both sides compute in single precision and sum in another order. Measured: 2e-6.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from airlam.cli import main
from airlam.errors import CheckpointError
from airlam.loading import load_predictor
from airlam.models import AirlamConfig, AirlamModel
from airlam.models.exported import INPUTS, OUTPUTS

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed: pip install 'airlam[tensorflow]'")

from airlam.export import export_tensorflow, keras_network  # noqa: E402

pytestmark = pytest.mark.slow  # TensorFlow takes several seconds to import
GPT2 = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 2, "n_positions": 64}


@pytest.fixture(scope="module")
def model():
    return load_predictor("airlam-tiny").model


@pytest.fixture(scope="module")
def network(model):
    return keras_network(model)


def inputs_of(model, links: int, tokens: int) -> tuple[torch.Tensor, ...]:
    """Token features of real channels would do as well; the network takes any."""
    g = torch.Generator().manual_seed(links)
    grid = model.config.doppler_grid
    shapes = (links, tokens, model.num_features), (links, tokens, grid)
    return *(torch.randn(x, generator=g) for x in shapes), torch.rand(links, tokens, generator=g)


@pytest.mark.parametrize(("links", "tokens"), [(1, 80), (3, 5), (2, 1), (7, 33)])
def test_parity_for_any_links_and_tokens(model, network, links, tokens):
    given = inputs_of(model, links, tokens)
    out = network(dict(zip(INPUTS, (x.numpy() for x in given), strict=True)))
    with torch.no_grad():
        wanted = model.network(*given)
    for name, b in zip(OUTPUTS, wanted, strict=True):
        a = torch.from_numpy(np.array(out[name]))
        assert a.shape == b.shape
        assert float((a - b).abs().max()) <= 1e-4 * float(b.abs().max()), name


def test_it_can_be_trained(model):
    """Weights that are trained change what the network says, and gradients reach all of them."""
    network = keras_network(model)
    given = {name: tf.convert_to_tensor(x.numpy()) for name, x in zip(INPUTS, inputs_of(model, 2, 9), strict=True)}
    with tf.GradientTape() as tape:
        out = network(given)
        loss = sum(tf.reduce_mean(tf.square(x)) for x in out.values())
    gradients = tape.gradient(loss, network.trainable_variables)
    assert all(g is not None for g in gradients)
    count = sum(int(np.prod(x.shape)) for x in network.trainable_variables)
    assert count > 0.7 * sum(x.numel() for x in model.parameters())  # without pooler, words, tracker
    before = float(loss)
    tf.keras.optimizers.SGD(1e-6).apply(gradients, network.trainable_variables)
    assert float(sum(tf.reduce_mean(tf.square(x)) for x in network(given).values())) < before


def test_saved_model_and_keras_file(model, network, tmp_path):
    out = tmp_path / "saved_model"
    assert main(["export", "airlam-tiny", "--format", "tensorflow", "--out", str(out)]) == 0
    given = inputs_of(model, 2, 17)
    arrays = dict(zip(INPUTS, (x.numpy() for x in given), strict=True))
    saved = tf.saved_model.load(str(out))
    served = saved.serve(arrays)
    network.save(tmp_path / "network.keras")
    np.savez(tmp_path / "arrays.npz", **arrays)
    code = "import sys, numpy, keras\nn = keras.models.load_model(sys.argv[1])\nassert 'airlam' not in sys.modules\n"
    code += "numpy.save(sys.argv[3], n(dict(numpy.load(sys.argv[2])))['power'])"
    files = [str(tmp_path / name) for name in ("network.keras", "arrays.npz", "power.npy")]
    subprocess.run([sys.executable, "-c", code, *files], check=True)
    again = {"power": np.load(files[2])}
    with torch.no_grad():
        wanted = model.network(*given).power.numpy()
    for found in (served, again):
        assert np.abs(np.asarray(found["power"]) - wanted).max() <= 1e-4 * wanted.max()


def test_what_is_refused(model, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="'gpt2' cannot be exported"):
        keras_network(AirlamModel(AirlamConfig(backbone=GPT2)))
    (tmp_path / "mine.txt").write_text("mine")
    with monkeypatch.context() as patch, pytest.raises(CheckpointError, match="not an empty folder"):
        patch.setattr("airlam.export.tensorflow.keras_network", None)  # the folder is refused before it is called
        export_tensorflow(model, tmp_path)
    with pytest.raises(TypeError, match="only an AirlamModel"):
        keras_network(torch.nn.Linear(1, 1))
