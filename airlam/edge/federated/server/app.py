"""The server's side, the same code in every engine: all rounds of a run, with a state on disk after each."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from airlam.edge.federated.learning.learner import Learner
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.server.roster import Roster
from airlam.edge.federated.server.state import FAILURE, STATE, State, Watch
from airlam.edge.federated.server.supervisor import Supervisor
from airlam.edge.federated.server.updates import problem_of
from airlam.errors import StoreError
from airlam.io import write_text


def serve(
    federation: Federation,
    grid: Grid,
    folder: Path | None,
    *,
    resume: bool = False,
    watch: Watch | None = None,
    keys: Sequence[bytes] = (),
) -> State:
    """All rounds of a run.

    Args:
        folder: for the state, made if missing; None: nothing is kept.
        resume: go on from the state in ``folder``, if there is one.
        watch: called with every round's record.
        keys: public key of each site's node (PEM), see :class:`airlam.edge.federated.server.roster.Roster`.

    Raises:
        StoreError: ``folder`` holds a run, and it is not to be resumed; or the state is not of this run and model.
    """
    f = federation
    make_folder(folder, resume=resume)
    torch.set_num_threads(f.threads)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    learner = Learner(f, None if f.lora_rank is None else f.largest_rank)
    state = State(learner.start())
    if resume and folder is not None and (folder / STATE).is_file():
        start, state = state.arrays, State.load(folder, f)
        if why := problem_of(state.arrays, start):
            raise StoreError(f"{folder}/{STATE} does not fit the model ({why}); start again with --overwrite")
    if state.done >= f.rounds:
        return state
    roster = Roster(f, keys)
    roster.gather(grid)
    supervisor = Supervisor(f, grid, roster, learner)
    supervisor.planner.note(state.rounds)
    f.server_strategy.recall(supervisor.strategy, state.memory)

    if not state.rounds:  # how good the start is
        supervisor.validate(0, state.arrays)
        state.rounds.append(supervisor.record)
        if watch:
            watch(supervisor.record)
    for number in range(state.done + 1, f.rounds + 1):
        state.arrays = supervisor.train(number, state.arrays)
        supervisor.validate(number, state.arrays)
        state.memory = f.server_strategy.memory(supervisor.strategy)
        state.rounds.append(supervisor.finish(number))
        if folder is not None:
            state.save(folder, f)
        if watch:
            watch(supervisor.record)
    return state


def make_folder(folder: Path | None, *, resume: bool) -> None:
    """Make the folder of a run.

    Raises:
        StoreError: it holds a run, and it is not to be resumed.
    """
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not resume and (folder / STATE).exists():
        raise StoreError(f"{folder} holds a run already; resume it, or take another folder")


def build_server_app(run: Callable[[Grid], State], keep: list[State]) -> ServerApp:
    """The server app of a run whose caller is in the same process.

    Args:
        run: :func:`serve` with all but the grid. keep: the final state is appended.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        keep.append(run(grid))

    return app


def build_deployed_server_app() -> ServerApp:
    """The server app of a deployed run: ``federation``, ``folder``, ``resume`` and ``site-keys`` come with the run's
    configuration, and an error is written to a file in the folder."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        told = context.run_config
        folder = Path(str(told["folder"]))
        try:
            federation = Federation.from_json(str(told["federation"]))
            keys = [str(key).encode() for key in json.loads(str(told.get("site-keys") or "[]"))]
            serve(federation, grid, folder, resume=bool(told.get("resume", False)), keys=keys)
        except Exception:
            write_text(folder / FAILURE, traceback.format_exc())  # nobody sees what a deployed server app prints
            raise

    return app
