"""The store of an import: splits by whole drops, the same bytes again, nothing left by a kill, bounded memory."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from airlam.data import CSIStore
from airlam.data.importers.sets import Contents, Description, LinkBlock, import_set
from airlam.data.importers.sets.writing import _places

UNITS = Description(1e-3, 3e9, 3e4)

IMPORT = """
import sys, time
from airlam.data.importers.sets import Description, import_set, writing

real = writing._write_links

def slowly(*arguments):
    real(*arguments)
    print("writing", flush=True)
    time.sleep(60)

if sys.argv[3] == "slow":
    writing._write_links = slowly
import_set(sys.argv[1], sys.argv[2], description=Description(1e-3, 3e9, 3e4))
import resource
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def save(path, links: int = 30, slots: int = 4) -> np.ndarray:
    rng = np.random.default_rng(0)
    csi = rng.normal(size=(links, slots, 6, 1, 4, 2)).view(np.complex128)[..., 0]
    np.save(path, csi)
    return csi


def test_equal_imports_are_equal_to_the_bit_and_another_seed_splits_otherwise(tmp_path):
    save(tmp_path / "x.npy")
    for name in ("a", "b"):
        import_set(tmp_path / "x.npy", tmp_path / f"{name}.h5", description=UNITS)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    import_set(tmp_path / "x.npy", tmp_path / "c.h5", description=Description(1e-3, 3e9, 3e4, seed=1))
    drops = [CSIStore(tmp_path / f"{name}.h5").truth["drop"].tolist() for name in ("a", "c")]
    assert drops[0] != drops[1] and sorted(drops[0]) == sorted(drops[1]) == list(range(30))


@pytest.mark.parametrize("links", [1, 10, 25, 40])
def test_splits_hold_whole_drops_and_every_link_has_one_place(links):
    contents = Contents((links, 1, 1, 1, 1), lambda: iter([LinkBlock(np.zeros(0))]), (), links_per_drop=4)
    places, counts, drops = _places(contents, Description(split=(0.5, 0.25, 0.25)))
    assert sorted(places) == list(range(links)) and sum(counts.values()) == links
    owner = np.repeat(np.arange(3), list(counts.values()))[places]
    assert all(len(set(owner[drops == drop])) == 1 for drop in drops)


def test_blocks_of_the_file_do_not_show_in_the_store(tmp_path, monkeypatch):
    save(tmp_path / "x.npy")
    import_set(tmp_path / "x.npy", tmp_path / "a.h5", description=UNITS)
    monkeypatch.setattr("airlam.data.importers.sets.layout.READ_BYTES", 2000)
    import_set(tmp_path / "x.npy", tmp_path / "b.h5", description=UNITS)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_killed_import_leaves_no_store_and_is_done_again(tmp_path):
    save(tmp_path / "x.npy")
    folder = tmp_path / "out"
    out = folder / "x.h5"
    command = [sys.executable, "-c", IMPORT, str(tmp_path / "x.npy"), str(out)]
    process = subprocess.Popen([*command, "slow"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    # The lock's empty file is of no process any more and hinders nobody.
    assert {path.name for path in folder.iterdir()} - {"x.h5.lock"} == {"x.h5.partial"}
    subprocess.run([*command, "fast"], check=True, capture_output=True)
    CSIStore(out).verify()
    assert [path.name for path in folder.iterdir()] == ["x.h5"]


def test_unfinished_work_of_generate_is_kept(tmp_path, fake):
    from airlam.data.generation import _work_file
    from airlam.data.recipe import load_dataset_recipe
    from airlam.errors import StoreError

    save(tmp_path / "x.npy")
    _work_file(tmp_path / "x.h5", load_dataset_recipe(fake.recipe()), True, False)
    with pytest.raises(StoreError, match="unfinished work of 'airlam generate'"):
        import_set(tmp_path / "x.npy", tmp_path / "x.h5", description=UNITS)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    """A file of 0.9 GB, memory-mapped: the limit counts what the process allocates, not pages of the file."""
    links, shape = 1200, (16, 48, 1, 64)
    array = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.complex128, (links, *shape))
    for start in range(0, links, 100):
        array[start : start + 100] = 1 + 1j
    del array
    limit = 1000 * 2**20  # of private memory: what the process itself allocates

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    command = [sys.executable, "-c", IMPORT, str(tmp_path / "x.npy"), str(tmp_path / "x.h5"), "fast"]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited, env={**os.environ})
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(CSIStore(tmp_path / "x.h5")) == links
