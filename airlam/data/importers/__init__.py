"""Readers of foreign recordings: one file for each family of formats. Each returns CSI in airlam's axis order."""

from airlam.data.importers.wifi import Recording, align, read_recording, windows

__all__ = ["Recording", "align", "read_recording", "windows"]
