"""Latency of prediction: methods and streams timed in turn, in units of a frozen AR. ``airlam bench-latency``."""
