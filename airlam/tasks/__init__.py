"""LightningModules: pretraining, phase tracking, prediction, reconstruction, beamforming, comparators; callbacks."""

from airlam.tasks.beam_management import BeamManagement
from airlam.tasks.beamforming import Beamforming
from airlam.tasks.calibration import CalibrateVariance, calibrate_variance
from airlam.tasks.channel_prediction import ChannelPrediction
from airlam.tasks.comparison import ComparatorTraining
from airlam.tasks.context_training import ContextTraining
from airlam.tasks.cpu_budget import CPUBudget
from airlam.tasks.export_checkpoint import ExportCheckpoint
from airlam.tasks.path_pretraining import FindPaths, PathPretraining
from airlam.tasks.phase_tracking import PhaseTracking
from airlam.tasks.pilot_beamforming import PilotBeamforming
from airlam.tasks.position_starts import PositionStarts
from airlam.tasks.positioning import Positioning
from airlam.tasks.pretraining import Pretraining
from airlam.tasks.radio_mapping import RadioMapping
from airlam.tasks.reconstruction import Reconstruction, sampling_pattern
from airlam.tasks.write_predictions import WritePredictions

__all__ = [
    "BeamManagement",
    "Beamforming",
    "CPUBudget",
    "CalibrateVariance",
    "ChannelPrediction",
    "ComparatorTraining",
    "ContextTraining",
    "ExportCheckpoint",
    "FindPaths",
    "PathPretraining",
    "PhaseTracking",
    "PilotBeamforming",
    "PositionStarts",
    "Positioning",
    "Pretraining",
    "RadioMapping",
    "Reconstruction",
    "WritePredictions",
    "calibrate_variance",
    "sampling_pattern",
]
