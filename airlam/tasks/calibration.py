"""Calibrated error variances: the last row of the head, by regression on links that training never saw."""

from __future__ import annotations

from collections.abc import Iterable

import lightning as L
import torch
from torch import Tensor

from airlam.csi import PortShape, check_port_shape, normalise
from airlam.models import AirlamModel

EULER = 0.5772156649


@torch.no_grad()
def calibrate_variance(model: AirlamModel, batches: Iterable[tuple[Tensor, Tensor, PortShape | None]]) -> float:
    """Fit the row of the head that corrects the filters' own error variance.

    The mean of ``log |e|^2`` of a complex Gaussian error of variance v is ``log v`` less Euler's constant, so the log
    of the correction is a linear regression on the backbone's output: no gradient steps are needed, and a few outlier
    links do not increase the variance of all, as they would under a likelihood.

    Args:
        model: with ``error_variance``; changed in place.
        batches: ``(h_past, h_future, port_shape)``, measured and true CSI ``[link, slot, subcarrier, rx_ant, tx_ant]``.

    Returns:
        Root mean square of what the regression leaves, in nats; the logarithm of a single complex Gaussian error would
        leave 1.28, the mean over several slots less.
    """
    if not model.config.error_variance:
        raise ValueError("the model has no error variances: AirlamConfig(error_variance=True)")
    model.eval()
    model.head.weight[-1].zero_()
    model.head.bias[-1].zero_()
    seen: list[Tensor] = []
    hook = model.norm.register_forward_hook(lambda module, args, out: seen.append(out))
    width = model.head.in_features
    gram = torch.zeros(width + 1, width + 1, dtype=torch.float64)
    right, total, count = torch.zeros(width + 1, dtype=torch.float64), 0.0, 0
    try:
        for h_past, h_future, port_shape in batches:
            x, scale = normalise(h_past[:, -model.config.max_history :])
            x = model.track(x)
            tokens = model.tokenize(x, h_future.shape[1], check_port_shape(x.shape[-1], port_shape)[0])
            truth = tokens.basis.forward(h_future / scale)
            truth = truth.gather(1, tokens.index[..., None].expand(-1, -1, truth.shape[-1])) / tokens.scale
            estimate = model.predict_tokens(tokens, h_future.shape[1])
            assert estimate.variance is not None
            error = estimate.series - truth
            square = error.real.square() + error.imag.square() + 1e-9
            wanted = (torch.log(square) + EULER - torch.log(estimate.variance)).mean(-1, keepdim=True)
            wanted = tokens.per_token(wanted)[..., 0].double()
            # empty directions of a short history have no meaningful relative error
            valid = tokens.per_token(tokens.scale)[..., 0] > 1e-3
            hidden = torch.nn.functional.pad(seen.pop().double(), (0, 1), value=1.0)[valid].cpu()
            y = wanted[valid].cpu()
            gram += hidden.mT @ hidden
            right += hidden.mT @ y
            total, count = total + float(y.square().sum()), count + len(y)
    finally:
        hook.remove()
    ridge = 1e-6 * gram.diagonal().mean() * torch.eye(width + 1, dtype=torch.float64)
    solution = torch.linalg.solve(gram + ridge, right)
    model.head.weight[-1].copy_(solution[:-1])
    model.head.bias[-1].copy_(solution[-1])
    left = total - 2 * solution @ right + solution @ gram @ solution
    return float((left / max(1, count)).clamp_min(0).sqrt())


class CalibrateVariance(L.Callback):
    """Run :func:`calibrate_variance` on the validation split when training ends; list it after weight averaging.
    Does nothing for a model without error variances.

    Args:
        passes: over the validation split, each with other history lengths and horizons, as in training.
    """

    def __init__(self, passes: int = 2):
        self.passes = passes

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before the last export, which happens when fit ends."""
        if not pl_module.model.config.error_variance:  # type: ignore[union-attr]
            return
        generator = torch.Generator().manual_seed(0)
        loader = trainer.datamodule.val_dataloader()  # type: ignore[attr-defined]

        def batches():
            for _ in range(self.passes):
                for batch in loader:
                    past, _, future = pl_module._window(batch, generator)  # type: ignore[operator]
                    yield past.to(pl_module.device), future.to(pl_module.device), batch["port_shape"]

        left = calibrate_variance(pl_module.model, batches())  # type: ignore[arg-type]
        print(f"error variances calibrated; residual {left:.2f} nats")
