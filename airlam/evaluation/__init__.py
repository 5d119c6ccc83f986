"""Evaluation: rows with intervals, benchmarks, plots, and a report that a person can read.

``airlam evaluate --config tasks/channel_prediction/benchmark.yaml`` is :func:`run`; a benchmark YAML names its runner
by ``class_path``, so that other rooms bring their own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airlam.evaluation.beam_management import BeamManagementBenchmark
    from airlam.evaluation.beamforming import BeamformingBenchmark
    from airlam.evaluation.channel_prediction import ChannelPredictionBenchmark
    from airlam.evaluation.headline import headline
    from airlam.evaluation.link_level import LinkLevelBenchmark
    from airlam.evaluation.probes import ProbeBenchmark
    from airlam.evaluation.reconstruction import ReconstructionBenchmark
    from airlam.evaluation.report import write_report
    from airlam.evaluation.rows import Figure, Results, Row, environment
    from airlam.evaluation.runner import run
    from airlam.evaluation.site_benchmark import SiteBenchmark

_HOMES = {
    "BeamManagementBenchmark": "beam_management",
    "BeamformingBenchmark": "beamforming",
    "ChannelPredictionBenchmark": "channel_prediction",
    "Figure": "rows",
    "LinkLevelBenchmark": "link_level",
    "ProbeBenchmark": "probes",
    "ReconstructionBenchmark": "reconstruction",
    "Results": "rows",
    "Row": "rows",
    "SiteBenchmark": "site_benchmark",
    "environment": "rows",
    "headline": "headline",
    "run": "runner",
    "write_report": "report",
}
__all__ = [
    "BeamManagementBenchmark",
    "BeamformingBenchmark",
    "ChannelPredictionBenchmark",
    "Figure",
    "LinkLevelBenchmark",
    "ProbeBenchmark",
    "ReconstructionBenchmark",
    "Results",
    "Row",
    "SiteBenchmark",
    "environment",
    "headline",
    "run",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
