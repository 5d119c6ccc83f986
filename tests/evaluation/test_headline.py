"""The sentence on top tells the truth when the model wins, loses, or is level."""

from dataclasses import replace

import pytest
import torch

from airlam.evaluation.engine import statistics
from airlam.evaluation.report.sentences import details, headline, verdict
from airlam.evaluation.report.verdicts import MIN_GROUPS
from airlam.evaluation.rows import Figure


def sentence(make_results, gain, **kwargs):
    return headline(make_results(gain, **kwargs), "airlam-tiny")


def test_win(make_results):
    text = sentence(make_results, 0.6)
    assert "airlam-tiny predicts better than the tuned AR: its NMSE is lower by 0.60 dB" in text
    assert "95 % interval 0.45 to 0.75" in text
    assert "It is worse in 0 of 8 cells (whole 95 % interval of the gain below zero)." in text
    assert "better);" in text and "perfect CSI would give 36.00, outdated CSI gives 15.20" in text


def test_loss(make_results):
    text = sentence(make_results, -0.6)
    assert "airlam-tiny predicts worse than the tuned AR: its NMSE is higher by 0.60 dB" in text
    assert "worse in 8 of 8 cells" in text
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
    [
        ((0.1, 0.2), "better"),
        ((-0.2, -0.1), "worse"),
        ((-0.1, 0.2), "level"),
        ((0.0, 0.2), "level"),
        (None, "no verdict"),
    ],
)
def test_verdict_needs_an_interval_on_one_side_of_zero(interval, word):
    assert verdict(Figure(0.5 if interval is None else sum(interval) / 2, "dB", "measured", interval)) == word


def test_the_headline_names_the_strongest_classical_method_and_details_what_was_learned(make_results):
    results = make_results(0.6)
    figures = results.select(group="mean", method="airlam-tiny")[0].figures
    for gain, note, value in (("best_classic", "eigen-ar", -0.4), ("start", "airlam-tiny:no-correction", 0.2)):
        for mean in ("linear", "cells"):
            figures[f"{gain}_gain_{mean}_db"] = Figure(value, "dB", "measured", (value - 0.1, value + 0.1), note=note)
    text = headline(results, "airlam-tiny")
    assert "AR in the eigenbasis (tuned), the strongest of the classical methods of this table" in text
    assert "the gain is -0.40 dB (95 % interval -0.50 to -0.30)" in text and "(worse)" in text
    learned, *_ = details(results, "airlam-tiny")
    assert "correction switched off, the NMSE gain is +0.20 dB (95 % interval +0.10 to +0.30)" in learned


def test_the_headline_says_where_the_baseline_is_the_strongest_classical_method(make_results):
    results = make_results(0.6)
    figures = results.select(group="mean", method="airlam-tiny")[0].figures
    for mean in ("linear", "cells"):
        figures[f"best_classic_gain_{mean}_db"] = Figure(0.6, "dB", "measured", (0.5, 0.7), note="ar")
    assert "Of the classical methods of this table, the tuned AR is the strongest." in headline(results, "airlam-tiny")


def test_the_spectral_efficiency_names_a_classical_method_that_beats_the_baseline(make_results):
    results = make_results(0.6)
    results.select(group="mean", method="pad")[0].figures["sum_se_k4"] = Figure(29.5, "bit/s/Hz", "measured")
    assert "PAD (tuned), the strongest classical method, reaches 29.50" in headline(results, "airlam-tiny")


def few_drops(results, groups):
    """The same results, as if every interval had been resampled over so many drops."""
    for row in results.rows:
        row.figures = {name: replace(figure, groups=groups) for name, figure in row.figures.items()}
    return results


def test_no_verdict_from_few_drops(make_results):
    results = few_drops(make_results(0.6), MIN_GROUPS - 1)
    text = " ".join([headline(results, "airlam-tiny"), *details(results, "airlam-tiny")])
    assert "No verdict on airlam-tiny against the tuned AR: the NMSE gain is +0.60 dB" in text
    assert "rests on 7 drops in a cell, and a verdict takes at least 8 drops" in text
    assert "None of them rests on the 8 drops that a verdict takes" in text
    assert "better" not in text and "worse" not in text.replace("worth", "") and "clearly" not in text
    enough = few_drops(make_results(0.6), MIN_GROUPS)
    assert "predicts better than the tuned AR" in headline(enough, "airlam-tiny")


def test_figures_know_the_fewest_drops_of_their_cells():
    values, few, many = torch.rand(48), torch.arange(48) // 24, torch.arange(48) // 4
    assert statistics.gain_db(values, 2 * values, few).groups == 2
    over = statistics.over_cells(statistics.mean_of_cells, [[values], [values]], [few, many], "1")
    assert over.groups == 2 and verdict(over) == "no verdict"
    assert verdict(statistics.gain_db(values, 2 * values, many)) == "better"


def test_details_say_whether_the_gain_survives_the_latency(make_results):
    results = make_results(0.6)
    cells, sentence = details(results, "airlam-tiny")
    assert "11 cells" in cells and "from 0 to 30 dB" in cells
    assert "In 11 it is better than the tuned AR, in 0 worse" in cells
    assert "with the latency measured on this machine (median 6.5 ms)" in sentence
    assert "it is worth more up to a latency of 6.5 ms" in sentence
    row = results.select(group="age", method="airlam-tiny")[0]
    row.settings["break_even"] = "never"
    assert "worth less at any latency" in details(results, "airlam-tiny")[-1]
    del row.figures["latency_charged_at_p50"]
    assert "come too late" in details(results, "airlam-tiny")[-1]
