"""This rank's part of a model: cut on torch's meta device, then filled. No rank ever holds the whole.

1. The task is made with a model of names and shapes only.
2. Layers of other stages go; weights that are shared out shrink to this rank's part (:mod:`airlam.models.sharding`).
3. Values come module by module: random ones that depend on the module's name, or slices of a safetensors file.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors import safe_open
from torch import Tensor, nn

from airlam.data.recipe import load_dataset_recipe
from airlam.edge.parallel.engine.collectives import copy_to, gather_parts, reduce_from
from airlam.edge.parallel.engine.pieces import Piece
from airlam.edge.parallel.layout import Layout
from airlam.edge.parallel.recipe import ParallelTraining
from airlam.edge.parallel.shares import share_out
from airlam.errors import RecipeError
from airlam.models import AirlamConfig, AirlamModel
from airlam.models.checkpoint import check_names, check_weights, made_config, read_config
from airlam.models.fresh import empty_model, fresh_tracker, fresh_values
from airlam.models.layers import LAYERED, check_layered, layer_prefix, layers_of
from airlam.models.parallel_adapter import check_adaptable
from airlam.models.sharding import COLUMN, cuts, enter_through, make_row, num_heads, num_units, share_tokens, style_of
from airlam.recipes import find_checkpoint, find_class, read_class

FIRST, LAST = ("embedding", "backbone.embeddings", "backbone.wpe"), ("norm", "head")
FINAL = ("backbone.LayerNorm", "backbone.norm", "backbone.ln_f")


@dataclass
class Part:
    """What one rank holds.

    Attributes:
        task: whose ``model`` has this rank's weights. pieces: parameter or buffer -> its place in the whole model.
        layers: (first, stop) of this rank's layers. features: (first, stop) of the inputs that its embedding reads;
            None: all. tokens: ``sizes`` of all ranks' parts of the tokens, and ``first`` of this one's, of the batch
            that is being computed. replicas: parameter -> ranks that hold the same block of it. stored: names of what a
            durable state holds; None: everything. shapes: of all that the whole model stores.
    """

    task: L.LightningModule
    pieces: dict[str, Piece]
    layers: tuple[int, int]
    features: tuple[int, int] | None = None
    tokens: dict[str, Any] = field(default_factory=dict)
    replicas: dict[str, int] = field(default_factory=dict)
    stored: frozenset[str] | None = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def model(self) -> AirlamModel:
        """The task's model."""
        return self.task.model  # type: ignore[return-value]


def model_config(run: ParallelTraining) -> AirlamConfig:
    """The configuration of the run's model: of the checkpoint that it starts from, or the task's.

    Raises:
        RecipeError: a checkpoint and a model are both given, or what the model cannot be trained with in parallel.
    """
    _, arguments = read_class(run.task, "task")
    folder = checkpoint_folder(run)
    if folder is not None:
        if arguments.get("model"):
            raise RecipeError("give either a checkpoint to start from or the task's model, not both")
        config = made_config(folder / "config.json", read_config(folder), AirlamConfig)
    else:
        try:
            config = AirlamConfig(**(arguments.get("model") or {}))
        except (TypeError, ValueError) as error:
            raise RecipeError(f"task.init_args.model: {error}") from error
    if run.loops is not None:
        config.loops = run.loops
    if isinstance(config.backbone, str):
        raise RecipeError(
            "a backbone by name or folder would have to be loaded whole; save it as a checkpoint of airlam first "
            "(airlam.models.save_checkpoint), and start from that"
        )
    return config


def checkpoint_folder(run: ParallelTraining) -> Path | None:
    """The folder of the weights that the run starts from; None: random ones."""
    _, arguments = read_class(run.task, "task")
    if run.checkpoint and arguments.get("checkpoint"):
        raise RecipeError("checkpoint is given twice, in the run and in the task; leave one of them out")
    name = run.checkpoint or arguments.get("checkpoint")
    return None if name is None else find_checkpoint(name)


