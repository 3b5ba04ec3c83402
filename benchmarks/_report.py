"""What a part of the benchmarks gives: tables, claims and losses; kept as JSON, shown in a terminal and in Markdown.

Nothing here measures. A part is kept in a file of its own, so that running one part leaves the figures of the others.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells below named columns. `note`: what one must know to read it, in sentences."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that is said of this project, with what was measured.

    `target`: the key in `targets.TARGETS` that it answers, '' for none. `wanted`: when it holds. `figure`: what was
    measured; `peer`: what it is held against, measured in the same run unless it says otherwise; `interval`: of the
    difference, 95 %. `holds`: None where it was not measured, and then `figure` says why.
    """

    target: str
    text: str
    wanted: str
    figure: str
    peer: str = ""
    interval: str = ""
    holds: bool | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """Where something plainer does better: `plain` by its name, the place, both figures, and the interval of the
    difference."""

    plain: str
    where: str
    theirs: str
    ours: str
    interval: str = ""


Item: TypeAlias = Table | Claim | Loss
KINDS: dict[str, type[Table] | type[Claim] | type[Loss]] = {"table": Table, "claim": Claim, "loss": Loss}


def worst_of(claims: Sequence[tuple[float, Claim]]) -> Claim:
    """Claims of one target as one, which shows the worst: that with the lowest number before it. At least one is
    given."""
    _, worst = min(claims, key=lambda pair: pair[0])
    holds = all(claim.holds for _, claim in claims)
    return replace(worst, text=f"{worst.text}, the worst of {len(claims)}", holds=holds)


class NotRun(Exception):
    """A part cannot be measured here: one sentence that says what it lacks."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a part gave, and when and on what it ran. `cpu_s`: processor seconds of it and its children."""

    name: str
    date: str
    commit: str
    machine: str
    cpu_s: float
    wall_s: float
    items: tuple[Item, ...]

    def of(self, kind: type[Any]) -> list[Any]:
        """Its items of one kind, in order."""
        return [item for item in self.items if isinstance(item, kind)]


# -- kept ----------------------------------------------------------------------------------------------------


def keep(folder: Path, part: Part) -> None:
    """Write a part into its file, in place of what it gave before."""
    folder.mkdir(parents=True, exist_ok=True)
    told = asdict(part) | {"items": [_as_json(item) for item in part.items]}
    (folder / f"{part.name}.json").write_text(
        json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def kept(folder: Path) -> dict[str, Part]:
    """The parts that are kept, by name."""
    return {part.name: part for part in map(_part, sorted(folder.glob("*.json")))}


def _as_json(item: Item) -> dict[str, Any]:
    kind = next(name for name, type_ in KINDS.items() if isinstance(item, type_))
    return {"kind": kind, **asdict(item)}


def _part(file: Path) -> Part:
    told = json.loads(file.read_text(encoding="utf-8"))
    return Part(**told | {"items": tuple(map(_item, told["items"]))})


def _item(told: dict[str, Any]) -> Item:
    kind, fields = KINDS[told["kind"]], {name: value for name, value in told.items() if name != "kind"}
    if kind is Table:
        fields |= {"columns": tuple(fields["columns"]), "rows": tuple(map(tuple, fields["rows"]))}
    return kind(**fields)


# -- in words ------------------------------------------------------------------------------------------------


def percent(value: float) -> str:
    """A share in percent, or points, with one digit."""
    return f"{value:.1f}"


def gained(mean: float, low: float, high: float) -> str:
    """A difference with its interval."""
    return f"{mean:+.1f} {bounds(low, high)}"


def bounds(low: float, high: float) -> str:
    """An interval."""
    return f"[{low:+.1f} {high:+.1f}]"


def as_text(item: Item) -> str:
    """An item as a terminal shows it."""
    if isinstance(item, Table):
        return _table_text(item)
    if isinstance(item, Loss):
        return _sentence(item)
    against = f", against {item.peer}" if item.peer else ""
    return f"{verdict(item)}: {item.text}: {item.figure}{against} {item.interval}".rstrip()


def _table_text(table: Table) -> str:
    columns = list(zip(table.columns, *table.rows, strict=True))
    shown = [_justified(column, are_figures(column[1:])) for column in columns]
    lines = [table.title, "", *("  ".join(row) for row in zip(*shown, strict=True))]
    return "\n".join([*(line.rstrip() for line in lines), *(["", table.note] if table.note else [])])


def _justified(cells: Sequence[str], right: bool) -> list[str]:
    width = max(map(len, cells))
    return [cell.rjust(width) if right else cell.ljust(width) for cell in cells]


def are_figures(cells: Sequence[str]) -> bool:
    """Whether a column holds numbers, and nothing but them."""
    told = [cell for cell in cells if cell not in ("", "-")]
    return bool(told) and all(cell[0] in "+-0123456789" for cell in told)


def verdict(claim: Claim) -> str:
    """Whether a claim holds, in a word or two."""
    return {True: "holds", False: "does not hold", None: "not measured"}[claim.holds]


def _sentence(loss: Loss) -> str:
    return f"{loss.plain} wins, {loss.where}: {loss.theirs} against {loss.ours} {loss.interval}".rstrip()


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table in Markdown; columns of figures are set to the right."""
    yield f"| {' | '.join(map(_cell, columns))} |"
    places = range(len(columns))
    yield f"|{'|'.join('---:' if are_figures([row[i] for row in rows]) else '---' for i in places)}|"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(words: str) -> str:
    return " ".join(words.split()).replace("|", "\\|")


def markdown_part(part: Part) -> Iterator[str]:
    """The section of a part: when it ran, and its tables."""
    yield f"## {part.name.capitalize()}\n"
    yield (
        f"Run on {part.date} at commit {part.commit}, {part.machine}; "
        f"{part.cpu_s:,.0f} processor seconds, {part.wall_s:,.0f} by the clock.\n"
    )
    for table in part.of(Table):
        yield f"### {table.title}\n"
        yield from markdown_table(table.columns, table.rows)
        yield ""
        if table.note:
            yield f"{table.note}\n"


def loss_rows(parts: Sequence[Part]) -> list[tuple[str, ...]]:
    """All losses, as rows."""
    return [
        (loss.plain, loss.where, loss.theirs, loss.ours, loss.interval)
        for part in parts
        for loss in part.of(Loss)
    ]
