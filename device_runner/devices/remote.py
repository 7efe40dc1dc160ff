"""A device that files must be copied to: by content, under one folder, and nothing outside it."""

from __future__ import annotations

import hashlib
import secrets
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from device_runner.bundle import Bundle
from device_runner.devices.base import Completed, Device, DeviceFacts
from device_runner.devices.probe import read_facts
from device_runner.errors import DeviceError, TransferError
from device_runner.files import file_sha256, whole_file

_QUICK_S = 60.0
_UNPACK_S = 300.0
# Bytes that stay free: a device without any room misbehaves in ways that look like ours.
_RESERVE_BYTES = 8 * 2**20
# A bundle, and some heads.
_LEAST_BYTES = 64 * 2**20
# What is there already is trusted by its content, not by its name.
_SAME_FILE = '[ -f "$1" ] && sum=$(sha256sum <"$1") && [ "${sum%% *}" = "$2" ]'
_WHOLE_BUNDLE = 'cd "$1" 2>/dev/null && sha256sum -c SHA256SUMS >/dev/null 2>&1'
# Prints the hash of what came in and the length of what was written, and leaves nothing that is not whole, also where
# the connection was cut: that ends the input, and Android hangs up on the shell.
_TAKE = (
    'trap "" HUP; rm -f "$1" || exit; tee "$1" | sha256sum; size=$(($(wc -c <"$1"))); '
    '[ "$size" = "$2" ] || rm -f "$1"; echo "$size"'
)
_GIVE = 'sha256sum <"$1" && exec cat "$1"'
_PIECE_BYTES = 2**17
_TRY_PROGRAM = """
f="$1/.try.$$"
mkdir -p "$1" && printf '#!/bin/sh\\nexit 0\\n' >"$f" && chmod 700 "$f" && "$f"
s=$?
rm -f "$f"
[ $s = 0 ]
"""


