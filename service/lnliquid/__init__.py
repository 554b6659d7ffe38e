"""Lightning to Liquid swaps: the seller daemon and the buyer."""
