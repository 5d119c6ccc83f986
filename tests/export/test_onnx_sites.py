"""Exported networks of radio maps and positions: parity with torch at any size, and what is refused.

A relative tolerance of 1e-4 throughout, that of the export itself: both sides compute in single precision and sum in
another order. Measured: 2e-6 of the largest value.
"""

from __future__ import annotations

import json
import math
import shutil
import sys

import pytest
import torch

from airlam.baselines.positioning import PositionEstimate, SiteCSI
from airlam.csi import HeightMap, SiteMap
from airlam.csi.site_map import DELAYS
from airlam.errors import CheckpointError
from airlam.loading import load_predictor
from airlam.models import (
    AirlamMap,
    AirlamMapConfig,
    AirlamPosition,
    AirlamPositionConfig,
    OnnxMap,
    OnnxPosition,
    load_map,
    load_position,
    save_checkpoint,
)
from airlam.models.position import PositionInputs
from airlam.models.radio_map import MapInputs, start_of

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'airlam[onnx]'")

from airlam.export import export_litert, export_onnx, onnx_sites  # noqa: E402

TOLERANCE = 1e-4


def assert_close(a: torch.Tensor, b: torch.Tensor) -> None:
    assert a.shape == b.shape and a.dtype == b.dtype
    assert float((a - b).abs().max()) <= TOLERANCE * float(b.abs().max())


def made(kind: type, config, seed: int = 0):
    """A small network that says something: a new one gives what it starts from."""
    torch.manual_seed(seed)
    network = kind(config).eval()
    last = network.head[-1] if kind is AirlamMap else network.head
    torch.nn.init.normal_(last.weight, std=0.5)
    return network


@pytest.fixture(scope="module")
def backbone():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return {"model_type": "roberta-prelayernorm", "vocab_size": 2, "eos_token_id": 1, **sizes}


@pytest.fixture(scope="module")
def radio_map(backbone):
    return made(AirlamMap, AirlamMapConfig(backbone))


@pytest.fixture(scope="module")
def position(backbone):
    return made(AirlamPosition, AirlamPositionConfig(backbone, stations=3))


@pytest.fixture(scope="module")
def folders(radio_map, position, tmp_path_factory):
    """Of both exported networks, by the type of model."""
    root = tmp_path_factory.mktemp("exported")
    return {x.config.model_type: export_onnx(x, root / x.config.model_type) for x in (radio_map, position)}


@pytest.fixture(scope="module")
def onnx_map(folders):
    return OnnxMap(folders["airlam-map"])


@pytest.fixture(scope="module")
def onnx_position(folders):
    return OnnxPosition(folders["airlam-position"])


def site(count: int, stations: int = 2, beams: int = 4, seed: int = 0) -> SiteMap:
    generator = torch.Generator().manual_seed(seed)
    place = torch.cat((80 * torch.rand(count, 2, generator=generator) - 40, torch.full((count, 1), 1.5)), 1)
    taps = 1e3 * torch.rand(count, stations, DELAYS, beams, generator=generator) ** 8
    return SiteMap(place, taps, 96, 1e6)


def stands(stations: int = 2) -> torch.Tensor:
    return torch.tensor([[3.0, -5.0, 12.0, 30.0], [60.0, 20.0, 8.0, 180.0], [-50.0, 9.0, 20.0, 0.0]])[:stations]


def roofs() -> HeightMap:
    blocks = 20 * (torch.rand(12, 12, generator=torch.Generator().manual_seed(1)) > 0.6).float()
    return HeightMap(blocks.repeat_interleave(5, 0).repeat_interleave(5, 1), (-60.0, -60.0), 2.0)


def users(count: int, stations: int = 3, ports=(2, 4, 1)) -> SiteCSI:
    generator = torch.Generator().manual_seed(2)
    h = 5 * torch.randn(count, stations, 48, math.prod(ports), dtype=torch.complex64, generator=generator)
    return SiteCSI(h, torch.zeros(stations, 4), 1e6, ports)


