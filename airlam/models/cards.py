"""Metadata blocks of model cards that airlam writes: YAML between two lines ``---``, as the hub reads it."""

from __future__ import annotations

from typing import Any

import yaml


def card_metadata(*, tags: tuple[str, ...] = (), remark: str = "", **fields: Any) -> str:
    """The first lines of a ``README.md``.

    Args:
        tags: further ones, behind "wireless".
        remark: a YAML comment in the first line of the block.
        fields: of the hub's model cards, for example ``license="apache-2.0"``, ``base_model="airlam-tiny"``; None: left
            out. The licence of a user's own training is the user's to choose.

    Example:
        >>> print(card_metadata(tags=("CSI",), license=None, base_model="airlam-tiny"))
        ---
        library_name: airlam
        tags: [wireless, CSI]
        base_model: airlam-tiny
        ---
    """
    known = {key: value for key, value in fields.items() if value is not None}
    block = {"library_name": "airlam", "tags": ["wireless", *tags], **known}
    text = yaml.safe_dump(block, sort_keys=False, default_flow_style=None, allow_unicode=True, width=1000)
    first = f"# {remark}\n" if remark else ""
    return f"---\n{first}{text}---"
