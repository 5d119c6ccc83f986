"""A parallel run goes on in ``airlam fit``, and the reverse, as if one of the two had done it all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import yaml

from airlam.data import CSIDataModule
from airlam.edge.parallel.engine.checkpoint import states
from airlam.edge.parallel.engine.lightning_states import from_lightning, to_lightning
from airlam.edge.parallel.engine.training import Training, data_module
from airlam.edge.parallel.recipe import ParallelTraining
from airlam.errors import CheckpointError, RecipeError
from airlam.tasks import ChannelPrediction, Pretraining

STEPS = 7  # an epoch of the data has four batches
MODEL = {
    "num_tokens": 8,
    "num_groups": 2,
    "group_size": 2,
    "backbone": {
        "model_type": "roberta-prelayernorm",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 2,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
}
RATES = {"learning_rate": 1e-3, "warmup_steps": 2, "weight_decay": 0.1}
TASKS = {
    "prediction": (ChannelPrediction, {"model": MODEL, **RATES}),
    "pretraining": (Pretraining, {"model": MODEL, **RATES, "mask_probability": 0.5}),
}


@pytest.fixture(scope="module", autouse=True)
def alone_in_group(tmp_path_factory):
    """A process group of this process alone."""
    store = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def run_of(kind: str, **changes: Any) -> ParallelTraining:
    made, arguments = TASKS[kind]
    task = {"class_path": f"airlam.tasks.{made.__name__}", "init_args": arguments}
    return ParallelTraining(**{"task": task, "data": "tiny", "nproc": 1, "steps": STEPS, "clip": 1.0, **changes})


def parallel(run: ParallelTraining, steps: int, folder: Path | None = None, state: Path | None = None) -> Training:
    """A run up to ``steps``; its state goes into ``folder``."""
    data = data_module(run)
    data.prepare_data()
    source, training = data.train_dataloader().source, Training(run, state)
    while training.step < steps:
        training.train_step(source.batch(training.position))
    if folder is not None:
        training.save(folder)
    return training


class Recorded:
    """What Lightning trained."""

    def __init__(self, quiet_trainer, kind: str, steps: int, ckpt: Path | None, weights: dict | None = None) -> None:
        made, arguments = TASKS[kind]
        self.task = made(**arguments)
        if weights is not None:
            self.task.load_state_dict(weights)
        recipe = yaml.safe_load((Path(__file__).parents[3] / "datasets" / "tiny.yaml").read_text())
        self.data = CSIDataModule(**recipe)
        self.trainer = quiet_trainer(
            max_steps=steps, max_epochs=-1, gradient_clip_val=1.0, num_sanity_val_steps=0, limit_val_batches=0
        )
        # the schedule is that of all steps, as if the rest were still to come
        self.task.configure_optimizers = lambda: _adamw(self.task)
        self.trainer.fit(self.task, datamodule=self.data, ckpt_path=ckpt, weights_only=True if ckpt else None)


def _adamw(task: Any) -> dict:
    from airlam.tasks.optimisation import adamw_with_warmup

    return adamw_with_warmup(task.model, **RATES, total_steps=STEPS)


def start_weights(kind: str) -> dict[str, torch.Tensor]:
    """The weights that a parallel run of this task begins with."""
    return {f"model.{n}": v.clone() for n, v in Training(run_of(kind)).part.model.state_dict().items()}


def check_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], start: dict[str, torch.Tensor]) -> None:
    """Equal but for what rounding does to AdamW: a millionth of what the weights moved."""
    assert a.keys() == b.keys()
    moved = max(float((b[name] - value).abs().max()) for name, value in start.items())
    assert moved > 1e-4
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=1e-5, atol=1e-3 * moved, msg=name)


@pytest.mark.parametrize(("kind", "first"), [("prediction", 3), ("pretraining", 4), ("pretraining", 5)])
def test_parallel_then_fit(kind, first, quiet_trainer, tmp_path):
    parallel(run_of(kind), first, tmp_path)
    ckpt = to_lightning(tmp_path, tmp_path / "a.ckpt")
    there = Recorded(quiet_trainer, kind, STEPS, ckpt)
    assert there.trainer.global_step == STEPS
    assert there.data.state_dict()["train"]["position"] == STEPS
    start = start_weights(kind)
    whole = Recorded(quiet_trainer, kind, STEPS, None, start)
    check_same(there.task.state_dict(), whole.task.state_dict(), start)
    compare_optimisers(there.trainer, whole.trainer)
    schedules = [one.trainer.lr_scheduler_configs[0].scheduler.state_dict() for one in (there, whole)]
    assert schedules[0] == schedules[1]


def compare_optimisers(a: Any, b: Any) -> None:
    first, second = (trainer.optimizers[0].state_dict() for trainer in (a, b))
    assert first["param_groups"] == second["param_groups"]
    assert first["state"].keys() == second["state"].keys() and first["state"]
    for number, entry in first["state"].items():
        for key, value in entry.items():
            torch.testing.assert_close(value, second["state"][number][key], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("kind", "first"), [("prediction", 3), ("pretraining", 4), ("pretraining", 5)])
def test_fit_then_parallel(kind, first, quiet_trainer, tmp_path):
    start, run = start_weights(kind), run_of(kind)
    before = Recorded(quiet_trainer, kind, first, None, start)
    before.trainer.save_checkpoint(tmp_path / "b.ckpt")
    state = from_lightning(tmp_path / "b.ckpt", tmp_path, run)
    assert states(tmp_path) == {first: state}
    there = parallel(run, STEPS, state=state)
    whole = parallel(run, STEPS)
    assert (there.step, there.position) == (STEPS, STEPS)
    named = ({f"model.{n}": v for n, v in t.part.model.state_dict().items()} for t in (there, whole))
    check_same(*named, start)
    for ours, theirs in zip(there.optimizer.param_groups, whole.optimizer.param_groups, strict=True):
        for a, b in zip(ours["params"], theirs["params"], strict=True):
            assert float(there.optimizer.state[a]["step"]) == STEPS
            for key in ("exp_avg", "exp_avg_sq"):
                torch.testing.assert_close(
                    there.optimizer.state[a][key], whole.optimizer.state[b][key], rtol=1e-3, atol=1e-6
                )


def test_there_and_back_is_the_same_to_the_bit(tmp_path):
    run = run_of("pretraining")
    training = parallel(run, 3, tmp_path / "a")
    ckpt = to_lightning(tmp_path / "a", tmp_path / "c.ckpt", step=3)
    again = Training(run, from_lightning(ckpt, tmp_path / "b", run))
    assert (again.step, again.position) == (3, 3)
    for (name, a), (_, b) in zip(
        training.part.model.named_parameters(), again.part.model.named_parameters(), strict=True
    ):
        assert torch.equal(a, b), name
        assert training.optimizer.state.get(a, {}).keys() == again.optimizer.state.get(b, {}).keys()
        for key, value in training.optimizer.state.get(a, {}).items():
            assert torch.equal(value, again.optimizer.state[b][key]), (name, key)
    rates = [[group["lr"] for group in t.optimizer.param_groups] for t in (training, again)]
    assert rates[0] == rates[1]


def test_what_does_not_fit_is_one_line(quiet_trainer, tmp_path):
    run = run_of("pretraining")
    with pytest.raises(CheckpointError, match="no state"):
        to_lightning(tmp_path, tmp_path / "d.ckpt")
    parallel(run_of("pretraining", optimiser="sgd"), 1, tmp_path)
    with pytest.raises(CheckpointError, match="no state of step 3; steps it has: 1"):
        to_lightning(tmp_path, tmp_path / "d.ckpt", step=3)
    with pytest.raises(RecipeError, match="sgd"):
        to_lightning(tmp_path, tmp_path / "d.ckpt")
    trained = Recorded(quiet_trainer, "pretraining", 2, None)
    trained.trainer.save_checkpoint(tmp_path / "e.ckpt")
    with pytest.raises(RecipeError, match="2 steps behind it, but the run has 2"):
        from_lightning(tmp_path / "e.ckpt", tmp_path / "run", run_of("pretraining", steps=2))
    wider = {**MODEL, "num_tokens": 12, "backbone": {**MODEL["backbone"], "intermediate_size": 96}}
    task = {"class_path": "airlam.tasks.Pretraining", "init_args": {"model": wider}}
    with pytest.raises(CheckpointError, match="has the shape"):
        from_lightning(tmp_path / "e.ckpt", tmp_path / "run", run_of("pretraining", task=task))
    trained.trainer.save_checkpoint(tmp_path / "f.ckpt", weights_only=True)
    with pytest.raises(CheckpointError, match="no optimiser's state"):
        from_lightning(tmp_path / "f.ckpt", tmp_path / "run", run)
    (tmp_path / "g.ckpt").write_bytes((tmp_path / "e.ckpt").read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="cut short"):
        from_lightning(tmp_path / "g.ckpt", tmp_path / "run", run)
    assert states(tmp_path / "run") == {}


@pytest.mark.slow
def test_on_the_command_line(tmp_path):
    """Two ranks in mode tensor, then ``airlam fit``, then two ranks in mode pipeline."""
    task = {"class_path": "airlam.tasks.Pretraining", "init_args": TASKS["pretraining"][1]}
    run = {"task": task, "data": "tiny", "nproc": 2, "mode": "tensor", "steps": 6, "checkpoint_every": 3, "keep": 9}
    recipe = {"class_path": "airlam.edge.parallel.ParallelTraining", "init_args": run}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(recipe))
    trainer = {
        "max_steps": 6,
        "max_epochs": -1,
        "gradient_clip_val": 1.0,
        "limit_val_batches": 0,
        "num_sanity_val_steps": 0,
        "accelerator": "cpu",
        "default_root_dir": str(tmp_path / "fit"),
        "callbacks": [
            {
                "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                "init_args": {"dirpath": str(tmp_path / "fit"), "save_last": True, "every_n_train_steps": 4},
            }
        ],
    }
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump({"model": task, "trainer": trainer}))

    def airlam(*arguments: Any) -> None:
        program = "import sys; from airlam.cli import main; sys.exit(main())"
        subprocess.run([sys.executable, "-c", program, *map(str, arguments)], check=True, timeout=300, cwd=tmp_path)

    airlam("parallel", "--config", "run.yaml", "--out", "a")
    to_lightning(tmp_path / "a", tmp_path / "three.ckpt", step=3)
    airlam("fit", "--config", "fit.yaml", "--data", "tiny", "--ckpt_path", "three.ckpt")
    ((last,)) = list((tmp_path / "fit").glob("last*.ckpt"))
    airlam("parallel", "--config", "run.yaml", "--out", "b", "--mode", "pipeline", "--from-lightning", last)
    airlam("parallel", "--config", "run.yaml", "--out", "b", "--to-lightning", "six.ckpt")
    from safetensors.torch import load_file

    one, two = (load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("a", "b"))
    start = {name: value.clone() for name, value in Training(run_of("pretraining")).part.model.state_dict().items()}
    check_same(two, one, start)
    saved = torch.load(tmp_path / "six.ckpt", weights_only=True)
    assert saved["global_step"] == 6
    assert all(torch.equal(saved["state_dict"][f"model.{name}"], value) for name, value in two.items())
