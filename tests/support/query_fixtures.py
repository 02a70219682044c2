"""The statements that are sent to the database: `pytest_plugins = ("tests.support.query_fixtures",)`."""

from typing import Any

import psycopg
import pytest

from manifold.store import queries as store_queries
from manifold.store.statement_queue import StatementQueue


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

    send = StatementQueue.send

    def noted_send(queue: StatementQueue, query: str, *more: Any) -> Any:
        sent.append(query)
        return send(queue, query, *more)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", noted)
    monkeypatch.setattr(StatementQueue, "send", noted_send)
    monkeypatch.setattr(store_queries, "_exchange", noted_exchange)
    return sent


@pytest.fixture
def no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is lost at each record of calls."""
    send = StatementQueue.send

    def lost(queue: StatementQueue, query: str, *more: Any) -> Any:
        if "record_calls" in query:
            raise psycopg.OperationalError("the server is gone")
        return send(queue, query, *more)

    monkeypatch.setattr(StatementQueue, "send", lost)
