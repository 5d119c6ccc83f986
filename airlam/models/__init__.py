"""Tokens, transformer backbone, head; adapters; checkpoints."""

from airlam.models.adapters import adapter_utility, add_lora, load_lora, lora_layers, save_lora
from airlam.models.airlam_model import AirlamModel
from airlam.models.beams import AirlamBeams, AirlamBeamsConfig
from airlam.models.checkpoint import (
    load_beams,
    load_checkpoint,
    load_learned_precoder,
    load_map,
    load_paths,
    load_pilots,
    load_position,
    save_checkpoint,
)
from airlam.models.config import AirlamConfig
from airlam.models.estimator import AirlamEstimator
from airlam.models.exported import exported_format
from airlam.models.hidden import pooled_hidden
from airlam.models.litert_model import LitertModel, LitertPredictor
from airlam.models.on_backbone import OnBackbone
from airlam.models.onnx_model import OnnxModel, OnnxPredictor, is_onnx_folder
from airlam.models.onnx_sites import OnnxMap, OnnxPosition
from airlam.models.parallel_adapter import (
    AdaptedModel,
    ParallelAdapter,
    add_parallel_adapter,
    load_parallel_adapter,
    save_parallel_adapter,
)
from airlam.models.path_model import AirlamPaths, AirlamPathsConfig, AirlamPathsPredictor
from airlam.models.pilots import AirlamPilots, AirlamPilotsConfig, PilotPrecoder
from airlam.models.position import AirlamPosition, AirlamPositionConfig
from airlam.models.precoder import AirlamPrecoder, AirlamPrecoderConfig, LearnedPrecoder
from airlam.models.predictor import AirlamPredictor
from airlam.models.radio_map import AirlamMap, AirlamMapConfig
from airlam.models.spectral_model import SpectralModel
from airlam.models.tokens import Tokens

__all__ = [
    "AdaptedModel",
    "AirlamBeams",
    "AirlamBeamsConfig",
    "AirlamConfig",
    "AirlamEstimator",
    "AirlamMap",
    "AirlamMapConfig",
    "AirlamModel",
    "AirlamPaths",
    "AirlamPathsConfig",
    "AirlamPathsPredictor",
    "AirlamPilots",
    "AirlamPilotsConfig",
    "AirlamPosition",
    "AirlamPositionConfig",
    "AirlamPrecoder",
    "AirlamPrecoderConfig",
    "AirlamPredictor",
    "LearnedPrecoder",
    "OnBackbone",
    "LitertModel",
    "LitertPredictor",
    "OnnxMap",
    "OnnxModel",
    "OnnxPosition",
    "OnnxPredictor",
    "ParallelAdapter",
    "PilotPrecoder",
    "SpectralModel",
    "Tokens",
    "adapter_utility",
    "add_lora",
    "add_parallel_adapter",
    "exported_format",
    "is_onnx_folder",
    "load_beams",
    "load_checkpoint",
    "load_learned_precoder",
    "load_lora",
    "load_map",
    "load_paths",
    "load_pilots",
    "load_parallel_adapter",
    "load_position",
    "lora_layers",
    "pooled_hidden",
    "save_checkpoint",
    "save_lora",
    "save_parallel_adapter",
]
