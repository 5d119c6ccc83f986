"""Training shared out over ranks equals training in one process: gradients, losses, weights, bytes, in every mode.

The reference is a plain model, autograd and torch's optimiser (``alone`` in conftest.py), from the same checkpoint.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from airlam.edge.parallel.cost_model.volume import (
    Volume,
    data_volume,
    hybrid_volume,
    looped_volume,
    pipeline_volume,
    sequence_volume,
    sharded_volume,
    tensor_volume,
)
from airlam.edge.parallel.layout import Mesh
from airlam.edge.parallel.recipe import ParallelTraining, Shares
from airlam.edge.parallel.shares import share_out
from airlam.models import AirlamConfig, AirlamModel, load_checkpoint
from airlam.models.fresh import empty_model
from airlam.models.layers import layers_of
from airlam.recipes import find_checkpoint

STEPS = 10  # of the longest comparison
LINKS = 8  # of a batch
SHARE = {"data": [3, 1], "sequence": [3, 1], "tensor": [3, 1], "pipeline": [1, 3]}


@dataclass(frozen=True)
class Case:
    """A run on ranks. ``run`` are arguments of ParallelTraining; the defaults are those of a comparison."""

    name: str
    model: str = "own"
    objective: str = "pretraining"
    steps: int = STEPS
    precision: str = "64-true"
    optimiser: str = "sgd"
    clip: float | None = None
    loops: int = 1
    run: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def reference(self) -> dict[str, Any]:
        """The arguments of the same run in one process."""
        names = ("model", "objective", "precision", "optimiser", "clip", "loops", "steps")
        return {name: getattr(self, name) for name in names}


def case(name: str, mode: str, nproc: int = 2, **given: Any) -> Case:
    """A case; words of its name say what is not equal: unequal shares of all dimensions that have two ranks."""
    facts = {key: given.pop(key) for key in list(given) if key in Case.__dataclass_fields__}
    if mode == "looped":
        given["loops"] = facts.setdefault("loops", 1)
    run = {"mode": mode, "nproc": nproc, "micro_batches": 2, **given}
    if "unequal" in name:
        sizes = given["mesh"] if mode == "hybrid" else {"tensor" if mode == "looped" else mode: nproc}
        run["shares"] = {dim: SHARE[dim] for dim, size in sizes.items() if size == 2}
    return Case(name, run=run, **facts)


TWO = [
    case("data unequal", "data"),
    case("sharded unequal", "data", shard=True),
    case("sequence unequal", "sequence"),
    case("tensor unequal", "tensor"),
    case("pipeline unequal", "pipeline", micro_batches=4),
    case("pipeline gpipe", "pipeline", schedule="gpipe"),
    case("looped twice unequal", "looped", loops=2),
    case("llama sequence unequal", "sequence", model="llama", steps=2),
    case("llama tensor unequal", "tensor", model="llama", steps=2),
    case("bert tensor", "tensor", model="bert", steps=2),
    case("gpt2 pipeline unequal", "pipeline", model="gpt2", steps=2),
    case("gpt2 tensor", "tensor", model="gpt2", steps=2),
    case("prediction data unequal", "data", objective="prediction", steps=2, optimiser="adamw", clip=0.5),
    case("single precision tensor unequal", "tensor", precision="32-true"),
]
SIMPLE: dict[str, dict[str, Any]] = {
    "data": {"mode": "data"},
    "sharded": {"mode": "data", "shard": True},
    "sequence": {"mode": "sequence"},
    "tensor": {"mode": "tensor"},
    "pipeline": {"mode": "pipeline", "micro_batches": 4},
    "looped": {"mode": "looped", "loops": 1},
}
MORE = [
    *(case(name, **kind) for name, kind in SIMPLE.items()),
    *(case(f"single precision {name}", **kind, precision="32-true") for name, kind in SIMPLE.items()),
    *(case(f"single precision {n} unequal", **k, precision="32-true") for n, k in SIMPLE.items() if n != "tensor"),
    *(case(f"adamw {n} unequal", **k, optimiser="adamw", clip=0.5, steps=3) for n, k in SIMPLE.items()),
    *(
        case(f"adamw single precision {n} unequal", **k, optimiser="adamw", clip=0.5, steps=1, precision="32-true")
        for n, k in SIMPLE.items()
    ),
    *(case(f"prediction {n} unequal", **k, objective="prediction", steps=3) for n, k in SIMPLE.items() if n != "data"),
    *(
        case(f"{model} {name}", **kind, model=model, steps=3)
        for model in ("bert", "llama", "gpt2")
        for name, kind in SIMPLE.items()
        if name not in ("looped", "tensor") or model == "llama"
    ),
    case("bert tensor unequal", "tensor", model="bert", steps=3),
    case("sensors data unequal", "data", model="sensors", objective="prediction", steps=3),
    case("sensors sharded", "data", shard=True, model="sensors", objective="prediction", precision="32-true", steps=3),
    case("data looped twice", "data", loops=2, steps=3),
    case("sequence looped twice unequal", "sequence", loops=2, steps=3),
    case("shipped tensor", "tensor", model="airlam-tiny", precision="32-true", steps=2),
    case("shipped pipeline", "pipeline", model="airlam-tiny", precision="32-true", steps=2),
]
MESHES = [
    {"data": 2, "tensor": 2},
    {"data": 2, "pipeline": 2},
    {"data": 2, "sequence": 2},
    {"pipeline": 2, "tensor": 2},
    {"sequence": 2, "tensor": 2},
]
FOUR = [
    *(case(f"four {name}", **kind, nproc=4) for name, kind in SIMPLE.items()),
    case("four pipeline gpipe", "pipeline", 4, schedule="gpipe", micro_batches=8, steps=3),
    *(case(f"{'-'.join(mesh)} unequal", "hybrid", 4, mesh=mesh) for mesh in MESHES),
    *(case(f"{'-'.join(mesh)} single precision", "hybrid", 4, mesh=mesh, precision="32-true") for mesh in MESHES),
    *(case(f"llama {'-'.join(mesh)} unequal", "hybrid", 4, mesh=mesh, model="llama", steps=2) for mesh in MESHES),
    *(
        case(f"adamw {'-'.join(mesh)} unequal", "hybrid", 4, mesh=mesh, optimiser="adamw", clip=0.5, steps=3)
        for mesh in MESHES
    ),
    *(case(f"four single precision {name}", **kind, nproc=4, precision="32-true") for name, kind in SIMPLE.items()),
]
GROUPS = {"two": (2, TWO), "more": (2, MORE), "four": (4, FOUR)}
REFUSED = ("gpt2 tensor",)
EVERY = [
    pytest.param(group, c, id=c.name.replace(" ", "-"), marks=[] if group == "two" else pytest.mark.slow)
    for group, (_, cases) in GROUPS.items()
    for c in cases
    if c.name not in REFUSED
]


@pytest.fixture(scope="module")
def run_of(arguments):
    """``run_of(case)``: the run of a case."""

    @functools.cache
    def made(c: Case) -> ParallelTraining:
        facts = {name: getattr(c, name) for name in ("model", "objective", "precision", "optimiser", "clip", "loops")}
        more = {key: value for key, value in c.run.items() if key not in ("mesh", "shares", "loops")}
        given = arguments(**facts, **more)
        mesh = Mesh(**c.run["mesh"]) if "mesh" in c.run else None
        return ParallelTraining(**given, mesh=mesh, shares=Shares(**c.run.get("shares", {})))

    return made


@pytest.fixture(scope="module")
def trained(run_of, on_ranks, tmp_path_factory):
    """``trained(group)``: what the ranks wrote, case -> dictionary or error; one launch for each group."""

    @functools.cache
    def launch(group: str) -> dict[str, Any]:
        world, cases = GROUPS[group]
        listed = [
            {"name": c.name, "run": run_of(c).to_dict(), "steps": c.steps, "fails": c.name in REFUSED} for c in cases
        ]
        return on_ranks(tmp_path_factory.mktemp(group), [{"world": world, "cases": listed}])

    return launch


def error(found: dict[str, torch.Tensor], true: dict[str, torch.Tensor]) -> float:
    """The largest error of any tensor relative to its largest entry, which counts as at least 1e-3 of the largest.

    Adding the same to all keys changes no attention, so a key's bias has no gradient but rounding: its largest entry is
    nothing to compare with, and that of all tensors stands in.
    """
    assert found.keys() == true.keys()
    largest = max(float(value.abs().max()) for value in true.values())

    def scale(name: str) -> float:
        nothing = name.endswith("key.bias") and float(true[name].abs().max()) < 1e-6 * largest
        return largest if nothing else max(float(true[name].abs().max()), 1e-3 * largest)

    return max(float((found[name] - value).abs().max()) / scale(name) for name, value in true.items())


def tolerance(c: Case) -> float:
    return 1e-10 if c.precision == "64-true" else 1e-5


@pytest.mark.parametrize(("group", "c"), EVERY)
def test_gradients_are_those_of_one_process(group, c, trained, alone):
    there, here = trained(group)[c.name], alone(**c.reference)
    assert len(there["grads"]) == len(here.grads)
    for step, true in enumerate(here.grads):
        # 32-true: after the first step weights differ by rounding already, and gradients by what follows from it
        bound = tolerance(c) * (5 if step and c.precision == "32-true" else 1)
        assert error(there["grads"][step], true) < bound, step


@pytest.mark.parametrize(("group", "c"), EVERY)
def test_losses_norms_and_weights_are_those_of_one_process(group, c, trained, alone):
    there, here = trained(group)[c.name], alone(**c.reference)
    bound = tolerance(c) if c.optimiser == "sgd" or c.precision == "64-true" else 1e-4
    for rank in there["ranks"]:
        assert [r["loss"] for r in rank["records"]] == pytest.approx(here.losses, rel=bound, abs=bound)
        assert [r["norm"] for r in rank["records"]] == pytest.approx(here.norms, rel=bound)
    if c.optimiser == "sgd":
        assert error(there["weights"], here.weights[-1]) < bound
        assert error(there["after_one"], here.weights[1]) < bound


@pytest.mark.parametrize(("group", "c"), EVERY)
def test_bytes_are_those_of_the_closed_form(group, c, trained, alone, run_of):
    there, tokens = trained(group)[c.name], alone(**c.reference).tokens
    run = run_of(c)
    for number, rank in enumerate(there["ranks"]):
        for record, count in zip(rank["records"], tokens, strict=True):
            assert record["bytes"] == volume_of(run, c, number, rank, count), (number, record["step"])


def volume_of(run: ParallelTraining, c: Case, number: int, rank: dict[str, Any], tokens: int) -> Volume:
    """Bytes that a rank hands to its collectives in a step."""
    config = AirlamConfig(**load_config(run.checkpoint))
    model = empty_model(config)
    backbone, at, sizes = config.backbone, run.ranks.place(number), run.ranks.sizes
    width = model.backbone.config.hidden_size

    def parts(dim: str, count: int) -> list[int]:
        return share_out(count, getattr(run.shares, dim) or [1] * sizes[dim])

    links = parts("data", LINKS)[at["data"]]
    heads = backbone.get("num_key_value_heads") or model.backbone.config.num_attention_heads
    own = parts("tensor", heads)[at["tensor"]] if sizes["tensor"] > 1 else heads
    here = {
        "links": links,
        "width": width,
        "layers": (rank["layers"][1] - rank["layers"][0]) * c.loops,
        "key_width": own * width // model.backbone.config.num_attention_heads,
        "parameters": rank["numel"],
    }

    def given(*names: str) -> dict[str, Any]:
        return {name: here[name] for name in names}

    if run.shard:
        found = sharded_volume(**groups_of(model), ranks=run.nproc)
    elif run.mode == "data":
        found = data_volume(parameters=rank["numel"], ranks=run.nproc)
    elif run.mode == "sequence":
        shares = parts("sequence", tokens)
        found = sequence_volume(**given("links", "key_width", "layers", "parameters"), tokens=shares)
    elif run.mode == "tensor":
        found = tensor_volume(**given("links", "width", "layers"), tokens=tokens, ranks=run.nproc)
    elif run.mode == "looped":
        found = looped_volume(**given("links", "width"), loops=here["layers"], tokens=tokens, ranks=run.nproc)
    elif run.mode == "pipeline":
        cut = {"stage": at["pipeline"], "stages": run.nproc}
        found = pipeline_volume(**given("links", "width"), tokens=tokens, **cut)
    else:
        found = hybrid_volume(
            **here,
            tokens=parts("sequence", tokens),
            place=at["sequence"],
            data=sizes["data"],
            tensor=sizes["tensor"],
            stage=at["pipeline"],
            stages=sizes["pipeline"],
        )
    wide = 2 if c.precision == "64-true" else 1
    return Volume({kind: count * (wide if kind != "control" else 1) for kind, count in found.items()})


@functools.cache
def load_config(checkpoint: str) -> dict[str, Any]:
    """Arguments of a checkpoint's configuration."""
    config = load_checkpoint(find_checkpoint(checkpoint)).config
    return {name: getattr(config, name) for name in inspect.signature(AirlamConfig).parameters if name != "kwargs"}


