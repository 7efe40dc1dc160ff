"""What users may bring, damaged at random: `python -m tests.fuzz.pictures`."""
