"""The network of a checkpoint for TensorFlow: a Keras model with the same weights, and a SavedModel.

As in the other exports the network goes from token features to Doppler spectra (:mod:`airlam.models.exported`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from airlam.errors import CheckpointError
from airlam.export.folder import TOLERANCE, Network, check_model, example, write_folder
from airlam.models import AirlamModel
from airlam.models.exported import INPUTS, OUTPUTS

PACKAGES = ("tensorflow",)
INSTALL = "pip install 'airlam[tensorflow]'"
BACKBONE = "roberta-prelayernorm"


def keras_network(model: AirlamModel) -> Any:
    """The network of ``model`` as a ``keras.Model`` with its weights; it can be trained further.

    Args:
        model: with a backbone of type ``roberta-prelayernorm``, as all shipped ones have, without loops and sensors.

    Returns:
        A model of ``{"features": [link, token, ...], "log_periodogram": [link, token, grid], "noise": [link, token]}``
        (float32) -> ``{"power": [link, token, grid], "noise_variance": [link, token], "gate": [link, token, 1],
        "log_scale": [link, token, 1]}``, the last only with ``error_variance``. Links and tokens are free.

    Raises:
        CheckpointError: TensorFlow is not installed, or another backbone.

    Example:
        >>> import airlam
        >>> from airlam.export import keras_network
        >>> network = keras_network(airlam.load_predictor("airlam-tiny").model)  # doctest: +SKIP
    """
    _check_fits(model)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras
    from keras import layers, ops

    config, grid = model.backbone.config, model.config.doppler_grid
    weights = {name: x.detach().float().numpy() for name, x in model.state_dict().items()}

    def dense(name: str, activation: str | None = None) -> Any:
        layer = layers.Dense(weights[f"{name}.weight"].shape[0], activation, name=name.replace(".", "_"))
        layer.build((None, None, weights[f"{name}.weight"].shape[1]))
        layer.set_weights([weights[f"{name}.weight"].T, weights[f"{name}.bias"]])
        return layer

    def norm(name: str, epsilon: float) -> Any:
        layer = layers.LayerNormalization(epsilon=epsilon, name=name.replace(".", "_"))
        layer.build((None, None, weights[f"{name}.weight"].shape[0]))
        layer.set_weights([weights[f"{name}.weight"], weights[f"{name}.bias"]])
        return layer

    epsilon = config.layer_norm_eps

    def attention(x: Any, name: str) -> Any:
        heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
        layer = layers.MultiHeadAttention(heads, size, name=name.replace(".", "_"))
        y = layer(x, x)
        arrays: list[Any] = []
        for part in ("query", "key", "value"):
            arrays.append(weights[f"{name}.self.{part}.weight"].T.reshape(-1, heads, size))
            arrays.append(weights[f"{name}.self.{part}.bias"].reshape(heads, size))
        arrays.append(weights[f"{name}.output.dense.weight"].T.reshape(heads, size, -1))
        layer.set_weights([*arrays, weights[f"{name}.output.dense.bias"]])
        return y

    def positions(like: Any) -> Any:
        """Of tokens 0, 1, ...: the backbone's vectors of positions, and of the one type of token."""
        places, kinds = (
            weights[f"backbone.embeddings.{x}.weight"] for x in ("position_embeddings", "token_type_embeddings")
        )
        table = places[config.pad_token_id + 1 :] + kinds[:1]
        layer = layers.Embedding(*table.shape, name="positions")
        layer.build()
        layer.set_weights([table])
        return layer(ops.cast(ops.cumsum(ops.ones_like(like), 1) - 1, "int32"))

    widths = (model.num_features, grid)
    inputs = [keras.Input((None, width), name=name) for name, width in zip(INPUTS, widths, strict=False)]
    inputs.append(keras.Input((None,), name=INPUTS[2]))
    features, log_periodogram, noise = inputs
    x = dense("embedding.2")(dense("embedding.0", "gelu")(features))
    x = norm("backbone.embeddings.LayerNorm", epsilon)(x + positions(noise))
    for n in range(config.num_hidden_layers):
        layer = f"backbone.encoder.layer.{n}"
        x = x + attention(norm(f"{layer}.attention.LayerNorm", epsilon)(x), f"{layer}.attention")
        inner = dense(f"{layer}.intermediate.dense", "gelu")(norm(f"{layer}.intermediate.LayerNorm", epsilon)(x))
        x = x + dense(f"{layer}.output.dense")(inner)
    out = dense("head")(norm("norm", model.norm.eps)(norm("backbone.LayerNorm", epsilon)(x)))
    found = {
        "power": ops.softmax(out[..., :grid] + log_periodogram),
        "noise_variance": noise * ops.exp(ops.clip(out[..., grid], -8, 8)) + 1e-7,
        "gate": ops.sigmoid(out[..., grid + 1 : grid + 2]),
    }
    if model.config.error_variance:
        found["log_scale"] = out[..., -1:]
    return keras.Model({x.name: x for x in inputs}, found, name="airlam")


def export_tensorflow(model: AirlamModel, folder: str | Path) -> Path:
    """Write the network of ``model`` as a SavedModel, which C++, Java and TensorFlow Serving read, too.

    It is loaded and compared with the model before the folder appears. Its function is ``serve``; inputs and outputs
    are those of :func:`keras_network`.

    Args:
        model: see :func:`keras_network`.
        folder: new or empty.

    Returns:
        ``folder``; ``tf.saved_model.load(folder)`` reads it. It is no checkpoint: ``load_predictor`` does not take it.

    Raises:
        CheckpointError: also where ``folder`` holds something, or the network does not compute what the model does.

    Example:
        >>> from airlam.export import export_tensorflow
        >>> from airlam.models import AirlamConfig, AirlamModel
        >>> folder = export_tensorflow(AirlamModel(AirlamConfig()), "saved_model")  # doctest: +SKIP
    """
    _check_fits(model)

    def write(work: Path) -> None:  # called once the folder is known to be free
        import tensorflow as tf

        network = keras_network(model)
        network.export(str(work), verbose=False)
        _compare(model, tf.saved_model.load(str(work)))

    return write_folder(folder, write)


def _check_fits(model: AirlamModel) -> None:
    """Raises CheckpointError or TypeError unless the model can be exported and the packages are there."""
    check_model(model, PACKAGES, "TensorFlow", INSTALL)
    kind = model.backbone.config.model_type
    if kind != BACKBONE or model.config.loops > 1:
        what = f"a backbone of type {kind!r}" if kind != BACKBONE else f"{model.config.loops} loops"
        raise CheckpointError(f"{what} cannot be exported to TensorFlow, only type {BACKBONE!r} without loops")


def _compare(model: AirlamModel, saved: Any) -> None:
    """Every output, for several numbers of links and tokens, against the model."""
    for links, tokens in ((3, 5), (1, 80)):
        inputs = example(model, links, tokens)
        with torch.no_grad():
            wanted = Network(model).eval()(*inputs)
        got = saved.serve({name: x.numpy() for name, x in zip(INPUTS, inputs, strict=True)})
        for name, b in zip(OUTPUTS, wanted, strict=False):
            error = float((torch.from_numpy(got[name].numpy()) - b).abs().max() / b.abs().max().clamp_min(1e-20))
            if not error <= TOLERANCE:
                raise CheckpointError(f"the exported network's {name} is off by {error:.1e}, over {TOLERANCE}")
