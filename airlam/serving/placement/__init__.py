"""Which services run on which nodes: fused where they meet, in as many replicas as the load takes."""

from airlam.serving.placement.problem import Chain, Link, Node, Plan, Problem, Service
from airlam.serving.placement.solvers import SOLVERS, best_plan, replanned

__all__ = ["SOLVERS", "Chain", "Link", "Node", "Plan", "Problem", "Service", "best_plan", "replanned"]
