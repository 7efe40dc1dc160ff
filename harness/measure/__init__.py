"""Measuring: devices made ready, programs verified, timed and shipped, round by round."""
