"""Comparators as rows of the benchmark."""

import pytest
import torch

from airlam.errors import RecipeError
from airlam.evaluation import ChannelPredictionBenchmark
from airlam.evaluation.engine.contenders import of_predictor, without_correction
from airlam.evaluation.engine.fingerprint import fingerprint
from airlam.loading import load_predictor
from airlam.models.comparators import build_comparator, save_comparator


@pytest.fixture
def folder(tmp_path):
    """A small model with frozen weights, in a folder called as its kind of file is, not as its row."""
    model = build_comparator("llm4cp", num_subcarriers=12, width=32, num_layers=1, num_heads=2)
    return save_comparator(model, tmp_path / "checkpoint")


def test_others_by_name_become_methods():
    methods = ["hold", "ar", "{model}", "{model}:no-correction", "perfect"]
    benchmark = ChannelPredictionBenchmark(methods=methods, others={"gru": "runs/a/checkpoint", "cnn": "runs/b"})
    expected = ["hold", "ar", "airlam-tiny", "airlam-tiny:no-correction", "gru", "cnn", "perfect"]
    assert benchmark.methods == expected
    learned = {"airlam-tiny": "airlam-tiny", "gru": "runs/a/checkpoint", "cnn": "runs/b"}
    assert benchmark.entries.learned == learned
    named = ChannelPredictionBenchmark(methods=["hold", "gru", "ar", "{model}"], others={"gru": "x"})
    assert named.methods == ["hold", "gru", "ar", "airlam-tiny"]
    listed = ChannelPredictionBenchmark(methods=["ar", "{model}", "small"], others=["checkpoints/small"])
    assert listed.entries.learned["small"] == "checkpoints/small" and listed.methods == ["ar", "airlam-tiny", "small"]
    with pytest.raises(RecipeError, match="a list, or a mapping"):
        ChannelPredictionBenchmark(others="gru")
    with pytest.raises(RecipeError, match="a list, or a mapping"):
        ChannelPredictionBenchmark(others=3)


def test_others_in_a_list_are_rows_too():
    for others in (["runs/gru", "runs/cnn"], {"gru": "runs/gru", "cnn": "runs/cnn"}):
        benchmark = ChannelPredictionBenchmark(methods=["ar", "{model}", "perfect"], others=others)
        assert benchmark.methods == ["ar", "airlam-tiny", "gru", "cnn", "perfect"]
    with pytest.raises(RecipeError, match="others has two rows called 'checkpoint'; give names"):
        ChannelPredictionBenchmark(others=["runs/gru/checkpoint", "runs/cnn/checkpoint"])


@pytest.mark.parametrize("others", [(), ["runs/gru"], {"gru": "runs/gru"}])
def test_no_methods_at_all_is_what_the_message_says(others):
    with pytest.raises(RecipeError, match=r"methods is empty, but must name the model and the bar, like \[ar"):
        ChannelPredictionBenchmark(methods=[], others=others)


def test_sizes_and_fingerprint(folder):
    predictor = load_predictor(folder, name="llm4cp")
    contender = of_predictor("llm4cp", predictor, {}, (2, 2, 2))
    total, trained = contender.parameters
    assert total == sum(p.numel() for p in predictor.model.parameters())
    frozen = 12 * 32**2 + 9 * 32 + 32  # of one GPT-2 layer, its biases (qkv 3, out 1, in 4, out 1), and one word
    assert total - trained == frozen
    h = torch.randn(2, 16, 12, 1, 8, dtype=torch.complex64)
    assert contender.predict(h, 4, torch.arange(2)).shape == (2, 4, 12, 1, 8)
    before = fingerprint(predictor)
    predictor.model.arguments["num_heads"] = 4  # no weight changes, but the function does
    assert fingerprint(predictor) != before


def test_a_comparator_has_no_classical_start(folder):
    with pytest.raises(RecipeError, match="it is 'hold'"):
        without_correction(load_predictor(folder))
