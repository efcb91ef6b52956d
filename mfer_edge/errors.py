"""Errors that a user of mfer-edge can meet, each with a one-line message for that user."""


class MferError(Exception):
    """Base class: a failure whose cause is outside the code."""


class MediaError(MferError):
    """A clip that can't be read: missing, without video and audio, or damaged."""


class BundleError(MferError):
    """A bundle that is incomplete, altered, or made for another version."""


class AdaptationError(MferError):
    """An adaptation that can't be made, read, or used with this model."""


class EngineError(MferError):
    """An engine that can't be loaded, or run on this machine as asked."""


class OutputError(MferError):
    """A result that can't be written where, or in the format, it was asked for."""


class BatchError(MferError):
    """A list of clips that can't be read, or a folder that holds no batch or a running one."""


class IsolationError(MferError):
    """A clip lost with the worker process that analysed it, or a worker that does not start."""


class CrashError(IsolationError):
    """A worker that crashed or was killed while it analysed a clip."""


class HangError(IsolationError):
    """A clip that took longer than it may."""


class MemoryLimitError(IsolationError):
    """A clip that needed more memory than it may."""


class AnnotationError(MferError):
    """Labels by people that can't be read, or don't fit the model or the clip."""
