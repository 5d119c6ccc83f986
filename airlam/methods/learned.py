"""Rows of learned methods that have a label or colour of their own. They are built from checkpoints, not by name."""

from airlam.methods.method import Method

_RANDOM = "airlam-tiny, trained alike from random weights"
METHODS = [
    Method("airlam-small", kind="learned", color="#009988", marker="P"),
    Method("airlam-paths", kind="learned", color="#cc3311", marker="D"),
    Method("gru", kind="learned", label="GRU", color="#999933", marker="1", references=("cho2014gru",)),
    Method(
        "lstm", kind="learned", label="LSTM", color="#999933", line="--", marker="2", references=("hochreiter1997lstm",)
    ),
    Method("cnn", kind="learned", label="CNN", color="#aa4499", marker="3"),
    Method(
        "transformer",
        kind="learned",
        label="transformer",
        color="#332288",
        marker="4",
        references=("jiang2022transformer",),
    ),
    Method("wifo", kind="learned", label="WiFo-style", color="#661100", marker="+", references=("liu2024wifo",)),
    Method("llm4cp", kind="learned", label="LLM4CP-style", color="#6699cc", marker="x", references=("liu2024llm4cp",)),
    Method(
        "minilm",
        kind="learned",
        label="MiniLM, frozen",
        color="#6699cc",
        line="--",
        marker="*",
        references=("wang2020minilm", "liu2024llm4cp"),
    ),
    Method(
        "refined-cnn",
        kind="learned",
        label="CNN on top of eigen-AR",
        short="eigen-AR + CNN",
        color="#aa4499",
        line="--",
        marker="3",
    ),
    Method(
        "airlam-tiny-random",
        kind="learned",
        label=_RANDOM,
        short="random start",
        color="#d55e00",
        line=":",
        marker="h",
    ),
]
