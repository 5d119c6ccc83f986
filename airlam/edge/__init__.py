"""Adaptation at the edge: federated and split fine-tuning over radio links, and who takes part in it."""
