"""What a method returns is checked: its mistakes become errors that name it, and never figures."""

from __future__ import annotations

import pytest
import torch

from airlam.errors import RecipeError
from airlam.evaluation import BeamformingBenchmark, ChannelPredictionBenchmark, LinkLevelBenchmark
from airlam.evaluation.benchmarks.beamforming.chains import chain_texts
from airlam.evaluation.engine.cell import Contender
from airlam.evaluation.engine.checks import check_beams
from airlam.evaluation.engine.config import Sizes
from airlam.evaluation.engine.measure import predict_all
from airlam.methods import own_method, registry

SMALL = {
    "scenarios": ["umi_nlos"],
    "speeds_kmh": [60.0],
    "channel_overrides": {
        "num_subcarriers": 12,
        "bs_panel": {"rows": 1, "columns": 2, "polarisation": "dual", "pattern": "38.901"},
    },
}
H = torch.randn(5, 8, 4, 1, 2, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


def slots(h: torch.Tensor, n: int) -> torch.Tensor:
    return h[:, -1:].expand(-1, n, -1, -1, -1)


@pytest.mark.parametrize(
    ("predict", "message"),
    [
        (lambda h, n, _: slots(h, 1), r"complex64 \(5, 1, 4, 1, 2\), but must return .* \(5, 3, 4, 1, 2\)"),
        (lambda h, n, _: slots(h, n)[..., :-1, :, :], "must return a complex tensor"),
        (lambda h, n, _: slots(h, n).real, "predicted torch.float32"),
        (lambda h, n, _: slots(h, n).numpy(), "predicted ndarray"),
        (
            lambda h, n, _: slots(h, n) * torch.tensor([1, 1, 1, 1, float("nan")]).view(-1, 1, 1, 1, 1),
            "predicted NaN or infinity from finite CSI, for 1 of 5 links; guard its divisions",
        ),
        (
            lambda h, n, _: slots(h, n).to(torch.complex128),
            r"torch.complex128 from torch.complex64 CSI, .*; end predict with .to\(h_past.dtype\)",
        ),
    ],
)
def test_a_wrong_prediction_is_named(predict, message):
    with pytest.raises(RecipeError, match=f"mine .*{message}|mine {message}"):
        predict_all(Contender("mine", predict), H, 3)


def test_a_method_that_writes_into_its_input_spoils_nothing():
    h, before = H.clone(), H.clone()
    predict_all(Contender("mine", lambda h, n, _: slots(h.zero_(), n)), h, 3)
    assert torch.equal(h, before)


class Loud:
    name = "loud"


@pytest.mark.parametrize(
    ("w", "message"),
    [
        (torch.ones(2, 4, 3, dtype=torch.complex64), "loud uses a power of 12, but at most 1 .*; scale the beams"),
        (torch.full((2, 4, 3), float("nan"), dtype=torch.complex64), "loud returned NaN"),
        (torch.ones(2, 3, 4, dtype=torch.complex64), r"shape \(2, 3, 4\), but must return \(2, 4, 3\), .* with .mT"),
        (torch.ones(4, 3, dtype=torch.complex64), r"shape \(4, 3\), but must return \(2, 4, 3\)"),
        (
            torch.zeros(2, 4, 3, dtype=torch.complex128),
            r"returned torch.complex128 .*; end precode with .to\(h.dtype\)",
        ),
        (torch.ones(2, 4, 3), "loud returned torch.float32"),
        (None, "loud returned NoneType"),
    ],
)
def test_beams_that_break_the_rules_are_refused(w, message):
    h = torch.ones(2, 3, 4, dtype=torch.complex64)
    with pytest.raises(RecipeError, match=f"'ar [+] loud': .*{message}"):
        check_beams(Loud(), w, h, 1.0, "ar + loud")
    assert check_beams(Loud(), torch.full((2, 4, 3), 0.1 + 0j), h, 1.0) is not None


@pytest.mark.parametrize(
    ("precode", "message"),
    [
        (lambda h: h, r"'hold [+] loud': loud returned beams of shape .*; transpose them with .mT"),
        (lambda h: 20 * h.mH / h.norm(dim=(-2, -1), keepdim=True), "'hold [+] loud': loud uses a power of 400, but at"),
    ],
)
@pytest.mark.parametrize("kind", [BeamformingBenchmark, LinkLevelBenchmark])
def test_a_benchmark_names_the_chain_and_the_cell(kind, precode, message, tmp_path):
    made = type("Loud", (), {"name": "loud", "precode": lambda self, h, *_, error_covariance=None: precode(h)})
    sizes = {"num_links": 4, "num_tune": 8, "links_per_drop": 2}
    if kind is LinkLevelBenchmark:
        sections = {"sizes": sizes | {"num_choose": 4}, "link": {"users": 2, "transmit_snr_db": [20.0], "mcs": [5]}}
    else:
        sections = {"sizes": sizes | {"num_train": 8, "side_links": 4}, "static": {"csi_snr_db": []}}
        sections["rates"] = {"users": [2], "transmit_snr_db": [20.0]}
    chain = {"csi": "hold", "precoder": made}
    bench = kind(
        model="hold", precoder="wmmse", methods=[chain, "hold + rzf"], bar="hold + rzf", cells=SMALL, **sections
    )
    with pytest.raises(RecipeError, match=rf"{message}.* \(cell: umi_nlos at 60 km/h, CSI SNR 20 dB"):
        bench.run(tmp_path)


class Wild:
    """The last slot in double precision, or of one slot too many, or NaN."""

    name, kind, tuning_grid = "wild", "classical", None

    def __init__(self, mistake: str = "double"):
        self.mistake = mistake

    def predict(self, h_past, num_future, *, port_shape=None, context=None):
        found = slots(h_past, num_future)
        double = found.to(torch.complex128)
        return {"double": double, "slots": slots(h_past, num_future + 1), "nan": found * float("nan")}[self.mistake]


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize("mistake", ["double", "slots", "nan"])
def test_a_prediction_is_named_with_its_cell_tuned_or_not(mistake, tuned, tmp_path):
    grid = {"mistake": (mistake,)} if tuned else {}
    bench = ChannelPredictionBenchmark(
        model=type("Tuned", (Wild,), {"tuning_grid": grid}) if tuned else Wild(mistake),
        methods=["hold", "{model}"],
        bar="hold",
        cells=SMALL,
        sizes={"num_links": 4, "num_tune": 4, "side_links": 4, "links_per_drop": 2},
        rates={"users": [2], "transmit_snr_db": [20.0]},
    )
    with pytest.raises(RecipeError, match=r"^wild predicted .* \(cell: umi_nlos at 60 km/h, CSI SNR 20 dB\)$"):
        bench.run(tmp_path)


class Held:
    name, label, kind, tuning_grid = "held-for-checks", "held (tuned)", "classical", {"slope": (0.0, 1.0), "bias": (1,)}

    def __init__(self, slope: float = 0.0, bias: int = 0):
        self.slope, self.bias = slope, bias

    def predict(self, h_past, num_future, *, port_shape=None, context=None):
        return slots(h_past, num_future)


def path(**options) -> dict:
    return {"class_path": f"{__name__}.Held", **options}


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    import sys

    monkeypatch.setattr(registry, "_OWN", {})

    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or __import__("types").ModuleType(__name__))
    monkeypatch.setattr(sys.modules[__name__], "Held", Held, raising=False)


def test_arguments_that_are_given_are_not_tuned_and_a_given_name_is_the_label():
    plain = own_method(path(), "predictor", "methods")
    assert plain.grid == Held.tuning_grid and plain.label == "held (tuned)"
    fixed = own_method(path(init_args={"slope": 0.5}, name="held-half"), "predictor", "methods")
    assert fixed.grid == {"bias": (1,)} and fixed.label == "held-half"
    whole = own_method(path(init_args={"slope": 0.5, "bias": 2}, name="held-whole"), "predictor", "methods")
    assert not whole.grid and whole.build().slope == 0.5


def test_two_methods_of_one_name_are_refused():
    one, other = ({"csi": path(init_args={"slope": s}), "precoder": "rzf"} for s in (0.0, 1.0))
    assert len(chain_texts([one, {**one, "precoder": "zf"}])) == 2
    with pytest.raises(RecipeError, match="two different predictors called 'held-for-checks'"):
        chain_texts([one, other])


def test_sizes_have_a_largest_value():
    for name in ("num_links", "horizon"):
        with pytest.raises(RecipeError, match=rf"sizes.{name} is 1000000000000, but must be at most 1,000,000"):
            Sizes(**{name: 10**12})
