"""Codecs of CSI reports. A new one is its class and one entry here.

Its interface is :class:`airlam.interfaces.Codec`.
"""

from airlam.methods.method import Method

_FILE = "airlam.baselines.codebooks"
METHODS = [
    Method(
        "type1-report",
        "codec",
        factory=f"{_FILE}:Type1Codec",
        what="Type I codebook: one beam, a phase for each subband.",
        label="Type I",
        color="#56b4e9",
        marker="s",
    ),
    *(
        Method(
            f"type2-{number}",
            "codec",
            factory=f"{_FILE}:Type2Codec",
            options={"combination": number},
            what=f"Enhanced Type II codebook, parameter combination {number}.",
            label=f"enhanced Type II, combination {number}",
            short=f"eType II {number}",
            color="#0072b2",
        )
        for number in range(1, 9)
    ),
    *(
        Method(
            f"context-codec-{bits}",
            "codec",
            kind="learned",
            factory="airlam.models.csi_codec:ContextCodec",
            options={"payload": bits},
            what=f"Beams and delays, coded with learned contexts, {bits} bits.",
            label=f"context codec, {bits} bits",
            short=f"context {bits}",
            color="#d55e00",
        )
        for bits in (32, 48, 64, 88, 120, 160, 184, 224, 256, 384, 512)
    ),
]
