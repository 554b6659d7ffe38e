"""Embedded Core Lightning nodes: lightningd's JSON-RPC sockets over a network in memory."""

from .channels import Channel
from .network import LightningNetwork
from .node import LightningNode

__all__ = ["Channel", "LightningNetwork", "LightningNode"]
