"""Reports of CSI whose coefficients are arithmetically coded, with learned integer contexts."""

from airlam.models.csi_codec.codec import ContextCodec, ContextReports, LastReport

__all__ = ["ContextCodec", "ContextReports", "LastReport"]
