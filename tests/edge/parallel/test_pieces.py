"""Blocks of tensors in torch's distributed checkpoints: written in unequal parts, read in others."""

from __future__ import annotations

import pytest
import torch
import torch.distributed.checkpoint as dcp

from airlam.edge.parallel.engine.pieces import Held, Piece

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def test_a_held_tensor_shares_memory_and_has_the_shape_of_the_whole():
    block = torch.zeros(1, 4)
    held = Held(block, Piece.along((3, 4), 0, 1, 1))
    block += 1
    assert held.tensor.sum() == 4 and held.size() == (3, 4) and held.size(0) == 3


def test_a_whole_is_read_in_parts(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    step = torch.tensor(7.0)
    state = {"weight": Held(whole, Piece.whole((3, 4))), "step": Held(step, Piece.whole(()))}
    dcp.save(state, checkpoint_id=tmp_path, no_dist=True)
    for first, count in ((0, 1), (1, 2)):
        block, read = torch.zeros(count, 4), torch.tensor(0.0)
        parts = {"weight": Held(block, Piece.along((3, 4), 0, first, count)), "step": Held(read, Piece.whole(()))}
        dcp.load(parts, checkpoint_id=tmp_path, no_dist=True)
        assert torch.equal(block, whole[first : first + count]) and read == step
