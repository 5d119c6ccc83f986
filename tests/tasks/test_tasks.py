"""The tasks: objectives equal the metric, short real runs learn, checkpoints come back."""

import shutil
from statistics import median

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch.utils.data import DataLoader

from airlam.csi import normalise
from airlam.loading import load_predictor
from airlam.metrics import nmse
from airlam.models import AirlamConfig, AirlamModel, load_checkpoint, save_checkpoint
from airlam.tasks import ChannelPrediction, ExportCheckpoint, Pretraining, calibrate_variance
from airlam.tasks.objectives import forecast_error, reconstruction_error


def batch(seed, links=8, slots=12, future=3):
    """Clusters of rays that share delay and angle and spread in Doppler: like a channel, made in a millisecond."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.zeros(links, slots + future, 16, 1, 8, dtype=torch.complex64)
    t, f, a = torch.arange(slots + future), torch.arange(16), torch.arange(8)
    for _ in range(4):
        delay, angle = (torch.rand(links, 1, generator=generator) for _ in range(2))
        response = torch.einsum(
            "lf,la->lfa", torch.exp(-2j * torch.pi * delay * f), torch.exp(2j * torch.pi * angle * a)
        )
        doppler, phase = (torch.rand(links, 6, 1, generator=generator) for _ in range(2))
        fading = torch.exp(2j * torch.pi * (0.05 * torch.cos(2 * torch.pi * doppler) * t + phase)).sum(1)
        h = h + torch.einsum("lt,lfa->ltfa", fading, response)[:, :, :, None, :]
    h = h / h.abs().square().mean((1, 2, 3, 4), keepdim=True).sqrt()
    noise = torch.randn(links, slots, 16, 1, 8, dtype=torch.complex64, generator=generator)
    return {
        "h_past": h[:, :slots] + 0.1 * noise,
        "h_past_true": h[:, :slots],
        "h_future": h[:, slots:],
        "port_shape": (1, 8, 1),
        "index": torch.arange(links),
    }


def loader(count, first=0):
    return DataLoader([batch(first + i) for i in range(count)], batch_size=None)


@pytest.fixture
def model(tiny_model):
    torch.manual_seed(0)
    made = AirlamModel(AirlamConfig(**tiny_model)).eval()
    torch.nn.init.normal_(made.head.weight, std=0.05)
    return made


def test_forecast_error_is_the_nmse_of_the_predicted_csi(model):
    m, b = model, batch(0)
    with torch.no_grad():
        error = forecast_error(m, b["h_past"], b["h_future"], b["port_shape"])
        for correction, value in ((True, error.nmse), (False, error.start)):
            predicted = m(b["h_past"], 3, port_shape=b["port_shape"], correction=correction)
            direct = torch.stack([nmse(p[None], t[None]) for p, t in zip(predicted, b["h_future"], strict=True)])
            assert torch.allclose(value.double(), direct, rtol=1e-3)  # differences of energies in single precision


def test_reconstruction_hides_slots(model):
    """What was measured in a hidden slot changes nothing."""
    m, b = model, batch(1)
    observed = torch.ones(12, dtype=torch.bool)
    observed[[4, 5, 9]] = False
    other = b["h_past"].clone()
    other[:, [4, 5, 9]] = 9.0
    with torch.no_grad():
        a, c = (reconstruction_error(m, x, b["h_past_true"], observed) for x in (b["h_past"], other))
    assert torch.equal(a, c)
    assert (a < 1).all()  # better than predicting zero


def test_pretraining_learns_and_resumes_identically(tmp_path, tiny_model, quiet_trainer):
    def task():
        torch.manual_seed(1)
        return Pretraining(model=tiny_model, learning_rate=3e-3, warmup_steps=2, mask_probability=0.25)

    class Record(L.Callback):
        def __init__(self):
            self.losses = []

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.losses.append(float(outputs["loss"]))

    record, whole = Record(), task()
    keep = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=6, save_top_k=-1)
    quiet_trainer(max_steps=12, callbacks=[record, keep], enable_checkpointing=True).fit(whole, loader(12))
    # log NMSE falls; the median, because steps that reconstruct are harder than those that forecast
    assert median(record.losses[-6:]) < median(record.losses[:6])

    resumed = task()
    # a plain loader begins anew after a restart, so this one begins where the first stopped (CSIDataModule goes on)
    run = quiet_trainer(max_steps=12)
    run.fit(resumed, loader(12, first=6), ckpt_path=tmp_path / "step=6.ckpt", weights_only=True)
    assert run.global_step == 12
    for p, q in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q)


def test_finetuning_with_lora_exports_and_loads(tmp_path, model, quiet_trainer):
    base = save_checkpoint(model, tmp_path / "base")
    task = ChannelPrediction(checkpoint=str(base), lora_rank=2, learning_rate=2e-3, warmup_steps=1)
    run = quiet_trainer(max_epochs=3, callbacks=[ExportCheckpoint(str(tmp_path / "adapter"))])
    before = run.validate(task, loader(2, first=50), verbose=False)[0]["val_nmse_db"]
    run.fit(task, loader(6), loader(2, first=50))
    after = run.validate(task, loader(2, first=50), verbose=False)[0]["val_nmse_db"]
    assert after < before
    b = batch(50)
    expected = task.model(b["h_past"], 3, port_shape=b["port_shape"])
    adapter = load_predictor(tmp_path / "adapter")
    assert torch.allclose(adapter.predict(b["h_past"], 3, port_shape=b["port_shape"]), expected, atol=1e-5)
    run.save_checkpoint(tmp_path / "run.ckpt")
    merged = load_predictor(tmp_path / "run.ckpt")
    assert merged.name == "run"
    # adapters merged into the weights: other rounding
    assert torch.allclose(merged.predict(b["h_past"], 3, port_shape=b["port_shape"]), expected, atol=1e-3)


def test_pretraining_exports_a_checkpoint_that_loads(tmp_path, tiny_model, quiet_trainer):
    task = Pretraining(model=tiny_model)
    run = quiet_trainer(max_steps=2, callbacks=[ExportCheckpoint(str(tmp_path / "out"), every_n_steps=1)])
    run.fit(task, loader(2))
    b = batch(3)
    assert torch.equal(load_checkpoint(tmp_path / "out")(b["h_past"], 3), task.model.eval()(b["h_past"], 3))
    run.save_checkpoint(tmp_path / "run.ckpt")
    with torch.inference_mode():  # as predictors run: another library multiplies there, and rounds differently
        expected = task.model(b["h_past"], 3)
    assert torch.equal(load_predictor(tmp_path / "run.ckpt").predict(b["h_past"], 3), expected)


def test_an_export_may_run_with_other_token_counts_than_training(tmp_path, tiny_model, quiet_trainer):
    task = Pretraining(model=tiny_model)
    export = ExportCheckpoint(str(tmp_path / "out"), inference={"num_tokens": 3})
    quiet_trainer(max_steps=1, callbacks=[export]).fit(task, loader(1))
    model = load_checkpoint(tmp_path / "out")
    assert model.config.num_tokens == 3 and task.model.config.num_tokens == tiny_model["num_tokens"]
    assert torch.equal(model.head.weight, task.model.head.weight)
    with pytest.raises(ValueError, match="cannot change 'doppler_grid'"):
        ExportCheckpoint(str(tmp_path), inference={"doppler_grid": 9})


def test_exports_hold_averaged_weights(tmp_path, tiny_model, quiet_trainer):
    task, folder = Pretraining(model=tiny_model, learning_rate=1e-2, warmup_steps=0), tmp_path / "out"
    average = EMAWeightAveraging(decay=0.9)
    seen = []

    class Check(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            exported, mean = load_checkpoint(folder).head.weight, average._average_model.module.model.head.weight
            seen.append((torch.equal(exported, mean), torch.equal(exported, pl_module.model.head.weight)))

    quiet_trainer(max_steps=3, callbacks=[average, ExportCheckpoint(str(folder), every_n_steps=1), Check()]).fit(
        task, loader(3)
    )
    assert seen[1:] == [(True, False)] * 2  # averages, not the current weights, which training goes on with
    assert torch.equal(load_checkpoint(folder).head.weight, task.model.head.weight)


def test_predict_step_returns_csi_and_its_error(tiny_model, quiet_trainer):
    task = ChannelPrediction(model=tiny_model)
    out = quiet_trainer().predict(task, loader(1))[0]
    assert out["h_future"].shape == (8, 3, 16, 1, 8) and out["nmse"].shape == (8,)


def test_model_and_checkpoint_exclude_each_other():
    with pytest.raises(ValueError, match="not both"):
        ChannelPrediction(checkpoint="airlam-tiny", model={"num_tokens": 8})


def test_a_warm_restart_changes_only_what_no_weight_depends_on():
    task = Pretraining(checkpoint="airlam-tiny", model={"num_tokens": 8, "forward_backward": True})
    assert (task.model.config.num_tokens, task.model.config.forward_backward) == (8, True)
    with pytest.raises(ValueError, match="doppler_grid of a trained model cannot be changed"):
        Pretraining(checkpoint="airlam-tiny", model={"doppler_grid": 65})
    with pytest.raises(ValueError, match="num_tokens"):
        Pretraining(checkpoint="airlam-tiny", model={"num_tokens": 0})


def test_calibration_fits_the_errors(tmp_path, tiny_model):
    """Afterwards predicted and true log errors agree in the mean, over tokens: the regression has a constant."""
    torch.manual_seed(0)
    model = AirlamModel(AirlamConfig(**tiny_model, error_variance=True))
    data = [(b["h_past"], b["h_future"], b["port_shape"]) for b in map(batch, range(4))]
    before = model.predict_tokens(model.tokenize(data[0][0], 3, 1), 3).variance
    left = calibrate_variance(model, data)
    assert 0.3 < left < 3.0
    again = calibrate_variance(model, data)  # from scratch, whatever stood there
    assert again == pytest.approx(left, rel=1e-6)
    after = model.predict_tokens(model.tokenize(data[0][0], 3, 1), 3).variance
    assert not torch.allclose(before, after)
    offsets = []
    for past, future, _ in data:
        x, scale = normalise(past)
        tokens = model.tokenize(x, 3, 1)
        truth = tokens.basis.forward(future / scale).gather(1, tokens.index[..., None].expand(-1, -1, 3))
        predicted, _, variance, _ = model.predict_tokens(tokens, 3)
        square = (predicted - truth / tokens.scale).abs().square() + 1e-9
        offsets.append(tokens.per_token((torch.log(square) + 0.5772 - torch.log(variance)).mean(-1, keepdim=True)))
    assert float(torch.cat(offsets).mean().abs()) < 1e-2
    with pytest.raises(ValueError, match="no error variances"):
        calibrate_variance(AirlamModel(AirlamConfig(**tiny_model)), data)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on CPUs")
def test_a_compiled_backbone_learns_the_same(tiny_model, quiet_trainer):
    losses = []
    for compiled in (False, True):
        torch.manual_seed(1)
        task = Pretraining(model=tiny_model, learning_rate=3e-3, warmup_steps=2, compile_backbone=compiled)
        run = quiet_trainer(max_steps=3)
        run.fit(task, loader(3))
        losses.append(float(run.callback_metrics["train_nmse_db"]))
    assert losses[0] == pytest.approx(losses[1], abs=1e-2)  # fused operations round differently


def test_what_callbacks_do_to_averaged_weights_after_fit_is_exported(tmp_path, tiny_model, quiet_trainer):
    """As CalibrateVariance does: the averages, fetched once more, must not undo it."""

    class Mark(L.Callback):
        def on_train_end(self, trainer, pl_module):
            with torch.no_grad():
                pl_module.model.head.bias.fill_(7.0)

    task = Pretraining(model=tiny_model, learning_rate=1e-2, warmup_steps=0)
    callbacks = [EMAWeightAveraging(decay=0.9), Mark(), ExportCheckpoint(str(tmp_path / "out"))]
    quiet_trainer(max_steps=2, callbacks=callbacks).fit(task, loader(2))
    assert bool((load_checkpoint(tmp_path / "out").head.bias == 7.0).all())
