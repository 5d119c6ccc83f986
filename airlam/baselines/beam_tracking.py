"""Classical beam prediction: which beam will be the best, from sweeps that measured some of the beams.

Input is the result of :func:`airlam.csi.measure_beams`, ``power [batch, sweep, beam]``, and ``measured bool [sweep,
beam]`` (or one for every entry of the batch). Output are scores ``[batch, horizon, beam]`` for ``1 ... horizon`` sweeps
after the last one; a higher score means a better beam.
"""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi import resolve_inputs

NEVER = -1e9  # score of a beam that was never measured


def check_sweeps(power: Tensor, measured: Tensor, horizon: int) -> Tensor:
    """``measured`` as ``bool [batch, sweep, beam]``.

    Raises:
        TypeError, ValueError: wrong shapes or types, NaN, negative power, nothing measured, no horizon.
    """
    if not isinstance(power, Tensor) or power.dim() != 3 or not power.is_floating_point():
        raise TypeError("power must be a real torch.Tensor [batch, sweep, beam]")
    if not isinstance(measured, Tensor) or measured.dtype != torch.bool:
        raise TypeError("measured must be a bool torch.Tensor [sweep, beam] or [batch, sweep, beam]")
    if measured.dim() not in (2, 3) or measured.shape not in (power.shape, power.shape[1:]):
        raise ValueError(f"measured {tuple(measured.shape)} does not fit power {tuple(power.shape)}")
    measured = measured.expand(power.shape)
    if not measured.flatten(1).any(-1).all():
        raise ValueError("no beam was measured in one of the entries: there is nothing to predict from")
    seen = power[measured]
    if not bool(torch.isfinite(seen).all()) or bool((seen < 0).any()):
        raise ValueError("measured power must be finite and not negative (linear, over the noise)")
    if not isinstance(horizon, int) or horizon < 1:
        raise ValueError(f"horizon is {horizon!r}, but must be a whole number of at least 1")
    return measured


def _log(power: Tensor) -> Tensor:
    return power.clamp_min(1e-6).log()


class LastBest:
    """Predicts that every beam keeps the power that was measured last.

    Args:
        memory: weight of the past in an exponential average over a beam's measurements; 0: the last alone.

    Example:
        >>> power = torch.tensor([[[4.0, 1.0, 2.0], [0.0, 0.0, 5.0]]])
        >>> LastBest().scores(power, torch.tensor([[True, True, True], [False, False, True]]), 1).argmax(-1)
        tensor([[2]])
    """

    name = "last-best"

    def __init__(self, memory: float = 0.0):
        if not 0 <= memory < 1:
            raise ValueError(f"memory is {memory}, but must lie in [0, 1)")
        self.memory = memory

    @resolve_inputs
    def scores(self, power: Tensor, measured: Tensor, horizon: int = 1) -> Tensor:
        """See the module's docstring."""
        return self.average(power, check_sweeps(power, measured, horizon))[:, None].repeat(1, horizon, 1)

    def average(self, power: Tensor, measured: Tensor) -> Tensor:
        """Logarithm of the averaged power ``[batch, beam]``."""
        # a beam's n-th last measurement weighs memory^n
        later = measured.flip(1).cumsum(1).flip(1) - 1
        weight = torch.where(measured, self.memory ** later.to(power.dtype), torch.zeros_like(power))
        mean = (weight * power.nan_to_num()).sum(1) / weight.sum(1).clamp_min(1e-12)
        return torch.where(measured.any(1), _log(mean), torch.full_like(mean, NEVER))


