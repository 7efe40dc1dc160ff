"""Older runs are brought up to date in memory when they are read; the file stays as it was.

Each step takes the content of a run.json from version N - 1 to N and is never edited once it was released.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.results.schema import SCHEMA_VERSION

Content = dict[str, Any]


def several_threads(content: Content) -> Content:
    """1 -> 2: there was one device, this machine over loopback, one count of threads, every core, and no survey."""
    config = content["config"] | {"threads": [content["config"].get("threads", 1)], "survey": "none"}
    return content | {
        "config": config,
        "devices": [{"address": name, "label": name, "link": "loopback"} for name in config["devices"]],
        "cells": [cell | {"affinity": "all"} for cell in content["cells"]],
    }


MIGRATIONS: Mapping[int, Callable[[Content], Content]] = {2: several_threads}

if set(MIGRATIONS) != set(range(2, SCHEMA_VERSION + 1)):
    raise RuntimeError(f"no migration leads to every version up to {SCHEMA_VERSION}")


def migrate(content: Content) -> Content:
    """Bring the content of a run.json of any known version up to date."""
    for version in range(content["schema_version"] + 1, SCHEMA_VERSION + 1):
        content = MIGRATIONS[version](content) | {"schema_version": version}
    return content
