"""Bundles: an exported model on disk, a manifest beside its engine files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mfer_edge.errors import BundleError
from mfer_edge.manifest import (
    CARD,
    MANIFEST,
    EngineFile,
    Manifest,
    Plan,
    format_manifest,
    parse_manifest,
)

MAX_MANIFEST_BYTES = 1 << 20
MAX_GRAPH_BYTES = (1 << 31) - 1  # ONNX is protobuf, which holds no more in one file
MAX_PLAN_BYTES = 1 << 33
COMPACT = Path(__file__).parent / "models" / "compact"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle; its files have been checked against the manifest."""

    folder: Path
    manifest: Manifest
    sha256: str  # of the manifest

    @classmethod
    def open(cls, folder: Path | str | None = None) -> Bundle:
        """Open and verify a bundle; without a folder, the compact one in the package.

        Raises:
            BundleError: the bundle is missing, incomplete, altered, or of another schema.
        """
        folder = COMPACT if folder is None else Path(folder)
        path = folder / MANIFEST
        try:
            if not folder.exists():
                raise BundleError(f"{folder}: no such folder")
            if not path.is_file():
                raise BundleError(f"{folder}: not a bundle (it has no {MANIFEST})")
            if path.stat().st_size > MAX_MANIFEST_BYTES:
                raise BundleError(f"{path}: too large for a manifest")
            text = path.read_bytes()
            try:
                manifest = parse_manifest(text)
            except ValueError as error:
                raise BundleError(f"{path}: not a valid manifest: {error}") from error
            for file in manifest.files:
                _verify(folder, file)
        except OSError as error:
            raise BundleError(f"{error.filename}: {error.strerror}") from error
        return cls(folder, manifest, hashlib.sha256(text).hexdigest())

    def engine_path(self, name: str) -> Path:
        """Path of an engine's ONNX file."""
        return self.folder / self.manifest.engines[name].file


def save_bundle(
    folder: Path, manifest: Manifest, files: Mapping[str, Path], card: str = ""
) -> Bundle:
    """Write a bundle to a temporary folder, verify it, and rename that to its destination.

    Args:
        folder: destination; a bundle there is replaced, anything else is an error.
        manifest: complete, with the name, size and sha256 of each file.
        files: paths to copy from, by file name within the bundle.
        card: the model card, in Markdown.

    Raises:
        BundleError: `folder` holds something else, can't be written, or a file does not match the
            manifest.
    """
    import shutil

    from mfer_edge.outputs.temporary import temporary_folder

    try:
        check_destination(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder.parent) as fresh:
            for file in manifest.files:
                shutil.copyfile(files[file.file], fresh / file.file)
            # Without Windows' line ends: the same manifest has the same digest everywhere.
            (fresh / MANIFEST).write_bytes(format_manifest(manifest).encode())
            if card:
                (fresh / CARD).write_text(card, encoding="utf-8")
            Bundle.open(fresh)
            fresh.chmod(0o755)
            _replace_folder(fresh, folder)
    except OSError as error:
        raise BundleError(f"{folder}: can't be written ({error})") from error
    return Bundle.open(folder)


def check_destination(folder: Path) -> None:
    """Check that a bundle can be saved to a folder, before the work of exporting one.

    Raises:
        BundleError: the folder holds something else, or can't be created or written to.
    """
    try:
        if folder.exists() and not _may_be_replaced(folder):
            raise BundleError(f"{folder}: exists and is not only a bundle; choose another folder")
        above = next(above for above in folder.absolute().parents if above.exists())
    except OSError as error:
        raise BundleError(f"{folder}: can't be written ({error.strerror})") from error
    if not above.is_dir():
        raise BundleError(f"{folder}: can't be written: {above} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise BundleError(f"{folder}: no permission to write to the folder {above}")


def _may_be_replaced(folder: Path) -> bool:
    """Whether a folder is empty or holds only a bundle, intact or damaged."""
    try:
        found = {path.name for path in folder.iterdir()}
        if not found:
            return True
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files = [*manifest["engines"].values(), *manifest.get("plans", {}).values()]
        return found <= {MANIFEST, CARD, *(file["file"] for file in files)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def _replace_folder(fresh: Path, folder: Path) -> None:
    """Rename a folder to the path of another, in one step where the system can."""
    from mfer_edge.outputs.temporary import exchange, temporary_folder

    if not folder.exists():
        os.rename(fresh, folder)
        return
    if exchange(fresh, folder):  # the caller deletes the old one
        return
    with temporary_folder(folder.parent) as old:
        os.rename(folder, old / "old")
        try:
            os.rename(fresh, folder)
        except OSError:
            os.rename(old / "old", folder)
            raise


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _verify(folder: Path, file: EngineFile | Plan) -> None:
    """Check a file's name, presence, size and hash."""
    path = folder / file.file
    if Path(file.file).name != file.file:
        raise BundleError(f"{folder}: the manifest names a file outside the bundle: {file.file}")
    if not path.is_file():
        raise BundleError(f"{path}: missing from the bundle")
    if file.bytes > (MAX_GRAPH_BYTES if isinstance(file, EngineFile) else MAX_PLAN_BYTES):
        raise BundleError(f"{path}: {file.bytes / 1e9:.1f} GB is too large for an engine")
    if path.stat().st_size != file.bytes or file_sha256(path) != file.sha256:
        raise BundleError(f"{path}: altered or damaged (its sha256 is not the manifest's)")
