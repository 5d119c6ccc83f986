"""The HTTP application: plain ASGI, with or without Ray around it."""

from airlam.serving.app.application import create_app

__all__ = ["create_app"]
