"""`grpcurl` for machines without it: translates the flags that the docs use to `buf curl`.

Anything that it does not know is refused, so that a command is either run as it was meant or fails.
Both ask the server for its schema by reflection and speak plain-text HTTP/2.
"""

import subprocess
import sys
from pathlib import Path

BUF = Path(sys.executable).parent / "buf"
_TIMED_OUT = '{"code": "deadline_exceeded", "message": "-max-time is over"}\n'


def translate(arguments: list[str]) -> tuple[list[str], float | None]:
    """The command line of buf, and the most seconds that it may take. `SystemExit` if unknown."""
    flags: set[str] = set()
    data: str | None = None
    max_secs: float | None = None
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        match rest.pop(0):
            case "-plaintext" | "-unix" as flag:
                flags.add(flag)
            case "-d":
                data = rest.pop(0)
                data = "@-" if data == "@" else data  # from standard input
            case "-max-time":
                max_secs = float(rest.pop(0))
            case unknown:
                sys.exit(f"grpcurl_by_buf: unknown flag {unknown}")
    if "-plaintext" not in flags or not rest:
        sys.exit("grpcurl_by_buf: -plaintext and an address are needed")
    address, *symbol = rest
    command = [str(BUF), "curl", "--protocol", "grpc"]
    base = f"http://{address}"
    if "-unix" in flags:
        command += ["--unix-socket", address]
        base = "http://localhost"
    match symbol:
        case ["list"]:
            return [*command, "--list-services", base], max_secs
        case ["list", _]:  # buf lists the methods of all services, grpcurl those of one
            return [*command, "--list-methods", base], max_secs
        case [method]:
            body = [] if data is None else ["-d", data]
            return [*command, *body, f"{base}/{method}"], max_secs
    sys.exit(f"grpcurl_by_buf: unknown arguments {symbol}")


def main() -> int:
    """Run; the exit code is buf's, or 1 after `-max-time`."""
    command, max_secs = translate(sys.argv[1:])
    try:
        return subprocess.run(command, timeout=max_secs, check=False).returncode
    except subprocess.TimeoutExpired:
        sys.stderr.write(_TIMED_OUT)
        return 1


if __name__ == "__main__":
    sys.exit(main())
