"""Generation: the same bytes whatever happens on the way, and nothing that was there is ever lost."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import airlam.data.generation as generation
from airlam.data import CSIStore, generate
from airlam.errors import AirlamError, RecipeError, StoreError

HERE = Path(__file__).resolve().parent


def quietly(recipe, out, **options) -> Path:
    return generate(recipe, out, workers=options.pop("workers", 1), progress=False, **options)


class Stop(Exception):
    pass


@pytest.fixture
def stop_after(monkeypatch):
    """Makes the next generation fail after so many blocks were made."""

    def arm(blocks: int, error: BaseException):
        make_here = generation.make_here

        def failing(content, todo):
            for count, item in enumerate(make_here(content, todo)):
                if count == blocks:
                    raise error
                yield item

        monkeypatch.setattr(generation, "make_here", failing)
        return lambda: monkeypatch.setattr(generation, "make_here", make_here)

    return arm


def test_equal_recipes_give_equal_bytes(fake, tmp_path):
    first = quietly(fake.recipe(), tmp_path / "a.h5")
    time.sleep(1.1)  # HDF5 time stamps, if there were any, have one second
    second = quietly(fake.recipe(), tmp_path / "b.h5")
    assert first.read_bytes() == second.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_an_interrupted_run_ends_in_the_same_bytes(fake, tmp_path, stop_after, store_path):
    out = tmp_path / "x.h5"
    for blocks in (1, 2):  # interrupted twice
        disarm = stop_after(blocks, Stop())
        with pytest.raises(Stop):
            quietly(fake.recipe(), out)
        disarm()
        assert not out.exists() and out.with_name("x.h5.partial").exists()
        with pytest.raises(StoreError, match="unfinished"):
            CSIStore(out.with_name("x.h5.partial"))
    made = []
    original = fake.channel.sample
    fake.channel.sample = lambda self, n, *args, **kw: made.append(n) or original(self, n, *args, **kw)
    try:
        quietly(fake.recipe(), out)
    finally:
        fake.channel.sample = original
    assert len(made) == 5 - 3, "finished blocks must not be made again"
    assert out.read_bytes() == store_path.read_bytes() and not out.with_name("x.h5.partial").exists()


def test_damage_in_unfinished_work_is_mended(fake, tmp_path, stop_after, store_path):
    out, partial = tmp_path / "x.h5", tmp_path / "x.h5.partial"
    disarm = stop_after(2, Stop())
    with pytest.raises(Stop):
        quietly(fake.recipe(), out)
    disarm()
    _, columns = generation.open_layout(partial)
    with open(partial, "r+b") as file:
        file.seek(columns["h"].offset + 7)
        file.write(b"\xff")
    quietly(fake.recipe(), out)
    assert out.read_bytes() == store_path.read_bytes()


CHILD = """
    import importlib.util, signal, sys
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell inherits it as ignored
    spec = importlib.util.spec_from_file_location("fake_channel", sys.argv[1])
    fake = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fake)
    fake.use_fake_channel()
    from airlam.data import generate
    print("ready", flush=True)
    generate({**fake.TINY, "num_train": 80, "channel": {"scenario": "fake", "pause": float(sys.argv[3])}}, sys.argv[2])
