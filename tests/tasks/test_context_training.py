"""Training of the contexts of CSI reports, and reports with contexts of one's own."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from safetensors.torch import load_file, save_file

from airlam.baselines.type2 import orthogonal_groups
from airlam.csi import subband_eigenvectors
from airlam.data import CSIDataModule
from airlam.models.csi_codec import ContextCodec, SizeNetwork
from airlam.models.csi_codec.codec import WEIGHTS
from airlam.models.csi_codec.contexts import FEATURES, places
from airlam.models.csi_codec.search import Effort, bits_of, search, size_costs
from airlam.tasks import ContextTraining, ExportCheckpoint

PORTS, SUBBANDS = (2, 2, 1), 6


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contexts")
    torch.manual_seed(0)
    task = ContextTraining(subband=2, bits=(14, 60), learning_rate=1e-2, warmup_steps=1)
    overrides = {"num_subcarriers": 12, "chunk": 16, "bs_panel": {"rows": 1, "columns": 2, "polarisation": "dual"}}
    data = CSIDataModule(
        "uma_nlos", overrides, num_train=64, num_val=16, num_test=16, history=1, horizon=1, batch_size=16, block_size=16
    )
    trainer = L.Trainer(
        max_steps=30,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ExportCheckpoint(str(folder))],
    )
    trainer.fit(task, data)
    return task, next(iter(data.val_dataloader())), folder / "sizes.safetensors"


def some_vectors():
    v = torch.randn(3, SUBBANDS, 4, 1, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.normalize(v, dim=-2)


def test_learned_contexts_shorten_the_code(trained):
    task, batch, _ = trained
    v = subband_eigenvectors(batch["h_past"][:, -1], 2)[..., 0].numpy()
    place, new = places(PORTS, SUBBANDS), SizeNetwork().rounded()
    groups = orthogonal_groups(*PORTS[1:]).numpy()
    found = search(v, 40, new, place, groups, Effort(1))  # the reports of contexts that know nothing
    lengths = [
        bits_of(size_costs(one, place, found.sizes, found.step), found.sizes) for one in (task.model.rounded(), new)
    ]
    assert lengths[0].mean() < lengths[1].mean() - 1


def test_reports_with_contexts_of_ones_own(trained):
    *_, path = trained
    own, shipped = (ContextCodec(60, weights=w).for_array(PORTS, SUBBANDS) for w in (path, None))
    v = some_vectors()
    report = own.report(v)
    assert torch.equal(own.vectors(report), ContextCodec(60, weights=path).for_array(PORTS, SUBBANDS).vectors(report))
    for one, other in ((own, shipped), (shipped, own)):  # never read with other contexts
        with pytest.raises(ValueError, match="checksum"):
            other.vectors(one.report(v))


def test_a_copy_of_the_shipped_contexts_is_the_same(tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(WEIGHTS.read_bytes())
    codecs = [ContextCodec(60, weights=w).for_array(PORTS, SUBBANDS) for w in (copy, None)]
    reports = [codec.report(some_vectors()) for codec in codecs]
    assert torch.equal(*reports)


def test_rounding_keeps_frequencies():
    torch.manual_seed(0)
    network = SizeNetwork()
    torch.nn.init.normal_(network.layers[-1].weight, std=0.3)
    features = torch.randint(0, 100, (50, FEATURES))
    with torch.no_grad():
        exact = (network(features.float()) * torch.tensor(2.0).log()).softmax(-1)
    rounded = torch.from_numpy(network.rounded().frequencies(features.numpy())).double()
    rounded = rounded / rounded.sum(-1, keepdim=True)
    lost = (exact * (exact / rounded).log2()).sum(-1)  # bits a size, Kullback-Leibler
    assert lost.max() < 0.01  # steps of 1/32 bit in the logits


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda held: held.pop("bias0"), "no contexts"),
        (lambda held: held.update(weight0=held["weight0"][:5].clone()), "no contexts"),
        (lambda held: held["bias1"].add_(0.5), "whole numbers"),
    ],
)
def test_files_that_are_no_contexts_are_refused(change, message, tmp_path):
    held = {name: x.double() for name, x in load_file(WEIGHTS).items()}
    change(held)
    save_file(held, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=message):
        ContextCodec(60, weights=tmp_path / "x.safetensors").for_array(PORTS, SUBBANDS)


@pytest.mark.parametrize("options", [{"bits": [4, 100]}, {"bits": [100]}, {"again": 5, "kept": 4}])
def test_bad_options_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ContextTraining(**options)
