"""What OpenSSH's `ssh` says when it fails, what that means to the user, and what to do about it.

One table; the first entry wins whose pattern is found in what ssh said. Patterns begin at a line's beginning: a banner
that holds the same words somewhere is none of ssh's own lines.
"""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from device_runner.errors import DeviceError


class SshMeaning(NamedTuple):
    """What happened, and a remedy.

    {login}: what follows `ssh` on a command line for this device. {said}, {entry}: what the pattern calls so.
    """

    pattern: str
    what: str
    remedy: str


_LOOK = "look at its power and its network, then run again: what is finished is kept"
_COMPARE = "see what your own client says: ssh -v {login}"
_SAYS_HELLO = "see that this prints hello: ssh {login} echo hello"

MEANINGS: tuple[SshMeaning, ...] = (
    # What the user has configured
    SshMeaning(
        r"^(?P<said>.+:? line \d+: .+|Bad owner or permissions on .+|Can't open user config file .+)",
        "your ssh configuration cannot be read ({said})",
        "correct that file",
    ),
    # Who is there
    SshMeaning(
        r"^.*REMOTE HOST IDENTIFICATION HAS CHANGED(?s:.*?)\n(?P<said>SHA256:\S+?)\.?\n(?s:.*?)"
        r"^Host key for (?P<entry>\S+) has changed",
        "its host key is NOT the one in known_hosts ({said}): it is another machine, or was installed anew",
        "if you know why, forget the old key: ssh-keygen -R {entry}",
    ),
    SshMeaning(r"^.*REVOKED HOST KEY DETECTED", "its host key is marked as revoked", "find out who answers there"),
    SshMeaning(
        r"^Host key verification failed", "its host key is not known yet", "compare it and accept it once: ssh {login}"
    ),
    # Who asks
    SshMeaning(
        r"^.*Too many authentication failures",
        "it hung up before the right key's turn came (Too many authentication failures)",
        "offer fewer: IdentityFile and IdentitiesOnly yes for it in ~/.ssh/config, or ssh-add -D",
    ),
    SshMeaning(
        r"^Permissions \d+ for '(?P<said>.+)' are too open(?s:.*)^\S+: Permission denied \(",
        "it accepts none of your keys, and one is not used as others may read it ({said})",
        "chmod 600 that file",
    ),
    SshMeaning(
        r"^sign_and_send_pubkey: (?P<said>signing failed .+)(?s:.*)^\S+: Permission denied \(",
        "a key of yours did not sign ({said})",
        "unlock it: ssh-add; one in a token must need no touch",
    ),
    SshMeaning(
        r"^(?P<said>\S+: Permission denied \((?!\S*publickey)\S*\))",
        "it takes no keys ({said})",
        "set PubkeyAuthentication yes in its sshd_config",
    ),
    SshMeaning(
        r"^(?P<said>\S+: Permission denied \(\S*\))",
        "it accepts none of your keys ({said})",
        "give it one: ssh-copy-id {login}; or unlock yours: ssh-add",
    ),
    # No way there
    SshMeaning(
        r"^ssh: Could not resolve hostname (?P<said>.+)",
        "its name is not known ({said})",
        "check the name, or use its IP address",
    ),
    SshMeaning(
        r"^ssh: connect to .+: Connection refused",
        "it refuses the connection",
        "switch its ssh server on (Raspberry Pi: raspi-config, Interface Options, SSH)",
    ),
    SshMeaning(
        r"^(ssh: connect to .+: (Connection|Operation) timed out|.+ during banner exchange|splitbench: silence)",
        "it does not answer",
        _LOOK,
    ),
    SshMeaning(
        r"^ssh: connect to .+: (?P<said>Network is unreachable)",
        "there is no way to its network ({said})",
        "connect this workstation to it",
    ),
    SshMeaning(
        r"^(?P<said>(bind|getaddrinfo|getifaddrs)\b.*: .+)(?s:.*)^ssh: connect to ",
        "your ssh configuration's BindAddress or BindInterface cannot be used ({said})",
        "correct it in ~/.ssh/config",
    ),
    SshMeaning(r"^ssh: connect to .+?: (?P<said>.+)", "it cannot be reached ({said})", _LOOK),
    # Ahead of what a shared connection's own `ssh` says afterwards.
    SshMeaning(
        r"^.*(?P<said>Session open refused by peer)",
        "it opens no session ({said})",
        "end other sessions, or raise MaxSessions in its sshd_config",
    ),
    SshMeaning(
        r"^kex_exchange_identification: (?P<said>.+)(?s:.*)^Connection (closed|reset) by UNKNOWN",
        "its ProxyCommand or jump host ended the connection ({said})",
        _COMPARE,
    ),
    SshMeaning(
        r"^(kex_exchange_identification|banner exchange): (?P<said>.+)",
        "it hung up before ssh began ({said})",
        "wait a minute: it may limit new connections (MaxStartups, fail2ban); or " + _COMPARE,
    ),
    # Something refused
    SshMeaning(
        r"^.*(?P<said>remote port forwarding failed|[Pp]ort forwarding failed)",
        "it opens no way back ({said})",
        "set AllowTcpForwarding yes in its sshd_config, or use --way-back direct",
    ),
    # Lost on the way
    SshMeaning(
        r"^.*(?P<said>message authentication code incorrect|Corrupted MAC on input|Bad packet length)",
        "what arrives is damaged ({said})",
        "change the cable or the network",
    ),
    SshMeaning(r"^(?P<said>Timeout, server .+ not responding)", "the connection was lost ({said})", _LOOK),
    SshMeaning(
        r"^Unable to negotiate .+?: (?P<said>.+)", "no cipher or key type in common ({said})", "update its ssh server"
    ),
    SshMeaning(
        r"^(client_loop: .+|Connection (to|closed|reset) .+|Read from remote host .+|.*Broken pipe)",
        "the connection was cut",
        _LOOK,
    ),
    # Whatever else there may be
    SshMeaning(r"(?P<said>.*)\s*\Z", "ssh failed ({said})", _COMPARE),
)

