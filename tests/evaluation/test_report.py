"""The report: one file, nothing outside it, everything escaped, every plot drawn."""

import re
from html.parser import HTMLParser

import pytest

from airlam.evaluation import plots
from airlam.evaluation.headline import headline
from airlam.evaluation.report import write_report
from airlam.evaluation.rows import Results


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
    "nmse_vs_rounds", "nmse_vs_clients",
    "sum_se_vs_csi_snr", "sum_se_vs_users", "sum_se_vs_pilots", "throughput_vs_snr", "bler_vs_snr", "beam_accuracy",
    "beam_se_ratio",
}  # fmt: skip


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
