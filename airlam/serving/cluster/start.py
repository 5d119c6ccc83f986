"""Ray and Serve, started with the settings that low latency needs."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import time
from typing import Any

from airlam.errors import RecipeError
from airlam.serving.config import ServingConfig
from airlam.serving.errors import one_line
from airlam.serving.listening import Listen

TRIES, PAUSE_S = 3, 5.0
STORE_BYTES = 200 * 2**20
DRAIN_S = 5.0  # how long a replica that ends still answers, while clients learn where the others are


def settings(listen: Listen) -> dict[str, str]:
    """Environment variables of every process of the cluster; Ray reads them when it is imported."""
    return {
        # replicas take requests on ports of their own: the proxy would add tens of milliseconds
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(listen.direct_port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(listen.direct_port + listen.direct_ports),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(DRAIN_S),
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_TASK_MAX_RETRIES": "0",
    }


def need_ray() -> None:
    """Raises RecipeError without Ray Serve, in one line."""
    for module in ("ray", "fastapi", "httpx", "prometheus_client"):
        if importlib.util.find_spec(module) is None:
            raise RecipeError(f"{module} is not installed, which serving needs: pip install 'airlam[serving]'")


def check_port(listen: Listen) -> None:
    """Raises RecipeError where another program listens already."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen.host, listen.port))
        except OSError as error:
            raise RecipeError(
                f"cannot listen on {listen.host}:{listen.port} ({error.strerror}); stop the program that does, or give "
                "--listen.port another number"
            ) from None


class Cluster:
    """A running application. Made by :func:`start_cluster`; a context manager that ends what it started."""

    def __init__(self, config: ServingConfig, *, own: bool) -> None:
        self.config, self._own = config, own

    @property
    def address(self) -> str:
        """Where clients begin."""
        listen = self.config.listen
        return f"{listen.scheme}://{listen.host}:{listen.port}"

    def replicas(self) -> list[str]:
        """Addresses of the replicas."""
        from airlam.serving.cluster.addresses import direct_addresses_now
        from airlam.serving.deployment import NAME

        return direct_addresses_now(NAME, self.config.listen)

    def deploy(self, config: ServingConfig) -> None:
        """Run another configuration in the place of this one: weights, numbers of replicas, places. Old replicas
        answer until the new ones do."""
        from ray import serve

        from airlam.serving.deployment import NAME, application

        serve.run(application(config), name=NAME, route_prefix="/")
        self.config = config

    def close(self) -> None:
        """End the application, and Ray where it was started here."""
        import ray
        from ray import serve

        serve.shutdown()
        if self._own:
            ray.shutdown()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def start_cluster(config: ServingConfig, ray_address: str | None = None, **options: Any) -> Cluster:
    """Run the services, on a Ray of their own or on a cluster.

    Args:
        ray_address: of a Ray cluster (``"auto"``, ``"ray://..."``) whose nodes were started with :func:`settings`;
            ``None``: Ray is started here, and ended with the cluster. A busy machine can make its start fail, so it is
            tried several times.
        options: of ``ray.init``.

    Raises:
        RecipeError: no Ray, or a port in use. RuntimeError: Ray does not start.
    """
    need_ray()
    check_port(config.listen)
    os.environ.update(settings(config.listen))
    if token := config.listen.secret():
        os.environ["AIRLAM_SERVING_TOKEN"] = token  # replicas inherit it; no configuration that is stored holds it
    import ray

    own = ray_address is None and not ray.is_initialized()
    if own:
        _start_ray(options)
    elif not ray.is_initialized():
        ray.init(address=ray_address, namespace="airlam", log_to_driver=False, **options)
    try:
        return _deployed(config, own)
    except BaseException:
        if own:
            ray.shutdown()
        raise


def _start_ray(options: dict[str, Any]) -> None:
    import ray

    given = {
        "address": "local",  # never another program's Ray that runs on this machine
        "include_dashboard": False,
        "object_store_memory": STORE_BYTES,
        "log_to_driver": False,
        "namespace": "airlam",
        "configure_logging": True,
        "logging_level": "ERROR",
        **options,
    }
    for trial in range(1, TRIES + 1):
        try:
            ray.init(**given)
            return
        except Exception as error:
            ray.shutdown()
            if trial == TRIES:
                raise RuntimeError(
                    f"Ray did not start in {TRIES} tries ({one_line(error)[:200]}); start it while nothing "
                    "else runs on this machine"
                ) from error
            time.sleep(PAUSE_S)


def _deployed(config: ServingConfig, own: bool) -> Cluster:
    from ray import serve

    from airlam.serving.deployment import NAME, application

    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # of this process: it would repeat what is known
    listen = config.listen
    options: dict[str, Any] = {"host": listen.host, "port": listen.port, "keep_alive_timeout_s": 75}
    if listen.certificate:
        options |= {"ssl_certfile": listen.certificate, "ssl_keyfile": listen.key}
    serve.start(http_options=options, logging_config={"enable_access_log": False, "log_level": "WARNING"})
    serve.run(application(config), name=NAME, route_prefix="/")
    return Cluster(config, own=own)
