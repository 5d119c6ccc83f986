"""Low-rank adapters (LoRA) through peft."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import safe_open

from airlam import __version__
from airlam.errors import CheckpointError
from airlam.models.airlam_model import AirlamModel
from airlam.models.cards import card_metadata
from airlam.models.checkpoint import check_finite, compare_shapes, read_config, reason_of, replace_files
from airlam.models.fields import check_real, check_whole, shown
from airlam.models.precoder import AirlamPrecoder
from airlam.recipes import shipped_name

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"
UTILITY_FILE = "precoder.json"
REMARK = "written by airlam: replaced when the adapters are saved again, unless this line is removed"
OLD_MARK = "<!-- written by airlam: replaced when the adapters are saved again -->"  # first line until 0.1
MAX_RANK = 1024
# keys of adapter_config.json that are checked one by one, or say nothing about the layers
READ = frozenset(
    [
        "peft_type",
        "r",
        "lora_alpha",
        "lora_dropout",
        "target_modules",
        "exclude_modules",
        "base_model_name_or_path",
        "rank_pattern",
        "alpha_pattern",
        "inference_mode",
        "peft_version",
        "task_type",
        "auto_mapping",
        "revision",
        "init_lora_weights",
    ]
)


def add_lora(
    model: AirlamModel | AirlamPrecoder, rank: int = 8, *, alpha: float | None = None, dropout: float = 0.0
) -> PeftModel:
    """Freeze ``model`` and add trainable low-rank adapters to each of its linear layers.

    The adapters start at zero: at first the adapted model predicts as the original. :func:`save_lora` writes the
    adapters alone, :func:`load_lora` brings them back, ``.merge_and_unload()`` gives a plain model.

    Args:
        rank: rank of every adapter, at least 1.
        alpha: scale of the update is ``alpha / rank``; the default is ``2 * rank``.
        dropout: on the adapters' input while training.

    Example:
        >>> from airlam.models import AirlamConfig, AirlamModel, add_lora
        >>> adapted = add_lora(AirlamModel(AirlamConfig(num_tokens=16, num_groups=0)), rank=2)
        >>> trainable, total = adapted.get_nb_trainable_parameters()
        >>> trainable < 0.1 * total
        True
    """
    check_whole("rank", rank, 1, MAX_RANK)
    if getattr(model, "shared", None) is not None:
        raise ValueError("this network has adapters on a shared backbone already; train those, or adapt one without")
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        lora_dropout=dropout,
        target_modules="all-linear",
        # not part of what is adapted: no gradient reaches it
        exclude_modules=None if getattr(model, "tracker", None) is None else r"tracker\..*",
    )
    with warnings.catch_warnings():  # peft asks transformers for an attribute under its old name
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        return get_peft_model(model, config)


def lora_layers(model: PeftModel) -> dict[str, Any]:
    """The adapted linear layers by their name in the plain model: each has ``base_layer``, ``lora_A``, ``lora_B``."""
    prefix = "base_model.model."
    return {
        name.removeprefix(prefix): module
        for name, module in model.named_modules()
        if hasattr(module, "lora_A") and hasattr(module, "base_layer")
    }


def save_lora(model: PeftModel, folder: str | Path) -> Path:
    """Write the adapters of ``model`` into ``folder``, atomically, with the name or the path of their base model.

    A shipped checkpoint is referred to by its name, so that the adapters also load on another machine. For adapters of
    a precoder, a further file holds the utility that they were trained for, because peft's own file has no field for
    it. A model card (``README.md``) is written unless the folder holds one that was edited.
    """
    folder, base = Path(folder), model.get_base_model()
    if name := str(base.config._name_or_path):
        model.peft_config["default"].base_model_name_or_path = shipped_name(name) or name

    def write(work: Path) -> None:
        with warnings.catch_warnings():  # peft would look for the base's vocabulary on the network
            warnings.filterwarnings("ignore", message=".*(Unable to fetch remote file|Could not find a config file).*")
            model.save_pretrained(str(work), save_embedding_layers=False)
        described = json.loads((work / CONFIG).read_text(encoding="utf-8"))
        # sets have another order in each process; the file of equal adapters must not differ
        for key in ("target_modules", "exclude_modules"):
            if isinstance(described.get(key), list):
                described[key] = sorted(described[key])
        (work / CONFIG).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        (work / CARD).unlink(missing_ok=True)  # peft's empty template
        if _is_ours(folder / CARD):
            (work / CARD).write_text(_card(described, model), encoding="utf-8")
        if (utility := getattr(base.config, "utility", None)) is not None:
            (work / UTILITY_FILE).write_text(json.dumps({"utility": utility}) + "\n", encoding="utf-8")

    return replace_files(folder, write)


def _is_ours(card: Path) -> bool:
    """Whether a model card may be replaced: there is none, it is this module's, or peft's empty template."""
    try:
        text = card.read_text(encoding="utf-8")
    except FileNotFoundError:
        return True
    except (OSError, UnicodeDecodeError):
        return False
    return text.startswith((f"---\n# {REMARK}\n", OLD_MARK)) or "[More Information Needed]" in text


def _card(described: dict[str, Any], model: PeftModel) -> str:
    """The model card of adapters: what they are, how they are loaded. No path of this machine stands in it."""
    base = described.get("base_model_name_or_path")
    is_name = base and "/" not in base and "\\" not in base  # else a path of this machine
    name = f"`{base}`" if is_name else "a checkpoint that is named in `adapter_config.json`"
    trainable, total = model.get_nb_trainable_parameters()
    is_precoder = isinstance(model.get_base_model(), AirlamPrecoder)
    load, what = ("load_precoder", "precoder") if is_precoder else ("load_predictor", "model")
    size = sum(x.numel() for layer in lora_layers(model).values() for x in _matrices(layer))
    metadata = card_metadata(
        tags=("CSI", "lora"),
        remark=REMARK,
        license="apache-2.0" if is_name else None,  # that of the shipped checkpoints
        base_model=base if is_name else None,
    )
    return f"""{metadata}

