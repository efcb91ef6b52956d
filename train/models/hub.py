"""Download of published weights from the model hub, through `huggingface_hub` and its cache.

The library keeps nothing of a download that broke off: here it goes on where it stopped. Nothing is
put into the cache before its digest is checked.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mfer_edge.errors import MferError
from train.models.base import HubModel

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

PINS = Path(__file__).parent / "hub_pins.json"
BRANCH = "main"  # of a model whose revision is not pinned
CHUNK = 1 << 20  # bytes hashed at once
SPARE = 64 << 20  # bytes of disk that a download leaves free


class DownloadError(MferError):
    """Published weights that can't be downloaded, or are not those expected."""


@dataclass(frozen=True)
class Pin:
    """The expected state of a model on the hub."""

    revision: str | None  # a commit; None: not pinned
    sha256: dict[str, str]  # of files, by name

    @classmethod
    def of(cls, repo: str, file: Path = PINS) -> Pin:
        """Read the pin of a model; one without a commit if there is none."""
        entry = json.loads(file.read_text(encoding="utf-8")).get(repo, {})
        return cls(entry.get("revision"), entry.get("sha256", {}))


@dataclass(frozen=True)
class Downloaded:
    """Files of a model in the cache."""

    folder: Path
    revision: str
    sha256: dict[str, str]  # of every file, by name

    def __str__(self) -> str:
        digests = ", ".join(f"{name} sha256 {digest}" for name, digest in self.sha256.items())
        return f"revision {self.revision}, {digests}"

    def put_into(self, weights: Path, model: HubModel) -> None:
        """Link the files into a folder of published weights, or copy them where links can't be."""
        folder = weights / model.folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.sha256:
            (folder / name).unlink(missing_ok=True)
            try:
                (folder / name).symlink_to((self.folder / name).resolve())
            except OSError:  # Windows, without the right to make links
                shutil.copyfile(self.folder / name, folder / name)


