"""Reports of CSI whose coefficients are arithmetically coded, with learned integer contexts."""

from airlam.models.csi_codec.codec import ContextCodec, ContextReports, LastReport
from airlam.models.csi_codec.network import SizeNetwork

__all__ = ["ContextCodec", "ContextReports", "LastReport", "SizeNetwork"]
