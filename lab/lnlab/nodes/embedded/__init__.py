"""Regtest nodes that live in the lab's own process: an Elements chain and what stands in front."""
