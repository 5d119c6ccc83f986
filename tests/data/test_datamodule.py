"""What training and evaluation see: splits that do not leak, noise that is fresh or fixed, order that resumes."""

from __future__ import annotations

import itertools
import math
import pickle

import lightning.pytorch as pl
import pytest
import torch

from airlam.csi import mean_power
from airlam.data import CSIDataModule, CSIStore, OnTheFly, generate
from airlam.errors import RecipeError, StoreError

KEYS = {
    "h_past",
    "h_past_true",
    "h_future",
    "csi_snr_db",
    "speed",
    "velocity",
    "position",
    "index",
    "drop",
    "port_shape",
    "slot_duration",
    "subcarrier_spacing",
    "carrier_frequency",
}


@pytest.fixture
def module(fake):
    """Data modules of the fake channel."""

    def make(**changes) -> CSIDataModule:
        return CSIDataModule(**fake.recipe(batch_size=4, **changes))

    return make


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a
    )


@pytest.mark.parametrize("changes", [{}, {"num_train": None}, {"num_train": None, "num_val": 0, "num_test": 0}])
def test_every_batch_is_what_the_tasks_expect(module, changes):
    data = module(**changes)
    loaders = [data.train_dataloader()]
    if "num_val" not in changes:
        loaders += [data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()]
    for loader in loaders:
        batch = next(iter(loader))
        assert batch.keys() == KEYS
        assert batch["h_past"].shape == batch["h_past_true"].shape == (4, 16, 6, 1, 4)
        assert batch["h_future"].shape == (4, 4, 6, 1, 4)
        assert batch["h_past"].dtype == batch["h_future"].dtype == torch.complex64
        assert all(batch[k].shape == (4,) for k in ("csi_snr_db", "speed", "index", "drop"))
        assert batch["velocity"].shape == batch["position"].shape == (4, 3)
        assert batch["index"].dtype == batch["drop"].dtype == torch.int64
        assert batch["port_shape"] == (2, 1, 2) and isinstance(batch["port_shape"], tuple)
        assert (batch["slot_duration"], batch["carrier_frequency"]) == (0.5e-3, 2.4e9)


def test_past_and_future_are_consecutive_slots_of_one_link(module):
    data = module()
    batch = next(iter(data.val_dataloader()))
    h = data.store.h[batch["index"]]
    assert torch.equal(torch.cat([batch["h_past_true"], batch["h_future"]], 1), h)
    assert torch.equal(batch["speed"], data.store.truth["speed"][batch["index"]])


def test_no_drop_is_in_two_splits(fake):
    channel = {"scenario": "fake", "links_per_drop": 3}
    data = CSIDataModule(**fake.recipe(channel=channel, num_train=25, num_val=7, num_test=11))
    data.setup()
    drops = {name: set(data.store.truth["drop"][slice(*ends)].tolist()) for name, ends in data.store.splits.items()}
    for one, other in itertools.combinations(drops.values(), 2):
        assert not one & other
    assert [len(d) for d in drops.values()] == [9, 3, 4]  # drops of three, the last one of a split cut off
    links = data.store.h[:].flatten(1)
    assert len(torch.unique(torch.view_as_real(links).flatten(1), dim=0)) == len(links), "a link appears twice"


