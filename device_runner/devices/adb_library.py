"""adbutils, imported so that no environment variable can end the import.

While it is imported it makes a client of its own, whose port it reads with int(). Which server is talked to,
adb_server.py decides, which says in words what is wrong with a variable.
"""

from __future__ import annotations

import os

_PORT = "ANDROID_ADB_SERVER_PORT"

_given = os.environ.pop(_PORT, None)
try:
    from adbutils import AdbConnection
    from adbutils.errors import AdbConnectionError, AdbError, AdbInstallError, AdbSyncError, AdbTimeout
finally:
    if _given is not None:
        os.environ[_PORT] = _given

__all__ = ["AdbConnection", "AdbConnectionError", "AdbError", "AdbInstallError", "AdbSyncError", "AdbTimeout"]
