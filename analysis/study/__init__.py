"""How a network's structure decides what its activations give away: the paper's question."""
