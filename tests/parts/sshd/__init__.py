"""A Raspberry Pi on loopback: OpenSSH's own sshd, whose sessions look like those of a Pi and run ARM64 programs."""

from tests.parts.sshd.pi import Pi, raspberry_pi
from tests.parts.sshd.proxy import Proxy, proxy

__all__ = ["Pi", "Proxy", "proxy", "raspberry_pi"]
