"""The tables of the page `docs/scale.md`, and the pictures beside it: they are those of the part `scale`."""

import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks._curves import Points, picture
from benchmarks._report import Part, Table, markdown_table

PAGE = "scale.md"
_PLACE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def write(docs: Path, part: Part) -> None:
    """Write the tables of a part into the page, and its pictures. KeyError where the page wants a table that the part
    has not."""
    tables = {table.title: table for table in part.of(Table)}
    page = docs / PAGE
    page.write_text(filled(page.read_text(encoding="utf-8"), tables), encoding="utf-8")
    for name, drawn in pictures(tables).items():
        (docs / "pictures" / name).write_text(drawn, encoding="utf-8")


def filled(page: str, tables: Mapping[str, Table]) -> str:
    """The page with the tables that it names, each between its marks, with its note."""
    return _PLACE.sub(lambda found: f"{found[1]}\n{_table(tables[found[2]])}\n{found[3]}", page)


def _table(table: Table) -> str:
    lines = "\n".join(markdown_table(table.columns, table.rows)) if table.rows else ""
    return "\n\n".join(part for part in (lines, table.note) if part) + "\n"


def pictures(tables: Mapping[str, Table]) -> dict[str, str]:
    """The SVG of each picture, by the name of its file."""
    nodes, powers = tables["Builds on more nodes"], tables["At each power of ten"]
    read = {
        "text that it reads, kB": _flat(tables["What a question reads"], powers),
        "vectors of one shard, MB": _points(powers, 0, 6),
        "vectors of all shards, MB": _points(powers, 0, 7),
        "files kept open": _points(powers, 0, 8),
    }
    hours = {name: _points(nodes, 0, column) for column, name in enumerate(nodes.columns) if column}
    return {
        "scale-build.svg": picture("Hours of a build, by the simulation", "nodes", "hours", hours),
        "scale-question.svg": picture(
            "What one question needs, in shards of a million", "chunks of the corpus", "", read
        ),
    }


def _points(table: Table, across: int, up: int) -> Points:
    return [(number(row[across]), number(row[up])) for row in table.rows]


def _flat(reads: Table, powers: Table) -> Points:
    """What was read of the largest corpus that was asked, at each size: it does not grow."""
    thousands = number(reads.rows[-1][2]) / 1000
    return [(number(row[0]), thousands) for row in powers.rows]


def number(cell: str) -> float:
    """The number of a cell."""
    return float(cell.replace(",", ""))
