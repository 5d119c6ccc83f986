"""Types of arguments in words."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Sequence

import pytest

import airlam.evaluation
from airlam.errors import RecipeError
from airlam.recipes import check_argument, instantiate, section_types
from airlam.recipes.words import annotation_text, is_list, type_in_words

BENCHMARKS = [name for name in airlam.evaluation.__all__ if name.endswith("Benchmark")]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_argument_of_a_benchmark_has_a_type_in_words(name):
    benchmark = getattr(airlam.evaluation, name)
    sections = section_types(benchmark)
    for made in (benchmark, *sections.values()):
        for key, parameter in inspect.signature(made).parameters.items():
            if key not in sections:
                words = type_in_words(annotation_text(parameter.annotation), key)
                assert not re.search(r"[\[\]|]|Sequence|Mapping|Any|\bint\b|\bstr\b", words.partition(", like")[0]), (
                    words
                )


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("Sequence[Any]", "a list of methods"),
        ("Sequence[Any] | Mapping[str, Any]", "a list of methods or a mapping"),
        ("Sequence[float]", "a list of numbers, like [3, 30]"),
        ("float | None", "a number or null"),
        (typing.Optional[int], "a whole number or null"),  # noqa: UP045
        (Sequence[str] | None, "a list of names, like [ar, hold] or null"),
        ("dict[str, dict[str, Any]]", "a mapping from names to mappings"),
        ("list[list[int]]", "a list of lists"),
        ("tuple[int, ...]", "a list of whole numbers, like [4, 8]"),
        (typing.Literal["a", "b"], "one of 'a', 'b'"),
        (int, "a whole number"),
    ],
)
def test_words(annotation, words):
    assert type_in_words(annotation_text(annotation), "methods") == words


class Takes:
    def __init__(self, plain, other):
        pass

    __init__.__annotations__ = {"plain": Sequence[str], "other": typing.Sequence[str]}  # types, not their texts


@pytest.mark.parametrize("key", ["plain", "other"])
def test_a_text_is_no_list_however_the_list_is_spelled(key):
    with pytest.raises(RecipeError, match=f"{key} is 'ar', but must be a list of names"):
        check_argument(Takes, key, "ar", "x")
    check_argument(Takes, key, ["ar"], "x")


def test_what_takes_a_text_as_well_is_no_list():
    assert is_list("Sequence[str] | None") and not is_list("str | Sequence[str]") and not is_list("str")


class TwoNeeded:
    def __init__(self, order: int, width: int):
        self.order, self.width = order, width


class Further(TwoNeeded):
    def __init__(self, depth: int, **others):
        super().__init__(**others)


def test_a_class_may_need_several_arguments():
    assert instantiate(TwoNeeded, {"order": 1, "width": 2}, "x").width == 2
    assert instantiate(Further, {"depth": 3, "order": 1, "width": 2}, "x").order == 1
    with pytest.raises(RecipeError, match="x: width is 'wide', but must be a whole number"):
        instantiate(TwoNeeded, {"order": 1, "width": "wide"}, "x")
    with pytest.raises(RecipeError, match="x: depth is 'deep', but must be a whole number"):
        instantiate(Further, {"depth": "deep", "order": 1, "width": 2}, "x")
    with pytest.raises(RecipeError, match="x: TwoNeeded needs width; give it under init_args"):
        instantiate(TwoNeeded, {"order": 1}, "x")
