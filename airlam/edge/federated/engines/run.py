"""The same run in the engines that need nothing but this machine: in this process, or on Flower's Ray simulation."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

from flwr.app import Context, RecordDict

from airlam.edge.federated.client.app import build_client_app
from airlam.edge.federated.client.workshop import Workshop
from airlam.edge.federated.engines.in_process import SERVER, InProcessGrid
from airlam.edge.federated.learning.sites import Places
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.server.app import build_server_app, serve
from airlam.edge.federated.server.state import State, Watch
from airlam.errors import RecipeError

ENGINES = ("in_process", "simulation")


def run_rounds(
    federation: Federation,
    folder: str | Path | None = None,
    *,
    engine: str = "in_process",
    resume: bool = False,
    watch: Watch | None = None,
    places: Places | None = None,
) -> State:
    """All rounds of a run, in one of the engines that need nothing but this machine.

    Args:
        folder: where the state is kept after each round; None: nowhere.
        engine: ``in_process``, or ``simulation``: Flower's, whose clients are processes of Ray, one for each core.
        resume: go on from the state in ``folder``.
        watch: called with every round's record.
        places: users that are drawn already, to be shared by several runs (engine in_process).

    Raises:
        RecipeError: an engine that does not exist or cannot do this run. StoreError: see
            :func:`airlam.edge.federated.server.app.serve`.
    """
    if engine not in ENGINES:
        raise RecipeError(f"engine is {engine!r}, but must be one of {', '.join(ENGINES)}")
    logging.getLogger("flwr").setLevel(logging.ERROR)
    where = None if folder is None else Path(folder)
    if federation.secure_aggregation:
        if engine != "simulation" or resume:
            raise RecipeError(
                f"secure_aggregation is Flower's SecAgg+, whose devices exchange keys in several stages: {engine!r}"
                f"{' with resume' if resume else ''} would average in the clear; take engine simulation, from the start"
            )
        from airlam.edge.federated.engines.secure import simulate_securely

        return simulate_securely(federation, where, watch)
    kept: list[State] = []
    server = build_server_app(lambda grid: serve(federation, grid, where, resume=resume, watch=watch), kept)
    if engine == "simulation":
        from airlam.edge.federated.engines.simulation import simulate, worker_workshop

        simulate(federation, server, build_client_app(functools.partial(worker_workshop, federation.to_json())))
    else:
        workshop = Workshop(federation, places)
        grid = InProcessGrid(build_client_app(lambda _: workshop), len(federation.site_specs))
        context = Context(run_id=1, node_id=SERVER, node_config={}, state=RecordDict(), run_config={})
        with grid.identity():
            server(grid, context)
    if not kept:
        raise RuntimeError("the run ended without a result; the engine's own messages say why")
    return kept[0]
