"""The domain: what a swap is, and what must happen to it. Pure: no I/O, no clock."""
