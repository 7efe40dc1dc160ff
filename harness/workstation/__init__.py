"""This machine: what it is, what it lacks, and which devices it sees."""