def test_on_the_fly_batches_never_meet_the_evaluation_links(module):
    data = module(num_train=None)
    seen = torch.cat([b["h_future"] for b in itertools.islice(iter(data.train_dataloader()), 20)])
    for loader in (data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            distance = (batch["h_future"][:, None] - seen[None]).abs().amax((2, 3, 4, 5))
            assert distance.min() > 0.1


def test_training_noise_is_fresh_and_evaluation_noise_fixed(module):
    data = module()
    train = data.train_dataloader()
    epochs = [
        {int(i): (p, t) for b in train for i, p, t in zip(b["index"], b["h_past"], b["h_past_true"], strict=True)}
        for _ in range(2)
    ]
    assert epochs[0].keys() == epochs[1].keys() == set(range(20))
    for link in epochs[0]:
        (noisy, true), (noisy_again, true_again) = epochs[0][link], epochs[1][link]
        assert torch.equal(true, true_again) and not torch.allclose(noisy, noisy_again, atol=1e-3)
    for loader in (data.val_dataloader, data.test_dataloader):
        assert all(same(a, b) for a, b in zip(loader(), loader(), strict=True))


def test_evaluation_noise_depends_on_the_link_alone(module):
    whole = {int(i): h for b in module().val_dataloader() for i, h in zip(b["index"], b["h_past"], strict=True)}
    other = module().with_changes(batch_size=5)
    for batch in other.val_dataloader():
        for i, h in zip(batch["index"], batch["h_past"], strict=True):
            assert torch.equal(whole[int(i)], h)


def test_noise_has_the_stated_power(module):
    data = module(csi_snr_db=7.0, num_test=64)
    batch = next(iter(data.with_changes(batch_size=64).test_dataloader()))
    error = mean_power(batch["h_past"] - batch["h_past_true"]) / mean_power(batch["h_past_true"])
    # 64 x 384 complex samples: the mean has a relative standard deviation of 0.6 %, 0.03 dB; five of them.
    assert 10 * math.log10(error.mean()) == pytest.approx(-7, abs=0.14)
    clean = next(iter(module(csi_snr_db=math.inf).val_dataloader()))
    assert torch.equal(clean["h_past"], clean["h_past_true"])


def test_a_range_of_snr_is_drawn_per_link(module):
    data = module(csi_snr_db=[0.0, 30.0])
    snr = torch.cat([b["csi_snr_db"] for b in data.train_dataloader()])
    assert snr.min() >= 0 and snr.max() <= 30 and len(snr.unique()) == len(snr) and snr.std() > 4
    a, b = (torch.cat([b["csi_snr_db"] for b in data.val_dataloader()]) for _ in range(2))
    assert torch.equal(a, b)


def test_order_is_shuffled_anew_in_each_epoch_and_repeatable(module):
    def orders(data, epochs):
        train = data.train_dataloader()
        return [torch.cat([b["index"] for b in train]).tolist() for _ in range(epochs)]

    first = orders(module(), 3)
    assert first == orders(module(), 3)
    assert all(sorted(order) == list(range(20)) for order in first) and len({tuple(o) for o in first}) == 3
    assert orders(module().with_changes(seed=4), 1) != first[:1]


@pytest.mark.parametrize("changes", [{}, {"num_train": None, "batches_per_epoch": 5}], ids=["stored", "on the fly"])
@pytest.mark.parametrize("seen", [3, 5, 7])
def test_a_resumed_loader_goes_on_with_the_next_batch(module, changes, seen):
    def stream(data):
        loader = data.train_dataloader()
        assert len(loader) == 5
        return itertools.chain.from_iterable(iter(loader) for _ in range(3))

    whole = list(stream(module(**changes)))
    first = module(**changes)
    for _ in itertools.islice(stream(first), seen):
        pass
    second = module(**changes)
    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    rest = list(itertools.islice(stream(second), 6))
    assert all(same(a, b) for a, b in zip(rest, whole[seen : seen + 6], strict=True))


def test_an_epoch_that_was_cut_short_is_over(module):
    train = module().train_dataloader()
    whole = module().train_dataloader()
    next(iter(whole)), list(itertools.islice(whole, 4))
    next(iter(train))  # one batch of five, then a new epoch
    assert len(list(train)) == 5


def test_iterating_is_lazy(module):
    train = module().train_dataloader()
    iter(train), iter(train)
    assert train.position == 0


class Recorder(pl.LightningModule):
    """Trains nothing much, and writes down which links it saw."""

    def __init__(self, seen: list) -> None:
        super().__init__()
        self.seen, self.weight = seen, torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, _):
        self.seen.append((batch["index"].tolist(), batch["h_past"].sum().item()))
        return self.weight**2

    def validation_step(self, batch, _):
        self.log("val", batch["h_past"].abs().sum(), batch_size=len(batch["index"]))

    def predict_step(self, batch, _):
        return batch["index"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("changes", [{}, {"num_train": None, "batches_per_epoch": 5}], ids=["stored", "on the fly"])
@pytest.mark.parametrize("stop_at", [10, 7], ids=["epoch end", "mid-epoch"])
def test_lightning_resumes_with_the_same_batches(module, changes, stop_at, tmp_path, quiet_trainer):
    def run(seen, **options):
        checkpoint = options.pop("ckpt_path", None)
        trainer = quiet_trainer(
            num_sanity_val_steps=1,
            **options,
        )
        trainer.fit(Recorder(seen), datamodule=module(**changes), ckpt_path=checkpoint, weights_only=True)
        return trainer

    whole: list = []
    run(whole, max_steps=18)
    parts: list = []
    run(parts, max_steps=stop_at).save_checkpoint(tmp_path / "x.ckpt")
    run(parts, max_steps=18, ckpt_path=tmp_path / "x.ckpt")
    assert parts == whole


def test_limited_epochs_under_lightning(module, quiet_trainer):
    seen: list = []
    trainer = quiet_trainer(
        limit_train_batches=3,
        max_epochs=3,
    )
    trainer.fit(Recorder(seen), datamodule=module())
    assert len(seen) == 9


def test_lightning_predicts_the_test_split(module, quiet_trainer):
    index = quiet_trainer().predict(Recorder([]), datamodule=module())
    assert torch.cat(index).tolist() == list(range(26, 34))


def test_lightning_validates_a_mixture(fake, monkeypatch, quiet_trainer):
    monkeypatch.setattr("airlam.data.recipe.load_channel", lambda recipe: FakeMixture(fake.channel))
    data = CSIDataModule("mixture", num_train=None, num_val=10, num_test=6, batch_size=4)
    quiet_trainer().validate(Recorder([]), datamodule=data)
    assert torch.cat(quiet_trainer().predict(Recorder([]), datamodule=data)).tolist() == list(range(6))


def test_loader_processes_do_not_change_the_batches(module):
    def batches(workers):
        data = module().with_changes(num_workers=workers)
        return [*data.val_dataloader(), *data.test_dataloader()]

    alone, helped = batches(0), batches(2)
    assert all(same(a, b) for a, b in zip(alone, helped, strict=True))


@pytest.mark.slow
def test_loader_processes_find_a_relative_store_after_a_change_of_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = {"channel": "cdl_c", "num_train": 8, "num_val": 4, "num_test": 4, "batch_size": 4, "block_size": 4}
    generate(recipe, "links.h5", workers=1, progress=False)
    modules = [CSIDataModule(**recipe, store="links.h5", num_workers=workers) for workers in (0, 1)]
    for data in modules:
        data.setup("fit")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    alone, helped = [[*data.train_dataloader(), *data.val_dataloader()] for data in modules]
    assert len(alone) == 3 and all(same(a, b) for a, b in zip(alone, helped, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("num_train", [32, None])
def test_training_processes_do_not_change_the_batches(num_train):
    def batches(workers):
        recipe = {
            "channel": "uma_nlos",
            "channel_overrides": {"num_subcarriers": 4, "chunk": 4, "bs_panel": {"rows": 1, "columns": 1}},
        }
        data = CSIDataModule(
            **recipe,
            num_train=num_train,
            num_val=0,
            num_test=0,
            block_size=4,
            batch_size=4,
            batches_per_epoch=8,
            num_workers=workers,
        )
        train = data.train_dataloader()
        return [batch for _ in range(2) for batch in train]

    alone, helped = batches(0), batches(2)
    assert len(alone) == 16 and all(same(a, b) for a, b in zip(alone, helped, strict=True))


# --- the store behind it ---


def test_the_cache_is_used_the_second_time(module, monkeypatch):
    module().val_dataloader()
    monkeypatch.setattr("airlam.data.datamodule.generate", lambda *_: pytest.fail("generated again"))
    module(csi_snr_db=3.0).val_dataloader()


def test_a_named_store(module, store_path):
    data = module(store=str(store_path))
    assert next(iter(data.test_dataloader()))["index"].tolist() == [26, 27, 28, 29]
    fewer = data.with_changes(num_train=5, num_test=3, history=4, horizon=2)
    assert next(iter(fewer.test_dataloader()))["h_future"].shape == (3, 2, 6, 1, 4)
    assert len(next(iter(fewer.train_dataloader()))["index"]) == 4
    alone = CSIDataModule(store=str(store_path), batch_size=4)
    assert sum(len(b["index"]) for b in alone.test_dataloader()) == 8
    assert sorted(i for b in alone.train_dataloader() for i in b["index"].tolist()) == list(range(20))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 4}, "its seed is 3, here it is 4"),
        ({"channel_overrides": {"speed_kmh": 3}}, "its channel.speed_kmh is 30.0, here it is 3"),
        ({"num_test": 9}, "holds 8 test links, but num_test is 9"),
        ({"horizon": 5}, "holds 20 slots a link, but history \\+ horizon is 21"),
    ],
)
def test_a_store_of_another_recipe_is_refused(module, store_path, changes, words):
    with pytest.raises(StoreError, match=words):
        module(store=str(store_path), **changes).setup()


