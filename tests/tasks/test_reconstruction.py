"""Reconstruction: its error is the estimator's, a short run learns, patterns, checkpoints come back."""

import pytest
import torch
from torch.utils.data import DataLoader

from airlam.csi import series_along
from airlam.loading import load_predictor
from airlam.metrics import nmse
from airlam.models import AirlamEstimator
from airlam.tasks import Reconstruction, sampling_pattern


def batch(seed, links=8, slots=3):
    """A few rays a link: delays that are not negative, directions."""
    generator = torch.Generator().manual_seed(seed)
    delay, angle = 0.08 * torch.rand(links, 4, 1, generator=generator), torch.rand(links, 4, 1, generator=generator)
    gain = torch.randn(links, slots, 4, dtype=torch.complex64, generator=generator)
    f = torch.exp(-2j * torch.pi * delay * torch.arange(24)).to(torch.complex64)
    a = torch.exp(2j * torch.pi * angle * torch.arange(4)).to(torch.complex64)
    h = torch.einsum("ltr,lrf,lra->ltfa", gain, f, a)[:, :, :, None]
    noise = torch.randn(h.shape, dtype=h.dtype, generator=generator)
    return {"h_past": h + 0.2 * noise, "h_past_true": h, "port_shape": (1, 4, 1), "index": torch.arange(links)}


def loader(count, first=0):
    return DataLoader([batch(first + i) for i in range(count)], batch_size=None)


@pytest.mark.parametrize(
    ("axis", "pattern"),
    [("subcarrier", "comb:4"), ("subcarrier", "first:0.5"), ("column", "comb:2"), ("slot", "comb:2")],
)
def test_the_error_is_that_of_the_estimator(axis, pattern, tiny_model):
    torch.manual_seed(0)
    task, b = Reconstruction(model=tiny_model, axis=axis, patterns=[pattern]), batch(0)
    torch.nn.init.normal_(task.model.head.weight, std=0.05)
    with torch.no_grad():
        error = task._error(b, pattern)
    length = series_along(b["h_past"], axis, (1, 4, 1))[0].shape[1]
    observed, wanted = sampling_pattern(pattern, length)
    h = AirlamEstimator(task.model).estimate(b["h_past"], observed, axis=axis, port_shape=(1, 4, 1))
    pair = (series_along(x, axis, (1, 4, 1))[0][:, wanted] for x in (h, b["h_past_true"]))
    # differences of energies in single precision
    assert torch.allclose(error.double(), nmse(*pair, reduction="none"), rtol=1e-2)


def test_adaptation_learns_and_comes_back(tmp_path, tiny_model, quiet_trainer):
    torch.manual_seed(1)
    task = Reconstruction(model=tiny_model, patterns=["comb:4"], learning_rate=5e-3, warmup_steps=1)
    run = quiet_trainer(max_epochs=3)
    before = run.validate(task, loader(2, 50), verbose=False)[0]["val_nmse_db"]
    run.fit(task, loader(8), loader(2, 50))
    after = run.validate(task, loader(2, 50), verbose=False)[0]["val_nmse_db"]
    assert after < before - 0.5
    run.save_checkpoint(tmp_path / "run.ckpt")
    back, b = AirlamEstimator(load_predictor(tmp_path / "run.ckpt").model), batch(50)
    observed = torch.arange(24) % 4 == 0
    a, c = (
        e.estimate(b["h_past"], observed, axis="subcarrier", port_shape=(1, 4, 1))
        for e in (back, AirlamEstimator(task.model.eval()))
    )
    assert torch.equal(a, c)
    out = run.predict(task, loader(1))[0]
    assert out["h"].shape == b["h_past"].shape and out["nmse"].shape == (8,)


def test_patterns():
    observed, wanted = sampling_pattern("comb:3", 7)
    assert observed.int().tolist() == [1, 0, 0, 1, 0, 0, 1] and bool(wanted.all())
    drawn = [sampling_pattern("comb:3", 7, torch.Generator().manual_seed(i))[0] for i in range(20)]
    assert {int(observed.nonzero()[0]) for observed in drawn} == {0, 1, 2}
    observed, wanted = sampling_pattern("first:0.5", 8)
    assert not bool((observed & wanted).any()) and bool((observed | wanted).all())
    for wrong in ("comb", "comb:0", "comb:9", "comb:1.5", "first:0", "first:0.9:0.2", "first:x", "holes:2"):
        with pytest.raises(ValueError, match="no pattern"):
            sampling_pattern(wrong, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axis": "tone"}, "axis must be one of"),
        ({"patterns": []}, "patterns is empty"),
        ({"patterns": ["combs"]}, "no pattern 'combs'"),
        ({"slots": 0}, "slots must be at least 1"),
    ],
)
def test_errors(change, message, tiny_model):
    with pytest.raises(ValueError, match=message):
        Reconstruction(model=tiny_model, **change)
