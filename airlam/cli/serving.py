"""``airlam serve``, ``airlam bench-serve``."""

from __future__ import annotations

from collections.abc import Sequence

from airlam.cli.parsing import Parser


def serve(arguments: Sequence[str]) -> None:
    """Runs predictors and precoders as services."""
    parser = Parser(
        "airlam serve",
        "Predictors, precoders and users' streams as services over HTTP, on Ray Serve. Ray is started on this\n"
        "machine, or joined. Listens on loopback; other hosts are served with a token and TLS only.",
        "Any field of the recipe can be changed: --listen.port 9000, --replicas 2, --batching.largest 8.\n"
        "The token: AIRLAM_SERVING_TOKEN, or --listen.token_file FILE. Needs: pip install 'airlam[serving]'",
    )
    parser.add_argument("--config", "-c", default="tasks/serving/default.yaml", metavar="YAML", help="what is served")
    parser.add_argument("--plain", action="store_true", help="one process without Ray and replicas")
    parser.add_argument("--ray-address", "--ray_address", metavar="ADDRESS", help="of a Ray cluster (auto, ray://)")
    known, fields = parser.parse_with_fields(arguments)

    from airlam.serving.command import serve as run

    run(known.config, plain=known.plain, ray_address=known.ray_address, **fields)


def bench_serve(arguments: Sequence[str]) -> None:
    """Measures a server under load."""
    parser = Parser(
        "airlam bench-serve",
        "Load on a server that is started for it: cold and warm latency, throughput, Poisson arrivals, faults,\n"
        "memory, against the model in process. Writes results.json, plots and report.html; finished parts are kept.",
        "Any argument of the benchmark can be changed: --parts '[load]', --load.seconds 20, --users 100.\n"
        "Needs: pip install 'airlam[serving]'",
    )
    parser.add_argument("--config", "-c", default="tasks/serving/benchmark.yaml", metavar="YAML", help="the benchmark")
    parser.add_argument("--out", "-o", metavar="FOLDER", help="where results go (default: outputs/serving)")
    known, fields = parser.parse_with_fields(arguments)

    from airlam.evaluation import run

    print(f"report: {run(known.config, known.out, **fields)}")
