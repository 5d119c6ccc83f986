"""Figures of merit, each with its convention stated: NMSE, spectral efficiency, latency, intervals."""

from airlam.metrics.nmse import nmse, to_db

__all__ = ["nmse", "to_db"]
