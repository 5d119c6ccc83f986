"""Bounds: they use what no receiver knows, or measure everything. Benchmarks compute them; none is built by name."""

from airlam.methods.method import Method

METHODS = [
    Method(
        "lmmse-genie",
        "estimator",
        "bound",
        label="LMMSE, covariance of the link's rays (genie)",
        color="#444444",
        line=":",
        marker="",
    ),
    Method("genie_per_bin", kind="bound", label="per-bin genie", color="#444444", line=":", marker=""),
    Method("genie_clusters", kind="bound", label="cluster genie", color="#222222", line="-.", marker=""),
    Method("genie_lmmse", kind="bound", label="genie LMMSE (bound)", color="#000000", line="--", marker=""),
    Method("perfect", kind="bound", label="perfect CSI", color="#000000", marker=""),
    Method(
        "sweep",
        "beam-tracker",
        "bound",
        label="full sweep at the time",
        short="full sweep",
        color="#444444",
        line=":",
        marker="",
    ),
    Method(
        "dpc",
        "precoder",
        "bound",
        label="dirty paper coding (bound)",
        color="#000000",
        line=":",
        references=("viswanath2003dpc", "jindal2005waterfilling"),
    ),
]
