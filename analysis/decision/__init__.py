"""Which cut: decisions over tables alone."""
