"""Networks: made, cut, counted, quantised, and run as PyTorch runs them."""
