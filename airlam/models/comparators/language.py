"""A frozen language model between trained CSI layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from airlam.models.comparators.comparator import real_features, silent, turn_to_last
from airlam.models.comparators.sequences import SequenceComparator

PATCH = 4  # slots mixed with each other before the language model
RESIDUAL_WIDTH = 8


class LanguageModelComparator(SequenceComparator):
    """LLM4CP's layout around any language model that takes ``inputs_embeds``.

    As published (Liu, Liu, Gao, Cheng, Yang, "LLM4CP: Adapting Large Language Models for Channel Prediction", 2024): a
    frequency-domain and a delay-domain branch, each mixing the slots of a patch and then attending to CSI features in
    residual convolutions with squeeze and excitation; their sum embedded as one token per slot; the language model,
    frozen except for its layer norms and position embeddings; one linear layer back to CSI and one from past to future
    slots.
    Ours: what :class:`SequenceComparator` says, in both branches; residual blocks of 8 channels (64 there), which take
    a third of the time at equal accuracy; a head that starts at zero; no dropout, since no link is seen twice;
    ``beams_per_sequence`` may join several antennas in one sequence (1 there), which divides the time by that number.

    Args:
        language_model: the network. Its parameters are frozen, except layer norms and position embeddings.
    """

    def __init__(self, language_model: PreTrainedModel, **arguments: Any):
        super().__init__(**arguments)
        self.language_model = language_model
        for name, parameter in language_model.named_parameters():
            parameter.requires_grad_(_is_norm(language_model, name) or "position" in name or "wpe" in name)
        width = language_model.config.hidden_size
        if self.history % PATCH:
            raise ValueError(f"history must be a multiple of {PATCH}, the slots of a patch; got {self.history}")
        self.delay, self.frequency = Branch(), Branch()
        self.embedding = nn.Conv1d(self.num_features, width, 3, padding=1)
        self.position = nn.Parameter(0.02 * torch.randn(self.history, width))
        self.out = silent(nn.Linear(width, 2 * self.num_coefficients))
        self.time = nn.Linear(self.history, self.horizon)
        nn.init.zeros_(self.time.bias)  # silent at first, as the layer before it

    def sequence(self, features: Tensor, series: Tensor) -> Tensor:
        """See :class:`SequenceComparator`."""
        by_beam = series.unflatten(-1, (self.beams_per_sequence, self.num_subcarriers))
        tones, _ = turn_to_last(torch.fft.fft(by_beam, dim=-1, norm="ortho").flatten(-2))
        mixed = self.delay(features[..., :-1]) + self.frequency(real_features(tones))
        tokens = torch.cat([mixed, features[..., -1:]], -1)
        tokens = self.embedding(tokens.mT).mT + self.position
        hidden = self.language_model(inputs_embeds=tokens).last_hidden_state
        return self.time(self.out(hidden).mT).mT


class Branch(nn.Module):
    """Patches of slots mixed linearly, then a residual convolution over slots and features with squeeze and excitation:
    real ``[sequence, slot, feature]``, real and imaginary parts in turn, shape kept."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Linear(PATCH, PATCH)
        self.first = nn.Conv2d(2, RESIDUAL_WIDTH, 3, padding=1)
        self.second = nn.Conv2d(RESIDUAL_WIDTH, 2, 3, padding=1)
        self.excite = nn.Sequential(nn.Linear(2, RESIDUAL_WIDTH), nn.ReLU(), nn.Linear(RESIDUAL_WIDTH, 2), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.patch(x.unflatten(1, (-1, PATCH)).transpose(2, 3)).transpose(2, 3).flatten(1, 2)
        image = x.unflatten(-1, (-1, 2)).movedim(-1, 1)
        y = self.second(torch.relu(self.first(image)))
        y = image + y * self.excite(y.mean((2, 3)))[..., None, None]
        return y.movedim(1, -1).flatten(-2)


def _is_norm(model: nn.Module, name: str) -> bool:
    return isinstance(model.get_submodule(name.rpartition(".")[0]), nn.LayerNorm)
