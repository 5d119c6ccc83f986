"""Atomic writes, hashes, folder checks."""

from __future__ import annotations

import os
import stat
import subprocess

import numpy as np
import pytest

from airlam.errors import RecipeError, StoreError
from airlam.io import (
    check_folder,
    inheritable_lock,
    locked,
    read_finished,
    read_json,
    recipe_hash,
    replacing,
    results_folder,
    write_json,
    write_text,
)


def test_an_interrupted_write_leaves_the_old_content_and_no_debris(tmp_path):
    path = write_text(tmp_path / "deep" / "a.txt", "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as work:
        work.write_text("half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_get_the_permissions_that_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        path = write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_json_keeps_values_and_refuses_what_json_has_no_word_for(tmp_path):
    path = write_json(tmp_path / "a.json", {"x": np.float32(0.5), "y": {3, 1}, "z": tmp_path})
    assert read_json(path) == {"x": 0.5, "y": [1, 3], "z": str(tmp_path)}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"x": float("nan")})
    assert read_json(path)["x"] == 0.5


@pytest.mark.parametrize("text", ["{", "[1]", "\x00", ""])
def test_what_is_no_json_object_is_named(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(StoreError, match="a.json"):
        read_json(path)
    assert read_finished(path) is None
    assert read_finished(tmp_path / "nothing.json") is None


def test_equal_recipes_have_equal_hashes():
    assert recipe_hash({"a": 1, "b": [2.0]}) == recipe_hash({"b": [2.0], "a": 1})
    assert recipe_hash({"a": 1}) != recipe_hash({"a": 1.5})
    assert recipe_hash({"a": 1}, digits=16).startswith(recipe_hash({"a": 1}))


def test_a_lock_is_held_once_and_leaves_nothing(tmp_path):
    path = tmp_path / "x.h5"
    for _ in range(2):
        with locked(path):
            with pytest.raises(StoreError, match="somebody is writing .*x.h5; wait"), locked(path, by="somebody"):
                pass
            with locked(tmp_path / "y.h5"):
                pass
        assert not list(tmp_path.iterdir())


def test_an_inheritable_lock_lasts_as_long_as_a_child_that_has_it(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    with inheritable_lock(path) as file:
        child = subprocess.Popen(["sleep", "60"], pass_fds=[file])
    try:
        with pytest.raises(StoreError, match="another process"), inheritable_lock(path):
            pass
    finally:
        child.kill()
        child.wait()
    with inheritable_lock(path):
        pass


def test_a_folder_below_a_file_is_refused_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="is a file"):
        check_folder(tmp_path / "file" / "out")
    assert check_folder(tmp_path / "new").is_dir()


def test_results_folder_goes_again_unless_something_was_written(tmp_path):
    for inside in (False, True):
        with pytest.raises(ValueError, match="fails"), results_folder(tmp_path / "outputs" / "task") as out:
            if inside:
                (out / "cells").mkdir()
            raise ValueError("fails")
        assert (tmp_path / "outputs").exists() == inside
    (tmp_path / "mine").mkdir()
    with pytest.raises(KeyboardInterrupt), results_folder(tmp_path / "mine"):
        raise KeyboardInterrupt
    assert (tmp_path / "mine").is_dir()  # was there before
