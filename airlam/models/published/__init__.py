"""Published networks as their own code builds them, with the weights that their authors published."""

from airlam.models.published.lwm import LWM, load_lwm
from airlam.models.published.weights import read_state_dict
from airlam.models.published.wifo import WiFo, WiFoPredictor, load_wifo

__all__ = ["LWM", "WiFo", "WiFoPredictor", "load_lwm", "load_wifo", "read_state_dict"]
