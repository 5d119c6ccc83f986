"""Evaluation: rows with intervals, benchmarks, plots, and a report that a person can read.

``airlam evaluate --config tasks/channel_prediction/benchmark.yaml`` is :func:`run`; a benchmark YAML names its runner
by ``class_path``, so that other rooms bring their own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airlam.evaluation.benchmarks.beam_management.benchmark import BeamManagementBenchmark
    from airlam.evaluation.benchmarks.beamforming.benchmark import BeamformingBenchmark
    from airlam.evaluation.benchmarks.channel_prediction.benchmark import ChannelPredictionBenchmark
    from airlam.evaluation.benchmarks.csi_compression.benchmark import CompressionBenchmark
    from airlam.evaluation.benchmarks.link_level.benchmark import LinkLevelBenchmark
    from airlam.evaluation.benchmarks.measured.benchmark import MeasuredBenchmark
    from airlam.evaluation.benchmarks.positioning.benchmark import PositioningBenchmark
    from airlam.evaluation.benchmarks.probes.benchmark import ProbeBenchmark
    from airlam.evaluation.benchmarks.radio_map.benchmark import RadioMapBenchmark
    from airlam.evaluation.benchmarks.realtime.benchmark import RealtimeBenchmark
    from airlam.evaluation.benchmarks.reconstruction.benchmark import ReconstructionBenchmark
    from airlam.evaluation.benchmarks.sites.benchmark import SiteBenchmark
    from airlam.evaluation.benchmarks.stored_set.benchmark import StoredSetBenchmark
    from airlam.evaluation.report.html import publish, write_report
    from airlam.evaluation.report.paper import write_paper
    from airlam.evaluation.report.sentences import headline
    from airlam.evaluation.results import measurements, summarise
    from airlam.evaluation.rows import Figure, Results, Row, environment
    from airlam.evaluation.runner import run

_HOMES = {
    "BeamManagementBenchmark": "benchmarks.beam_management.benchmark",
    "BeamformingBenchmark": "benchmarks.beamforming.benchmark",
    "ChannelPredictionBenchmark": "benchmarks.channel_prediction.benchmark",
    "CompressionBenchmark": "benchmarks.csi_compression.benchmark",
    "Figure": "rows",
    "LinkLevelBenchmark": "benchmarks.link_level.benchmark",
    "MeasuredBenchmark": "benchmarks.measured.benchmark",
    "PositioningBenchmark": "benchmarks.positioning.benchmark",
    "RadioMapBenchmark": "benchmarks.radio_map.benchmark",
    "ProbeBenchmark": "benchmarks.probes.benchmark",
    "RealtimeBenchmark": "benchmarks.realtime.benchmark",
    "ReconstructionBenchmark": "benchmarks.reconstruction.benchmark",
    "Results": "rows",
    "Row": "rows",
    "SiteBenchmark": "benchmarks.sites.benchmark",
    "StoredSetBenchmark": "benchmarks.stored_set.benchmark",
    "environment": "rows",
    "headline": "report.sentences",
    "measurements": "results",
    "publish": "report.html",
    "run": "runner",
    "summarise": "results",
    "write_paper": "report.paper",
    "write_report": "report.html",
}
__all__ = [
    "BeamManagementBenchmark",
    "BeamformingBenchmark",
    "ChannelPredictionBenchmark",
    "CompressionBenchmark",
    "Figure",
    "LinkLevelBenchmark",
    "MeasuredBenchmark",
    "PositioningBenchmark",
    "RadioMapBenchmark",
    "ProbeBenchmark",
    "RealtimeBenchmark",
    "ReconstructionBenchmark",
    "Results",
    "Row",
    "SiteBenchmark",
    "StoredSetBenchmark",
    "environment",
    "headline",
    "measurements",
    "publish",
    "run",
    "summarise",
    "write_paper",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
