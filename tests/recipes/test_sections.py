"""Arguments that are dataclasses: made from mappings, checked by name, changed in part."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from airlam.errors import RecipeError
from airlam.recipes import argument_defaults, argument_names, instantiate, merged


@dataclass(frozen=True)
class Inner:
    size: int = 3
    speeds: tuple[float, ...] = (1.0,)
    extra: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Outer:
    name: str = "x"
    inner: Inner = Inner(size=5)
    maybe: Inner | None = None


class Plain:
    def __init__(self, inner: Inner = Inner(size=7), count: int = 1):
        self.inner, self.count = inner, count


def test_a_mapping_changes_what_it_names_and_nothing_else():
    assert instantiate(Outer, {"inner": {"speeds": (2.0,)}}, "r").inner == Inner(size=5, speeds=(2.0,))
    assert instantiate(Plain, {"inner": {}, "count": 2}, "r").inner == Inner(size=7)
    assert instantiate(Outer, {"maybe": {"size": 1}}, "r").maybe == Inner(size=1)
    assert instantiate(Outer, {"inner": Inner(9)}, "r").inner.size == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inner": {"sise": 1}}, "r: inner: Inner has no argument 'sise'; did you mean 'size'"),
        ({"size": 1}, "Outer has no argument 'size'; did you mean 'inner.size'"),
        ({"speed": 1}, "did you mean 'inner.speeds'"),
        ({"inner.sise": 1}, "did you mean 'inner.size'"),
        ({"inner": {"size": "many"}}, "r: inner: size is 'many', but must be a whole number"),
        ({"inner": 3}, "inner is 3, but must be"),
    ],
)
def test_errors_are_one_line_and_name_the_nearest(arguments, message):
    with pytest.raises(RecipeError, match=message) as error:
        instantiate(Outer, arguments, "r")
    assert "\n" not in str(error.value)


def test_changes_are_merged_into_a_recipe():
    recipe = {"name": "y", "inner": {"size": 1, "speeds": [3.0]}}
    expected = {"name": "y", "inner": {"size": 2, "speeds": [3.0]}}
    assert merged(Outer, recipe, {"inner.size": 2}) == merged(Outer, recipe, {"inner": {"size": 2}}) == expected
    assert merged(Outer, {}, {"inner.size": 2}) == {"inner": {"size": 2}}
    assert merged(Outer, {"inner": Inner(4, (9.0,))}, {"inner.size": 2})["inner"]["speeds"] == (9.0,)
    assert recipe["inner"]["size"] == 1  # what was given stays


def test_names_and_defaults():
    assert argument_names(Plain) == ["inner", "inner.size", "inner.speeds", "inner.extra", "count"]
    assert argument_defaults(Inner) == {"size": 3, "speeds": (1.0,), "extra": {}}
