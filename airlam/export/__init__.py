"""Trained models in formats of other runtimes, stores for TensorFlow."""

from airlam.export.litert import export_litert
from airlam.export.onnx import export_onnx
from airlam.export.tensorflow import export_tensorflow, keras_network
from airlam.export.tf_dataset import tf_dataset

__all__ = ["export_litert", "export_onnx", "export_tensorflow", "keras_network", "tf_dataset"]
