"""Figures of merit, each with its convention stated: NMSE, spectral efficiency, latency, intervals."""

from airlam.metrics.intervals import Interval, bootstrap_interval, paired_interval
from airlam.metrics.latency import Latency, cpu_threads, measure_latency
from airlam.metrics.nmse import nmse, to_db
from airlam.metrics.published import (
    CONVENTIONS,
    Convention,
    nmse_llm4cp,
    nmse_wifo,
    noisy_target,
    published_scores,
    se_llm4cp,
)
from airlam.metrics.quantile import quantile
from airlam.metrics.rates import (
    UTILITIES,
    break_even_latency,
    five_percent_user_rate,
    hold_after_horizon,
    latency_charged_se,
    single_user_se,
    sinr,
    sum_rate,
    user_rates,
    utility,
)
from airlam.metrics.sgcs import sgcs

__all__ = [
    "CONVENTIONS",
    "UTILITIES",
    "Convention",
    "Interval",
    "Latency",
    "bootstrap_interval",
    "break_even_latency",
    "cpu_threads",
    "five_percent_user_rate",
    "hold_after_horizon",
    "latency_charged_se",
    "measure_latency",
    "nmse",
    "nmse_llm4cp",
    "nmse_wifo",
    "noisy_target",
    "paired_interval",
    "published_scores",
    "quantile",
    "se_llm4cp",
    "sgcs",
    "single_user_se",
    "sinr",
    "sum_rate",
    "to_db",
    "user_rates",
    "utility",
]
