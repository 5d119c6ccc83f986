"""Flower's deployment on one machine: a SuperLink and a SuperNode for each site, with TLS and node authentication.

The processes, the keys and the job are those of a deployment on several hosts (docs/deploy-federated.md); only the
addresses are the loopback's. ``airlam federate --engine deployment`` runs it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from airlam.edge.federated.engines.credentials import make_credentials, public_pem
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.server.state import FAILURE, STATE, State, Watch
from airlam.errors import AirlamError, RecipeError
from airlam.io import write_text

APP = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "airlam-federated"
version = "1.0.0"
description = "airlam's federated fine-tuning as a Flower app"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "airlam"

[tool.flwr.app.components]
serverapp = "airlam_federated:server_app"
clientapp = "airlam_federated:client_app"

[tool.flwr.app.config]
federation = ""
folder = ""
resume = false
site-keys = ""
"""
MODULE = '''"""The apps of airlam's federated fine-tuning; the run comes with the run's configuration."""

from airlam.edge.federated.client.app import build_client_app
from airlam.edge.federated.server.app import build_deployed_server_app

client_app = build_client_app()
server_app = build_deployed_server_app()
'''
PR_SET_PDEATHSIG = 1  # linux/prctl.h
LINK = "airlam"  # name of the connection in Flower's own configuration


class DeploymentError(AirlamError):
    """A process of the deployment failed; its log is named."""


@dataclass
class Deployment:
    """Running processes.

    Attributes:
        folder: keys, logs, and the app. port: of the SuperLink.
        link: the SuperLink. nodes: the SuperNodes, by the number of their site. lock: a file that they all hold open.
    """

    folder: Path
    port: int
    link: subprocess.Popen
    lock: int | None = None
    nodes: dict[int, subprocess.Popen] = field(default_factory=dict)

    def start_node(self, number: int, count: int, *, key: Path | None = None) -> subprocess.Popen:
        """Start the SuperNode of a site; a key that is not registered will be refused."""
        arguments = [
            "flower-supernode",
            "--superlink",
            f"127.0.0.1:{self.port}",
            "--host",
            "127.0.0.1",
            "--port",
            str(free_port()),
            "--root-certificates",
            str(self.folder / "ca.pem"),
            "--max-retries",
            "3",
            "--auth-supernode-private-key",
            str(key or self.folder / f"node-{number}"),
            "--node-config",
            f"partition-id={number} num-partitions={count}",
        ]
        self.nodes[number] = _start(self.folder, f"node-{number}", arguments, self.lock)
        return self.nodes[number]

    def status(self) -> str:
        """Of the run that was submitted last, in Flower's words: ``finished:completed``, ``finished:failed``, ..."""
        text = _run(self.folder, ["flwr", "list", LINK, "--format", "json"])
        runs = json.loads(text[text.index("{") :]).get("runs", [])
        return str(runs[0]["status"]) if runs else "none"

    def stop(self) -> None:
        """End all processes, the SuperLink last."""
        for process in (*self.nodes.values(), self.link):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
        for process in (*self.nodes.values(), self.link):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)


def run_deployed(
    federation: Federation,
    folder: Path,
    *,
    resume: bool = False,
    watch: Watch | None = None,
    timeout: float = 86400,
    lock: int | None = None,
) -> State:
    """All rounds of a run on deployed nodes of this machine; the state is in ``folder`` as from the other engines.

    Args:
        lock: a locked file, open: it stays locked for as long as the SuperLink or a SuperNode lives.

    Raises:
        DeploymentError: the run failed, or a process did not start.
    """
    (folder / FAILURE).unlink(missing_ok=True)
    if federation.secure_aggregation:
        raise RecipeError("secure_aggregation runs in engine simulation alone so far")
    with deployed(folder / "deployment", len(federation.site_specs), lock) as deployment:
        submit(deployment, federation, folder, resume=resume)
        seen, end = 0, time.monotonic() + timeout
        while True:
            status = deployment.status()
            if (folder / STATE).is_file() and watch:
                records = State.load(folder, federation).rounds
                for record in records[seen:]:
                    watch(record)
                seen = len(records)
            if status.startswith("finished"):
                break
            if time.monotonic() > end:
                raise DeploymentError(f"the run is still {status} after {timeout:g} s; logs: {deployment.folder}")
            time.sleep(2)
        if status != "finished:completed":
            failure = folder / FAILURE
            why = failure.read_text().strip().splitlines()[-1] if failure.is_file() else "no reason given"
            raise DeploymentError(f"the run is {status}: {why}; more in {failure} and {deployment.folder}/*.log")
    return State.load(folder, federation)


