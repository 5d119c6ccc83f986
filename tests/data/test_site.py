"""Users of one site as a data set: splits of one drop, noise, batches, starts that saw no label of their own."""

from __future__ import annotations

import pytest
import torch

from airlam.baselines.positioning import RadioMap
from airlam.baselines.positioning.tuning import Tuned
from airlam.csi import SiteCSI
from airlam.data import SiteDataModule
from airlam.errors import RecipeError
from airlam.tasks import PositionStarts
from airlam.tasks.position_starts import unseen_starts

SMALL = dict(
    channel="inf_dh_site",
    channel_overrides={"num_subcarriers": 48, "links_per_drop": 6},
    num_train=12,
    num_val=5,
    num_test=4,
    batch_size=6,
    batches_per_epoch=3,
    seed=2,
)


@pytest.fixture(scope="module")
def data():
    made = SiteDataModule(**SMALL)
    made.setup("fit")
    return made


def some_users(number=20, stations=3):
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(number, stations, 48, 8, dtype=torch.complex64, generator=generator)
    place = 50 * torch.rand(number, 3, generator=generator)
    at = torch.tensor([[0.0, 0, 8, 0], [50, 0, 8, 90], [50, 50, 8, 180]])
    return SiteCSI(h * (1 + place[:, :1, None, None]), at, 1e6, (2, 4, 1), place)


def test_each_user_is_in_one_split_and_in_units_of_the_noise(data):
    (h, place), (h_test, other) = next(iter(data.val_dataloader())), next(iter(data.test_dataloader()))
    assert h.shape == (5, 6, 48, 8) and place.shape == (5, 3) and len(h_test) == 4
    everybody = torch.cat((data.users()["train"].position, place, other))
    assert len(everybody.unique(dim=0)) == 21
    powers = torch.cat([csi.h.abs().square().mean((2, 3)).amax(1) for csi in data.users().values()])
    # 20 dB at the median user; one unit of noise is 0.04 dB of that, its chance over 384 values less
    assert 10 * powers.median().log10() == pytest.approx(20, abs=0.2)


def test_batches_are_fixed_by_the_seed_and_go_on_where_they_stopped(data):
    first, again = list(data.train_dataloader()), list(SiteDataModule(**SMALL).train_dataloader())
    assert len(first) == 3 and first[0][0].shape == (6, 6, 48, 8)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0][1], first[1][1])
    other = SiteDataModule(**SMALL)
    other.load_state_dict({"train": {"position": 2}})
    assert torch.equal(next(iter(other.train_dataloader()))[1], first[2][1])


def test_the_start_of_a_labelled_user_does_not_depend_on_its_label():
    csi = some_users()
    maps = Tuned(RadioMap().fit(csi), {"temper": 0.5, "prints": 1.0}, 1.3)
    usual, fold = unseen_starts(maps, csi), torch.arange(len(csi)) % 5 == 2
    moved = some_users()
    moved.position = torch.where(fold[:, None], moved.position + 7.0, moved.position)
    found = unseen_starts(maps, moved)
    torch.testing.assert_close(found.mean[fold], usual.mean[fold])
    torch.testing.assert_close(found.covariance[fold], usual.covariance[fold])
    assert not torch.allclose(found.mean[~fold], usual.mean[~fold], atol=0.1)


@pytest.mark.parametrize("maps", [True, False])
def test_what_the_network_sees(maps):
    csi = some_users()
    splits = {"train": csi[:12], "val": csi[12:17], "test": csi[17:]}
    made = PositionStarts(maps=maps)(splits)
    for split, users in splits.items():
        stations, mean, factor, position = made[split]
        assert len(stations) == len(mean) == len(users) and factor.shape == (len(users), 2, 2)
        assert torch.equal(position, users.position[:, :2]) and bool((factor[:, 0, 1] == 0).all())
    assert (made["test"][1][0] == made["test"][1][1]).all() != maps  # without maps all start alike


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channel": "umi_site", "channel_overrides": None}, "no stations"),
        ({"num_train": 3}, "num_train is 3, but must be at least 4"),
        ({"csi_snr_db": 1000}, "csi_snr_db"),
        ({"channel_overrides": {"num_subcarrier": 48}}, "num_subcarrier"),
    ],
)
def test_bad_arguments(changes, words):
    with pytest.raises(RecipeError, match=words) as caught:
        SiteDataModule(**{**SMALL, **changes})
    assert "\n" not in str(caught.value)


def test_rows_that_are_missing_are_named():
    made = SiteDataModule(**SMALL, prepare=lambda users: {split: (csi.h[1:],) for split, csi in users.items()})
    with pytest.raises(RecipeError, match=r"rows for 12 train users"):
        made.setup()
