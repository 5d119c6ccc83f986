"""Classical beam tracking. A new method is its class in ``airlam/baselines/beam_tracking.py`` and one entry here."""

from airlam.methods.method import Method

_FILE = "airlam.baselines.beam_tracking"
METHODS = [
    Method(
        "last-best",
        "beam-tracker",
        factory=f"{_FILE}:LastBest",
        label="last best beam (averaged, tuned)",
        short="last best",
        color="#0072b2",
        marker="D",
    ),
    Method(
        "extrapolation",
        "beam-tracker",
        factory=f"{_FILE}:LinearExtrapolation",
        label="linear extrapolation (tuned)",
        short="extrapolation",
        color="#e69f00",
        marker="^",
    ),
    Method(
        "trained-linear",
        "beam-tracker",
        factory=f"{_FILE}:TrainedLinear",
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
        label="softmax regression, trained on other drops",
        short="softmax regression",
        color="#56b4e9",
        line="--",
        marker="v",
    ),
]
