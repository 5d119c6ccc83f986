"""Tokens, transformer backbone, head; adapters; checkpoints."""

from airlam.models.adapters import add_lora, load_lora
from airlam.models.airlam_model import AirlamModel, Tokens
from airlam.models.checkpoint import load_checkpoint, save_checkpoint
from airlam.models.config import AirlamConfig
from airlam.models.estimator import AirlamEstimator
from airlam.models.hidden import pooled_hidden
from airlam.models.predictor import AirlamPredictor
from airlam.models.streaming import StreamingPredictor

__all__ = [
    "AirlamConfig",
    "AirlamEstimator",
    "AirlamModel",
    "AirlamPredictor",
    "StreamingPredictor",
    "Tokens",
    "add_lora",
    "load_checkpoint",
    "load_lora",
    "pooled_hidden",
    "save_checkpoint",
]
