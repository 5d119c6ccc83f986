"""Chains from measured CSI to rates: ``"ar + rzf"`` names what the base station believes and how it precodes.

Left of the plus stands a source of CSI: a predictor (classical, tuned in the cell, or learned), ``perfect``; or, where
users stand still and the last slot itself is to be served, ``raw``, ``threshold``, ``lmmse`` or a learned estimate; or,
where pilots are all there is, ``ls``, ``lmmse`` or a network that reads them.
Right of it a precoder: one by name, ``robust`` and a name (it is told the covariance of the CSI's error), a learned
precoder (told likewise), or ``tuned``: the best classical one on validation drops.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from airlam.baselines import TrainingLMMSE, dpc_sum_capacity, rzf, wmmse
from airlam.baselines.denoising import BeamDelayThreshold
from airlam.channels import LinkBatch
from airlam.csi import observe_pilots, phase_combiner
from airlam.evaluation.engine.cell import Cell, Contender
from airlam.evaluation.engine.contenders import OFF, contenders_of_cell, size
from airlam.evaluation.engine.fingerprint import outside
from airlam.evaluation.engine.measure import predict_all
from airlam.evaluation.engine.spectral_efficiency import Groups, group_users
from airlam.evaluation.engine.timing import latency_fields
from airlam.interfaces import Precoder, RecipeError
from airlam.loading import load_precoder
from airlam.methods import is_own, own_method
from airlam.methods import names as registered
from airlam.metrics import hold_after_horizon, measure_latency, user_rates
from airlam.recipes import nearest

DENOISED = ("raw", "threshold", "lmmse")
ROBUST = ("rzf", "slnr", "wmmse")
LOADS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # what a tuned precoder takes the noise for, times its true variance
TRUST = (0.125, 0.25, 0.5, 1.0, 2.0)  # and the covariance of errors on validation drops
THRESHOLDS = (1.0, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0)
GROUPS_AT_ONCE = 4
WMMSE_ITERATIONS = 100  # of which rates are taken: converged
TUNING_ITERATIONS = 10  # after which trusts of robust WMMSE are compared
TIMED_ITERATIONS = 10  # of which latency is, as of load_precoder("wmmse")


@dataclass(frozen=True)
class Chain:
    """``source + precoder``; ``robust``: the precoder is told the covariance of the CSI's error."""

    source: str
    precoder: str
    robust: bool

    @property
    def name(self) -> str:
        return f"{self.source} + {'robust ' if self.robust and self.precoder in ROBUST else ''}{self.precoder}"


def chain_text(value: Any, source: str = "methods") -> str:
    """A chain as a text. Predictors and precoders of one's own in it are registered, and stand there by their names.

    Args:
        value: ``"ar + rzf"``, ``"my_file:MyPredictor + my_file:MyPrecoder"``; or a mapping, where a class needs
            arguments: ``{csi: {class_path: ..., init_args: {...}}, precoder: rzf}``.

    Raises:
        RecipeError: no chain, or a class that cannot be used.
    """
    if isinstance(value, Mapping):
        if set(value) != {"csi", "precoder"}:
            raise RecipeError(f"{source} has {dict(value)!r}, but a chain has the keys csi and precoder")
        left, right = value["csi"], value["precoder"]
    else:
        left, plus, right = (part.strip() for part in str(value).partition("+"))
        if not plus or not left or not right:
            raise RecipeError(f"a method is {value!r}, but must name CSI and precoder, like 'ar + rzf'")
    words = []
    for part, role in ((left, "predictor"), (right, "precoder")):
        words.append(own_method(part, role, source).name if is_own(part) else str(part))
    return " + ".join(words)


def fill_in(text: str, names: Mapping[str, str]) -> str:
    """``text`` with its places filled in.

    Example:
        >>> fill_in("{model} + rzf", {"{model}": "airlam-tiny"})
        'airlam-tiny + rzf'
    """
    for place, name in names.items():
        text = str(text).replace(place, name)
    return text


