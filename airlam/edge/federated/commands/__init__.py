"""What the commands ``airlam federate`` and ``airlam plan federated`` call."""
