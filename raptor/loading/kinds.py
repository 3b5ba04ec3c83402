"""Which kinds of file there are, by their suffix."""

from raptor.loading.types import SourceFile

PLAIN = frozenset(
    (  # noqa: SIM905
        ".txt .text .log .tex .org .yaml .yml .toml .ini .cfg .conf .css .py .js .ts "
        ".tsx .jsx .java .kt .scala .c .h .cc .cpp .hpp .cs .go .rs .rb .php .swift .lua .pl .r .jl .sh .sql .proto"
    ).split()
)
MARKDOWN = frozenset({".md", ".markdown"})
HTML = frozenset({".html", ".htm", ".xhtml"})
TABLES = frozenset({".csv", ".tsv"})
OFFICE = frozenset({".docx", ".pptx", ".xlsx"})
PACKED = frozenset({".gz", ".bz2", ".xz", ".tgz", ".tbz2", ".txz", ".tar", ".zip", ".epub", ".eml"})
OTHERS = frozenset({".pdf", ".jsonl", ".json", ".rst", ".ipynb", ".xml"})
#: The types of file that have a reader, as messages name them.
TYPES = (
    ".txt .log, source code such as .py, "
    f"{' '.join(sorted(MARKDOWN | HTML | TABLES | OFFICE | PACKED | OTHERS))}, and what has no suffix, by what it holds"
)
KNOWN = f"known types are {TYPES}"
#: In a line about one file, where the list itself is too long.
LISTED = "raptor build --help lists the types that are read"
# "" stands for no suffix: what such a file is, its content says.
SLOW = HTML | OFFICE | PACKED | {".pdf", ".json", ".ipynb", ".xml", ""}


def is_slow(file: SourceFile) -> bool:
    """Whether its type takes long to parse, or may crash what parses it."""
    return not file.outside and file.suffix in SLOW
