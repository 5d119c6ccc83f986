"""Clients of a server: predictors and precoders that compute elsewhere."""

from airlam.serving.client.clients import AsyncClient, Client
from airlam.serving.client.sessions import AsyncSession, ClientSession

__all__ = ["AsyncClient", "AsyncSession", "Client", "ClientSession"]
