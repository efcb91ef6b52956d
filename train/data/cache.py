"""A cache of arrays on disk, by key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mfer_edge.outputs.files import make_folder, replacing
from train.data.index import DatasetError

Arrays = dict[str, np.ndarray]


class Cache:
    """A folder of arrays, one file for each key.

    A file is written completely or not at all, so that a killed extraction can be resumed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"

    def __contains__(self, key: str) -> bool:
        return self.path(key).is_file()

    def get(self, key: str, make: Callable[[], Arrays]) -> Arrays:
        """Read the arrays of a key, or make and write them.

        Raises:
            DatasetError: the file is damaged.
            OutputError: the folder can't be written to.
        """
        path = self.path(key)
        if not path.is_file():
            arrays = make()
            self.put(key, arrays)
            return arrays
        try:
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        except Exception as error:  # of any type, depending on the damaged bytes
            raise DatasetError(f"{path}: damaged ({error}): delete it and start again") from error

    def put(self, key: str, arrays: Arrays) -> None:
        """Write the arrays of a key.

        Raises:
            OutputError: the folder can't be written to.
        """
        path = self.path(key)
        make_folder(path.parent, "a cache")
        with replacing(path) as beside, open(beside, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
