"""Model cards: metadata that the Hugging Face hub reads, with figures that stand in the card."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard_data import model_index_to_eval_results

from airlam.models import AirlamConfig, AirlamModel, add_lora, load_checkpoint, load_lora, save_checkpoint, save_lora
from airlam.models.adapters import OLD_MARK
from airlam.models.cards import card_metadata

ROOT = Path(__file__).resolve().parents[2]
CARDS = sorted((ROOT / "checkpoints").glob("airlam-*/README.md"))


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.parent.name)
def test_shipped_cards(path):
    # strict, unlike the default: an error in model-index is raised, not logged
    card = ModelCard.load(path, ignore_metadata_errors=False)
    data = card.data.to_dict()
    assert (data["license"], data["library_name"]) == ("apache-2.0", "airlam")
    assert data["tags"] and data["metrics"]
    assert all((ROOT / "datasets" / f"{name}.yaml").is_file() for name in data["datasets"])
    if "random-start" in path.parent.name:  # the control's figures stand in the card of its partner
        return
    name, results = model_index_to_eval_results(data["model-index"])
    assert name == path.parent.name
    rows = [line for line in card.text.splitlines() if line.startswith("|") and ("**" in line or "mean" in line)]
    measured = {float(number) for line in rows for number in re.findall(r"-?\d+(?:\.\d+)?", line)}
    assert {result.metric_value for result in results} <= measured
    assert {result.metric_type for result in results} == set(data["metrics"])


def test_a_written_block_can_be_read():
    block = card_metadata(tags=("CSI",), remark="a remark: of mine", license=None, base_model="airlam-tiny")
    assert block.splitlines()[1] == "# a remark: of mine"
    data = ModelCard(f"{block}\n\n# Title\n").data
    assert (
        data.to_dict()
        == ModelCardData(library_name="airlam", tags=["wireless", "CSI"], base_model="airlam-tiny").to_dict()
    )


def test_the_card_of_adapters(tmp_path):
    base = save_checkpoint(AirlamModel(AirlamConfig(num_tokens=8, num_groups=0)), tmp_path / "base")
    folder = save_lora(add_lora(load_checkpoint(base), rank=1), tmp_path / "adapters")
    data = ModelCard.load(folder / "README.md").data.to_dict()
    assert data == {"library_name": "airlam", "tags": ["wireless", "CSI", "lora"]}  # a path is no base_model
    shipped = save_lora(add_lora(load_checkpoint("airlam-tiny"), rank=1), tmp_path / "shipped")
    assert ModelCard.load(shipped / "README.md").data.base_model == "airlam-tiny"
    # without the remark the card is the user's; cards of release 0.1 are replaced as their first line says
    card = folder / "README.md"
    for text, kept in ((card.read_text().split("\n", 2)[2], True), (f"{OLD_MARK}\n# Old\n", False)):
        card.write_text(text)
        save_lora(load_lora(load_checkpoint(base), folder), folder)
        assert (card.read_text() == text) is kept
