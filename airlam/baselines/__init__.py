"""Classical predictors, precoders and bounds, tunable and strong: what a learned method is measured against."""

from airlam.baselines.ar import ARFilters, ARPredictor, ar_filters, rollout

__all__ = ["ARFilters", "ARPredictor", "ar_filters", "rollout"]
