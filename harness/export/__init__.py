"""Programs: what is asked for, lowered, and kept with a manifest."""
