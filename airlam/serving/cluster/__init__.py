"""Ray: started on one machine or joined, and where its replicas listen."""

from airlam.serving.cluster.start import Cluster, start_cluster

__all__ = ["Cluster", "start_cluster"]
