"""The record of one site: what each class of speed gave, and how models were trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from airlam.errors import StoreError
from airlam.evaluation.results import CellRecord, MethodFacts

SCHEMA = "airlam-site/2"


@dataclass
class SiteRecord:
    """What is kept of a finished site.

    Attributes:
        site: its label; recipe: its resolved channel recipe.
        not_run: why it was left out; empty where it was run.
        cells: one record for each class of speed.
        training: how each adapted row was trained.
        seconds: spent in all, seconds_links: on the channels.
    """

    site: str
    recipe: dict[str, Any]
    not_run: str = ""
    cells: list[CellRecord] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    seconds_links: float = 0.0

    def plain(self) -> dict[str, Any]:
        """Plain data for JSON, with the version of its schema."""
        return {**vars(self), "schema": SCHEMA, "cells": [cell.plain() for cell in self.cells]}

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> SiteRecord:
        """The inverse of :meth:`plain`.

        Raises:
            StoreError: the data are damaged, or of another schema.
        """
        facts = dict(data)
        if (schema := facts.pop("schema", None)) != SCHEMA:
            raise StoreError(f"the record has schema {schema!r}, this version of airlam reads {SCHEMA!r}")
        try:
            return cls(**{**facts, "cells": [CellRecord.from_plain(cell) for cell in facts["cells"]]})
        except (TypeError, KeyError) as error:
            raise StoreError(f"this is no record of a site ({error})") from None


def add_mean(record: CellRecord, method: str, of_seeds: list[CellRecord], settings: dict[str, Any]) -> None:
    """Add a method whose values are means over seeds.

    Args:
        of_seeds: records of the same links, each with that method trained from another seed.
    """
    for first in (series for series in of_seeds[0].series if series.method == method):
        same = [found.values for each in of_seeds if (found := each.find(method, first.metric, first.per))]
        first.values = torch.stack(same).mean(0)
        record.add(first)
    facts = [each.methods[method] for each in of_seeds]
    seconds = sum(fact.seconds for fact in facts) / len(facts)
    record.methods[method] = MethodFacts(settings, facts[0].parameters_total, facts[0].parameters_trained, seconds)
