"""Classical estimators: part of an axis measured, all of it wanted.

A factory that is a predictor extrapolates along the axis. One whose first argument is ``covariance`` is given that of
the training set. A new estimator is its class in ``airlam/baselines/`` and one entry here.
"""

import math

from airlam.methods.method import Method

_FILE = "airlam.baselines.interpolation"
_NOISE = (1e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
METHODS = [
    Method(
        "linear",
        "estimator",
        factory=f"{_FILE}:LinearInterpolator",
        label="LS + linear interpolation",
        short="linear",
        color="#8c8c8c",
        marker="s",
    ),
    Method(
        "dft",
        "estimator",
        factory=f"{_FILE}:DelayInterpolator",
        grid={"width": (0.1, 0.2, 0.4), "noise": _NOISE},
        label="DFT interpolation (tuned)",
        short="DFT",
        color="#e69f00",
        marker="^",
    ),
    Method(
        "lmmse",
        "estimator",
        factory=f"{_FILE}:LMMSEInterpolator",
        grid={"noise": _NOISE},
        label="LMMSE, training covariance (tuned)",
        short="LMMSE",
        color="#0072b2",
        marker="D",
    ),
    Method(
        "lmmse-sample",
        "estimator",
        factory=f"{_FILE}:PowerDelayInterpolator",
        grid={"floor": (0.0, 0.5), "noise": _NOISE},
        label="LMMSE, link's own profile (tuned)",
        short="LMMSE own",
        color="#56b4e9",
        marker="v",
    ),
    Method(
        "eigen-lmmse",
        "estimator",
        factory=f"{_FILE}:EigenLMMSEInterpolator",
        grid={"noise": _NOISE},
        label="LMMSE in the eigenbasis, training covariance (tuned)",
        short="eigen-LMMSE",
        color="#882255",
        line="-.",
        marker="d",
    ),
    Method(
        "eigen-lmmse-sample",
        "estimator",
        factory=f"{_FILE}:EigenPowerDelayInterpolator",
        grid={"floor": (0.0, 0.5), "noise": _NOISE},
        label="LMMSE in the eigenbasis, own profile (tuned)",
        short="eigen-LMMSE own",
        color="#aa4499",
        line="-.",
        marker="d",
    ),
    # Labels and colours of these are those of the predictors, which are looked up first.
    Method("hold", "estimator", factory="airlam.baselines.hold:HoldPredictor"),
    Method(
        "ar",
        "estimator",
        factory="airlam.baselines.ar:ARPredictor",
        grid={"order": (2, 4, 8, 12), "ridge": (1e-2, 0.1, 0.3, 1.0), "shrinkage": (30.0, math.inf)},
    ),
    Method(
        "eigen-ar",
        "estimator",
        factory="airlam.baselines.eigen_ar:EigenARPredictor",
        grid={"order": (2, 4, 8, 12), "ridge": (1e-3, 1e-2, 0.1, 0.3), "shrinkage": (3.0, 30.0, math.inf)},
    ),
    Method(
        "pad",
        "estimator",
        factory="airlam.baselines.prony:PADPredictor",
        grid={"order": (1, 2, 4, 8), "energy": (0.8, 0.95), "ridge": (1e-2, 0.1, 1.0)},
        references=("yin2020pad",),
    ),
]
