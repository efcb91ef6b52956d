"""The errors that a person using mfer-edge can meet, each with a message for that person."""


class MferError(Exception):
    """Anything that stops the work for a reason outside the code."""


class MediaError(MferError):
    """A clip that can't be read: missing, not a video or sound, or damaged."""


class BundleError(MferError):
    """A bundle that is incomplete, altered, or made for another version."""


class EngineError(MferError):
    """A network that can't be loaded or run on this machine as asked."""


class OutputError(MferError):
    """A result that can't be written where, or as, it was asked for."""