def around(count: int) -> PositionEstimate:
    generator = torch.Generator().manual_seed(3)
    mean = 50 * torch.rand(count, 2, generator=generator).double()
    sizes = 1 + 99 * torch.rand(count, 1, 1, generator=generator).double()
    covariance = torch.tensor([[1.0, 0.3], [0.3, 0.5]]).double() * sizes
    return PositionEstimate(mean, covariance)


@pytest.mark.parametrize("measured", [1, 2, 16, 60])
@pytest.mark.parametrize(("stations", "places", "heights"), [(1, 1, None), (2, 9, "roofs"), (3, 70, "roofs")])
def test_maps_are_the_same_for_any_site(radio_map, onnx_map, measured, stations, places, heights):
    """From one to 16 neighbours, of which the export has seen three."""
    known, asked = site(measured, stations), site(places, seed=5).place
    given = known, stands(stations), roofs() if heights else None
    found, wanted = (network.fit(*given).at(asked) for network in (onnx_map, radio_map))
    assert found.power_db.shape == (places, stations)
    for name in ("power_db", "spread_db", "profile"):
        assert_close(getattr(found, name), getattr(wanted, name))
    change = start_of(*given).at(asked).power_db - wanted.power_db
    assert float(change.abs().max()) > 0.1  # dB; the network does say something


@pytest.mark.parametrize("count", [1, 2, 33, 300])
def test_positions_are_the_same_for_any_number_of_users(position, onnx_position, count):
    csi, start = users(count), around(count)
    found, wanted = (network.locate(csi, start) for network in (onnx_position, position))
    assert found.mean.shape == (count, 2) and found.mean.dtype == torch.float64
    assert_close(found.mean, wanted.mean)
    assert_close(found.covariance, wanted.covariance)
    assert float((wanted.mean - start.mean).abs().max()) > 0.1  # m


def test_they_are_called_as_the_networks_are(radio_map, position, onnx_map, onnx_position):
    inputs = MapInputs.of(start_of(site(5), stands(), None), site(4, seed=5).place)
    of_users = PositionInputs.of(users(4), around(4))
    for ours, theirs, x in ((onnx_map, radio_map, inputs), (onnx_position, position, of_users)):
        for a, b in zip(ours.eval()(*x), theirs(*x), strict=True):
            assert_close(a, b.detach())
        for name in ("backbone", "beams"):
            assert getattr(ours.config, name) == getattr(theirs.config, name)
        assert ours.num_parameters == theirs.num_parameters() and not list(ours.parameters())


@pytest.mark.slow
def test_the_shipped_network_and_the_backbone_of_airlam_tiny(tmp_path):
    plain, known, asked = load_map("airlam-map"), site(60, 3), site(90, seed=5).place
    exported = OnnxMap(export_onnx(plain, tmp_path / "map"), threads=1)
    found, wanted = (network.fit(known, stands(3), roofs()).at(asked) for network in (exported, plain))
    for name in ("power_db", "spread_db", "profile"):
        assert_close(getattr(found, name), getattr(wanted, name))
    plain = made(AirlamPosition, AirlamPositionConfig(stations=6))
    exported = OnnxPosition(export_onnx(plain, tmp_path / "position"))
    found, wanted = (network.locate(users(50, 6), around(50)) for network in (exported, plain))
    assert_close(found.mean, wanted.mean)
    assert_close(found.covariance, wanted.covariance)


def test_the_folder_holds_a_graph_and_its_largest_error(folders):
    for kind, folder in folders.items():
        assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.onnx"]
        fields = json.loads((folder / "config.json").read_text())
        assert fields["model_type"] == kind and fields["export_format"] == "onnx"
        assert 0 < fields["largest_error"] <= TOLERANCE


