#!/bin/sh
# Sets the seller's price from a number that a command prints: msat for one unit of the asset.
#
#   ASSET=c6ff06c8… SOURCE=./my-price LNLIQUID_OPERATOR=unix:/run/lnliquid/operator.sock ./price_feed.sh
#
# Each minute: read the number, add a spread, refuse a jump, set it for five minutes. When this script or its
# source dies the price runs out and the daemon stops selling by itself (PRICE_STALE).
set -eu
: "${ASSET:?asset id, 64 hex digits}" "${SOURCE:?command that prints msat for one unit}"
SPREAD_PERMILLE=${SPREAD_PERMILLE:-10} MAX_JUMP_PERMILLE=${MAX_JUMP_PERMILLE:-50}
PAUSE_SECS=${PAUSE_SECS:-60} VALID=${VALID:-5m}
last=

while :; do
    if raw=$($SOURCE) && [ "$raw" -gt 0 ] 2>/dev/null; then
        price=$((raw + raw * SPREAD_PERMILLE / 1000))
        jump=0
        [ -z "$last" ] || jump=$(((price - last) * 1000 / last))
        if [ "${jump#-}" -le "$MAX_JUMP_PERMILLE" ]; then
            lnliquid price "$ASSET" "$price" --for "$VALID" && last=$price
        else
            echo "price_feed: $price is ${jump} permille away from $last; not set, look at $SOURCE" >&2
        fi
    else
        echo "price_feed: $SOURCE gave no price" >&2
    fi
    sleep "$PAUSE_SECS"
done