"""


def start_child(out: Path, pause: float) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(HERE / "conftest.py"), str(out), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished_blocks(partial: Path) -> int:
    try:
        _, columns = generation.open_layout(partial)
    except StoreError:
        return 0
    file = os.open(partial, os.O_RDONLY)
    try:
        return int(generation.read_rows(file, columns["checksum"], 0, columns["checksum"].num_rows).any(axis=1).sum())
    finally:
        os.close(file)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_resumes_after_being_killed(fake, tmp_path, how):
    out, partial = tmp_path / "x.h5", tmp_path / "x.h5.partial"
    recipe = fake.recipe(num_train=80, channel={"scenario": "fake", "pause": 0.05})
    whole = quietly(recipe, tmp_path / "whole.h5")
    child = start_child(out, 0.05)
    deadline = time.monotonic() + 60
    while finished_blocks(partial) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(how)
    output = child.communicate(timeout=30)[0]
    assert child.returncode != 0 and not out.exists()
    assert 3 <= finished_blocks(partial) < 12
    if how == signal.SIGINT:
        assert "blocks are safe in" in output and "run the same command again" in output
    quietly(recipe, out)
    assert out.read_bytes() == whole.read_bytes()


def test_two_writers_of_one_file(fake, tmp_path):
    child = start_child(tmp_path / "x.h5", 0.2)
    try:
        deadline = time.monotonic() + 60
        while finished_blocks(tmp_path / "x.h5.partial") < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        recipe = fake.recipe(num_train=80, channel={"scenario": "fake", "pause": 0.2})
        for options in ({}, {"overwrite": True}, {"resume": False}):
            with pytest.raises(StoreError, match="another 'airlam generate' is writing"):
                quietly(recipe, tmp_path / "x.h5", **options)
    finally:
        child.kill()
        child.communicate()


RACE = """
    import importlib.util, pathlib, sys, time
    spec = importlib.util.spec_from_file_location("fake_channel", sys.argv[1])
    fake = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fake)
    fake.use_fake_channel()
    from airlam.data import generate, generation
    create = generation.create_store
    def create_slowly(path, *others):  # as a large file is: the other process looks meanwhile
        create(path, *others)
        time.sleep(0.1)
    generation.create_store = create_slowly
    folder, me, rounds = pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    recipe = {**fake.TINY, "channel": {"scenario": "fake", "pause": 0.05}}
    for number in range(rounds):
        (folder / f"{number}.ready.{me}").touch()
        while not (folder / f"{number}.ready.{1 - me}").exists():
            time.sleep(0)
        try:
            generate(recipe, folder / f"{number}.h5", progress=False, workers=1)
            result = "finished"
        except OSError as error:
            result = f"{type(error).__name__}: {error}"
        (folder / f"{number}.result.{me}").write_text(result)
        (folder / f"{number}.left.{me}").touch()
        while not (folder / f"{number}.left.{1 - me}").exists():
            time.sleep(0.001)
