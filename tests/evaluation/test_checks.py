"""What a method returns is checked: its mistakes become errors that name it, and never figures."""

from __future__ import annotations

import pytest
import torch

from airlam.errors import RecipeError
from airlam.evaluation.benchmarks.beamforming.chains import chain_texts
from airlam.evaluation.engine.cell import Contender
from airlam.evaluation.engine.checks import check_beams
from airlam.evaluation.engine.config import Sizes
from airlam.evaluation.engine.measure import predict_all
from airlam.methods import own_method

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
        (lambda h, n, _: slots(h, n) * float("nan"), "predicted NaN or infinity"),
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
        (torch.ones(2, 4, 3, dtype=torch.complex64), "loud uses a power of 12, but at most 1"),
        (torch.full((2, 4, 3), float("nan"), dtype=torch.complex64), "loud returned NaN"),
        (torch.ones(2, 4, 3), "loud returned torch.float32"),
        (None, "loud returned NoneType"),
    ],
)
def test_beams_that_break_the_rules_are_refused(w, message):
    with pytest.raises(RecipeError, match=message):
        check_beams(Loud(), w, 1.0)
    assert check_beams(Loud(), torch.full((2, 4, 3), 0.1 + 0j), 1.0) is not None


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
