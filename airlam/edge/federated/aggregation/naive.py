"""Averaging A and B by themselves."""

from __future__ import annotations

from airlam.edge.federated.aggregation.scheme import Scheme


class Naive(Scheme):
    """A and B are padded with zeros to the largest rank and averaged, each by itself.

    The product of the averages is not the average of the products;
    :func:`airlam.edge.federated.adapters.product_error` says by how much.
    """

    name = "naive"
    keeps_factors = True