def groups_of(model: AirlamModel) -> dict[str, Any]:
    """Shapes of what FSDP2 gathers at once: the root's, then each layer's; and of what is not trained."""
    rows = layers_of(model.backbone)
    inside = {id(p) for p in rows.parameters()}
    tracked = {id(p) for p in model.tracker.parameters()} if model.tracker is not None else set()
    rest = [p for p in model.parameters() if id(p) not in inside | tracked]
    root = [tuple(p.shape) for p in rest if p.requires_grad]
    return {
        "groups": [root, *([tuple(p.shape) for p in row.parameters()] for row in rows)],
        "frozen": [tuple(p.shape) for p in rest if not p.requires_grad],
    }


@pytest.mark.parametrize(("group", "c"), EVERY)
def test_every_link_counts_once(group, c, trained, run_of):
    ranks, mesh = trained(group)[c.name]["ranks"], run_of(c).ranks
    share = run_of(c).shares.data or [1] * mesh.data
    wanted = share_out(LINKS, share)
    for step in range(c.steps):
        counted: dict[int, set[int]] = {}
        for number, rank in enumerate(ranks):
            at = mesh.place(number)
            if at["pipeline"] in (0, mesh.pipeline - 1):  # stages between them see no links
                counted.setdefault(at["data"], set()).add(rank["records"][step]["links"])
            else:
                assert rank["records"][step]["links"] == 0
        assert [counted[index] for index in range(mesh.data)] == [{count} for count in wanted]
    assert sum(wanted) == LINKS


