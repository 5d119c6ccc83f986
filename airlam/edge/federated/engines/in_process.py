"""Flower's grid without processes: each message goes to the client app at once, in this process.

This is the default engine: a run of eight sites starts at once and needs the memory of two models, the server's and the
clients'. The apps are those of Flower's simulation and of its deployment, and give the same numbers there.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity  # private in 1.41: only this file knows of it

SERVER = 1  # node id of the server; clients follow


class InProcessGrid(Grid):
    """See the module's docstring.

    Args:
        client_app: called for every message.
        num_nodes: clients; the ``partition-id`` of each is its number, from 0.

    Example:
        >>> from flwr.app import RecordDict
        >>> app = ClientApp()
        >>> answer = app.query("ping")(lambda message, context: Message(RecordDict(), reply_to=message))
        >>> grid = InProcessGrid(app, 3)
        >>> with grid.identity():
        ...     asked = [Message(RecordDict(), node, "query.ping") for node in grid.get_node_ids()]
        ...     len(list(grid.send_and_receive(asked)))
        3
    """

    def __init__(self, client_app: ClientApp, num_nodes: int):
        self.client_app = client_app
        self.contexts = {
            SERVER + 1 + n: Context(
                run_id=1,
                node_id=SERVER + 1 + n,
                node_config={"partition-id": n, "num-partitions": num_nodes},
                state=RecordDict(),
                run_config={},
            )
            for n in range(num_nodes)
        }
        self._replies: dict[str, Message] = {}

    @contextlib.contextmanager
    def identity(self) -> Iterator[None]:
        """Messages may be made inside: Flower wants to know in whose name."""
        names = ("_run_id", "_node_id", "_task_id")
        before = {name: getattr(TaskIdentity, name) for name in names}
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, SERVER, 1
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(TaskIdentity, name, value)

    def set_run(self, run: Any) -> None:
        """There is one run only."""

    @property
    def run(self) -> Any:
        """There is one run only, and nothing to say about it."""
        return None

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to a client."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All clients."""
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver messages: each is answered before the next one."""
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = name = str(uuid.uuid4())
            try:
                reply = self.client_app(message, self.contexts[message.metadata.dst_node_id])
            except Exception as error:  # as Flower's own runtimes: the round goes on without this client
                reason = f"{type(error).__name__}: {error}"
                reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
            reply.metadata.__dict__["_message_id"] = str(uuid.uuid4())
            self._replies[name] = reply
            ids.append(name)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The answers, each once."""
        return [self._replies.pop(name) for name in message_ids if name in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver messages and return the answers."""
        return self.pull_messages(self.push_messages(messages))
