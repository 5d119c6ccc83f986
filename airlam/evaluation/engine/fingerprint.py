"""What a method's figures depend on, as a short text: a finished cell is reused only for the same method.

The fingerprint covers every network and every plain setting that can be reached through the object's attributes, files
that they name, and the source of its classes. What cannot be hashed (an open file, a session of another library)
makes the method's cells be computed every time; one line says so.
"""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from airlam.io import recipe_hash
from airlam.methods import Method, find
from airlam.recipes import is_installed_file

UNCACHED = "uncached"  # in the names of cells that are never looked up
# Attributes of their objects that cannot be hashed are caches and handles; all that matters is plain.
_TRUSTED = ("airlam", "torch", "transformers", "peft")
_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic, torch.dtype, torch.device, torch.Size)


class NotHashable(Exception):
    """A value that a fingerprint cannot cover."""


def fingerprint(method: Any) -> str:
    """Hash of all that a predictor, precoder or network depends on; two different ones never share finished cells.

    An object may answer for itself with a function ``fingerprint() -> str``.

    Args:
        method: the object, or a :class:`airlam.methods.Method` (which is built, and its tuning grid added).

    Returns:
        12 hexadecimal digits; or a text with ``"uncached"`` that is new each time, if something cannot be hashed.

    Example:
        >>> from airlam.baselines import ARPredictor
        >>> fingerprint(ARPredictor(order=4)) == fingerprint(ARPredictor(order=4)) != fingerprint(ARPredictor(order=8))
        True
    """
    hashing = _Hashing()
    try:
        if isinstance(method, Method):
            hashing.add((method.name, dict(method.options), dict(method.grid), method.tune_links), "method")
            method = method.build()
        hashing.add(method, type(method).__name__)
    except NotHashable as reason:
        name = getattr(method, "name", type(method).__name__)
        print(f"{name}: finished cells are not kept, since {reason}", file=sys.stderr)
        return f"{UNCACHED}-{uuid.uuid4().hex[:12]}"
    return hashing.digest.hexdigest()[:12]


def combined(methods: Iterable[Any]) -> str:
    """One fingerprint of several objects or :class:`airlam.methods.Method`, for the name of a cell.

    Where a user's own benchmark calls this, its file and the user's files that it imports are part of the fingerprint:
    other code, other cells. The benchmarks of airlam are not, as no code of airlam is.
    """
    prints = [fingerprint(method) for method in methods]
    caller = sys._getframe(1).f_globals
    if not is_installed_file(str(caller.get("__file__", ""))):
        prints.append(_of_benchmark(sys.modules.get(str(caller.get("__name__")))))
    if any(UNCACHED in text for text in prints):
        return UNCACHED
    return prints[0] if len(prints) == 1 else recipe_hash(prints)


def _of_benchmark(module: ModuleType | None) -> str:
    """Fingerprint of the module of a user's benchmark."""
    hashing = _Hashing()
    try:
        hashing.source(module, "the benchmark")
    except NotHashable as reason:
        print(f"finished cells are not kept, since {reason}", file=sys.stderr)
        return UNCACHED
    return hashing.digest.hexdigest()[:12]


def outside(names: Iterable[str], role: str = "predictor") -> list[Method]:
    """Those of the named methods that airlam did not ship: their code can change while airlam stays the same."""
    found = [find(name, role) for name in dict.fromkeys(names)]
    return [method for method in found if method is not None and method.factory and not _is_shipped(method)]


def _is_shipped(method: Method) -> bool:
    return isinstance(method.factory, str) and method.factory.startswith("airlam.")


