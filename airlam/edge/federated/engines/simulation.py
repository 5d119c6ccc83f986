"""Flower's simulation: the client apps are processes of Ray, one for each core."""

from __future__ import annotations

import os

from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from airlam.edge.federated.client.workshop import Workshop
from airlam.edge.federated.recipe.federation import Federation
from airlam.errors import RecipeError


def simulate(federation: Federation, server: ServerApp, client: ClientApp) -> None:
    """Run the apps of a run to their end, on a Ray of their own or on the one that ``RAY_ADDRESS`` names.

    Raises:
        RecipeError: Ray is not installed.
    """
    try:
        import ray  # noqa: F401
        from flwr.simulation import run_simulation
    except ImportError:
        raise RecipeError("engine simulation needs Ray: pip install 'airlam[federated]'") from None
    backend = {
        "client_resources": {"num_cpus": federation.threads},
        # a Ray of its own, not another program's that runs on this machine and may end before the run does
        "init_args": {"address": os.environ.get("RAY_ADDRESS", "local")},
    }
    run_simulation(server, client, num_supernodes=len(federation.site_specs), backend_config=backend)


class RayWorker:
    """What a Ray worker process keeps from message to message. Ray sends the client app anew with each message, so the
    app cannot keep anything itself; the process belongs to one simulation and ends with it."""

    workshop: Workshop | None = None
    federation: str | None = None


def worker_workshop(federation: str, context: Context) -> Workshop:
    """The workshop of this worker process, made with its first message.

    Args:
        federation: :meth:`Federation.to_json`.
    """
    if RayWorker.workshop is None or RayWorker.federation != federation:
        RayWorker.workshop = Workshop(Federation.from_json(federation))
        RayWorker.federation = federation
    return RayWorker.workshop
