"""All compiled kernels of one link, under the names of :mod:`airlam.realtime.kernels.plain`."""

from airlam.realtime.kernels.compiled_basis import (
    covariances,
    eigenvectors,
    energies,
    exchange,
    fold,
    gather,
    hand_over,
    pick,
    project,
    synthesise,
    update_covariances,
)
from airlam.realtime.kernels.compiled_eigen import fast_eigenvectors
from airlam.realtime.kernels.compiled_features import periodograms, show
from airlam.realtime.kernels.compiled_filters import ar_taps, blend, multiply, roll_out
from airlam.realtime.kernels.compiled_paths import analyse, correlate, solve, spread
from airlam.realtime.kernels.compiled_precoding import beams
from airlam.realtime.kernels.compiled_push import append, extrapolate, move, predict, renew
from airlam.realtime.kernels.compiled_tracker import Tracker
from airlam.realtime.kernels.compiled_wiener import wiener_filters
from airlam.realtime.kernels.compiled_window import bound, compare

__all__ = [
    "Tracker",
    "analyse",
    "append",
    "ar_taps",
    "beams",
    "blend",
    "bound",
    "compare",
    "correlate",
    "covariances",
    "eigenvectors",
    "energies",
    "exchange",
    "extrapolate",
    "fast_eigenvectors",
    "fold",
    "gather",
    "hand_over",
    "move",
    "multiply",
    "periodograms",
    "pick",
    "predict",
    "project",
    "renew",
    "roll_out",
    "solve",
    "spread",
    "show",
    "synthesise",
    "update_covariances",
    "wiener_filters",
]
