"""A process that is fed and listened to, both at once and for a limited time."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable, Iterable, Iterator
from subprocess import PIPE, Popen
from typing import IO, Self, cast

_CHUNK_BYTES = 2**17
_LEAVE_S = 1.0

Take = Callable[[bytes], object]


class Patience:
    """How long to wait: in all, or, `renewed`, each time that something moved."""

    def __init__(self, seconds: float, *, renewed: bool = False) -> None:
        self._seconds, self._renewed = seconds, renewed
        self._deadline = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """What is left of it; 0 where it is over."""
        return max(0.0, self._deadline - time.monotonic())

    def moved(self) -> None:
        """Tell that something moved."""
        if self._renewed:
            self._deadline = time.monotonic() + self._seconds


class Talking:
    """A process that does not outlive the `with` block; Ctrl-C in the terminal is not for it."""

    def __init__(self, command: list[str]) -> None:
        self._process = Popen(  # noqa: S603 - no shell
            command, stdin=PIPE, stdout=PIPE, stderr=PIPE, bufsize=0, start_new_session=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with self._process:  # closes the pipes, and waits
            pass

    def converse(
        self,
        stdin: Iterable[bytes],
        on_stdout: Take,
        on_stderr: Take,
        *,
        patience: Patience,
        complete: Callable[[], bool],
    ) -> int | None:
        """Feed it, and take what it says until it closes both outputs; it need not read all.

        Args:
            stdin: in pieces, which are asked for when there is room for them.
            complete: whether all that matters has been said; what holds the outputs open then is waited for no longer.

        Returns:
            Its exit status; None where it was not waited for.

        Raises:
            TimeoutError: patience is over.
        """
        stdin_pipe, stdout, stderr = (cast(IO[bytes], pipe) for pipe in self._pipes)
        feed = _Feed(stdin_pipe.fileno(), iter(stdin))
        with selectors.DefaultSelector() as selector:
            selector.register(stdin_pipe, selectors.EVENT_WRITE)
            selector.register(stdout, selectors.EVENT_READ, on_stdout)
            selector.register(stderr, selectors.EVENT_READ, on_stderr)
            outputs, leave = 2, False
            while outputs:
                if not leave and complete():
                    leave, patience = True, Patience(_LEAVE_S)
                ready = selector.select(patience.left_s)
                if not (ready and patience.left_s):
                    if leave:
                        return None
                    raise TimeoutError
                patience.moved()
                for key, _ in ready:
                    if key.data is None:
                        if not feed.some():
                            selector.unregister(stdin_pipe)
                            stdin_pipe.close()
                    elif data := os.read(key.fd, _CHUNK_BYTES):
                        key.data(data)
                    else:
                        selector.unregister(key.fileobj)
                        outputs -= 1
        return self._process.wait()

    @property
    def _pipes(self) -> tuple[IO[bytes] | None, ...]:
        return self._process.stdin, self._process.stdout, self._process.stderr


class _Feed:
    """Writes pieces as there is room for them."""

    def __init__(self, target: int, pieces: Iterator[bytes]) -> None:
        os.set_blocking(target, False)
        self._target, self._pieces = target, pieces
        self._left = memoryview(b"")

    def some(self) -> bool:
        """Write some of it; False where all is written, or nobody reads it any more."""
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._left = memoryview(piece)
        try:
            self._left = self._left[os.write(self._target, self._left) :]
        except BrokenPipeError:
            return False
        return True
