"""The files that Hydra reads while it composes: from which folders, and that each is checked and counted before.

Hydra has no public way to look at a file before it is read: two of its methods are replaced inside a block.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin

from qexp.config.places import conf_dir
from qexp.config.yaml_files import Unsafe, check_file

MOST_FILES = 500  # of one composition, each as often as defaults lists name it; qexp's own takes 20


class FolderOfTheUser(SearchPathPlugin):
    """Adds the folder of --config-dir behind qexp's own, where Hydra's main would."""

    folder: ClassVar[Path | None] = None  # Hydra makes its plugins itself, so that this cannot be an argument

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if self.folder is not None:
            search_path.append("command-line", f"file://{self.folder.resolve()}")


@contextmanager
def checking_files() -> Iterator[None]:
    """Let Hydra check every file inside the block before it reads it, and refuse more than can be meant."""
    source, repository = SourcesRegistry.instance().resolve("file"), CachingConfigRepository
    read, find = source.load_config, repository.load_config

    def checked(self: ConfigSource, config_path: str) -> ConfigResult:
        path = Path(self.path, self._normalize_file_name(config_path))
        if path.exists() and not path.resolve().is_relative_to(conf_dir()):
            check_file(path, FolderOfTheUser.folder or conf_dir())
        return read(self, config_path)

    def counted(self: Any, config_path: str) -> ConfigResult | None:
        self.found = getattr(self, "found", 0) + 1
        if self.found > MOST_FILES:
            raise Unsafe(Path(config_path), f"defaults lists name more than {MOST_FILES} files, one through another")
        return find(self, config_path)

    source.load_config, repository.load_config = checked, counted  # type: ignore[method-assign]
    try:
        yield
    finally:
        source.load_config, repository.load_config = read, find  # type: ignore[method-assign]
