"""Which kinds of file there are, by their suffix."""

from raptor.loading.types import SourceFile

PLAIN = frozenset(
    (  # noqa: SIM905
        ".txt .text .log .rst .tex .org .csv .tsv .json .yaml .yml .toml .ini .cfg .conf .xml .css .py .js .ts "
        ".tsx .jsx .java .kt .scala .c .h .cc .cpp .hpp .cs .go .rs .rb .php .swift .lua .pl .r .jl .sh .sql .proto"
    ).split()
)
MARKDOWN = frozenset({".md", ".markdown"})
HTML = frozenset({".html", ".htm", ".xhtml"})
OFFICE = frozenset({".docx", ".pptx", ".xlsx"})
# "" stands for no suffix: what such a file is, its content says.
SLOW = HTML | OFFICE | {".pdf", ""}


def is_slow(file: SourceFile) -> bool:
    """Whether its type takes long to parse, or may crash what parses it."""
    return not file.outside and file.suffix in SLOW
