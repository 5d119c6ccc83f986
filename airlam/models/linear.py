"""Linear layers that use oneDNN's matrix products in inference mode.

torch multiplies single-precision matrices with MKL, which is slow on processors not made by Intel. oneDNN is also part
of torch and is faster there: on an AMD EPYC with AVX-512 the layers of airlam-tiny take a third less time for one link,
half for sixteen. The operator is internal to torch (its compiler uses it), so it is tested once and not used if the
test fails.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn


class Linear(nn.Linear):
    """As :class:`torch.nn.Linear`; see the module's docstring for what differs in inference mode on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in_features]`` -> ``[..., out_features]``."""
        plain = torch.is_inference_mode_enabled() and x.dtype == self.weight.dtype == torch.float32
        if plain and x.device.type == "cpu" and onednn_works():
            return onednn_linear(x, self.weight, self.bias)
        return super().forward(x)


def use_onednn(module: nn.Module) -> None:
    """Turn every plain ``nn.Linear`` inside ``module`` into a :class:`Linear`; weights and their names stay."""
    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = Linear


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ weight.T + bias``."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@functools.cache
def onednn_works() -> bool:
    """Whether this build of torch has the operator, and it computes what it should."""
    if not torch.backends.mkldnn.is_available():
        return False
    x, weight, bias = torch.ones(2, 3), torch.full((4, 3), 2.0), torch.ones(4)
    try:
        return torch.equal(onednn_linear(x, weight, bias), torch.full((2, 4), 7.0))
    except (RuntimeError, AttributeError, TypeError):
        return False
