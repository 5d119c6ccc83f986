"""Pools of real processes on one Linux host: CPU quotas, memory limits and links of chosen rates, set by the kernel.

For measurements (``benchmarks/parallel_*.py``) and tests; training itself needs none of it.
"""
