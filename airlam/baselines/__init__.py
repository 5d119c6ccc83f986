"""Classical predictors, precoders and bounds, tunable and strong: what a learned method is measured against."""

from airlam.baselines.ar import ARFilters, ARPredictor, ar_filters, rollout
from airlam.baselines.hold import HoldPredictor
from airlam.baselines.kalman import KalmanPredictor
from airlam.baselines.prony import PADPredictor, VectorPronyPredictor
from airlam.baselines.wiener import JakesWienerPredictor, WienerPredictor

__all__ = [
    "ARFilters",
    "ARPredictor",
    "HoldPredictor",
    "JakesWienerPredictor",
    "KalmanPredictor",
    "PADPredictor",
    "VectorPronyPredictor",
    "WienerPredictor",
    "ar_filters",
    "rollout",
]
