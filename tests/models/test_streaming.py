"""Streaming: refreshed at every slot it is the predictor itself, refreshed less often it stays close."""

import pytest
import torch

from airlam.channels import load_channel
from airlam.csi import measure
from airlam.loading import load_predictor
from airlam.metrics import nmse
from airlam.models import StreamingPredictor


@pytest.fixture(scope="module")
def links():
    batch = load_channel({"scenario": "uma", "state": "nlos", "speed_kmh": 30}).sample(8, 44, seed=3)
    return batch.h, measure(batch.h, 20.0, torch.Generator().manual_seed(0)), batch.port_shape


@pytest.fixture(scope="module")
def predictor():
    return load_predictor("airlam-tiny")


def run(predictor, measured, shape, refresh_every):
    stream = StreamingPredictor(predictor, 4, refresh_every=refresh_every, port_shape=shape)
    return [stream.push(measured[:, slot]) for slot in range(40)], stream


def test_refreshed_at_every_slot_it_is_the_predictor(links, predictor):
    _, measured, shape = links
    outs, _ = run(predictor, measured[:2], shape, 1)
    for slot in (3, 15, 16, 30):
        past = measured[:2, max(0, slot - 15) : slot + 1]
        expected = predictor.predict(past, 4, port_shape=shape)
        # relative to the largest entry: filters are rounded to single precision before they are applied
        assert float((outs[slot] - expected).abs().max() / expected.abs().max()) < 1e-5


def test_refreshed_less_often_it_stays_ahead_of_the_ar(links, predictor):
    true, measured, shape = links
    outs, stream = run(predictor, measured, shape, 8)
    assert stream.age == 39 - 15 - 3 * 8
    ar = load_predictor("ar")
    streamed = [float(nmse(outs[s], true[:, s + 1 : s + 5])) for s in range(16, 40)]
    bar = [
        float(nmse(ar.predict(measured[:, s - 15 : s + 1], 4, port_shape=shape), true[:, s + 1 : s + 5]))
        for s in range(16, 40)
    ]
    assert sum(streamed) < sum(bar)


def test_bad_use_is_refused(links, predictor):
    _, measured, shape = links
    with pytest.raises(ValueError, match="history is 99"):
        StreamingPredictor(predictor, 4, history=99)
    with pytest.raises(ValueError, match="refresh_every is 0"):
        StreamingPredictor(predictor, 4, refresh_every=0)
    stream = StreamingPredictor(predictor, 4, port_shape=shape)
    with pytest.raises(ValueError, match="push a slot first"):
        stream.refresh()
    stream.push(measured[:4, 0])
    with pytest.raises(ValueError, match="other links need a stream of their own"):
        stream.push(measured[:5, 1])
    with pytest.raises(ValueError, match="NaN"):
        stream.push(measured[:4, 1] * float("nan"))
    with pytest.raises(ValueError, match=r"must be a tensor \[link, subcarrier, rx_ant, tx_ant\]"):
        stream.push(measured[:4, :1])
    assert stream.push(measured[:4, 1]).shape[:2] == (4, 4)  # what was refused left nothing behind
    with pytest.raises(ValueError, match="scale them first"):
        stream.push(1e20 * measured[:4, 2])
    assert stream.push(measured[:0, 2]).shape[:2] == (0, 4)
    with pytest.raises(TypeError, match="only airlam's own checkpoints stream"):
        StreamingPredictor(load_predictor("ar"), 4)
    for options in ({"correction": False}, {"views": 2}):
        with pytest.raises(ValueError, match="load the predictor without options"):
            StreamingPredictor(load_predictor("airlam-tiny", **options), 4)
