"""``airlam fit`` with the loggers that users have: each is named by its class, and holds the metrics of the run."""

from __future__ import annotations

import csv

import pytest
import yaml

TASK = {
    "trainer": {
        "max_epochs": 1,
        "limit_train_batches": 2,
        "limit_val_batches": 1,
        "accelerator": "cpu",
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": "there",
    },
    "model": {
        "class_path": "airlam.tasks.ChannelPrediction",
        "init_args": {"model": {"num_tokens": 8, "num_groups": 2}},
    },
}


@pytest.fixture
def fit(airlam, tmp_path):
    """Trains two steps with a logger, which a second recipe names; returns the folder."""

    def call(class_path: str, **init_args: object):
        (tmp_path / "task.yaml").write_text(yaml.safe_dump(TASK))
        logger = {"trainer": {"logger": {"class_path": class_path, "init_args": init_args}}}
        (tmp_path / "logger.yaml").write_text(yaml.safe_dump(logger))
        result = airlam("fit", "--config", "task.yaml", "--config", "logger.yaml", "--data", "tiny")
        assert result.code == 0, result.err
        return tmp_path

    return call


def test_csv(fit):
    folder = fit("lightning.pytorch.loggers.CSVLogger", save_dir="there", name="csv")
    rows = list(csv.DictReader((folder / "there/csv/version_0/metrics.csv").open()))
    assert float([row["val_nmse_db"] for row in rows if row["val_nmse_db"]][-1]) < 20
    assert (folder / "there/csv/version_0/config.yaml").is_file()


def test_tensorboard(fit):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = fit("lightning.pytorch.loggers.TensorBoardLogger", save_dir="there", name="tensorboard")
    events = accumulator.EventAccumulator(str(folder / "there/tensorboard/version_0"))
    events.Reload()
    assert len(events.Scalars("val_nmse_db")) == 1


def test_wandb_offline(fit, monkeypatch):
    wandb = pytest.importorskip(
        "wandb", reason="wandb is not installed (pip install wandb); no part of airlam's extras"
    )
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = fit("lightning.pytorch.loggers.WandbLogger", save_dir="there", project="airlam", offline=True)
    wandb.finish()  # by itself only when the process ends
    (run,) = folder.glob("there/wandb/offline-run-*/run-*.wandb")
    assert b"val_nmse_db" in run.read_bytes()
    assert (folder / "there/config.yaml").is_file()


def test_mlflow_without_a_server(fit):
    mlflow = pytest.importorskip(
        "mlflow", reason="mlflow is not installed (pip install mlflow-skinny sqlalchemy alembic); no part of the extras"
    )
    uri = "sqlite:///mlflow.db"
    folder = fit("lightning.pytorch.loggers.MLFlowLogger", experiment_name="airlam", tracking_uri=uri)
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("airlam").experiment_id])
    assert run.data.metrics["val_nmse_db"] < 20 and run.info.status == "FINISHED"
    assert (folder / "there/config.yaml").is_file()  # a database has no folder for it
