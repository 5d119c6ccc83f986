"""``airlam federate`` and ``airlam plan federated``: real small runs, and what is refused."""

from __future__ import annotations

import json

import pytest
import yaml

SMALL = {
    "class_path": "airlam.edge.federated.Federation",
    "init_args": {
        "sites": {
            "street": {"channel": "umi_nlos", "speed_kmh": [3, 60], "device": "phone"},
            "hall": {"channel": "inf_nlos", "device": {"profile": "sensor", "memory_bytes": 30e6}, "distance_m": 60},
        },
        "channel_overrides": {"num_subcarriers": 12, "bs_panel": {"rows": 1, "columns": 4, "polarisation": "single"}},
        "rounds": 2,
        "local_steps": 1,
        "batch_size": 4,
        "num_train": 8,
        "num_val": 4,
        "num_test": 4,
    },
}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(SMALL, sort_keys=False))
    return path


def test_a_run_its_files_and_going_on(airlam, refuses, recipe, tmp_path):
    out = tmp_path / "out"
    result = airlam("federate", "--config", recipe, "--out", out, "--rounds", 1)
    assert result.code == 0 and "street" in result.out and "adapters written" in " ".join(result.out.split())
    assert "go on with --resume" in refuses("federate", "--config", recipe, "--out", out)
    assert airlam("federate", "--config", recipe, "--out", out, "--resume").code == 0
    summary = json.loads((out / "federated.json").read_text())
    assert [r["number"] for r in summary["rounds"]] == [0, 1, 2] and set(summary["test"]) == {"street", "hall"}
    assert "batch_size was 4" in refuses("federate", "--config", recipe, "--out", out, "--resume", "--batch_size", 2)

    import torch

    import airlam as package

    predictor = package.load_predictor(out / "adapters")
    assert predictor.predict(torch.randn(16, 12, 1, 4, dtype=torch.complex64), 4).shape == (4, 12, 1, 4)


def test_nothing_of_others_is_deleted(airlam, refuses, recipe, tmp_path):
    out = tmp_path / "out"
    (out / "adapters").mkdir(parents=True)
    (out / "adapters" / "mine.txt").write_text("mine")
    assert "is not of a federated run" in refuses("federate", "--config", recipe, "--out", out)
    assert (out / "adapters" / "mine.txt").read_text() == "mine"
    other = tmp_path / "other"
    assert airlam("federate", "--config", recipe, "--out", other, "--rounds", 1).code == 0
    state = (other / "state.safetensors").read_bytes()
    for wrong in (
        ["--model", "nonesuch"],
        ["--split_layers", 99, "--mode", "split"],
        ["--engine", "cloud"],
        ["--secure_aggregation", "true", "--aggregation", "ffa"],
    ):
        refuses("federate", "--config", recipe, "--out", other, "--overwrite", *wrong)
    refuses("federate", "--config", recipe, "--out", other, "--resume", "--model", other / "adapters")
    assert (other / "state.safetensors").read_bytes() == state and (other / "adapters").is_dir()
    plan = tmp_path / "note.yaml"
    plan.write_text("mine")
    assert "is no plan" in refuses("plan", "federated", "--config", recipe, "--out", plan)


@pytest.mark.parametrize("changes", [["--lora_rank", "null"], ["--aggregation", "residual"]], ids=str)
def test_what_changes_weights_is_a_checkpoint(airlam, recipe, tmp_path, changes):
    assert airlam("federate", "--config", recipe, "--out", tmp_path / "out", "--rounds", 1, *changes).code == 0
    import airlam as package

    assert package.load_predictor(tmp_path / "out" / "checkpoint").model.config.model_type == "airlam"


def test_a_plan_keeps_to_memory_and_runs(airlam, refuses, recipe, tmp_path):
    out = tmp_path / "plan.yaml"
    assert "sensor has 30.0 MB" not in airlam("plan", "federated", "--config", recipe, "--out", out).out
    sites = yaml.safe_load(out.read_text())["init_args"]["sites"]
    assert {site["mode"] for site in sites.values()} <= {"local", "split"}
    assert airlam("federate", "--config", out, "--out", tmp_path / "out", "--rounds", 1).code == 0
    poor = json.dumps(
        {
            **SMALL["init_args"]["sites"],
            "hall": {"channel": "inf_nlos", "device": {"profile": "sensor", "memory_bytes": 1e5}},
        }
    )
    assert "sensor has 0.1 MB" in refuses("plan", "federated", "--config", recipe, "--sites", poor)


