"""Every public function gives the same for a tensor and for a view of the same values, lazy conjugation included.

``CASES`` calls each public function of ``airlam.csi``, ``airlam.metrics``, ``airlam.baselines``, ``airlam.link`` and
the classes of ``airlam.models``; predictors are in ``test_predictor_contract.py``. A public name without a case fails
``test_every_public_name_has_a_case``: add a line to ``CASES`` or, if it takes no tensors, to ``NO_TENSORS``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from airlam import baselines, csi, metrics
from airlam.baselines import robust
from airlam.loading import load_precoder, load_predictor
from airlam.methods import names

PORTS = (2, 2, 2)
SMALL_BACKBONE = {
    "model_type": "roberta-prelayernorm",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 2,
    "eos_token_id": 1,
}
SEEN, FIRST = torch.arange(12) % 2 == 0, torch.arange(8) < 6
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "strided": lambda x: torch.stack([x, torch.zeros_like(x)], -1)[..., 0],
    "transposed": lambda x: x.mT.contiguous().mT if x.dim() > 1 else x.repeat_interleave(2)[::2],
    "conjugated": lambda x: x.conj().resolve_conj().conj(),
    "negated": lambda x: torch._neg_view(-x),
}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def h(*shape: int, dtype: torch.dtype = torch.complex64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def covariances(*shape: int) -> Tensor:
    """Hermitian and positive semidefinite ``[..., n, n]``."""
    x = h(*shape, seed=5)
    return x @ x.mH / 100


def site(x: Tensor, stations: Tensor, position: Tensor) -> tuple[Tensor, ...]:
    csi_of_site = csi.SiteCSI(x, stations, 1e6, PORTS, position)
    return csi_of_site.h, csi_of_site.stations, csi_of_site.known()


def site_map(x: Tensor, position: Tensor) -> tuple[Tensor, ...]:
    found = csi.SiteMap.of(csi.SiteCSI(x, torch.zeros(3, 4), 1e6, PORTS, position))
    return found.power_db, found.profile, found.over_noise(20.0).taps


def heights(x: Tensor, place: Tensor) -> tuple[Tensor, ...]:
    seen = csi.HeightMap(x, (0.0, 0.0), 0.2)
    return seen.at(place[:, :2]), seen.above_line(place, place.flip(0), 4)


def rays(delay, doppler, power, array):
    cluster = torch.arange(power.shape[1]).expand(power.shape) // 2
    return SimpleNamespace(delay=delay, doppler=doppler, power=power, array=array, cluster=cluster)


def reals(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) + 0.1


RAYS = (1e-7 * reals(3, 5), 50 * reals(3, 5), reals(3, 5), h(3, 5, 8))
CELL = {"slot_duration": 5e-4, "subcarrier_spacing": 3e4}
LINKS, USERS, ROWS = h(3, 8, 12, 1, 8), h(5, 3, 8), h(5, 3, 2, 8)
SWEEPS, MEASURED = reals(4, 6, 8), torch.ones(6, 8, dtype=torch.bool)
COMBINER = csi.phase_combiner(4, 8, generator())
MAPPED = (9 * h(5, 3, 64, 8), 50 * reals(5, 3), 50 * reals(4, 3, seed=1))
LOCATED = (h(5, 3, 48, 8), 50 * reals(5, 2).double(), covariances(5, 2, 2).real.double() + torch.eye(2).double())


def report_of(codebook, v: Tensor) -> Tensor:
    """The precoders that a report of ``v`` tells."""
    return codebook.vectors(codebook.report(v))


# name -> (call, tensors)
CASES: dict[str, tuple[Callable, tuple[Tensor, ...]]] = {
    "csi.from_sionna": (csi.from_sionna, (h(2, 1, 1, 1, 8, 4, 6),)),
    "csi.to_sionna": (csi.to_sionna, (LINKS,)),
    "csi.to_beam_delay": (lambda x: csi.to_beam_delay(x, PORTS), (LINKS,)),
    "csi.from_beam_delay": (lambda x: csi.from_beam_delay(x, PORTS), (LINKS,)),
    "csi.series_along": (lambda x: csi.series_along(x, "column", PORTS)[0], (LINKS,)),
    "csi.series_back": (lambda x: csi.series_back(x, "column", PORTS, (8, 12, 1, 8)), (h(3, 2, 12, 8, 4),)),
    "csi.turn_to_last": (csi.turn_to_last, (LINKS,)),
    "csi.mean_power": (csi.mean_power, (LINKS,)),
    "csi.normalise": (csi.normalise, (LINKS,)),
    "csi.measure": (lambda x, snr: csi.measure(x, snr, generator()), (LINKS, 10 * reals(3))),
    "csi.impair": (
        lambda x: csi.impair(x, csi.Impairment(0.1, 10.0, 1e-8), generator=generator(), **CELL),
        (LINKS,),
    ),
    "csi.lose_slots": (lambda x: csi.lose_slots(x, 0.3, generator()), (LINKS,)),
    "csi.receive": (
        lambda x: csi.receive(x, 10.0, csi.Impairment(0.1, 10.0, 1e-8, 0.3, 6), generator(), **CELL),
        (LINKS,),
    ),
    "csi.quantise": (lambda x: csi.quantise(x, 6), (LINKS,)),
    "csi.feed_back": (lambda x: csi.feed_back(x, csi.Feedback(16), PORTS), (LINKS,)),
    "csi.beam_power": (csi.beam_power, (LINKS, csi.dft_codebook(PORTS))),
    "csi.measure_beams": (lambda x, b: csi.measure_beams(x, b, 0.1, generator()), (LINKS, csi.dft_codebook(PORTS))),
    "csi.observe_pilots": (
        lambda x, c, n: csi.observe_pilots(x, c, n, generator()),
        (h(3, 12, 8), COMBINER, reals(3)),
    ),
    "csi.subband_eigenvectors": (lambda x: csi.subband_eigenvectors(x, 4), (LINKS,)),
    "csi.resolved": (csi.resolved, (LINKS,)),
    "csi.SiteMap": (site_map, (h(5, 3, 32, 8), reals(5, 3))),
    "csi.HeightMap": (heights, (reals(4, 6), reals(5, 3))),
    "csi.SiteCSI": (site, (h(5, 3, 12, 8), reals(3, 4), reals(5, 3))),
    "metrics.nmse": (metrics.nmse, (LINKS, h(3, 8, 12, 1, 8, seed=1))),
    "metrics.noisy_target": (lambda x: metrics.noisy_target(x, 18.0, generator(), batch=2), (LINKS,)),
    "metrics.nmse_llm4cp": (partial(metrics.nmse_llm4cp, polarisations=2), (LINKS, h(3, 8, 12, 1, 8, seed=1))),
    "metrics.nmse_wifo": (metrics.nmse_wifo, (LINKS, h(3, 8, 12, 1, 8, seed=1))),
    "metrics.se_llm4cp": (metrics.se_llm4cp, (LINKS, h(3, 8, 12, 1, 8, seed=1))),
    "metrics.published_scores": (
        lambda a, b, gain: torch.tensor(
            list(metrics.published_scores("llm4cp", a, b, gain, generator=generator()).values())
        ),
        (LINKS, h(3, 8, 12, 1, 8, seed=1), 10 * reals(3)),
    ),
    "metrics.sgcs": (metrics.sgcs, (h(3, 12, 8, 2), h(3, 12, 8, 2, seed=1))),
    "metrics.to_db": (metrics.to_db, (reals(5),)),
    "metrics.sinr": (metrics.sinr, (USERS, h(5, 8, 3), reals(5, 3))),
    "metrics.sinr, receive antennas": (metrics.sinr, (ROWS, h(5, 8, 3), reals(5))),
    "metrics.user_rates": (metrics.user_rates, (USERS, h(5, 8, 3), reals(5))),
    "metrics.sum_rate": (metrics.sum_rate, (USERS, h(5, 8, 3), reals(5))),
    "metrics.utility": (lambda x: metrics.utility(x, "proportional_fair"), (reals(5, 3),)),
    "metrics.single_user_se": (metrics.single_user_se, (ROWS, h(5, 3, 2, 8, seed=1))),
    "metrics.five_percent_user_rate": (metrics.five_percent_user_rate, (reals(5, 3),)),
    "metrics.quantile": (lambda x: metrics.quantile(x, 0.3), (reals(5, 3),)),
    "metrics.hold_after_horizon": (lambda x: metrics.hold_after_horizon(x, 10), (LINKS,)),
    "metrics.latency_charged_se": (
        lambda se, late: metrics.latency_charged_se(se, late, slot_duration=5e-4),
        (reals(3, 9), 1e-3 * reals(4)),
    ),
    "metrics.break_even_latency": (lambda a, b: metrics.break_even_latency(a, b, 0.5), (reals(6), reals(6))),
    "metrics.bootstrap_interval": (lambda x: torch.tensor(metrics.bootstrap_interval(x)), (reals(20),)),
    "metrics.paired_interval": (
        lambda a, b: torch.tensor(metrics.paired_interval(a, b)),
        (reals(20), reals(20, seed=1)),
    ),
    "baselines.ar_filters": (lambda x: baselines.ar_filters(x, order=3), (h(3, 20, 12),)),
    "baselines.rollout": (lambda x, w: baselines.rollout(x, w, 3, 1.5), (h(3, 20, 12), h(3, 20, 4) / 4)),
    "baselines.ARPredictor.filters": (lambda x: baselines.ARPredictor().filters(x, port_shape=PORTS), (LINKS,)),
    "baselines.link_features": (lambda x: baselines.link_features(x, PORTS), (LINKS,)),
    "baselines.genie_lmmse": (lambda x, *r: baselines.genie_lmmse(rays(*r), x, 0.1, 2, **CELL), (LINKS, *RAYS)),
    "baselines.cluster_genie": (lambda x, *r: baselines.cluster_genie(rays(*r), x, 0.1, 2, **CELL), (LINKS, *RAYS)),
    "baselines.per_bin_genie": (
        lambda x, *r: baselines.per_bin_genie(rays(*r), x, 0.1, 2, port_shape=PORTS, **CELL),
        (LINKS, *RAYS),
    ),
    "baselines.ray_covariance": (
        lambda *r: baselines.ray_covariance(rays(*r), "subcarrier", 12, port_shape=PORTS, **CELL),
        RAYS,
    ),
    "baselines.axis_covariance": (lambda x: baselines.axis_covariance(x, "subcarrier"), (LINKS,)),
    "baselines.reverse_water_filling": (baselines.reverse_water_filling, (reals(3, 8), 10 * reals(3))),
    "baselines.EnhancedType2": (lambda v: report_of(baselines.EnhancedType2(1, (2, 4, 1), 12), v), (h(3, 12, 8, 1),)),
    "baselines.Type1Subbands": (lambda v: report_of(baselines.Type1Subbands((2, 4, 1), 12), v), (h(3, 12, 8, 1),)),
    "baselines.fit_stack": (
        lambda x, y: baselines.fit_stack({"mean": baselines.MeanPredictor()}, x, y, torch.arange(len(x)))[0].weights,
        (LINKS[:, :6].contiguous(), LINKS[:, 6:].contiguous()),
    ),
    "baselines.tune": (
        lambda x, y: torch.tensor(baselines.tune(baselines.ARPredictor, x, y, grid={"order": (2, 4)})["order"]),
        (LINKS[:, :6].contiguous(), LINKS[:, 6:].contiguous()),
    ),
    "baselines.tune_estimator": (
        lambda x, y: torch.tensor(
            baselines.tune_estimator(
                baselines.DelayInterpolator, {"width": (0.2, 0.4)}, x, y, SEEN, ~SEEN, axis="subcarrier"
            )["width"]
        ),
        (LINKS, h(3, 8, 12, 1, 8, seed=1)),
    ),
    "baselines.mrt": (baselines.mrt, (USERS, reals(5))),
    "baselines.zf": (baselines.zf, (USERS, reals(5))),
    "baselines.zf_water_filling": (baselines.zf_water_filling, (USERS, reals(5), reals(5, 3))),
    "baselines.rzf": (baselines.rzf, (USERS, reals(5), reals(5, 3))),
    "baselines.slnr": (baselines.slnr, (USERS, reals(5), reals(5, 3))),
    "baselines.wmmse": (baselines.wmmse, (USERS, reals(5), reals(5, 3))),
    "baselines.wmmse, robust": (
        lambda x, c: baselines.wmmse(x, 1.0, 0.1, error_covariance=c),
        (USERS, covariances(5, 3, 8, 8)),
    ),
    "baselines.effective_channel": (baselines.effective_channel, (ROWS,)),
    "baselines.svd_water_filling": (lambda x: baselines.svd_water_filling(x, 1.0, 0.1).abs(), (ROWS,)),  # up to a phase
    "baselines.water_filling": (baselines.water_filling, (reals(5, 3), reals(5))),
    "baselines.water_filling_capacity": (baselines.water_filling_capacity, (USERS, reals(5), reals(5, 3))),
    "baselines.dpc_sum_capacity": (baselines.dpc_sum_capacity, (USERS, reals(5), reals(5, 3))),
    "baselines.certain_rates": (robust.certain_rates, (USERS, h(5, 8, 3), reals(5, 3), covariances(5, 3, 8, 8))),
    "baselines.BeamDelayThreshold": (
        lambda x, n: baselines.BeamDelayThreshold().denoise(x, n, PORTS),
        (LINKS, reals(3)),
    ),
    "baselines.TrainingLMMSE": (lambda x, y: baselines.TrainingLMMSE.of(x).denoise(y, 0.1), (LINKS, h(2, 1, 12, 1, 8))),
    "baselines.TrainingLMMSE.from_pilots": (
        lambda x, y, c: baselines.TrainingLMMSE.of(x).from_pilots(y, c, 0.1),
        (LINKS, h(3, 12, 4), COMBINER),
    ),
    "baselines.LastBest": (lambda x: baselines.LastBest(0.5).scores(x, MEASURED, 2), (SWEEPS,)),
    "baselines.LinearExtrapolation": (lambda x: baselines.LinearExtrapolation(3).scores(x, MEASURED, 2), (SWEEPS,)),
    "baselines.TrainedLinear": (
        lambda x, y: baselines.TrainedLinear.fit(x, MEASURED, y).scores(x, MEASURED, 2),
        (SWEEPS, reals(4, 2, 8)),
    ),
    "baselines.SoftmaxRegression": (
        lambda x, y: baselines.SoftmaxRegression.fit(x, MEASURED, y).scores(x, MEASURED, 2),
        (SWEEPS, reals(4, 2, 8)),
    ),
    "link.CodedLink": (
        lambda x, w: coded_link().block_errors(x, w, 0.5, generator=generator()),
        (h(2, 24, 2, 4), h(2, 24, 4, 2)),
    ),
    "models.AirlamModel": (lambda x: tiny().model(x, 2, port_shape=PORTS), (LINKS,)),
    "models.AirlamPredictor.predict_with_covariance": (
        lambda x: tiny().predict_with_covariance(x, 2, port_shape=PORTS),
        (LINKS,),
    ),
    "models.AirlamEstimator": (lambda x: estimator().estimate(x, SEEN, axis="subcarrier", port_shape=PORTS), (LINKS,)),
    "models.AirlamEstimator.estimate_with_covariance": (
        lambda x: estimator().estimate_with_covariance(x, SEEN, port_shape=PORTS),
        (LINKS,),
    ),
    "models.AirlamPilots": (lambda y, c: pilots()(y, c, 0.1, port_shape=PORTS), (h(3, 12, 4), COMBINER)),
    "models.PilotPrecoder": (
        lambda y, c, a, t: pilot_precoder().precode(
            y, c, 0.1, 1.0, 0.1, port_shape=PORTS, antenna_covariance=a, tone_covariance=t
        ),
        (h(3, 12, 4), COMBINER, covariances(8, 8), covariances(12, 12)),
    ),
    "models.AirlamBeams": (lambda x: beams().scores(x, MEASURED, 2, port_shape=PORTS), (SWEEPS,)),
    "models.AirlamMap": (lambda x, place, asked: mapped(radio_map(), x, place, asked), MAPPED),
    "models.OnnxMap": (lambda x, place, asked: mapped(exported(radio_map), x, place, asked), MAPPED),
    "models.AirlamPosition": (lambda x, mean, c: located(position(), x, mean, c), LOCATED),
    "models.OnnxPosition": (lambda x, mean, c: located(exported(position), x, mean, c), LOCATED),
    "models.AirlamPrecoder": (lambda x: load_precoder("airlam-precoder").model(x, 1.0, 0.1)[-1], (USERS,)),
}


def interpolate(name: str, x: Tensor, covariance: Tensor) -> Tensor:
    made, context = getattr(baselines, name)(), {"axis_covariance": covariance}
    return made.estimate(x, SEEN, axis="subcarrier", port_shape=PORTS, context=context)


for estimator_name in (name for name in baselines.__all__ if name.endswith("Interpolator")):
    CASES[f"baselines.{estimator_name}"] = (partial(interpolate, estimator_name), (LINKS, covariances(3, 12, 12)))
CASES["baselines.PredictorExtrapolator"] = (
    lambda x: baselines.PredictorExtrapolator(baselines.ARPredictor()).estimate(x, FIRST, port_shape=PORTS),
    (LINKS,),
)
PRECODER_NAMES = (*names("precoder", "classical", built=True), "airlam-precoder")
for precoder_name in PRECODER_NAMES:
    CASES[f"precoder {precoder_name}"] = (
        lambda x, p, n, name=precoder_name: load_precoder(name).precode(x, p, n),
        (USERS, reals(5), reals(5, 3)),
    )
    CASES[f"precoder {precoder_name}, receive antennas"] = (
        lambda x, name=precoder_name: load_precoder(name, rx_axis=True).precode(x, 1.0, 0.1),
        (ROWS,),
    )
    CASES[f"precoder {precoder_name}, error covariance"] = (
        lambda x, c, name=precoder_name: load_precoder(name).precode(x, 1.0, 0.1, error_covariance=c),
        (USERS, covariances(5, 3, 8, 8)),
    )
NO_TENSORS = {
    "csi": {
        "PortShape",
        "check_port_shape",
        "dft_codebook",
        "dft_line",
        "phase_combiner",
        "resolve_inputs",
        "sweep_schedule",
    },
    "metrics": {"Convention", "cpu_threads", "measure_latency"},
    "baselines": {"type1_codebook"},
}


@cache
def tiny():
    return load_predictor("airlam-tiny")


@cache
def estimator():
    from airlam.models import AirlamEstimator

    return AirlamEstimator(tiny().model)


@cache
def pilots():
    from airlam.models.pilots import AirlamPilots, AirlamPilotsConfig

    return AirlamPilots(AirlamPilotsConfig()).eval()


def pilot_precoder():
    from airlam.models.pilots import PilotPrecoder

    return PilotPrecoder(pilots(), load_precoder("rzf"))


@cache
def beams():
    from airlam.models.beams import AirlamBeams, AirlamBeamsConfig

    return AirlamBeams(AirlamBeamsConfig()).eval()


@cache
def radio_map():
    from airlam.models import AirlamMap, AirlamMapConfig

    return AirlamMap(AirlamMapConfig(SMALL_BACKBONE)).eval()


@cache
def position():
    from airlam.models import AirlamPosition, AirlamPositionConfig

    return AirlamPosition(AirlamPositionConfig(SMALL_BACKBONE, stations=3)).eval()


@cache
def exported(make):
    """The network in ONNX Runtime."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'airlam[onnx]'")
    from airlam.export import export_onnx
    from airlam.models import OnnxMap, OnnxPosition

    with TemporaryDirectory() as folder:
        runtime = OnnxMap if make is radio_map else OnnxPosition
        return runtime(export_onnx(make(), f"{folder}/graph"))