def parse_chain(text: str, sources: Sequence[str], precoders: Sequence[str]) -> Chain:
    """A chain from its name.

    Raises:
        RecipeError: no plus, or a source or precoder that is not among those given.

    Example:
        >>> parse_chain("ar + robust rzf", ["ar"], []).robust
        True
    """
    left, plus, right = (part.strip() for part in str(text).partition("+"))
    if not plus or not left or not right:
        raise RecipeError(f"a method is {text!r}, but must name CSI and precoder, like 'ar + rzf'")
    robust, name = right.startswith("robust "), right.removeprefix("robust ").strip()
    valid = [*registered("precoder", built=True), "tuned", *precoders] + (["dpc"] if left == "perfect" else [])
    if left not in sources:
        raise RecipeError(
            f"{text!r}: no source of CSI {left!r}{nearest(left, sources) or ';'} valid: {', '.join(sources)}"
        )
    if name not in valid:
        raise RecipeError(f"{text!r}: no precoder {name!r}{nearest(name, valid) or ';'} valid: {', '.join(valid)}")
    if robust and name not in ROBUST:
        raise RecipeError(f"{text!r}: {name} has no robust form; {', '.join(ROBUST)} have, learned ones always use it")
    return Chain(left, name, robust or name in precoders or bool(outside([name], "precoder")))


@dataclass
class Belief:
    """What the base station believes: CSI ``[link, slot, tone, rx_ant, tx_ant]`` of some tones, and the covariance of
    its errors with one more ``tx_ant`` (None where nobody knows it), broadcastable over links, slots and tones.
    ``user_covariance``: another estimate of it, of each user by itself, where ``covariance`` is one for all users."""

    csi: Tensor
    covariance: Tensor | None = None
    user_covariance: Tensor | None = None


@dataclass
class Source:
    """A source of CSI in one cell: what is believed of the test links, and (classical ones) of the validation drops;
    ``once(told)`` does it for one user, with the covariance if ``told``: what is timed."""

    test: Belief
    tune: Belief | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    once: Callable[[bool], Any] | None = None


def tones_of(cell: Cell, num_subcarriers: int) -> Tensor:
    """The subcarriers on which rates are taken."""
    return torch.arange(0, num_subcarriers, cell.tone_step)


def predicted_sources(
    cell: Cell,
    links: LinkBatch,
    h_past: Tensor,
    tuning: tuple[LinkBatch, Tensor],
    models: Mapping[str, Any],
    names: Sequence[str],
) -> dict[str, Source]:
    """Beliefs about the future slots: every predictor of ``names``, and ``perfect``.

    Classical predictors know the covariance of their errors from half of the validation drops, for each slot: one of
    all users, and one of each user that follows the covariance of its own history (:class:`UserErrors`). What a tuned
    precoder believes is of the other half: on drops whose errors are known too well it would trust them too much.
    """
    out, tones = {}, tones_of(cell, links.h.shape[2])
    known, seen = tuning
    fit, choose = halves(known)
    here = replace(cell, methods=tuple(names))
    for contender in contenders_of_cell(here, links, models, tuning=(known.h, seen)):
        name = contender.name
        if name == "perfect":
            future = slice(cell.history, None)
            out[name] = Source(Belief(links.h[:, future, tones]), Belief(known.h[choose][:, future, tones]))
            continue
        if hasattr(models.get(name), "predict_with_covariance"):
            found = Source(_with_covariance(models[name], h_past, cell, links.port_shape, tones))
        else:
            test, tune = (_held(predict_all(contender, x, cell.horizon)[:, :, tones], cell) for x in (h_past, seen))
            error = (known.h[:, cell.history :, tones] - tune)[fit]
            own = UserErrors.fit(error, seen[fit])
            spread = own.mean[None, :, None, None]
            found = Source(Belief(test, spread, own(h_past)), Belief(tune[choose], spread, own(seen[choose])))
        found.settings, found.parameters = contender.settings, contender.parameters[0]
        told = models.get(name) if hasattr(models.get(name), "predict_with_covariance") else None
        found.once = _once(contender, told, h_past[:1], cell, links.port_shape, tones)
        out[name] = found
    return out


