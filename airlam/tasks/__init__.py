"""LightningModules: pretraining and channel prediction."""

from airlam.tasks.channel_prediction import ChannelPrediction
from airlam.tasks.export_checkpoint import ExportCheckpoint
from airlam.tasks.pretraining import Pretraining
from airlam.tasks.write_predictions import WritePredictions

__all__ = ["ChannelPrediction", "ExportCheckpoint", "Pretraining", "WritePredictions"]
