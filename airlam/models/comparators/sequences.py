"""Links as sequences over slots: one for each beam, or for a few beams together."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from airlam.csi import PortShape
from airlam.models.comparators.comparator import Comparator, complex_features, real_features, turn_to_last, unit_power


class SequenceComparator(Comparator):
    """A comparator that treats ``beams_per_sequence`` beams of a link as one sequence over slots.

    As in LLM4CP and its baselines, where each antenna is a sequence of its own, whose features are the real and
    imaginary parts of all subcarriers. Ours: beams and delays instead of antennas and subcarriers; each coefficient's
    series turned to the phase of its last slot; each sequence scaled to unit mean power, with the log of its scale as
    one more feature.

    Args:
        num_subcarriers: of the CSI it is made for; another number is refused.
        beams_per_sequence: 1 serves any array; more serve arrays whose ports they divide.
    """

    def __init__(self, *, num_subcarriers: int, beams_per_sequence: int = 1, **arguments):
        super().__init__(num_subcarriers=num_subcarriers, beams_per_sequence=beams_per_sequence, **arguments)
        self.num_subcarriers, self.beams_per_sequence = num_subcarriers, beams_per_sequence
        self.num_coefficients = num_subcarriers * beams_per_sequence
        self.num_features = 2 * self.num_coefficients + 1

    def check_shape(self, num_subcarriers: int, port_shape: PortShape) -> None:
        """See :class:`Comparator`."""
        if num_subcarriers != self.num_subcarriers:
            raise ValueError(
                f"this {self.kind} was made for {self.num_subcarriers} subcarriers, got {num_subcarriers}; train one "
                "on that band"
            )
        ports = port_shape[0] * port_shape[1] * port_shape[2]
        if ports % self.beams_per_sequence:
            raise ValueError(
                f"this {self.kind} takes {self.beams_per_sequence} beams at a time, which do not divide {ports} ports; "
                "train one with beams_per_sequence=1"
            )

    def correct(self, x: Tensor, port_shape: PortShape) -> Tensor:
        """See :class:`Comparator`."""
        links, slots, delays, beams = x.shape
        sequences = x.unflatten(-1, (-1, self.beams_per_sequence)).permute(0, 3, 1, 4, 2)  # link, group, slot, beam, ..
        sequences = sequences.flatten(0, 1).flatten(-2)
        sequences, scale = unit_power(sequences, (1, 2))
        turned, phase = turn_to_last(sequences)
        level = torch.log(scale).expand(-1, slots, -1)
        # on CPUs, torch's fused attention takes half of a training step going backward over so few slots
        with nullcontext() if x.is_cuda or not self.training else sdpa_kernel(SDPBackend.MATH):
            out = self.sequence(torch.cat([real_features(turned), level], -1), sequences)
        out = complex_features(out) * phase * scale
        out = out.unflatten(-1, (self.beams_per_sequence, delays)).unflatten(0, (links, -1))
        return out.permute(0, 2, 4, 1, 3).flatten(-2)

    def sequence(self, features: Tensor, series: Tensor) -> Tensor:
        """Real ``[sequence, horizon, 2 * coefficient]`` from the features ``[sequence, slot, feature]``.

        Args:
            series: ``complex [sequence, slot, coefficient]``, not turned.
        """
        raise NotImplementedError
