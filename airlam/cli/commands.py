"""``generate``, ``evaluate``, ``federate``, ``plan``, ``demo``, ``export``: arguments in, one call of a room."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airlam.cli import UsageError
from airlam.cli.parsing import Parser, refuse_option
from airlam.recipes import nearest

EXPORT_FORMATS = ("onnx", "litert", "tensorflow")
SITE_NETWORKS = {"airlam-map": "OnnxMap", "airlam-position": "OnnxPosition"}  # type of checkpoint: what runs its graph


def generate(arguments: Sequence[str]) -> None:
    """Makes the links of a data set and writes them to a store."""
    parser = Parser(
        "airlam generate",
        "Make the links of a data set and write them to an HDF5 store: parallel, with progress. Interrupted in any\n"
        "way (Ctrl-C, kill -9, power), it goes on when called again, and the result is the same to the bit.",
        "Any field of the recipe can be changed: --num_train 1000, --seed 7, --channel umi_nlos.\n"
        "Without --out the store goes to the recipe's 'store', or else where 'airlam fit --data' of the same recipe\n"
        "finds it by itself ($AIRLAM_CACHE, by default in ~/.cache/airlam).",
    )
    parser.add_argument("--config", "-c", required=True, metavar="YAML", help="recipe of the data set")
    parser.add_argument("--out", "-o", metavar="FILE", help="the store to write")
    parser.add_argument("--workers", type=int, metavar="N", help="processes, one thread each (default: one per core)")
    parser.add_argument(
        "--ray-address", "--ray_address", metavar="ADDRESS", help="a Ray cluster instead (auto, ray://)"
    )
    parser.add_argument("--no-resume", "--no_resume", action="store_true", help="start again instead of going on")
    parser.add_argument("--overwrite", action="store_true", help="replace a store of another recipe")
    parser.add_argument("--verify", action="store_true", help="read it all back and compare with the checksums")
    known, fields = parser.parse_with_fields(arguments)

    from airlam.data import CSIStore
    from airlam.data import generate as write
    from airlam.data.recipe import read_dataset_recipe

    if known.out == "":
        raise UsageError("--out is empty; name a file")
    recipe = read_dataset_recipe(known.config, **fields)
    out = Path(known.out) if known.out else recipe.store_path
    before = out.stat().st_mtime_ns if out.exists() else None
    write(
        recipe,
        out,
        workers=known.workers,
        ray_address=known.ray_address,
        resume=not known.no_resume,
        overwrite=known.overwrite,
    )
    with CSIStore(out) as store:
        if known.verify:
            store.verify()
            print(f"verified: all {len(store)} links match their checksums")
        kept = before == out.stat().st_mtime_ns
        state = "was there already" if kept else "written"
        size = out.stat().st_size / 1e6
        print(f"{out} {state}: {len(store)} links, {size:,.1f} MB, recipe {store.attrs['recipe_hash']}")
        if kept and not known.verify:
            print("not read back: --verify compares every byte with its checksum")
    if known.out and Path(known.out) != recipe.store_path:
        changes = "".join(f" --data.{name} {shlex.quote(json.dumps(value))}" for name, value in fields.items())
        print(f"use it with: airlam fit --config tasks/... --data {known.config}{changes} --data.store {out}")


def evaluate(arguments: Sequence[str]) -> None:
    """Runs a benchmark and writes its report."""
    parser = Parser(
        "airlam evaluate",
        "Run a benchmark: a model against tuned classics and the limit. Writes results.json, plots and report.html.\n"
        "Interrupted, it goes on with the next unfinished cell when called again.",
        "Any argument of the benchmark can be changed: --model runs/mine/last.ckpt, --cells.speeds_kmh '[30, 60]'.\n"
        "'airlam evaluate --config YAML --help' lists the arguments of that benchmark.",
    )
    parser.add_argument("--config", "-c", required=True, metavar="YAML", help="the benchmark")
    parser.add_argument("--out", "-o", metavar="FOLDER", help="where results go (default: outputs/<task>)")
    parser.add_argument(
        "--paper", metavar="FOLDER", help="also tables as CSV and LaTeX, figures as PDF and SVG, BibTeX, for a paper"
    )
    parser.add_argument("--print_config", "--print-config", action="store_true", help="print the resolved YAML only")
    if config := _config_with_help(arguments):
        from airlam.cli.benchmark_arguments import argument_help

        print(f"{parser.format_help()}\n{argument_help(config)}")
        return
    known, fields = parser.parse_with_fields(arguments)
    if known.print_config:
        from airlam.cli.benchmark_arguments import resolved

        print(resolved(known.config, fields), end="")
        return

    from airlam.evaluation import run
    from airlam.evaluation.report.paper import write_paper
    from airlam.io import results_folder

    with contextlib.nullcontext() if known.paper is None else results_folder(known.paper):  # before hours of work
        report = run(known.config, known.out, **fields)
    print(f"report: {report}")
    if known.paper is not None:
        paper = write_paper(report.parent / "results.json", known.paper)
        counts = f"{len(paper.tables)} tables, {len(paper.figures)} figures, {len(paper.references)} references"
        print(f"paper: {paper.tex} ({counts})")


def _config_with_help(arguments: Sequence[str]) -> str | None:
    """The recipe of a command line that asks for help on it."""
    if not {"--help", "-h"} & set(arguments):
        return None
    parser = Parser("airlam evaluate", "")
    parser.add_argument("--config", "-c")
    rest = [argument for argument in arguments if argument not in ("--help", "-h")]
    return parser.parse_known_args(rest)[0].config


def federate(arguments: Sequence[str]) -> None:
    """Adapts a model at several sites at once, over modelled radio links."""
    parser = Parser(
        "airlam federate",
        "Federated fine-tuning: every site trains on its own channels and sends adapters, never data. Engine: Flower.\n"
        "A round's state is on disk before the next begins; after a kill, --resume goes on.",
        "Any argument of the run can be changed: --rounds 5, --aggregation svd, --strategy fedadam, --lora_rank 8.\n"
        "Needs: pip install 'airlam[federated]'",
    )
    parser.add_argument("--config", "-c", required=True, metavar="YAML", help="the run")
    parser.add_argument("--out", "-o", metavar="FOLDER", help="default: outputs/federated")
    engines = "in_process (default), simulation (Flower on Ray), deployment (Flower's nodes, TLS)"
    parser.add_argument("--engine", "-e", default="in_process", metavar="NAME", help=engines)
    parser.add_argument("--resume", action="store_true", help="go on after the last whole round")
    parser.add_argument("--overwrite", action="store_true", help="forget an earlier run in FOLDER")
    known, fields = parser.parse_with_fields(arguments)
    _need("flwr", "federated")

    from airlam.edge.federated.commands.federate import federate as run

    run(known.config, known.out, engine=known.engine, resume=known.resume, overwrite=known.overwrite, **fields)


def plan(arguments: Sequence[str]) -> None:
    """Decides who does what before a distributed run."""
    kinds = {"federated": _plan_federated, "parallel": _plan_parallel, "serving": _plan_serving}
    if arguments and arguments[0] in ("-h", "--help"):
        print(
            "usage: airlam plan federated --config YAML    mode, split and rank of every site of a federated run\n"
            "       airlam plan parallel --devices YAML    mode and shares of a pool that trains one model together\n"
            "       airlam plan serving --nodes YAML       which nodes run which services of a server\n\n"
            "'airlam plan KIND --help' explains each."
        )
        return
    if not arguments or arguments[0] not in kinds:
        given = f"'{arguments[0]}'" if arguments else "nothing"
        near = nearest(arguments[0], kinds) if arguments else ""
        raise UsageError(
            f"plan what? got {given}{near or ';'} write: airlam plan federated --config YAML, airlam plan parallel "
            "--devices YAML, or airlam plan serving --nodes YAML"
        )
    kinds[arguments[0]](arguments[1:])


def _plan_serving(arguments: Sequence[str]) -> None:
    parser = Parser(
        "airlam plan serving",
        "Which nodes run which services of 'airlam serve', fused where they meet, in how many replicas: the least\n"
        "mean latency within memory, cores and load. Services are timed on this machine, nothing is started. Beside\n"
        "it: other ways to place, and how to start Ray on every node.",
        "--nodes is a YAML of nodes, links and load; tasks/serving/nodes.yaml is one to copy.",
    )
    parser.add_argument("--nodes", "-n", required=True, metavar="YAML", help="nodes, links, requests a second")
    parser.add_argument("--config", "-c", default="tasks/serving/default.yaml", metavar="YAML", help="the server")
    parser.add_argument("--out", "-o", metavar="YAML", help="where to write the server's recipe with the plan")
    known = parser.parse_strictly(arguments)

    from airlam.serving.placement.command import run

    run(known.nodes, known.config, known.out)


def _plan_parallel(arguments: Sequence[str]) -> None:
    parser = Parser(
        "airlam plan parallel",
        "For a pool of unequal devices that trains one model together: who takes part, in which mode or hybrid, with\n"
        "which share of links, layers, tokens or heads, from compute, memory and links. Nothing is trained. Beside\n"
        "it: an equal split over all, the best single device, data parallel; and why a device is left out.",
        "--devices is a YAML of the pool; tasks/pretraining/devices.yaml is one to copy.",
    )
    parser.add_argument("--devices", "-d", required=True, metavar="YAML", help="the pool: devices and their links")
    parser.add_argument("--config", "-c", default="tasks/pretraining/parallel.yaml", metavar="YAML", help="the run")
    parser.add_argument("--out", "-o", metavar="YAML", help="where to write the run with its plan, for airlam parallel")
    parser.add_argument("--goal", default="time", metavar="NAME", help="time (default), energy, or mix of both")
    parser.add_argument("--weight", type=float, metavar="X", help="of time in the mix, 0 to 1 (default: 0.5)")
    modes = "the only one to use: data, sequence, tensor, pipeline, hybrid, looped"
    parser.add_argument("--mode", metavar="NAME", help=modes)
    parser.add_argument("--ranks", type=int, metavar="N", help="how many devices take part (default: as many as help)")
    parser.add_argument("--objective", metavar="NAME", help="plan inputs and modules too: masked, prediction, beams")
    solvers = "exhaustive (default up to 6 devices), large, auto"
    parser.add_argument("--solver", default="auto", metavar="NAME", help=solvers)
    parser.add_argument("--measure", action="store_true", help="measure the layers on this host instead of counting")
    parser.add_argument("--profile", metavar="JSON", help="measure, and keep it there; or read it from there")
    parser.add_argument(
        "--batch_size", "--batch-size", type=int, metavar="N", help="links of a step (default: the data's)"
    )
    known = parser.parse_strictly(arguments)

    from airlam.edge.parallel.planning.command import plan_parallel as run

    run(**vars(known))


def _plan_federated(arguments: Sequence[str]) -> None:
    parser = Parser(
        "airlam plan federated",
        "For each device of a federated run: the whole model or a split one, where it is split, and the rank of its\n"
        "adapters, from its compute, memory and radio. Nothing is trained.",
        "Any argument of the run can be changed: --batch_size 8.",
    )
    parser.add_argument("--config", "-c", required=True, metavar="YAML", help="the run")
    parser.add_argument("--out", "-o", metavar="YAML", help="where to write the run with its plan")
    parser.add_argument("--goal", default="accuracy", metavar="NAME", help="accuracy (default), delay or energy")
    parser.add_argument("--slack", type=float, default=0.1, metavar="X", help="by which the deadline may be exceeded")
    parser.add_argument("--min-rank", "--min_rank", type=int, default=1, metavar="N", help="of any device's adapters")
    known, fields = parser.parse_with_fields(arguments)
    _need("flwr", "federated")

    from airlam.edge.federated.commands.plan import plan as run

    run(known.config, known.out, goal=known.goal, slack=known.slack, min_rank=known.min_rank, **fields)


def _need(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise UsageError(f"{package} is not installed: pip install 'airlam[{extra}]'")


def demo(arguments: Sequence[str]) -> None:
    """The main job on real input."""
    parser = Parser(
        "airlam demo",
        "Generate channels with Sionna, load the shipped checkpoint, adapt it to one site, evaluate it against\n"
        "classics, the un-adapted model and perfect CSI, and write a report; then three sites adapt it together.\n"
        "A few minutes on two cores; --federated false leaves the last part out.",
    )
    parser.add_argument("--out", "-o", metavar="FOLDER", default="outputs/demo", help="default: %(default)s")
    if {"--help", "-h"} & set(arguments):
        from airlam.cli.benchmark_arguments import demo_help

        print(f"{parser.format_help()}\n{demo_help()}")
        return
    known, fields = parser.parse_with_fields(arguments)

    from airlam.evaluation.demo import SiteDemo, run

    federated = fields.pop("federated", True)
    valid = list(inspect.signature(SiteDemo).parameters)
    for name in fields:
        if name not in valid:
            refuse_option(f"--{name}", [f"--{option}" for option in ("out", "federated", *valid)])
    report = run(known.out, **fields)
    if federated:
        _demo_federated(Path(known.out) / "federated")
    print(f"report: {report}")


DEMO_SITES = {
    "street": {"channel": "umi_nlos", "speed_kmh": [3, 60], "device": "phone", "distance_m": 120},
    "highway": {"channel": "uma_los", "speed_kmh": [80, 120], "device": "vehicle", "distance_m": 300},
    "factory": {"channel": "inf_nlos", "speed_kmh": [3, 30], "device": "gateway", "distance_m": 60},
}


def _demo_federated(out: Path) -> None:
    """Three of the eight sites, two short rounds."""
    if importlib.util.find_spec("flwr") is None:
        print("federated fine-tuning is left out: pip install 'airlam[federated]'")
        return
    from airlam.edge.federated.commands.federate import federate as run

    print("\nThree other sites adapt the shipped model together; users report their CSI in quantised form (FDD)")
    sizes: dict[str, Any] = {"rounds": 3, "local_steps": 8, "num_train": 64, "num_val": 16, "num_test": 32}
    run("tasks/channel_prediction/federated.yaml", out, overwrite=True, sites=DEMO_SITES, **sizes)


def export(arguments: Sequence[str]) -> None:
    """Writes a trained model in the format of another runtime."""
    parser = Parser(
        "airlam export",
        "Write a trained model for ONNX Runtime, LiteRT (.tflite), or its network as a SavedModel of TensorFlow. The\n"
        "first two are checkpoints of their own: airlam.load_predictor(FOLDER) and every --model take them. They\n"
        "predict, and cannot be trained. What each format needs: docs/export.md\n"
        "Networks of radio maps and of positions are written for ONNX Runtime alone; OnnxMap(FOLDER) and\n"
        "OnnxPosition(FOLDER) of airlam.models run them.",
        "CHECKPOINT: a shipped checkpoint (airlam-tiny), a folder; of a predictor also a folder of adapters (merged),\n"
        "a Lightning .ckpt.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="what to export")
    parser.add_argument("--format", "-f", default="onnx", metavar="NAME", help="onnx (default), litert, tensorflow")
    parser.add_argument("--out", "-o", required=True, metavar="FOLDER", help="a new or empty folder")
    parser.add_argument("--int8", action="store_true", help="backbone in eight bits: smaller, faster, less accurate")
    known = parser.parse_strictly(arguments)
    if known.format not in EXPORT_FORMATS:
        hint = nearest(known.format, EXPORT_FORMATS) or f"; formats: {', '.join(EXPORT_FORMATS)}"
        raise UsageError(f"unknown format '{known.format}'{hint}")
    if not known.out:
        raise UsageError("--out is empty; name a folder")

    if known.int8 and known.format == "tensorflow":
        raise UsageError("--int8 goes with onnx and litert, not with tensorflow")

    if (kind := _type_of(known.checkpoint)) in SITE_NETWORKS:
        _export_site_network(known, kind)
        return

    from airlam.export import export_litert, export_onnx, export_tensorflow
    from airlam.loading import load_predictor
    from airlam.models import AirlamModel

    model: Any = getattr(load_predictor(known.checkpoint), "model", None)
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    if not isinstance(model, AirlamModel):
        raise UsageError(f"'{known.checkpoint}' has no network that could be exported; name a trained checkpoint")
    if known.format == "tensorflow":
        folder, use = export_tensorflow(model, known.out), f"tf.saved_model.load({str(known.out)!r})"
    else:
        write = export_onnx if known.format == "onnx" else export_litert
        folder = write(model, known.out, int8=known.int8)
        use = f"use it as any checkpoint: airlam.load_predictor({str(folder)!r})"
    _say_written(folder, use)


def _type_of(checkpoint: str) -> str:
    """The type of model that a checkpoint folder states; empty: it is no such folder, or states none."""
    from airlam.errors import CheckpointError
    from airlam.models.checkpoint import read_config
    from airlam.recipes import find_checkpoint

    try:
        return str(read_config(find_checkpoint(checkpoint)).get("model_type", ""))
    except CheckpointError:  # a predictor by another name, or load_predictor says what is wrong
        return ""


def _export_site_network(known: Any, kind: str) -> None:
    """A network of radio maps or of positions."""
    if known.format != "onnx":
        raise UsageError(f"a checkpoint of type '{kind}' is exported to onnx alone, not to {known.format}")
    if known.int8:
        raise UsageError(f"--int8 is for predictors; leave it out for a checkpoint of type '{kind}'")

    from airlam.export import export_onnx
    from airlam.models.checkpoint import load_shipped

    model: Any = load_shipped(known.checkpoint)
    folder = export_onnx(model, known.out)
    _say_written(folder, f"run it: airlam.models.{SITE_NETWORKS[kind]}({str(folder)!r})")


def _say_written(folder: Path, use: str) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    print(f"{folder} written: {size:.1f} MB; {use}")
