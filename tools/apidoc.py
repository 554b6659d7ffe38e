"""Write the API reference from the schema's descriptors and comments, or check that it is fresh.

    python -m tools.apidoc            write docs/reference/api.md and the blocks in other pages
    python -m tools.apidoc --check    exit code 1, naming each stale page

The comments of the schema are the source: a field without one fails `tools.proto check`. Another
page gets the table of one message between `<!-- api NAME:begin … -->` and `<!-- api NAME:end -->`.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from buf.validate import validate_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

from tools.proto import ROOT, SCHEMA, describe

REFERENCE = Path("docs/reference/api.md")
PAGES_WITH_BLOCKS = (Path("docs/swap/ln-liquid-swap.md"),)
MARK = "written by `python -m tools.apidoc`; do not edit"
_MESSAGE, _ENUM, _SERVICE, _PART = 4, 5, 6, 2
"""Field numbers of descriptor.proto, of which the paths of comments are made."""
_STATUS = re.compile(r"^ {2}([A-Z_]{2,}) {2,}(.*)$")
_CONTINUED = re.compile(r"^ {4,}(\S.*)$")
_BLOCK = re.compile(r"<!-- api (\w+):begin.*?-->.*?<!-- api \1:end -->", re.DOTALL)


@dataclass(frozen=True)
class Schema:
    """The parsed schema and the comment of each element by its path. Reads `proto/` only."""

    file: FileDescriptorProto
    comments: dict[tuple[int, ...], str]

    @classmethod
    def read(cls) -> "Schema":
        """Parse the schema. `SystemExit` when protoc does not take it."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "schema.binpb"
            describe(path)
            files = FileDescriptorSet.FromString(path.read_bytes())
        (file,) = (file for file in files.file if file.name == SCHEMA)
        comments = {
            tuple(location.path): location.leading_comments
            for location in file.source_code_info.location
            if location.leading_comments
        }
        return cls(file, comments)

    def message(self, name: str) -> tuple[int, DescriptorProto]:
        """A message and its place in the file. Raises `SystemExit` when there is none."""
        for index, message in enumerate(self.file.message_type):
            if message.name == name:
                return index, message
        raise SystemExit(f"there is no message {name} in {SCHEMA}")


def reference(schema: Schema) -> str:
    """The whole page."""
    parts = [
        "# API reference",
        f"<!-- {MARK} -->",
        f"Made from the comments of [`proto/{SCHEMA}`](../../proto/{SCHEMA}), package "
        f"`{schema.file.package}`. Every call by hand: [grpc.md](../swap/grpc.md). What a buyer "
        "does with it: [ln-liquid-swap.md](../swap/ln-liquid-swap.md).",
        "Amounts of an asset are in its smallest unit, of L-BTC in sat, of Lightning in msat. "
        "Times are Unix seconds, UTC. In JSON, 64-bit numbers are strings and bytes are base64, "
        "and a field that is 0 or empty is left out.",
    ]
    for at, service in enumerate(schema.file.service):
        parts += [f"## {service.name}", *prose(schema.comments[_SERVICE, at])]
        for index, method in enumerate(service.method):
            parts += _method(schema, at, index, method)
    parts.append("## Messages")
    for message in schema.file.message_type:
        at, _ = schema.message(message.name)
        parts += [f"### {message.name}", *prose(schema.comments[_MESSAGE, at])]
        parts.append(field_table(schema, message.name))
    parts.append("## Enums")
    for at, enum in enumerate(schema.file.enum_type):
        parts += [f"### {enum.name}", *prose(schema.comments[_ENUM, at])]
        parts.append(_values(schema, at, enum))
    return "\n\n".join(parts) + "\n"


def _method(
    schema: Schema, service: int, index: int, method: MethodDescriptorProto
) -> Iterator[str]:
    takes, gives = _short(method.input_type), _short(method.output_type)
    stream = "a stream of " if method.server_streaming else ""
    yield f"### {method.name}"
    yield f"[{takes}](#{takes.lower()}) → {stream}[{gives}](#{gives.lower()})"
    yield from prose(schema.comments[_SERVICE, service, _PART, index])


def field_table(schema: Schema, name: str) -> str:
    """Fields of a message: name, type, what is accepted, meaning with its unit."""
    at, message = schema.message(name)
    if not message.field:
        return "No fields."
    rows = [
        (
            f"`{field.name}`",
            _type(field),
            _rules(field),
            _line(schema.comments[_MESSAGE, at, _PART, index]),
        )
        for index, field in enumerate(message.field)
    ]
    if not any(accepted for _, _, accepted, _ in rows):
        plain = [(name, kind, meaning) for name, kind, _, meaning in rows]
        return _table(("field", "type", "meaning"), plain)
    return _table(("field", "type", "accepted", "meaning"), rows)


