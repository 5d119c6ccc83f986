"""What each part of a training step costs: time, operations and memory, measured on this host or counted.

The parts are those that parallel training can place: tokens (CSI to features, no gradient), embedding, one layer of the
backbone, head (last norms and the head), tail (filters from spectra, prediction, error), optimiser. Time is affine in
the links of a call; a device of another speed needs the host's time times the ratio of their speeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from airlam.errors import StoreError
from airlam.io import read_json, write_json
from airlam.models import AirlamConfig, AirlamModel
from airlam.models.layers import check_layered, layers_of
from airlam.resources import Device

PARTS = ("tokens", "embedding", "layer", "head", "tail", "optimiser")
NOMINAL = 1e9  # FLOP/s of the host of a profile that was counted, not measured
# Work of the parts that are no matrix products, in operations of the layers' speed: so much a token in profiles of
# airlam-tiny, small and base (one thread of a server CPU; 48 tones, 32 ports, 16 slots; 40 to 70 GFLOP/s).
TOKENS_FLOPS = 1.8e6
TAIL_FLOPS = (1.0e6, 0.5e6)  # forward, backward
TOKENS_BYTES = 1.5e6  # for a moment, of a link
OPTIMISER_FLOPS = 40.0  # for each weight, AdamW
LAYER_COMMON = 0.02  # of a layer's time is in norms and sums, which tensor parallelism repeats on every rank


@dataclass(frozen=True)
class Part:
    """One part of a training step. ``*_link``: of each link; ``*_call``: of each call, however few its links.

    Attributes:
        parameters: trained ones (of one layer). frozen: others.
        forward_flops, backward_flops: operations of a link, of matrix products.
        forward_link, backward_link, forward_call, backward_call: seconds on the profile's host. The optimiser's
            ``forward_link`` is of one weight.
        activation_bytes: of a link, kept from the forward to the backward pass. working_bytes: of a link, needed beside
            them for a moment.
    """

    parameters: int = 0
    frozen: int = 0
    forward_flops: float = 0.0
    backward_flops: float = 0.0
    forward_link: float = 0.0
    backward_link: float = 0.0
    forward_call: float = 0.0
    backward_call: float = 0.0
    activation_bytes: float = 0.0
    working_bytes: float = 0.0


@dataclass(frozen=True)
class ModelProfile:
    """A model and what its parts cost.

    Attributes:
        width, heads, key_heads, units: of the backbone: width, attention heads, heads of keys and values, units of the
            feed-forward network. layers: of the backbone. loops: how often they are run through.
        tokens: of a link. features: of a token.
        parts: by the names in :data:`PARTS`.
        attention: share of a layer's work (without ``common``) that is attention's. common: share that is neither
            attention's nor the feed-forward network's matrices.
        shapes: of the trained parameters of each of embedding, layer and head.
        flops_per_second: the host's speed in the layers. host: its name. measured: whether it was measured there.
    """

    width: int
    heads: int
    key_heads: int
    units: int
    layers: int
    loops: int
    tokens: int
    features: int
    parts: Mapping[str, Part]
    attention: float
    common: float
    shapes: Mapping[str, list[list[int]]] = field(repr=False)
    flops_per_second: float = NOMINAL
    host: str = "counted"
    measured: bool = False

    @property
    def key_width(self) -> int:
        """Of the keys of all heads."""
        return self.width // self.heads * self.key_heads

    @property
    def depth(self) -> int:
        """Layers that a link passes through."""
        return self.layers * self.loops

    @property
    def parameters(self) -> int:
        """Trained ones of the whole model."""
        return sum(self.count(name, "parameters") for name in PARTS)

    @property
    def frozen(self) -> int:
        """Parameters that are not trained."""
        return sum(self.count(name, "frozen") for name in PARTS)

    @property
    def flops(self) -> float:
        """Operations of a training step for one link."""
        parts = {name: part.forward_flops + part.backward_flops for name, part in self.parts.items()}
        return sum(value * (self.depth if name == "layer" else 1) for name, value in parts.items())

    def count(self, name: str, what: str) -> int:
        """Parameters (``parameters``, ``frozen``) of a part, of all layers where it is the layer."""
        return getattr(self.parts[name], what) * (self.layers if name == "layer" else 1)

    def seconds(self, name: str, way: str, links: float, device: Device, calls: int = 1) -> float:
        """Time of a part on a device.

        Args:
            way: ``forward`` or ``backward``. links: of all calls together.
        """
        part = self.parts[name]
        on_host = getattr(part, f"{way}_call") * calls + getattr(part, f"{way}_link") * links
        return on_host * self.flops_per_second / device.flops_per_second

    def this_host(self, quota: float = 1.0) -> Device:
        """The profile's host as a device; ``quota``: the share of a processor that it may use."""
        return Device(self.host, self.flops_per_second * quota, 8e9, 20.0, idle_watts=10.0)

    def save(self, path: str | Path) -> Path:
        """As JSON."""
        return write_json(path, asdict(self))

    @classmethod
    def load(cls, path: str | Path) -> ModelProfile:
        """From :meth:`save`.

        Raises:
            StoreError: the file holds something else.
        """
        data = read_json(path)
        try:
            parts = {name: Part(**part) for name, part in data.pop("parts").items()}
            return cls(parts=parts, **data)
        except (TypeError, KeyError, AttributeError):
            raise StoreError(f"{path} is no profile of a model; write one with ModelProfile.save") from None


