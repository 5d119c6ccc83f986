"""The codebooks of 5G NR as codecs that recipes name, each made for an array when it is known."""

from __future__ import annotations

from airlam.baselines.type1 import Type1Subbands
from airlam.baselines.type2 import EnhancedType2
from airlam.csi import PortShape


class Type1Codec:
    """Type I reports, see :class:`airlam.baselines.Type1Subbands`."""

    name = "type1-report"

    def for_array(self, port_shape: PortShape, subbands: int, layers: int = 1) -> Type1Subbands:
        """See :class:`airlam.interfaces.Codec`."""
        return Type1Subbands(port_shape, subbands, layers)


class Type2Codec:
    """Enhanced Type II reports of one parameter combination, see :class:`airlam.baselines.EnhancedType2`.

    Args:
        combination: 1 to 8. candidates, rounds: of the search.
    """

    def __init__(self, combination: int, candidates: int = 4, rounds: int = 16):
        self.name = f"type2-{combination}"
        self.arguments = {"candidates": candidates, "rounds": rounds}
        self.combination = combination

    def for_array(self, port_shape: PortShape, subbands: int, layers: int = 1) -> EnhancedType2:
        """See :class:`airlam.interfaces.Codec`."""
        return EnhancedType2(self.combination, port_shape, subbands, layers, **self.arguments)
