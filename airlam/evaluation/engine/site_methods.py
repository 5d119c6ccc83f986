"""Methods that are judged on users of one site, and classical ones that are tuned on the site's other users."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airlam.channels import LinkBatch
from airlam.evaluation.engine.cell import Cell, Contender
from airlam.evaluation.engine.contenders import context_of, of_predictor, tuned
from airlam.loading import load_predictor


def site_cell(data: str, links: LinkBatch, **fields: Any) -> Cell:
    """A headline cell of users of one site that are served ``horizon`` slots ahead.

    Args:
        data: name of the site. links: the users. fields: of the cell, see :class:`Cell`.
    """
    known: dict[str, Any] = dict(
        group="cell",
        data=data,
        recipe={key: value for key, value in links.recipe.items() if key != "seed"},
        speed_kmh=round(3.6 * float(links.speed.mean())),
        num_links=len(links),
        num_future=fields["horizon"],
        tone_step=4,
        headline=True,
    )
    return Cell(**(known | fields))


def contender_of(name: str, predictor: Any, links: LinkBatch, **fields: Any) -> Contender:
    """A predictor as a method that is judged on ``links``."""
    return of_predictor(name, predictor, context_of(links), links.port_shape, **fields)


def tuned_on_site(cell: Cell, links: LinkBatch, others: LinkBatch, names: Iterable[str]) -> list[Contender]:
    """``hold``, and the named classical methods tuned on ``cell.num_tune`` of the site's other users.

    Those whose speed is nearest to the mean speed of ``links`` are taken: a classical method cannot be tuned on users
    that are more alike.

    Args:
        links: users on whom methods are judged.
        others: the site's other users, with at least history + horizon slots ``h [link, slot, ...]``.
        names: registered predictors with a tuning grid.
    """
    nearest = (others.speed - links.speed.mean()).abs().argsort()[: cell.num_tune]
    known = others.h[nearest, : cell.history + cell.horizon]
    past, future = cell.observe(known, "tune")[0], known[:, cell.history :]
    out = [contender_of("hold", load_predictor("hold"), links)]
    for name in names:
        predictor, settings = tuned(name, past, future, port_shape=links.port_shape, context=context_of(links))
        out.append(contender_of(name, predictor, links, settings=settings))
    return out
