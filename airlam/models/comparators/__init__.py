"""Learned comparators: other kinds of network for channel prediction, all trained in the same way."""

from airlam.models.comparators.comparator import Comparator
from airlam.models.comparators.predictor import ComparatorPredictor, TrainedComparator
from airlam.models.comparators.registry import (
    KINDS,
    build_comparator,
    check_kind,
    load_comparator,
    load_own_comparator,
    register_comparator,
    save_comparator,
    trained_comparator,
)

__all__ = [
    "KINDS",
    "Comparator",
    "ComparatorPredictor",
    "TrainedComparator",
    "build_comparator",
    "check_kind",
    "load_comparator",
    "load_own_comparator",
    "register_comparator",
    "save_comparator",
    "trained_comparator",
]
