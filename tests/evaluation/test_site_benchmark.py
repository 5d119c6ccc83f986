"""Adaptation to sites, on pocket-sized ones."""

from __future__ import annotations

import pytest
import torch

from airlam.errors import RecipeError, StoreError
from airlam.evaluation import Results, SiteBenchmark
from airlam.evaluation.benchmarks.sites.record import SiteRecord, add_mean
from airlam.evaluation.benchmarks.sites.users import user_blocks
from airlam.evaluation.engine import statistics
from airlam.evaluation.engine.training import Choice, adapt
from airlam.evaluation.report.style import look, order
from airlam.evaluation.report.verdicts import support
from airlam.evaluation.results import CellRecord, MethodFacts, Series
from airlam.evaluation.rows import Row
from airlam.evaluation.runner import load_runner
from airlam.io import read_json, write_json

TINY = {
    "conditions": {
        "channel_overrides": {
            "num_subcarriers": 12,
            "bs_panel": {"rows": 2, "columns": 2, "polarisation": "dual", "pattern": "omni"},
        }
    },
    "sites": {"street": {"channel": "umi_site"}, "hall": {"channel": "inf_nlos", "speed_kmh": [3, 30]}},
    "adaptation": {
        "fractions": [0.25, 1.0],
        "steps": [2, 3],
        "headline_fraction": 0.25,
        "choose_fraction": 0.25,
        "adaptations": [{"learning_rate": 1e-2}, {"learning_rate": 1e-2, "lora_rank": 2}],
        "seeds": [0, 1],
        "batch_size": 4,
    },
    "sizes": {"num_train": 16, "num_val": 4, "num_test": 16, "num_tune": 4, "num_speed_classes": 2},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from airlam.models import AirlamConfig, AirlamModel, save_checkpoint
    from airlam.models.config import DEFAULT_BACKBONE

    torch.manual_seed(0)
    backbone = DEFAULT_BACKBONE | {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 32}
    config = AirlamConfig(backbone=backbone, num_tokens=16, num_groups=0)
    return str(save_checkpoint(AirlamModel(config), tmp_path_factory.mktemp("models") / "pygmy"))


@pytest.mark.slow
def test_run_compares_reports_and_resumes(model, tmp_path, capsys):
    benchmark = SiteBenchmark(model=model, **TINY)
    report = benchmark.run(tmp_path)
    assert report == tmp_path / "report.html" and "Site by site" in report.read_text()
    assert "With how much of the site" in (tmp_path / "leaderboard.md").read_text()
    results = Results.load(tmp_path / "results.json")
    rows = {row.method: row for row in results.select(group="site", data="hall")}
    variants = [f"pygmy:{kind}-{share}%" for kind in ("adapted", "random-start") for share in (25, 100)]
    assert set(rows) == {"hold", "mean", "ar", "eigen-ar", "pygmy", "pygmy:no-correction", "perfect", *variants}
    adapted = rows["pygmy:adapted-25%"]
    assert adapted.parameters_trainable > 0 == rows["pygmy"].parameters_trainable
    assert {"adaptation_gain_cells_db", "pretraining_gain_cells_db"} <= adapted.figures.keys()
    assert adapted.figures["pretraining_gain_cells_db"].note == "pygmy:random-start-25%"
    # the gain is the difference of the two rows' means, and both have intervals over users
    both = adapted.figures["nmse_cells_db"].number, rows["pygmy"].figures["nmse_cells_db"].number
    assert adapted.figures["adaptation_gain_cells_db"].number == pytest.approx(both[1] - both[0], abs=1e-9)
    assert adapted.figures["adaptation_gain_cells_db"].interval is not None
    assert len(results.select(group="cell", method="ar")) == 4
    capsys.readouterr()
    benchmark.run(tmp_path)
    assert "users" not in capsys.readouterr().out  # finished sites are not run again


@pytest.mark.slow
def test_users_are_split_and_of_one_snapshot(model):
    benchmark = SiteBenchmark(model=model, **TINY)
    links = benchmark.links("hall")
    assert [len(part) for part in (links.train, links.val, links.test)] == [16, 4, 16]
    everyone = torch.cat([links.train.position, links.val.position, links.test.position])
    assert len({tuple(p) for p in everyone.tolist()}) == 36
    assert links.train.recipe["spatial_consistency"] and links.train.recipe["links_per_drop"] == 36


@pytest.mark.slow
def test_adapt_repeats_leaves_its_start_alone_and_keeps_the_best(model):
    from airlam.loading import load_predictor

    benchmark = SiteBenchmark(model=model, **TINY)
    links, start = benchmark.links("street"), load_predictor(model).model
    before = {name: value.clone() for name, value in start.state_dict().items()}
    fields = dict(batch_size=4, history=16, csi_snr_db=20.0, seed=0)
    first, again = (adapt(start, links.train, links.val, Choice(1e-3), steps=4, **fields) for _ in range(2))
    assert all(torch.equal(value, start.state_dict()[name]) for name, value in before.items())
    assert first.val_db == again.val_db and first.step == again.step
    # a ruinous rate: the start itself is what validation likes best, and it comes back unchanged
    ruined = adapt(start, links.train, links.val, Choice(0.9), steps=3, **fields)
    if ruined.step == 0:
        assert all(torch.equal(value, ruined.model.state_dict()[name]) for name, value in before.items())
    assert ruined.val_db <= adapt(start, links.train, links.val, Choice(1e-9), steps=1, **fields).val_db + 1e-3


def test_a_site_that_cannot_run_is_a_row_that_says_so():
    benchmark = SiteBenchmark(sites={"rt_munich": {"channel": "rt_munich"}})
    results = benchmark.results([SiteRecord("rt_munich", benchmark.recipe("rt_munich"), not_run="no LLVM")])
    (row,) = results.rows
    assert row.group == "not_run" and row.note == "not run: no LLVM" and "no LLVM" in results.headline


def test_names_say_the_share_and_stand_in_order():
    names = [f"airlam-tiny:adapted-{share}%" for share in (100, 5, 10, 1)]
    assert order([*names, "airlam-tiny", "ar"]) == ["ar", "airlam-tiny", *(names[n] for n in (3, 1, 2, 0))]
    assert look(names[1]).label == "airlam-tiny, adapted (5% of the links)"
    assert look("airlam-tiny:adapted").label == "airlam-tiny, adapted"


def of_one_seed(value: float) -> CellRecord:
    record = CellRecord({"group": "cell"}, {"link": [0, 1]})
    record.add(Series("few", "nmse", "1", [value, 3 * value]), Series("other", "nmse", "1", [9.0, 9.0]))
    record.methods["few"] = MethodFacts({"rank": 2}, 7, 1, value)
    return record


def test_means_over_seeds():
    record = CellRecord({"group": "cell"}, {"link": [0, 1]})
    add_mean(record, "few", [of_one_seed(1.0), of_one_seed(2.0)], {"links": 5})
    assert record.values("few", "nmse").tolist() == [1.5, 4.5] and not record.find("other", "nmse")
    assert record.methods["few"] == MethodFacts({"links": 5}, 7, 1, 1.5)


def test_a_site_comes_back_from_its_file(tmp_path):
    record = SiteRecord(
        "here", {"scenario": "umi"}, cells=[of_one_seed(1.0)], training={"few": {"links": 5}}, seconds=2.0
    )
    again = SiteRecord.from_plain(read_json(write_json(tmp_path / "site.json", record.plain())))
    assert again.plain() == record.plain()
    with pytest.raises(StoreError, match="schema 'airlam-site/1'"):
        SiteRecord.from_plain(record.plain() | {"schema": "airlam-site/1"})
    with pytest.raises(StoreError, match="record of a"):
        SiteRecord.from_plain({"schema": record.plain()["schema"], "site": "here"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes.num_test": 15}, "sizes.num_test is 15"),
        ({"sizes.num_tune": 17}, "sizes.num_tune is 17"),
        ({"sizes.num_tests": 16}, "did you mean 'num_test'"),
        ({"adaptation.steps": [3]}, "2 fractions have 1 steps"),
        ({"adaptation.headline_fraction": 0.3}, "headline_fraction is 0.3, but must be one of the fractions"),
        ({"adaptation.fractions": [0.25, 2.0]}, "fractions holds 2"),
        ({"sites": {"x": {}}}, "sites.x"),
        ({"sites": {}}, "sites is empty"),
        ({"adaptation.seeds": []}, "seeds must not be empty"),
        ({"adaptation.precision": "half"}, "precision is 'half'"),
        ({"adaptation.adaptations": [{"rate": 1}]}, "must hold learning_rate"),
        ({"adaptation.controls": [{"learning_rate": 2}]}, "learning_rate is 2"),
    ],
)
def test_arguments_that_do_not_fit(change, message):
    with pytest.raises(RecipeError, match=message):
        load_runner("airlam.evaluation.SiteBenchmark", TINY, change)


def test_a_site_needs_spatial_consistency():
    with pytest.raises(RecipeError, match="cdl_a has no spatial consistency"):
        SiteBenchmark(sites={"line": {"channel": "cdl_a"}}).recipe("line")


def test_neighbours_are_resampled_together():
    """Users whose errors are alike within a block: resampled by block the interval is as wide as it must be."""
    generator = torch.Generator().manual_seed(0)
    corner = 50.0 * torch.arange(16).repeat_interleave(12)
    position = torch.stack([corner, -corner, 1.5 * torch.ones_like(corner)], 1)
    position[:, :2] += 49 * torch.rand(192, 2, generator=generator)
    blocks = user_blocks(position, 50.0)
    assert blocks.unique(return_counts=True)[1].tolist() == [12] * 16
    assert torch.equal(blocks[:12], blocks[:1].expand(12))
    # the mean of 16 independent blocks: standard deviation 1 / 4; the mean of 192 independent users: 1 / 14
    shared = torch.randn(16, generator=generator).repeat_interleave(12)
    by_block = statistics.mean_figure(shared.double(), blocks, "1")
    by_user = statistics.mean_figure(shared.double(), torch.arange(192), "1")
    widths = [figure.ends[1] - figure.ends[0] for figure in (by_block, by_user)]
    assert widths[0] > 3 * widths[1]
    assert widths[0] == pytest.approx(2 * 2.13 * float(shared[::12].std()) / 4, rel=0.2)  # Student's t, 15 degrees


def test_a_site_says_how_many_blocks_it_rests_on():
    rows = [Row("ar", "umi_site", num_links=64, num_drops=30), Row("ar", "uma_site", num_links=64, num_drops=41)]
    assert support(rows, "blocks of neighbouring users") == "64 links from 30 to 41 blocks of neighbouring users"
    assert support(rows, "users") == "64 users"