def _values(schema: Schema, at: int, enum: EnumDescriptorProto) -> str:
    rows = [
        (str(value.number), f"`{value.name}`", _line(schema.comments[_ENUM, at, _PART, index]))
        for index, value in enumerate(enum.value)
    ]
    return _table(("number", "name", "meaning"), rows)


def prose(comment: str) -> list[str]:
    """A comment as paragraphs; its indented status codes as a table."""
    parts: list[str] = []
    lines: list[str] = []
    codes: list[tuple[str, str]] = []

    def flush() -> None:
        if lines:
            parts.append(_line("\n".join(lines)))
            lines.clear()
        if codes:
            parts.append(_table(("status", "cause"), [(f"`{c}`", _line(t)) for c, t in codes]))
            codes.clear()

    for raw in comment.rstrip().split("\n"):
        line = raw.removeprefix(" ")
        if code := _STATUS.match(line):
            if lines:
                flush()
            codes.append((code[1], code[2]))
        elif codes and (more := _CONTINUED.match(line)):
            codes[-1] = (codes[-1][0], f"{codes[-1][1]} {more[1]}")
        else:
            if codes or not line.strip():
                flush()
            if line.strip():
                lines.append(line)
    flush()
    return parts


def _type(field: FieldDescriptorProto) -> str:
    scalar = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    name = _short(field.type_name) if field.type_name else scalar
    if field.type_name:
        name = f"[{name}](#{name.lower()})"
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    return f"repeated {name}" if repeated else name


def _rules(field: FieldDescriptorProto) -> str:
    """Protovalidate's rules of the field, for a person."""
    accepted: list[str] = []
    for kind, limits in field.options.Extensions[validate_pb2.field].ListFields():
        if not hasattr(limits, "ListFields"):
            accepted.append(f"{kind.name} {limits}")
            continue
        for rule, value in limits.ListFields():
            match rule.name:
                case "gt" | "gte" | "lt" | "lte":
                    sign = {"gt": ">", "gte": "≥", "lt": "<", "lte": "≤"}[rule.name]
                    accepted.append(f"{sign} {value:,}")
                case "min_len" | "max_len":
                    sign = "≥" if rule.name == "min_len" else "≤"
                    accepted.append(f"{sign} {value} characters")
                case "pattern":
                    accepted.append(f"`{value}`")
                case "uuid":
                    accepted.append("a UUID")
                case "items" if value.HasField("enum") and value.enum.defined_only:
                    accepted.append("names of the enumeration, but no `UNSPECIFIED`")
                case _:
                    raise SystemExit(f"tools/apidoc.py does not know the rule {rule.full_name}")
    return ", ".join(sorted(accepted, key=lambda text: text[0] in "<≤"))  # lower bound first


def _short(type_name: str) -> str:
    return type_name.rpartition(".")[2]


def _line(text: str) -> str:
    return " ".join(text.split())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(c.replace('|', chr(92) + '|') for c in row)} |" for row in lines
    )


def with_blocks(schema: Schema, text: str) -> str:
    """The page with the table of each message that it has a place for."""

    def block(found: "re.Match[str]") -> str:
        name = found[1]
        table = field_table(schema, name).replace("](#", "](../reference/api.md#")
        return f"<!-- api {name}:begin ({MARK}) -->\n\n{table}\n\n<!-- api {name}:end -->"

    return _BLOCK.sub(block, text)


def stale(root: Path, *, write: bool) -> list[str]:
    """Pages below `root` that differ from the schema; with `write` they are brought up to date."""
    schema = Schema.read()
    wanted = {REFERENCE: reference(schema)}
    for page in PAGES_WITH_BLOCKS:
        wanted[page] = with_blocks(schema, (root / page).read_text())
    found = []
    for page, text in wanted.items():
        path = root / page
        if path.exists() and path.read_text() == text:
            continue
        found.append(str(page))
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return found


def main() -> None:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a page is stale")
    is_check = parser.parse_args().check
    found = stale(ROOT, write=not is_check)
    for name in found:
        print(f"stale: {name}" if is_check else f"written: {name}")
    if is_check and found:
        sys.exit("run `python -m tools.apidoc`")


if __name__ == "__main__":
    main()
