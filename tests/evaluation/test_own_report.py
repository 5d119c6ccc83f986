"""Reports of rows that no shipped benchmark made: what they call the baseline, the methods and the cells."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from airlam.evaluation.engine.summarise import cell_rows
from airlam.evaluation.report.baseline import bar_label, bar_of
from airlam.evaluation.report.cells import CellNames
from airlam.evaluation.report.collect import sections_of
from airlam.evaluation.report.contents import cell_table
from airlam.evaluation.report.figures import gain_forest, latency_bars, nmse_vs_horizon, nmse_vs_speed, sum_se_vs_speed
from airlam.evaluation.report.html import write_report
from airlam.evaluation.report.leaderboard import leaderboard_tables
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.results import CellRecord, MethodFacts, Series
from airlam.evaluation.rows import Figure, Results
from airlam.methods import Method, own_method, register

CELL = {
    "group": "cell",
    "data": "umi_nlos",
    "recipe": {"slot_duration": 5e-4},
    "speed_kmh": 30.0,
    "csi_snr_db": 20.0,
    "history": 16,
    "horizon": 1,
    "users": (),
    "seed": 7,
    "label": "",
}


def record(methods=("hold", "mean", "mine"), settings=None, **changes) -> CellRecord:
    """A cell of somebody's own benchmark: the methods' errors fall one after the other."""
    made = CellRecord({**CELL, **changes}, {"link": [0, 0, 1, 1]})
    for place, name in enumerate(methods):
        made.add(Series(name, "nmse", "1", [0.4 / (place + 1) + 0.01 * link for link in range(4)]))
        made.methods[name] = MethodFacts((settings or {}).get(name, {}))
    return made


def results_of(*records: CellRecord, bar: str = "hold") -> Results:
    results = Results("The next slot", "next_slot")
    results.rows = [row for each in records for row in cell_rows(each, bar=bar)]
    return results


def test_the_baseline_is_the_one_that_the_gains_are_over(tmp_path):
    results = results_of(record(), record(speed_kmh=3.0))
    assert bar_of(results) == "hold" and bar_label(results) == "hold (outdated CSI)"
    html = write_report(results, tmp_path).read_text()
    assert "NMSE against hold (outdated CSI)" in html and "gain over hold [dB]" in html
    assert not re.search(r"\bAR\b", re.sub(r"base64,[^\"]+", "", html))
    assert bar_of(Results.load(results.save(tmp_path / "results.json"))) == "hold"


def test_an_unknown_baseline_is_not_named(tmp_path):
    results = results_of(record())
    for row in results.rows:
        row.figures = {name: replace(figure, note="") for name, figure in row.figures.items()}
    html = write_report(results, tmp_path).read_text()
    assert "gain over the baseline [dB]" in html and not re.search(r"\bAR\b", re.sub(r"base64,[^\"]+", "", html))
    alone = results_of(record(), bar="none of them")
    assert bar_of(alone) == "" and "gain" not in " ".join(cell_table(alone, "").columns)


def test_a_method_is_called_tuned_only_where_something_was_chosen():
    plain = results_of(record(("hold", "mean", "ar")))
    assert [Looks.of(plain)[name].label for name in ("mean", "ar")] == ["mean of the history", "AR with shrinkage"]
    assert bar_label(plain, "ar") == "the AR"
    chosen = {"mean": {"forgetting": 0.5}, "ar": {"order": 4}}
    tuned = results_of(record(("hold", "mean", "ar"), chosen))
    assert Looks.of(tuned)["mean"].label == "mean of the history (tuned)" and bar_label(tuned, "ar") == "the tuned AR"
    assert Looks.of(plain)["eigen-ar"].label == "AR in the eigenbasis (tuned)"  # not among the rows: as declared


DAMPED = """class Damped:
    name, label, kind, tuning_grid = "damped-here", "damped (tuned)", "classical", {"damping": (0.9, 1.0)}

    def __init__(self, damping=1.0):
        self.damping = damping

    def predict(self, h_past, num_future, *, port_shape=None, context=None):
        return h_past[..., -1:, :, :, :].expand(*h_past.shape[:-4], num_future, *h_past.shape[-3:])
