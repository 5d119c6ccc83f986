"""The one reading of YAML: recipes of every kind and values on the command line.

Numbers are those of YAML 1.2: ``2e1`` and ``1e-3`` are numbers, as LightningCLI reads them too. YAML 1.1, which PyYAML
follows, takes them for texts because they have no point or no sign in the exponent. Dates stay texts.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from airlam.errors import RecipeError

FLOAT = r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9_]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
NOT_FINITE = r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"


def parse_yaml(text: str) -> Any:
    """Plain data from YAML text.

    Raises:
        RecipeError: the text is not YAML.

    Example:
        >>> parse_yaml("{snr_db: 2e1, seed: 3}")
        {'snr_db': 20.0, 'seed': 3}
    """
    import yaml

    try:
        return yaml.load(text, Loader=_loader())
    # Besides its own errors PyYAML lets through those of numbers with too many digits and of lists nested too deep.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"not valid YAML: {' '.join(str(error).split())}") from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Keys and values of a recipe file.

    Raises:
        RecipeError: the file cannot be read, is not YAML, or holds something else; the message names the file.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not valid YAML: {error}") from None
    try:
        data = parse_yaml(text)
    except RecipeError as error:
        raise RecipeError(f"{path} is {error}") from None
    if not isinstance(data, dict):
        found = "empty" if data is None else f"a {type(data).__name__}"
        raise RecipeError(f"{path} is {found}, but a recipe holds keys and values; 'airlam list' shows those that ship")
    return data


@functools.cache
def _loader() -> type:
    import yaml

    class RecipeLoader(yaml.SafeLoader):
        """PyYAML's safe loader with the floats of YAML 1.2, without dates, and without keys that stand twice."""

        def compose_mapping_node(self, anchor: Any) -> Any:
            """PyYAML's, which would keep the last value of a key that stands twice and drop the others silently."""
            node, lines = super().compose_mapping_node(anchor), {}
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                    continue
                name, line = (key.tag, key.value), key.start_mark.line + 1
                if name in lines:
                    where = (
                        f"twice in line {line}" if lines[name] == line else f"in line {lines[name]} and in line {line}"
                    )
                    raise yaml.YAMLError(f"the key {key.value!r} stands {where}; take one out or rename it")
                lines[name] = line
            return node

    floats = "tag:yaml.org,2002:float"
    left_out = (floats, "tag:yaml.org,2002:timestamp")
    RecipeLoader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in left_out]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    RecipeLoader.add_implicit_resolver(floats, re.compile(f"^(?:{FLOAT}|{NOT_FINITE})$"), list("-+.0123456789"))
    return RecipeLoader
