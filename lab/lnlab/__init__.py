"""The regtest lab: nodes, faults and scenarios around the swap service."""
