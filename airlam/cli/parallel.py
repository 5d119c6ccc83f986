"""``airlam parallel``: arguments in, one call of :mod:`airlam.edge.parallel.command`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from airlam.cli import UsageError
from airlam.cli.parsing import Parser

FIELDS = ("mode", "nproc", "timeout")  # keys of the recipe with an option of their own


def parallel(arguments: Sequence[str]) -> int:
    """Several processes train all weights of one model together."""
    parser = Parser(
        "airlam parallel",
        "Train all weights of one model with several processes on this machine, each of them too small for it alone.\n"
        "Engine: torch.distributed, with torch's elastic agents. A process that is killed starts again, a device that\n"
        "is lost or stalls is left out, and training goes on from the last durable step. Ctrl-C saves one.\n"
        "Several hosts: docs/deploy-parallel.md.",
        "Any argument of the run can be changed: --steps 500, --shares.data '[3, 1]', --micro_batches 8,\n"
        "--shard true, --mesh '{data: 2, pipeline: 2}', --loops 2, --precision bf16-mixed.\n"
        "All of them: airlam.edge.parallel.ParallelTraining.",
    )
    parser.add_argument("--config", "-c", required=True, metavar="YAML", help="the run")
    parser.add_argument("--out", "-o", metavar="FOLDER", help="default: outputs/parallel")
    modes = "data, sequence, tensor, pipeline, looped, hybrid"
    parser.add_argument("--mode", "-m", metavar="NAME", help=f"{modes} (default: the recipe's)")
    parser.add_argument("--nproc", "-n", type=int, metavar="N", help="processes (default: the recipe's)")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds after which a silent rank is given up")
    parser.add_argument("--master-port", "--master_port", type=int, default=0, metavar="P", help="default: a free one")
    parser.add_argument("--resume", action="store_true", help="go on from the last durable step")
    parser.add_argument("--overwrite", action="store_true", help="forget an earlier run in FOLDER")
    parser.add_argument("--prepare", action="store_true", help="only write FOLDER, for torchrun on several hosts")
    parser.add_argument(
        "--from-lightning", "--from_lightning", metavar="CKPT", help="go on from a .ckpt of 'airlam fit'"
    )
    parser.add_argument(
        "--to-lightning",
        "--to_lightning",
        metavar="CKPT",
        help="do not train: write the newest state in FOLDER as a .ckpt, for 'airlam fit --ckpt_path CKPT'",
    )
    known, fields = parser.parse_with_fields(arguments)
    if known.out == "":
        raise UsageError("--out is empty; name a folder")
    if known.to_lightning is not None:
        return _to_lightning(known.out, known.to_lightning)
    changes = {name: getattr(known, name) for name in FIELDS if getattr(known, name) is not None}

    from airlam.edge.parallel.command import parallel as run

    outcome = run(
        known.config,
        known.out,
        again=resume_command(arguments),
        resume=known.resume,
        overwrite=known.overwrite,
        prepare=known.prepare,
        from_lightning=known.from_lightning,
        port=known.master_port,
        **changes,
        **fields,
    )
    if outcome.line:
        print(f"airlam parallel: {outcome.line}", file=sys.stderr)
    return outcome.code


def _to_lightning(folder: str | None, out: str) -> int:
    from pathlib import Path

    from airlam.edge.parallel.command import OUT
    from airlam.edge.parallel.engine.lightning_states import to_lightning

    written = to_lightning(Path(folder or OUT), Path(out))
    print(f"{written} written; go on with: airlam fit --config ... --ckpt_path {shlex.quote(str(written))}")
    return 0


def resume_command(arguments: Sequence[str]) -> str:
    """The command line that goes on with a run.

    Example:
        >>> resume_command(["--config", "run.yaml", "--overwrite"])
        'airlam parallel --config run.yaml --resume'
        >>> resume_command(["--from-lightning", "a.ckpt", "--config", "run.yaml"])
        'airlam parallel --config run.yaml --resume'
    """
    kept = [argument for argument in arguments if argument not in ("--overwrite", "--resume")]
    for number, argument in enumerate(kept):
        name, equals, _ = argument.partition("=")
        if name in ("--from-lightning", "--from_lightning"):
            del kept[number : number + (1 if equals else 2)]
            break
    return shlex.join(["airlam", "parallel", *kept, "--resume"])
