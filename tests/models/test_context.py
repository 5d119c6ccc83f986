"""Sensor readings as tokens: units, missing data, timestamps, and that they can be learned from."""

import math

import pytest
import torch

from airlam.constants import SPEED_OF_LIGHT
from airlam.models import AirlamConfig, AirlamModel, AirlamPredictor, load_checkpoint, save_checkpoint
from airlam.models.context import read_sensors
from airlam.tasks import ChannelPrediction
from airlam.tasks.objectives import forecast_error

RADIO = {"carrier_frequency": 2.4e9, "slot_duration": 5e-4, "subcarrier_spacing": 180e3}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = AirlamModel(AirlamConfig(num_tokens=12, num_groups=2, context=["velocity", "position", "cell"])).eval()
    torch.nn.init.normal_(model.head.weight, std=0.05)  # a fresh head is silent
    return model


@pytest.fixture(scope="module")
def h():
    return torch.randn(3, 12, 12, 1, 4, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


def context(links=3):
    generator = torch.Generator().manual_seed(1)
    return RADIO | {
        "velocity": 20 * torch.randn(links, 3, generator=generator),
        "position": 100 * torch.randn(links, 3, generator=generator),
    }


def test_velocity_is_doppler_in_cycles_per_slot():
    speed = 0.02 * SPEED_OF_LIGHT / (2.4e9 * 5e-4)  # one fiftieth of a cycle per slot
    features, present = read_sensors(
        RADIO | {"velocity": torch.tensor([[speed, 0.0, 0.0]]), "velocity_age_s": 1e-3}, ["velocity"], 1
    )["velocity"]
    assert bool(present)
    assert features[0].tolist() == pytest.approx(
        [math.asinh(1.0), 0.0, 0.0, math.log10(0.0201) + 2, math.log(3.0)], rel=1e-5
    )  # two slots old


def test_the_same_doppler_is_the_same_reading():
    """Twice the carrier and half the speed turn the channel alike."""
    v = torch.tensor([[10.0, 5.0, 0.0]])
    a = read_sensors(RADIO | {"velocity": v}, ["velocity"], 1)["velocity"][0]
    b = read_sensors(RADIO | {"velocity": v / 2, "carrier_frequency": 4.8e9}, ["velocity"], 1)["velocity"][0]
    assert torch.allclose(a, b)


def test_readings_matter_and_missing_ones_do_not(model, h):
    full = context()
    with torch.no_grad():
        without, with_all = model(h, 2), model(h, 2, context=full)
        empty = model(h, 2, context={})
        lost = model(h, 2, context=RADIO | {"velocity": torch.full((3, 3), torch.nan), "subcarrier_spacing": None})
        one = full | {"velocity": full["velocity"].clone(), "position": full["position"].clone()}
        one["velocity"][1], one["position"][1] = torch.nan, torch.nan
        mixed = model(h, 2, context=one)
    assert float((with_all - without).abs().max()) > 1e-3
    # masked tokens get the weight exp(-large) = 0; sums over more terms round differently
    assert torch.allclose(empty, without, atol=1e-5) and torch.allclose(lost, without, atol=1e-5)
    assert torch.allclose(mixed[0], with_all[0], atol=1e-5)  # links do not see each other's readings
    assert float((mixed[1] - with_all[1]).abs().max()) > 1e-4


def test_a_model_without_sensors_ignores_readings(h):
    model = AirlamModel(AirlamConfig(num_tokens=12, num_groups=2)).eval()
    with torch.no_grad():
        assert torch.equal(model(h, 2), model(h, 2, context=context()))


def test_predictor_takes_readings_with_leading_axes(model, h):
    predictor = AirlamPredictor(model, chunk=2)
    plain = predictor.predict(h, 2, context=context())
    users = {k: v[None] if isinstance(v, torch.Tensor) else v for k, v in context().items()}
    assert torch.allclose(predictor.predict(h[None], 2, context=users)[0], plain, atol=1e-5)
    single = {k: v[1] if isinstance(v, torch.Tensor) else v for k, v in context().items()}
    assert torch.allclose(predictor.predict(h[1], 2, context=single), plain[1], atol=1e-5)


def test_bad_readings_are_refused(model, h):
    predictor = AirlamPredictor(model)
    for change, message in (
        ({"velocity": torch.zeros(2, 3)}, r"'velocity'\] is \(2, 3\), but must be \(3, 3\)"),
        ({"velocity": torch.zeros(3, 2)}, "x, y, z of each link"),
        ({"position_age_s": -1.0}, "no reading is from the future"),
        ({"carrier_frequency": 0.0}, "must be positive"),
        ({"slot_duration": None}, "says nothing without"),
    ):
        with pytest.raises(ValueError, match=message):
            predictor.predict(h, 2, context=context() | change)
    with pytest.raises(ValueError, match="must be one of velocity, position, cell"):
        AirlamConfig(context=["speedometer"])
    with pytest.raises(ValueError, match="leave lora_rank out"):
        ChannelPrediction(model={"num_tokens": 8}, lora_rank=2, context=["velocity"])


def test_sensors_are_added_to_a_checkpoint_and_saved(h, tmp_path):
    torch.manual_seed(0)
    base = save_checkpoint(AirlamModel(AirlamConfig(num_tokens=8, num_groups=0)), tmp_path / "base")
    task = ChannelPrediction(checkpoint=str(base), context=["velocity"])
    assert task.model.config.context == ["velocity"]
    again = load_checkpoint(save_checkpoint(task.model, tmp_path / "sensing"))
    task.model.eval()
    with torch.no_grad():
        assert torch.equal(again(h, 2, context=context()), task.model(h, 2, context=context()))


def test_what_only_a_sensor_knows_is_learned():
    """Future CSI whose amplitude follows the user's velocity, which the history does not show."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(2)
    task = ChannelPrediction(
        model={"num_tokens": 4, "num_groups": 0}, context=["velocity"], context_dropout=0.0, learning_rate=3e-3
    )
    task.model.train()
    optimiser = torch.optim.Adam(task.model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        v = torch.where(torch.rand(16, 1, generator=generator) < 0.5, 3.0, 30.0) * torch.ones(16, 3)
        white = torch.randn(16, 8, 2, 1, 2, dtype=torch.complex64, generator=generator)
        # fast users fade at once, slow ones stand still
        future = torch.where(v[:, :1, None, None, None] > 10, 0.05, 1.0) * white[:, -1:]
        batch = RADIO | {"h_past": white, "h_future": future, "velocity": v, "position": v, "port_shape": (1, 2, 1)}
        loss = torch.log(forecast_error(task.model, white, future, (1, 2, 1), batch).nmse).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) / 5 < sum(losses[:5]) / 5 - 0.5
