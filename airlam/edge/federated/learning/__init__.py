"""Training on one machine: data, objectives, optimisers, whole and split models."""
