"""The devices' side of a federated run."""
