"""The federated benchmark: what federated fine-tuning reaches, against everything in one place and everyone alone."""