def test_a_graph_that_computes_something_else_is_not_left_behind(backbone, position, tmp_path, monkeypatch):
    other = made(AirlamPosition, AirlamPositionConfig(backbone, stations=3), seed=1)
    write = onnx_sites.write_graph
    monkeypatch.setattr(onnx_sites, "write_graph", lambda network, *rest: write(other, *rest))
    with pytest.raises(CheckpointError, match=r"the exported graph's moved is off by \d\.\de[-+]\d\d, over 0.0001"):
        export_onnx(position, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_only_to_onnx_in_single_precision_and_never_over_something(radio_map, position, folders, tmp_path):
    with pytest.raises(ValueError, match="int8 is for predictors alone, not for AirlamMap; leave it out"):
        export_onnx(radio_map, tmp_path / "x", int8=True)
    with pytest.raises(TypeError, match="only an AirlamModel can be exported, got AirlamPosition"):
        export_litert(position, tmp_path / "x")
    with pytest.raises(TypeError, match="only an AirlamModel, AirlamMap or AirlamPosition can be exported, got Linear"):
        export_onnx(torch.nn.Linear(1, 1), tmp_path / "x")
    with pytest.raises(CheckpointError, match="not an empty folder"):
        export_onnx(radio_map, folders["airlam-position"])
    assert not (tmp_path / "x").exists()


def test_each_kind_says_who_runs_it(folders, tmp_path):
    one, other = folders["airlam-map"], folders["airlam-position"]
    for load, folder, words in (
        (OnnxMap, other, "only models of type 'airlam-map' run here; airlam.models.OnnxPosition runs it"),
        (OnnxPosition, one, "only models of type 'airlam-position' run here; airlam.models.OnnxMap runs it"),
        (load_predictor, one, "airlam.models.OnnxMap runs it"),
        (load_map, one, "exported graph, which only predicts; name the checkpoint behind it"),
        (load_position, other, "exported graph, which only predicts; name the checkpoint behind it"),
        (OnnxMap, tmp_path / "nowhere", "holds no exported graph; 'airlam export' makes one"),
    ):
        with pytest.raises(CheckpointError, match=words) as caught:
            load(folder)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


def edit(folder, **changes):
    fields = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(fields))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "model.onnx").unlink(), "has no model.onnx; export the checkpoint again"),
        (lambda f: (f / "model.onnx").write_bytes((f / "model.onnx").read_bytes()[:-1] + b"x"), "is damaged"),
        (lambda f: (edit(f, graph_sha256=None), (f / "model.onnx").write_bytes(b"nonsense")), "no graph that ONNX"),
        (lambda f: edit(f, export_format="onnx-int8"), "export_format is 'onnx-int8', not one of"),
        (lambda f: edit(f, beams=2), "do not belong together; export the checkpoint again"),
        (lambda f: edit(f, beams=10**9), "beams must be at most"),
        (lambda f: edit(f, beam=4), "did you mean 'beams'"),
        (lambda f: edit(f, parameters=-1), "parameters must be an integer of at least 0, got -1"),
        (lambda f: edit(f, model_type="x" * 5000), "run here; export another checkpoint"),
        (lambda f: (f / "config.json").write_text("[1]"), "holds no exported graph"),
    ],
)
@pytest.mark.parametrize(("kind", "runtime"), [("airlam-map", OnnxMap), ("airlam-position", OnnxPosition)])
def test_damaged_folders_are_refused(folders, tmp_path, kind, runtime, damage, words):
    copy = shutil.copytree(folders[kind], tmp_path / "copy")
    damage(copy)
    with pytest.raises(CheckpointError, match=words) as caught:
        runtime(copy)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 900


def test_another_number_of_stations_in_config_json_is_refused(folders, tmp_path):
    copy = shutil.copytree(folders["airlam-position"], tmp_path / "copy")
    edit(copy, stations=4)
    with pytest.raises(CheckpointError, match="do not belong together"):
        OnnxPosition(copy)


