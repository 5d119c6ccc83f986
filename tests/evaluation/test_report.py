"""The report: one file, nothing outside it, everything escaped, every plot drawn."""

import base64
import re
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from matplotlib.figure import Figure as Canvas

from airlam.evaluation.engine.timing import is_busy, latency_series, timed_figures
from airlam.evaluation.report.collect import sections_of
from airlam.evaluation.report.contents import extra_tables, mean_table
from airlam.evaluation.report.drawing import draw_panels
from airlam.evaluation.report.figures import LATENCY, csi_period
from airlam.evaluation.report.html import publish, write_report
from airlam.evaluation.report.markdown import write_leaderboard, write_tables
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.sections import ReportFigure, Section, rows_of
from airlam.evaluation.report.sentences import details, headline
from airlam.evaluation.report.style import title
from airlam.evaluation.report.table import Table
from airlam.evaluation.results import CellRecord
from airlam.evaluation.rows import Figure, Results, Row
from airlam.metrics.latency import Latency


class Links(HTMLParser):
    """What a browser would fetch, and whether tags balance."""

    VOID = {"meta", "link", "img", "br", "hr", "input"}

    def __init__(self):
        super().__init__()
        self.fetched, self.open, self.unbalanced = [], [], []

    def handle_starttag(self, tag, attrs):
        self.fetched += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "poster")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)


@pytest.fixture(scope="module")
def report(tmp_path_factory, make_results):
    results = make_results(0.6)
    results.headline = headline(results, "airlam-tiny")
    path = write_report(results, tmp_path_factory.mktemp("report"))
    return results, path, path.read_text(encoding="utf-8")


def test_nothing_outside_the_file_is_needed(report):
    _, _, html = report
    links = Links()
    links.feed(html)
    assert links.fetched and all(value.startswith("data:image/svg+xml;base64,") for value in links.fetched)
    assert not re.search(r"https?://", html)  # no address at all: nothing to fetch, nothing to track
    assert "<script" not in html and "@import" not in html
    assert links.open == [] and links.unbalanced == []


def test_it_says_what_it_must(report):
    results, _, html = report
    assert results.headline in html.replace("&#39;", "'")
    assert 'class="headline better"' in html
    for text in ("What was compared", "measured", "modelled", "Make it again", results.environment["command"]):
        assert text in html
    for label in ("AR with shrinkage (tuned)", "airlam-tiny, correction off", "perfect CSI", "genie LMMSE (bound)"):
        assert label in html


def test_texts_are_escaped(report):
    assert "&lt;b&gt;Text is escaped&lt;/b&gt; &amp; safe." in report[2]


FIGURES = [figure for section in sections_of("channel_prediction") for figure in section.figures]


