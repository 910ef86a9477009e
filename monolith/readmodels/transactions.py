"""Transactions that let other threads work while they are written to the disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import apsw


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """What is done inside is committed together, or not at all.

    Not `with connection`: leaving that holds Python's lock while the commit, and the checkpoint that it may bring, wait
    for the disk, and the event loop stands still for as long.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after some errors SQLite has rolled back by itself
            connection.execute("ROLLBACK")
        raise