@dataclass(frozen=True)
class Hub:
    """The model hub and its cache.

    Attributes:
        endpoint: by default HF_ENDPOINT, or the public hub.
        cache: by default what HF_HUB_CACHE or HF_HOME say.
    """

    print_line: Callable[[str], None]
    endpoint: str | None = None
    cache: Path | None = None

    def fetch(self, model: HubModel, pin: Pin, licence: str) -> Downloaded:
        """Download the files of a model that are not in the cache, and check all of them.

        Raises:
            DownloadError: the hub or a file can't be had, a file is damaged or not the pinned one,
                or there is no space for it.
        """
        with self._explained(model):
            revision, paths = pin.revision or BRANCH, {}
            for name in model.files:
                paths[name] = self._cached(model, name, revision)
                if paths[name] is None:
                    there = self._metadata(model, name, revision)
                    revision = there.commit_hash or revision  # one commit for all files
                    paths[name] = self._cached(model, name, revision)
                    paths[name] = paths[name] or self._download(model, name, there, pin, licence)
            found = self._checked({name: path for name, path in paths.items() if path}, pin)
            if pin.revision is None:  # so that it is found again where the hub must not be asked
                ref = self._storage(model) / "refs" / BRANCH
                ref.parent.mkdir(exist_ok=True)
                ref.write_text(found.revision)
            return found

    def _storage(self, model: HubModel) -> Path:
        """Folder of a model in the cache."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        cache = Path(self.cache or constants.HF_HUB_CACHE)
        return cache / repo_folder_name(repo_id=model.repo, repo_type="model")

    def _cached(self, model: HubModel, name: str, revision: str) -> Path | None:
        """A file in the cache; of a branch only where the hub must not be asked."""
        from huggingface_hub import constants, try_to_load_from_cache

        if revision == BRANCH and not constants.is_offline_mode():
            return None
        path = try_to_load_from_cache(model.repo, name, cache_dir=self.cache, revision=revision)
        return Path(path) if isinstance(path, str) else None

    def _metadata(self, model: HubModel, name: str, revision: str) -> HfFileMetadata:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        url = hf_hub_url(model.repo, name, revision=revision, endpoint=self.endpoint)
        found = get_hf_file_metadata(url, endpoint=self.endpoint)
        if found.commit_hash is None or found.etag is None or found.size is None:
            raise DownloadError(f"{url}: not a model hub: it tells no commit, digest or size")
        return found

    def _download(
        self, model: HubModel, name: str, found: HfFileMetadata, pin: Pin, licence: str
    ) -> Path:
        """Download a file, going on where an earlier attempt stopped, and add it to the cache."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        commit, etag, size = str(found.commit_hash), str(found.etag), found.size or 0
        storage = self._storage(model)
        blob, part = storage / "blobs" / etag, storage / "parts" / etag
        if not blob.exists():
            part.parent.mkdir(parents=True, exist_ok=True)
            there = part.stat().st_size if part.exists() else 0
            require_space(part.parent, size - there)
            self._announce(model, name, size, there, licence)
            with open(part, "ab" if there <= size else "wb") as file, quiet_unless_terminal():
                http_get(
                    found.location,
                    file,
                    resume_size=file.tell(),
                    headers=build_hf_headers(library_name="mfer-edge"),
                    expected_size=size,
                    displayed_filename=name,
                )
            if wrong := mismatch(part, pin.sha256.get(name), etag):
                part.unlink()
                raise DownloadError(f"{model.repo}: {name}: {wrong}; nothing of it was kept")
            blob.parent.mkdir(parents=True, exist_ok=True)
            part.replace(blob)
        path = hf_hub_download(
            model.repo, name, revision=commit, cache_dir=self.cache, endpoint=self.endpoint
        )
        return Path(path)

    def _announce(self, model: HubModel, name: str, size: int, there: int, licence: str) -> None:
        rest = f", {there / 1e6:.0f} MB of them are there" if there else ""
        self.print_line(f"downloading {model.repo}: {name}, {size / 1e6:.0f} MB{rest}")
        self.print_line(f"  licence of these weights: {licence}")

    def _checked(self, paths: dict[str, Path], pin: Pin) -> Downloaded:
        """Check the digests of files in the cache, whoever put them there."""
        for name, path in paths.items():
            if wrong := mismatch(path, pin.sha256.get(name), blob_name(path)):
                raise DownloadError(f"{path.resolve()}: {wrong}: delete it and try again")
        folder = next(iter(paths.values())).parent
        digests = {name: digest("sha256", path) for name, path in paths.items()}
        return Downloaded(folder, folder.name, digests)

    @contextmanager
    def _explained(self, model: HubModel) -> Iterator[None]:
        """Turn what the library raises into one line, with what to do by hand."""
        from huggingface_hub import constants, errors

        by_hand = (
            f"by hand: download {' and '.join(model.files)} of {model.repo} into "
            f"DIR/{model.folder}, then --weights DIR instead of --download"
        )
        hub = self.endpoint or constants.ENDPOINT
        try:
            yield
        except errors.OfflineModeIsEnabled as error:
            where = self.cache or constants.HF_HUB_CACHE
            raise DownloadError(
                f"{model.repo} is not in {where}, and HF_HUB_OFFLINE forbids to fetch it; {by_hand}"
            ) from error
        except errors.GatedRepoError as error:
            raise DownloadError(f"{hub}: {model.repo} wants a login; {by_hand}") from error
        except errors.RevisionNotFoundError as error:
            raise DownloadError(f"{hub}: {model.repo} has no such revision; {by_hand}") from error
        except errors.RepositoryNotFoundError as error:
            raise DownloadError(f"{hub}: there is no {model.repo}; {by_hand}") from error
        except errors.EntryNotFoundError as error:
            raise DownloadError(
                f"{hub}: {model.repo} lacks one of {', '.join(model.files)}; {by_hand}"
            ) from error
        except (OSError, errors.HTTPError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DownloadError(
                f"{hub}: {model.repo} could not be downloaded ({reason}); try again, it goes on "
                f"where it stopped; or {by_hand}"
            ) from error


def require_space(folder: Path, size: int) -> None:
    """Check that a file of this size fits on the disk of a folder.

    Raises:
        DownloadError: it doesn't.
    """
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        raise DownloadError(
            f"{folder}: {free / 1e6:.0f} MB are free, {(size + SPARE) / 1e6:.0f} MB are needed; "
            "HF_HOME names another place"
        )


def mismatch(path: Path, pinned: str | None, etag: str | None) -> str | None:
    """Say how a file differs from the pinned digest and from the hub's own; None if it doesn't.

    Args:
        etag: SHA-256 of a large file, or git's digest of a small one; None: unknown.
    """
    found = digest("sha256", path)
    if pinned is not None and found != pinned:
        return f"its sha256 is {found} instead of the pinned {pinned}"
    if etag is not None and re.fullmatch("[0-9a-f]{64}", etag) and found != etag:
        return f"damaged: its sha256 is {found} instead of {etag}"
    if etag is not None and re.fullmatch("[0-9a-f]{40}", etag):
        header = f"blob {path.stat().st_size}\0".encode()
        if (found := digest("sha1", path, header)) != etag:
            return f"damaged: git's digest of it is {found} instead of {etag}"
    return None


def blob_name(path: Path) -> str | None:
    """Name of the file that a link of the cache leads to: its digest; None if it is no link."""
    return path.readlink().name if path.is_symlink() else None


def digest(algorithm: str, path: Path, header: bytes = b"") -> str:
    """Digest of a file in hexadecimal."""
    value = hashlib.new(algorithm, header, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(CHUNK):
            value.update(block)
    return value.hexdigest()


@contextmanager
def quiet_unless_terminal() -> Iterator[None]:
    """Show the library's progress bars on a terminal only."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