def test_a_store_that_is_not_there(module, tmp_path):
    with pytest.raises(StoreError, match="airlam generate"):
        module(store=str(tmp_path / "no.h5")).setup()


def test_nothing_to_train_on(module):
    with pytest.raises(RecipeError, match="num_train is 0"):
        module(num_train=0).train_dataloader()


# --- on the fly ---


def test_batches_on_the_fly_depend_on_their_number_alone(fake):
    stream = OnTheFly({"scenario": "fake"}, batch_size=3, seed=7, num_batches=4)
    whole = list(stream)
    later = list(OnTheFly({"scenario": "fake"}, batch_size=3, seed=7, start=2, num_batches=2))
    assert len(whole) == 4 and all(same(a, b) for a, b in zip(whole[2:], later, strict=True))
    assert not same(whole[0], whole[1]) and not same(whole[0], next(iter(OnTheFly("fake", batch_size=3, seed=8))))
    assert torch.cat([b["index"] for b in whole]).tolist() == list(range(12))


def test_dropout_is_not_reseeded_by_generation(fake):
    stream = iter(OnTheFly("fake", batch_size=2))
    torch.manual_seed(1)
    expected = torch.rand(4)
    torch.manual_seed(1)
    assert torch.equal(torch.cat([(next(stream), torch.rand(2))[1] for _ in range(2)]), expected)


