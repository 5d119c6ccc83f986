"""The CSI convention, in one place: axes, transforms, measurement, feedback, beams, pilots, lazy views.

CSI is ``complex [..., slot, subcarrier, rx_ant, tx_ant]``, one link per batch entry; :mod:`airlam.csi.axes` defines
the axes.
"""

from airlam.csi.axes import (
    RX_ANT,
    SLOT,
    SUBCARRIER,
    TX_ANT,
    PortShape,
    check_port_shape,
    from_sionna,
    series_along,
    series_back,
    to_sionna,
)
from airlam.csi.beam_delay import from_beam_delay, to_beam_delay
from airlam.csi.beams import beam_power, dft_codebook, dft_line, measure_beams, sweep_schedule
from airlam.csi.eigenvectors import subband_eigenvectors
from airlam.csi.feedback import Feedback, feed_back
from airlam.csi.height_map import HeightMap
from airlam.csi.lazy import resolve_inputs, resolved
from airlam.csi.measurement import Impairment, impair, lose_slots, mean_power, measure, normalise, quantise, receive
from airlam.csi.pilots import observe_pilots, phase_combiner
from airlam.csi.site import SiteCSI
from airlam.csi.site_map import SiteMap
from airlam.csi.turning import turn_to_last

__all__ = [
    "RX_ANT",
    "SLOT",
    "SUBCARRIER",
    "TX_ANT",
    "Feedback",
    "HeightMap",
    "Impairment",
    "PortShape",
    "SiteCSI",
    "SiteMap",
    "beam_power",
    "check_port_shape",
    "dft_codebook",
    "dft_line",
    "feed_back",
    "from_beam_delay",
    "from_sionna",
    "impair",
    "lose_slots",
    "mean_power",
    "measure",
    "measure_beams",
    "normalise",
    "quantise",
    "receive",
    "observe_pilots",
    "phase_combiner",
    "resolve_inputs",
    "resolved",
    "series_along",
    "series_back",
    "subband_eigenvectors",
    "sweep_schedule",
    "to_beam_delay",
    "to_sionna",
    "turn_to_last",
]
