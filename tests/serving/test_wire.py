"""Arrays come through as they are; nothing else comes through."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from airlam.serving.errors import ServingError
from airlam.serving.wire import JSON, NPY, SAFETENSORS, decode, encode

DTYPES = ("complex64", "complex128", "float32", "float64", "bool", "int64")


def array(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    random = np.random.default_rng(0)
    value = random.normal(size=shape) * 10
    return (value + 1j * random.normal(size=shape) if dtype.startswith("complex") else value).astype(dtype)


@given(array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=5), st.sampled_from(DTYPES))
@settings(deadline=None)
def test_arrays_come_back_to_the_bit(shape, dtype):
    value = array(shape, dtype)
    for kind in (NPY, SAFETENSORS):
        found = decode(encode({"h": value}, kind), kind)["h"]
        assert found.dtype == value.dtype and found.shape == value.shape and np.array_equal(found, value)


def test_numpy_writes_and_reads_the_same_files():
    value, file = array((2, 3), "complex64"), io.BytesIO()
    np.save(file, value)
    assert np.array_equal(decode(file.getvalue(), NPY)["h"], value)
    assert np.array_equal(np.load(io.BytesIO(encode({"h": value}, NPY)), allow_pickle=False), value)


def test_json_is_for_small_arrays():
    value = array((2, 3), "complex64")
    assert np.allclose(decode(encode({"h": value}, JSON), JSON)["h"], value)
    with pytest.raises(ServingError, match="JSON body has .* send application/x-npy") as refusal:
        decode(encode({"h": array((40, 40), "complex64")}, JSON), JSON, json_entries=100)
    assert refusal.value.status == 413


@given(st.binary(max_size=300), st.sampled_from((NPY, SAFETENSORS, JSON)))
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_arrays_or_refused(data, kind):
    try:
        decode(data, kind)
    except ServingError as refusal:
        assert 400 <= refusal.status < 500 and "\n" not in refusal.message


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_damaged_files_are_arrays_or_refused(data):
    kind = data.draw(st.sampled_from((NPY, SAFETENSORS)))
    body = bytearray(encode({"h": array((3, 4), "complex64")}, kind))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.integers(0, len(body)))]
    try:
        decode(bytes(body), kind)
    except ServingError as refusal:
        assert 400 <= refusal.status < 500


class Exploit:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_pickles_are_never_executed():
    file = io.BytesIO()
    np.save(file, np.array([Exploit()], dtype=object), allow_pickle=True)
    with pytest.raises(ServingError, match="pickled objects are refused"):
        decode(file.getvalue(), NPY)
    with pytest.raises(ServingError, match="no .npy file"):
        decode(pickle.dumps(Exploit()), NPY)
    with pytest.raises(ServingError, match="no pickle is read") as refusal:
        decode(pickle.dumps(Exploit()), "application/octet-stream")
    assert refusal.value.status == 415


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda body: body[:-5], "bytes, but .* follow it"),
        (lambda body: body + b"x", "bytes, but .* follow it"),
        (lambda body: body.replace(b"'fortran_order': False", b"'fortran_order': True "), "Fortran order"),
        (lambda body: body.replace(b"(2, 3)", b"(9999999999999999999,)"[:6]), "header"),
        (lambda body: b"", "empty"),
    ],
)
def test_what_is_wrong_is_said(change, message):
    with pytest.raises(ServingError, match=message):
        decode(change(encode({"h": array((2, 3), "complex64")}, NPY)), NPY)


def test_a_header_cannot_ask_for_more_memory_than_there_are_bytes():
    body = encode({"h": array((2, 3), "complex64")}, NPY).replace(b"(2, 3), }", b"(9**9), }")
    with pytest.raises(ServingError):
        decode(body, NPY)
