"""Readers of foreign recordings: an importer for each format, which returns CSI in airlam's axis order.

A new one is a class in a file of its own and its place in ``IMPORTERS`` (:mod:`airlam.data.importers.reading`). Outside
the package a class path is enough; or ``IMPORTERS.register``, or an entry point of the group ``airlam.importers``.
"""

from airlam.data.importers.reading import IMPORTERS, read_recording
from airlam.data.importers.recording import Importer, Recording, align, windows

__all__ = ["IMPORTERS", "Importer", "Recording", "align", "read_recording", "windows"]
