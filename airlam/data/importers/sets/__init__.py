"""Foreign data sets of CSI: a class for each layout, and the writer of a store of their links.

A new layout is a class in a file of its own and its place in ``LAYOUTS`` (:mod:`airlam.data.importers.sets.reading`).
Outside the package a class path is enough, or an entry point of the group ``airlam.layouts``.
"""

from airlam.data.importers.sets.description import Description
from airlam.data.importers.sets.layout import Contents, Layout, LinkBlock
from airlam.data.importers.sets.reading import LAYOUTS
from airlam.data.importers.sets.writing import import_set

__all__ = ["LAYOUTS", "Contents", "Description", "Layout", "LinkBlock", "import_set"]