class RemoteDevice(Device):
    """A device that files must be copied to. You write `root`, `call`, `transfer`, and what connects.

    ROOT/bundles/HASH/        an unpacked bundle; a second deployment of the same hash ships nothing
    ROOT/files/SHA256         a file that was pushed; likewise

    Files travel through the device's shell: it hashes them while it writes, and says why it cannot. It needs a POSIX
    `sh` with mkdir, mv, rm, cat, df, tar, gzip, tee, wc and sha256sum (Android's toybox has them).
    """

    target = "arm64"

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._there: set[str] = set()
        self._hashes: dict[tuple[Path, int, int], str] = {}

    @abstractmethod
    def root(self) -> str:
        """The one absolute folder on the device that all of ours lies in; it need not exist yet."""

    @abstractmethod
    def transfer(
        self, argv: Sequence[str], stdin: Iterable[bytes], on_stdout: Callable[[bytes], object], *, during: str
    ) -> Completed:
        """Run a command that a file goes into or comes out of: it may take long, as long as something moves.

        Args:
            stdin: in pieces, read while they are sent; they may end early where the command takes no more.
            on_stdout: takes the standard output as it comes; what is returned holds none.
            during: " while ... was sent", for errors.
        """

    def put(self, local: Path, remote: str) -> None:
        """Copy one file to an absolute path whose folder exists; what arrived is compared by hash and length."""
        size, digest, output = local.stat().st_size, hashlib.sha256(), bytearray()
        with local.open("rb") as file:
            argv = ["sh", "-c", _TAKE, "sh", remote, str(size)]
            pieces = _read(file, digest.update)
            done = self.transfer(argv, pieces, output.extend, during=f" while {local.name} was sent")
        told = output.decode(errors="replace").split()
        arrived = int(told[-1]) if told and told[-1].isdecimal() else 0
        if arrived != size:
            why = f": {done.said}" if done.stderr or done.status else ""
            raise TransferError(
                f"{self.name}: {local.name}: {arrived} of {size} bytes arrived{why}",
                remedy=f"see that {remote.rpartition('/')[0]} can be written, and free {size - arrived} bytes there",
            )
        if told[0] != digest.hexdigest():
            raise TransferError(f"{self.name}: {local.name} arrived damaged", remedy="run again")

    def get(self, remote: str, local: Path) -> None:
        """Fetch one file; what arrived is compared by hash, and `local` is whole or untouched."""
        with whole_file(local) as partial:
            with partial.open("wb") as file:
                arriving = _Arriving(file)
                argv = ["sh", "-c", _GIVE, "sh", remote]
                done = self.transfer(argv, (), arriving.take, during=f" while {remote} was fetched")
            if done.status != 0:
                raise TransferError(f"{self.name}: {remote} cannot be fetched: {done.said}", remedy="run again")
            if arriving.sha256 != file_sha256(partial):
                raise TransferError(f"{self.name}: {remote} arrived damaged, or changed meanwhile", remedy="run again")

    def describe(self) -> DeviceFacts:
        """What the device says of itself, over its shell."""
        return read_facts(self, free_bytes=self.free_bytes())

    def check(self) -> None:
        """Raise DeviceError where our folder cannot be written, has no room, or may not hold programs."""
        missing = _LEAST_BYTES - self.free_bytes()
        if missing > 0:
            raise DeviceError(f"{self.name}: no space in {self.root()}", remedy=f"free {missing} bytes on the device")
        done = self.call(["sh", "-c", _TRY_PROGRAM, "sh", self.root()], timeout_s=_QUICK_S)
        if done.status != 0:
            raise DeviceError(
                f"{self.name}: programs in {self.root()} cannot be executed: {done.last_line}",
                remedy="mount it without noexec, and let this user write there",
            )

    def push(self, local: Path) -> str:
        """Put one file on the device, unless its content is there already; returns its path there."""
        sha256 = self._sha256(local)
        remote = f"{self.root()}/files/{sha256}"
        if remote not in self._there and not self._call_quietly(_SAME_FILE, remote, sha256):
            self._put_whole(local, remote)
        self._there.add(remote)
        return remote

    def deploy(self, bundle: Bundle) -> tuple[str, ...]:
        """Unpack the bundle on the device, unless it is there; returns how a command line that runs it begins."""
        folder = f"{self.root()}/bundles/{bundle.sha256}"
        if folder not in self._there and not self._call_quietly(_WHOLE_BUNDLE, folder):
            archive = f"{folder}.{secrets.token_hex(4)}.tar.gz"  # another harness may unpack its own right now
            self._put_whole(bundle.archive, archive)
            self._unpack(archive, folder)
        self._there.add(folder)
        return bundle.command(folder)

    def clean(self) -> None:
        """Remove the one folder that all of ours lies in."""
        self.call_checked(["rm", "-rf", self.root()], timeout_s=_QUICK_S)
        self._there.clear()

    def close(self) -> None:
        """Forget what is there: the device may be another one when it comes back."""
        self._there.clear()

    def free_bytes(self) -> int:
        """Free bytes where our folder lies, or will lie."""
        script = 'd=$1; while ! [ -d "$d" ]; do d=${d%/*}; [ -n "$d" ] || d=/; done; df -Pk "$d"'
        lines = self.call_checked(["sh", "-c", script, "sh", self.root()], timeout_s=_QUICK_S).decode().splitlines()
        try:
            return int(lines[-1].split()[3]) * 1024
        except (IndexError, ValueError) as exc:
            raise DeviceError(f"{self.name}: df cannot be read: {lines}", remedy="see bench devices") from exc

    def _sha256(self, local: Path) -> str:
        """A file's hash, taken once while it stays as it is: every round pushes the same ones."""
        status = local.stat()
        key = (local, status.st_size, status.st_mtime_ns)
        if key not in self._hashes:
            self._hashes[key] = file_sha256(local)
        return self._hashes[key]

    def _call_quietly(self, script: str, *arguments: str) -> bool:
        """Whether a script succeeds."""
        return self.call(["sh", "-c", script, "sh", *arguments], timeout_s=_QUICK_S).status == 0

    def _put_whole(self, local: Path, remote: str) -> None:
        """A file that is either whole or not there, also where two harnesses put it at once."""
        size = local.stat().st_size
        missing = size + _RESERVE_BYTES - self.free_bytes()
        if missing > 0:
            raise TransferError(
                f"{self.name}: no space for {local.name} ({size} bytes)", remedy=f"free {missing} bytes on the device"
            )
        partial = f"{remote}.{secrets.token_hex(4)}.part"
        self.call_checked(["mkdir", "-p", str(PurePosixPath(remote).parent)], timeout_s=_QUICK_S)
        try:
            self.put(local, partial)
        except TransferError:
            self.call(["rm", "-f", partial], timeout_s=_QUICK_S)
            raise
        self.call_checked(["mv", "-f", partial, remote], timeout_s=_QUICK_S)

    def _unpack(self, archive: str, folder: str) -> None:
        script = (
            'set -e; part="$2.$$.part"; rm -rf "$part"; mkdir -p "$part"; gzip -dc "$1" | tar -xf - -C "$part";'
            ' test -e "$part/head_runner" || { echo "the bundle did not unpack" >&2; rm -rf "$part"; exit 1; };'
            # Another harness may have been quicker, and may be running its own by now: only what is damaged goes.
            ' [ ! -e "$2" ] || (cd "$2" && sha256sum -c SHA256SUMS) >/dev/null 2>&1 || rm -rf "$2";'
            ' if [ -e "$2" ]; then rm -rf "$part"; else mv "$part" "$2"; fi; rm -f "$1"'
        )
        done = self.call(["sh", "-c", script, "sh", archive, folder], timeout_s=_UNPACK_S)
        if done.status != 0:
            raise TransferError(
                f"{self.name}: the bundle cannot be unpacked: {done.last_line}",
                remedy="free space on the device, or bench devices --clean",
            )


class _Arriving:
    """Takes what `_GIVE` prints: a line with the hash, then the file."""

    def __init__(self, file: BinaryIO) -> None:
        self.sha256 = ""
        self._file = file
        self._line = b""

    def take(self, data: bytes) -> None:
        if not self.sha256:
            self._line += data
            line, end, data = self._line.partition(b"\n")
            if not end:
                return
            self.sha256 = line.decode(errors="replace").partition(" ")[0]
        self._file.write(data)


def _read(file: BinaryIO, on_piece: Callable[[bytes], object]) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        on_piece(piece)
        yield piece
