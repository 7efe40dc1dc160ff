"""What a run does, in which order: inputs, plan, devices, exports, measuring, attacks."""
