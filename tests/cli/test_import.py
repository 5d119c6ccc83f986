"""``airlam import`` as a user calls it."""

from __future__ import annotations

import numpy as np
import pytest

from airlam.data import CSIStore

UNITS = ("--slot-s", "0.001", "--carrier-hz", "3e9", "--subcarrier-spacing-hz", "30e3")


@pytest.fixture
def file(tmp_path):
    csi = np.random.default_rng(0).normal(size=(20, 6, 5, 4, 2)).view(np.complex128)[..., 0]
    np.save(tmp_path / "x.npy", csi)
    return tmp_path / "x.npy"


def test_an_array_becomes_a_store(airlam, file):
    axes = ("--axes", "link,slot,subcarrier,tx_ant", "--port-shape", "2,2,1", "--split", "0.5,0.25,0.25")
    result = airlam("import", file, "--out", "sub/x.h5", *UNITS, *axes)
    assert result.code == 0, result.err
    assert "20 links (10 train, 5 val, 5 test), h [6, 5, 1, 4]" in result.out and "note" not in result.out
    with CSIStore("sub/x.h5") as store:
        store.verify()
        assert store.port_shape == (2, 2, 1) and store.attrs["carrier_frequency"] == 3e9
        made = store.recipe["channel"]
    assert made["layout"] == "numpy" and made["files"][0]["name"] == "x.npy" and len(made["files"][0]["sha256"]) == 64


def test_mistakes_are_one_line(refuses, file):
    axes = ("--axes", "link,slot,subcarrier,tx_ant")
    assert "--slot-s, --carrier-hz, --subcarrier-spacing-hz" in refuses("import", file, "--out", "x.h5", *axes)
    assert "numbers separated by commas" in refuses("import", file, "--out", "x.h5", *UNITS, "--port-shape", "two")
    assert "must be one of numpy" in refuses("import", file, "--out", "x.h5", "--layout", "matrix")
    assert "--link" in refuses("import", file, "--out", "x.h5", *UNITS, "--link", "up")
    assert "--out" in refuses("import", file)
    assert "did you mean '--layout'" in refuses("import", file, "--out", "x.h5", "--layuot", "numpy")


def test_help_explains_it(airlam):
    assert "--subcarrier-spacing-hz" in airlam("import", "--help").out


OWN = """
from contextlib import nullcontext

import numpy as np

from airlam.data.importers.sets import Contents, Layout, LinkBlock


class Raw(Layout):
    name = "raw"

    @classmethod
    def recognises(cls, path):
        return path.suffix == ".raw"

    def open(self, path):
        h = np.fromfile(path, np.complex64).reshape(-1, 6, 5, 1, 4)
        return nullcontext(Contents(h.shape, lambda: iter([LinkBlock(h)]), (path,), {"slot_duration": 2e-3}))
"""


def test_a_layout_of_ones_own_by_class_path(airlam, tmp_path):
    (tmp_path / "my_layout.py").write_text(OWN)
    np.ones((10, 6, 5, 1, 4), np.complex64).tofile(tmp_path / "x.raw")
    result = airlam("import", "x.raw", "--out", "x.h5", *UNITS[2:], "--layout", "my_layout.Raw")
    assert result.code == 0, result.err
    with CSIStore("x.h5") as store:
        assert store.attrs["slot_duration"] == 2e-3 and store.recipe["channel"]["layout"] == "raw"


def test_a_layout_of_an_installed_package(airlam, refuses, tmp_path, monkeypatch):
    """An entry point of the group ``airlam.layouts`` is found by name and by ``auto``, as for a package of pip."""
    site = tmp_path / "site"
    (site / "raw_layout-1.0.dist-info").mkdir(parents=True)
    (site / "raw_layout.py").write_text(OWN)
    (site / "raw_layout-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: raw-layout\nVersion: 1.0\n"
    )
    (site / "raw_layout-1.0.dist-info" / "entry_points.txt").write_text("[airlam.layouts]\nraw = raw_layout:Raw\n")
    np.ones((10, 6, 5, 1, 4), np.complex64).tofile(tmp_path / "x.raw")
    assert "none of" in refuses("import", "x.raw", "--out", "x.h5", *UNITS[2:])
    monkeypatch.syspath_prepend(site)
    for number, layout in enumerate([(), ("--layout", "raw")]):
        result = airlam("import", "x.raw", "--out", f"{number}.h5", *UNITS[2:], *layout)
        assert result.code == 0, result.err
        with CSIStore(f"{number}.h5") as store:
            assert store.recipe["channel"]["layout"] == "raw"
    assert "did you mean 'raw'" in refuses("import", "x.raw", "--out", "x.h5", "--layout", "rav")


def test_a_folder_is_a_data_set_too(refuses, tmp_path):
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene" / "params.json").write_text("{}")
    assert "layout deepmimo expects params.json" in refuses("import", "scene", "--out", "x.h5", *UNITS)
