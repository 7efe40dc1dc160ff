"""What a run is made of on disk."""