@contextlib.contextmanager
def deployed(folder: Path, num_nodes: int, lock: int | None = None) -> Iterator[Deployment]:
    """A SuperLink and registered SuperNodes for as long as the context lasts; keys are new each time."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    make_credentials(folder, num_nodes)
    port = free_port()
    write_text(
        folder / "flwr" / "config.toml",
        f'[superlink]\ndefault = "{LINK}"\n\n[superlink.{LINK}]\naddress = "127.0.0.1:{port}"\n'
        f'root-certificates = "{folder / "ca.pem"}"\n',
    )
    link = _start(
        folder,
        "superlink",
        [
            "flower-superlink",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--enable-supernode-auth",
            "--ssl-ca-certfile",
            str(folder / "ca.pem"),
            "--ssl-certfile",
            str(folder / "server.pem"),
            "--ssl-keyfile",
            str(folder / "server.key"),
            "--disable-runtime-dependency-installation",
        ],
        lock,
    )
    deployment = Deployment(folder, port, link, lock)
    before = None
    if threading.current_thread() is threading.main_thread():  # a terminated parent takes its processes along
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        _wait_for_port(deployment, port)
        for number in range(num_nodes):
            _run(folder, ["flwr", "supernode", "register", str(folder / f"node-{number}.pub"), LINK])
            deployment.start_node(number, num_nodes)
        yield deployment
    finally:
        deployment.stop()
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def submit(deployment: Deployment, federation: Federation, folder: Path, *, resume: bool = False) -> None:
    """Hand the job to the SuperLink; the run's configuration carries all of it."""
    keys = [deployment.folder / f"node-{number}.pub" for number in range(len(federation.site_specs))]
    app, run = write_app(deployment.folder, federation, folder.resolve(), resume=resume, keys=keys)
    _run(deployment.folder, ["flwr", "run", str(app), LINK, "--run-config", str(run)])


def write_app(
    where: Path, federation: Federation, folder: Path, *, resume: bool = False, keys: Sequence[Path] = ()
) -> tuple[Path, Path]:
    """Write the Flower app ``where/app`` and its configuration ``where/run.toml``, for ``flwr run``.

    Args:
        folder: on the server's host, for the state.
        keys: the public key file of each site's node, in the sites' order: a node then cannot take another's site.
            Without them the first node that claims a site has it.

    Raises:
        RecipeError: there are keys, but not one for each site.
    """
    if keys and len(keys) != len(federation.site_specs):
        raise RecipeError(
            f"keys has {len(keys)} files, but there are {len(federation.site_specs)} sites; give one for each"
        )
    app, run = where / "app", where / "run.toml"
    write_text(app / "pyproject.toml", APP)
    write_text(app / "airlam_federated.py", MODULE)
    site_keys = json.dumps([public_pem(key) for key in keys])
    values = {"federation": federation.to_json(), "folder": str(folder), "site-keys": site_keys}
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    write_text(run, "\n".join([*lines, f"resume = {json.dumps(resume)}", ""]))
    return app, run


def free_port() -> int:
    """A port of the loopback that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment(folder: Path) -> dict[str, str]:
    tools = Path(sys.executable).parent
    return os.environ | {
        "FLWR_HOME": str(folder / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}",
        "OMP_NUM_THREADS": "1",
    }


def _start(folder: Path, name: str, arguments: Sequence[str], lock: int | None) -> subprocess.Popen:
    """A process in a group of its own, its output in ``folder/name.log``; it ends when this one is killed (Linux)."""
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            arguments,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(folder),
            start_new_session=True,
            pass_fds=() if lock is None else (lock,),
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )


def _end_with_parent() -> None:
    """The kernel terminates this process when its parent is gone, however that ended."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _run(folder: Path, arguments: Sequence[str]) -> str:
    """A command of Flower's; its output, or an error that holds it."""
    found = subprocess.run(arguments, env=_environment(folder), capture_output=True, text=True, timeout=300)
    if found.returncode:
        said = (found.stdout + found.stderr).strip().splitlines()
        raise DeploymentError(f"{' '.join(arguments[:3])} failed: {' '.join(said[-3:])}")
    return found.stdout


def _wait_for_port(deployment: Deployment, port: int, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if deployment.link.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.2)
    raise DeploymentError(f"the SuperLink did not start; its log: {deployment.folder / 'superlink.log'}")
