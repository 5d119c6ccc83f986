"""Positioning without a network: fingerprints, regression, multilateration, kriged maps. See docs/positioning.md."""

from airlam.baselines.positioning.features import NAMES, delay_angle, fingerprint, heard
from airlam.baselines.positioning.fingerprints import NearestFingerprints
from airlam.baselines.positioning.multilateration import Multilateration, solve
from airlam.baselines.positioning.radio_map import RadioMap
from airlam.baselines.positioning.regression import FeatureRegression
from airlam.baselines.positioning.site import INSIDE_90, PositionEstimate, calibration, lengths
from airlam.baselines.positioning.tuning import tuned
from airlam.csi import SiteCSI

__all__ = [
    "INSIDE_90",
    "NAMES",
    "FeatureRegression",
    "Multilateration",
    "NearestFingerprints",
    "PositionEstimate",
    "RadioMap",
    "SiteCSI",
    "calibration",
    "delay_angle",
    "fingerprint",
    "heard",
    "lengths",
    "solve",
    "tuned",
]
