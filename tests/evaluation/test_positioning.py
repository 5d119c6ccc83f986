"""The benchmark of positioning: what it judges, what it refuses."""

from __future__ import annotations

import json

import pytest
import torch

from airlam.errors import RecipeError
from airlam.evaluation import PositioningBenchmark, Results
from airlam.evaluation.benchmarks.positioning.config import CLASSICS, NETWORKS
from airlam.evaluation.benchmarks.positioning.figures import error_cdf, error_over_share
from airlam.evaluation.benchmarks.positioning.site import site_users
from airlam.evaluation.benchmarks.positioning.tables import quantile_figure

SMALL = dict(
    sites={
        "hall": {
            "channel": "inf_dh_site",
            "overrides": {
                "factory": "sh",
                "stations": [[-60, -40, 45], [60, -40, 135], [60, 40, -135], [-60, 40, -45]],
                "links_per_drop": 4,
                "num_subcarriers": 64,
                "subcarrier_spacing": 1.5e6,
                "area": [-60, 60, -40, 40],
            },
            "shifts": {"low": {"user_height": 0.8}},
        }
    },
    sizes={"num_train": 64, "num_val": 32, "num_test": 48, "num_shift": 12},
    training={"steps": 4, "batch_size": 16},
    shares=[0.25, 1.0],
    headline_share=1.0,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("positioning")
    PositioningBenchmark(**SMALL).run(out)
    return out


def test_rows_of_all_methods_shares_and_shifts(folder):
    results = Results.load(folder / "results.json")
    rows = {(row.method, row.settings["share"], row.label) for row in results.rows}
    assert rows == {(m, s, label) for m in (*CLASSICS, *NETWORKS) for s, label in ((0.25, ""), (1.0, ""), (1.0, "low"))}
    for row in results.select(group="cell"):
        figures = row.figures
        assert figures["error_50"].number <= figures["error_67"].number <= figures["error_90"].number < 200
        assert 0 <= figures["inside"].number <= 1 and row.num_links == 48
    errors = {row.method: row.figures["error_50"].number for row in results.select(group="cell")}
    assert errors["map"] < 20  # the hall is 120 m long; a guess in the middle is 35 m off
    assert "kriged maps" in results.headline and "hall" in results.headline
    assert error_cdf(results) is not None and error_over_share(results) is not None
    assert "tables" in results.extras and (folder / "report.html").exists()


def test_a_finished_site_is_kept_and_another_argument_runs_again(folder):
    first = {path.name for path in (folder / "sites").iterdir()}
    assert len(first) == 1
    before = json.loads((folder / "sites" / next(iter(first))).read_text())
    assert len(before["users"]["test"]["position"]) == 48 and len(before["users"]["low"]["position"]) == 12
    other = PositioningBenchmark(**{**SMALL, "networks": False, "shares": [1.0]})
    assert other.file(folder, "hall") != PositioningBenchmark(**SMALL).file(folder, "hall")
    assert PositioningBenchmark(**SMALL).file(folder, "hall").name in first


def test_users_of_a_shift_stand_in_the_same_drop_at_their_own_height():
    users = site_users(PositioningBenchmark(**SMALL), "hall")
    assert set(users.test.position[:, 2].tolist()) == {1.5}
    assert torch.allclose(users.shifts["low"].position[:, 2], torch.tensor(0.8))
    # noise has unit variance and the median user's strongest station 20 dB
    strongest = users.train.h.abs().square().mean((2, 3)).amax(1)
    assert 10 * (strongest.median() - 1).log10() == pytest.approx(20, abs=2)  # of 64 of 144 users
    everybody = torch.cat([users.train.position, users.val.position, users.test.position])
    assert len(everybody.unique(dim=0)) == 144


def test_intervals_are_over_blocks_of_neighbours():
    place = [[float(x), 0.0] for x in range(60)]
    figure = quantile_figure([float(x) for x in range(60)], place, 0.5)
    assert figure.number == pytest.approx(29.5) and figure.groups == 4
    alone = quantile_figure([float(x) for x in range(60)], [[20.0 * x, 0.0] for x in range(60)], 0.5)
    # four blocks of similar errors say much less than sixty independent ones
    assert figure.ends[1] - figure.ends[0] > 1.5 * (alone.ends[1] - alone.ends[0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shares": [0.01], "headline_share": 0.01}, "at least 4"),
        ({"headline_share": 0.5}, "must be one of shares"),
        ({"sites": {"x": {"scenario": "umi"}}}, "must name a channel"),
        ({"sites": {"x": {"channel": "inf_dh_site", "shift": {}}}}, "no key 'shift'"),
        ({"csi_snr_db": float("nan")}, "finite"),
        ({"sizes": {"num_test": 0}}, "num_test is 0"),
    ],
)
def test_bad_arguments(changes, words):
    with pytest.raises(RecipeError, match=words) as caught:
        PositioningBenchmark(**{**SMALL, **changes})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("site", "words"),
    [
        ({"channel": "umi_site"}, "no stations, so its users have no places"),
        ({"channel": "cdl_a"}, "no stations"),
        ({**SMALL["sites"]["hall"], "shifts": {"far": {"area": [0, 1, 0, 1]}}}, "shifts user_height alone"),
    ],
)
def test_sites_without_places(site, words, tmp_path):
    with pytest.raises(RecipeError, match=words):
        PositioningBenchmark(**{**SMALL, "sites": {"x": site}}).run(tmp_path)
