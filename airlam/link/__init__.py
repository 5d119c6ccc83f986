"""Coded links on Sionna: what a precoder's spectral efficiency is worth in transport blocks that arrive."""

from airlam.link.coded import CodedLink

__all__ = ["CodedLink"]
