"""Numbers in recipes: one reading in files, on the command line and in checks."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

import airlam
from airlam.data.recipe import load_dataset_recipe
from airlam.errors import RecipeError
from airlam.recipes import check_number, check_positive, check_range, parse_yaml, read_yaml
from airlam.recipes.checks import as_number

digits = st.text("0123456789", min_size=1, max_size=6)
exponents = st.builds(lambda e, sign, d: e + sign + d, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), digits)
numbers = st.one_of(
    st.builds(lambda sign, a, e: sign + a + e, st.sampled_from(["", "-", "+"]), digits, exponents),
    st.builds(
        lambda sign, a, b, e: f"{sign}{a}.{b}{e}",
        st.sampled_from(["", "-", "+"]),
        digits,
        st.just("") | digits,
        st.just("") | exponents,
    ),
    st.builds(lambda b, e: f".{b}{e}", digits, st.just("") | exponents),
)


@given(numbers)
def test_every_number_with_point_or_exponent_is_a_float(text):
    found = parse_yaml(f"csi_snr_db: {text}")["csi_snr_db"]
    assert isinstance(found, float) and found == float(text)


@given(numbers.filter(lambda text: not text.startswith(".")))
def test_files_and_the_command_line_read_numbers_alike(text):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--x", type=float)
    assert parser.parse_args([f"--x={text}"]).x == parse_yaml(text)


@pytest.mark.parametrize(
    "text, value",
    [
        ("12", 12),
        ("-3", -3),
        ("[1, 2e1]", [1, 20.0]),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("'2e1'", "2e1"),
        ("e1", "e1"),
        ("2e", "2e"),
        ("2024-01-01", "2024-01-01"),
        ("1e3m", "1e3m"),
        ("null", None),
        (".", "."),
        ("-", [None]),
        ("1.2.3", "1.2.3"),
    ],
)
def test_other_scalars(text, value):
    assert parse_yaml(text) == value and type(parse_yaml(text)) is type(value)


def test_a_merged_key_may_be_replaced():
    assert parse_yaml("base: &b {x: 1, y: 2}\nmine: {<<: *b, x: 3}")["mine"] == {"x": 3, "y": 2}


def test_nan():
    assert math.isnan(parse_yaml(".nan"))


def test_a_data_set_of_a_file_equals_that_of_numbers(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("{channel: uma_nlos, csi_snr_db: 2e1, num_val: 1e2, impairments: {timing_std_s: [0, 2e-8]}}")
    recipe = load_dataset_recipe(path)
    wanted = load_dataset_recipe(
        {"channel": "uma_nlos", "csi_snr_db": 20, "num_val": 100, "impairments": {"timing_std_s": [0, 2e-8]}}
    )
    assert recipe == wanted and recipe.hash == wanted.hash
    assert load_dataset_recipe({"channel": "uma_nlos", "csi_snr_db": "2e1", "num_val": "1e2"}).csi_snr_db == 20.0


@pytest.mark.parametrize(
    "content, words",
    [
        (b"a: [", "is not valid YAML"),
        (b"- 1", "is a list, but a recipe holds keys and values"),
        (b"", "is empty"),
        (b"\xff\xfe\x00", "is not valid YAML"),
        (b"[" * 5000, "is not valid YAML"),
        (b"a: " + b"9" * 5000, "is not valid YAML"),
        (
            b"a: 1\nb:\n  x: A\n  y: C\n  x: B\n",
            "the key 'x' stands in line 3 and in line 5; take one out or rename it",
        ),
        (b"others: {x: A, 'x': B}", "the key 'x' stands twice in line 1"),
    ],
)
def test_files_that_hold_no_recipe(tmp_path, content, words):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=words) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(RecipeError, match="cannot read"):
        read_yaml(tmp_path)


@given(
    value=st.one_of(
        st.floats(),
        st.integers(),
        st.booleans(),
        st.none(),
        st.text(max_size=5),
        st.just(10**400),
        st.just("9" * 5000),
        st.floats().map(repr),
    ),
    low=st.sampled_from([-math.inf, 0, 1]),
    high=st.sampled_from([100, math.inf]),
    integer=st.booleans(),
)
def test_a_number_within_its_bounds_or_one_line(value, low, high, integer):
    try:
        number = check_number("x", value, low, high, integer=integer)
    except RecipeError as error:
        assert str(error).startswith("x is ") and "\n" not in str(error) and len(str(error)) < 200
    else:
        assert low <= number <= high and number == as_number(value)
        assert isinstance(number, int if integer else float)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e400, "1e400", 2.5])
def test_whole_numbers_are_finite(value):
    with pytest.raises(RecipeError, match="must be a whole number"):
        check_number("x", value, -math.inf, math.inf, integer=True)


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan, 10**400, True, "x", None])
def test_positive_numbers(value):
    with pytest.raises(RecipeError, match="x is .*must be a positive number"):
        check_positive("x", value)
    assert check_positive("x", "1e-3") == 1e-3


def test_ranges():
    assert check_range("x", ["0", "2e-8"], 0, 1) == [0.0, 2e-8] and check_range("x", "0.5", 0, 1) == 0.5
    for wrong, words in (([1], "number or"), ([1, 0], r"write \[0, 1\]"), ([0, 2], r"x\[1\] is 2")):
        with pytest.raises(RecipeError, match=words):
            check_range("x", wrong, 0, 1)


def test_yaml_is_read_in_one_place():
    package = Path(airlam.__file__).parent
    readers = [p for p in package.rglob("*.py") if re.search(r"yaml\.(safe_)?load", p.read_text(encoding="utf-8"))]
    assert [p.relative_to(package).as_posix() for p in readers] == ["recipes/reading.py"]
