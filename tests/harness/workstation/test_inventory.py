"""Devices are looked at one by one, and each fails alone."""

from __future__ import annotations

from harness.workstation.inventory import look_at


def test_an_address_that_cannot_be_read_fails_alone_and_shows_no_password() -> None:
    findings = list(look_at(["ssh://pi:s3cret@host", "local"]))
    assert [finding.problem is None for finding in findings] == [False, True]
    assert "s3cret" not in repr(findings)
