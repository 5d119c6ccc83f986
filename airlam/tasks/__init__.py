"""LightningModules: pretraining, channel prediction, reconstruction of what was not measured."""

from airlam.tasks.calibration import CalibrateVariance, calibrate_variance
from airlam.tasks.channel_prediction import ChannelPrediction
from airlam.tasks.export_checkpoint import ExportCheckpoint
from airlam.tasks.pretraining import Pretraining
from airlam.tasks.reconstruction import Reconstruction, sampling_pattern
from airlam.tasks.write_predictions import WritePredictions

__all__ = [
    "CalibrateVariance",
    "ChannelPrediction",
    "ExportCheckpoint",
    "Pretraining",
    "Reconstruction",
    "WritePredictions",
    "calibrate_variance",
    "sampling_pattern",
]
