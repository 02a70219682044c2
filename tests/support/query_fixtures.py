"""The statements that are sent to the database: `pytest_plugins = ("tests.support.query_fixtures",)`."""

from typing import Any

import psycopg
import pytest

from manifold.store import queries as store_queries


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements, in the order in which they are sent."""
    sent: list[str] = []
    execute = psycopg.AsyncCursor.execute

    async def noted(cursor: Any, query: Any, *more: Any, **named: Any) -> Any:
        sent.append(str(query))
        return await execute(cursor, query, *more, **named)

    exchange = store_queries._exchange

    def noted_exchange(connection: Any, query: str, parameters: Any) -> Any:
        sent.append(query)
        return exchange(connection, query, parameters)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", noted)
    monkeypatch.setattr(store_queries, "_exchange", noted_exchange)
    return sent
