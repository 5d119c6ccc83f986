"""Classical precoders, and what they are told: sources of present CSI (denoisers, readers of pilots).

A new precoder is its class in ``airlam/baselines/`` and one entry here.
"""

from airlam.methods.method import Method

_FILE = "airlam.baselines.precoders"
METHODS = [
    Method(
        "mrt",
        "precoder",
        factory=f"{_FILE}:MRTPrecoder",
        what="Maximum ratio transmission.",
        label="MRT",
        line=":",
        references=("lo1999mrt",),
    ),
    Method(
        "zf",
        "precoder",
        factory=f"{_FILE}:ZFPrecoder",
        what="Zero forcing, equal powers.",
        label="ZF",
        line=":",
        references=("spencer2004zf",),
    ),
    Method(
        "zf-wf",
        "precoder",
        factory=f"{_FILE}:ZFPrecoder",
        options={"water_filling": True},
        what="Zero forcing, powers by water-filling.",
        label="ZF, water-filling",
        line=":",
        references=("spencer2004zf",),
    ),
    Method(
        "slnr",
        "precoder",
        factory=f"{_FILE}:SLNRPrecoder",
        what="Signal over leakage and noise, maximised for each user.",
        label="SLNR",
        line=":",
        references=("sadek2007slnr",),
    ),
    Method(
        "type1",
        "precoder",
        factory="airlam.baselines.type1:Type1Precoder",
        what="Best codeword of the 5G NR Type I codebook for each user.",
        label="Type I codebook",
        line=":",
        references=("ts38214",),
    ),
    Method(
        "rzf",
        "precoder",
        factory=f"{_FILE}:RZFPrecoder",
        what="Regularised zero forcing.",
        label="RZF",
        color="#cc79a7",
        line="--",
        references=("peel2005rzf",),
    ),
    Method(
        "wmmse",
        "precoder",
        factory="airlam.baselines.wmmse:WMMSEPrecoder",
        what="Weighted MMSE iterations: a local maximum of the sum rate.",
        label="WMMSE",
        color="#cc79a7",
        line=":",
        references=("shi2011wmmse",),
    ),
    Method("raw", "denoiser", label="raw CSI", color="#8c8c8c", marker="s"),
    Method(
        "threshold",
        "denoiser",
        factory="airlam.baselines.denoising:BeamDelayThreshold",
        label="beam-delay threshold (tuned)",
        short="threshold",
        color="#e69f00",
        marker="^",
    ),
    Method(
        "lmmse",
        "denoiser",
        factory="airlam.baselines.denoising:TrainingLMMSE",
        label="LMMSE, training covariance",
        short="LMMSE",
        color="#0072b2",
        marker="D",
    ),
    Method("ls", "pilot-reader", label="least squares", short="LS", color="#8c8c8c", marker="v"),
]