def empty_task(run: ParallelTraining) -> L.LightningModule:
    """The run's task with a model on the meta device.

    Raises:
        RecipeError: arguments that do not exist, or that need the whole model.
    """
    class_path, arguments = read_class(run.task, "task")
    made = find_class(class_path, "task")
    for name in arguments:
        if name not in inspect.signature(made).parameters:
            raise RecipeError(f"task: {class_path} has no argument {name!r}")
    if arguments.get("lora_rank") is not None or arguments.get("compile_backbone"):
        raise RecipeError("lora_rank and compile_backbone are for 'airlam fit'; here all weights train, uncompiled")
    config = model_config(run)
    rest = {key: value for key, value in arguments.items() if key not in ("model", "checkpoint")}
    described = {name: getattr(config, name) for name in inspect.signature(AirlamConfig).parameters if name != "kwargs"}
    try:
        with torch.device("meta"):
            return made(**rest, model=described).train()
    except (TypeError, ValueError) as error:
        raise RecipeError(f"task: {error}") from error


def check_mode(run: ParallelTraining, config: AirlamConfig | None = None) -> None:
    """Raises RecipeError where the model cannot be shared out as the run says, before any process starts."""
    config = model_config(run) if config is None else config
    model, sizes = empty_model(config), run.ranks.sizes
    if any(sizes[name] > 1 for name in ("pipeline", "sequence", "tensor")):
        if config.context:
            raise RecipeError("a model with tokens of other sensors (context) trains in mode data only, so far")
        try:
            check_layered(model.backbone)
            if sizes["tensor"] > 1:
                style_of(model.backbone)
        except ValueError as error:
            raise RecipeError(f"mode {run.mode}: {error}") from error
    if run.adapter is not None:
        check_adapter(run, model)
    bounds = {}
    if model.backbone.config.model_type in LAYERED:
        bounds["pipeline"] = (len(layers_of(model.backbone)), "layers")
    if sizes["tensor"] > 1:
        bounds["tensor"] = (num_heads(model.backbone), "attention heads")
    if sizes["sequence"] > 1:
        bounds["sequence"] = (config.num_tokens + config.num_groups, "tokens of a link")
    for name, (most, what) in bounds.items():
        if sizes[name] > most:
            raise RecipeError(f"{sizes[name]} ranks cannot share out {most} {what}; take at most {most}")
    _check_batches(run)
    if sizes["pipeline"] > 1 and config.loops > 1:
        raise RecipeError("a pipeline cannot loop its layers; take mode looped or data, or loops: 1")
    if sizes["pipeline"] > 1 and sizes["sequence"] > 1:
        raise RecipeError("pipeline and sequence do not go together: a stage needs all tokens of a link; take data")
    if sizes["tensor"] > 1 and run.shares.tensor and sum(run.shares.tensor) > 10_000:
        raise RecipeError("shares.tensor are proportions, such as [3, 1]; these numbers are too large")
    if sizes["tensor"] > 1 and len(set(run.shares.tensor or [1])) > 1:
        _check_dropout(model.backbone.config)


def _check_dropout(config: Any) -> None:
    """Ranks with unequal heads draw unequally many random numbers in attention: what they draw next, for the hidden
    state that all of them hold, would differ."""
    for name in ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop"):
        if getattr(config, name, 0):
            raise RecipeError(
                f"the backbone's {name} is {getattr(config, name)}, but unequal shares of heads need 0: set it so, or "
                "take equal shares"
            )


def _check_batches(run: ParallelTraining) -> None:
    """Raises RecipeError where a batch cannot be shared out."""
    links, sizes = load_dataset_recipe(run.data).batch_size, run.ranks.sizes
    weights = run.shares.data or [1] * sizes["data"]
    parts = share_out(links, weights, what="links of a batch")
    if sizes["pipeline"] > 1:
        if run.micro_batches < sizes["pipeline"]:
            raise RecipeError(
                f"micro_batches is {run.micro_batches}, but must be at least {sizes['pipeline']}, the stages"
            )
        for part in parts:
            if part % run.micro_batches:
                raise RecipeError(
                    f"micro_batches is {run.micro_batches}, but {part} links of a batch go through "
                    f"{'each pipeline' if len(parts) > 1 else 'the pipeline'}; take a number that divides them"
                )


