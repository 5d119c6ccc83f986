"""Trained models in formats of other runtimes."""

from airlam.export.onnx import export_onnx

__all__ = ["export_onnx"]