class LinearExtrapolation:
    """Extrapolates the logarithm of each beam's power along a line through its measurements.

    The line is a least-squares fit to the last ``window`` measurements; ``ridge`` (in units of one sweep squared)
    shrinks its slope. A beam that was measured once keeps its power.

    Args:
        window: at least 2. ridge: 0 takes the line as it is, infinity the mean.

    Example:
        >>> power = torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1)
        >>> round(float(LinearExtrapolation(3).scores(power, torch.ones(3, 1, dtype=torch.bool), 1).exp()), 3)
        8.0
    """

    name = "linear extrapolation"

    def __init__(self, window: int = 2, ridge: float = 0.0):
        if window < 2:
            raise ValueError(f"window is {window}, but a line needs at least 2 measurements")
        if not ridge >= 0:
            raise ValueError(f"ridge must not be negative, got {ridge}")
        self.window, self.ridge = window, ridge

    @resolve_inputs
    def scores(self, power: Tensor, measured: Tensor, horizon: int = 1) -> Tensor:
        """See the module's docstring."""
        measured = check_sweeps(power, measured, horizon)
        later = measured.flip(1).cumsum(1).flip(1) - 1
        weight = (measured & (later < self.window)).to(power.dtype)
        time = torch.arange(power.shape[1], dtype=power.dtype, device=power.device)[:, None]
        value, count = _log(power.nan_to_num()), weight.sum(1).clamp_min(1e-12)
        middle, mean = (weight * time).sum(1) / count, (weight * value).sum(1) / count
        away = weight * (time - middle[:, None])
        slope = (away * value).sum(1) / (away.square().sum(1) + self.ridge).clamp_min(1e-12)
        steps = torch.arange(1, horizon + 1, dtype=power.dtype, device=power.device)[:, None]
        ahead = power.shape[1] - 1 + steps
        line = mean[:, None] + slope[:, None] * (ahead - middle[:, None])
        return torch.where(measured.any(1)[:, None], line, torch.full_like(line, NEVER))


class TrainedLinear:
    """Ridge regression: the log power of every beam as a linear function of all measurements (log power, too).

    Valid only for the scenario, codebook and schedule of sweeps that it was trained for. It corresponds to linear MMSE
    estimation of channels.

    Args:
        weight: ``[1 + sweep * beam, horizon * beam]``, constant first.
        horizon: sweeps ahead that it was trained for.
        measured: ``bool [sweep, beam]``, the schedule of its training.
    """

    name = "trained linear"

    def __init__(self, weight: Tensor, horizon: int, measured: Tensor):
        self.weight, self.horizon, self.measured = weight, horizon, measured

    @classmethod
    @resolve_inputs
    def fit(cls, power: Tensor, measured: Tensor, future: Tensor, ridge: float = 10.0) -> TrainedLinear:
        """Ridge regression.

        Args:
            power, measured: of the training tracks, measured alike. future: their true power over the noise ``[batch,
                horizon, beam]``. ridge: in units of one measurement.
        """
        x, y = cls._training_inputs(power, measured, future, ridge), _log(future).flatten(1).double()
        penalty = ridge * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        penalty[0, 0] = 1e-9
        weight = torch.linalg.solve(x.mT @ x + penalty, x.mT @ y)
        return cls(weight.float(), future.shape[1], measured)

    @classmethod
    def _training_inputs(cls, power: Tensor, measured: Tensor, future: Tensor, ridge: float) -> Tensor:
        """The inputs of the training tracks ``float64 [batch, 1 + sweep * beam]``, after checks of everything."""
        if not 0 <= ridge < float("inf"):
            raise ValueError(f"ridge must be a finite number and not negative, got {ridge}")
        if not bool(torch.isfinite(future).all()):
            raise ValueError("future contains NaN or infinity")
        if measured.dim() != 2:
            raise ValueError(f"measured {tuple(measured.shape)} must be [sweep, beam]: one schedule for all tracks")
        if future.dim() != 3 or len(future) != len(power) or future.shape[-1] != power.shape[-1]:
            raise ValueError(f"future {tuple(future.shape)} does not fit power {tuple(power.shape)}")
        return cls._inputs(power, check_sweeps(power, measured, future.shape[1]))

    @property
    def num_weights(self) -> int:
        """Weights that were trained: those of beams that a sweep did not measure are zero."""
        return (1 + int(self.measured.sum())) * self.weight.shape[1]

    @staticmethod
    def _inputs(power: Tensor, measured: Tensor) -> Tensor:
        known = torch.where(measured, _log(power.nan_to_num()), torch.zeros_like(power)).flatten(1).double()
        return torch.cat([torch.ones_like(known[:, :1]), known], 1)

    @resolve_inputs
    def scores(self, power: Tensor, measured: Tensor, horizon: int = 1) -> Tensor:
        """See the module's docstring; ``horizon`` up to the one it was trained for."""
        seen = check_sweeps(power, measured, horizon)
        inputs = self._inputs(power, seen)
        if inputs.shape[1] != len(self.weight) or horizon > self.horizon:
            raise ValueError(
                f"trained for {len(self.weight) - 1} measurements and horizon {self.horizon}, got "
                f"{inputs.shape[1] - 1} and {horizon}"
            )
        if not bool((seen == self.measured).all()):
            raise ValueError("measured is another schedule than the one it was trained on; fit one for it")
        out = inputs.float() @ self.weight
        return out.unflatten(1, (self.horizon, -1))[:, :horizon]


