"""Load on a server: latency, throughput, faults, and what each part of the path costs."""

from airlam.serving.benchmark.benchmark import ServingBenchmark

__all__ = ["ServingBenchmark"]
