"""Secure aggregation: Flower's SecAgg+, in which the server learns the sum of the updates and no update.

The protocol lives in Flower's older API (a workflow on the server, a mod on the client), so a run with
``secure_aggregation`` has apps of its own; training is the same
:class:`~airlam.edge.federated.learning.learner.Learner`. Its clients exchange keys through the server, as those of the
simulation do. The in-process grid would never call the mod's stages and average in the clear, so
:func:`airlam.edge.federated.run_rounds` refuses it there.

Values are clipped to +-8 and quantised to 22 bits: the average is that of the clear to about 4e-6.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Context
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import ndarrays_to_parameters
from flwr.compat.client.numpy_client import NumPyClient
from flwr.server import ServerConfig
from flwr.server.compat import LegacyContext
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.serverapp import Grid, ServerApp

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.client.workshop import Workshop
from airlam.edge.federated.engines.simulation import simulate, worker_workshop
from airlam.edge.federated.learning.learner import Learner
from airlam.edge.federated.learning.optimisers import learning_rate
from airlam.edge.federated.messages import checked_number, shown
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.server.app import make_folder
from airlam.edge.federated.server.record import RoundRecord
from airlam.edge.federated.server.state import State, Watch

SHARES = 0.75  # of the devices that each secret is shared with, and of those that must answer: a quarter may be lost


def simulate_securely(federation: Federation, folder: Path | None, watch: Watch | None) -> State:
    """All rounds of a run with secure aggregation, on Flower's simulation.

    Raises:
        RuntimeError: the simulation ended early; its own messages say why.
    """
    kept: list[State] = []
    server = build_secure_server_app(federation, folder, watch, kept)
    simulate(federation, server, build_secure_client_app(federation.to_json()))
    if not kept:
        raise RuntimeError("the simulation ended without a result; its own messages say why")
    return kept[0]


class SecureClient(NumPyClient):
    """One site, in Flower's older API."""

    def __init__(self, workshop: Workshop, number: int):
        torch.set_num_threads(workshop.federation.threads)
        self.site = workshop.site(number)
        self.number, self.learner = number, workshop.learner(workshop.federation.rank_of(self.site.spec))
        self.names = list(self.learner.start())

    def fit(self, parameters: list[np.ndarray], config: dict[str, Any]) -> tuple[list[np.ndarray], int, dict]:
        """Train; what is returned is masked before it leaves."""
        number = int(config["server-round"])
        self.learner.load(self._arrays(parameters), number)
        rate = float(config["learning-rate"])
        metrics = self.learner.train(self.site, number, learning_rate=rate)
        after = self.learner.arrays()
        return [after[name] for name in self.names], len(self.site.train), {"loss": metrics["loss"]}

    def evaluate(self, parameters: list[np.ndarray], config: dict[str, Any]) -> tuple[float, int, dict]:
        """The validation users' figure."""
        self.learner.load(self._arrays(parameters), int(config["server-round"]) + 1)
        return 0.0, len(self.site.val), {"site": self.number, "figure": self.learner.validate(self.site)}

    def _arrays(self, parameters: list[np.ndarray]) -> Arrays:
        return {n: p.astype(np.float32) for n, p in zip(self.names, parameters, strict=True)}


def build_secure_client_app(federation: str) -> ClientApp:
    """The client app: the mod masks what :class:`SecureClient` returns."""

    def client_fn(context: Context) -> Any:
        return SecureClient(worker_workshop(federation, context), int(context.node_config["partition-id"])).to_client()

    return ClientApp(client_fn=client_fn, mods=[secaggplus_mod])


def build_secure_server_app(f: Federation, folder: Path | None, watch: Watch | None, keep: list[State]) -> ServerApp:
    """The server app: rounds of SecAgg+ with a state after each. Rounds are not priced: only sums are known."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        start = Learner(f, f.largest_rank).start()
        state, names, count = State(start), list(start), len(f.site_specs)
        make_folder(folder, resume=False)

        def noted(number: int, parameters: list[np.ndarray], _: dict) -> None:
            before = state.arrays
            state.arrays = {n: np.asarray(p, np.float32) for n, p in zip(names, parameters, strict=True)}
            moved = any(not np.array_equal(value, before[name]) for name, value in state.arrays.items())
            notes = [] if moved or not number else ["no sum could be formed: the model stays as it was"]
            state.rounds.append(RoundRecord(number, used=None if moved else 0, notes=notes))

        def validated(found: list[tuple[int, dict]]) -> dict:
            record = state.rounds[-1]
            record.figures = {}
            for _, said in found:
                try:
                    number, figure = (checked_number(name, said.get(name)) for name in ("site", "figure"))
                    record.figures[f.site_specs[int(number)].label] = figure
                except (ValueError, IndexError) as error:
                    record.strays.append(shown(f"evaluation: {error}"))
            if folder is not None:
                state.save(folder, f)
            if watch:
                watch(record)
            return {}

        strategy = FedAvg(
            min_fit_clients=count,
            min_evaluate_clients=count,
            min_available_clients=count,
            initial_parameters=ndarrays_to_parameters(list(start.values())),
            evaluate_fn=noted,
            on_fit_config_fn=lambda n: {"server-round": n, "learning-rate": learning_rate(f, n)},
            on_evaluate_config_fn=lambda n: {"server-round": n},
            fit_metrics_aggregation_fn=lambda _: {},
            evaluate_metrics_aggregation_fn=validated,
        )
        legacy = LegacyContext(context=context, config=ServerConfig(num_rounds=f.rounds), strategy=strategy)
        # updates are quantised after they are weighted: a bound far above the weights would cost resolution
        heaviest = float(max(f.users_of(number) for number in range(count)))
        secure = SecAggPlusWorkflow(SHARES, SHARES, max_weight=heaviest)
        DefaultWorkflow(fit_workflow=secure)(grid, legacy)
        keep.append(state)

    return app
