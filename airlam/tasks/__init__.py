"""LightningModules: pretraining, tracking of receiver offsets, and channel prediction."""

from airlam.tasks.calibration import CalibrateVariance, calibrate_variance
from airlam.tasks.channel_prediction import ChannelPrediction
from airlam.tasks.export_checkpoint import ExportCheckpoint
from airlam.tasks.phase_tracking import PhaseTracking
from airlam.tasks.pretraining import Pretraining
from airlam.tasks.write_predictions import WritePredictions

__all__ = [
    "CalibrateVariance",
    "ChannelPrediction",
    "ExportCheckpoint",
    "PhaseTracking",
    "Pretraining",
    "WritePredictions",
    "calibrate_variance",
]