"""


def test_a_method_with_fixed_arguments_is_not_called_tuned(tmp_path, monkeypatch):
    (tmp_path / "damped_here.py").write_text(DAMPED)
    monkeypatch.chdir(tmp_path)
    fixed = {"class_path": "damped_here.Damped", "init_args": {"damping": 0.9}}
    assert own_method(fixed, "predictor", "model").label == "damped"
    assert own_method(own_method(fixed, "predictor", "model").build(), "predictor", "model").label == "damped"
    assert own_method("damped_here:Damped", "predictor", "model").label == "damped (tuned)"


def test_numbers_on_axes_are_plain(results):
    for each in (figure for section in sections_of("channel_prediction") for figure in section.figures):
        figure = each.draw(results)
        figure.canvas.draw()
        for axes in figure.axes:
            texts = [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
            assert not [text for text in texts if "$" in text], each.name
    (axes,) = latency_bars(results).axes
    assert {"0.1", "1", "10"} <= {label.get_text() for label in axes.get_xticklabels()}


def test_rows_without_a_declared_look_are_told_apart():
    for name in ("own-a", "own-b"):
        register(Method(name, factory="mine:A"), replace=True)
    chains = ["ar + tuned", "ar + rzf", "ar + zf", "ar + mrt", "ar + own-beams", "own-a + rzf", "own-b + rzf"]
    chains += ["perfect + rzf", "perfect + wmmse", "perfect + tuned", "perfect + dpc", "net + rzf", "net + own-beams"]
    for focus, names in (
        ("airlam-tiny", ["hold", "ar", "own-a", "own-b", "airlam-tiny", "a-net", "airlam-tiny:no-correction"]),
        ("net + own-beams", chains),
    ):
        looks = Looks(names, focus)
        assert len({(looks[n].color, looks[n].marker, looks[n].line) for n in names}) == len(names)
        marked = [n for n in names if looks[n].marker]  # not by the line alone: points and bars have none
        assert len({(looks[n].color, looks[n].marker) for n in marked}) == len(marked)
        own = [n for n in names if n.startswith("own") or n.endswith("own-beams")]
        assert len({looks[n].color for n in own}) == len(own)
        assert looks[focus] == Looks([focus])[focus]  # nobody takes the look of the headline
        assert all(looks[n] == Looks([n])[n] for n in ("hold", "ar") if n in names)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ([{"history": slots} for slots in (4, 8, 16)], ["4 slots seen", "8 slots seen", "16 slots seen"]),
        ([{"label": text} for text in ("near", "far")], ["near", "far"]),
        ([{"horizon": 1}, {"horizon": 4}], ["1 slots predicted", "4 slots predicted"]),
        ([{"recipe": {"x": 1}}, {"recipe": {"x": 2}}], ["recipe 1", "recipe 2"]),
    ],
)
def test_cells_of_one_speed_say_what_differs(changes, shown, tmp_path):
    results = results_of(*(record(**each) for each in changes))
    table = cell_table(results, "")
    assert [cells[3] for _, cells in table.lines][::3] == shown and table.columns[3] == "cell"
    (board,) = (each for each in leaderboard_tables(results) if each.title.startswith("Every cell"))
    assert [cells[3] for _, cells in board.lines] == shown
    (axes,) = gain_forest(results).axes
    wanted = [f"UMi NLOS, 30 km/h, 20 dB, {text}" for text in shown]
    assert [label.get_text() for label in axes.get_yticklabels()] == wanted
    assert nmse_vs_speed(results) is None and sum_se_vs_speed(results) is None
    for row in results.rows:
        row.figures["nmse_steps_db"] = Figure([-9.0, -8.0], "dB", "measured", None, [0.5, 1.0], "horizon [ms]")
    titles = [axes.get_title("left") for axes in nmse_vs_horizon(results).axes if axes.get_visible()]
    assert titles == [f"UMi NLOS, 30 km/h, {text}" for text in shown]
    write_report(results, tmp_path)
    assert not (tmp_path / "plots" / "nmse_vs_speed.png").exists()


def test_usual_cells_have_no_further_name(results):
    rows = results.select(group="cell")
    assert not any(CellNames(rows).variant(row) for row in rows)
    assert "cell" not in cell_table(results, "").columns and nmse_vs_speed(results) is not None


def test_headings_without_content_are_left_out(results, tmp_path):
    wanted = ("What was compared", "How to read the figures")
    html = write_report(results, tmp_path / "full", sections=()).read_text()
    assert all(heading in html for heading in wanted)
    html = write_report(results_of(record()), tmp_path / "bare", sections=()).read_text()
    assert not any(heading in html for heading in wanted)
