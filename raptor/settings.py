"""What a build can be told, and reading it from a TOML file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raptor.errors import RaptorError

if TYPE_CHECKING:
    from raptor.clustering.settings import ClusterSettings


def _cluster_settings() -> "ClusterSettings":
    from raptor.clustering.settings import ClusterSettings

    return ClusterSettings()


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """`chunk_tokens`: budget of a chunk; `summary_tokens`: most a summary's reply may have; `concurrency`: model
    calls at once; `root_children`: a level of at most so many nodes is closed by the root at once."""

    chunk_tokens: int = 100
    summary_tokens: int = 200
    concurrency: int = 16
    root_children: int = 12
    cluster: "ClusterSettings" = field(default_factory=_cluster_settings)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "BuildSettings":
        """The settings that an index was built with, from its manifest; raises RaptorError where they do not fit."""
        from raptor.clustering.settings import ClusterSettings

        values = dict(given)
        cluster = values.pop("cluster", {})
        return cls(
            **_checked(values, cls, "the index's manifest"),
            cluster=ClusterSettings(**_checked(cluster, ClusterSettings, "the index's manifest")),
        )

    def __post_init__(self) -> None:
        least = {"chunk_tokens": 16, "summary_tokens": 32, "concurrency": 1, "root_children": 2}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise RaptorError(f"{name} is {getattr(self, name)}; give at least {minimum}")
        if not 0 <= self.cluster.seed < 2**32:
            raise RaptorError(f"seed is {self.cluster.seed}; give a number from 0 to {2**32 - 1}")


def read_settings(path: str | Path) -> BuildSettings:
    """Settings from a TOML file: the fields of BuildSettings, those of the clustering in a table [cluster]."""
    from raptor.clustering.settings import ClusterSettings

    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as e:
        raise RaptorError(f"cannot read the settings {path}: {e.strerror or e}") from e
    except (ValueError, RecursionError) as e:  # not UTF-8, not TOML, or brackets without end
        raise RaptorError(f"the settings {path} are not TOML: {e}") from e
    cluster = data.pop("cluster", {})
    if not isinstance(cluster, dict):
        raise RaptorError(f"{path}: cluster is {cluster!r}; write a table [cluster]")
    return BuildSettings(
        **_checked(data, BuildSettings, path),
        cluster=ClusterSettings(**_checked(cluster, ClusterSettings, path)),
    )


def _checked(given: Mapping[str, Any], kind: type, path: str | Path) -> dict[str, Any]:
    """`given` with only known names and values of the declared type."""
    types = {f.name: type(f.default) for f in fields(kind) if isinstance(f.default, int | float | str)}
    for name, value in given.items():
        if name not in types:
            raise RaptorError(f"{path} sets {name!r}, which is unknown; there are {', '.join(sorted(types))}")
        wanted = types[name]
        if isinstance(value, bool) or not isinstance(value, (int, float) if wanted is float else wanted):
            raise RaptorError(f"{path} sets {name} to {value!r}; give a {wanted.__name__}")
    return dict(given)
