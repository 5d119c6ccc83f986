"""The benchmark on stored links: an imported file of LLM4CP's or WiFo's layout, under its own convention."""

from dataclasses import fields

import h5py
import numpy as np
import pytest
import torch

from airlam.csi import mean_power
from airlam.data import CSIStore
from airlam.data.importers.sets import Description, import_set
from airlam.data.importers.sets.reading import LAYOUTS
from airlam.errors import RecipeError, StoreError
from airlam.evaluation import Results, StoredSetBenchmark

METHODS = ["hold", "{model}", "perfect"]  # classics without a grid: seconds


def rays(links, slots, tones, ports, speed_kmh, seed=0):
    """Links of six rays each, of unequal gains, ``complex64 [link, slot, tone, port]``; slots of 0.5 ms at 2.4 GHz."""
    rng = np.random.default_rng(seed)
    doppler = speed_kmh / 3.6 * 2.4e9 / 3e8 * np.cos(rng.uniform(0, 2 * np.pi, (links, 6)))
    phase = rng.uniform(0, 1, (links, 6, 1, 1, 1))
    phase = phase + (doppler * 0.5e-3)[..., None, None, None] * np.arange(slots)[:, None, None]
    phase = phase - rng.uniform(0, 0.2, (links, 6, 1, 1, 1)) * np.arange(tones)[:, None]
    phase = phase + rng.uniform(-0.5, 0.5, (links, 6, 1, 1, 1)) * np.arange(ports)
    h = np.exp(2j * np.pi * phase).sum(1)
    return (10 ** rng.uniform(-1, 0, (links, 1, 1, 1)) * h).astype(np.complex64)


def put(path, name, array):
    """As MATLAB's ``save -v7.3``: axes reversed, complex values a compound of real and imag."""
    stored = np.empty(array.T.shape, [("real", np.float32), ("imag", np.float32)])
    stored["real"], stored["imag"] = array.T.real, array.T.imag
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset(name, data=stored)


@pytest.fixture(scope="module")
def llm4cp(tmp_path_factory):
    """A store of the published layout: 3 speeds x 8 users x 20 slots x 6 tones x 4 columns x 2 rows x 2."""
    folder = tmp_path_factory.mktemp("llm4cp")
    h = np.stack([rays(8, 20, 6, 16, speed, speed).reshape(8, 20, 6, 4, 2, 2) for speed in (10, 55, 100)])
    put(folder / "H_U_his_test.mat", "H_U_his_test", h[:, :, :16])
    put(folder / "H_U_pre_test.mat", "H_U_pre_test", h[:, :, 16:])
    speeds = {"speed_kmh": "10,100"}
    import_set(
        folder / "H_U_his_test.mat", folder / "test.h5", description=Description(split=(0, 0, 1)), options=speeds
    )
    return folder / "test.h5"


@pytest.fixture(scope="module")
def wifo(tmp_path_factory):
    """A store of the published layout: 24 links x 16 slots x 6 tones x 8 antennas, with validation links."""
    folder = tmp_path_factory.mktemp("wifo")
    put(folder / "X_test.mat", "X_val", rays(24, 16, 6, 8, 10))
    units = Description(0.5e-3, 2.4e9, 180e3, (1, 2, 4), split=(0, 0.25, 0.75))
    import_set(folder / "X_test.mat", folder / "test.h5", description=units)
    return folder / "test.h5"


def run(store, out, convention):
    benchmark = StoredSetBenchmark(
        store=str(store), convention=convention, model="mean", bar="hold", methods=METHODS, num_tune=2
    )
    benchmark.run(out)
    return Results.load(out / "results.json")


def test_llm4cp_file_gives_a_cell_for_each_speed(llm4cp, tmp_path):
    results = run(llm4cp, tmp_path, "llm4cp")
    hold = {row.speed_kmh: row.figures for row in results.select(group="cell", method="hold")}
    assert list(hold) == [10.0, 55.0, 100.0]
    row = results.select(group="cell", method="hold")[0]
    assert (row.csi_snr_db, row.history, row.horizon, row.num_links) == (18.0, 16, 4, 6)  # two are set aside
    # the held slot ages with the speed: the worst is far above the best under both ways of scoring
    assert hold[100.0]["nmse"].value > 5 * hold[10.0]["nmse"].value
    assert hold[100.0]["nmse_llm4cp"].value > 3 * hold[10.0]["nmse_llm4cp"].value
    perfect = results.select(group="mean", method="perfect")[0].figures["nmse_llm4cp"].value
    # mean of three cells of 12 samples x 4 x 6 x 8 noise draws, whose weights differ by gains
    assert perfect == pytest.approx(0.0156, rel=0.1)
    assert results.extras["tables"][0]["title"] == "Scored as LLM4CP scores"
    said = " ".join(results.extras["compared"])
    assert "Below each figure: its" not in (tmp_path / "report.html").read_text()  # there are no intervals
    assert "without noise" in said and "one drop" in said and "one level for all links" in said


def test_wifo_file_shows_half_of_the_slots(wifo, tmp_path):
    results = run(wifo, tmp_path, "wifo")
    row = results.select(group="cell", method="hold")[0]
    assert (row.csi_snr_db, row.history, row.horizon, row.num_links, row.speed_kmh) == (20.0, 8, 8, 18, None)
    assert 0.009 < results.select(group="cell", method="perfect")[0].figures["nmse_wifo"].value < 0.2
    assert "one drop" not in " ".join(results.extras["compared"])


