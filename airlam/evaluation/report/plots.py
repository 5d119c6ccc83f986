"""Kept for imports of :func:`title` from its former place."""

from airlam.evaluation.report.style import title

__all__ = ["title"]
