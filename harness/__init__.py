"""The workstation: what to run, and keeping what came of it."""
