"""Two short federated runs and one split run give the stored figures: weights of the result, validation, costs.

On one machine they repeat to the bit. On another processor single precision rounds differently: 5e-3 dB are allowed for
an NMSE, since the feedback is quantised and a value at the edge of a step falls to its other side, and 1 % for the norm
of an array, since AdamW magnifies the rounding of small gradients.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from airlam.edge.federated import Federation, run_rounds
from airlam.testing.golden import check_golden

PANEL = {"rows": 1, "columns": 4, "polarisation": "single", "pattern": "omni"}
RUN = {
    "sites": {
        "street": {"channel": "umi_nlos", "speed_kmh": [3, 60], "lora_rank": 2},
        "city": {"channel": "uma_nlos", "speed_kmh": [30, 60], "device": "vehicle"},
        "factory": {"channel": "inf_nlos", "speed_kmh": [3, 30], "device": "gateway", "distance_m": 60},
    },
    "rounds": 2,
    "local_steps": 2,
    "batch_size": 4,
    "num_train": 8,
    "num_val": 4,
    "num_test": 4,
    "channel_overrides": {"num_subcarriers": 12, "bs_panel": PANEL},
    # all coefficients: with fewer a history has empty modes, and rounding decides what they hold (0.03 dB)
    "feedback": {"coefficients": 48, "phase_bits": 4, "amplitude_bits": 4},
    "learning_rate": 3e-3,
}
CASES = {
    "svd": {},
    "split": {"mode": "split", "aggregation": "ffa", "rounds": 1},
    "private": {
        "privacy": {"clip": 0.5, "noise_multiplier": 0.1, "noise_seed": 3},
        "aggregation": "naive",
        "rounds": 1,
    },
}


@pytest.mark.parametrize("case", CASES)
def test_a_short_run_gives_the_stored_figures(case):
    state = run_rounds(Federation(**{**RUN, **CASES[case]}))
    figures: dict[str, float] = {}
    for record in state.rounds:
        figures |= {f"round {record.number}, {site}": nmse for site, nmse in record.figures.items()}
    last = state.rounds[-1]
    figures |= {"bytes": last.bytes, "seconds": last.delay, "loss": last.train_loss or 0.0}
    loose = {"round *": 5e-3, "loss": 5e-3}
    check_golden(Path(__file__).with_name(f"federated_{case}.json"), figures, rtol=1e-5, atol=1e-4, loose=loose)
    norms = {name: math.sqrt(float(np.square(value.astype(np.float64)).sum())) for name, value in state.arrays.items()}
    check_golden(Path(__file__).with_name(f"federated_{case}_weights.json"), norms, rtol=1e-2, atol=1e-6)
