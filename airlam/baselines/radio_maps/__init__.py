"""Radio maps without a network: nearest neighbour, inverse distance, kriging. See docs/radio-maps.md."""

from airlam.baselines.radio_maps.estimate import MapEstimate
from airlam.baselines.radio_maps.geometry import Geometry, knife_edge
from airlam.baselines.radio_maps.interpolation import InverseDistance
from airlam.baselines.radio_maps.kriging import Drift, Field, Kriging, drift_terms
from airlam.baselines.radio_maps.profiles import as_taps, moved, neighbours_profile

__all__ = [
    "Drift",
    "Field",
    "Geometry",
    "InverseDistance",
    "Kriging",
    "MapEstimate",
    "as_taps",
    "drift_terms",
    "knife_edge",
    "moved",
    "neighbours_profile",
]