NO_COMMANDS = SshMeaning(
    "", "it runs something else than the command that it is given, which says '{said}'", _SAYS_HELLO
)
SAYS_NOTHING = SshMeaning("", "it runs no commands, and says nothing", _SAYS_HELLO)
STUCK = SshMeaning("", "it lets you in, but its login shell does not come to the command", _SAYS_HELLO)
ENDED = SshMeaning(
    "", "the shell that ran {said} was ended there", "see dmesg on the device: its memory may be too small"
)
NO_SSH = SshMeaning(
    "", "it is reached by OpenSSH's `ssh`, which is not installed here", "apt-get install openssh-client"
)
OF_ITS_SHELL = (NO_COMMANDS, SAYS_NOTHING, STUCK, ENDED, NO_SSH)
"""What ssh itself has no line for."""

SILENCE = "splitbench: silence"
"""Stands for the line that ssh would have written, had it been waited for."""

OF_SHARING = re.compile(
    r"^(mux_client_|Control socket |Session open refused|Connection closed by UNKNOWN)", re.MULTILINE
)
"""How lines begin of an `ssh` that should share a connection and cannot."""

_THROUGH = re.compile(r"^(Connection (closed|reset) by UNKNOWN|stdio forwarding failed)", re.MULTILINE)


def device_error(said: str, *, name: str, login: str, during: str = "") -> DeviceError:
    """What ssh's words mean, in one line.

    Args:
        said: all that it wrote on stderr.
        name: the device's address.
        login: what a user types behind `ssh` for it.
        during: " while ... was sent", where that matters.
    """
    lines = said.replace("\r", "").strip() + "\n"
    for meaning in MEANINGS:
        if match := re.search(meaning.pattern, lines, re.MULTILINE):
            words = match.groupdict("")
            if "entry" in words:
                words["entry"] = shlex.quote(words["entry"])
            where = f"{name}: on the way there" if _THROUGH.search(lines) and "UNKNOWN" not in meaning.pattern else name
            return explained(meaning, name=where, login=login, during=during, **words)
    raise AssertionError("the last entry is found in everything")


def explained(meaning: SshMeaning, *, name: str, login: str, during: str = "", **words: str) -> DeviceError:
    """An error with a meaning's words filled in."""
    shown = {key: printable(word) for key, word in words.items()}
    return DeviceError(
        f"{name}: {meaning.what.format(login=login, **shown)}{during}",
        remedy=meaning.remedy.format(login=login, **shown),
    )


def printable(text: str) -> str:
    """One line without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
