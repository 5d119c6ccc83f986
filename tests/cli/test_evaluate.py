"""``airlam evaluate`` and ``airlam demo`` hand their arguments on."""

from __future__ import annotations

import pytest
import yaml


def test_evaluate_hands_on(airlam, monkeypatch):
    calls = []
    monkeypatch.setattr("airlam.evaluation.runner.run", lambda *a, **k: calls.append((a, k)) or "report.html")
    result = airlam(
        "evaluate", "--config", "tasks/x.yaml", "--out", "results", "--model", "hold", "--rates.users=[4, 8]"
    )
    assert result.code == 0 and "report.html" in result.out
    assert calls == [(("tasks/x.yaml", "results"), {"model": "hold", "rates.users": [4, 8]})]


def test_evaluate_refuses_typos(refuses):
    benchmark = "tasks/channel_prediction/benchmark.yaml"
    assert "did you mean" in refuses("evaluate", "--config", "tasks/channel_prediction/benchmrk.yaml")
    assert "did you mean 'sizes.num_links'" in refuses("evaluate", "--config", benchmark, "--num_link", 3)
    assert "did you mean 'num_links'" in refuses("evaluate", "--config", benchmark, "--sizes.num_link", 3)


def test_commands_that_fail_early_leave_no_folder(refuses, tmp_path):
    task = "tasks/channel_prediction"
    assert "store is null" in refuses("evaluate", "--config", f"{task}/stored_set.yaml", "--paper", "paper")
    assert "no predictor or checkpoint" in refuses("demo", "--model", "nowhere")
    assert "no checkpoint 'nowhere'" in refuses("federate", "--config", f"{task}/federated.yaml", "--model", "nowhere")
    assert "no predictor or checkpoint" in refuses("bench-latency", "nowhere", "--out", "times/x.json")
    assert not list(tmp_path.iterdir())


def test_demo_hands_on(airlam, refuses, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr("airlam.evaluation.demo.run", lambda *a, **k: calls.append((a, k)) or tmp_path / "report.html")
    assert "report.html" in airlam("demo", "--out", "there", "--steps", 3, "--federated", "false").out
    assert calls == [(("there",), {"steps": 3})]
    assert "did you mean '--steps'" in refuses("demo", "--step", 3)


@pytest.mark.parametrize("command", ["generate", "evaluate", "demo", "federate", "list", "doctor"])
def test_every_command_explains_itself(airlam, command):
    result = airlam(command, "--help")
    assert result.code == 0 and f"usage: airlam {command}" in result.out


def test_fit_explains_itself(airlam):
    result = airlam("fit", "--help")
    assert result.code == 0 and "--data.num_train" in result.out and "--ckpt_path" in result.out


def test_evaluate_lists_the_arguments_of_a_benchmark(airlam):
    result = airlam("evaluate", "--config", "tasks/channel_prediction/benchmark.yaml", "--help")
    assert result.code == 0, result.err
    text = " ".join(result.out.split())
    assert (
        "--sizes.num_links int" in text
        and "--cells.speeds_kmh" in text
        and "(recipe: " in text
        and "(default: " in text
    )


def test_evaluate_prints_the_resolved_recipe(airlam, refuses, tmp_path):
    benchmark = ("--config", "tasks/channel_prediction/benchmark.yaml")
    result = airlam("evaluate", *benchmark, "--print_config", "--sizes.num_links", 16)
    assert result.code == 0, result.err
    shown = yaml.safe_load(result.out)
    assert shown["init_args"]["sizes"]["num_links"] == 16 and shown["init_args"]["model"] == "airlam-paths"
    (tmp_path / "mine.yaml").write_text(result.out)
    assert airlam("evaluate", "--config", "mine.yaml", "--print_config").out == result.out
    assert "did you mean 'sizes.num_links'" in refuses("evaluate", *benchmark, "--print_config", "--num_link", 7)