def mapped(network, x: Tensor, place: Tensor, asked: Tensor) -> tuple[Tensor, ...]:
    csi_of_site = csi.SiteCSI(x, torch.zeros(3, 4), 1e6, PORTS, place)
    found = network.fit(csi.SiteMap.of(csi_of_site), csi_of_site.stations).at(asked)
    return found.power_db, found.spread_db, found.profile


def located(network, x: Tensor, mean: Tensor, covariance: Tensor) -> tuple[Tensor, ...]:
    start = baselines.positioning.PositionEstimate(mean, covariance)
    found = network.locate(csi.SiteCSI(x, torch.zeros(3, 4), 1e6, PORTS), start)
    return found.mean, found.covariance


@cache
def coded_link():
    from airlam.link import CodedLink

    return CodedLink(10, num_subcarriers=24)


@cache
def expected(name: str) -> list[Tensor]:
    call, tensors = CASES[name]
    return flat(call(*tensors))


def flat(out) -> list[Tensor]:
    return [out] if isinstance(out, Tensor) else [x for part in out for x in flat(part)]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", CASES)
def test_a_view_gives_what_its_copy_gives(name, view):
    """To the bit where only flags differ; strides may change the order of sums."""
    call, tensors = CASES[name]
    inputs = [VIEWS[view](x) for x in tensors]
    assert all(torch.equal(a, b) for a, b in zip(inputs, tensors, strict=True))
    for found, want in zip(flat(call(*inputs)), expected(name), strict=True):
        assert found.dtype == want.dtype and found.shape == want.shape
        if view in ("conjugated", "negated") or want.dtype == torch.bool:
            assert torch.equal(found, want)
        else:
            # 1e-4 of the largest entry: single precision through small systems of equations
            assert float((found - want).detach().abs().max()) <= 1e-4 * float(want.detach().abs().max())


