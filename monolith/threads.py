"""Work in threads that has an owner to its end."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def to_its_end(future: asyncio.Future[T]) -> T:
    """The result of `future`, which runs in a thread. A cancelled caller waits for its end, too, and drops the result:
    what the thread uses is nobody else's until then."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait((future,))
        if not future.cancelled():
            future.exception()
        raise


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """`asyncio.to_thread`, to its end."""
    call = functools.partial(contextvars.copy_context().run, function, *arguments)
    return await to_its_end(asyncio.get_running_loop().run_in_executor(None, call))
