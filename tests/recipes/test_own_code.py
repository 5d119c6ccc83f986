"""Files of the user: their names, and the place in them where an exception arose."""

from __future__ import annotations

import sys

import pytest

from airlam.errors import RecipeError
from airlam.recipes import find_class, own_place

CODE = """
class Mine:
    name = "mine"

    def predict(self):
        return self.inner()

    def inner(self):
        return int("x")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["random", "time", "antigravity", "numpy"])
@pytest.mark.parametrize("spelling", ["{}.py:Mine", "{}:Mine", "{}.Mine", "./{}.py:Mine"])
def test_a_file_with_the_name_of_another_module_is_refused(folder, name, spelling):
    (folder / f"{name}.py").write_text(CODE)
    loaded = name in sys.modules
    with pytest.raises(RecipeError) as error:
        find_class(spelling.format(name), "others.mine")
    kind = "another module" if name == "numpy" else "a module of Python's standard library"
    assert f"{folder}/{name}.py has the name of {kind}" in str(error.value)
    assert str(error.value).endswith("; rename the file") and "\n" not in str(error.value)
    assert (name in sys.modules) == loaded  # nothing was imported to find that out


def test_a_package_with_the_name_of_the_standard_library_is_refused(folder):
    (folder / "statistics").mkdir()
    (folder / "statistics" / "__init__.py").write_text(CODE)
    with pytest.raises(RecipeError, match="statistics/__init__.py has the name of a module of Python's standard"):
        find_class("statistics:Mine", "model")


def test_other_modules_of_the_standard_library_are_found(folder):
    import collections

    (folder / "own_code_mine.py").write_text(CODE)
    assert find_class("collections.OrderedDict", "x") is collections.OrderedDict
    assert find_class("own_code_mine.Mine", "x").name == "mine"
    sys.modules.pop("own_code_mine")


def test_the_place_is_the_deepest_one_in_the_users_files(folder):
    (folder / "own_code_place.py").write_text(CODE)
    made = find_class("own_code_place.Mine", "x")()
    with pytest.raises(ValueError) as error:
        made.predict()
    assert own_place(error.value) == "own_code_place.py, line 9, in Mine.inner"
    try:
        raise RecipeError("in short") from error.value
    except RecipeError as outer:
        assert own_place(outer) == "own_code_place.py, line 9, in Mine.inner"
    sys.modules.pop("own_code_place")


def test_errors_of_airlam_have_no_place_in_own_code():
    try:
        find_class("no_such_module:Mine", "x")
    except RecipeError as error:
        assert own_place(error.with_traceback(error.__traceback__.tb_next)) == ""  # without the frame of this test
