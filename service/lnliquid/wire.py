"""Limits of gRPC that both sides share; the schema's comments state them."""

MAX_REQUEST_BYTES = 64 * 1024
"""Largest request. A longer one ends with RESOURCE_EXHAUSTED."""
MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""Largest answer, which is what clients of all languages take by default."""
