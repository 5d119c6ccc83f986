"""Training of comparators: it learns, the budget of CPU time stops and resumes it, its checkpoints load."""

import math

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from airlam.loading import load_predictor
from airlam.metrics import nmse
from airlam.models import AirlamConfig
from airlam.tasks import ComparatorTraining, CPUBudget, ExportCheckpoint, Pretraining

GRU = {"num_subcarriers": 6, "history": 8, "horizon": 2, "width": 32}


def batch(seed, links=16):
    """One ray a link, with its own delay, angle and Doppler, and noise 20 dB down."""
    g = torch.Generator().manual_seed(seed)
    t, f, a = torch.arange(10), torch.arange(6), torch.arange(4)
    slope = 0.5 * torch.randn(links, 3, 1, generator=g)
    axes = [torch.polar(torch.ones(()), slope[:, i] * grid) for i, grid in enumerate((t, f, a))]
    h = torch.einsum("lt,lf,la->ltfa", *axes)[:, :, :, None]
    noise = torch.randn(links, 8, 6, 1, 4, dtype=torch.complex64, generator=g)
    return {
        "h_past": h[:, :8] + 0.1 * noise,
        "h_past_true": h[:, :8],
        "h_future": h[:, 8:],
        "port_shape": (1, 4, 1),
        "index": torch.arange(links),
    }


def loader(count, first=0):
    return DataLoader([batch(first + i) for i in range(count)], batch_size=None)


def task():
    torch.manual_seed(0)
    return ComparatorTraining("gru", GRU, learning_rate=1e-2, warmup_steps=2)


def test_the_loss_is_the_metric():
    module, b = task(), batch(0)
    torch.nn.init.normal_(module.model.head.weight, std=0.1)
    predicted = module.model(b["h_past"], 2, port_shape=(1, 4, 1))
    direct = torch.stack([nmse(p[None], t[None]) for p, t in zip(predicted, b["h_future"], strict=True)])
    assert torch.allclose(module.nmse(b).double(), direct.double(), rtol=1e-4)


def test_it_learns_exports_and_loads(tmp_path, quiet_trainer):
    module = task()
    run = quiet_trainer(max_epochs=10, callbacks=[ExportCheckpoint(str(tmp_path / "gru"))])
    before = run.validate(module, loader(2, 50), verbose=False)[0]["val_mean_db"]
    run.fit(module, loader(8), loader(2, 50))
    after = run.validate(module, loader(2, 50), verbose=False)[0]["val_mean_db"]
    assert after < before - 3  # of links that it never saw; hold stands at about 0 dB
    b = batch(50)
    with torch.no_grad():
        expected = module.model.eval()(b["h_past"], 2, port_shape=(1, 4, 1))
    run.save_checkpoint(tmp_path / "run.ckpt")
    for path in (tmp_path / "gru", tmp_path / "run.ckpt"):
        assert torch.equal(load_predictor(path).predict(b["h_past"], 2, port_shape=(1, 4, 1)), expected)


class Clock:
    """CPU time that passes one second with every reading: budgets become numbers of steps."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr("airlam.tasks.cpu_budget.time.process_time", Clock())


def test_the_budget_stops_training_and_counts_model_work_alone(clock, quiet_trainer):
    budget = CPUBudget(6 / 60)
    rates = []

    class Record(L.Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            rates.append(optimizer.param_groups[0]["lr"])

    run = quiet_trainer(max_epochs=-1, callbacks=[budget, Record()])
    run.fit(task(), loader(4), loader(1))
    assert run.global_step == 6 and budget.spent == pytest.approx(6)
    assert budget.between == pytest.approx(7)  # a reading before each step, and the first of the validation's two
    assert rates == pytest.approx([1e-2 * budget.factor(i / 6) for i in range(6)])


def test_a_resumed_run_goes_on_and_a_finished_one_stays_finished(clock, tmp_path, quiet_trainer):
    keep = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=3, save_top_k=-1)
    whole = task()
    quiet_trainer(max_epochs=-1, callbacks=[CPUBudget(6 / 60), keep], enable_checkpointing=True).fit(whole, loader(12))
    resumed = task()
    run = quiet_trainer(max_epochs=-1, callbacks=[CPUBudget(6 / 60)])
    # a plain loader begins anew after a restart (CSIDataModule goes on)
    run.fit(resumed, loader(12, first=3), ckpt_path=tmp_path / "step=3.ckpt", weights_only=True)
    assert run.global_step == 6
    for p, q in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q)
    again = quiet_trainer(max_epochs=-1, callbacks=[CPUBudget(6 / 60)])
    again.fit(task(), loader(12), ckpt_path=tmp_path / "step=6.ckpt", weights_only=True)
    assert again.global_step == 6


def test_the_budget_serves_airlams_own_model(clock, tiny_backbone, quiet_trainer):
    model = AirlamConfig(backbone=tiny_backbone, num_tokens=8, num_groups=0, max_history=8)
    fields = {name: getattr(model, name) for name in ("backbone", "num_tokens", "num_groups", "max_history")}
    module = Pretraining(model=fields, mask_probability=0.0, warmup_steps=50)
    run = quiet_trainer(max_epochs=-1, callbacks=[CPUBudget(3 / 60)])
    run.fit(module, loader(4))
    assert run.global_step == 3


def test_the_schedule():
    budget = CPUBudget(10, warmup=0.1, floor=0.02)
    assert budget.factor(0.0) > 0 and budget.factor(1.0) == pytest.approx(0.02) == budget.factor(1.5)
    assert budget.factor(0.05) < budget.factor(0.1) > budget.factor(0.5)
    for bad in (0, -1, math.inf):
        with pytest.raises(ValueError, match="budget_minutes"):
            CPUBudget(bad)
    with pytest.raises(ValueError, match="warmup"):
        CPUBudget(1, warmup=1.0)
