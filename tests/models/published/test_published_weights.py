"""State dicts of the published layouts: read, refused where they do not fit, and computed as the public code computes.

The tests make the files. ``Sums`` are the published formulas written out from the tensors' names alone, in double
precision, so that a network with swapped layers, norms, heads or patches does not pass.
"""

import math
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear, relu, softmax

from airlam.errors import CheckpointError
from airlam.models.published import LWM, WiFo, WiFoPredictor, load_lwm, load_wifo, read_state_dict
from airlam.testing import PredictorContract

ROUNDING = 2e-4  # single against double precision through ten blocks, relative to values of about one


def filled(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Random tensors; gains of norms near one."""
    draw = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=draw)
        gain = "norm" in name and name.endswith((".weight", ".alpha"))
        state[name] = 1 + 0.1 * value if gain else value / math.sqrt(max(shape[-1], 8))
    return state


def wifo_shapes(width: int = 64, encoder: int = 2, decoder: int = 1) -> dict[str, tuple[int, ...]]:
    """Names and shapes of ``model.state_dict()`` in WiFo's inference code."""
    shapes = {
        "pos_embed_spatial": (1, 64, width),
        "pos_embed_temporal": (1, 4, width),
        "decoder_pos_embed_fre": (1, 32, width),
        "decoder_pos_embed_antenna": (1, 4, width),
        "decoder_pos_embed_spatial": (1, 64, width),
        "decoder_pos_embed_temporal": (1, 4, width),
        "mask_token": (1, 1, width),
        "Embedding.value_embedding.tokenConv.weight": (width, 2, 4, 4, 4),
        "Embedding.value_embedding.tokenConv.bias": (width,),
        "decoder_embed.weight": (width, width),
        "decoder_embed.bias": (width,),
        "decoder_pred.weight": (128, width),
        "decoder_pred.bias": (128,),
    }
    for stack, count in (("blocks", encoder), ("decoder_blocks", decoder)):
        for i in range(count):
            layers = {f"attn.{name}": (width, width) for name in "qkv"} | {"attn.proj": (width, width)}
            layers |= {"mlp.fc1": (2 * width, width), "mlp.fc2": (width, 2 * width)}
            for name, shape in layers.items():
                shapes |= {f"{stack}.{i}.{name}.weight": shape, f"{stack}.{i}.{name}.bias": shape[:1]}
            for name in ("norm1", "norm2"):
                shapes |= {f"{stack}.{i}.{name}.{part}": (width,) for part in ("weight", "bias")}
    for name in ("norm", "decoder_norm"):
        shapes |= {f"{name}.{part}": (width,) for part in ("weight", "bias")}
    return shapes


def lwm_shapes(version: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of LWM 1.0 and 1.1."""
    width, inner, patch, places = (64, 60, 16, 129) if version == "1.0" else (128, 128, 32, 513)
    shapes = {
        "embedding.proj.weight": (width, patch),
        "embedding.proj.bias": (width,),
        "embedding.pos_embed.weight": (places, width),
        "linear.weight": (width, width),
        "linear.bias": (width,),
        "decoder.weight": (patch, width),
        "decoder_bias": (patch,),
    }
    norms = ["embedding.norm", "norm"]
    for i in range(12):
        here = f"layers.{i}."
        for name in ("W_Q", "W_K", "W_V"):
            shapes |= {f"{here}enc_self_attn.{name}.weight": (inner, width)}
            shapes |= {f"{here}enc_self_attn.{name}.bias": (inner,)}
        shapes |= {f"{here}enc_self_attn.linear.weight": (width, inner), f"{here}enc_self_attn.linear.bias": (width,)}
        shapes |= {f"{here}pos_ffn.fc1.weight": (4 * width, width), f"{here}pos_ffn.fc1.bias": (4 * width,)}
        shapes |= {f"{here}pos_ffn.fc2.weight": (width, 4 * width), f"{here}pos_ffn.fc2.bias": (width,)}
        first = ["enc_self_attn.norm", "pos_ffn.norm", "norm"]
        norms += [here + name for name in (first if version == "1.0" else ["norm1", "norm2"])]
    return shapes | {f"{name}.{part}": (width,) for name in norms for part in ("alpha", "bias")}


class Sums:
    """The published formulas on tensors by name."""

    def __init__(self, state: dict[str, Tensor]):
        self.state = {name: value.double() for name, value in state.items()}

    def layer(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def attention(self, x: Tensor, names: list[str], heads: int) -> Tensor:
        """Head by head."""
        q, k, v = (self.layer(name, x) for name in names)
        size, parts = q.shape[-1] // heads, []
        for i in range(heads):
            a, b, c = (y[..., i * size : (i + 1) * size] for y in (q, k, v))
            parts.append(softmax(a @ b.mT / math.sqrt(size), -1) @ c)
        return torch.cat(parts, -1)

    def wifo_norm(self, name: str, x: Tensor) -> Tensor:
        return layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], 1e-6)

    def wifo_blocks(self, stack: str, count: int, x: Tensor) -> Tensor:
        for i in range(count):
            here = f"{stack}.{i}."
            y = self.wifo_norm(here + "norm1", x)
            y = self.attention(y, [f"{here}attn.{name}" for name in "qkv"], 8)
            x = x + self.layer(here + "attn.proj", y)
            y = gelu(self.layer(here + "mlp.fc1", self.wifo_norm(here + "norm2", x)))
            x = x + self.layer(here + "mlp.fc2", y)
        return x

    def wifo(self, h: Tensor, future: int) -> Tensor:
        """One link ``[slot, tone, antenna]``, patch by patch."""
        weight = self.state["Embedding.value_embedding.tokenConv.weight"].flatten(1)
        tokens, places = [], []
        sizes = [n // 4 for n in (h.shape[0] + future, *h.shape[1:])]
        for t in range(sizes[0]):
            for f in range(sizes[1]):
                for a in range(sizes[2]):
                    code = []
                    for place, size in ((t, 22), (f, 22), (a, 20)):
                        rates = [1 / 10000 ** (i / (size / 2)) for i in range(size // 2)]
                        code += [math.sin(place * r) for r in rates] + [math.cos(place * r) for r in rates]
                    places.append(code)
                    if 4 * t < h.shape[0]:
                        patch = h[4 * t : 4 * t + 4, 4 * f : 4 * f + 4, 4 * a : 4 * a + 4]
                        tokens.append(torch.stack([patch.real, patch.imag]).flatten())
        place = torch.tensor(places, dtype=torch.float64)
        bias = self.state["Embedding.value_embedding.tokenConv.bias"]
        x = torch.stack(tokens) @ weight.T + bias + place[: len(tokens)]
        x = self.layer("decoder_embed", self.wifo_norm("norm", self.wifo_blocks("blocks", 2, x)))
        x = torch.cat([x, self.state["mask_token"][0].expand(len(places) - len(x), -1)]) + place
        x = self.wifo_norm("decoder_norm", self.wifo_blocks("decoder_blocks", 1, x))
        out = self.layer("decoder_pred", x)[len(tokens) :]
        found = torch.zeros(future, *h.shape[1:], dtype=torch.complex128)
        index = 0
        for t in range(future // 4):
            for f in range(sizes[1]):
                for a in range(sizes[2]):
                    values = out[index].reshape(4, 4, 4, 2)
                    place = (slice(4 * t, 4 * t + 4), slice(4 * f, 4 * f + 4), slice(4 * a, 4 * a + 4))
                    found[place] = torch.complex(values[..., 0], values[..., 1])
                    index += 1
        return found

    def lwm_norm(self, name: str, x: Tensor) -> Tensor:
        unit = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6)
        return self.state[f"{name}.alpha"] * unit + self.state[f"{name}.bias"]

    def lwm(self, tokens: Tensor, version: str) -> Tensor:
        x = self.layer("embedding.proj", tokens) + self.state["embedding.pos_embed.weight"][: len(tokens)]
        x = self.lwm_norm("embedding.norm", x)
        for i in range(12):
            here = f"layers.{i}."
            names = [f"{here}enc_self_attn.{name}" for name in ("W_Q", "W_K", "W_V")]
            mixed = x + self.layer(
                here + "enc_self_attn.linear", self.attention(x, names, {"1.0": 12, "1.1": 8}[version])
            )
            mixed = (
                self.lwm_norm(here + "norm", mixed) if version == "1.0" else self.lwm_norm(here + "norm1", x + mixed)
            )
            out = mixed + self.layer(here + "pos_ffn.fc2", relu(self.layer(here + "pos_ffn.fc1", mixed)))
            x = out if version == "1.0" else self.lwm_norm(here + "norm2", out)
        return x


@pytest.fixture
def wifo_file(tmp_path):
    torch.save(filled(wifo_shapes()), tmp_path / "wifo_tiny.pkl")
    return tmp_path / "wifo_tiny.pkl"


def csi(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(3))


def test_wifo_computes_what_the_public_code_computes(wifo_file):
    h = csi(2, 8, 8, 4)
    found = load_wifo(wifo_file)(h, 8)
    expected = torch.stack([Sums(read_state_dict(wifo_file)).wifo(link.to(torch.complex128), 8) for link in h])
    assert expected.abs().mean() > 0.1
    torch.testing.assert_close(found.to(torch.complex128), expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_lwm_computes_what_the_public_code_computes(tmp_path, version):
    torch.save({f"module.{k}": v for k, v in filled(lwm_shapes(version)).items()}, tmp_path / "model_weights.pth")
    network, h = load_lwm(tmp_path / "model_weights.pth"), 1e-6 * csi(2, 8, 16)
    assert network.version == version
    tokens, found = network.tokens(h), network(h)
    expected = torch.stack(
        [Sums(read_state_dict(tmp_path / "model_weights.pth")).lwm(x.double(), version) for x in tokens]
    )
    torch.testing.assert_close(found.double(), expected, rtol=ROUNDING, atol=ROUNDING)


def test_tokens_of_lwm():
    """1.0: 16 numbers in a row, all real parts first. 1.1: blocks of 4 x 4, real and imaginary parts in turn."""
    h = 1e-6 * torch.complex(torch.arange(64.0), 100 + torch.arange(64.0)).reshape(1, 8, 8)
    first, second = LWM("1.0").tokens(h)[0], LWM("1.1").tokens(h)[0]
    torch.testing.assert_close(first[0], torch.full((16,), 0.2))
    torch.testing.assert_close(first[1], torch.arange(16.0))
    torch.testing.assert_close(first[5], 100 + torch.arange(16.0))
    torch.testing.assert_close(second[1, :8], torch.tensor([0.0, 100, 1, 101, 2, 102, 3, 103]))
    torch.testing.assert_close(second[2, :2], torch.tensor([4.0, 104]))  # the next four subcarriers
    torch.testing.assert_close(second[3, :2], torch.tensor([32.0, 132]))  # the next four antennas
    assert LWM("1.1").tokens(h[:, :7, :5]).shape == (1, 5, 32)  # filled up with zeros


def test_sizes_are_the_published_ones():
    count = {size: sum(p.numel() for p in WiFo(size).parameters()) for size in (64, 128, 256, 512)}
    millions = {size: round(number / 1e6, 1) for size, number in count.items()}
    assert millions == {64: 0.4, 128: 1.4, 256: 5.4, 512: 21.4}  # stated: 0.3, 1.4, 5.5, 21.6 with unused positions
    assert round(sum(p.numel() for p in LWM("1.0").parameters()) / 1e6, 1) == 0.6
    assert round(sum(p.numel() for p in LWM("1.1").parameters()) / 1e6, 1) == 2.5


class TestWiFoPredictor(PredictorContract):
    """All promises but two: random weights do not hold a static channel, and as published a common phase matters."""

    one_band = True
    test_constant_csi_stays_near = None
    test_equivariant_to_global_phase = None

    @pytest.fixture(autouse=True)
    def _file(self, wifo_file):
        type(self).file = str(wifo_file)

    def make(self):
        return WiFoPredictor(self.file)


def test_a_horizon_that_four_does_not_divide(wifo_file):
    predictor, h = WiFoPredictor(str(wifo_file)), csi(3, 10, 8, 2, 8)
    out = predictor.predict(h, 3)
    assert out.shape == (3, 3, 8, 2, 8)
    torch.testing.assert_close(out, predictor.predict(h[:, 2:], 4)[:, :3])
    with pytest.raises(ValueError, match="patches of 4 subcarriers x 4 ports, which do not divide 6 x 8"):
        predictor.predict(h[:, :, :6], 3)


def test_other_containers(tmp_path):
    state = filled(wifo_shapes())
    save_file(state, tmp_path / "x.safetensors")
    torch.save({"state_dict": {f"model.{k}": v for k, v in state.items()}, "epoch": 0}, tmp_path / "x.ckpt")
    for name in ("x.safetensors", "x.ckpt"):
        torch.testing.assert_close(load_wifo(tmp_path / name).mask_token.detach(), state["mask_token"])


class Runs:
    """A pickle that would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickled_module_is_refused_and_never_run(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")  # as LLM4CP publishes its weights
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    for name in ("module.pth", "evil.pth"):
        with pytest.raises(CheckpointError, match=r"pickled module.*weights_only.*torch.save\(module.state_dict\(\)"):
            read_state_dict(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_a_mismatch_names_key_and_shapes_in_one_line(tmp_path):
    def error(state, load=load_wifo):
        torch.save(state, tmp_path / "x.pth")
        with pytest.raises(CheckpointError) as caught:
            load(tmp_path / "x.pth")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    state = filled(wifo_shapes())
    other = state | {"blocks.1.mlp.fc1.weight": torch.zeros(256, 64)}
    assert "blocks.1.mlp.fc1.weight must have the shape [128, 64], but has [256, 64]" in error(other)
    lost = {name: value for name, value in state.items() if name != "norm.bias"}
    assert "norm.bias of the shape [64] is missing" in error(lost)
    assert "it has no head.weight, which is there with the shape [3]" in error(state | {"head.weight": torch.zeros(3)})
    assert "mask_token must have the shape [1, 1, width]" in error(state | {"mask_token": torch.zeros(1, 1, 65)})
    assert "layout LWM: embedding.proj.weight is missing" in error(state, load_lwm)
    wrong = filled(lwm_shapes("1.0")) | {"layers.3.norm.alpha": torch.zeros(65)}
    assert "layers.3.norm.alpha must have the shape [64], but has [65]" in error(wrong, load_lwm)
    assert "holds NaN or infinity" in error(state | {"norm.bias": torch.full((64,), torch.nan)})
    assert "must hold tensors by name" in error([torch.zeros(2)])
    with pytest.raises(CheckpointError, match="no file"):
        load_wifo(tmp_path / "none.pkl")
    with pytest.raises(ValueError, match="LWM 1.0 takes at most 128"):
        LWM("1.0").tokens(csi(1, 64, 32))