@pytest.mark.parametrize(
    ("group", "c"), [p for p in EVERY if p.values[1].optimiser == "adamw"], ids=lambda v: getattr(v, "name", v)
)
def test_first_step_of_adamw(group, c, trained, alone):
    # The first step of AdamW goes by rate * g / (|g| + 1e-8), almost the sign of g, whatever its size: rounding of a
    # gradient near zero turns the step around. So it is compared where g exceeds its own error by far, and elsewhere it
    # must not go farther than a step can.
    there, here = trained(group)[c.name], alone(**c.reference)
    rate = there["ranks"][0]["records"][0]["rate"]
    largest = max(float(g.abs().max()) for g in here.grads[0].values())
    sure = 1e-8 if c.precision == "64-true" else 1e-3
    moved = 0
    for name, gradient in here.grads[0].items():
        difference = (there["after_one"][name] - here.weights[1][name]).abs()
        clear = gradient.abs() > sure * largest
        # 32-true: a rounding of weights near 1 is 1e-7
        assert float(difference[clear].amax() if bool(clear.any()) else 0.0) < rate * (
            1e-5 if c.precision == "64-true" else 1e-2
        )
        assert float(difference.max()) <= 2.2 * rate
        moved += int(((here.weights[1][name] - here.weights[0][name]).abs() > 0.5 * rate).sum())
    assert moved > 0.5 * sum(g.numel() for g in here.grads[0].values())


@pytest.mark.parametrize("model", ["own", "bert", "llama", "gpt2"])
def test_the_comparison_would_notice(model, alone):
    here = alone(model=model)
    assert here.masked[0] != here.masked[1], "a forecast and hidden samples, both with gradients"
    assert 2 <= sum(here.masked) <= STEPS - 2
    for grads in here.grads:
        largest = max(float(value.abs().max()) for value in grads.values())
        faint = [name for name, g in grads.items() if float(g.abs().max()) < 1e-4 * largest]
        # adding the same to all keys changes no attention: such a bias has no gradient but rounding
        assert not [name for name in faint if not name.endswith("key.bias")]
    moved = {n: float((w - here.weights[0][n]).abs().max() / w.abs().max()) for n, w in here.weights[-1].items()}
    assert all(moved[name] > 1e-4 for name in here.grads[0] if not name.endswith("key.bias"))
    assert abs(here.losses[-1] - here.losses[0]) > 0.01


def test_gpt2_has_no_tensor_parallel_style(trained):
    message = trained("two")["gpt2 tensor"]
    assert message.startswith("RecipeError") and "gpt2" in message and "Modes data, sequence and pipeline" in message
