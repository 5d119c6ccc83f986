"""Arrays on the wire: ``.npy``, safetensors, and JSON for small ones. Nothing here can execute what it reads.

A body is a mapping of names to arrays. ``.npy`` holds one, named ``h``. The size of every array is compared with the
bytes that are there before it is made.
"""

from __future__ import annotations

import ast
import io
import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from airlam.serving.errors import ServingError, refused

NPY, SAFETENSORS, JSON = "application/x-npy", "application/x-safetensors", "application/json"
KINDS = (NPY, SAFETENSORS, JSON)
DTYPES = {np.dtype(name) for name in ("complex64", "complex128", "float32", "float64", "bool", "int64")}
HEADER = 4096  # bytes of a .npy header
AXES = 12
DOUBLE = ".complex128"  # ends the name of an array whose last axis is its real and imaginary part

Arrays = dict[str, NDArray]


def decode(body: bytes, kind: str, *, json_entries: int = 20_000) -> Arrays:
    """Arrays of a body.

    Args:
        kind: its content type, :data:`KINDS`.
        json_entries: complex numbers that JSON may hold.

    Raises:
        ServingError: 415 for another content type, 413 for too much JSON, else 400: truncated, pickled, another dtype.

    Example:
        >>> decode(encode({"h": np.ones((2, 3), np.complex64)}, NPY), NPY)["h"].shape
        (2, 3)
    """
    if not body:
        raise refused("empty_body", f"the body is empty, but must be CSI as {NPY} or {SAFETENSORS}")
    if kind == NPY:
        return {"h": _from_npy(body)}
    if kind == SAFETENSORS:
        return _from_safetensors(body)
    if kind == JSON:
        return _from_json(body, json_entries)
    raise ServingError(
        415, "content_type", f"Content-Type is {kind[:80]!r}, but must be one of {', '.join(KINDS)}; no pickle is read"
    )


def encode(arrays: Arrays, kind: str) -> bytes:
    """The body of an answer. ``.npy`` takes one array, JSON only what is small."""
    if kind == NPY:
        ((_, value),) = arrays.items()
        out = io.BytesIO()
        np.lib.format.write_array(out, np.asarray(value, order="C"), version=(1, 0), allow_pickle=False)
        return out.getvalue()
    if kind == SAFETENSORS:
        return save(dict(_in_safetensors(name, value) for name, value in arrays.items()))
    plain = {name: _plain(value) for name, value in arrays.items()}
    return json.dumps(plain, allow_nan=False).encode()


def _in_safetensors(name: str, value: NDArray) -> tuple[str, NDArray]:
    """The format has no complex128: its parts become a last axis."""
    if value.dtype == np.complex128:
        return name + DOUBLE, np.stack([value.real, value.imag], -1)
    return name, np.asarray(value, order="C")  # ascontiguousarray would give a number an axis


def _plain(value: NDArray) -> Any:
    if np.iscomplexobj(value):
        return {"real": value.real.tolist(), "imag": value.imag.tolist()}
    return value.tolist()


def _from_npy(body: bytes) -> NDArray:
    shape, dtype, start = _npy_header(body)
    wanted = math.prod(shape) * dtype.itemsize
    if len(body) - start != wanted:
        raise refused(
            "truncated",
            f"the .npy header says {dtype} {shape}, {wanted} bytes, but {len(body) - start} follow it: send the whole "
            "file",
        )
    return np.frombuffer(body, dtype, offset=start).reshape(shape)


def _npy_header(body: bytes) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, dtype, and where the values begin."""
    if body[:6] != b"\x93NUMPY" or len(body) < 10 or body[6] not in (1, 2):
        raise refused("not_npy", "the body is no .npy file: numpy.save(file, h) or Client writes one")
    width = 2 if body[6] == 1 else 4
    length = int.from_bytes(body[8 : 8 + width], "little")
    start = 8 + width + length
    if length > HEADER or start > len(body):
        raise refused("not_npy", f"the .npy header has {length} bytes, but must be whole and at most {HEADER}")
    try:
        header = ast.literal_eval(body[8 + width : start].decode("latin1"))
        shape, fortran, descr = header["shape"], header["fortran_order"], header["descr"]
        if not isinstance(descr, str):
            raise ValueError("structured dtype")
        dtype = np.dtype(descr)
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError):
        raise refused("not_npy", "the .npy header cannot be read: write it with numpy.save") from None
    if dtype.hasobject or dtype not in DTYPES:
        raise refused(
            "dtype", f"the array is {dtype}, but must be complex64 or complex128; pickled objects are refused"
        )
    if fortran is not False:
        raise refused("order", "the array is in Fortran order: send numpy.ascontiguousarray(h)")
    whole = isinstance(shape, tuple) and len(shape) <= AXES and all(type(n) is int and n >= 0 for n in shape)
    if not whole or math.prod(shape) > 2**40:
        raise refused(
            "rank", f"the .npy header has the shape {str(shape)[:80]}, but at most {AXES} axes of whole numbers"
        )
    return shape, dtype, start


def _from_safetensors(body: bytes) -> Arrays:
    # the header is bounded by the file, but a long one of JSON takes many times its size to parse
    if len(body) < 8 or int.from_bytes(body[:8], "little") > 64 * HEADER:
        raise refused("not_safetensors", "the body is no safetensors file, or its header is longer than 256 kB")
    try:
        arrays = load(body)
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise refused("not_safetensors", f"the body is no whole safetensors file: {reason}") from None
    for name, value in arrays.items():
        if value.dtype not in DTYPES:
            raise refused("dtype", f"{name[:40]!r} is {value.dtype}, but must be complex, float, bool or int64")
        if value.ndim > AXES:
            raise refused("rank", f"{name[:40]!r} has {value.ndim} axes, but must have at most {AXES}")
    return dict(_out_of_safetensors(name, value) for name, value in arrays.items())


def _out_of_safetensors(name: str, value: NDArray) -> tuple[str, NDArray]:
    if not name.endswith(DOUBLE):
        return name, value
    if value.dtype != np.float64 or value.ndim < 1 or value.shape[-1] != 2:
        raise refused("dtype", f"{name[:40]!r} is {value.dtype} {value.shape}, but must be float64 [..., 2]")
    return name.removesuffix(DOUBLE), np.ascontiguousarray(value).view(np.complex128)[..., 0]


def _from_json(body: bytes, entries: int) -> Arrays:
    if len(body) > 60 * entries:
        raise ServingError(
            413, "too_large", f"the JSON body has {len(body)} bytes, but at most {60 * entries}; send {NPY} instead"
        )
    try:
        data = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise refused("not_json", "the body is not valid JSON (NaN and Infinity are not)") from None
    if not isinstance(data, dict) or not data:
        raise refused("not_json", 'the JSON body must be {"h": {"real": [...], "imag": [...]}}')
    return {str(name)[:80]: _from_lists(str(name)[:80], value) for name, value in data.items()}


def _from_lists(name: str, value: Any) -> NDArray:
    try:
        if isinstance(value, dict):
            if set(value) != {"real", "imag"}:
                raise ValueError("keys")
            real, imag = (np.asarray(value[part], np.float32) for part in ("real", "imag"))
            if real.shape != imag.shape:
                raise ValueError("shapes")
            return real + np.complex64(1j) * imag
        out = np.asarray(value)
        return out if out.dtype in DTYPES else out.astype(np.float32)
    except (ValueError, TypeError, OverflowError):
        raise refused(
            "not_json", f'{name!r} must be numbers, or {{"real": [...], "imag": [...]}} of equal shape'
        ) from None


def _no_constant(text: str) -> None:
    raise ValueError(text)
