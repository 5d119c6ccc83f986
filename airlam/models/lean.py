"""The network of an :class:`~airlam.models.AirlamModel` with nothing in it that nobody reads.

A Hugging Face backbone is made for words and for training: it has masks, dropout, a pooler, positions that are looked
up, and attention weights as outputs. For one link of 80 tokens the calls around the matrix products take as long as a
third of the products. :class:`LeanNetwork` holds the same weights and computes the same values: query, key and value
are one product, the scale of attention stands in the query's weights, positions are one added matrix. It is for
prediction only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from airlam.models.airlam_model import AirlamModel
from airlam.models.layers import ENCODERS
from airlam.models.linear import onednn_works
from airlam.models.spectral_model import SpectralModel

ROWS = 80  # 64 single tokens and 16 groups: what airlam-tiny runs with


class Product(nn.Module):
    """``[..., in]`` -> ``[..., out]``: ``x @ weight.T + bias``, through the Gaussian error unit where ``gelu`` says so.

    With ``plus [..., out]`` it is added to the result (a residual).
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, gelu: bool = False):
        super().__init__()
        self.weight = nn.Buffer(weight.detach().clone(memory_format=torch.contiguous_format))
        self.bias = nn.Buffer(bias.detach().clone())
        self.gelu = gelu

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """See the class."""
        y = nn.functional.linear(x, self.weight, self.bias)
        if self.gelu:
            y = nn.functional.gelu(y)
        return y if plus is None else y + plus