def test_every_plot_is_drawn_labelled_and_written(report):
    _, path, html = report
    assert html.count("<img ") == len(FIGURES) == 12
    for name in (figure.name for figure in FIGURES):
        assert (path.parent / "plots" / f"{name}.svg").stat().st_size > 2000
        assert (path.parent / "plots" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_axes_have_labels_with_units(results):
    for each in FIGURES:
        visible = [axes for axes in each.draw(results).axes if axes.get_visible()]
        assert any("[" in axes.get_xlabel() or "beam" in axes.get_xlabel() for axes in visible), each.name


def test_a_loss_looks_like_one(make_results, tmp_path):
    results = make_results(-0.6)
    results.headline = headline(results, "airlam-tiny")
    html = write_report(results, tmp_path, sections=()).read_text()
    assert 'class="headline worse"' in html and "-0.60 dB" in html


@pytest.mark.slow
def test_it_can_be_made_again_from_the_results_alone(report, tmp_path):
    results, path, html = report
    again = write_report(Results.load(results.save(tmp_path / "results.json")), tmp_path / "again")
    assert again.read_text() == html


def test_results_without_cells_make_a_report_too(tmp_path):
    html = write_report(Results("Empty", "channel_prediction"), tmp_path).read_text()
    assert "<img" not in html and "Empty" in html


HOSTILE = "<img src=x onerror=alert(1)> $\\frac{$ | & '\""


class Tags(HTMLParser):
    """Every tag with its attributes, as a browser reads them."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def hostile(make_results, tmp_path_factory):
    """A report in which everything that a user or a recipe can name is HTML, a formula, and the end of a cell."""
    results = make_results(0.6)
    results.title = results.task = HOSTILE
    for row in results.rows:
        row.data = HOSTILE if row.data == "uma_nlos" else row.data
        row.method = HOSTILE if row.method == "airlam-tiny:no-correction" else row.method
        row.settings = {HOSTILE: HOSTILE, **row.settings}
        if row.group == "impairments":
            row.settings["impairment"] += HOSTILE
        if row.group == "age":
            row.settings["break_even"] = HOSTILE
    for row in [row for row in results.rows if row.group == "mean"]:
        results.rows.append(replace(row, group="held_out", settings={"held_out": HOSTILE}))
    for row in [row for row in results.select(group="cell", speed_kmh=60.0)]:
        results.rows.append(replace(row, group="path_loss"))
    results.headline = headline(results, "airlam-tiny") + HOSTILE
    results.notes, results.config, results.recipes = [HOSTILE], {HOSTILE: HOSTILE}, {HOSTILE: {HOSTILE: HOSTILE}}
    results.environment["command"] = results.environment["processor"] = HOSTILE
    table = {"title": HOSTILE, "columns": [HOSTILE, "b"], "lines": [[HOSTILE, HOSTILE]], "text": HOSTILE}
    picture = results.extras["picture"]
    results.extras |= {
        "details": [*details(results, "airlam-tiny"), HOSTILE],
        "compared": [HOSTILE],
        "tables": [table],
        "banner": HOSTILE,
        "mean_text": HOSTILE,
        "path_loss_text": HOSTILE,
        "picture": picture | {"predicted_db": {HOSTILE: picture["true_db"]}, "error_db": {HOSTILE: picture["true_db"]}},
    }
    return results, write_report(results, tmp_path_factory.mktemp("hostile"))


def test_no_name_becomes_a_tag(hostile, report):
    html = hostile[1].read_text(encoding="utf-8")
    tags = Tags(html).found
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") > 40  # it is shown, as text
    assert not [attrs for _, attrs in tags if any(name.startswith("on") for name in attrs)]
    assert all(attrs["src"].startswith("data:image/svg+xml;base64,") for tag, attrs in tags if tag == "img")
    assert {tag for tag, _ in tags} == {tag for tag, _ in Tags(report[2]).found}  # no kind of tag that others lack


def test_no_name_becomes_a_tag_of_a_drawing(hostile):
    html = hostile[1].read_text(encoding="utf-8")
    drawings = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", html)
    assert len(drawings) > 8
    for drawing in drawings:
        tags = Tags(base64.b64decode(drawing).decode()).found
        assert not [tag for tag, attrs in tags if tag in ("img", "script", "foreignobject") or "onerror" in attrs]


def test_no_name_becomes_a_tag_or_a_cell_of_markdown(hostile, tmp_path):
    for write in (write_leaderboard, write_tables):
        text = write(hostile[0], tmp_path / "leaderboard.md").read_text()
        outside_code = re.sub(r"`[^`]*`", "", text)
        assert "<img" not in outside_code and "&lt;img" in outside_code
        widths = {}
        for block in re.findall(r"(?m)(?:^\|.*\n)+", text):
            counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(counts) == 1, block
            widths[block] = counts
        assert widths


def test_a_quick_run_says_so_on_top(make_results, tmp_path):
    results = make_results(0.6)
    assert 'class="banner"' not in write_report(results, tmp_path, sections=()).read_text()
    results.config["quick"] = True
    html = write_report(results, tmp_path, sections=()).read_text()
    assert 0 < html.index("Quick run on few drops") < html.index('class="headline level"')
    for write in (write_leaderboard, write_tables):
        lines = write(results, tmp_path / "leaderboard.md").read_text().splitlines()
        assert "Quick run on few drops" in lines[2]


def test_few_drops_give_no_green_headline(make_results, tmp_path):
    results = make_results(0.6)
    for row in results.rows:
        row.figures = {name: replace(figure, groups=2) for name, figure in row.figures.items()}
    results.headline = headline(results, "airlam-tiny")
    assert 'class="headline level"' in write_report(results, tmp_path, sections=()).read_text()


def test_a_loss_to_the_strongest_classical_method_gives_no_green_headline(make_results, tmp_path):
    results = make_results(0.6)
    figures = results.select(group="mean", method="airlam-tiny")[0].figures
    for mean in ("linear", "cells"):
        figures[f"best_classic_gain_{mean}_db"] = Figure(-0.4, "dB", "measured", (-0.5, -0.3), note="eigen-ar")
    assert 'class="headline level"' in write_report(results, tmp_path, sections=()).read_text()


def test_every_table_and_plot_says_on_how_many_drops_it_rests(report, make_results, tmp_path):
    html, results = report[2], make_results(0.6)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html, flags=re.S)
    assert sum("Each point rests on 192 links from 24 drops." in text for text in captions) >= 5
    for row in results.rows:
        row.num_links, row.num_drops = 16, 2
    assert mean_table(results, "airlam-tiny").support == "Each row rests on 16 links from 2 drops, all cells together."
    results.extras["tables"] = [{"title": "t", "columns": ["a"], "lines": [["b"]]}]
    assert extra_tables(results)[0].support == "Each figure rests on 16 links from 2 drops."
    text = write_leaderboard(results, tmp_path / "leaderboard.md").read_text()
    assert text.count("rests on 16 links from 2 drops.") >= 4


def test_learned_methods_differ_in_colour_or_marker():
    names = ["ar", "eigen-ar", "airlam-tiny", "mine", "yours", "mine:adapted", "yours:adapted", "airlam-tiny:adapted"]
    names += [f"other-{n}" for n in range(20)]
    looks = Looks(names)
    assert len({(looks[name].color, looks[name].marker) for name in names}) == len(names)
    assert looks["airlam-tiny"] == Looks(["airlam-tiny"])["airlam-tiny"]  # the usual look where it is free
    assert [Looks(reversed(names))[name] for name in names] == [looks[name] for name in names]


def test_csi_periods_show_spectral_efficiency_alone(results):
    for row in results.select(group="csi_period"):
        row.figures["nmse_db"] = replace(row.figures["sum_se_k4"], unit="dB")
    panels = [axes for axes in csi_period(results).axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in panels] == ["before pilot overhead, measured", "net of pilots, modelled"]


def test_scenarios_have_readable_titles():
    assert title("channels/umi35.yaml") == "UMi35" and title("/a/b/uma_nlos.yml") == "UMa NLOS"
    assert title("uma_tracks_28ghz") == "UMa tracks 28 GHz" and title("cdl_a") == "CDL-A"
    assert title("_") == "_"


def test_a_timing_of_a_busy_machine_is_marked(make_results, tmp_path):
    record = CellRecord({}, {"link": [0]})
    for method, share in (("idle", 0.98), ("busy", 0.6)):
        record.add(*latency_series(method, Latency(6.5e-3, 7e-3, 1, 50, share)))
    idle, busy = (timed_figures(record, method)["latency_p50_ms"] for method in ("idle", "busy"))
    assert not is_busy(idle) and is_busy(busy) and "60 % of a core" in busy.note
    results = make_results(0.6)
    assert "busy machine" not in write_report(results, tmp_path, sections=(LATENCY,)).read_text()
    for row in results.rows:
        if row.method == "airlam-tiny" and "latency_p50_ms" in row.figures:
            row.figures["latency_p50_ms"] = busy
    html = write_report(results, tmp_path, sections=(LATENCY,)).read_text()
    assert "<small>busy machine</small>" in html and "an idle machine is" in html
    assert "busy machine" in (tmp_path / "plots" / "latency_bars.svg").read_text()
    assert "6.50 (busy machine)" in write_leaderboard(results, tmp_path / "leaderboard.md").read_text()


def test_a_row_of_unknown_size_says_nothing_of_drops():
    results = Results("t", "channel_prediction", rows=[Row("ar", "uma_nlos", group="mean")])
    assert mean_table(results, "ar").support == ""
    results.rows[0].num_links = results.rows[0].num_drops = 1
    assert mean_table(results, "ar").support == "Each row rests on 1 link from 1 drop, all cells together."


def mine(results):
    """A figure of somebody's own benchmark."""
    figure = Canvas(figsize=(9, 3))
    figure.add_subplot().plot([row.figures["minutes"].number for row in results.rows])
    return figure


def minutes(results):
    """A table of it."""
    return Table("Time spent", ["time"], [("", ["3 min"])])


MINE = (
    Section(
        "Minutes", (ReportFigure(mine, "Minutes, {resampled} resampled.", rows_of("mean"), modelled=True),), (minutes,)
    ),
)


@pytest.fixture
def own_results():
    row = Row("ar", "uma_nlos", group="mean", num_links=4, num_drops=2)
    row.figures["minutes"] = Figure(3.0, "min", "measured")
    return Results("Mine", "my_task", rows=[row])


def test_a_benchmark_hands_in_its_own_figures(own_results, tmp_path):
    html = publish(own_results, tmp_path, threads=1, sections=MINE).read_text()
    assert "Minutes, drops resampled. Each point rests on 4 links from 2 drops." in html
    assert '<span class="tag">modelled</span>' in html and html.count("<img ") == 1
    assert (tmp_path / "plots" / "mine.svg").is_file()
    assert "Time spent" in html and "Time spent,,,3 min" in (tmp_path / "leaderboard.csv").read_text()
    assert "Time spent" in (tmp_path / "tables.tex").read_text()


def test_an_installed_package_declares_its_figures(own_results, tmp_path, monkeypatch):
    info = tmp_path / "site" / "mine-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[airlam.figures]\nmy_task = my_figures:SECTIONS\n")
    (info.parent / "my_figures.py").write_text(
        "from airlam.evaluation.report.sections import Section\n"
        "from airlam.evaluation.report.table import Table\n"
        "SECTIONS = (Section('From outside', tables=(lambda results: Table('t', ['a'], [('', ['b'])]),)),)\n"
    )
    assert [section.title for section in sections_of("my_task")][0] == "Prediction error"  # those of all benchmarks
    monkeypatch.syspath_prepend(info.parent)
    assert "From outside" in write_report(own_results, tmp_path).read_text()


def test_sections_are_found_by_the_task():
    assert [figure.name for figure in sections_of("link_level")[0].figures] == ["throughput_vs_snr", "bler_vs_snr"]
    for hostile in ("../channel_prediction", "channel_prediction.figures", "", "no such task"):
        assert sections_of(hostile) == sections_of("probes")


def test_the_package_declares_the_figures_of_the_federated_benchmark():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    declared = tomllib.loads(text)["project"]["entry-points"]["airlam.figures"]
    sections = EntryPoint("federated", declared["federated"], "airlam.figures").load()
    assert [figure.name for figure in sections[0].figures] == ["nmse_vs_rounds", "nmse_vs_clients"]


@pytest.mark.parametrize("longest", [10, 30, 60])
def test_a_legend_is_as_wide_as_its_figure_at_most(longest):
    def panel(axes, key):
        for number in range(9):
            axes.plot([0, 1], [number, number], label=f"{number} " + "m" * longest)

    figure = draw_panels(panel, [1, 2, 3], "NMSE [dB]")
    (legend,) = figure.legends
    assert legend.get_window_extent().width <= figure.bbox.width
    assert len(legend.texts) == 9
