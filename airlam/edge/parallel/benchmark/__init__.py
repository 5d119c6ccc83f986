"""The benchmark of mechanisms: one workload in the cloud, on one device, federated, split, in each parallel mode."""
