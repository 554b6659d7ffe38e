"""gRPC: the servicer, conversion between schema and domain, error mapping."""
