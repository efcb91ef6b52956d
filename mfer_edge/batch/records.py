"""Records of a batch: what became of a clip's content under given settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from mfer_edge import __version__
from mfer_edge.adapt import Adaptation
from mfer_edge.bundle import Bundle, file_sha256
from mfer_edge.errors import IsolationError, MediaError, MferError
from mfer_edge.isolation.worker import ClipJob
from mfer_edge.model import check_adaptation
from mfer_edge.options import SessionOptions
from mfer_edge.results import Analysis


@dataclass(frozen=True)
class Failure:
    """Why a clip has no analysis."""

    error: str  # type
    reason: str  # without the clip's path
    lost: bool  # with its worker, so that another try may go better

    @classmethod
    def of(cls, error: MferError, name: str) -> Failure:
        """Describe the failure of a clip."""
        reason = str(error).removeprefix(f"{name}: ")
        return cls(type(error).__name__, reason, isinstance(error, IsolationError))


@dataclass(frozen=True)
class ClipRecord:
    """What became of a clip: it has an analysis or a failure."""

    key: str  # of the content and the settings
    sha256: str  # of the file
    size: int  # bytes
    analysis: Analysis | None
    failure: Failure | None

    @property
    def final(self) -> bool:
        """Whether trying again would give the same."""
        return self.failure is None or not self.failure.lost

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class ClipTask:
    """A clip to analyse, and what its result is filed under."""

    key: str
    sha256: str
    size: int
    job: ClipJob

    def done(self, analysis: Analysis) -> ClipRecord:
        """The record of an analysis."""
        return ClipRecord(self.key, self.sha256, self.size, analysis, None)

    def failed(self, error: MferError) -> ClipRecord:
        """The record of a failure."""
        failure = Failure.of(error, self.job.name)
        return ClipRecord(self.key, self.sha256, self.size, None, failure)


class TaskMaker:
    """Tasks of clips under the settings of one batch.

    Args:
        adaptations: files of all adaptations that clips have.
        timeout_s: for each clip. It is not among what results are filed under.

    Raises:
        AdaptationError: an adaptation can't be read, or is another model's.
    """

    def __init__(
        self,
        bundle: Bundle,
        options: SessionOptions,
        adaptations: Iterable[Path] = (),
        *,
        timeout_s: float | None = None,
    ) -> None:
        self._bundle = bundle
        self._options = options
        self._timeout_s = timeout_s
        self._adaptations: dict[Path, str] = {}  # sha256
        for file in adaptations:
            check_adaptation(bundle, Adaptation.load(file))
            self._adaptations[file] = file_sha256(file)

    def task(self, path: Path, adaptation: Path | None) -> ClipTask:
        """Read a clip's content, as far as its hash.

        Raises:
            MediaError: it can't be read.
        """
        try:
            if path.is_dir():
                raise MediaError(f"{path}: a folder without clips")
            if path.exists() and not path.is_file():
                raise MediaError(f"{path}: a device or a pipe, not a file")
            sha256, size = file_sha256(path), path.stat().st_size
        except OSError as error:
            raise MediaError(f"{path}: {error.strerror or error}") from error
        job = ClipJob(path, self._options, adaptation, timeout_s=self._timeout_s)
        return ClipTask(f"{sha256[:32]}-{self._settings(adaptation)}", sha256, size, job)

    def _settings(self, adaptation: Path | None) -> str:
        settings = {
            "version": __version__,
            "bundle": self._bundle.sha256,
            "options": asdict(self._options),
            "adaptation": None if adaptation is None else self._adaptations[adaptation],
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
