"""Learned comparators: other kinds of network for channel prediction, all trained in the same way."""

from airlam.models.comparators.comparator import Comparator
from airlam.models.comparators.predictor import ComparatorPredictor
from airlam.models.comparators.registry import (
    KINDS,
    build_comparator,
    check_kind,
    load_comparator,
    register_comparator,
    save_comparator,
)

__all__ = [
    "KINDS",
    "Comparator",
    "ComparatorPredictor",
    "build_comparator",
    "check_kind",
    "load_comparator",
    "register_comparator",
    "save_comparator",
]