class _Hashing:
    """One walk over an object. ``where`` names the attribute, for the message."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.seen: dict[int, int] = {}
        self.kept: list[Any] = []  # temporary objects must live on, or their id would be given away again
        self.sources: set[str] = set()

    def add(self, value: Any, where: str) -> None:
        """Add a value and all that it reaches."""
        self._text(type(value).__name__)
        if isinstance(value, _PLAIN):
            self._text(repr(value))
            return
        if id(value) in self.seen:
            self._text(f"again {self.seen[id(value)]}")
            return
        self.seen[id(value)] = len(self.seen)
        self.kept.append(value)
        if isinstance(value, Tensor):
            self._tensor(value, where)
        elif isinstance(value, np.ndarray):
            self._array(value, where)
        elif isinstance(value, Path):
            self._text(value.name)
            self._file(value)
        elif isinstance(value, Mapping):
            for key, item in value.items():
                self.add(key, f"a key of {where}")
                self.add(item, f"{where}[{key!r}]")
        elif isinstance(value, (list, tuple)):
            for place, item in enumerate(value):
                self.add(item, f"{where}[{place}]")
        elif isinstance(value, (set, frozenset)):
            for item in sorted(value, key=repr):
                self.add(item, f"an item of {where}")
        elif isinstance(value, torch.Generator):
            self._tensor(value.get_state(), where)
        elif isinstance(value, np.random.Generator):
            self.add(value.bit_generator.state, where)
        elif isinstance(value, partial):
            self.add((value.func, value.args, value.keywords), where)
        elif isinstance(value, MethodType):
            self.add((value.__self__, value.__func__), where)
        elif isinstance(value, (type, FunctionType, BuiltinFunctionType)):
            self._code(value, where)
        elif isinstance(value, ModuleType):
            self.source(value, where)
        else:
            self._object(value, where)

    def _text(self, text: str) -> None:
        self.digest.update(f"{len(text)}:{text}".encode())

    def _tensor(self, value: Tensor, where: str) -> None:
        try:
            plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
            self._text(f"{value.dtype} {tuple(value.shape)}")
            self.digest.update(plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
        except (RuntimeError, NotImplementedError, TypeError) as error:
            raise NotHashable(f"{where} is a tensor without plain values ({error})") from None

    def _array(self, value: np.ndarray, where: str) -> None:
        if value.dtype.hasobject:
            raise NotHashable(f"{where} is an array of Python objects")
        self._text(f"{value.dtype} {value.shape}")
        self.digest.update(np.ascontiguousarray(value).tobytes())

    def _file(self, path: str | Path) -> None:
        if os.path.isfile(path):
            with open(path, "rb") as file:
                self.digest.update(hashlib.file_digest(file, "sha256").digest())

    def _object(self, value: Any, where: str) -> None:
        """Class and attributes of any other object."""
        self._code(type(value), where)
        if callable(own := getattr(value, "fingerprint", None)):
            self._text(str(own()))
            return
        if hasattr(value, "to_json_string"):  # a configuration of transformers
            self._text(value.to_json_string())
            return
        attributes = self._attributes(value)
        if not attributes and not hasattr(value, "__dict__"):
            raise NotHashable(f"{where} is a {type(value).__module__}.{type(value).__qualname__}")
        trusted = type(value).__module__.partition(".")[0] in _TRUSTED
        for name, item in sorted(attributes.items()):
            self._text(name)
            if isinstance(item, str) and not trusted:
                self._file(item)
            try:
                self.add(item, f"{where}.{name}")
            except NotHashable:
                if not trusted:
                    raise

    def _attributes(self, value: Any) -> dict[str, Any]:
        attributes = dict(getattr(value, "__dict__", {}))
        for kind in type(value).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                    attributes[name] = getattr(value, name)
        attributes.pop("name", None)  # the row's, not the method's
        if isinstance(value, nn.Module):  # torch's own entries matter only where they hold something
            return {name: item for name, item in attributes.items() if not name.startswith("_") or item}
        return attributes

    def _code(self, value: Any, where: str) -> None:
        """A class or function: its name, its own source, and what a function has closed over."""
        self._text(f"{value.__module__}.{value.__qualname__}")
        for kind in value.__mro__ if isinstance(value, type) else (value,):
            if not _is_installed(kind):
                self.source(sys.modules.get(kind.__module__), f"{where}, {kind.__qualname__},")
        if isinstance(value, FunctionType) and not _is_installed(value):
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            self.add((cells, value.__defaults__, value.__kwdefaults__), where)

    def source(self, module: ModuleType | None, where: str) -> None:
        """The file of a user's module, and those of the user's modules that it uses."""
        file = getattr(module, "__file__", None)
        if file is None or not os.path.isfile(file):
            raise NotHashable(f"{where} is not defined in a file")
        if file in self.sources or is_installed_file(file):
            return
        self.sources.add(file)
        self._file(file)
        for item in list(vars(module).values()):
            used = item if isinstance(item, ModuleType) else sys.modules.get(getattr(item, "__module__", None) or "")
            path = getattr(used, "__file__", None)
            if used is not None and path and not is_installed_file(path):
                self.source(used, where)


def _is_installed(code: Any) -> bool:
    """Whether a class or function comes from airlam, the standard library or an installed package."""
    module = sys.modules.get(code.__module__ or "")
    if code.__module__ in sys.builtin_module_names:
        return True
    file = getattr(module, "__file__", None)
    return file is not None and is_installed_file(file)
