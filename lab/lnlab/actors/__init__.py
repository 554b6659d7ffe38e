"""Who acts in a lab: seller daemon, buyers, faucet, block timer."""