def check_adapter(run: ParallelTraining, model: Any) -> None:
    """Raises RecipeError where a model (on the meta device) cannot be adapted as the run says."""
    assert run.adapter is not None
    if checkpoint_folder(run) is None:
        raise RecipeError("adapter needs a checkpoint to adapt, but the run has none; say checkpoint: airlam-tiny, say")
    if run.adapter.kind == "parallel":
        try:
            check_adaptable(model)
        except ValueError as error:
            raise RecipeError(f"adapter: {error}") from error
    data = load_dataset_recipe(run.data)
    if run.adapter.cache and data.num_train is None and data.channel is not None:
        raise RecipeError("adapter.cache needs links that come again, but num_train of the data is null; give a number")


def build(run: ParallelTraining, layout: Layout) -> Part:
    """This rank's part of the model, with its start values.

    Raises:
        RecipeError: the model cannot be shared out like this. CheckpointError: the start values are of another model.
    """
    check_mode(run)
    task, whole = empty_task(run), empty_task(run).model
    model: AirlamModel = task.model  # type: ignore[assignment]
    assert isinstance(whole, AirlamModel)
    part = Part(task, {}, (0, 0))
    if model.backbone.config.model_type in LAYERED:
        part.layers = layout.own("pipeline", len(layers_of(model.backbone)))
    if model.tracker is not None:
        model.tracker = fresh_tracker(model, run.seed).to(layout.device)
        model.tracker.requires_grad_(False)  # no gradient reaches it: it works on CSI, before the tokens
        whole.tracker = model.tracker
    part.shapes = {name: tuple(value.shape) for name, value in whole.state_dict().items()}
    if layout.size("pipeline") > 1:
        _drop_other_stages(model, part.layers, keep_head=run.adapter is not None)
    names = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    part.pieces = {name: Piece.whole(value.shape) for name, value in names.items()}
    if layout.size("tensor") > 1:
        _cut_tensors(model, part, layout)
    if layout.size("sequence") > 1:
        _share_tokens(model, part.tokens, layout)
    if run.shard:
        _shard(model, layout)
    _allocate(model, part.pieces, layout.device)
    _fill(model, whole, part.pieces, run, checkpoint_folder(run))
    part.replicas = {name: _replicas(name, part, layout, run) for name, _ in model.named_parameters()}
    if run.precision == "64-true":
        for name, module in model.named_children():
            if name != "tracker":  # works on CSI, before the tokens
                module.double()
    return part


def _drop_other_stages(model: AirlamModel, layers: tuple[int, int], *, keep_head: bool) -> None:
    every = layers_of(model.backbone)
    first, last = layers[0] == 0, layers[1] == len(every)
    for number in range(len(every)):
        if not layers[0] <= number < layers[1]:
            every[number] = nn.Identity()
    words = model.backbone.get_input_embeddings()  # nothing reads them; they stay with the first stage
    named = tuple(f"backbone.{name}" for name, module in model.backbone.named_modules() if module is words)
    for name in (() if first else (*named, *FIRST)) + (() if last else (*(() if keep_head else LAST), *FINAL)):
        parent, _, child = name.rpartition(".")
        if hasattr(model.get_submodule(parent), child):
            setattr(model.get_submodule(parent), child, nn.Identity())
    if not last and getattr(model.backbone, "pooler", None) is not None:
        model.backbone.pooler = None


def _cut_tensors(model: AirlamModel, part: Part, layout: Layout) -> None:
    backbone: Any = model.backbone
    group, star = layout.group("tensor"), layout.star

    def total(x: Tensor) -> Tensor:
        return reduce_from(x, group, star=star)

    plan = cuts(backbone, layout.own("tensor", num_heads(backbone)), layout.own("tensor", num_units(backbone)))
    prefix = f"backbone.{layer_prefix(backbone)}"
    for number in range(*part.layers):
        layer = layers_of(backbone)[number]
        for name, (kind, first, count) in plan.items():
            _cut(layer.get_submodule(name), f"{prefix}{number}.{name}", kind, first, count, part.pieces)
            if kind != COLUMN:
                make_row(layer.get_submodule(name), total)
        for name in style_of(backbone).entries:
            enter_through(layer.get_submodule(name), lambda x: copy_to(x, group, star=star))
    if star and layout.place["pipeline"] == 0:
        part.features = layout.own("tensor", model.num_features)
        first, stop = part.features
        _cut(model.embedding[0], "embedding.0", "row", first, stop - first, part.pieces)
        make_row(model.embedding[0], total)


