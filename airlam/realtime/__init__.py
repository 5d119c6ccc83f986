"""Prediction slot by slot within the time of a slot: streams, engines, and the fastest form of a network."""

from airlam.realtime.network import FastNetwork, fastest_network

__all__ = ["FastNetwork", "fastest_network"]
