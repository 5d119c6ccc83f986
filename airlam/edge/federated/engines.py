"""The same run in three engines of Flower's: in this process, on its Ray simulation, on deployed nodes."""

from __future__ import annotations

import logging
import os
from pathlib import Path

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")  # before Flower is imported: nothing is reported to anyone

from flwr.app import Context, RecordDict  # noqa: E402

from airlam.edge.federated.client_app import build_client_app  # noqa: E402
from airlam.edge.federated.federation import Federation  # noqa: E402
from airlam.edge.federated.grids import SERVER, InProcessGrid  # noqa: E402
from airlam.edge.federated.server_app import State, Watch, build_server_app  # noqa: E402
from airlam.interfaces import RecipeError  # noqa: E402

ENGINES = ("in_process", "simulation")


def run_rounds(
    federation: Federation,
    folder: str | Path | None = None,
    *,
    engine: str = "in_process",
    resume: bool = False,
    watch: Watch | None = None,
) -> State:
    """All rounds of a run, in one of the engines that need nothing but this machine.

    Args:
        folder: where the state is kept after each round; None: nowhere.
        engine: ``in_process``, or ``simulation``: Flower's, whose clients are processes of Ray, one for each core.
        resume: go on from the state in ``folder``.
        watch: called with every round's record.
    """
    text, where = federation.to_json(), None if folder is None else str(folder)
    if engine not in ENGINES:
        raise RecipeError(f"engine is {engine!r}, but must be one of {', '.join(ENGINES)}")
    logging.getLogger("flwr").setLevel(logging.ERROR)
    kept: list[State] = []
    if federation.secure_aggregation:
        if engine != "simulation" or resume:
            raise RecipeError(
                f"secure_aggregation is Flower's SecAgg+, whose devices exchange keys in several stages: {engine!r}"
                f"{' with resume' if resume else ''} would average in the clear; take engine simulation, from the start"
            )
        from airlam.edge.federated.secure import build_secure_client_app, build_secure_server_app

        server, client = build_secure_server_app(text, where, watch, kept), build_secure_client_app(text)
    else:
        server = build_server_app(text, where, resume=resume, watch=watch, keep=kept)
        client = build_client_app(text)
    if engine == "in_process":
        grid = InProcessGrid(client, len(federation.sites))
        context = Context(run_id=1, node_id=SERVER, node_config={}, state=RecordDict(), run_config={})
        with grid.identity():
            server(grid, context)
        return kept[0]
    try:
        import ray  # noqa: F401
        from flwr.simulation import run_simulation
    except ImportError:
        raise RecipeError("engine simulation needs Ray: pip install 'airlam[federated]'") from None
    resources = {"client_resources": {"num_cpus": federation.threads}}
    run_simulation(server, client, num_supernodes=len(federation.sites), backend_config=resources)
    if not kept:
        raise RuntimeError("the simulation ended without a result; its own messages say why")
    return kept[0]
