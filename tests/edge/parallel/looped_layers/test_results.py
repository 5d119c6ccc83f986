"""Comparisons of looped layers, on records made by hand."""

from __future__ import annotations

import pytest
import torch

from airlam.edge.parallel.looped_layers.config import LoopedLinks, Variant
from airlam.edge.parallel.looped_layers.costs import Costs
from airlam.edge.parallel.looped_layers.figures import SECTIONS
from airlam.edge.parallel.looped_layers.results import DEPTH, PARAMETERS, build_results, judged, pairs

KINDS = {"4": Variant(4), "8": Variant(8), "4 x 2": Variant(4, 2)}
SIZES = LoopedLinks(num_links=64, links_per_draw=4)
CONTEXT = {"data": "foundation", "hash": "0", "minutes": "3", "batch": "16"}


def record(seed: int, factor: float, curve: int = 2) -> dict:
    """A run whose NMSE is ``factor`` times that of the classical start, which is 0.1 to 0.2."""
    start = torch.linspace(0.1, 0.2, SIZES.num_links, dtype=torch.float64)
    curve_points = [[0.1 * (n + 1), -1.0 - n] for n in range(curve)]
    own = {"parameters": 10, "trained": 9, "steps": 5, "links": 80, "cpu_minutes": 3.0, "curve": curve_points}
    return own | {"seed": seed, "nmse": (factor * start).tolist(), "start": start.tolist()}


def results(looped: tuple[float, ...]):
    records = {
        "4": [record(seed, 0.5) for seed in range(len(looped))],
        "8": [record(seed, 0.25) for seed in range(len(looped))],
        "4 x 2": [record(seed, factor) for seed, factor in enumerate(looped)],
    }
    costs = {name: [Costs(n, 9, 144, 1000, 10 * (n > 1), 10.0 * (n > 1)) for n in (1, 2)] for name in records}
    return build_results("t", KINDS, records, costs, SIZES, CONTEXT)


def test_rivals_have_equal_parameters_or_equal_depth():
    assert pairs(KINDS | {"1 x 8": Variant(1, 8)}) == [
        ("4 x 2", "4", PARAMETERS),
        ("4 x 2", "8", DEPTH),
        ("1 x 8", "8", DEPTH),
    ]


def test_gains_are_exact():
    found = results((0.4, 0.4))
    against = {row.settings["equal"]: row for row in found.select(group="comparison")}
    gain = against[PARAMETERS].figures["gain_db"]
    assert gain.number == pytest.approx(10 * torch.log10(torch.tensor(0.5 / 0.4)).item(), abs=1e-6)
    assert judged(against[PARAMETERS]) == "better" and judged(against[DEPTH]) == "worse"
    row = found.select(group="variant", method="4 x 2")[0]
    assert row.figures["gain_start_db"].number == pytest.approx(-10 * torch.log10(torch.tensor(0.4)).item(), abs=1e-6)
    assert "better" in found.headline and "worse" in found.headline


def test_seeds_that_disagree_give_no_verdict():
    against = results((0.4, 0.3, 0.51)).select(group="comparison")[0]
    assert against.figures["gain_db"].interval[0] > 0
    assert judged(against) == "seeds disagree"


def test_only_seeds_that_both_have_are_compared():
    records = {"4": [record(1, 0.5), record(2, 0.5)], "4 x 2": [record(2, 0.25)]}
    costs = {name: [Costs(1, 9, 144, 1000, 0, 0.0)] for name in records}
    found = build_results("t", KINDS, records, costs, SIZES, CONTEXT).select(group="comparison")
    assert [row.figures["gain_by_seed_db"].axis for row in found] == [[2.0]]


def test_figures_are_drawn():
    drawn = [figure.draw(results((0.4, 0.4))) for section in SECTIONS for figure in section.figures]
    assert len(drawn) == 2 and all(drawn)
