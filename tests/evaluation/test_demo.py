"""The demo on a pocket-sized site."""

import pytest
import torch

from airlam.errors import RecipeError
from airlam.evaluation import demo
from airlam.evaluation.demo.report import print_table
from airlam.evaluation.demo.training import SiteWindows, adapt, as_predictor
from airlam.evaluation.rows import Results
from airlam.loading import load_predictor

TINY = {
    "channel_overrides": {
        "num_subcarriers": 12,
        "bs_panel": {"rows": 2, "columns": 2, "polarisation": "dual", "pattern": "omni"},
    },
    "num_adapt": 12,
    "num_held_out": 16,
    "num_slots": 22,
    "num_speed_classes": 2,
    "group_size": 4,
    "steps": 2,
    "batch_size": 4,
    "num_tune": 4,
    "lora_rank": 2,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from airlam.models import AirlamConfig, AirlamModel, save_checkpoint
    from airlam.models.config import DEFAULT_BACKBONE

    torch.manual_seed(0)
    backbone = DEFAULT_BACKBONE | {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 32}
    config = AirlamConfig(backbone=backbone, num_tokens=16)
    return str(save_checkpoint(AirlamModel(config), tmp_path_factory.mktemp("models") / "pygmy"))


@pytest.mark.slow
def test_demo_adapts_compares_and_reports(model, tmp_path, capsys):
    report = demo.run(tmp_path, model=model, **TINY)
    assert report == tmp_path / "report.html" and report.is_file()
    results = Results.load(tmp_path / "results.json")
    rows = {row.method: row for row in results.select(group="mean")}
    assert {
        "hold",
        "pad",
        "ar",
        "pygmy",
        "pygmy:no-correction",
        "pygmy:adapted",
        "pygmy:random-start",
        "perfect",
    } <= set(rows)
    adapted, blank = rows["pygmy:adapted"], rows["pygmy:random-start"]
    network = load_predictor(model).model.untrained()
    learns = sum(p.numel() for p in network.parameters() if p.requires_grad)  # all but the pooler and the like
    assert 0 < adapted.parameters_trainable < blank.parameters_trainable == learns < blank.parameters_total
    assert rows["pygmy"].parameters_trainable == 0
    # two steps changed something, and nobody beats perfect CSI
    assert adapted.figures["nmse_linear_db"].number != rows["pygmy"].figures["nmse_linear_db"].number
    assert max(rows, key=lambda method: rows[method].figures["sum_se_k4"].number) == "perfect"
    assert {"adaptation_gain_cells_db", "pretraining_gain_cells_db", "start_gain_cells_db"} <= adapted.figures.keys()
    assert len(results.select(group="cell", method="ar")) == 2
    printed = capsys.readouterr().out.replace("\n", "")
    assert "report.html" in printed and "perfect CSI" in printed
    assert "its gain over the tuned AR [dB], sum-SE [bit/s/Hz], median latency (p50) [ms]" in printed
    assert "Quick run (num_adapt 12 instead of 384, num_held_out 16 instead of 96, steps 2 instead of 250)" in printed
    assert "A demonstration on one site" in report.read_text()


def test_printed_texts_are_no_markup(results, capsys):
    from rich.console import Console

    results.title, results.extras["focus"] = "[bold]title[/x]", "[red]mine[/y]"
    for row in results.rows:
        row.method = "[red]mine[/y]" if row.method == "airlam-tiny" else row.method
    print_table(Console(width=200), results)
    printed = capsys.readouterr().out
    assert "[bold]title[/x]" in printed and "[red]mine[/y]" in printed
    assert "[dB]" in printed and "[bit/s/Hz]" in printed and "[ms]" in printed


def test_only_smaller_demos_are_quick_runs():
    assert "Quick run" not in demo.SiteDemo().banner() and "one site" in demo.SiteDemo().banner()
    assert demo.SiteDemo(steps=10).banner().startswith("Quick run (steps 10 instead of 250)")


@pytest.mark.slow
def test_the_saved_adapter_predicts_what_the_report_judged(model, tmp_path):
    from airlam.models import save_lora

    one = demo.SiteDemo(model=model, random_start=False, **TINY)
    users, held_out = one.site()
    network = adapt(users, one, 2)
    save_lora(network, tmp_path / "adapter")
    again = load_predictor(tmp_path / "adapter")
    h_past = held_out.h[:4, :16]
    want = as_predictor(network)[0].predict(h_past, 4, port_shape=held_out.port_shape)
    got = again.predict(h_past, 4, port_shape=held_out.port_shape)
    # merged and unmerged adapters round differently in single precision
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_site_is_one_snapshot_and_no_user_is_on_both_sides():
    users, held_out = demo.SiteDemo(**TINY).site()
    assert len(users) == 12 and len(held_out) == 16
    assert torch.cat([users.drop, held_out.drop]).unique().numel() == 1
    there = {tuple(p) for p in users.position.tolist()}
    assert not there & {tuple(p) for p in held_out.position.tolist()}
    assert users.recipe["spatial_consistency"]


def test_training_batches_repeat_with_the_seed():
    one = demo.SiteDemo(**TINY)
    users, _ = one.site()
    first, again = (next(iter(SiteWindows(users, one))) for _ in range(2))
    assert torch.equal(first["h_past"], again["h_past"]) and first["h_past"].shape == (4, 16, 12, 1, 8)
    # the window is one of its users' own, somewhere in their slots
    windows = users.h[first["index"]].unfold(1, 16, 1)
    assert any(torch.equal(first["h_past_true"], windows[:, i].movedim(-1, 1)) for i in range(windows.shape[1]))
    assert first["h_future"].shape == (4, 4, 12, 1, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_held_out": 15}, "num_held_out is 15"),
        ({"num_slots": 19}, "num_slots is 19"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_sizes_that_do_not_fit(change, message):
    with pytest.raises(RecipeError, match=message):
        demo.SiteDemo(**TINY | change)
