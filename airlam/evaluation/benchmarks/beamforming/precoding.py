"""From beliefs to rates: users in groups, precoders by name, and the classical precoder tuned on validation drops."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from airlam.baselines import rzf, wmmse
from airlam.evaluation.benchmarks.beamforming.beliefs import Belief
from airlam.evaluation.engine.checks import check_beams
from airlam.evaluation.engine.spectral_efficiency import Groups
from airlam.metrics import user_rates

LOADS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # what a tuned precoder takes the noise for, times its true variance
TRUST = (0.125, 0.25, 0.5, 1.0, 2.0)  # and the covariance of errors on validation drops
GROUPS_AT_ONCE = 4
WMMSE_ITERATIONS = 100  # of which rates are taken: converged
TUNING_ITERATIONS = 10  # after which trusts of robust WMMSE are compared


@dataclass
class Served:
    """Groups as tensors: believed rows ``h [group, slot, tone, user, tx_ant]``, the covariance of their errors with one
    more ``tx_ant`` or None, the truth ``[group, slot, tone, user, rx_ant, tx_ant]``, and another covariance, of each
    user by itself, or None (see :class:`Belief`)."""

    h: Tensor
    covariance: Tensor | None
    truth: Tensor
    user_covariance: Tensor | None = None

    def part(self, groups: Tensor) -> Served:
        """Some of the groups."""
        shared, own = (None if x is None else x[groups] for x in (self.covariance, self.user_covariance))
        return Served(self.h[groups], shared, self.truth[groups], own)

    def every_tone(self, step: int) -> Served:
        """With every ``step``-th tone alone."""
        shared, own = (None if x is None else x[:, :, ::step] for x in (self.covariance, self.user_covariance))
        return Served(self.h[:, :, ::step], shared, self.truth[:, :, ::step], own)

    def told(self, precoder: Any) -> Tensor | None:
        """The covariance that a precoder is told: of each user by itself where it was tuned for that."""
        return self.user_covariance if getattr(precoder, "form", "") == "user" else self.covariance


def served(belief: Belief, truth: Tensor, groups: Groups) -> Served:
    """By groups; users with several antennas are served along what is believed to be their dominant direction."""

    def by_group(x: Tensor) -> Tensor:  # [group, slot, tone, user, ...]
        return x[groups.users].movedim(1, 3)

    h, true = by_group(belief.csi), by_group(truth)
    spreads = [
        None if x is None else by_group(x.expand(*belief.csi.shape, belief.csi.shape[-1]))
        for x in (belief.covariance, belief.user_covariance)
    ]
    if h.shape[-2] == 1:
        shared, own = (None if x is None else x.squeeze(-3) for x in spreads)
        return Served(h.squeeze(-2), shared, true, own)
    from airlam.baselines import effective_channel

    row = effective_channel(h)
    # u^H H is the row: u = H row^H / |row|^2, and errors of receive antennas are uncorrelated
    combiner = torch.einsum("...ra,...a->...r", h, row.conj())
    share = combiner.abs().square() / row.abs().square().sum(-1, keepdim=True).square().clamp_min(1e-30)
    shared, own = (None if x is None else (share[..., None, None] * x).sum(-3) for x in spreads)
    return Served(row, shared, true, own)


class Tuned:
    """The best of regularised zero forcing and WMMSE by the sum-rate on validation groups: plain with any load, or
    robust with any trust in the covariance of the CSI's error, that of all users or of each user by itself.

    Args:
        choice: ``rzf`` or ``wmmse``; the form ``plain``, ``shared`` (covariance of all users) or ``user`` (of each);
            and what multiplies the noise variance (plain) or the covariance (robust).
        iterations: of WMMSE.
    """

    def __init__(self, choice: tuple[str, str, float], iterations: int = WMMSE_ITERATIONS):
        self.choice, self.iterations = choice, iterations
        self.kind, self.form, self.value = choice

    @property
    def robust(self) -> bool:
        return self.form != "plain"

    @property
    def settings(self) -> dict[str, Any]:
        return {"precoder": self.kind, "form": self.form, ("trust" if self.robust else "load"): self.value}

    def precode(self, h: Tensor, power: float, no: float, *, error_covariance: Tensor | None = None) -> Tensor:
        """As any precoder; what was not chosen is not used."""
        make: Any = rzf if self.kind == "rzf" else partial(wmmse, num_iterations=self.iterations)
        if self.robust:
            assert error_covariance is not None
            return make(h, power, no, error_covariance=self.value * error_covariance)
        return make(h, power, self.value * no)

    @classmethod
    def on(cls, groups: Served, no: float) -> Tuned:
        """Tuned on ``groups``: every form of both precoders. Trusts of robust WMMSE, by far the slowest, are compared
        after ``TUNING_ITERATIONS``; the best of them is judged as it will be used."""

        def rate(choice: tuple[str, str, float], iterations: int = WMMSE_ITERATIONS) -> float:
            return float(rates_of(cls(choice, iterations), groups, no).sum(1).mean())

        forms = [f for f, c in (("shared", groups.covariance), ("user", groups.user_covariance)) if c is not None]
        robust = [(form, trust) for form in forms for trust in TRUST]
        choices = [(kind, "plain", load) for kind in ("rzf", "wmmse") for load in LOADS]
        choices += [("rzf", *option) for option in robust]
        if robust:
            choices.append(max((("wmmse", *option) for option in robust), key=lambda c: rate(c, TUNING_ITERATIONS)))
        return cls(max(choices, key=rate))


def rates_of(precoder: Any, groups: Served, no: float, *, covariance: bool = True, chain: str = "") -> Tensor:
    """Rates on the true channel ``[group, user, slot]``, averaged over tones. ``chain``: its name, for errors."""
    out = []
    for part in torch.arange(len(groups.h)).split(GROUPS_AT_ONCE):
        here = groups.part(part)
        w = precoder.precode(here.h, 1.0, no, error_covariance=here.told(precoder) if covariance else None)
        w = check_beams(precoder, w, here.h, 1.0, chain)
        truth = here.truth
        truth = truth.squeeze(-2) if truth.shape[-2] == 1 else truth
        out.append(user_rates(truth, w, no).mean(2).mT)
    return torch.cat(out)