def _cut(layer: Any, name: str, kind: str, first: int, count: int, pieces: dict[str, Piece]) -> None:
    dim = 0 if kind == COLUMN else 1
    for key, value in list(layer.named_parameters(recurse=False)):
        if value.dim() <= dim:
            continue  # the bias of a row layer is whole
        piece = Piece.along(value.shape, dim, first, count)
        pieces[f"{name}.{key}"] = piece
        setattr(layer, key, nn.Parameter(torch.empty(piece.sizes, device="meta"), requires_grad=value.requires_grad))


def _share_tokens(model: AirlamModel, tokens: dict[str, Any], layout: Layout) -> None:
    group = layout.group("sequence")

    def gather(x: Tensor, dim: int) -> Tensor:
        return gather_parts(x, dim, tokens["sizes"], group)

    share_tokens(model.backbone, gather, lambda: tokens["first"])


def _shard(model: AirlamModel, layout: Layout) -> None:
    """FSDP2: each layer, and all the rest, is gathered when it computes."""
    from torch.distributed.fsdp import fully_shard

    mesh = layout.device_mesh["data"]
    if model.backbone.config.model_type in LAYERED:
        for layer in layers_of(model.backbone):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=set(model.tracker.parameters()) if model.tracker else None)


def local(value: Tensor) -> Tensor:
    """This rank's own tensor behind a parameter, which may be a DTensor."""
    return value.to_local() if hasattr(value, "to_local") else value  # type: ignore[operator]


def _allocate(model: AirlamModel, pieces: dict[str, Piece], device: torch.device) -> None:
    """Memory for this rank's weights, and nothing else."""
    sharded = any(hasattr(value, "to_local") for value in model.parameters())
    if sharded:
        from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

        tracker = model.tracker
        model.tracker = None  # it has its values already
        model.to_empty(device=device)
        model.tracker = tracker
        for name, value in model.named_parameters():
            if hasattr(value, "to_local"):
                sizes, offsets = compute_local_shape_and_global_offset(
                    value.shape,
                    value.device_mesh,
                    value.placements,  # type: ignore[attr-defined]
                )
                pieces[name] = Piece(tuple(value.shape), tuple(offsets), tuple(sizes))
        return
    for module in model.modules():
        if any(value.is_meta for value in (*module.parameters(False), *module.buffers(False))):
            module.to_empty(device=device, recurse=False)


@torch.no_grad()
def _fill(
    model: AirlamModel, whole: AirlamModel, pieces: dict[str, Piece], run: ParallelTraining, folder: Path | None
) -> None:
    """Start values, module by module."""
    mine = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, module in whole.named_modules():
        if name == "tracker" or name.startswith("tracker."):
            continue
        direct = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        wanted = [f"{name}.{key}" if name else key for key, _ in direct]
        if not any(key in mine for key in wanted):
            continue
        for key, value in fresh_values(whole, name, run.seed).items():
            if key in mine:
                local(mine[key]).copy_(pieces[key].of(value))
    if folder is None:
        return
    fields = read_config(folder)
    weights = check_weights(folder, fields)
    # sensors that the task adds have no weights in the file yet
    new = "context." if whole.context is not None and not fields.get("context") else None
    there = {name: value for name, value in whole.state_dict().items() if not (new and name.startswith(new))}
    check_names(weights, there)
    kept = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    kept = {name: value for name, value in kept.items() if name in there}
    with safe_open(weights, framework="pt") as file:
        for key, value in kept.items():
            piece = pieces[key]
            if piece.numel:
                stored = file.get_slice(key)
                local(value).copy_(stored[piece.slices] if piece.shape else file.get_tensor(key))


def _replicas(name: str, part: Part, layout: Layout, run: ParallelTraining) -> int:
    """Ranks that hold the same block of a parameter."""
    piece = part.pieces[name]
    if run.shard:
        return 1 if name in part.pieces and not name.startswith("tracker.") else layout.world
    copies = layout.size("data") * layout.size("sequence")
    return copies if piece.sizes != piece.shape else copies * layout.size("tensor")
