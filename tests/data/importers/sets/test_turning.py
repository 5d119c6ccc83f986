"""Links whose axes run fastest in the file: any storage, any cut into tiles and blocks gives the same links."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat

from airlam.data.importers.sets import turning
from airlam.data.importers.sets.matlab import opened_variable
from airlam.data.importers.sets.turning import link_blocks
from airlam.errors import StoreError

SHAPE = (5, 3, 4, 7, 2)
ARRAY = np.random.default_rng(0).normal(size=(*SHAPE, 2)).view(np.complex128)[..., 0]


def links_of(path, link_axes, step, scratch):
    with opened_variable(path, "x", 5, "a, b, c, d, e") as variable:
        blocks = list(link_blocks(variable, link_axes, step, scratch))
    assert all(len(block) == step for block in blocks[:-1]) and blocks[0].dtype == np.complex64
    return np.concatenate(blocks)


@pytest.mark.parametrize("link_axes", [1, 2])
@pytest.mark.parametrize("tile_links", [2, 10**6])
@pytest.mark.parametrize("storage", [{}, {"chunks": (2, 3, 1, 2, 3)}, {"chunks": True, "compression": "gzip"}])
def test_tiles_of_any_size_and_storage(tmp_path, golden, monkeypatch, link_axes, tile_links, storage):
    golden.put_v73(tmp_path / "x.mat", "x", ARRAY, **storage)
    expected = ARRAY.reshape(-1, *SHAPE[link_axes:]).astype(np.complex64)
    for tile_bytes in (8, 400, 2000):
        monkeypatch.setattr(turning, "TILE_BYTES", tile_bytes)
        monkeypatch.setattr(turning, "TILE_LINKS", tile_links)
        np.testing.assert_array_equal(links_of(tmp_path / "x.mat", link_axes, 4, tmp_path), expected)
    assert [path.name for path in tmp_path.iterdir()] == ["x.mat"]  # the temporary file has no name


@pytest.mark.parametrize("storage", [{}, {"chunks": (1, 4, 2, 2, 3)}])
def test_the_file_is_read_once(tmp_path, golden, monkeypatch, storage):
    monkeypatch.setattr(turning, "TILE_BYTES", 800)
    golden.put_v73(tmp_path / "x.mat", "x", ARRAY, **storage)
    touched = np.zeros(SHAPE, int)
    with opened_variable(tmp_path / "x.mat", "x", 5, "a, b, c, d, e") as variable:
        chunks = variable.chunks or (1,) * 5
        for index in turning._tiles(variable):
            touched[index] += 1
            assert all(part.start % chunk == 0 for part, chunk in zip(index, chunks, strict=True))
    assert (touched == 1).all()


def test_a_v5_variable_is_taken_from_memory(tmp_path):
    savemat(tmp_path / "x.mat", {"x": ARRAY})
    expected = ARRAY.reshape(-1, *SHAPE[2:]).astype(np.complex64)
    np.testing.assert_array_equal(links_of(tmp_path / "x.mat", 2, 4, tmp_path), expected)


def test_huge_chunks_are_refused(tmp_path, golden, monkeypatch):
    monkeypatch.setattr("airlam.data.importers.sets.matlab.CHUNK_BYTES", 1000)
    golden.put_v73(tmp_path / "x.mat", "x", ARRAY, chunks=(2, 7, 4, 3, 5))
    with pytest.raises(StoreError, match="in chunks of .*smaller chunks"):
        links_of(tmp_path / "x.mat", 2, 4, tmp_path)
