"""``airlam serve``, ``airlam plan serving``, ``airlam bench-serve``."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
import torch
import yaml

from airlam.cli import main

pytest.importorskip("fastapi", reason="the extra 'serving' is not installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_server_starts_serves_and_ends(tmp_path):
    from airlam.serving import Client

    port = free_port()
    command = [sys.executable, "-P", "-m", "airlam", "serve", "--plain", "--listen.port", str(port)]
    command += ["--predictors", "{ar: {}}", "--precoders", "{}", "--beams", "{}", "--classic", "ar"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert f"serving ar at http://127.0.0.1:{port}" in process.stdout.readline()
        socket.create_connection(("127.0.0.1", port)).close()  # it listens when it says so
        with Client(f"http://127.0.0.1:{port}", model="ar") as client:
            assert client.predict(torch.ones(16, 6, 1, 4, dtype=torch.complex64), 2).shape == (2, 6, 1, 4)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0 and process.stdout.read() == "ended\n"
    finally:
        process.kill()


def test_mistakes_are_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("AIRLAM_SERVING_TOKEN", raising=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, message in (
            (["--listen.port", port], f"cannot listen on 127.0.0.1:{port}"),
            (["--listen.host", "0.0.0.0"], "give a token"),
            (["--config", "tasks/serving/none.yaml"], "none.yaml"),
            (["--replica", "2"], "did you mean 'replicas'"),
            (["--predictors", "{airlam-tini: {}}", "--classic", ""], "airlam-tini"),
        ):
            assert main(["serve", "--plain", *arguments]) == 2
            error = capsys.readouterr().err
            assert message in error and error.count("\n") == 1, error


def test_without_ray_it_says_what_to_install(capsys, monkeypatch):
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "ray" else known(name, *a))
    assert main(["serve"]) == 2
    assert capsys.readouterr().err.strip() == (
        "airlam serve: ray is not installed, which serving needs: pip install 'airlam[serving]'"
    )


def test_plan_serving_writes_a_recipe_that_can_be_served(capsys, tmp_path):
    from airlam.serving.config import ServingConfig

    out = tmp_path / "server.yaml"
    assert main(["plan", "serving", "--nodes", "tasks/serving/nodes.yaml", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "local search" in said and "brute force" in said and "ray start --address" in said
    config = ServingConfig.read(out)
    assert config.node["0"] == "airlam-group-0" and config.groups


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": {}}, "nodes is {}"),
        ({"nodes": {"a": {"course": 2}}}, "no key 'course'; did you mean 'cores'"),
        ({"links": [{"between": ["a", "z"]}]}, "must be two of a, clients"),
        ({"model": "ar"}, "only airlam checkpoints run in stages"),
        ({"per_second": 1e6}, "no placement carries the load"),
        ({"also": {"heads": {}}}, "also has no key 'heads'"),
        ({"also": {"precoding": {"method": "ar"}}}, "ar"),
        ({"services": {"presoding": {"ms": 1}}}, "presoding"),
    ],
)
def test_a_wrong_recipe_of_nodes_is_one_line(change, message, capsys, tmp_path):
    path = tmp_path / "nodes.yaml"
    path.write_text(yaml.safe_dump({"nodes": {"a": {"cores": 1}}, "per_second": 5, **change}))
    assert main(["plan", "serving", "--nodes", str(path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error


@pytest.mark.slow
def test_bench_serve_writes_a_report(tmp_path):
    arguments = ["bench-serve", "--quick", "true", "--parts", "[cold, path, batching, load, shared]"]
    command = [sys.executable, "-P", "-m", "airlam", *arguments, "--out", str(tmp_path)]  # Ray keeps a process's output
    run = subprocess.run(command, capture_output=True, text=True, timeout=570)
    assert run.returncode == 0, run.stderr[-4000:]
    results = json.loads((tmp_path / "results.json").read_text())
    assert {row["group"] for row in results["rows"]} == {"path", "batching", "rate", "rate_with_deadline", "shared"}
    titles = re.findall(r"^## (.*)", (tmp_path / "leaderboard.md").read_text(), flags=re.M)
    assert titles == [
        "Cold and warm",
        "What the path costs",
        "Batching",
        "Open loop",
        "One backbone for several answers",
    ]
    assert {plot.name for plot in (tmp_path / "plots").glob("*.svg")} == {
        "latency_by_path.svg",
        "latency_over_load.svg",
    }
