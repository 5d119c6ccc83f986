"""Classical beam tracking. A new method is its class in ``airlam/baselines/beam_tracking.py`` and one entry here.

A class with a function ``fit`` is trained on other drops, with each ridge of the grid; the others are built with every
combination of the grid.
"""

from airlam.methods.method import Method

_FILE = "airlam.baselines.beam_tracking"
METHODS = [
    Method(
        "last-best",
        "beam-tracker",
        factory=f"{_FILE}:LastBest",
        grid={"memory": (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)},
        label="last best beam (averaged, tuned)",
        short="last best",
        color="#0072b2",
        marker="D",
    ),
    Method(
        "extrapolation",
        "beam-tracker",
        factory=f"{_FILE}:LinearExtrapolation",
        grid={"window": (2, 3, 4, 8), "ridge": (0.0, 1.0, 10.0, 100.0, 1000.0)},
        label="linear extrapolation (tuned)",
        short="extrapolation",
        color="#e69f00",
        marker="^",
    ),
    Method(
        "trained-linear",
        "beam-tracker",
        factory=f"{_FILE}:TrainedLinear",
        grid={"ridge": (1.0, 10.0, 100.0, 1000.0)},  # of its fit()
        label="linear regression, trained on other drops",
        short="linear regression",
        color="#882255",
        line="-.",
        marker="d",
    ),
    Method(
        "softmax",
        "beam-tracker",
        factory=f"{_FILE}:SoftmaxRegression",
        grid={"ridge": (10.0, 30.0, 100.0, 300.0, 1000.0)},
        label="softmax regression, trained on other drops",
        short="softmax regression",
        color="#56b4e9",
        line="--",
        marker="v",
    ),
]
