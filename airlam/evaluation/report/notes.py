"""Explanations that reports on channel prediction share: the benchmark, the sites, the demo."""

from __future__ import annotations

from airlam.evaluation.report.verdicts import MIN_GROUPS

NOTES = {
    "tags": "Measured: computed on simulated channels, or timed, in this run. Modelled: derived from measured figures "
    "by the formula in the caption.",
    "nmse": "NMSE: mean over links of the error energy over the energy of the true channel; decibels after averaging.",
    "intervals": "Intervals: 95 %, bootstrap over drops; differences are paired, on the same links and noise. A cell "
    "is worse when the whole interval of the gain lies below zero. A verdict takes at least "
    f"{MIN_GROUPS} drops: from fewer, intervals exclude zero too often by chance.",
    "sum_se": "Sum-SE: regularised zero forcing with equal-power beams from predicted CSI, judged on the true channel; "
    "each user scaled to unit mean channel gain; users of one group share one drop.",
    "single": "Single-user SE: matched beam. 5 %-user SE: the rate that 95 % of the users of the smallest groups "
    "exceed.",
    "genies": "The genie LMMSE knows delay, angle, Doppler and power of every ray of the link, and not the phases: a "
    "bound for linear methods. The cluster genie knows of each cluster the delay, the power, the Doppler spectrum and "
    "the covariance over antennas, not its rays. The per-bin genie filters each beam-delay bin alone, knowing its "
    "Doppler spectrum.",
    "latency": "Latency: 100 predictions of one link on one thread, after 5 to warm up. A timing is marked as taken "
    "on a busy machine if the calls had less than 90 % of a core.",
    "age": "Sum-SE with latency: a prediction that takes L serves the slots from L on, one horizon long; after the "
    "last predicted slot that slot is held.",
    "period": "CSI periods: the history is sampled at the period, so it spans 16 of them. Ray angles stay fixed "
    "over that time, which makes every method look better at long periods than it would be. One CSI occasion costs "
    "one of the 14 OFDM symbols of a 0.5 ms slot.",
    "seeds": "The learned method is one checkpoint of one training seed.",
}