class OneDnnProduct(Product):
    """The same by oneDNN, which is part of torch; unit and residual are computed while the product is in the cache.

    The weights stand in the order that oneDNN wants for about :data:`ROWS` tokens. These operators are internal to
    torch (its compiler uses them).

    Raises:
        RuntimeError: this build of torch does not have them.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, gelu: bool = False):
        super().__init__(weight, bias, gelu=gelu)
        if not onednn_works():
            raise RuntimeError("this build of torch has no oneDNN")
        self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, ROWS)

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """See :class:`Product`."""
        if plus is not None:
            return torch.ops.mkldnn._linear_pointwise.binary(x, plus, self.packed, self.bias, "add")
        unit = "gelu" if self.gelu else "none"
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, unit, [], "none")


MakeProduct = Callable[..., Product]


def check_lean(backbone: Any) -> None:
    """Raises ValueError unless ``backbone`` is one that :class:`LeanBackbone` can stand for."""
    config = backbone.config
    if config.model_type not in ENCODERS or getattr(config, "is_decoder", False):
        raise ValueError(f"a backbone of type {config.model_type!r} has no lean form; types: {', '.join(ENCODERS)}")
    if config.hidden_act != "gelu":
        raise ValueError(f"a backbone with activation {config.hidden_act!r} has no lean form, only 'gelu'")
    if backbone.dtype != torch.float32:
        raise ValueError(f"a backbone in {backbone.dtype} has no lean form, only one in single precision")
    query = backbone.encoder.layer[0].attention.self.query
    if not isinstance(query, nn.Linear):
        raise ValueError("a backbone with adapters has no lean form; merge them with merge_and_unload() first")


class LeanLayer(nn.Module):
    """One layer of a BERT-like encoder, ``[link, token, width]`` -> the same.

    Attributes:
        before: whether it normalises its inputs (roberta-prelayernorm) or its sums (bert, roberta).
        heads: of attention.
        attention, feedforward: the two normalisations, in the order of use.
        joint: query, key and value; the query is scaled.
        out, widen, narrow: attention's output product, and the two of the feed-forward part.
    """

    def __init__(self, layer: Any, kind: str, make: MakeProduct):
        super().__init__()
        self.before = kind == "roberta-prelayernorm"
        inner, attention = layer.attention.self, layer.attention
        self.heads = inner.num_attention_heads
        weights = (inner.query.weight * inner.scaling, inner.key.weight, inner.value.weight)
        biases = (inner.query.bias * inner.scaling, inner.key.bias, inner.value.bias)
        self.joint = make(torch.cat(weights), torch.cat(biases))
        self.out = make(attention.output.dense.weight, attention.output.dense.bias)
        self.widen = make(layer.intermediate.dense.weight, layer.intermediate.dense.bias, gelu=True)
        self.narrow = make(layer.output.dense.weight, layer.output.dense.bias)
        self.attention = copy.deepcopy(attention.LayerNorm if self.before else attention.output.LayerNorm)
        self.feedforward = copy.deepcopy(layer.intermediate.LayerNorm if self.before else layer.output.LayerNorm)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if self.before:
            x = self.out(self.mix(self.attention(x)), x)
            return self.narrow(self.widen(self.feedforward(x)), x)
        x = self.attention(self.out(self.mix(x), x))
        return self.feedforward(self.narrow(self.widen(x), x))

    def mix(self, x: Tensor) -> Tensor:
        """Attention between the tokens of a link, all heads side by side."""
        links, tokens, width = x.shape
        query, key, value = self.joint(x).view(links, tokens, 3, self.heads, width // self.heads).unbind(2)
        mixed = nn.functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), scale=1.0
        )
        return mixed.transpose(1, 2).reshape(links, tokens, width)


class LeanBackbone(nn.Module):
    """A BERT-like backbone from embedded tokens to hidden states, ``[link, token, width]`` -> the same.

    Args:
        backbone: of the types in :data:`airlam.models.layers.ENCODERS`, in single precision, without adapters.
        loops: how often the row of layers is run through.
        make: how matrix products are computed.

    Raises:
        ValueError: another backbone.
    """

    def __init__(self, backbone: Any, loops: int = 1, make: MakeProduct = Product):
        super().__init__()
        check_lean(backbone)
        self.kind, self.loops = backbone.config.model_type, loops
        table = backbone.embeddings
        # RoBERTa counts its positions from behind the padding's own; all tokens have the first type
        first = 0 if self.kind == "bert" else backbone.config.pad_token_id + 1
        places = table.position_embeddings.weight[first:] + table.token_type_embeddings.weight[0]
        self.places = nn.Buffer(places.detach().clone())
        self.entry = copy.deepcopy(table.LayerNorm)
        self.layers = nn.ModuleList(LeanLayer(layer, self.kind, make) for layer in backbone.encoder.layer)
        self.exit = copy.deepcopy(backbone.LayerNorm) if self.kind == "roberta-prelayernorm" else None

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if x.shape[1] > len(self.places):
            raise ValueError(f"{x.shape[1]} tokens, but the backbone has positions for {len(self.places)}")
        x = self.entry(x + self.places[: x.shape[1]])
        for _ in range(self.loops):
            for layer in self.layers:
                x = layer(x)
        return x if self.exit is None else self.exit(x)


class LeanNetwork(nn.Module):
    """``model.network`` without readings of sensors; see the module's docstring. Later changes of the model's weights
    do not reach it.

    Args:
        model: a plain model (adapters merged) on a BERT-like backbone.
        make: how matrix products are computed: :class:`Product` or :class:`OneDnnProduct`.

    Raises:
        ValueError: a model that it cannot stand for: another type of backbone, sensors, adapters, bfloat16.

    Example:
        >>> from airlam.models import AirlamConfig
        >>> model = AirlamModel(AirlamConfig(num_tokens=8, num_groups=0)).eval()
        >>> grid = model.config.doppler_grid
        >>> inputs = torch.randn(1, 8, model.num_features), torch.randn(1, 8, grid), torch.rand(1, 8)
        >>> power, noise, gate = LeanNetwork(model)(*inputs)
        >>> torch.allclose(power, model.network(*inputs).power, atol=1e-6)
        True
    """

    def __init__(self, model: SpectralModel, make: MakeProduct = Product):
        super().__init__()
        if not isinstance(model, AirlamModel):
            raise ValueError(f"a lean network is made of an AirlamModel, not of a {type(model).__name__}")
        if model.config.context:
            raise ValueError(f"a lean network has no inputs for sensors ({', '.join(model.config.context)})")
        first, _, second = model.embedding
        self.grid, self.error_variance = model.config.doppler_grid, model.config.error_variance
        self.first = make(first.weight, first.bias, gelu=True)
        self.second = make(second.weight, second.bias)
        self.backbone = LeanBackbone(model.backbone, model.config.loops, make)
        self.norm = copy.deepcopy(model.norm)
        self.head = make(model.head.weight, model.head.bias)
        self.requires_grad_(False).eval()

    def forward(self, features: Tensor, log_periodogram: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        """``features [link, token, feature]``, ``log_periodogram [link, token, grid]``, ``noise [link, token]`` ->
        ``power [link, token, grid]``, ``noise_variance [link, token]``, ``gate [link, token, 1]`` and, with error
        variances, ``log_scale [link, token, 1]``: :class:`airlam.models.spectral_model.Spectra`."""
        hidden = self.backbone(self.second(self.first(features)))
        out, grid = self.head(self.norm(hidden)), self.grid
        power = torch.softmax(out[..., :grid] + log_periodogram, -1)
        variance = noise * torch.exp(out[..., grid].clamp(-8, 8)) + 1e-7
        gate = torch.sigmoid(out[..., grid + 1 : grid + 2])
        return (power, variance, gate, out[..., -1:]) if self.error_variance else (power, variance, gate)
