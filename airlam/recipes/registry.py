"""Classes that a recipe names: the package's own, those registered from outside, and class paths."""

from __future__ import annotations

import importlib.metadata
from typing import Any, Generic, TypeVar

from airlam.errors import RecipeError
from airlam.recipes.build import find_class
from airlam.recipes.locate import nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """Named classes of one kind.

    A name is looked up among the registered classes, then among the entry points of ``group`` (an outside package's
    ``[project.entry-points."GROUP"]``, found in every process), then as a class path (``my_module.MyClass`` or
    ``my_module:MyClass``).

    Args:
        key: the recipe's key, for errors. group: of the entry points. base: what every class derives from.
        known: the package's own classes. attribute: of each class, that holds its name.

    Example:
        >>> class Shape:
        ...     name = ""
        >>> class Square(Shape):
        ...     name = "square"
        >>> shapes = Registry("shape", "example.shapes", Shape, [Square])
        >>> shapes.find("square").name
        'square'
    """

    def __init__(self, key: str, group: str, base: type[T], known: list[type[T]], *, attribute: str = "name"):
        self.key, self.group, self.base, self.attribute = key, group, base, attribute
        self._classes: dict[str, type[T]] = {}
        for cls in known:
            self.register(cls)

    def register(self, cls: type[T]) -> type[T]:
        """Add a class under its name; can be used as a decorator.

        Raises:
            TypeError: it does not derive from the base. ValueError: it has no name, or another class has it.
        """
        name = str(getattr(cls, self.attribute, ""))
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise TypeError(f"{self.key}: {cls!r} must be a subclass of {self.base.__name__}")
        if not name or self._classes.get(name, cls) is not cls:
            raise ValueError(
                f"{self.key}: the {self.attribute} {name!r} of {cls.__qualname__} is empty or taken; choose another"
            )
        self._classes[name] = cls
        return cls

    def names(self) -> list[str]:
        """Registered names and those of entry points."""
        return list(dict.fromkeys([*self._classes, *(point.name for point in self._points())]))

    def find(self, name: Any) -> type[T]:
        """The class of a name.

        Raises:
            RecipeError: there is none, or it is of another kind.
        """
        if not isinstance(name, str) or not name:
            raise RecipeError(f"{self.key} is {name!r}, but must be one of {', '.join(self.names())}")
        if name in self._classes:
            return self._classes[name]
        found = next((point for point in self._points() if point.name == name), None)
        if found is None and not {".", ":"} & set(name):
            known = self.names()
            raise RecipeError(f"{self.key} is {name!r}, but must be one of {', '.join(known)}{nearest(name, known)}")
        cls = find_class(name, self.key) if found is None else found.load()
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise RecipeError(f"{self.key} is {name!r}, which is no subclass of {self.base.__name__}")
        return cls

    def _points(self) -> importlib.metadata.EntryPoints:
        return importlib.metadata.entry_points(group=self.group)
