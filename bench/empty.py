"""A grpc.aio server that does nothing: `python -m bench.empty` prints its port and serves.

It ends when its standard input is closed.
"""

import asyncio
import sys
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

SERVICE, METHOD = "bench.Empty", "Call"


async def answer(_request: Empty, _context: grpc.aio.ServicerContext[Any, Any]) -> Empty:
    """Nothing."""
    return Empty()


async def serve() -> None:
    """Serve until the standard input ends."""
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=Empty.FromString, response_serializer=Empty.SerializeToString
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(serve())