def test_a_slow_server_keeps_the_model_on_the_devices_and_copies_are_planned_one_by_one(airlam, recipe, tmp_path):
    out, sites = tmp_path / "plan.yaml", {"street": {"channel": "umi_nlos", "copies": 2}}
    slow = json.dumps({"profile": "edge-server", "flops_per_second": 1e8})
    arguments = ["plan", "federated", "--config", recipe, "--out", out, "--sites", json.dumps(sites)]
    assert airlam(*arguments, "--server", slow).code == 0
    planned = yaml.safe_load(out.read_text())["init_args"]["sites"]
    assert list(planned) == ["street-1", "street-2"] and [site["seed"] for site in planned.values()] == [1000, 1001]
    assert {site["mode"] for site in planned.values()} == {"local"}
    alike = {"a": {"channel": "umi_nlos", "copies": 2}, "a-1": {"channel": "inf_nlos", "copies": 2}}
    assert airlam(*arguments[:-1], json.dumps(alike), "--ranks", "[2]").code == 0
    planned = yaml.safe_load(out.read_text())["init_args"]["sites"]
    assert [site["channel"] for site in planned.values()] == ["umi_nlos"] * 2 + ["inf_nlos"] * 2


def test_old_results_do_not_stand_beside_a_new_run(airlam, refuses, recipe, tmp_path):
    from airlam.edge.federated.commands.results import LOCK
    from airlam.io import inheritable_lock

    out = tmp_path / "out"
    assert airlam("federate", "--config", recipe, "--out", out, "--rounds", 1).code == 0
    about = json.loads((out / "adapters" / "adapter_config.json").read_text())
    assert about["base_model_name_or_path"] == "airlam-tiny"
    with inheritable_lock(out / LOCK):
        said = refuses("federate", "--config", recipe, "--out", out, "--overwrite")
    assert "a run, or the deployed processes" in said
    idle = ["--selection", json.dumps({"policy": "fastest", "devices": 1, "max_joules": 1e-9})]
    said = refuses("federate", "--config", recipe, "--out", out, "--overwrite", "--rounds", 1, *idle)
    assert "no round could use any update" in said
    assert not (out / "adapters").exists() and not (out / "federated.json").exists()
    (out / "state.safetensors").unlink()
    (out / "federated.json").write_text("{}")
    for more in ([], ["--resume"]):
        assert "without its state" in refuses("federate", "--config", recipe, "--out", out, *more)


def test_a_precoder_keeps_its_utility(recipe, tmp_path):
    import airlam as package
    from airlam.edge.federated.commands.federate import federate
    from airlam.models import load_learned_precoder, save_checkpoint
    from airlam.recipes import find_checkpoint

    base = load_learned_precoder(find_checkpoint("airlam-precoder"))
    base.config.utility = "proportional_fair"
    save_checkpoint(base, tmp_path / "fair")
    changes = {"num_train": 16, "num_val": 8, "num_test": 8, "batch_size": 8, "rounds": 1}
    out = federate(recipe, tmp_path / "out", task="beamforming", model=str(tmp_path / "fair"), **changes)
    assert package.load_precoder(out / "adapters").utility == "proportional_fair"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["federate", "--config", "tasks/channel_prediction/benchmark.yaml"], "is for 'airlam evaluate'"),
        (["federate", "--config", "tasks/channel_prediction/federatd.yaml"], "federat"),
        (["federate", "--config", "{recipe}", "--rounds", "many"], "rounds is 'many'"),
        (["federate", "--config", "{recipe}", "--round", "3"], "did you mean 'rounds'"),
        (["federate", "--config", "{recipe}", "--engine", "cloud"], "engine is 'cloud'"),
        (["federate"], "--config"),
        (["federate", "--config", "{recipe}", "--learning_rate", "1e-3", "--rounds", "0"], "rounds is 0"),
        (["plan"], "plan what?"),
        (["plan", "federated", "--config", "{recipe}", "--ranks", "4"], "ranks is 4"),
        (["plan", "federated", "--config", "{recipe}", "--aggregation", "ffa", "--strategy", "fedmedian"], "one rank"),
        (["plan", "federated", "--config", "{recipe}", "--out", "."], "exists and is no plan"),
        (["plan", "parallel"], "--devices"),
        (["plan", "federated", "--config", "{recipe}", "--goal", "fame"], "goal is 'fame'"),
        (["plan", "federated", "--config", "{recipe}", "--min_rank", "32"], "between 1 and 16"),
        (["plan", "federated", "--config", "{recipe}", "--lora_rank", "null"], "neither rank nor split"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_refusals_are_one_line(refuses, recipe, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert words in refuses(*[str(a).format(recipe=recipe) for a in arguments])
