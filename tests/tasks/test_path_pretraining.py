"""Training on paths: what was found once is found in its file, a batch comes again as told, weights move."""

from __future__ import annotations

import lightning as L
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from airlam.data import CSIDataModule
from airlam.data.batches import RepeatedBatches
from airlam.tasks import FindPaths, PathPretraining

CHANNEL = dict(scenario="cdl_c", carrier_frequency=2e9, num_subcarriers=8, subcarrier_spacing=360e3, slot_duration=1e-3,
               speed_kmh=30, bs_panel=dict(rows=2, columns=2, polarisation="dual", pattern="omni"),
               ut_panel=dict(rows=1, columns=1, polarisation="single", pattern="omni"))  # fmt: skip

SMALL = dict(model_type="roberta-prelayernorm", hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
             intermediate_size=16, vocab_size=2, max_position_embeddings=130, pad_token_id=1, bos_token_id=0,
             eos_token_id=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)  # fmt: skip


class Numbers:
    def batch(self, number):
        return {"number": number}


def test_blocks_come_again_in_another_order():
    stream = RepeatedBatches(Numbers(), block=5, passes=3, seed=1)
    numbers = [stream.batch(i)["number"] for i in range(30)]
    for first in range(0, 30, 5):
        block = range(0, 5) if first < 15 else range(5, 10)
        assert sorted(numbers[first : first + 5]) == list(block)
    assert len({tuple(numbers[i : i + 5]) for i in (0, 5, 10)}) > 1
    assert numbers == [RepeatedBatches(Numbers(), block=5, passes=3, seed=1).batch(i)["number"] for i in range(30)]


def data(prepare, **changes):
    settings = dict(
        channel=CHANNEL, num_val=4, num_test=4, history=8, horizon=2, batch_size=4, batches_per_epoch=2, seed=3
    )
    return CSIDataModule(**settings | changes, repeat=(1, 2), prepare=prepare)


def test_what_was_found_is_kept(tmp_path):
    fresh = FindPaths(None, num_paths=10)
    keeping = FindPaths(str(tmp_path / "kept"), num_paths=10)
    stream = data(None).train_dataloader().source
    batch = stream.batch(0)
    first, second, third = fresh(batch)["paths"], keeping(batch)["paths"], keeping(batch)["paths"]
    assert len(list((tmp_path / "kept").iterdir())) == 1
    for other in (second, third):
        assert torch.equal(first.shift, other.shift)
        assert torch.equal(first.seen, other.seen)
        assert torch.equal(first.true, other.true)
    keeping(stream.batch(2))  # the next block
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_training_moves_the_weights_the_same_way_again(tmp_path):
    states = []
    for _ in range(2):
        L.seed_everything(1, verbose=False)
        task = PathPretraining(model=dict(backbone=dict(SMALL), num_paths=10), warmup_steps=1)
        before = {name: value.clone() for name, value in task.model.state_dict().items()}
        trainer = L.Trainer(max_steps=3, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                            accelerator="cpu", enable_model_summary=False, num_sanity_val_steps=0)  # fmt: skip
        trainer.fit(task, datamodule=data(FindPaths(str(tmp_path / "kept"), num_paths=10)))
        state = task.model.state_dict()
        assert {"val_nmse", "val_nmse_db", "val_gain_db"} <= set(trainer.callback_metrics)
        moved = {name for name in state if not torch.equal(state[name], before[name])}
        assert {"head.weight", "embedding.0.weight"} <= moved
        assert not any(name.startswith("inside") for name in moved)
        states.append(state)
    for name in states[0]:
        torch.testing.assert_close(states[0][name], states[1][name], rtol=0, atol=1e-6)


def test_training_goes_on_where_it_was_interrupted(tmp_path):
    """Bit for bit, with averaged weights; the file goes without the model inside."""
    final = []
    for ckpt_path in (None, tmp_path / "step=2.ckpt"):
        L.seed_everything(1, verbose=False)
        task = PathPretraining(model=dict(backbone=dict(SMALL), num_paths=10), warmup_steps=1)
        keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
        trainer = L.Trainer(max_steps=4, logger=False, enable_progress_bar=False, accelerator="cpu",
                            enable_model_summary=False, num_sanity_val_steps=0,
                            callbacks=[EMAWeightAveraging(decay=0.5), keep])  # fmt: skip
        trainer.fit(task, datamodule=data(FindPaths(str(tmp_path / "kept"), num_paths=10)), ckpt_path=ckpt_path)
        final.append(task.model.state_dict())
    stored = torch.load(tmp_path / "step=2.ckpt", weights_only=True)
    for part in ("state_dict", "current_model_state"):
        assert stored[part] and not [name for name in stored[part] if "inside" in name]
    for name, value in final[0].items():
        assert torch.equal(value, final[1][name]), name
