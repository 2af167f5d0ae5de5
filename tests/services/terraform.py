"""A Terraform module as python-hcl2 reads it: what it declares, what it refers to. There is no Terraform to ask."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2
from hcl2 import SerializationOptions

Block = dict[str, Any]

_PLAIN = SerializationOptions(with_comments=False, explicit_blocks=False)
_REFERENCE = re.compile(r"(?<![\w.\"-])((?:data\.)?google_\w+\.\w+|(?:var|local)\.\w+(?:\.\w+)?)")


@dataclass(frozen=True)
class Module:
    """A folder of .tf files.

    Parameters
    ----------
    blocks : dict of str to dict
        What is declared, by address: ``var.region``, ``google_storage_bucket.results``, ``data.google_project.this``,
        ``output.topic``, ``local.labels``.
    lines : dict of str to str
        The files' text, by name.
    """

    blocks: dict[str, Any]
    lines: dict[str, str]

    def of(self, kind: str) -> dict[str, Block]:
        """Return what is declared of a kind (``var``, ``output``, ``google_storage_bucket``), by its name."""
        return {
            address.removeprefix(f"{kind}."): b for address, b in self.blocks.items() if address.startswith(f"{kind}.")
        }

    def resources(self) -> dict[str, Block]:
        """Return all resources by address."""
        return {address: block for address, block in self.blocks.items() if address.startswith("google_")}

    def references(self) -> dict[str, set[str]]:
        """Return by address what each block refers to: ``var.ranges.pods``, ``google_sql_database_instance.ledger``."""
        return {
            address: {found for text in expressions(block) for found in _REFERENCE.findall(_bare(text))}
            for address, block in self.blocks.items()
        }


def read(folder: Path) -> Module:
    """Read a module's files."""
    blocks: dict[str, Any] = {}
    lines: dict[str, str] = {}
    for path in sorted(folder.glob("*.tf")):
        lines[path.name] = path.read_text()
        for kind, declared in hcl2.loads(lines[path.name], serialization_options=_PLAIN).items():
            for block in declared if isinstance(declared, list) else []:
                for address, body in _declared(kind, block):
                    assert address not in blocks, f"{address} is declared twice"
                    blocks[address] = body
    return Module(blocks, lines)


def plain(value: object) -> str:
    """Return a literal string without its quotes."""
    return str(value).strip('"').replace('\\"', '"').replace("\\\\", "\\")


def expressions(value: object) -> Iterator[str]:
    """Yield every expression and template in a block, with the quotes of strings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from expressions(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from expressions(item)


def _bare(text: str) -> str:
    """Return an expression without what strings in it say, but with what is interpolated into them."""
    kept, inside, at = "", ["expression"], 0
    while at < len(text):
        step, mode = text[at : at + 2], inside[-1]
        if mode == "string" and step[0] != '"' and step != "${":
            at += 2 if step[0] == "\\" else 1
            continue
        if step[0] == '"':
            inside = inside[:-1] if mode == "string" else [*inside, "string"]
        elif mode == "string" or step[0] == "{":
            at += mode == "string"
            inside.append("expression")
        elif step[0] == "}":
            inside.pop()
        kept += step[0] if mode == "expression" and step[0] != '"' else " "
        at += 1
    return kept


def _declared(kind: str, block: Block) -> Iterator[tuple[str, Any]]:
    names = {plain(key): value for key, value in block.items()}
    if kind in {"resource", "data"}:
        for family, named in names.items():
            for name, body in named.items():
                yield f"{'data.' if kind == 'data' else ''}{family}.{plain(name)}", body
    elif kind in {"variable", "output"}:
        for name, body in names.items():
            yield f"{'var' if kind == 'variable' else 'output'}.{name}", body
    elif kind == "locals":
        for name, value in names.items():
            yield f"local.{name}", value
    else:
        yield kind, block