def test_missing_packages_are_named(position, folders, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # how Python marks what cannot be imported
    with pytest.raises(CheckpointError, match=r"needs onnxruntime; pip install 'airlam\[onnx\]'"):
        export_onnx(position, tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"needs ONNX Runtime; pip install 'airlam\[onnx\]'"):
        OnnxMap(folders["airlam-map"])


def test_bad_arguments_of_a_map_are_refused(folders, onnx_map):
    with pytest.raises(ValueError, match="threads must be an integer of at least 1, got 0"):
        OnnxMap(folders["airlam-map"], threads=0)
    known, asked = site(20), site(5, seed=5).place
    for call, words in (
        (lambda: onnx_map.fit(known[:0], stands()), "known holds no place"),
        (lambda: onnx_map.fit(known, stands(3)), "known has 2 stations"),
        (lambda: onnx_map.fit(known, stands()).at(asked * math.nan), "place holds NaN"),
        (lambda: onnx_map.fit(site(20, beams=2), stands()).at(asked), "has 2 beams, but this network knows 4"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_bad_inputs_of_the_graphs_are_refused(onnx_map, onnx_position):
    inputs = MapInputs.of(start_of(site(20), stands(), None), site(5, seed=5).place)
    for changed, words in (
        (inputs._replace(told=inputs.told[:3]), r"told has shape \[3, 4\], but must be \[queries, 4\] with 10 queries"),
        (inputs._replace(place=inputs.place[:, 1:]), r"place has shape \[10, 41\], but must be \[queries, 42\]"),
        (inputs._replace(direct=inputs.direct[:, None]), r"direct has shape \[10, 1\], but must be \[queries\]"),
        (inputs._replace(place=inputs.place[:0]), r"place has shape \[0, 42\].*no axis empty; .*MapInputs.of makes it"),
        (inputs[:3], "got 3 inputs, but the graph takes 12; airlam.models.radio_map.MapInputs.of makes them"),
    ):
        with pytest.raises(ValueError, match=words):
            onnx_map(*changed)
    of_users = PositionInputs.of(users(4), around(4))
    for changed, words in (
        (of_users._replace(mean=of_users.mean[:2]), r"mean has shape \[2, 2\], but must be \[users, 2\] with 4 users"),
        (
            of_users._replace(stations=of_users.stations[0]),
            r"stations has shape \[3, 105\], but must be \[users, 3, 10",
        ),
        ((), "got 0 inputs, but the graph takes 3"),
    ):
        with pytest.raises(ValueError, match=words):
            onnx_position(*changed)


def test_other_users_and_sites_are_refused_by_both(position, onnx_position):
    for network in (position, onnx_position):
        for csi, start, words in (
            (users(4, 5), around(4), "the CSI is of 5 stations, but this network was made for 3; train one"),
            (
                users(4, 3, (2, 2, 1)),
                around(4),
                r"has 57 features \(2 beams\), but this network was made for 105 \(4 be",
            ),
            (users(4), around(3), "csi has 4 users and start 3; give a start of the same users"),
            (users(4)[:0], around(0), "csi has 0 users and start 0; .* at least one"),
        ):
            with pytest.raises(ValueError, match=words):
                network.locate(csi, start)


def test_a_fitted_checkpoint_loads_as_it_was(position, radio_map, tmp_path):
    saved = save_checkpoint(position, tmp_path / "hall")
    again, csi, start = load_position(saved), users(5), around(5)
    assert torch.equal(again.locate(csi, start).mean, position.locate(csi, start).mean)
    with pytest.raises(CheckpointError, match="of type 'airlam-position', not 'airlam-map'; .*load_position takes it"):
        load_map(saved)
    with pytest.raises(CheckpointError, match="of type 'airlam-map', not 'airlam-position'; .*load_map takes it"):
        load_position(save_checkpoint(radio_map, tmp_path / "map"))
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="only pickled weights"):
        load_position(saved)
