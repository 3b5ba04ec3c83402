"""Where the state of a server is kept when nobody says."""

from pathlib import Path

from index_store.own import own_folder
from rlm.errors import RlmError

FILE = "state.sqlite"


def data_folder() -> Path:
    """The folder that this system gives a program's data, for what a server keeps. Raises as `own_data` does."""
    return own_data() / "serve"


def own_data(otherwise: str = "name a folder by --data, and a database by --db") -> Path:
    """The user's folder for our data. Raises RlmError, which says what to do `otherwise`, where there is no home."""
    try:
        return own_folder("data")
    except FileNotFoundError as error:
        raise RlmError(f"there is no home folder to keep it in; set HOME, or {otherwise}") from error


def default_url(data: Path | None = None) -> str:
    """The database in the folder of a server's data."""
    return str((data or data_folder()) / FILE)


def check_extra(command: str) -> None:
    """Raise RlmError where the packages that a database needs are not installed."""
    try:
        import alembic as alembic
        import sqlalchemy as sqlalchemy
    except ModuleNotFoundError as error:
        raise RlmError(f"{command} needs the extra `serve`: pip install 'raptor-rlm[serve]'") from error