def test_noise_of_a_history_follows_the_convention(wifo):
    """Shared: as strong on a weak link as on a strong one. airlam's: 20 dB below each."""
    levels = {}
    for convention in ("airlam", "wifo"):
        (cell,) = StoredSetBenchmark(
            store=str(wifo), convention=convention, model="mean", bar="hold", methods=METHODS, history=8, horizon=8
        ).all_cells()
        links = cell.links("test", cell.num_links)
        noise = mean_power(cell.observe(links.h, "test")[0] - links.h[:, :8])
        seen = mean_power(links.h[:, :8])
        levels[convention] = noise / seen
        if convention == "wifo":
            raw = noise * 10 ** (links.gain_db / 10)
            # 384 complex draws a link: deviations of 5 %, the largest of 18 within 4 of them
            torch.testing.assert_close(raw, raw.mean().expand_as(raw), rtol=0.2, atol=0)
    assert levels["airlam"].tolist() == pytest.approx([0.01] * 18, rel=0.2)
    assert float(levels["wifo"].max() / levels["wifo"].min()) > 3


def test_measured_layouts_are_said_to_be_of_unknown_noise(tmp_path):
    np.save(tmp_path / "x.npy", rays(12, 20, 6, 4, 30))
    units = Description(0.5e-3, 2.4e9, 180e3, split=(0, 0, 1))
    import_set(
        tmp_path / "x.npy", tmp_path / "x.h5", description=units, options={"axes": "link,slot,subcarrier,tx_ant"}
    )
    results = run(tmp_path / "x.h5", tmp_path / "out", "airlam")
    assert "does not say whether its CSI is clean" in " ".join(results.extras["compared"])
    assert results.extras["tables"][0]["title"] == "NMSE of every cell"


def test_errors(llm4cp):
    with pytest.raises(RecipeError, match="store is null; name a data set or the file"):
        StoredSetBenchmark().all_cells()
    with pytest.raises(RecipeError, match="holds no rays for a genie"):
        StoredSetBenchmark(methods=["ar", "{model}", "genie_lmmse"])
    with pytest.raises(RecipeError, match="links have 20 slots, too few for a history of 30"):
        StoredSetBenchmark(store=str(llm4cp), history=30).all_cells()
    with pytest.raises(RecipeError, match="must be airlam, llm4cp or wifo"):
        StoredSetBenchmark(convention="x")
    assert CSIStore(llm4cp).h.shape[1] == 20


def test_a_foreign_file_goes_to_a_report_in_one_step(tmp_path, capsys):
    """It is imported once into the folder of results; a change of it, or of an option, is seen."""
    put(tmp_path / "X_test.mat", "X_val", rays(12, 16, 6, 8, 10))
    told = {"slot_s": 0.5e-3, "carrier_hz": 2.4e9, "subcarrier_spacing_hz": 180e3, "port_shape": "1,2,4"}
    arguments = {"convention": "wifo", "model": "mean", "bar": "hold", "methods": METHODS, "num_tune": 2}

    def judged(**changes):
        options = {"store": str(tmp_path / "X_test.mat"), **arguments, **told, **changes}
        report = StoredSetBenchmark(**options).run(tmp_path / "out")
        assert report.is_file() and (tmp_path / "out" / "plots").is_dir()
        return Results.load(tmp_path / "out" / "results.json").select(group="cell", method="hold")[0]

    row, store = judged(), tmp_path / "out" / "imported" / "X_test.h5"
    first = store.stat().st_ino
    assert (row.num_links, row.horizon, CSIStore(store).port_shape) == (10, 8, (1, 2, 4))  # two are set aside
    assert judged().figures["nmse"].value == row.figures["nmse"].value and store.stat().st_ino == first
    assert len(list((tmp_path / "out" / "cells").iterdir())) == 1
    assert judged(port_shape=[1, 4, 2]).num_links == 10 and CSIStore(store).port_shape == (1, 4, 2)
    put(tmp_path / "X_test.mat", "X_val", rays(12, 16, 6, 8, 90))
    assert judged().figures["nmse"].value > 2 * row.figures["nmse"].value  # the new file's users are faster
    assert "importing" in capsys.readouterr().out


def test_errors_of_a_foreign_file(tmp_path, llm4cp):
    put(tmp_path / "X_test.mat", "X_val", rays(4, 16, 6, 8, 10))
    with pytest.raises(RecipeError, match="does not tell everything about its CSI; give --slot-s"):
        StoredSetBenchmark(store=str(tmp_path / "X_test.mat")).run(tmp_path / "out")
    with pytest.raises(RecipeError, match="port_shape is 'wide', but must be numbers"):
        StoredSetBenchmark(store=str(tmp_path / "X_test.mat"), port_shape="wide").run(tmp_path / "out")
    with pytest.raises(RecipeError, match="slots is an option of an import, but store is .*test.h5"):
        StoredSetBenchmark(store=str(llm4cp), slots=3).run(tmp_path / "out")
    with pytest.raises(StoreError, match="no store at nothing.h5"):
        StoredSetBenchmark(store="nothing.h5").run(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_option_of_an_import_is_an_argument():
    own = {option for name in LAYOUTS.names() for option in LAYOUTS.find(name).options}
    assert own <= {each.name for each in fields(StoredSetBenchmark)}
