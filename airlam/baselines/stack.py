"""A least-squares stack: one weighted sum of several predictors' predictions for each step ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from airlam.csi import PortShape
from airlam.interfaces import Predictor, any_scale, check_prediction_request

STACK_MEMBERS = ("hold", "mean", "pad", "wiener", "ar", "kalman", "eigen-ar", "paths")
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e3)
NUM_FOLDS = 4


class StackPredictor:
    """Weighted sum of predictions (stacked regression, Breiman 1996)::

        h_hat[T + s] = sum_m weights[s, m] h_hat_m[T + s]

    Steps beyond those that weights were fitted for take the last step's weights.

    Args:
        members: predictors.
        weights: ``complex [step, member]``; :func:`fit_stack` fits them.

    Example:
        >>> from airlam.baselines import HoldPredictor, MeanPredictor
        >>> stack = StackPredictor([HoldPredictor(), MeanPredictor()], torch.tensor([[0.5 + 0j, 0.5 + 0j]]))
        >>> h_past = torch.tensor([1.0, 3.0], dtype=torch.complex64).reshape(2, 1, 1, 1)
        >>> stack.predict(h_past, 2).real.flatten().tolist()  # half of 3 and half of 2
        [2.5, 2.5]
    """

    name = "stack"

    def __init__(self, members: Sequence[Predictor], weights: Tensor):
        if not members:
            raise ValueError("a stack needs at least one member")
        if weights.dim() != 2 or not len(weights) or weights.shape[1] != len(members):
            raise ValueError(f"weights are {tuple(weights.shape)}, but must be [step, {len(members)}]: one a member")
        self.members, self.weights = list(members), weights

    @any_scale
    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :class:`airlam.interfaces.Predictor`; members see the same ``context``."""
        check_prediction_request(h_past, num_future, port_shape)
        steps = torch.arange(num_future).clamp(max=len(self.weights) - 1)
        weights = self.weights[steps].to(h_past.device, h_past.dtype)[:, :, None, None, None]
        out = torch.zeros(())
        for place, member in enumerate(self.members):
            out = out + weights[:, place] * member.predict(h_past, num_future, port_shape=port_shape, context=context)
        return out


def fit_stack(
    members: Mapping[str, Predictor],
    h_past: Tensor,
    h_future: Tensor,
    groups: Tensor,
    *,
    port_shape: PortShape | None = None,
    context: dict | None = None,
    batch_size: int = 16,
) -> tuple[StackPredictor, dict]:
    """Fit the weights of a stack.

    For each step the weights minimise the mean over links of ``||h - sum_m w_m h_hat_m||^2 / ||h||^2`` plus ``ridge``
    times the mean power of a member's prediction times ``||w - w_0||^2``. ``w_0`` takes the best single member alone,
    so that a strong ridge ends there. The ridge is the one of ``RIDGES`` with the least error on groups that its
    weights were not fitted on (``NUM_FOLDS`` folds of whole groups); the final weights use all links.

    The members may have been tuned on the same links: tuning chooses a handful of settings, the weights are as few.
    Figures must come from other links in any case.

    Args:
        members: predictors by name.
        h_past, h_future: measured histories and true futures ``complex [link, slot, subcarrier, rx_ant, tx_ant]``.
        groups: ``int [link]``, the drop of each link: one drop's links are never on both sides of a fold.
        port_shape, context: handed to the members.
        batch_size: links predicted at once.

    Returns:
        the stack, and what was chosen: ``ridge``, and the size of each member's weight, averaged over the steps.
    """
    if len(h_past) != len(h_future) or len(groups) != len(h_past) or not len(h_past):
        lengths = f"{len(h_past)}, {len(h_future)}, {len(groups)}"
        raise ValueError(f"h_past, h_future, groups have {lengths} links, but must have the same, at least 1")
    gram, right, energy = _moments(list(members.values()), h_past, h_future, port_shape, context, batch_size)

    def solve(chosen: Tensor, ridge: float) -> Tensor:
        """Weights ``[step, member]`` from the links ``chosen``."""
        own = gram[chosen].mean(0)  # [step, member, member]
        load = ridge * own.diagonal(dim1=-2, dim2=-1).real.mean(-1) + 1e-12
        start = torch.zeros(own.shape[:2], dtype=own.dtype)
        best = _error(torch.eye(own.shape[-1], dtype=own.dtype)[:, None], gram[chosen], right[chosen], energy[chosen])
        start[:, int(best.mean((1, 2)).argmin())] = 1
        eye = torch.eye(own.shape[-1], dtype=own.dtype)
        system = own + load[:, None, None] * eye
        return torch.linalg.solve(system, (right[chosen].mean(0) + load[:, None] * start)[..., None])[..., 0]

    everyone = torch.ones(len(h_past), dtype=torch.bool)
    fold = torch.unique(groups, return_inverse=True)[1] % NUM_FOLDS
    folds = [fold == k for k in range(NUM_FOLDS) if bool((fold == k).any()) and not bool((fold == k).all())]

    def held_out_error(ridge: float) -> float:
        return sum(float(_error(solve(~f, ridge), gram[f], right[f], energy[f]).sum()) for f in folds)

    ridge = min(RIDGES, key=held_out_error) if folds else 1e-2
    weights = solve(everyone, ridge)
    shown = {name: round(float(size), 3) for name, size in zip(members, weights.abs().mean(0), strict=True)}
    return StackPredictor(list(members.values()), weights), {"ridge": ridge, **shown}


def _moments(members, h_past, h_future, port_shape, context, batch_size) -> tuple[Tensor, Tensor, Tensor]:
    """Per link and step, relative to the link's energy: the Gram matrix of the members' predictions ``[link, step,
    member, member]``, their products with the truth ``[link, step, member]``, its energy ``[link, step]``."""
    grams, rights, energies = [], [], []
    for start in range(0, len(h_past), batch_size):
        part = slice(start, start + batch_size)
        truth = h_future[part]
        side = {k: v[part] if isinstance(v, Tensor) and v.dim() else v for k, v in (context or {}).items()}
        seen = [m.predict(h_past[part], truth.shape[1], port_shape=port_shape, context=side) for m in members]
        x = torch.stack(seen, 2).flatten(3).to(torch.complex128)  # [link, step, member, entry]
        y = truth.flatten(2).to(torch.complex128)
        whole = y.abs().square().sum((1, 2)).clamp_min(1e-300)[:, None]
        grams.append(x.conj() @ x.mT / whole[..., None, None])
        rights.append((x.conj() @ y[..., None])[..., 0] / whole[..., None])
        energies.append(y.abs().square().sum(-1) / whole)
    return torch.cat(grams), torch.cat(rights), torch.cat(energies)


def _error(weights: Tensor, gram: Tensor, right: Tensor, energy: Tensor) -> Tensor:
    """Squared error relative to the link's energy ``[..., link, step]`` for ``weights [..., step, member]``."""
    w = weights[..., None, :, :]
    quadratic = torch.einsum("...m,...mn,...n->...", w.conj(), gram, w).real
    return energy - 2 * (w.conj() * right).sum(-1).real + quadratic