@dataclass
class UserErrors:
    """Covariance of a classical predictor's errors, of each user by itself: ``share * R + floor * I`` of every slot,
    where ``R`` is the covariance of the user's measured history.

    Errors from ageing lie where the user's channel lies, those from noise anywhere; both shares are fitted to other
    users' errors, by least squares between covariances.

    Attributes:
        share, floor: ``[slot]``, not negative. mean: covariance of the errors of all fitted users ``[slot, tx_ant,
            tx_ant]``.
    """

    share: Tensor
    floor: Tensor
    mean: Tensor

    @classmethod
    def fit(cls, error: Tensor, history: Tensor) -> UserErrors:
        """From errors ``[user, slot, tone, rx_ant, tx_ant]`` and measured histories of the same users."""
        count = error.shape[2] * error.shape[3]
        each = torch.einsum("ltfra,ltfrb->ltab", error.conj(), error) / count
        white = torch.eye(error.shape[-1], dtype=error.dtype)
        share, floor = [], []
        for target in each.unbind(1):
            a, b = _nonnegative_fit(target, _spatial_covariance(history), white.expand_as(target))
            share.append(a)
            floor.append(b)
        return cls(torch.tensor(share), torch.tensor(floor), each.mean(0))

    def __call__(self, history: Tensor) -> Tensor:
        """Of users with these measured histories: ``[user, slot, 1, 1, tx_ant, tx_ant]``."""
        own = _spatial_covariance(history)[:, None]
        white = torch.eye(own.shape[-1], dtype=own.dtype)
        return (self.share[:, None, None] * own + self.floor[:, None, None] * white)[:, :, None, None]


def _spatial_covariance(history: Tensor) -> Tensor:
    """Mean over slots, tones and receive antennas: ``[user, tx_ant, tx_ant]``."""
    return torch.einsum("ltfra,ltfrb->lab", history.conj(), history) / (history[0].numel() / history.shape[-1])


def _nonnegative_fit(target: Tensor, first: Tensor, second: Tensor) -> tuple[float, float]:
    """``a, b >= 0`` that minimise ``|target - a first - b second|^2``."""

    def dot(x: Tensor, y: Tensor) -> float:
        return float((x.conj() * y).real.sum(dtype=torch.float64))

    xx, xy, yy = dot(first, first), dot(first, second), dot(second, second)
    xt, yt = dot(first, target), dot(second, target)
    det = xx * yy - xy**2
    if det > 1e-9 * xx * yy:
        a, b = (xt * yy - yt * xy) / det, (yt * xx - xt * xy) / det
        if a >= 0 and b >= 0:
            return a, b
    # an end of the range: one of the two alone; that with the smaller error explains more
    alone = max(xt, 0.0) / max(xx, 1e-30), max(yt, 0.0) / max(yy, 1e-30)
    return (alone[0], 0.0) if max(xt, 0.0) * alone[0] >= max(yt, 0.0) * alone[1] else (0.0, alone[1])


