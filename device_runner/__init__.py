"""What touches a device: bundles, frames, devices. Knows nothing of networks or attacks."""