class SoftmaxRegression(TrainedLinear):
    """Multinomial logistic regression: the probability of being the best beam, from all measurements (log power).

    For each sweep to come, one softmax over beams of linear functions of the measurements, trained with the
    cross-entropy of the truly best beam. Like :class:`TrainedLinear` it knows one scenario, codebook and schedule.

    Example:
        >>> power = torch.rand(64, 1, 4, generator=torch.Generator().manual_seed(0)) + 0.1
        >>> measured = torch.ones(1, 4, dtype=torch.bool)
        >>> made = SoftmaxRegression.fit(power, measured, power, ridge=1e-3)
        >>> float((made.scores(power, measured).argmax(-1) == power.argmax(-1)).float().mean()) > 0.95
        True
    """

    name = "softmax regression"

    @classmethod
    def fit(
        cls, power: Tensor, measured: Tensor, future: Tensor, ridge: float = 10.0, max_iterations: int = 200
    ) -> SoftmaxRegression:
        """Minimise the cross-entropy, summed over tracks, plus ``ridge / 2`` times the squared weights.

        L-BFGS from zero weights: the same inputs give the same weights.

        Args:
            power, measured, future: as in :meth:`TrainedLinear.fit`.
            ridge: of weights for inputs of unit variance; the constant has none. max_iterations: of L-BFGS.

        Raises:
            TypeError, ValueError: wrong shapes or types, values that are not finite, a negative ridge.
        """
        full = cls._training_inputs(power, measured, future, ridge)
        used = torch.cat([torch.ones(1, dtype=torch.bool), measured.flatten()])
        x = full[:, used]
        mean, scale = x.mean(0), x.std(0, correction=0)
        mean[0], scale[0] = 0, 1
        scale = torch.where(scale > 1e-9, scale, torch.ones_like(scale))  # a constant input says nothing
        x = ((x - mean) / scale).float()
        best, horizon, beams = future.argmax(-1).flatten(), future.shape[1], future.shape[2]
        weight = torch.zeros(x.shape[1], horizon * beams, requires_grad=True)
        # L-BFGS works on weights times sqrt(1 + ridge / tracks): as well conditioned with a large ridge as with a small
        ease = (1 + ridge / len(x)) ** -0.5
        x[:, 1:] *= ease

        def objective() -> Tensor:
            scores = (x @ weight).unflatten(1, (horizon, beams)).flatten(0, 1)
            loss = torch.nn.functional.cross_entropy(scores, best, reduction="sum")
            return (loss + 0.5 * ridge * (ease * weight[1:]).square().sum()) / len(scores)

        solver = torch.optim.LBFGS(
            [weight],
            max_iter=max_iterations,
            max_eval=2 * max_iterations,
            history_size=20,
            tolerance_grad=1e-6,
            tolerance_change=1e-9,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            solver.zero_grad()
            loss = objective()
            loss.backward()
            return loss

        with torch.enable_grad():
            solver.step(closure)
        found = weight.detach().double() / scale[:, None]
        found[1:] *= ease
        found[0] -= mean[1:] @ found[1:]
        whole = found.new_zeros(full.shape[1], found.shape[1])
        whole[used] = found
        return cls(whole.float(), horizon, measured)
