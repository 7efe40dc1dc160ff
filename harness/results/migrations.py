"""Older runs are brought up to date in memory when they are read; the file stays as it was.

Each step takes the content of a run.json from version N - 1 to N and is never edited once it was released; records of
the journal have had two forms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from harness.results.files import Content
from harness.results.schema import SCHEMA_VERSION


def several_threads(content: Content) -> Content:
    """1 -> 2: there was one device, this machine over loopback, one count of threads, every core, and no survey."""
    config = content["config"] | {"threads": [content["config"].get("threads", 1)], "survey": "none"}
    return content | {
        "config": config,
        "devices": [{"address": name, "label": name, "link": "loopback"} for name in config["devices"]],
        "cells": [cell | {"affinity": "all"} for cell in content["cells"]],
    }


def facts_apart_from_names(content: Content) -> Content:
    """2 -> 3: the label alone told an emulated device; the word stood for a shaped link as well."""
    return content | {
        "devices": [
            entry | {"emulated": "emulated" in entry["label"], "link": _shaped(entry["link"])}
            for entry in content["devices"]
        ],
        "cells": [cell | {"link": _shaped(cell["link"])} for cell in content["cells"]],
    }


def _shaped(link: str) -> str:
    return re.sub(r" \(emulated\)$", " (shaped)", link)


MIGRATIONS: Mapping[int, Callable[[Content], Content]] = {2: several_threads, 3: facts_apart_from_names}

if set(MIGRATIONS) != set(range(2, SCHEMA_VERSION + 1)):
    raise RuntimeError(f"no migration leads to every version up to {SCHEMA_VERSION}")


def migrate(content: Content) -> Content:
    """Bring the content of a run.json of any known version up to date."""
    for version in range(content["schema_version"] + 1, SCHEMA_VERSION + 1):
        content = MIGRATIONS[version](content) | {"schema_version": version}
    return content


def migrate_round(content: Content) -> Content:
    """Bring a record of a version before 3 up to date: heads and surveys had a form each.

    A survey's record is known by the cells that it names.
    """
    report = content.get("report")
    if "survey" in content:
        content = content | {"work": content["survey"], "operators": content["before"], "maps": content["planar"]}
        content["report"] = report and report | {"warmup_ns": [], "outputs": [_of_many(o) for o in report["outputs"]]}
        return _without(content, "survey", "before", "planar")
    content = content | {"work": content["cell"], "cells": [content["cell"]], "report": report and _of_one(report)}
    content |= {f"state_{when}": content.get(when) for when in ("before", "after")}
    return _without(content, "cell", "before", "after")


def _of_one(report: Content) -> Content:
    output = report["output"] | {key: report[key] for key in ("verification", "shipments")}
    return _without(report, "output", "verification", "shipments", "head_ns") | {
        "outputs": [output],
        "run_ns": report["head_ns"],
    }


def _of_many(output: Content) -> Content:
    alone = {"head_ns": None, "end_to_end_ns": None}
    return output | {"shipments": [shipment | alone for shipment in output["shipments"]]}


def _without(content: Content, *keys: str) -> Content:
    return {key: value for key, value in content.items() if key not in keys}