# Low-rank adapters for {name}

Adapters (LoRA) of rank {described["r"]}, scaled by {described["lora_alpha"] / described["r"]:g}, for each linear layer
of the {what}: {size:,} parameters beside the {total - trainable:,} of the base, which are not in this folder and do not
change. Written by airlam {__version__} with peft {described.get("peft_version") or "of an unknown version"}.

    from airlam import {load}
    {what if is_precoder else "predictor"} = {load}("this folder")

For a checkpoint that needs no base, merge them:

    from airlam.models import save_checkpoint
    save_checkpoint({load}("this folder").model.merge_and_unload(), "merged")

Say here what they were trained on, how they score, and where they fail, and remove the second line of this file: it
is then not replaced when the adapters are saved again. For a hub add `license`, `datasets` and `metrics` above.
"""


def _matrices(layer: Any) -> list[Any]:
    return [*layer.lora_A.parameters(), *layer.lora_B.parameters()]


def adapter_utility(folder: str | Path) -> str | None:
    """The utility that a precoder's adapters were trained for, where it is known."""
    path = Path(folder) / UTILITY_FILE
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["utility"]) if path.is_file() else None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete it, and name the utility when loading") from None


def load_lora(model: AirlamModel | AirlamPrecoder, folder: str | Path) -> PeftModel:
    """``model`` with the adapters that :func:`save_lora` wrote (safetensors only).

    Raises:
        CheckpointError: no such files, a configuration out of bounds or of another kind of adapter, or tensors that are
            not exactly those of the adapted layers: missing, unknown, of other shapes, NaN. ``model`` is then as
            before.
    """
    folder = Path(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise CheckpointError(f"{folder} holds no {WEIGHTS}; pickled adapters are not loaded")
    _check_adapter_config(folder)
    wrong = f"{folder}: these adapters are damaged or of another model"
    adapted = None
    with warnings.catch_warnings():  # as above; what is missing is reported below
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*missing adapter keys.*")
        try:
            with safe_open(weights, framework="pt") as file:
                found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            # PeftModel.from_pretrained in two steps, with the comparison of names and shapes between them
            config = LoraConfig.from_pretrained(str(folder))
            config.inference_mode = True
            adapted = PeftModel(model, config)
            state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
            compare_shapes(weights, found, {name: tuple(value.shape) for name, value in state.items()})
            adapted.load_adapter(str(folder), "default", is_trainable=False, use_safetensors=True)
            check_finite(weights, get_peft_model_state_dict(adapted, save_embedding_layers=False))
        except Exception as error:  # peft and safetensors raise errors of many types
            _remove_adapters(model, adapted)
            if isinstance(error, CheckpointError):
                raise CheckpointError(f"{wrong} ({error})") from error
            raise CheckpointError(f"{wrong} ({reason_of(error)})") from error
    return adapted


def _remove_adapters(model: Any, adapted: PeftModel | None) -> None:
    """Replace the adapted layers of ``model`` by its plain layers, also if peft stopped half-way."""
    if adapted is not None:
        adapted.unload()
    if hasattr(model, "peft_config"):
        del model.peft_config
    for name, layer in list(model.named_modules()):
        if hasattr(layer, "lora_A") and hasattr(layer, "base_layer"):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer.base_layer)


def _check_adapter_config(folder: Path) -> None:
    """Raises CheckpointError for an ``adapter_config.json`` that asks for more than low-rank adapters within bounds."""
    path, fields = folder / CONFIG, read_config(folder, CONFIG)
    try:
        if fields.get("peft_type") != "LORA":
            raise ValueError(f"peft_type is {shown(fields.get('peft_type'))}, but only LORA adapters are read")
        check_whole("r", fields.get("r"), 1, MAX_RANK)
        check_real("lora_alpha", fields.get("lora_alpha"), 0, 1e6)
        check_real("lora_dropout", fields.get("lora_dropout", 0.0), 0, 1, below=True)
        for key in ("target_modules", "exclude_modules"):
            names = fields.get(key) or []
            names = [names] if isinstance(names, str) else names
            if not isinstance(names, list) or len(names) > 1024 or not all(isinstance(x, str) for x in names):
                raise ValueError(f"{key} is {shown(names)}, but must be the names of layers, at most 1024")
            for name in names:
                if len(name) > 1024:
                    raise ValueError(f"{key} holds a name of {len(name)} characters, but may hold at most 1024")
        base = fields.get("base_model_name_or_path")
        if base is not None and (not isinstance(base, str) or len(base) > 1024):
            raise ValueError(f"base_model_name_or_path is {shown(base)}, but must be a name of at most 1024 characters")
        for key, name, low in (("rank_pattern", "rank", 1), ("alpha_pattern", "alpha", 0)):
            pattern = fields.get(key) or {}
            if not isinstance(pattern, dict) or len(pattern) > 1024:
                raise ValueError(f"{key} is {shown(pattern)}, but must hold the {name} of at most 1024 layers")
            for layer, value in pattern.items():
                if name == "rank":
                    check_whole(f"{key} of {shown(layer)}", value, low, MAX_RANK)
                else:
                    check_real(f"{key} of {shown(layer)}", value, low, 1e6)
        # further kinds of adapters of peft's (replicated layers, other decompositions): off, as save_lora leaves them
        usual = LoraConfig().to_dict()
        for key, value in fields.items():
            if key not in READ and value and value != _plain(usual.get(key)):
                raise ValueError(f"{key} is {shown(value)}, but only plain low-rank adapters are read")
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else value