def count_profile(config: AirlamConfig, *, tokens: int | None = None) -> ModelProfile:
    """A profile from the numbers of operations, without running anything: the model is built without memory.

    Args:
        config: of the model.
        tokens: of a link, where small arrays make fewer than the configuration allows.

    Example:
        >>> profile = count_profile(AirlamConfig(num_tokens=64, num_groups=16))
        >>> profile.tokens, profile.layers, profile.parameters
        (80, 4, 920451)
    """
    model = _without_memory(config)
    sizes: dict[str, Any] = sizes_of(model, tokens or config.num_tokens + config.num_groups)
    w, d, u, t = sizes["width"], sizes["width"], sizes["units"], sizes["tokens"]
    keys = sizes["width"] // sizes["heads"] * sizes["key_heads"]
    gated = 3 if model.backbone.config.model_type == "llama" else 2
    attention = t * (2 * w * (2 * d + 2 * keys) + 4 * t * d)
    feed_forward = t * 2 * gated * w * u
    head = t * 2 * w * model.head.out_features
    embedding = t * 2 * w * (sizes["features"] + w)
    forward = {"embedding": embedding, "layer": attention + feed_forward, "head": head}
    # kept for backward: inputs of every matrix product and non-linearity, attention's weights (the plain form; fused
    # attention keeps none), and in the tail two matrices of 16 x 16 complex doubles for each token
    kept = {
        "tokens": t * 4 * (sizes["features"] + 256),
        "embedding": t * 4 * (sizes["features"] + 3 * w),
        "layer": t * 4 * (8 * w + 2 * u) + 4 * sizes["heads"] * t * t,
        "head": t * 4 * (3 * w + 2 * model.head.out_features),
        "tail": t * 8192,
    }
    working = {"tokens": TOKENS_BYTES, "layer": 0.5 * kept["layer"]}
    parts = {}
    for name in PARTS:
        count = parameters_of(model).get(name, (0, 0))
        flops = (forward.get(name, 0.0), (1.5 if name == "embedding" else 2) * forward.get(name, 0.0))
        if name == "tokens":
            flops = (TOKENS_FLOPS * t, 0.0)
        if name == "tail":
            flops = (TAIL_FLOPS[0] * t, TAIL_FLOPS[1] * t)
        extra = 1 / (1 - LAYER_COMMON) if name == "layer" else 1.0
        work = (OPTIMISER_FLOPS, 0.0) if name == "optimiser" else flops
        parts[name] = Part(
            parameters=count[0],
            frozen=count[1],
            forward_flops=flops[0],
            backward_flops=flops[1],
            forward_link=extra * work[0] / NOMINAL,
            backward_link=extra * work[1] / NOMINAL,
            activation_bytes=float(kept.get(name, 0)),
            working_bytes=float(working.get(name, kept.get(name, 0))),
        )
    return ModelProfile(
        **sizes,
        parts=parts,
        attention=attention / (attention + feed_forward),
        common=LAYER_COMMON,
        shapes=shapes_of(model),
    )


def _without_memory(config: AirlamConfig) -> Any:
    """The model on the meta device."""
    import torch

    state = torch.get_rng_state()
    try:
        with torch.device("meta"):
            model = AirlamModel(config)
    finally:
        torch.set_rng_state(state)
    check_layered(model.backbone)
    return model


def sizes_of(model: Any, tokens: int) -> dict[str, int]:
    """The sizes of a :class:`ModelProfile`."""
    c = model.backbone.config
    heads = c.num_attention_heads
    units = getattr(c, "intermediate_size", None) or getattr(c, "n_inner", None) or 4 * c.hidden_size
    return {
        "width": c.hidden_size,
        "heads": heads,
        "key_heads": getattr(c, "num_key_value_heads", None) or heads,
        "units": units,
        "layers": len(layers_of(model.backbone)),
        "loops": model.config.loops,
        "tokens": tokens,
        "features": model.num_features,
    }


def _modules(model: Any) -> dict[str, list[Any]]:
    """Parameters of embedding (positions included), one layer, and head (the last norms included)."""
    layers = layers_of(model.backbone)
    inside = {id(p) for p in layers.parameters()}
    rest = {name: p for name, p in model.backbone.named_parameters() if id(p) not in inside}
    positions = [p for name, p in rest.items() if name.split(".")[0] in ("embeddings", "embed_tokens", "wpe", "wte")]
    norms = [p for name, p in rest.items() if name.split(".")[0] not in ("embeddings", "embed_tokens", "wpe", "wte")]
    return {
        "embedding": [*model.embedding.parameters(), *positions],
        "layer": list(layers[0].parameters()),
        "head": [*norms, *model.norm.parameters(), *model.head.parameters()],
    }


def parameters_of(model: Any) -> dict[str, tuple[int, int]]:
    """Trained and frozen parameters of each part."""
    found = {}
    for name, parameters in _modules(model).items():
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        found[name] = (trained, sum(p.numel() for p in parameters) - trained)
    return found


def shapes_of(model: Any) -> dict[str, list[list[int]]]:
    """Shapes of the trained parameters of each part."""
    return {name: [list(p.shape) for p in ps if p.requires_grad] for name, ps in _modules(model).items()}
