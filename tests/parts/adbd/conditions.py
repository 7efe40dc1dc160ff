"""What is wrong with the phone at the moment."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Literal, TypedDict

State = Literal["device", "unauthorized", "offline", "silent", "unplugged"]


@dataclass
class Conditions:
    """What is wrong with the phone at the moment; a test changes it while the phone runs.

    Attributes:
        state: "unauthorized": the dialog was not accepted; "offline": connects and never says who it is; "silent":
            answers no request any more; "unplugged": nothing listens.
        change_after_bytes: when this much more payload has come in, the state changes to `then`.
        damaging: spoils a byte of the next long message, whichever way it goes.
        bytes_per_second: of both directions together.
    """

    state: State = "device"
    change_after_bytes: int | None = None
    then: State = "unplugged"
    damaging: bool = False
    bytes_per_second: float | None = None


class Changes(TypedDict, total=False):
    """Some of the conditions, to be changed."""

    state: State
    change_after_bytes: int | None
    then: State
    damaging: bool
    bytes_per_second: float | None


class Throttle:
    """A token bucket: waits until so many bytes may pass. It holds what 5 ms bring, so that bursts are short."""

    def __init__(self) -> None:
        self._free_at = 0.0

    async def pass_bytes(self, count: int, bytes_per_second: float | None) -> None:
        """Wait for the turn of `count` bytes."""
        if bytes_per_second is None:
            return
        self._free_at = max(self._free_at, time.monotonic() - 0.005) + count / bytes_per_second
        await asyncio.sleep(max(0.0, self._free_at - time.monotonic()))