@pytest.mark.parametrize("name", [name for name, (_, tensors) in CASES.items() if tensors[0].is_complex()])
def test_complex32_is_refused_in_words(name):
    call, (first, *others) = CASES[name]
    with pytest.raises(TypeError, match=r"is complex32, in which torch cannot compute; give \w+.to\(torch.complex64\)"):
        call(first.to(torch.complex32), *others)


@pytest.mark.parametrize("name", CASES)
def test_results_are_ordinary_tensors(name):
    """They can be written to, and autograd can keep them."""
    call, tensors = CASES[name]
    for found in flat(call(*(x.clone() for x in tensors))):
        assert not found.is_inference()
        if found.is_floating_point() or found.is_complex():
            weight = torch.ones((), requires_grad=True)
            (found * weight).abs().sum().backward(retain_graph=True)
            assert bool(torch.isfinite(weight.grad))
            found = found.detach()
            want = 2 * found
            found *= 2
            assert torch.equal(found, want)


def test_every_public_name_has_a_case():
    def elsewhere(thing) -> bool:
        """Predictors and precoders, by name; classes that hold numbers."""
        named = getattr(thing, "__name__", "").endswith(("Predictor", "Precoder"))
        return isinstance(thing, type) and (named or issubclass(thing, tuple))

    cases = {name.partition(",")[0] for name in CASES}
    missing = [
        f"{module}.{name}"
        for module, room in (("csi", csi), ("metrics", metrics), ("baselines", baselines))
        for name in room.__all__
        if callable(getattr(room, name)) and not elsewhere(getattr(room, name)) and name not in NO_TENSORS[module]
        if f"{module}.{name}" not in cases
    ]
    assert not missing, f"no case in CASES for {', '.join(missing)}"


