"""What RNN, GRU and LSTM share."""

from __future__ import annotations

from torch import Tensor, nn

from airlam.models.comparators.comparator import silent
from airlam.models.comparators.sequences import SequenceComparator


class RecurrentComparator(SequenceComparator):
    """A recurrent network over slots; its last state predicts all future slots at once.

    As published (baselines of LLM4CP): one sequence per antenna, four layers there. Ours, besides what
    :class:`SequenceComparator` says: an input layer, and direct prediction of all slots instead of a roll-out slot by
    slot, which accumulates errors.

    Args:
        width: of the recurrent state. num_layers: stacked.
    """

    cell: type[nn.RNN] | type[nn.GRU] | type[nn.LSTM]

    def __init__(
        self, *, history: int = 16, horizon: int = 4, num_subcarriers: int = 48, width: int = 256, num_layers: int = 2
    ):
        super().__init__(
            history=history, horizon=horizon, num_subcarriers=num_subcarriers, width=width, num_layers=num_layers
        )
        self.arguments.pop("beams_per_sequence")
        self.embedding = nn.Linear(self.num_features, width)
        self.recurrent = self.cell(width, width, num_layers, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.head = silent(nn.Linear(width, horizon * 2 * self.num_coefficients))

    def sequence(self, features: Tensor, series: Tensor) -> Tensor:
        """See :class:`SequenceComparator`."""
        states, _ = self.recurrent(self.embedding(features))
        return self.head(self.norm(states[:, -1])).unflatten(-1, (self.horizon, -1))
