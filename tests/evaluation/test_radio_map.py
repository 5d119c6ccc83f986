"""The benchmark of radio maps: what it judges, what it refuses."""

from __future__ import annotations

import pytest
import torch

from airlam.baselines.radio_maps import MapEstimate
from airlam.csi import SiteCSI, SiteMap
from airlam.errors import CheckpointError, RecipeError
from airlam.evaluation import RadioMapBenchmark, Results
from airlam.evaluation.benchmarks.radio_map.config import CLASSICS
from airlam.evaluation.benchmarks.radio_map.figures import error_over_share, maps
from airlam.evaluation.benchmarks.radio_map.first_estimates import FirstEstimates
from airlam.evaluation.benchmarks.radio_map.judging import energy_distance, judge
from airlam.models.radio_map import AirlamMap, AirlamMapConfig

HALL = {
    "channel": "inf_dh_site",
    "overrides": {
        "factory": "sh",
        "stations": [[-60, -40, 45], [60, 40, -135]],
        "links_per_drop": 2,
        "num_subcarriers": 64,
        "subcarrier_spacing": 1.5e6,
        "area": [-60, 60, -40, 40],
    },
    "count": 2,
}
SMALL = dict(places={"hall": HALL}, users=64, shares=[0.25, 0.5], headline_share=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("maps")
    torch.manual_seed(0)
    AirlamMap(AirlamMapConfig()).save_pretrained(out / "model")  # new: gives kriging's answer
    RadioMapBenchmark(**SMALL, model=str(out / "model")).run(out)
    return out


def test_rows_of_all_methods_and_shares(folder):
    results = Results.load(folder / "results.json")
    names = {*CLASSICS, "network", "no-map", "no-position", "truth"} - {"kriging:heights"}  # halls have no height map
    rows = {(row.method, row.settings["measured places"]): row.figures for row in results.rows}
    assert set(rows) == {(name, count) for name in names for count in (16, 32)}
    for count in (16, 32):
        assert rows["kriging", count]["rmse"].number < rows["mean", count]["rmse"].number
        assert rows["network", count]["rmse"].number == pytest.approx(rows["kriging:cities", count]["rmse"].number)
        assert 0.5 < rows["kriging", count]["inside"].number <= 1
        first = {name: rows[name, count]["first_nmse"].number for name in names}
        assert min(first, key=first.get) == "truth" and first["truth"] < -5  # the pilot is at 0 dB
    assert "hall" in results.headline and "first estimate" in results.headline
    assert maps(results) is not None and error_over_share(results) is not None
    assert (folder / "report.html").exists() and len(list((folder / "places").iterdir())) == 1


def test_a_finished_place_is_kept_and_another_argument_runs_again(folder):
    same = RadioMapBenchmark(**SMALL, model=str(folder / "model"))
    assert same.file(folder, "hall").exists()
    for changes in ({"seed": 6}, {"csi_snr_db": 30}, {"model": None}, {"pilot_snr_db": 3.0}):
        other = RadioMapBenchmark(**{**SMALL, "model": str(folder / "model"), **changes})
        assert not other.file(folder, "hall").exists()


@pytest.mark.slow
def test_an_exported_graph_is_judged_as_its_network(folder, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'airlam[onnx]'")
    from airlam.export import export_onnx
    from airlam.models import OnnxMap, load_map

    graph = export_onnx(load_map(folder / "model"), tmp_path / "graph")
    benchmark = RadioMapBenchmark(**SMALL, model=str(graph))
    assert isinstance(benchmark.network(), OnnxMap)
    benchmark.run(tmp_path / "run")
    files = folder / "results.json", tmp_path / "run/results.json"
    by_torch, by_graph = (
        {row.settings["measured places"]: row.figures for row in Results.load(file).rows if row.method == "network"}
        for file in files
    )
    assert by_torch.keys() == by_graph.keys() == {16, 32}
    for count, figures in by_torch.items():
        for name in ("rmse", "similarity"):  # neither is drawn
            assert by_graph[count][name].number == pytest.approx(figures[name].number, rel=1e-4)


def test_the_true_map_is_judged_perfect():
    generator = torch.Generator().manual_seed(0)
    h = 30 * torch.randn(10, 2, 64, 8, dtype=torch.complex64, generator=generator)
    csi = SiteCSI(h, torch.zeros(2, 4), 1e6, (2, 4, 1), torch.rand(10, 3, generator=generator))
    truth = SiteMap.of(csi, noise=False)
    told = MapEstimate(truth.power_db, torch.full_like(truth.power_db, 0.01), truth.profile)
    found = judge(told, truth, FirstEstimates(csi, 0.0, 1), 1)
    assert found["rmse"] == [0, 0] and found["inside"] == [1, 1]
    assert found["similarity"] == pytest.approx([1, 1]) and max(found["distance"]) < 0.1


def test_energy_distance_of_gaussians_grows_with_their_gap():
    a = torch.linspace(-1, 1, 201)
    gaps = [energy_distance(a, a + gap) for gap in (0.0, 0.5, 1.0, 4.0)]
    assert gaps[0] == 0 and gaps == sorted(gaps)
    # far apart: 2 E|A-B| is twice the gap, what is left are the spreads of a uniform, a third of its width each
    assert gaps[3] ** 2 == pytest.approx(2 * 4 - 2 * 2 / 3, rel=0.02)


def test_first_estimates_reach_wieners_error_where_the_profile_is_flat():
    """Independent coefficients of unit variance: no prior does better than 1 / (1 + snr)."""
    generator = torch.Generator().manual_seed(0)
    h = 30 * torch.randn(200, 1, 64, 8, dtype=torch.complex64, generator=generator)
    csi = SiteCSI(h, torch.zeros(1, 4), 1e6, (2, 4, 1), torch.rand(200, 3, generator=generator))
    start = FirstEstimates(csi, 0.0, 1)
    flat = torch.full((200, 1, 32, 4), 1 / 128)
    assert start.nmse(flat)[0] == pytest.approx(-3.01, abs=0.05)  # 1e5 coefficients
    assert start.nmse(flat)[0] <= start.without_a_map()[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shares": [0.05], "headline_share": 0.05}, "at least 8"),
        ({"headline_share": 0.3}, "must be one of shares"),
        ({"shares": [1.0], "headline_share": 1.0}, "not all"),
        ({"places": {}}, "places is empty"),
        ({"places": {"x": {"city": "munich", "channel": "inf_dh_site"}}}, "a city or a channel"),
        ({"places": {"x": {"city": "munich", "counts": 3}}}, "no key 'counts'"),
        ({"places": {"x": {"city": "munich", "count": 0}}}, "count is 0"),
        ({"csi_snr_db": float("inf")}, "finite"),
        ({"users": 4}, "users is 4"),
    ],
)
def test_bad_arguments(changes, words):
    with pytest.raises(RecipeError, match=words) as caught:
        RadioMapBenchmark(**{**SMALL, **changes})
    assert "\n" not in str(caught.value)


def test_places_and_models_that_do_not_fit(tmp_path):
    with pytest.raises(RecipeError, match="no stations"):
        RadioMapBenchmark(**{**SMALL, "model": None, "places": {"x": {"channel": "umi_site"}}}).run(tmp_path)
    with pytest.raises(RecipeError, match="atlantis"):
        RadioMapBenchmark(**{**SMALL, "model": None, "places": {"x": {"city": "atlantis"}}}).run(tmp_path)
    with pytest.raises(CheckpointError, match="airlam-tiny"):
        RadioMapBenchmark(**{**SMALL, "model": "airlam-tiny"}).run(tmp_path)
