"""``airlam generate`` and what the data module then finds."""

from __future__ import annotations

import h5py
import pytest

SMALL = (
    "--num_train",
    4,
    "--num_val=2",
    "--num_test",
    2,
    "--block_size",
    4,
    "--channel_overrides",
    "{num_subcarriers: 2, chunk: 4, bs_panel: {rows: 1, columns: 1}}",
)


def test_writes_a_store_and_knows_it_again(airlam, tmp_path):
    first = airlam("generate", "--config", "tiny", *SMALL, "--out", "x.h5", "--workers", 1, "--verify")
    assert first.code == 0, first.err
    assert "verified: all 8 links" in first.out and "x.h5 written: 8 links" in first.out
    assert "--data.store x.h5" in first.out
    again = airlam("generate", "--config", "tiny", *SMALL, "--out", "x.h5")
    assert again.code == 0 and "x.h5 was there already" in again.out


def test_without_a_path_it_goes_where_the_data_module_looks(airlam, monkeypatch):
    import yaml

    from airlam.data import CSIDataModule
    from airlam.recipes import find_recipe

    assert airlam("generate", "--config", "datasets/tiny.yaml").code == 0
    monkeypatch.setattr("airlam.data.datamodule.generate", lambda *_: pytest.fail("generated again"))
    data = CSIDataModule(**yaml.safe_load(find_recipe("datasets/tiny.yaml").read_text()))
    data.prepare_data()
    assert next(iter(data.train_dataloader()))["h_past"].shape == (16, 16, 12, 1, 4)


def test_mistakes_are_one_line(refuses, tmp_path):
    assert "did you mean 'tiny'" in refuses("generate", "--config", "tinny")
    assert "did you mean 'num_train'" in refuses("generate", "--config", "tiny", "--num_trian", 3)
    assert "num_train is -3" in refuses("generate", "--config", "tiny", "--num_train", -3)
    assert "--config" in refuses("generate")
    assert "workers" in refuses("generate", "--config", "tiny", "--workers", "many")
    assert "needs a value: --seed VALUE, or" in refuses("generate", "--config", "tiny", "--seed")
    assert "--quick true for a switch" in refuses("evaluate", "--config", "tiny", "--quick")
    assert "the key 'a' stands twice" in refuses("generate", "--config", "tiny", "--channel", "{a: 1, a: 2}")
    assert "did you mean 'uma_nlos'" in refuses("generate", "--config", "tiny", "--channel", "uma_nols")
    assert "fit into no store" in refuses("generate", "--config", "broad_mixture")
    assert "no links" in refuses("generate", "--config", "tiny", "--num_train", "null", "--num_val", 0, "--num_test", 0)


def test_foreign_files_stay(refuses, tmp_path):
    (tmp_path / "thesis.h5").write_text("my thesis")
    assert "not an airlam store" in refuses("generate", "--config", "tiny", "--out", "thesis.h5", "--overwrite")
    assert (tmp_path / "thesis.h5").read_text() == "my thesis"
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    assert "not an airlam store" in refuses("generate", "--config", "tiny", "--out", "other.h5")
