"""3GPP channels made with Sionna, as CSI with ground truth. See docs/channels.md."""

from airlam.channels.channel_model import ChannelModel, Chunk, write_normalised
from airlam.channels.drops import draw_velocity
from airlam.channels.link_batch import LinkBatch, Rays
from airlam.channels.loading import load_channel
from airlam.channels.mixture import MixtureChannel
from airlam.channels.ray_tracing import rt_available
from airlam.channels.recipe import recipe_names
from airlam.channels.stations import by_station

__all__ = [
    "ChannelModel",
    "Chunk",
    "LinkBatch",
    "MixtureChannel",
    "Rays",
    "by_station",
    "draw_velocity",
    "load_channel",
    "recipe_names",
    "rt_available",
    "write_normalised",
]
