"""One embedded Core Lightning node: who it is, its socket, and its table of commands."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coincurve import PrivateKey

from . import bolt11, invoice_commands, params, pay
from .channels import Channel
from .errors import METHOD_NOT_FOUND, RpcError, invalid_params
from .invoices import InvoiceBook
from .params import Param, read_params
from .payments import LIST_PARAMS, PaymentBook
from .routes import CLTV_FINAL_BLOCKS
from .rpc import Answer, RpcServer

if TYPE_CHECKING:
    from .network import LightningNetwork

VERSION = "v26.06.6-embedded"
_OUR_FEATURES = {
    "init": "800898880a0a59a1",
    "node": "808898880a0a59a1",
    "channel": "",
    # With payment_metadata, which an invoice without metadata leaves out.
    "invoice": "02000002024100",
}
_GETINFO_PARAMS: Sequence[Param] = ()
_STOP_PARAMS: Sequence[Param] = ()
_HELP_PARAMS = (Param("command", params.any_text),)
_LISTCONFIGS_PARAMS = (Param("config", params.any_text),)
_DECODE_PARAMS = (Param("string", params.anything, required=True),)
_LISTPEERS_PARAMS = (Param("id", params.node_id), Param("level", params.any_text))
_LISTPEERCHANNELS_PARAMS = (
    Param("id", params.node_id),
    Param("short_channel_id", params.short_channel_id),
    Param("channel_id", params.channel_id),
)

Handler = Callable[["LightningNode", Any], Answer | Coroutine[Any, Any, Answer]]
"""(node, params as given) → result; raises RpcError."""


class LightningNode:
    """A node of a LightningNetwork. `name` is its alias and the seed of its key."""

    def __init__(self, name: str, socket_path: Path, network: "LightningNetwork") -> None:
        self.name = name
        self.socket_path = socket_path
        self.network = network
        self.clock = network.clock
        seed = hashlib.sha256(f"embedded lightning node {name}".encode()).digest()
        self._key = PrivateKey(seed)
        self.node_id = self._key.public_key.format().hex()
        self.invoices = InvoiceBook(self.clock)
        self.payments = PaymentBook(self.clock, network.linger_secs)
        self.rpc = RpcServer(socket_path, self._dispatch)
        self.starts = 0
        self.configs = _default_configs(name)
        """Options as `listconfigs` shows them; a test may change them, as a restart would."""
        self._stopping: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether the node is up."""
        return self.rpc.running

    @property
    def working(self) -> bool:
        """Whether the node is up and does not hang."""
        return self.rpc.running and self.rpc.awake

    async def start(self) -> None:
        """Open the socket; the state is what it was at stop()."""
        await self._finish_stopping()
        if not self.running:
            await self.rpc.start()
            self.starts += 1

    async def stop(self) -> None:
        """Close the socket and all connections. Invoices, payments and channels stay."""
        await self._finish_stopping()
        await self.rpc.stop()

    def stop_soon(self) -> None:
        """Stop after the reply now being written."""
        self._stopping = asyncio.get_running_loop().create_task(self.rpc.stop())

    async def _finish_stopping(self) -> None:
        if self._stopping is not None:
            stopping, self._stopping = self._stopping, None
            await stopping

    def channels(self) -> list[Channel]:
        """The channels that this node is an end of."""
        return [c for c in self.network.channels if self.node_id in c.sides]

    def signed_invoice(self, **fields: Any) -> str:
        """A payment request of now, signed with this node's key; fields as for bolt11.encode."""
        return bolt11.encode(self._key, created_at=int(self.clock()), **fields)

    def _dispatch(self, method: str, given: Any) -> Answer | Coroutine[Any, Any, Answer]:
        if method not in _COMMANDS:
            raise RpcError(METHOD_NOT_FOUND, f"Unknown command '{method}'")
        handler, _ = _COMMANDS[method]
        return handler(self, given)


def _getinfo(node: LightningNode, given: Any) -> Answer:
    read_params(given, _GETINFO_PARAMS)
    channels = node.channels()
    return {
        "id": node.node_id,
        "alias": node.name,
        "color": node.node_id[:6],
        "num_peers": len({c.other(node.node_id) for c in channels}),
        "num_pending_channels": 0,
        "num_active_channels": len(channels),
        "num_inactive_channels": 0,
        "address": [],
        # Nothing listens there: embedded nodes reach each other without a network.
        "binding": [{"type": "ipv4", "address": "127.0.0.1", "port": 9735}],
        "version": VERSION,
        "blockheight": node.network.block_height(),
        "network": bolt11.NETWORK,
        "fees_collected_msat": 0,
        "lightning-dir": str(node.socket_path.parent),
        "our_features": _OUR_FEATURES,
    }


def _default_configs(alias: str) -> dict[str, dict[str, Any]]:
    """A few of a node's options, each in one of the forms that there are (lightningd/configs.c).

    Options of a plugin that are 0 are left out, as autoclean's ages are until they are set.
    """
    return {
        "network": {"value_str": bolt11.NETWORK, "source": "cmdline"},
        "alias": {"value_str": alias, "source": "cmdline"},
        "disable-mpp": {"set": False, "source": "default", "plugin": "pay"},
        "invoices-onchain-fallback": {"set": False, "source": "default"},
        "cltv-final": {"value_int": CLTV_FINAL_BLOCKS, "source": "default"},
        "large-channels": {"set": True, "source": "default"},
        "addr": {"values_str": [], "sources": []},
        "autoclean-cycle": {
            "value_int": 3600, "source": "default", "plugin": "autoclean", "dynamic": True,
        },
    }  # fmt: skip


