"""The configuration that goes with saved adapters is the same text in every process."""

from __future__ import annotations

import json

import torch

from airlam.models import AirlamConfig, AirlamModel, add_lora, save_lora


def test_sets_are_written_in_order(tmp_path):
    torch.manual_seed(0)
    adapted = add_lora(AirlamModel(AirlamConfig(num_tokens=8, num_groups=0)), rank=2)
    assert isinstance(adapted.peft_config["default"].target_modules, set)  # whose order differs between processes
    written = json.loads((save_lora(adapted, tmp_path) / "adapter_config.json").read_text())
    assert written["target_modules"] == sorted(written["target_modules"]) and len(written["target_modules"]) > 3
