"""The requests of a client as data, and what their answers mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from airlam.csi import PortShape
from airlam.interfaces import check_precoding_request, check_prediction_request
from airlam.serving.client.protocol import Directory, Reply, Send, Talk
from airlam.serving.wire import NPY, SAFETENSORS, Arrays, decode, encode

CONTEXT = ("velocity", "position", "velocity_age_s", "position_age_s")


def arrays_of(reply: Reply) -> dict[str, Tensor]:
    """Tensors of an answer."""
    kind = reply.headers.get("content-type", "").partition(";")[0]
    return {name: torch.from_numpy(np.array(value)) for name, value in decode(reply.content, kind).items()}


def packed(arrays: Arrays) -> tuple[bytes, str]:
    """A body, and its content type."""
    kind = NPY if list(arrays) == ["h"] else SAFETENSORS
    return encode(arrays, kind), kind


def comma(port_shape: PortShape | None) -> str | None:
    return None if port_shape is None else ",".join(map(str, port_shape))


class Counts:
    """``requests`` of predictions, and how many of those the classic answered for a deadline."""

    def __init__(self) -> None:
        self.requests, self.late = 0, 0


def predict(
    directory: Directory,
    counts: Counts,
    model: str,
    h_past: Tensor,
    num_future: int,
    port_shape: PortShape | None,
    context: Mapping[str, Any] | None,
    outputs: tuple[str, ...],
    *,
    links: int,
    adapter: str = "",
    deadline_ms: float | None = None,
    subcarriers: Tensor | None = None,
) -> Talk[list[Tensor]]:
    """Outputs for histories with any leading axes, ``links`` of them a request."""
    seen = None if context is None else context.get("observed")
    checked = h_past
    if seen is not None and isinstance(h_past, Tensor):
        seen = torch.as_tensor(seen)
        if seen.shape == h_past.shape[:-3] and seen.dtype == torch.bool:  # what stands in other slots is ignored
            checked = torch.where(seen[..., None, None, None], h_past, torch.zeros((), dtype=h_past.dtype))
    shape = check_prediction_request(checked, num_future, port_shape)
    lead, flat = h_past.shape[:-4], checked.reshape(-1, *h_past.shape[-4:])
    query = {
        "num_future": num_future,
        "port_shape": comma(shape),
        "adapter": adapter or None,
        "outputs": ",".join(outputs),
        "deadline_ms": deadline_ms,
        "subcarriers": None if subcarriers is None else ",".join(str(int(k)) for k in subcarriers),
    }
    parts: list[list[Tensor]] = []
    for start in range(0, max(len(flat), 1), links):
        part = slice(start, start + links)
        if not len(flat):
            empty = h_past.new_zeros(*lead, num_future, *h_past.shape[-3:])
            return [empty if name == "future" else empty.real for name in outputs]
        arrays = {"h": flat[part].detach().cpu().numpy(), **_context(context, lead, part)}
        content, kind = packed(arrays)

        def make(address: str, content: bytes = content, kind: str = kind) -> Send:
            return Send(address, "POST", f"/v1/predict/{model}", query, content, kind)

        reply = yield from directory.call(make)
        counts.requests += 1
        counts.late += "x-airlam-late" in reply.headers
        found = arrays_of(reply)
        parts.append([found[name] if len(found) > 1 else next(iter(found.values())) for name in outputs])
    whole = [torch.cat(kind) for kind in zip(*parts, strict=True)]
    return [value.reshape(*lead, *value.shape[1:]).to(h_past.device) for value in whole]


def _context(context: Mapping[str, Any] | None, lead: tuple[int, ...], part: slice) -> Arrays:
    out: Arrays = {}
    for name, value in (context or {}).items():
        if value is None:
            continue
        array = torch.as_tensor(value).detach().cpu().numpy()
        if name == "observed":
            out["observed"] = array.reshape(-1, array.shape[-1])[part]
            continue
        if name in CONTEXT and lead and array.shape[: len(lead)] == tuple(lead):
            array = array.reshape(-1, *array.shape[len(lead) :])[part]
        elif name in ("velocity", "position") and not lead:
            array = array[None]
        out[f"context.{name}"] = np.asarray(array, np.float64)
    return out


def precode(
    directory: Directory, precoder: str, h: Tensor, power: Any, no: Any, error_covariance: Tensor | None
) -> Talk[Tensor]:
    """A precoder, see :class:`airlam.interfaces.Precoder`."""
    check_precoding_request(h, power, no)
    arrays: Arrays = {"h": h.detach().cpu().numpy()}
    query: dict[str, Any] = {}
    for name, value in (("power", power), ("no", no)):
        if torch.as_tensor(value).numel() == 1 and torch.as_tensor(value).dim() == 0:
            query[name] = repr(float(value))
        else:
            arrays[name] = torch.as_tensor(value).detach().cpu().numpy()
    if error_covariance is not None:
        arrays["error_covariance"] = error_covariance.detach().cpu().numpy()
    content, kind = packed(arrays)
    reply = yield from directory.call(
        lambda address: Send(address, "POST", f"/v1/precode/{precoder}", query, content, kind)
    )
    (w,) = arrays_of(reply).values()
    return w.to(h.device)
