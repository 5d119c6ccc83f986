"""A part of Flower's grid."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid


class NodeSubset(Grid):
    """A grid of which only some nodes are seen: how a strategy is told who takes part in a round."""

    def __init__(self, grid: Grid, node_ids: Iterable[int]):
        self.grid, self.node_ids = grid, list(node_ids)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are seen."""
        return self.node_ids

    def set_run(self, run: Any) -> None:
        """See :class:`flwr.serverapp.Grid`."""
        self.grid.set_run(run)

    @property
    def run(self) -> Any:
        """See :class:`flwr.serverapp.Grid`."""
        return self.grid.run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """See :class:`flwr.serverapp.Grid`."""
        return self.grid.create_message(*args, **kwargs)

    def get_nodes(self) -> Iterable[Any]:
        """See :class:`flwr.serverapp.Grid`."""
        return self.grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See :class:`flwr.serverapp.Grid`."""
        return self.grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See :class:`flwr.serverapp.Grid`."""
        return self.grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """See :class:`flwr.serverapp.Grid`."""
        return self.grid.send_and_receive(messages, timeout=timeout)
