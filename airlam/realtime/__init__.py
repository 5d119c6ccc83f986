"""Streams that predict in real time: filters for every slot, statistics now and then, the network in the background."""

from airlam.realtime.engine import Engine, Memory
from airlam.realtime.engines import engine_for
from airlam.realtime.full import FastPredictor
from airlam.realtime.group import Group, GroupState
from airlam.realtime.network import FastNetwork, fastest_network
from airlam.realtime.paths import PathEngine
from airlam.realtime.pool import StreamPool
from airlam.realtime.precoding import FastPrecoder
from airlam.realtime.refresher import Refresher
from airlam.realtime.state import State
from airlam.realtime.stream import Stream

__all__ = [
    "Engine",
    "FastNetwork",
    "FastPrecoder",
    "FastPredictor",
    "Group",
    "GroupState",
    "Memory",
    "PathEngine",
    "Refresher",
    "State",
    "Stream",
    "StreamPool",
    "engine_for",
    "fastest_network",
]
