"""What a federated run is, read from YAML and checked."""
