"""Liquid: scripts, transactions, keys, coins and the Electrum client."""
