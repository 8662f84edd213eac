"""A process of the demonstration: started with ``python -m``, speaks JSON lines, always ends.

A child ends when its standard input does, so that none outlives a parent that was killed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final, Self

from streamguard.demo.legs import DemoError

_LINE_BYTES: Final = 1 << 20
_GRACE_S: Final = 3.0


class Child:
    """Owns the process and the task that reads its standard error."""

    def __init__(self, module: str, process: asyncio.subprocess.Process) -> None:
        self.module = module
        self._process = process
        self._errors: deque[str] = deque(maxlen=20)
        self._reader = asyncio.create_task(self._read_errors(), name=f"stderr of {module}")

    @classmethod
    async def start(cls, module: str, *arguments: str) -> Self:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
            # Ctrl-C at the terminal is for the parent, which still needs them to say goodbye.
            start_new_session=True,
        )
        return cls(module, process)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def expect(self, event: str, timeout_s: float) -> dict[str, Any]:
        """The next line, which must be ``{"event": event, ...}``. Raises DemoError otherwise."""
        try:
            async with asyncio.timeout(timeout_s):
                async for line in self.lines():
                    if line.get("event") == event:
                        return line
                    raise DemoError(f"{self.module} said {line} where {event!r} was expected")
                await self._reader
        except TimeoutError as err:
            raise DemoError(f"{self.module}: no {event!r} within {timeout_s:.0f} s") from err
        said = "; ".join(self._errors) or f"nothing (status {self._process.returncode})"
        raise DemoError(f"{self.module} ended before {event!r}; it said: {said}")

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        """Every JSON line until the child ends; for one reader."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            yield json.loads(line)

    async def wait(self) -> int:
        """The exit status, once it has ended by itself."""
        status = await self._process.wait()
        await self._reader
        return status

    async def stop(self) -> int:
        """Ask by closing standard input, then by SIGTERM, then by SIGKILL. Returns the status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        for push in (self._process.terminate, self._process.kill):
            try:
                async with asyncio.timeout(_GRACE_S):
                    return await self._drained()
            except TimeoutError:
                push()
        return await self._drained()

    async def _drained(self) -> int:
        assert self._process.stdout is not None
        # What is still in the pipe must be read, or a child that writes would never end.
        while await self._process.stdout.read(_LINE_BYTES):
            pass
        return await self.wait()

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self._errors.append(line.decode(errors="replace").rstrip()[:500])


async def end_of_input() -> None:
    """In a child: return when the parent has closed our standard input, or is gone."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while await reader.read(4096):
            pass
    finally:
        transport.close()


def tell(event: str, **facts: object) -> None:
    """In a child: one line to the parent."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()
