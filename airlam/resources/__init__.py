"""What computing and sending cost at the edge: devices, radio links, operations, memory. All of it modelled."""

from airlam.resources.devices import DEVICES, Device, device
from airlam.resources.radio import Cell, RadioLink, draw_link, path_loss_db
from airlam.resources.workload import count_activations, count_flops, training_bytes

__all__ = [
    "DEVICES",
    "Cell",
    "Device",
    "RadioLink",
    "count_activations",
    "count_flops",
    "device",
    "draw_link",
    "path_loss_db",
    "training_bytes",
]
