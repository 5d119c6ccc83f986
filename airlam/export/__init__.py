"""Trained models in formats of other runtimes."""

from airlam.export.litert import export_litert
from airlam.export.onnx import export_onnx
from airlam.export.tensorflow import export_tensorflow, keras_network

__all__ = ["export_litert", "export_onnx", "export_tensorflow", "keras_network"]
