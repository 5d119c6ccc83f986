"""The sentence on top tells the truth when the model wins, loses, or is level."""

import pytest

from airlam.evaluation.headline import details, headline, verdict
from airlam.evaluation.rows import Figure


def sentence(make_results, gain, **kwargs):
    return headline(make_results(gain, **kwargs), "airlam-tiny")


def test_win(make_results):
    text = sentence(make_results, 0.6)
    assert "airlam-tiny predicts better than the tuned AR: its NMSE is lower by 0.60 dB" in text
    assert "95 % interval 0.45 to 0.75" in text
    assert "clearly worse in none of 8 cells" in text
    assert "better);" in text and "perfect CSI would give 36.00, outdated CSI gives 15.20" in text


def test_loss(make_results):
    text = sentence(make_results, -0.6)
    assert "airlam-tiny predicts worse than the tuned AR: its NMSE is higher by 0.60 dB" in text
    assert "clearly worse in 8 of 8 cells" in text
    assert "better than" not in text and "worse); perfect" in text


def test_tie(make_results):
    text = sentence(make_results, 0.05)
    assert "cannot be told apart" in text and "+0.05 dB (95 % interval -0.10 to +0.20)" in text
    assert "better than" not in text and "worse than" not in text


def test_means_that_disagree(make_results):
    results = make_results(0.6)
    row = results.select(group="mean", method="airlam-tiny")[0]
    row.figures["gain_linear_db"] = Figure(-0.3, "dB", "measured", (-0.5, -0.1))
    text = headline(results, "airlam-tiny")
    assert "do not agree" in text and "(worse)" in text and "(better)" in text


def test_missing_rows_are_no_victory(make_results):
    assert "No comparison" in headline(make_results(0.6), "somebody-else")


@pytest.mark.parametrize(
    ("interval", "word"),
    [((0.1, 0.2), "better"), ((-0.2, -0.1), "worse"), ((-0.1, 0.2), "level"), ((0.0, 0.2), "level"), (None, "level")],
)
def test_verdict_needs_an_interval_on_one_side_of_zero(interval, word):
    assert verdict(Figure(0.5 if interval is None else sum(interval) / 2, "dB", "measured", interval)) == word


def test_details_name_the_strongest_classic_and_what_was_learned(make_results):
    results = make_results(0.6)
    figures = results.select(group="mean", method="airlam-tiny")[0].figures
    for gain, note, value in (("best_classic", "eigen-ar", -0.4), ("start", "airlam-tiny:no-correction", 0.2)):
        for mean in ("linear", "cells"):
            figures[f"{gain}_gain_{mean}_db"] = Figure(value, "dB", "measured", (value - 0.1, value + 0.1), note=note)
    strongest, learned, *_ = details(results, "airlam-tiny")
    assert "the strongest of the classical methods of this table, AR in the eigenbasis (tuned), it gains" in strongest
    assert "gains -0.40 dB" in strongest
    assert "learned correction gains +0.20 dB (95 % interval +0.10 to +0.30)" in learned


def test_details_are_silent_where_the_bar_is_the_strongest_classic(make_results):
    results = make_results(0.6)
    figures = results.select(group="mean", method="airlam-tiny")[0].figures
    for mean in ("linear", "cells"):
        figures[f"best_classic_gain_{mean}_db"] = Figure(0.6, "dB", "measured", (0.5, 0.7), note="ar")
    assert not any("strongest" in sentence for sentence in details(results, "airlam-tiny"))


def test_details_say_whether_the_gain_survives_the_latency(make_results):
    results = make_results(0.6)
    cells, sentence = details(results, "airlam-tiny")
    assert "Over all 11 cells" in cells and "from 0 to 30 dB" in cells
    assert "clearly better than the tuned AR in 11 and clearly worse in none" in cells
    assert "charged with the latency measured on this machine (median 6.5 ms)" in sentence
    assert "breaks even up to 6.5 ms" in sentence
    row = results.select(group="age", method="airlam-tiny")[0]
    row.settings["break_even"] = "never"
    assert "never breaks even" in details(results, "airlam-tiny")[-1]
    del row.figures["latency_charged_at_p50"]
    assert "comes too late" in details(results, "airlam-tiny")[-1]
