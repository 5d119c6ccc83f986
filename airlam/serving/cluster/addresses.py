"""Where the replicas of the ingress listen. Leans on an interface of Ray Serve's controller that is not public."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from airlam.serving.listening import Listen, is_loopback


async def direct_addresses(app: str, listen: Listen) -> list[str]:
    """The address of every replica of an application that takes requests by itself.

    Args:
        app: name of the application. listen: where it listens.
    """
    controller = await asyncio.to_thread(_kept_controller)
    return _urls(await asyncio.wrap_future(controller.get_target_groups.remote(app).future()), listen)


def direct_addresses_now(app: str, listen: Listen) -> list[str]:
    """As :func:`direct_addresses`, for a caller without an event loop."""
    import ray

    return _urls(ray.get(_controller().get_target_groups.remote(app)), listen)


def _controller() -> Any:
    import ray
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    return ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)


# for replicas, which live no longer than their cluster: the lookup asks the head node, which may be gone later
_kept_controller = functools.cache(_controller)


def _urls(groups: list, listen: Listen) -> list[str]:
    """Of the targets for HTTP. Serve names the nodes' addresses, also where replicas listen on loopback alone."""
    from ray.serve._private.common import RequestProtocol

    targets = [target for group in groups if group.protocol == RequestProtocol.HTTP for target in group.targets]
    return [
        f"{listen.scheme}://{listen.host if is_loopback(listen.host) else target.ip}:{target.port}"
        for target in targets
    ]
