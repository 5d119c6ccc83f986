"""The server's side, the same code in every engine: rounds, with a state on disk after each."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from safetensors import safe_open
from safetensors.numpy import save_file

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.federation import Federation
from airlam.edge.federated.learner import Learner, learner_for
from airlam.edge.federated.messages import from_record, to_record
from airlam.edge.federated.rounds import Roster, RoundRecord
from airlam.edge.federated.split_server import SplitSupervisor
from airlam.edge.federated.strategies import Supervisor, make_strategy, problem_of
from airlam.interfaces import StoreError
from airlam.io import replacing, write_text

STATE = "state.safetensors"
FAILURE = "failure.txt"
Watch = Callable[[RoundRecord], None]


@dataclass
class State:
    """A run between two rounds: weights, what the strategy remembers, the record of every round (0: before any)."""

    arrays: Arrays
    memory: Arrays = field(default_factory=dict)
    rounds: list[RoundRecord] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Rounds done."""
        return self.rounds[-1].number if self.rounds else 0

    def save(self, folder: Path, federation: Federation) -> None:
        """Into one file, atomically: whoever is killed finds the round before or this one, whole."""
        tensors = {f"weight:{k}": v for k, v in self.arrays.items()} | {
            f"memory:{k}": v for k, v in self.memory.items()
        }
        about = {"federation": federation.to_json(), "rounds": json.dumps([r.to_dict() for r in self.rounds])}
        with replacing(folder / STATE) as work:
            save_file(tensors, work, metadata=about)

    @classmethod
    def load(cls, folder: Path, federation: Federation) -> State:
        """The state of this very run.

        Raises:
            StoreError: of another run (the first argument that differs is named), of something else, or damaged.
        """
        path = folder / STATE
        try:
            with safe_open(path, "np") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            if not {"federation", "rounds"} <= set(about):
                raise StoreError(f"{path} is no state of a federated run; use another folder with --out")
            theirs, rounds = dict(json.loads(about["federation"])), list(json.loads(about["rounds"]))
            records = [RoundRecord.from_dict(r) for r in rounds]
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(
                f"{path} is damaged ({str(error).splitlines()[0]}); start again with --overwrite"
            ) from None
        mine = json.loads(federation.to_json())
        changed = [k for k in mine if mine[k] != theirs.get(k) and k not in ("threads", "rounds")]
        if list(mine["sites"]) != list(theirs.get("sites", {})):  # their order numbers them
            changed.append("sites")
        if changed:
            name = changed[0]
            raise StoreError(
                f"{path} is of another run: {name} was {theirs.get(name)!r}, now it is {mine[name]!r}; use another "
                "folder with --out, or --overwrite"
            )
        return cls(
            {k.removeprefix("weight:"): v for k, v in tensors.items() if k.startswith("weight:")},
            {k.removeprefix("memory:"): v for k, v in tensors.items() if k.startswith("memory:")},
            records,
        )


def claim(folder: Path | None, *, resume: bool) -> None:
    """Make the folder of a run; one that holds another run is refused."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not resume and (folder / STATE).exists():
        raise StoreError(f"{folder} holds a run already; resume it, or take another folder")


def serve(
    federation: Federation, grid: Grid, folder: Path | None, *, resume: bool = False, watch: Watch | None = None,
    keys: Sequence[bytes] = (),
) -> State:  # fmt: skip
    """All rounds of a run.

    Args:
        folder: for the state, made if missing; None: nothing is kept.
        resume: go on from the state in ``folder``, if there is one.
        watch: called with every round's record.
        keys: public key of each site's node (PEM), see :class:`airlam.edge.federated.rounds.Roster`.

    Raises:
        StoreError: ``folder`` holds a run, and it is not to be resumed; or the state is not of this run and model.
    """
    f = federation
    claim(folder, resume=resume)
    torch.set_num_threads(f.threads)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    rank = None if f.lora_rank is None else f.largest_rank
    # with split devices one of its own: in one process, theirs changes between the server's forward and backward pass
    learner = Learner(f, rank) if f.split else learner_for(f, rank)
    state = State(learner.start())
    if resume and folder is not None and (folder / STATE).is_file():
        start, state = state.arrays, State.load(folder, f)
        if why := problem_of(state.arrays, start):
            raise StoreError(f"{folder}/{STATE} does not fit the model ({why}); start again with --overwrite")
    if state.done >= f.rounds:
        return state
    inner = make_strategy(f)
    roster = Roster(f, learner.shapes, keys)
    roster.gather(grid)
    for record in state.rounds:
        roster.seen.update(dict.fromkeys(record.chosen, record.number))
    if f.split:
        supervisor: Supervisor = SplitSupervisor(f, inner, roster, learner, state.done)
    else:
        supervisor = Supervisor(f, inner, roster, state.done)
    supervisor.recall(state.memory)
    resumed = state.done

    def after(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        if server_round == 0:
            if not state.rounds:  # how good what they start from is
                looks = supervisor.configure_evaluate(0, arrays, ConfigRecord({}), grid)
                supervisor.aggregate_evaluate(0, grid.send_and_receive(looks, timeout=3600))
                state.rounds.append(supervisor.record)
                if watch:
                    watch(supervisor.record)
            return None
        state.arrays, state.memory = from_record(arrays), supervisor.memory()
        state.rounds.append(supervisor.finish(server_round))
        if folder is not None:
            state.save(folder, f)
        if watch:
            watch(supervisor.record)
        return None

    supervisor.start(grid, to_record(state.arrays), num_rounds=f.rounds - resumed, evaluate_fn=after)
    return state


def build_server_app(
    federation: str | None = None, folder: str | None = None, *, resume: bool = False, watch: Watch | None = None,
    keep: list[State] | None = None,
) -> ServerApp:  # fmt: skip
    """The server app of a run.

    Args:
        federation: :meth:`Federation.to_json`; None: it, ``folder``, ``resume`` and ``site-keys`` come with the run's
            configuration (deployment).
        keep: the final state is put in there, where server and caller share a process.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        told = context.run_config
        f = Federation.from_json(federation or str(told["federation"]))
        where = folder if federation else str(told["folder"])
        path = None if where is None else Path(where)
        try:
            again = resume or bool(told.get("resume", False))
            keys = [str(key).encode() for key in json.loads(str(told.get("site-keys") or "[]"))]
            state = serve(f, grid, path, resume=again, watch=watch, keys=keys)
        except Exception:
            if federation is None and path is not None:  # nobody sees what a deployed server app prints
                write_text(path / FAILURE, traceback.format_exc())
            raise
        if keep is not None:
            keep.append(state)

    return app
