"""``airlam plan parallel``: the shipped pool, what is written, what is refused."""

from __future__ import annotations

import pytest
import yaml

from airlam.edge.parallel.recipe import parallel_recipe

DEVICES = "tasks/pretraining/devices.yaml"
POOL = """
devices: {a: {profile: phone, memory_bytes: %s}, b: vehicle}
links: {rate: 1.0e+9%s}
"""


@pytest.fixture
def run(tmp_path):
    """A small run."""
    path = tmp_path / "run.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "class_path": "airlam.edge.parallel.ParallelTraining",
                "init_args": {
                    "task": {
                        "class_path": "airlam.tasks.Pretraining",
                        "init_args": {"model": {"num_tokens": 16, "num_groups": 4}},
                    },
                    "data": "datasets/tiny.yaml",
                },
            }
        )
    )
    return path


def test_a_plan_is_printed_beside_simpler_ones_and_written_as_a_run(airlam, tmp_path, run):
    out = tmp_path / "plan.yaml"
    arguments = ("--devices", DEVICES, "--config", run, "--mode", "data", "--objective", "masked", "--ranks", "2")
    printed = " ".join(airlam("plan", "parallel", *arguments, "--out", out).out.split())
    for words in ("equal split over all", "best single device", "data parallel over all", "takes no part"):
        assert words in printed
    assert "the same plan blind to inputs" in printed
    made = parallel_recipe(out)
    assert made.nproc == 2 and len(made.devices) == 2
    assert set(made.devices) <= set(made.replanning.pool["devices"])
    airlam("plan", "parallel", *arguments, "--out", out)  # a plan may be replaced, another file not


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--devices", DEVICES, "--goal", "tim"], "did you mean 'time'"),
        (["--devices", DEVICES, "--mode", "pipe"], "did you mean 'pipeline'"),
        (["--devices", DEVICES, "--objective", "beam"], "did you mean 'beams'"),
        (["--devices", DEVICES, "--objective", "prediction", "--out", "new.yaml"], "adapts modules, but the run"),
        (["--devices", DEVICES, "--batch_size", "0"], "batch_size is 0"),
        (["--devices", DEVICES, "--weight", "0.2"], "weight belongs to goal mix"),
        (["--devices", DEVICES, "--rank", "3"], "did you mean '--ranks'"),
        (["--devices", DEVICES, "--mode", "pipeline", "--ranks", "5"], "no cut fits 5 ranks"),
        (["--devices", DEVICES, "--out", "."], "is no plan"),
        (["--devices", "{tiny}"], "lacks"),
        (["--devices", "{link}"], "'c', which is no device"),
        ([], "--devices"),
    ],
)
def test_mistakes_are_one_line(refuses, tmp_path, run, arguments, words):
    files = {"tiny": POOL % ("1.0e+5", ""), "link": POOL % ("1.0e+9", ", between: [{devices: [a, c], rate: 1}]")}
    files["tiny"] = files["tiny"].replace("b: vehicle", "b: {profile: phone, memory_bytes: 1.0e+5}")
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    named = {name: str(tmp_path / f"{name}.yaml") for name in files}
    given = [one.format(**named) for one in arguments]
    assert words in refuses("plan", "parallel", "--config", run, *given)


def test_plan_what(refuses):
    assert "did you mean 'parallel'" in refuses("plan", "parallels")