class FakeMixture:
    """Draws a model of another shape for every batch."""

    stackable, recipe = False, {"scenario": "mixture"}

    def __init__(self, channel):
        self.channel = channel

    def draw(self, seed):
        model = self.channel({"scenario": "fake"})
        model.num_subcarriers = 4 + seed % 5
        return model


def test_a_mixture_changes_shape_between_batches(fake, monkeypatch):
    monkeypatch.setattr("airlam.data.recipe.load_channel", lambda recipe: FakeMixture(fake.channel))
    data = CSIDataModule("mixture", num_train=None, num_val=10, num_test=8, batch_size=4, batches_per_epoch=8)
    assert len({b["h_past"].shape[2] for b in data.train_dataloader()}) > 1
    val = list(data.val_dataloader())
    assert data.store is None and [len(b["index"]) for b in val] == [4, 4, 2]
    assert all(same(a, b) for a, b in zip(val, data.val_dataloader(), strict=True))
    with pytest.raises(RecipeError, match="on the fly"):
        generate(data.recipe, "x.h5")


def test_bad_recipe_is_one_line(fake):
    with pytest.raises(RecipeError, match="history is -3"):
        CSIDataModule(channel="fake", history=-3)


def test_store_of_the_data_module_verifies(module):
    data = module()
    data.setup()
    CSIStore(data.recipe.store_path).verify()