"""


def test_two_processes_that_start_at_once(fake, tmp_path):
    rounds, whole = 3, quietly(fake.recipe(channel={"scenario": "fake", "pause": 0.05}), tmp_path / "whole.h5")
    folder = tmp_path / "race"
    folder.mkdir()
    command = [sys.executable, "-c", textwrap.dedent(RACE), str(HERE / "conftest.py"), str(folder)]
    children = [subprocess.Popen([*command, str(me), str(rounds)]) for me in (0, 1)]
    try:
        assert [child.wait(timeout=120) for child in children] == [0, 0]
    finally:
        for child in children:
            child.kill()
    for number in range(rounds):
        results = sorted((folder / f"{number}.result.{me}").read_text() for me in (0, 1))
        assert results[0].startswith("StoreError: another 'airlam generate' is writing"), results
        assert results[1] == "finished"
        assert (folder / f"{number}.h5").read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in folder.glob("*.h5*")) == [f"{number}.h5" for number in range(rounds)]


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": False}], ids=str)
def test_unfinished_work_under_the_final_name_is_finished(fake, tmp_path, stop_after, store_path, options):
    out, partial = tmp_path / "x.h5", tmp_path / "x.h5.partial"
    disarm = stop_after(2, Stop())
    with pytest.raises(Stop):
        quietly(fake.recipe(), out)
    os.replace(partial, out)
    with pytest.raises(StoreError, match="5 blocks are missing; run the same 'airlam generate' again"):
        CSIStore(out)
    if not options:  # also after a second interruption
        disarm()
        disarm = stop_after(1, Stop())
        with pytest.raises(Stop):
            quietly(fake.recipe(), out)
        assert finished_blocks(partial) == 3
    disarm()
    quietly(fake.recipe(), out, **options)
    assert out.read_bytes() == store_path.read_bytes() and not partial.exists()


def test_leftovers_of_a_killed_beginning_do_not_matter(fake, tmp_path, store_path):
    for name in ("x.h5.partial.new", "x.h5.lock"):
        (tmp_path / name).write_bytes(b"left behind")
    quietly(fake.recipe(), tmp_path / "x.h5")
    assert (tmp_path / "x.h5").read_bytes() == store_path.read_bytes()
    assert sorted(p.name for p in tmp_path.glob("x*")) == ["x.h5"]


def test_a_finished_store_is_left_alone(store_path, fake):
    before = store_path.stat()
    assert quietly(fake.recipe(batch_size=3), store_path) == store_path  # the links are the same
    assert store_path.stat().st_mtime_ns == before.st_mtime_ns and store_path.stat().st_ino == before.st_ino


def test_another_recipes_store_is_replaced_only_on_request(store_path, fake, stop_after):
    before = store_path.read_bytes()
    with pytest.raises(StoreError, match="--overwrite"):
        quietly(fake.recipe(seed=9), store_path)
    disarm = stop_after(2, Stop())
    with pytest.raises(Stop):
        quietly(fake.recipe(seed=9), store_path, overwrite=True)
    disarm()
    assert store_path.read_bytes() == before, "the old store stays until the new one is complete"
    quietly(fake.recipe(seed=9), store_path, overwrite=True)
    assert CSIStore(store_path).attrs["seed"] == 9


def test_another_recipes_unfinished_work_is_dropped_only_on_request(fake, tmp_path, stop_after):
    out = tmp_path / "x.h5"
    disarm = stop_after(2, Stop())
    with pytest.raises(Stop):
        quietly(fake.recipe(seed=9), out)
    disarm()
    with pytest.raises(StoreError, match="unfinished work on another data set"):
        quietly(fake.recipe(), out)
    assert CSIStore(quietly(fake.recipe(), out, overwrite=True)).attrs["seed"] == 3


@pytest.mark.parametrize("suffix", ["", ".partial"])
@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": False}], ids=str)
def test_foreign_files_are_never_touched(fake, tmp_path, suffix, options):
    for name, content in {"notes.h5": b"my thesis", "empty.h5": b""}.items():
        path = tmp_path / (name + suffix)
        path.write_bytes(content)
        with pytest.raises(StoreError, match="not an airlam store"):
            quietly(fake.recipe(), tmp_path / name, **options)
        assert path.read_bytes() == content
    other = tmp_path / f"other.h5{suffix}"
    with h5py.File(other, "w") as file:
        file["x"] = np.zeros(3)
    content = other.read_bytes()
    with pytest.raises(StoreError, match="not an airlam store"):
        quietly(fake.recipe(), tmp_path / "other.h5", **options)
    assert other.read_bytes() == content


def test_a_truncated_store_is_reported_and_kept(fake, store_path):
    content = store_path.read_bytes()[:-1000]
    store_path.write_bytes(content)
    for options in ({}, {"overwrite": True}):
        with pytest.raises(StoreError, match="truncated"):
            quietly(fake.recipe(), store_path, **options)
    assert store_path.read_bytes() == content


def test_a_full_disk_is_seen_before_the_work(fake, tmp_path, monkeypatch):
    monkeypatch.setattr("airlam.data.disk.shutil.disk_usage", lambda path: type("U", (), {"free": 1_000_000}))
    with pytest.raises(StoreError, match=r"1\.0 MB free, but this data set needs"):
        quietly(fake.recipe(), tmp_path / "x.h5")
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_reservation_that_fails_leaves_nothing(fake, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(StoreError, match="full"):
        quietly(fake.recipe(), tmp_path / "x.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_on_the_way(fake, tmp_path, monkeypatch, store_path):
    out = tmp_path / "x.h5"
    write_rows, calls = generation.write_rows, []

    def failing(*args):
        calls.append(args)
        if len(calls) > 25:  # in the third block
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_rows(*args)

    monkeypatch.setattr(generation, "write_rows", failing)
    with pytest.raises(StoreError, match="full; finished blocks stay in"):
        quietly(fake.recipe(), out)
    assert finished_blocks(tmp_path / "x.h5.partial") == 2
    monkeypatch.setattr(generation, "write_rows", write_rows)
    assert quietly(fake.recipe(), out).read_bytes() == store_path.read_bytes()


def test_a_folder_that_cannot_be_written(fake, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        quietly(fake.recipe(), blocked / "x.h5")


def test_other_versions_do_not_mix(fake, tmp_path, monkeypatch, stop_after, store_path):
    out = tmp_path / "x.h5"
    disarm = stop_after(2, Stop())
    with pytest.raises(Stop):
        quietly(fake.recipe(), out)
    disarm()
    monkeypatch.setattr(generation, "versions", lambda: {"torch": "9.9"})
    with pytest.raises(StoreError, match="--no-resume"):
        quietly(fake.recipe(), out)
    monkeypatch.undo()


def test_starting_again_on_request(fake, tmp_path, stop_after, store_path):
    out = tmp_path / "x.h5"
    disarm = stop_after(2, Stop())
    with pytest.raises(Stop):
        quietly(fake.recipe(), out)
    disarm()
    assert quietly(fake.recipe(), out, resume=False).read_bytes() == store_path.read_bytes()


def test_global_randomness_and_threads_are_left_alone(fake, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    quietly(fake.recipe(), tmp_path / "x.h5")
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == threads


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_bad_number_of_workers(fake, tmp_path, workers):
    with pytest.raises(RecipeError, match="workers is"):
        generate(fake.recipe(), tmp_path / "x.h5", workers=workers)


def test_nothing_to_store(fake, tmp_path):
    with pytest.raises(RecipeError, match="no links"):
        quietly(fake.recipe(num_train=None, num_val=0, num_test=0), tmp_path / "x.h5")


def test_links_that_are_not_finite_are_refused(fake, tmp_path, monkeypatch):
    sample = fake.channel.sample

    def broken(self, *args, **options):
        links = sample(self, *args, **options)
        links.h[0, 0] = float("nan")
        return links

    monkeypatch.setattr(fake.channel, "sample", broken)
    with pytest.raises(AirlamError, match="NaN"):
        quietly(fake.recipe(), tmp_path / "x.h5")


def test_ray_that_is_not_installed(fake, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AirlamError, match=r"pip install 'airlam\[ray\]'"):
        quietly(fake.recipe(), tmp_path / "x.h5", ray_address="auto")


# --- with the real channel and real processes ---

REAL = {
    "channel": "uma_nlos",
    "channel_overrides": {"num_subcarriers": 4, "chunk": 4, "bs_panel": {"rows": 1, "columns": 1}},
    "num_train": 40,
    "num_val": 8,
    "num_test": 8,
    "block_size": 4,
}
SCRIPT = f"import sys; from airlam.data import generate; generate({REAL!r}, sys.argv[1], workers=2)"


@pytest.mark.slow
def test_workers_do_not_change_the_bytes(tmp_path):
    one = quietly(REAL, tmp_path / "one.h5")
    # From a script without `if __name__ == "__main__"`: spawned workers must not run it again.
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    subprocess.run([sys.executable, str(script), str(tmp_path / "two.h5")], check=True, timeout=120)
    assert one.read_bytes() == (tmp_path / "two.h5").read_bytes()


def alive_in_group(group: int) -> list[int]:
    """Processes of a group that still run. A dead one that init has not reaped yet (state Z) is no orphan."""
    alive = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                alive.append(int(stat.parent.name))
    return alive


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
def test_killed_with_workers_leaves_no_orphans_and_resumes(tmp_path, how):
    big = {**REAL, "num_train": 1200}
    out, partial = tmp_path / "x.h5", tmp_path / "x.h5.partial"
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"from airlam.data import generate; generate({big!r}, sys.argv[1], workers=2)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(out)], stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 120
    while finished_blocks(partial) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    if how == signal.SIGINT:
        os.killpg(child.pid, how)  # as a terminal does: to all processes at once
    else:
        child.send_signal(how)
    errors = child.communicate(timeout=60)[1].decode()
    if how == signal.SIGINT:
        assert "blocks are safe in" in errors and errors.count("Traceback") <= 2, errors
    deadline = time.monotonic() + 30
    while alive_in_group(child.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive_in_group(child.pid)
    assert 5 <= finished_blocks(partial) < 304
    quietly(big, out, workers=2)
    CSIStore(out).verify()
    assert out.read_bytes() == quietly(big, tmp_path / "whole.h5").read_bytes()
