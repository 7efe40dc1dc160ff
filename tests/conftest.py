"""What every test relies on, however the test run itself was started."""

from __future__ import annotations

import signal

# A shell starts background jobs with SIGINT ignored, and what they start inherits that: the tests of Ctrl-C would fail.
signal.signal(signal.SIGINT, signal.default_int_handler)