def _listconfigs(node: LightningNode, given: Any) -> Answer:
    wanted = read_params(given, _LISTCONFIGS_PARAMS)["config"]
    if wanted is None:
        return {"configs": node.configs}
    if wanted not in node.configs:
        raise params.bad_param("config", wanted, "Unknown config option")
    return {"configs": {wanted: node.configs[wanted]}}


def _listpeers(node: LightningNode, given: Any) -> Answer:
    asked = read_params(given, _LISTPEERS_PARAMS)
    peers: dict[str, list[Channel]] = {}
    for channel in node.channels():
        peers.setdefault(channel.other(node.node_id), []).append(channel)
    answer = []
    for peer_id, channels in peers.items():
        if asked["id"] not in (None, peer_id):
            continue
        connected = node.network.connected(channels[0])
        netaddr = {"netaddr": ["127.0.0.1:9735"]} if connected else {}
        answer.append(
            {"id": peer_id, "connected": connected, "num_channels": len(channels)}
            | netaddr
            | {"features": _OUR_FEATURES["init"]}
        )
    return {"peers": answer}


def _listpeerchannels(node: LightningNode, given: Any) -> Answer:
    asked = read_params(given, _LISTPEERCHANNELS_PARAMS)
    if sum(value is not None for value in asked.values()) > 1:
        raise invalid_params("Must not specify more than one of short_channel_id, channel_id or id")
    shown = [
        channel.as_json(
            node.node_id,
            connected=node.network.connected(channel),
            reconnected=node.network.reconnected(channel),
        )
        for channel in node.channels()
        if asked["id"] in (None, channel.other(node.node_id))
    ]
    for name in ("short_channel_id", "channel_id"):
        if asked[name] is not None:
            shown = [channel for channel in shown if channel[name] == asked[name]]
    return {"channels": shown}


def _decode(node: LightningNode, given: Any) -> Answer:
    asked = read_params(given, _DECODE_PARAMS)["string"]
    if isinstance(asked, str) and asked[:10].lower() == "lightning:":
        asked = asked[10:]
    text = params.text_of(asked)
    try:
        invoice = bolt11.decode(text)
    except bolt11.InvoiceError as error:
        # Only the prefixes that `decode` knows get a reason; lnert is not among them.
        known = text.lower().startswith(("lnbc", "lntb"))
        why = str(error) if known else "Unparsable string"
        raise params.bad_param("string", asked, why) from None
    answer: Answer = {
        "type": "bolt11 invoice",
        "currency": invoice.currency,
        "created_at": invoice.created_at,
        "expiry": invoice.expiry_secs,
        "payee": invoice.payee,
    }
    if invoice.amount_msat is not None:
        answer["amount_msat"] = invoice.amount_msat
    if invoice.description is not None:
        answer["description"] = invoice.description
    if invoice.description_hash is not None:
        answer["description_hash"] = invoice.description_hash
    return answer | {
        "min_final_cltv_expiry": invoice.min_final_cltv_blocks,
        "payment_secret": invoice.payment_secret,
        "features": invoice.features,
        "payment_hash": invoice.payment_hash,
        "signature": invoice.signature_der,
        "valid": True,
    }


def _listpays(node: LightningNode, given: Any) -> Answer:
    book = node.payments
    return {"pays": [one.as_pay(lingers=book.lingers(one)) for one in book.listed(given)]}


def _listsendpays(node: LightningNode, given: Any) -> Answer:
    return {"payments": [payment.as_sendpay() for payment in node.payments.listed(given)]}


def _help(node: LightningNode, given: Any) -> Answer:
    asked = read_params(given, _HELP_PARAMS)["command"]
    if asked is not None and asked not in _COMMANDS:
        raise RpcError(METHOD_NOT_FOUND, f"Unknown command {asked}")
    names = sorted(_COMMANDS) if asked is None else [asked]
    lines = [{"command": f"{name} {params.usage(_COMMANDS[name][1])}"} for name in names]
    return {"help": lines, "format-hint": "simple"}


def _stop(node: LightningNode, given: Any) -> Answer:
    read_params(given, _STOP_PARAMS)
    node.stop_soon()
    return {"result": "Shutdown complete"}


_COMMANDS: dict[str, tuple[Handler, Sequence[Param]]] = {
    "decode": (_decode, _DECODE_PARAMS),
    "delinvoice": (invoice_commands.delinvoice, invoice_commands.DELINVOICE_PARAMS),
    "getinfo": (_getinfo, _GETINFO_PARAMS),
    "help": (_help, _HELP_PARAMS),
    "invoice": (invoice_commands.invoice, invoice_commands.INVOICE_PARAMS),
    "listconfigs": (_listconfigs, _LISTCONFIGS_PARAMS),
    "listinvoices": (invoice_commands.listinvoices, invoice_commands.LISTINVOICES_PARAMS),
    "listpays": (_listpays, LIST_PARAMS),
    "listpeerchannels": (_listpeerchannels, _LISTPEERCHANNELS_PARAMS),
    "listpeers": (_listpeers, _LISTPEERS_PARAMS),
    "listsendpays": (_listsendpays, LIST_PARAMS),
    "pay": (pay.pay, pay.PAY_PARAMS),
    "stop": (_stop, _STOP_PARAMS),
    "waitanyinvoice": (invoice_commands.waitanyinvoice, invoice_commands.WAITANYINVOICE_PARAMS),
    "waitinvoice": (invoice_commands.waitinvoice, invoice_commands.WAITINVOICE_PARAMS),
    "xpay": (pay.xpay, pay.XPAY_PARAMS),
}
"""Every command with its parameters (for `help`)."""
