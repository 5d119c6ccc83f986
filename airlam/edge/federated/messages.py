"""What nodes send and what the server reads out of it: arrays, numbers, texts. Nothing that a node says is believed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord

from airlam.edge.federated.adapters import Arrays

TEXT_LENGTH = 200  # characters of a node's text that are kept
# The largest size of each number that a node may send; larger ones are nonsense, and their sums would overflow.
LARGEST = {
    "site": 1e6,
    "num-examples": 1e9,
    "seconds": 1e7,
    "flops": 1e21,
    "server-flops": 1e21,
    "activations": 1e15,
    "loss": 1e6,
    "figure": 1e6,
}
SIGNED = ("loss", "figure")  # these may be negative


def to_record(arrays: Arrays) -> ArrayRecord:
    """Arrays as a record for a message."""
    return ArrayRecord({name: Array(value) for name, value in arrays.items()})


def from_record(record: ArrayRecord) -> Arrays:
    """The arrays in a record of a message."""
    return {name: array.numpy() for name, array in record.items()}


def shown(text: object) -> str:
    r"""A node's text as one printable line of at most about 200 characters; the rest is cut and counted.

    Control characters, line ends and characters that change the direction of writing are shown as escapes. Square
    brackets stay: who prints the line with rich must switch markup off.

    Example:
        >>> print(shown("no file [/x/y]\n\x1b[2J"))
        no file [/x/y]\n\x1b[2J
    """
    whole = str(text)
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in whole[:TEXT_LENGTH])
    return line if len(whole) <= TEXT_LENGTH else f"{line[:TEXT_LENGTH]}... ({len(whole)} characters)"


def numbers_of(reply: Message, *names: str) -> dict[str, float]:
    """The named metrics of a reply. Each must be a finite number of at most ``LARGEST`` and, but for ``SIGNED``, at
    least 0.

    Raises:
        ValueError: a metric is missing or something else.
    """
    metrics: Any = reply.content.get("metrics")
    said = metrics if isinstance(metrics, MetricRecord) else {}
    return {name: checked_number(name, said.get(name)) for name in names}


def checked_number(name: str, value: Any) -> float:
    """One number that a node sent, see :func:`numbers_of`.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"its {name} is {value!r}, not a finite number")
    if value < 0 and name not in SIGNED:
        raise ValueError(f"its {name} is {value!r}, below 0")
    if abs(value) > LARGEST[name]:
        raise ValueError(f"its {name} is {value:.3g}, beyond {LARGEST[name]:g}")
    return float(value)


def check_examples(claimed: float, users: int) -> None:
    """A reply's ``num-examples`` is its weight in the average, so it must be at least 1 and at most the ``users`` that
    its site trains on, which the server knows.

    Raises:
        ValueError: the claim is outside.
    """
    if claimed < 1:
        raise ValueError(f"it has no users (num-examples is {claimed:g})")
    if claimed > users:
        raise ValueError(f"it claims {claimed:g} training users, but its site has {users}")


def same_key(one: bytes | None, other: bytes) -> bool:
    """Whether two public keys in PEM are the same key, however they are written."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    def plain(pem: bytes) -> bytes:
        return load_pem_public_key(pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    return bool(one) and plain(one or b"") == plain(other)


def arrays_of(reply: Message, kind: str = "float32") -> Arrays:
    """The arrays of a reply, all of one NumPy type.

    Raises:
        ValueError: there are none, they cannot be read, or one is of another type.
    """
    record: Any = reply.content.get("arrays")
    if not isinstance(record, ArrayRecord):
        raise ValueError("it has no arrays")
    try:
        arrays = from_record(record)
    except Exception as error:  # NumPy raises many types on damaged bytes
        raise ValueError(f"its arrays cannot be read ({error})") from None
    for name, value in arrays.items():
        if value.dtype != np.dtype(kind):
            raise ValueError(f"its {name} is of type {value.dtype}, not {kind}")
    return arrays


def size_of(arrays: Arrays) -> int:
    """Bytes of arrays as Flower serialises them, counted."""
    return sum(len(array.data) for array in to_record(arrays).values())
