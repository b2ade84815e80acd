"""`asyncio.timeout`, also for Python 3.10, where aiohttp brings its forerunner.

Not `asyncio.wait_for`: on 3.10 and 3.11 it needs a task of its own, and before that is resumed, aiohttp may
have seen the connection close, and raises instead of giving the data that came before.
"""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from asyncio import timeout as deadline
else:
    from async_timeout import timeout as deadline

__all__ = ["deadline"]
