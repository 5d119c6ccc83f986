"""Refusals: what the server answers instead of a result, and what the client raises for it."""

from __future__ import annotations

from typing import Any


class ServingError(Exception):
    """A request that was refused.

    Attributes:
        status: of HTTP. code: one word for programs. facts: further fields of the answer, such as ``expected_slot``.
        retry_after_s: when to try again, for 429 and 503.

    Example:
        >>> error = ServingError(409, "stale_slot", "slot 3 was pushed before; push slot 7", expected_slot=7)
        >>> error.plain()
        {'error': {'code': 'stale_slot', 'message': 'slot 3 was pushed before; push slot 7', 'expected_slot': 7}}
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after_s: float | None = None, **facts: Any
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.retry_after_s, self.facts = retry_after_s, facts

    def plain(self) -> dict[str, Any]:
        """The body of the answer."""
        return {"error": {"code": self.code, "message": self.message, **self.facts}}

    def __reduce__(self) -> tuple:
        """Errors cross from one replica to another."""
        return _remade, (self.status, self.code, self.message, self.retry_after_s, self.facts)


def _remade(status: int, code: str, message: str, retry_after_s: float | None, facts: dict[str, Any]) -> ServingError:
    return ServingError(status, code, message, retry_after_s=retry_after_s, **facts)


def refused(code: str, message: str, **facts: Any) -> ServingError:
    """400: the request means nothing."""
    return ServingError(400, code, message, **facts)


def one_line(error: BaseException) -> str:
    """The text of an error on one line, cut where it is long.

    Example:
        >>> one_line(ValueError("two\\n  lines"))
        'two lines'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else text[:397] + "..."
