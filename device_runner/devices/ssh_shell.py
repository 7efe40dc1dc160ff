"""How a command is asked for on the device, so that its answer is told from all that a login shell says or does.

The login shell sees one short line of harmless letters, whatever it is: it starts a `sh`, which reads what to do from
its standard input. That `sh` frames what the command says, on both outputs, and prints the status itself.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

START = """sh -c 'IFS= read -r s; eval "$(printf %b "$s")"'"""
"""What the login shell is given."""

NOT_STARTED = b"splitbench: not started\n"
"""What stderr ends with where the command could not be started: another one may end with the same status."""

# Exported options of a bash would be those of a `sh` that is one. The trap is of who could not become the command.
_FRAMED = """\
set +aCefuvx
echo {frame}:begin; echo {frame}:begin >&2
({environment}trap 'echo splitbench: not started >&2' EXIT; exec {command})
status=$?
echo {frame}:end $status; echo {frame}:end $status >&2"""
_MOST_TALK_BYTES = 4096


def script(argv: Sequence[str], *, frame: str, environment: str = "") -> bytes:
    """The line that `START` reads before the command's own input.

    Args:
        frame: letters that nothing else prints.
        environment: NAME=VALUE for the command.
    """
    export = f"export {environment}; " if environment else ""
    text = _FRAMED.format(frame=frame, environment=export, command=shlex.join(argv))
    return text.replace("\\", "\\\\").replace("\n", "\\n").encode(errors="surrogateescape") + b"\n"


class CommandOutput:
    """Takes one of the two outputs as it comes, and hands on what the command itself said, byte for byte.

    Attributes:
        begun, ended: whether the frame's beginning and its end have been seen.
        status: what the command came to; 0 before the end.
        talk: what others said before and behind, the first of it.
    """

    def __init__(self, frame: str, take: Callable[[bytes], object]) -> None:
        self.begun = self.ended = False
        self.status = 0
        self.talk = b""
        self._begin, self._end = f"{frame}:begin\n".encode(), f"{frame}:end ".encode()
        self._take = take
        self._ending, self._held = False, b""

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._held += data
        if not self.begun:
            self.begun = self._pass_on(self._begin, self._keep_talk)
        if self.begun and not self._ending:
            self._ending = self._pass_on(self._end, self._take)
        if self._ending and not self.ended:
            status, found, rest = self._held.partition(b"\n")
            if found:
                self.ended, self.status, self._held = True, int(status), rest
        if self.ended:
            self._keep_talk(self._held)
            self._held = b""

    def close(self) -> None:
        """Nothing more comes."""
        if not self.begun:
            self._keep_talk(self._held)

    def _pass_on(self, until: bytes, take: Callable[[bytes], object]) -> bool:
        """Hand on what is held until a mark, but for what may be its beginning; returns whether the mark came."""
        content, found, rest = self._held.partition(until)
        if not found:
            whole = max(0, len(content) - len(until) + 1)
            content, rest = content[:whole], content[whole:]
        if content:
            take(content)
        self._held = rest
        return bool(found)

    def _keep_talk(self, data: bytes) -> None:
        self.talk = (self.talk + data)[:_MOST_TALK_BYTES]
