"""The registry of methods: what can be named in a recipe, how it is built, tuned, labelled and drawn.

A :class:`Method` is a light declaration: its class is named by text (``"airlam.baselines.ar:ARPredictor"``) and
imported when the method is built. Listing methods therefore imports neither torch nor any class.

Shipped methods are declared in this folder, one file a role. Another package adds its own in one of two ways:

* an entry point of the group ``airlam.methods`` that names a :class:`Method` or a list of them;
* :func:`register`, called before the method is named.

A class of your own needs no registration: recipes also take ``{class_path: my_gru.MyGRU}``, see docs/extending.md.
"""

from airlam.methods.citing import bibliography
from airlam.methods.method import KINDS, ROLES, TUNED_ENDING, Method
from airlam.methods.own import build_own, check_grid, check_made, describe, identity_of, is_own, own_method
from airlam.methods.registry import find, get, grid_of, is_declared, known, names, register

__all__ = [
    "KINDS",
    "ROLES",
    "TUNED_ENDING",
    "Method",
    "bibliography",
    "build_own",
    "check_grid",
    "check_made",
    "describe",
    "find",
    "get",
    "grid_of",
    "identity_of",
    "is_declared",
    "is_own",
    "known",
    "names",
    "own_method",
    "register",
]
