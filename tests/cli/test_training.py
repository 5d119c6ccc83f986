"""``airlam fit`` and its siblings: composition of recipes, checkpoints, resuming, and one line for every mistake."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

TASK = {
    "trainer": {
        "max_epochs": 2,
        "accelerator": "cpu",
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [
            {
                "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                "init_args": {"monitor": "val_nmse_db", "save_last": True},
            },
            {
                "class_path": "lightning.pytorch.callbacks.EarlyStopping",
                "init_args": {"monitor": "val_nmse_db", "patience": 5},
            },
        ],
    },
    "model": {
        "class_path": "airlam.tasks.ChannelPrediction",
        "init_args": {"model": {"num_tokens": 8, "num_groups": 2}, "learning_rate": 1e-3},
    },
}


@pytest.fixture
def task(tmp_path):
    """Writes a task's recipe, changed where wanted, and returns its path."""

    def write(change=lambda recipe: None, name="small.yaml"):
        recipe = yaml.safe_load(yaml.safe_dump(TASK))
        change(recipe)
        path = tmp_path / name
        path.write_text(yaml.safe_dump(recipe))
        return path

    return write


def scalars(folder):
    """Tags and steps in a folder of TensorBoard events."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_fit_resume_and_evaluate(airlam, task, tmp_path):
    run = tmp_path / "runs" / "small" / "version_0"
    result = airlam("fit", "--config", task(), "--data", "datasets/tiny.yaml")
    assert result.code == 0, result.err
    assert (run / "checkpoints" / "last.ckpt").is_file() and (run / "config.yaml").is_file()
    steps = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert steps == 2 * 4

    again = airlam("fit", "--config", task(), "--data", "tiny", "--trainer.max_epochs", 3, "--ckpt_path", "last")
    assert again.code == 0 and "going on from" in again.out
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3 * 4
    assert not (run.parent / "version_1").exists(), "a resumed run stays in its folder"
    assert len(scalars(run)["val_nmse_db"]) == 3

    for command in ("validate", "test", "predict"):
        result = airlam(command, "--config", task(), "--data", "tiny", "--ckpt_path", "last")
        assert result.code == 0, result.err

    # The saved configuration is the whole experiment.
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["data"]["num_train"] == 64 and saved["data"]["channel"] == "uma_nlos"
    assert airlam("fit", "--config", run / "config.yaml", "--ckpt_path", "null", "--trainer.fast_dev_run", 1).code == 0

    from airlam import load_predictor

    h_past = torch.randn(2, 16, 12, 1, 4, dtype=torch.complex64)
    predicted = load_predictor(run / "checkpoints" / "last.ckpt").predict(h_past, 4, port_shape=(2, 1, 2))
    assert predicted.shape == (2, 4, 12, 1, 4)


def test_resuming_a_run_that_never_began(airlam, task, refuses):
    result = airlam(
        "fit", "--config", task(), "--data", "tiny", "--ckpt_path", "last", "--trainer.fast_dev_run", "true"
    )
    assert result.code == 0 and "starting from the beginning" in result.out
    assert "no checkpoint under" in refuses("test", "--config", task(), "--data", "tiny", "--ckpt_path", "last")


def test_options_come_over_recipes(airlam, task):
    result = airlam("fit", "--config", task(), "--data", "umi_nlos", "--data.num_train", "null", "--print_config")
    shown = yaml.safe_load(result.out)
    assert result.code == 0 and shown["data"]["channel"] == "umi_nlos" and shown["data"]["num_train"] is None
    assert shown["data"]["channel_overrides"] == {"speed_kmh": [3.0, 100.0]}
    assert shown["trainer"]["default_root_dir"] == "runs" and shown["model"]["init_args"]["learning_rate"] == 1e-3


def test_a_task_may_name_its_data(airlam, task, tmp_path):
    (tmp_path / "mine.yaml").write_text("channel: umi_nlos\nseed: 77\n")
    path = task(lambda recipe: recipe.update(data="mine.yaml"))  # relative to the task's own file
    assert yaml.safe_load(airlam("fit", "--config", path, "--print_config").out)["data"]["seed"] == 77


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--trainer.max_epoch", "3"], "'--trainer.max_epoch'; did you mean '--trainer.max_epochs'"),
        (["--trainr.max_epochs", "3"], "did you mean '--trainer.max_epochs'"),
        (["--data.num_tran", "3"], "did you mean '--data.num_train'"),
        (["--data.num_train", "some"], "data.num_train is 'some', but must be int or null"),
        (["--data.num_train", "-4"], "num_train is -4, but must be at least 0"),
        (["--model.learning_rat", "3"], "has no argument 'learning_rat'; did you mean 'learning_rate'"),
        (["--model", "Pretrainig"], "no class 'Pretrainig'; did you mean 'Pretraining'"),
        (["--model", "airlam.tasks.ChannelPredicton"], "did you mean 'ChannelPrediction'"),
        (["--trainer.callbacks+=EarlyStoping"], "did you mean 'EarlyStopping'"),
        (["--config", "tasks/nothing.yaml"], "no recipe 'tasks/nothing.yaml'"),
        (["--data", "tinny"], "did you mean 'tiny'"),
        (["--data.channel", "uma_nols"], "did you mean 'uma_nlos'"),
        (["--ckpt_path", "nowhere.ckpt"], "no checkpoint file nowhere.ckpt"),
        (["--model.checkpoint", "nowhere"], "airlam fit: give either model (random weights) or checkpoint, not both"),
        (["--config"], "--config needs a recipe"),
        (["stray"], "unexpected argument 'stray'"),
    ],
)
def test_mistyped_options(refuses, task, arguments, words):
    assert words in refuses("fit", "--config", task(), "--data", "tiny", *arguments)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["trainer"].update(max_epocs=3), "unknown key 'trainer.max_epocs'; did you mean"),
        (lambda r: r.update(seed_everythin=3), "did you mean 'seed_everything'"),
        (lambda r: r["model"]["init_args"].update(learning_rat=3), "did you mean 'learning_rate'"),
        (lambda r: r["model"].update(class_path="airlam.tasks.ChanelPrediction"), "did you mean 'ChannelPrediction'"),
        (lambda r: r["trainer"]["callbacks"][1]["init_args"].update(monitr=1), "did you mean 'monitor'"),
        (lambda r: r.update(data={"chanel": "uma_nlos"}), "did you mean 'data.channel'"),
        (lambda r: r.pop("model"), "'model' is missing"),
    ],
)
def test_mistyped_keys_in_a_recipe(refuses, task, change, words):
    assert words in refuses("fit", "--config", task(change))


def test_mistyped_keys_in_a_data_set(refuses, task, tmp_path):
    (tmp_path / "mine.yaml").write_text("channel: uma_nlos\nnum_vla: 3\n")
    assert "did you mean 'data.num_val'" in refuses("fit", "--config", task(), "--data", "mine.yaml")
    (tmp_path / "broken.yaml").write_text("channel: [uma_nlos\n")
    assert "broken.yaml is not valid YAML" in refuses("fit", "--config", task(), "--data", "broken.yaml")


class Nasty:
    def __reduce__(self):
        return print, ("this code ran",)


def test_checkpoints_cannot_run_code(refuses, task, tmp_path, capsys):
    torch.save({"state_dict": {}, "x": Nasty()}, tmp_path / "nasty.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Nasty()))
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "nasty.ckpt").read_bytes()[:200])
    reasons = {"nasty.ckpt": "not safe to load", "plain.ckpt": "not a whole ZIP", "cut.ckpt": "not a whole ZIP"}
    for name, reason in reasons.items():
        for command in ("fit", "test"):
            line = refuses(command, "--config", task(), "--data", "tiny", "--ckpt_path", name)
            assert name in line and reason in line
    assert "this code ran" not in capsys.readouterr().out


def test_fewer_steps_than_an_epoch_still_leave_a_model(airlam, tmp_path):
    recipe = ("--config", "tasks/channel_prediction/airlam_tiny.yaml", "--data", "tiny")
    result = airlam("fit", *recipe, "--trainer.max_steps", 2)
    assert result.code == 0, result.err
    folder = tmp_path / "runs" / "channel_prediction" / "airlam-tiny"
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()

    result = airlam("predict", *recipe, "--ckpt_path", "last")
    assert result.code == 0, result.err
    from safetensors.torch import load_file

    saved = load_file(folder / "predictions.safetensors")
    assert "predictions.safetensors" in result.out and saved["h_future"].dtype == torch.complex64
    assert len(saved["h_future"]) == len(saved["index"]) == len(saved["nmse"]) and (saved["nmse"] < 1).all()


SHIPPED = ("--config", "tasks/channel_prediction/airlam_tiny.yaml", "--data", "tiny")


def test_out_takes_everything_and_a_second_run_is_refused(airlam, refuses, tmp_path):
    """All that a recipe writes follows --out; nothing is replaced in silence; last.ckpt is the newest run."""
    result = airlam("fit", *SHIPPED, "--trainer.max_epochs", 1, "--out", "there")
    assert result.code == 0, result.err
    assert not (tmp_path / "runs").exists()
    assert {path.name for path in (tmp_path / "there").iterdir()} >= {"adapter", "last.ckpt", "tensorboard"}
    lines = result.out.strip().splitlines()[-2:]
    assert lines[0] == "written to there/adapter"
    assert lines[1].startswith("try next: airlam evaluate --config tasks/")
    assert lines[1].endswith("--model there/adapter")

    line = refuses("fit", *SHIPPED, "--trainer.max_epochs", 1, "--out", "there")
    assert "there holds an earlier run" in line and "--out FOLDER" in line and "--overwrite" in line
    again = airlam("fit", *SHIPPED, "--trainer.max_epochs", 2, "--out", "there", "--overwrite")
    assert again.code == 0, again.err
    assert not list((tmp_path / "there").glob("last-v*.ckpt"))
    assert torch.load(tmp_path / "there" / "last.ckpt", weights_only=True)["global_step"] == 8
    moved = airlam("fit", *SHIPPED, "--trainer.max_epochs", 1, "--trainer.default_root_dir", "elsewhere")
    assert moved.code == 0 and (tmp_path / "elsewhere" / "adapter" / "adapter_config.json").is_file()


def test_a_place_that_cannot_be_written_to_is_refused_before_any_work(refuses, tmp_path):
    (tmp_path / "file").write_text("mine")
    line = refuses("fit", "--config", "tasks/channel_prediction/airlam_tiny.yaml", "--data", "tiny", "--out", "file/x")
    assert "cannot write to the folder file/x" in line and "file is a file; name another one" in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_last_is_the_newest_though_no_better(airlam, tmp_path):
    """Training that stands still: the best checkpoint is the first, the last one is of the last step."""
    still = ("--model.learning_rate", "0", "--trainer.max_epochs", 3)
    assert airlam("fit", *SHIPPED, *still, "--out", "still").code == 0
    assert [path.name for path in (tmp_path / "still").glob("epoch=*.ckpt")] == ["epoch=0-step=4.ckpt"]
    assert torch.load(tmp_path / "still" / "last.ckpt", weights_only=True)["global_step"] == 12


def test_options_win_over_a_checkpoint(airlam, task, tmp_path):
    """Of the command line: into the hyperparameters, the optimiser and the next checkpoint."""
    assert airlam("fit", "--config", task(), "--data", "tiny").code == 0
    last = tmp_path / "runs" / "small" / "version_0" / "checkpoints" / "last.ckpt"
    options = ("--model.learning_rate", "1e-6", "--model.weight_decay", "0.25", "--trainer.max_epochs", 3)
    result = airlam("fit", "--config", task(), "--data", "tiny", "--ckpt_path", "last", *options)
    assert result.code == 0 and "learning_rate 1e-06, weight_decay 0.25: from the command line" in result.out
    saved = torch.load(last, weights_only=True)
    groups = saved["optimizer_states"][0]["param_groups"]
    assert saved["hyper_parameters"]["learning_rate"] == 1e-6 and saved["hyper_parameters"]["weight_decay"] == 0.25
    assert all(group["initial_lr"] == 1e-6 and group["lr"] <= 1e-6 for group in groups)
    assert [group["weight_decay"] for group in groups] == [0.25, 0.0]
    assert saved["lr_schedulers"][0]["base_lrs"] == [1e-6, 1e-6]
    # what is not given stays the checkpoint's, over the recipe's
    other = task(lambda recipe: recipe["model"]["init_args"].update(learning_rate=0.5))
    go_on = ("--data", "tiny", "--ckpt_path", "last", "--trainer.max_epochs", 4)
    assert airlam("fit", "--config", other, *go_on).code == 0
    assert torch.load(last, weights_only=True)["hyper_parameters"]["learning_rate"] == 1e-6


def test_a_checkpoint_of_another_model_is_one_line(airlam, task, refuses):
    assert airlam("fit", "--config", task(), "--data", "tiny").code == 0
    model = ("--model.model", '{"num_tokens": 8, "num_groups": 2, "doppler_grid": 33}')
    assert "does not fit this model" in refuses(
        "fit", "--config", task(), "--data", "tiny", "--ckpt_path", "last", *model
    )


def test_unknown_fields_of_a_model_are_refused(task, refuses):
    recipe = task(lambda r: r["model"]["init_args"].update(model={"num_token": 8}))
    assert "no field 'num_token'; did you mean 'num_tokens'" in refuses("fit", "--config", recipe, "--data", "tiny")


def process(*arguments, **options):
    """The command as a process of its own, its output in a pipe."""
    command = [str(Path(sys.executable).with_name("airlam")), *arguments]  # several devices start this script again
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


@pytest.mark.slow
def test_ctrl_c_saves_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRLAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    rare = ("--trainer.max_epochs", "100000", "--trainer.check_val_every_n_epoch", "100000")
    run = process("fit", *SHIPPED, *rare, "--out", "cut", "--trainer.enable_model_summary", "false", cwd=tmp_path)
    events = tmp_path / "cut" / "tensorboard"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(events.rglob("events*")):
        time.sleep(0.2)
    time.sleep(3)
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 130, out
    assert "saved cut/last.ckpt" in out.splitlines()[-1] and "--ckpt_path cut/last.ckpt" in out.splitlines()[-1]
    steps = torch.load(tmp_path / "cut" / "last.ckpt", weights_only=True)["global_step"]
    whole = 4 * (steps // 4 + 2)  # last.ckpt is written at the end of an epoch, of 4 steps
    again = process(
        "fit",
        *SHIPPED,
        "--out",
        "cut",
        "--trainer.max_steps",
        str(whole),
        "--ckpt_path",
        "last",
        "--trainer.max_epochs",
        "100000",
        cwd=tmp_path,
    )
    out, _ = again.communicate(timeout=120)
    assert again.returncode == 0, out
    assert torch.load(tmp_path / "cut" / "last.ckpt", weights_only=True)["global_step"] == whole


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["8", "null"])
def test_two_processes_train_together(rank, tmp_path, monkeypatch):
    """Every trainable parameter gets a gradient: distributed training waits for all of them."""
    monkeypatch.setenv("AIRLAM_CACHE", str(tmp_path / "cache"))
    devices = ("--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.max_epochs", "1")
    run = process("fit", *SHIPPED, *devices, "--model.lora_rank", rank, "--out", "two", cwd=tmp_path)
    out, _ = run.communicate(timeout=240)
    assert run.returncode == 0, out[-2000:]