def halves(links: LinkBatch) -> tuple[Tensor, Tensor]:
    """Links of the first half of the drops, and of the others; all of them twice where there is one drop."""
    drops = links.drop.unique()
    first = torch.isin(links.drop, drops[: max(1, len(drops) // 2)])
    return (first.nonzero()[:, 0], (~first if len(drops) > 1 else first).nonzero()[:, 0])


def _once(
    contender: Contender, model: Any, past: Tensor, cell: Cell, port_shape: Any, tones: Tensor
) -> Callable[[bool], Any]:
    link = torch.zeros(1, dtype=torch.int64)

    def once(told: bool) -> Any:
        if told and model is not None:
            return model.predict_with_covariance(past, cell.horizon, port_shape=port_shape, subcarriers=tones)
        return contender.predict(past, cell.horizon, link)

    return once


def _held(future: Tensor, cell: Cell) -> Tensor:
    return hold_after_horizon(future, cell.num_future)


def _with_covariance(model: Any, h_past: Tensor, cell: Cell, port_shape: Any, tones: Tensor) -> Belief:
    """A learned predictor's belief; beyond the horizon the last slot is held, and so is its covariance."""
    parts = [
        model.predict_with_covariance(part, cell.horizon, port_shape=port_shape, subcarriers=tones)
        for part in h_past.split(16)
    ]
    csi, covariance = (torch.cat(kind) for kind in zip(*parts, strict=True))
    missing = cell.num_future - cell.horizon
    if missing > 0:
        covariance = torch.cat([covariance, covariance[:, -1:].expand(-1, missing, *covariance.shape[2:])], 1)
    return Belief(_held(csi, cell), covariance)


def denoised_sources(
    cell: Cell,
    links: LinkBatch,
    h_past: Tensor,
    tuning: tuple[LinkBatch, Tensor],
    models: Mapping[str, Any],
    names: Sequence[str],
    networks: Mapping[str, Any],
) -> dict[str, Source]:
    """Beliefs about the last measured slot itself, for users that stand still.

    The noise's variance is known. ``threshold`` is tuned, and ``lmmse`` trained, on half of the validation drops; the
    covariance of its errors is what the estimate itself says, that of ``threshold`` is taken there. Networks that read
    pilots know the covariances of the same half.
    """
    known, seen = tuning
    fit, choose = halves(known)
    out, tones, noise = {}, tones_of(cell, links.h.shape[2]), 10 ** (-cell.csi_snr_db / 10)
    shape, ports = links.port_shape, links.h.shape[-1]
    noisy, noisy_fit, noisy_tune = h_past[:, -1:], seen[fit, -1:], seen[choose, -1:]
    truth = known.h[fit, cell.history - 1 : cell.history]
    filters = TrainingLMMSE.of(known.h[fit])
    for name in names:
        if name == "perfect":
            now = slice(cell.history - 1, cell.history)
            out[name] = Source(Belief(links.h[:, now, tones]), Belief(known.h[choose][:, now, tones]))
        elif name == "raw":
            white = noise * torch.eye(ports, dtype=h_past.dtype)
            out[name] = Source(Belief(noisy[:, :, tones], white), Belief(noisy_tune[:, :, tones], white))
        elif name == "threshold":
            tried = {
                factor: float(
                    (BeamDelayThreshold(factor).denoise(noisy_fit, noise, shape) - truth).abs().square().mean()
                )
                for factor in THRESHOLDS
            }
            chosen = BeamDelayThreshold(min(tried, key=lambda factor: tried[factor]))
            error = chosen.denoise(noisy_fit, noise, shape) - truth
            spread = torch.einsum("ltfra,ltfrb->ab", error.conj(), error) / (error.numel() / ports)
            tune = chosen.denoise(noisy_tune, noise, shape)
            test = chosen.denoise(noisy, noise, shape)
            out[name] = Source(
                Belief(test[:, :, tones], spread), Belief(tune[:, :, tones], spread), {"factor": chosen.factor}
            )
        elif name == "lmmse":
            spread = filters.covariance(noise)[None][..., tones, :, :, :].to(h_past.dtype)
            test, tune = (filters.denoise(x, noise, shape)[:, :, tones] for x in (noisy, noisy_tune))
            out[name] = Source(Belief(test, spread), Belief(tune, spread))
        elif name in networks:
            # every antenna heard alone: as many pilots as antennas
            single = torch.eye(ports, dtype=h_past.dtype)
            out[name] = _read(networks[name], noisy[:, 0, :, 0], single, noise, shape, filters, tones)
        else:
            from airlam.models import AirlamEstimator

            estimator = AirlamEstimator(models[name].model, chunk=16)
            csi, covariance = estimator.estimate_with_covariance(noisy, port_shape=shape)
            size = sum(p.numel() for p in models[name].model.parameters())
            out[name] = Source(Belief(csi[:, :, tones], covariance[:, :, tones]), parameters=size)
    return out


def pilot_sources(
    cell: Cell,
    links: LinkBatch,
    tuning: LinkBatch,
    networks: Mapping[str, Any],
    names: Sequence[str],
) -> dict[str, Source]:
    """Beliefs about one slot from ``cell.num_pilots`` uplink pilots of each user, at the cell's CSI SNR, through a
    combiner of random phases: ``ls`` (least norm), ``lmmse`` with the covariance of half of the validation drops, and
    networks that know the same covariances."""
    out, tones, noise = {}, tones_of(cell, links.h.shape[2]), 10 ** (-cell.csi_snr_db / 10)
    fit, choose = halves(tuning)
    generator = torch.Generator().manual_seed(cell.stream("pilots"))
    combiner = phase_combiner(cell.num_pilots, links.h.shape[-1], generator)
    h, known = (x[:, cell.history - 1, :, 0] for x in (links.h, tuning.h))
    y, y_tune = (observe_pilots(x, combiner, noise, generator) for x in (h, known[choose]))
    filters = TrainingLMMSE.of(known[fit][:, None, :, None])

    def belief(x: Tensor, spread: Tensor | None = None) -> Belief:
        return Belief(x[:, None, tones, None], spread)

    for name in names:
        if name == "perfect":
            out[name] = Source(belief(h), belief(known[choose]))
        elif name == "ls":
            least = torch.linalg.pinv(combiner).mT
            out[name] = Source(belief(y @ least), belief(y_tune @ least))
        elif name == "lmmse":
            found = [filters.from_pilots(x, combiner, noise) for x in (y, y_tune)]
            spread = found[0][1][tones].to(h.dtype)[None, None, :, None]
            out[name] = Source(belief(found[0][0], spread), belief(found[1][0], spread))
        else:
            network, on = networks[name.removesuffix(OFF)], not name.endswith(OFF)
            out[name] = _read(network, y, combiner, noise, links.port_shape, filters, tones, correction=on)
    return out


def _read(
    network: Any,
    y: Tensor,
    combiner: Tensor,
    noise: float,
    port_shape: Any,
    filters: TrainingLMMSE,
    tones: Tensor,
    correction: bool = True,
) -> Source:
    """What a network that reads pilots believes of ``y [link, subcarrier, pilot]``."""
    known = {"antenna_covariance": filters.antenna, "tone_covariance": filters.frequency}
    with torch.inference_mode():
        parts = [
            network(part, combiner, noise, port_shape=port_shape, correction=correction, **known)
            for part in y.split(16)
        ]
    csi, spread = (torch.cat(kind) for kind in zip(*parts, strict=True))
    size = sum(p.numel() for p in network.parameters())
    return Source(Belief(csi[:, None, tones, None], spread[:, None, tones, None]), parameters=size)


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


def rates_of(precoder: Any, groups: Served, no: float, *, covariance: bool = True) -> Tensor:
    """Rates on the true channel ``[group, user, slot]``, averaged over tones."""
    out = []
    for part in torch.arange(len(groups.h)).split(GROUPS_AT_ONCE):
        here = groups.part(part)
        w = precoder.precode(here.h, 1.0, no, error_covariance=here.told(precoder) if covariance else None)
        truth = here.truth
        truth = truth.squeeze(-2) if truth.shape[-2] == 1 else truth
        out.append(user_rates(truth, w, no).mean(2).mT)
    return torch.cat(out)


def measure_chains(
    cell: Cell,
    links: LinkBatch,
    sources: Mapping[str, Source],
    chains: Sequence[Chain],
    learned: Mapping[str, Precoder],
    tuning: LinkBatch,
) -> dict[str, Any]:
    """The record of one cell; see :func:`airlam.evaluation.engine.measure.measure_cell`, whose form it has.

    Args:
        sources: by name, see :func:`predicted_sources` and :func:`denoised_sources`.
        learned: learned precoders by name. tuning: validation drops of the cell.
    """
    tones = tones_of(cell, links.h.shape[2])
    present = cell.group in ("static", "pilots")  # the last slot itself is served, not the future
    first = cell.history - present
    tuning = tuning[halves(tuning)[1]]
    truth, known = links.h[:, first:, tones], tuning.h[:, first:, tones]
    if present:
        truth, known = truth[:, :1], known[:, :1]
    groups = {users: group_users(links.drop, users) for users in cell.users}
    tune_groups = {users: group_users(tuning.drop, users) for users in cell.users}
    record: dict[str, Any] = {
        "cell": asdict(cell),
        "drop": links.drop.tolist(),
        "group_drop": {str(users): found.drop.tolist() for users, found in groups.items()},
        "methods": {},
    }
    for chain in chains:
        start, source = time.perf_counter(), sources[chain.source]
        entry: dict[str, Any] = {"settings": dict(source.settings), "parameters": [source.parameters, 0], "groups": {}}
        precoder = None
        if chain.precoder in learned:
            precoder = learned[chain.precoder]
        elif chain.precoder not in ("tuned", "dpc"):
            options: dict[str, dict[str, Any]] = {
                "type1": {"port_shape": links.port_shape},
                "wmmse": {"num_iterations": WMMSE_ITERATIONS},
            }
            precoder = load_precoder(chain.precoder, **options.get(chain.precoder, {}))
        entry["parameters"][0] += size(precoder)
        for users, found in groups.items():
            here = served(source.test, truth, found)
            rates = {}
            told = chain.robust or chain.precoder == "tuned"
            for snr_db in cell.transmit_snr_db:
                no = 10 ** (-snr_db / 10)
                if chain.precoder == "dpc":
                    rates[snr_db] = _dpc(here, no)
                    continue
                if chain.precoder == "tuned":
                    assert source.tune is not None
                    precoder = Tuned.on(served(source.tune, known, tune_groups[users]), no)
                    if snr_db == cell.headline_snr_db:
                        entry["settings"][f"{users} users"] = " ".join(f"{v}" for v in precoder.settings.values())
                rates[snr_db] = rates_of(precoder, here, no, covariance=told)
            entry["groups"][str(users)] = {
                "sum_se_vs_snr": [rates[snr].sum(1).mean(-1).tolist() for snr in cell.transmit_snr_db],
                "user_rates": rates[cell.headline_snr_db].mean(-1).tolist(),
                "sum_se_steps": rates[cell.headline_snr_db].sum(1).tolist(),
            }
            if cell.timed and source.once is not None and users == cell.users[0]:
                timed = load_precoder("wmmse") if chain.precoder == "wmmse" else precoder
                timed = Tuned(timed.choice, TIMED_ITERATIONS) if isinstance(timed, Tuned) else timed
                entry |= _time_chain(source.once, timed, here, cell, told=told)
        entry["seconds"] = round(time.perf_counter() - start, 3)
        record["methods"][chain.name] = entry
    return record


def _dpc(groups: Served, no: float) -> Tensor:
    """Dirty-paper sum capacity, in equal shares as if it were users' rates ``[group, user, slot]``."""
    truth = groups.truth.squeeze(-2) if groups.truth.shape[-2] == 1 else groups.truth
    value = dpc_sum_capacity(truth, 1.0, no, rx_axis=truth.dim() == 6)
    assert isinstance(value, Tensor)  # and no certificate beside it
    users = truth.shape[3]
    return (value / users).mean(2)[:, None].expand(-1, users, -1)


def _time_chain(once: Callable, precoder: Any, groups: Served, cell: Cell, *, told: bool) -> dict[str, float]:
    """Latency of predicting one user, and of precoding one slot of a group on the tones of the cell."""
    h, no = groups.h[:1, :1], 10 ** (-cell.headline_snr_db / 10)
    spread = groups.told(precoder) if told else None
    spread = None if spread is None else spread[:1, :1]
    predict = measure_latency(lambda: once(told), warmup=3, repeats=50, threads=1)
    precode = measure_latency(
        lambda: precoder.precode(h, 1.0, no, error_covariance=spread), warmup=3, repeats=50, threads=1
    )
    return {
        **latency_fields(predict, precode),
        "precoding_p50_ms": 1e3 * precode.p50,
    }
