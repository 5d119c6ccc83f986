"""Arguments of benchmarks: wrong types, bounds and folders are one line before any work."""

import pytest

from airlam.errors import RecipeError
from airlam.evaluation.runner import load_runner
from airlam.io import check_folder

BENCHMARK = "airlam.evaluation.ChannelPredictionBenchmark"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"cells": {"speeds_kmh": -30}}, "speeds_kmh is -30, but must be a list of numbers"),
        ({"cells": {"speeds_kmh": "fast"}}, "speeds_kmh is 'fast', but must be a list of numbers"),
        ({"sizes": {"num_links": "lots"}}, "num_links is 'lots', but must be a whole number"),
        ({"cells": {"csi_snr_db": float("nan")}}, "csi_snr_db is nan, but must be finite"),
        ({"cells": {"speeds_kmh": [3.0, float("inf")]}}, "but must be finite"),
        ({"threads": 0}, "threads is 0, but must be a whole number of at least 1"),
        ({"sizes": {"horizon": 0}}, "sizes.horizon is 0, but must be a whole number of at least 1"),
        ({"speeds": [3]}, "did you mean 'cells.speeds_kmh'"),
        ({"cells": {"speeds": [3]}}, "did you mean 'speeds_kmh'"),
        ({"periods": {"period_ms": [1.0]}}, "did you mean 'periods_ms'"),
        (
            {"held_out": {"channels": {"x": {"carrier_frequency": 28e9}}}},
            "held_out.channels.x is .* must name a channel recipe",
        ),
    ],
)
def test_wrong_arguments(argument, message):
    with pytest.raises(RecipeError, match=message):
        load_runner(BENCHMARK, argument)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("mine")
    for out in (thesis, thesis / "deeper"):
        with pytest.raises(RecipeError, match=r"thesis.txt is a file; name another one with --out"):
            check_folder(out)
    assert thesis.read_text() == "mine"
    assert check_folder(tmp_path / "new" / "folder").is_dir()
