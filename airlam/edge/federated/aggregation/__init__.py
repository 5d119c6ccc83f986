"""How the updates of a round become the next model: schemes for adapters, and server strategies.

A scheme (recipe key ``aggregation``) says what travels and how adapters are combined; a strategy (recipe key
``strategy``) is a class of Flower's that averages arrays. A new one is a class in a file of its own and one line here.
An outside package registers its own with ``SCHEMES.register`` or ``STRATEGIES.register``, or declares an entry point
of the group ``airlam.aggregation_schemes`` or ``airlam.server_strategies``, or gives the class path in the recipe.
"""

from airlam.edge.federated.aggregation.ffa import FrozenA
from airlam.edge.federated.aggregation.means import FedAdam, FedAvg, FedProx
from airlam.edge.federated.aggregation.naive import Naive
from airlam.edge.federated.aggregation.residual import Residual
from airlam.edge.federated.aggregation.robust import Krum, Median, MultiKrum, TrimmedMean
from airlam.edge.federated.aggregation.scheme import Scheme
from airlam.edge.federated.aggregation.stacking import Stacking
from airlam.edge.federated.aggregation.strategy import ServerStrategy
from airlam.edge.federated.aggregation.svd import Svd
from airlam.recipes.registry import Registry

SCHEMES: Registry[Scheme] = Registry(
    "aggregation", "airlam.aggregation_schemes", Scheme, [Naive, FrozenA, Svd, Stacking, Residual]
)
STRATEGIES: Registry[ServerStrategy] = Registry(
    "strategy",
    "airlam.server_strategies",
    ServerStrategy,
    [FedAvg, FedProx, FedAdam, TrimmedMean, Median, Krum, MultiKrum],
)

__all__ = ["SCHEMES", "STRATEGIES", "Scheme", "ServerStrategy"]
