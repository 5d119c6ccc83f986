"""A federation that is small enough for a test: three places, four ports, twelve tones."""

from __future__ import annotations

import pytest

from airlam.edge.federated import Federation

SMALL = {
    "num_subcarriers": 12,
    "bs_panel": {"rows": 1, "columns": 4, "polarisation": "single", "pattern": "omni"},
}
SITES = {
    "street": {"channel": "umi_nlos", "speed_kmh": [3, 60]},
    "city": {"channel": "uma_nlos", "speed_kmh": [30, 60], "device": "vehicle"},
    "factory": {"channel": "inf_nlos", "speed_kmh": [3, 30], "device": "gateway", "distance_m": 60},
}


@pytest.fixture
def federation():
    """Makes small federations: ``federation(rounds=2, dropout=0.5)``."""

    def make(**changes) -> Federation:
        arguments = {
            "sites": SITES,
            "rounds": 2,
            "local_steps": 2,
            "batch_size": 4,
            "num_train": 8,
            "num_val": 4,
            "num_test": 4,
            "channel_overrides": SMALL,
            "feedback": {"coefficients": 16, "phase_bits": 3},
            "learning_rate": 3e-3,
        }
        return Federation(**{**arguments, **changes})

    return make
