"""The seller: creating swaps, funding them, watching them to the end."""
