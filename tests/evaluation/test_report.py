"""The report: one file, nothing outside it, everything escaped, every plot drawn."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from airlam.evaluation.engine.timing import is_busy, timed_figure
from airlam.evaluation.report import plots
from airlam.evaluation.report.html import extra_tables, mean_table, write_report
from airlam.evaluation.report.markdown import write_leaderboard, write_tables
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.sentences import details, headline
from airlam.evaluation.rows import Figure, Results, Row


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


# those of beamforming, which test_beamforming.py, test_link_level.py and test_beam_management.py look at, and of
# federated training, which tests/edge/federated/test_benchmark.py does
OTHERS = {
    "nmse_vs_rounds",
    "nmse_vs_clients",
    "sum_se_vs_csi_snr",
    "sum_se_vs_users",
    "sum_se_vs_pilots",
    "throughput_vs_snr",
    "bler_vs_snr",
    "beam_accuracy",
    "beam_se_ratio",
}


def test_every_plot_is_drawn_labelled_and_written(report):
    _, path, html = report
    drawn = set(plots.PLOTS) - OTHERS
    assert html.count("<img ") == len(drawn)
    for name in drawn:
        assert (path.parent / "plots" / f"{name}.svg").stat().st_size > 2000
        assert (path.parent / "plots" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_axes_have_labels_with_units(results):
    for name, plot in plots.PLOTS.items():
        figure = plot(results)
        if name in OTHERS:
            assert figure is None
            continue
        visible = [axes for axes in figure.axes if axes.get_visible()]
        assert any("[" in axes.get_xlabel() or "beam" in axes.get_xlabel() for axes in visible), name


def test_a_loss_looks_like_one(make_results, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "PLOTS", {"gain_forest": plots.gain_forest})  # one plot is quicker than eleven
    results = make_results(-0.6)
    results.headline = headline(results, "airlam-tiny")
    html = write_report(results, tmp_path).read_text()
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


def test_a_quick_run_says_so_on_top(make_results, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "PLOTS", {})
    results = make_results(0.6)
    assert 'class="banner"' not in write_report(results, tmp_path).read_text()
    results.config["quick"] = True
    html = write_report(results, tmp_path).read_text()
    assert 0 < html.index("Quick run on few drops") < html.index('class="headline level"')
    for write in (write_leaderboard, write_tables):
        lines = write(results, tmp_path / "leaderboard.md").read_text().splitlines()
        assert "Quick run on few drops" in lines[2]


def test_few_drops_give_no_green_headline(make_results, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "PLOTS", {})
    results = make_results(0.6)
    for row in results.rows:
        row.figures = {name: replace(figure, groups=2) for name, figure in row.figures.items()}
    results.headline = headline(results, "airlam-tiny")
    assert 'class="headline level"' in write_report(results, tmp_path).read_text()


def test_a_loss_to_the_strongest_classical_method_gives_no_green_headline(make_results, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "PLOTS", {})
    results = make_results(0.6)
    figures = results.select(group="mean", method="airlam-tiny")[0].figures
    for mean in ("linear", "cells"):
        figures[f"best_classic_gain_{mean}_db"] = Figure(-0.4, "dB", "measured", (-0.5, -0.3), note="eigen-ar")
    assert 'class="headline level"' in write_report(results, tmp_path).read_text()


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
    panels = [axes for axes in plots.csi_period(results).axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in panels] == ["before pilot overhead, measured", "net of pilots, modelled"]


def test_scenarios_have_readable_titles():
    assert plots.title("channels/umi35.yaml") == "UMi35" and plots.title("/a/b/uma_nlos.yml") == "UMa NLOS"
    assert plots.title("uma_tracks_28ghz") == "UMa tracks 28 GHz" and plots.title("cdl_a") == "CDL-A"
    assert plots.title("_") == "_"


def test_a_timing_of_a_busy_machine_is_marked(make_results, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "PLOTS", {"latency_bars": plots.latency_bars})
    idle = timed_figure({"latency_p50_ms": 6.5, "latency_cpu_share": 0.98}, "latency_p50_ms", "ms")
    busy = timed_figure({"latency_p50_ms": 6.5, "latency_cpu_share": 0.6}, "latency_p50_ms", "ms")
    assert not is_busy(idle) and is_busy(busy) and "60 % of a core" in busy.note
    results = make_results(0.6)
    assert "busy machine" not in write_report(results, tmp_path).read_text()
    for row in results.rows:
        if row.method == "airlam-tiny" and "latency_p50_ms" in row.figures:
            row.figures["latency_p50_ms"] = busy
    html = write_report(results, tmp_path).read_text()
    assert "<small>busy machine</small>" in html and "an idle machine is" in html
    assert "busy machine" in (tmp_path / "plots" / "latency_bars.svg").read_text()
    assert "6.50 (busy machine)" in write_leaderboard(results, tmp_path / "leaderboard.md").read_text()


def test_a_row_of_unknown_size_says_nothing_of_drops():
    results = Results("t", "channel_prediction", rows=[Row("ar", "uma_nlos", group="mean")])
    assert mean_table(results, "ar").support == ""
    results.rows[0].num_links = results.rows[0].num_drops = 1
    assert mean_table(results, "ar").support == "Each row rests on 1 link from 1 drop, all cells together."