@pytest.mark.parametrize("name", PRECODER_NAMES)
def test_a_user_without_a_channel_gets_no_beam_and_the_power_is_kept(name):
    x = h(4, 3, 8)
    x[:, 1] = 0
    w = load_precoder(name).precode(x, 2.0, 0.1)
    assert torch.isfinite(torch.view_as_real(w)).all()
    assert torch.equal(w[..., 1], torch.zeros_like(w[..., 1]))
    assert bool((w.abs().square().sum((-2, -1)) <= 2.0 * (1 + 1e-5)).all())
    assert bool((w[..., [0, 2]].abs().square().sum(-2) > 0).all())


# of the cases, those that look at no values of their first tensor: there are none on the meta device
META = (
    # without those that look for NaN
    *(n for n in CASES if n.startswith("csi.") and n not in ("csi.SiteCSI", "csi.SiteMap", "csi.HeightMap")),
    "metrics.single_user_se",
    "metrics.quantile",
    "metrics.latency_charged_se",
    "baselines.link_features",
    "baselines.BeamDelayThreshold",
    "baselines.TrainingLMMSE",
    "baselines.water_filling_capacity",
    *(f"precoder {name}" for name in ("mrt", "rzf", "slnr", "wmmse", "type1")),
)


@pytest.mark.parametrize("name", META)
def test_everything_is_made_on_the_device_of_the_input(name, monkeypatch):
    """Noise, codebooks and index tensors too: the meta device refuses to mix with another, as accelerators do."""
    monkeypatch.setitem(globals(), "generator", lambda: None)  # there is no generator of the meta device
    call, (first, *others) = CASES[name]
    for found, want in zip(flat(call(first.to("meta"), *others)), expected(name), strict=True):
        assert found.is_meta and found.shape == want.shape and found.dtype == want.dtype


def test_draws_of_noise_have_not_moved():
    """Figures rest on them: real and imaginary part, entry after entry, of one generator."""
    x, codebook = LINKS, csi.dft_codebook(PORTS)
    white = torch.view_as_complex(torch.randn(3, 8, 12, 1, 8, 2, generator=generator()))
    want = (x @ codebook + 0.05**0.5 * white).abs().square().mean((-3, -2)) / 0.1
    assert torch.equal(csi.measure_beams(x, codebook, 0.1, generator()), want)
    rows = h(3, 12, 8)
    white = torch.view_as_complex(torch.randn(3, 12, 4, 2, generator=generator()))
    level = (reals(3) / 2).sqrt()[:, None, None]
    assert torch.equal(csi.observe_pilots(rows, COMBINER, reals(3), generator()), rows @ COMBINER.mT + level * white)
