"""Stand-ins for machines that cannot stand beside a test: each speaks the real protocol to the real client."""
