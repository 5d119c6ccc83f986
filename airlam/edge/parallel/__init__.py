"""Training of one model on a pool of unequal devices: who computes, holds and sends what."""

from airlam.edge.parallel.layout import Mesh
from airlam.edge.parallel.recipe import ParallelTraining, Shares, parallel_recipe

__all__ = ["Mesh", "ParallelTraining", "Shares", "parallel_recipe"]
