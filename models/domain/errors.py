"""The error tree: a stable code, whether a retry can help, and a sentence that says what to do.

::

    SlidewireError
    ├── RequestError              what was asked cannot be done as asked
    │   ├── UnknownEncoder  ExtraMissing  WeightsInvalid  LicenceNotAccepted  PatchesUnsuited
    │   ├── SpacingTooFine  PatchOutsideSlide  SlideTooSmall  TissueFileInvalid
    │   └── SettingsInvalid  EndpointNotAllowed
    ├── SourceError               the slide itself
    │   ├── SeriesNotFound  NotASlide  SlideIncomplete  SourceUnreadable
    │   ├── SlideAmbiguous  SpacingContradictory  ColorUnavailable
    │   └── FrameMissing  FrameUndecodable  PixelsUnsupported
    ├── EndpointError             the server that holds it
    │   ├── EndpointUnreachable*  EndpointBusy*  EndpointFailed*  EndpointPaused*  ResponseInvalid
    │   └── AccessDenied  CredentialsMissing
    ├── ResultError               what was computed, and where it goes
    │   └── EmbeddingInvalid  OutputUnwritable  OutputUnavailable*  StoreRefused  StoreMismatch
    │                         ResultNotFound  ResultCorrupt
    ├── LedgerError               the queue of record
    │   └── LeaseLost  JobNotFound  LedgerUnavailable*  LedgerOutdated  WorkerLost
    └── DeviceLost*  DeviceMemory  Interrupted*  VersionUnknown*  JobCancelled  WorkFailed

Those marked * are worth another try. Messages carry no UID, token, patient name or query string: they
end up in logs, in the ledger and on screens.
"""

from typing import ClassVar, Self

from models.domain.codes import ErrorCode


class SlidewireError(Exception):
    """Base of every error Slidewire raises on purpose.

    Parameters
    ----------
    message : str
        What is wrong, where, and what to do about it; one line, free of identifying data.
    retry_after_s : float or None
        Seconds the other side asked us to wait, if it did.
    """

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s)
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class RequestError(SlidewireError):
    """The request contradicts itself or cannot be read."""

    code = ErrorCode.REQUEST_INVALID


class UnknownEncoder(RequestError):
    """No encoder is registered under that name."""

    code = ErrorCode.ENCODER_UNKNOWN


class ExtraMissing(RequestError):
    """An optional part of Slidewire is not installed."""

    code = ErrorCode.EXTRA_MISSING


class WeightsInvalid(RequestError):
    """The weights are missing, unreadable, or not those that the encoder declares."""

    code = ErrorCode.WEIGHTS_INVALID


class LicenceNotAccepted(RequestError):
    """Nobody here has said that they accept the licence of the model's weights."""

    code = ErrorCode.LICENCE_NOT_ACCEPTED


class PatchesUnsuited(RequestError):
    """The encoder is meant for patches of another size or spacing."""

    code = ErrorCode.PATCHES_UNSUITED


class SpacingTooFine(RequestError):
    """The slide has no level as fine as the spacing asked for."""

    code = ErrorCode.SPACING_TOO_FINE


class PatchOutsideSlide(RequestError):
    """A patch reaches over the edge of the slide."""

    code = ErrorCode.PATCH_OUTSIDE_SLIDE


class SlideTooSmall(RequestError):
    """Not one patch fits into the slide at this spacing."""

    code = ErrorCode.SLIDE_TOO_SMALL


class TissueFileInvalid(RequestError):
    """A mask or regions that cannot be read, or do not belong to the slide."""

    code = ErrorCode.TISSUE_FILE_INVALID


class SettingsInvalid(RequestError):
    """A setting has a value that cannot be used."""

    code = ErrorCode.SETTINGS_INVALID


class EndpointNotAllowed(RequestError):
    """The URL is on no allow-list and belongs to no configured endpoint."""

    code = ErrorCode.ENDPOINT_NOT_ALLOWED


class SourceError(SlidewireError):
    """The slide cannot be used."""

    code = ErrorCode.SOURCE_INVALID


class SeriesNotFound(SourceError):
    """The server knows no such series, or it is empty."""

    code = ErrorCode.SERIES_NOT_FOUND


class NotASlide(SourceError):
    """The series or file holds no whole-slide image."""

    code = ErrorCode.NOT_A_SLIDE


class SlideIncomplete(SourceError):
    """A level lacks frames or a part of its concatenation."""

    code = ErrorCode.SLIDE_INCOMPLETE


class SlideAmbiguous(SourceError):
    """The slide holds several optical paths or focal planes, and none was chosen."""

    code = ErrorCode.SLIDE_AMBIGUOUS


class SpacingContradictory(SourceError):
    """The slide says two different things about its pixel spacing."""

    code = ErrorCode.SPACING_CONTRADICTORY


class ColorUnavailable(SourceError):
    """The slide's ICC profile is missing or broken, and the request insists on it."""

    code = ErrorCode.COLOR_UNAVAILABLE


class SourceUnreadable(SourceError):
    """A local file or an object in a bucket is missing, forbidden or damaged."""

    code = ErrorCode.SOURCE_UNREADABLE


class FrameMissing(SourceError):
    """The server did not give a frame that its metadata promise."""

    code = ErrorCode.FRAME_MISSING


class FrameUndecodable(SourceError):
    """The bytes of a frame do not decode to the pixels its metadata promise."""

    code = ErrorCode.FRAME_UNDECODABLE


class PixelsUnsupported(SourceError):
    """The pixels are of a kind Slidewire does not embed (16 bit, greyscale, an unknown compression)."""

    code = ErrorCode.PIXELS_UNSUPPORTED


class EndpointError(SlidewireError):
    """The server misbehaves."""

    code = ErrorCode.ENDPOINT_INVALID


class EndpointUnreachable(EndpointError):
    """No connection, or it broke, or it took too long."""

    code = ErrorCode.ENDPOINT_UNREACHABLE
    retryable = True


class EndpointBusy(EndpointError):
    """408, 425, 429 or 503: later."""

    code = ErrorCode.ENDPOINT_BUSY
    retryable = True


class EndpointFailed(EndpointError):
    """Another 5xx."""

    code = ErrorCode.ENDPOINT_FAILED
    retryable = True


class EndpointPaused(EndpointError):
    """Nothing is sent to the server for a while: it failed too often, or denied access; nothing is held against it."""

    code = ErrorCode.ENDPOINT_PAUSED
    retryable = True


class AccessDenied(EndpointError):
    """401 or 403."""

    code = ErrorCode.ACCESS_DENIED


class CredentialsMissing(AccessDenied):
    """There are none on this machine; the server was not asked, and other workers may have some."""

    code = ErrorCode.CREDENTIALS_MISSING


class ResponseInvalid(EndpointError):
    """The answer is not what the standard says: HTML, broken JSON, a torn multipart body."""

    code = ErrorCode.RESPONSE_INVALID


class ResultError(SlidewireError):
    """The result cannot be used."""

    code = ErrorCode.RESULT_INVALID


class EmbeddingInvalid(ResultError):
    """The encoder gave NaN, infinity, or an array of another shape."""

    code = ErrorCode.EMBEDDING_INVALID


class OutputUnwritable(ResultError):
    """The folder or bucket does not take the output."""

    code = ErrorCode.OUTPUT_UNWRITABLE


class OutputUnavailable(OutputUnwritable):
    """It does not take the output now: it is full, fails, does not answer, or gave back something else."""

    code = ErrorCode.OUTPUT_UNAVAILABLE
    retryable = True


class StoreRefused(ResultError):
    """The PACS refused an object."""

    code = ErrorCode.STORE_REFUSED


class StoreMismatch(ResultError):
    """The PACS holds other values under the same UID; nothing is overwritten."""

    code = ErrorCode.STORE_MISMATCH


class ResultNotFound(ResultError):
    """No embeddings there."""

    code = ErrorCode.RESULT_NOT_FOUND


class ResultCorrupt(ResultError):
    """What was read back does not have the recorded length or digest."""

    code = ErrorCode.RESULT_CORRUPT


class DeviceLost(SlidewireError):
    """What the encoder runs on failed in a way that only a new process recovers from; this one ends."""

    code = ErrorCode.DEVICE_LOST
    retryable = True


class DeviceMemory(SlidewireError):
    """Not even the smallest part of a batch fits into the device's memory."""

    code = ErrorCode.DEVICE_MEMORY


class LedgerError(SlidewireError):
    """The queue of record objects."""

    code = ErrorCode.LEDGER_INVALID


class LeaseLost(LedgerError):
    """Another worker owns the shard now: drop the work, publish nothing."""

    code = ErrorCode.LEASE_LOST


class JobNotFound(LedgerError):
    """No job has that id."""

    code = ErrorCode.JOB_NOT_FOUND


class LedgerUnavailable(LedgerError):
    """The database does not answer."""

    code = ErrorCode.LEDGER_UNAVAILABLE
    retryable = True


class LedgerOutdated(LedgerError):
    """An older Slidewire wrote the database, and nobody has migrated it."""

    code = ErrorCode.LEDGER_OUTDATED


class Interrupted(SlidewireError):
    """The worker was asked to stop; the shard goes back without using an attempt."""

    code = ErrorCode.INTERRUPTED
    retryable = True


class VersionUnknown(SlidewireError):
    """A newer Slidewire submitted the job: this one gives it back, for a newer one to do."""

    code = ErrorCode.VERSION_UNKNOWN
    retryable = True


class WorkerLost(LedgerError):
    """Workers died on this shard too often; it is quarantined."""

    code = ErrorCode.WORKER_LOST


class WorkFailed(SlidewireError):
    """An error known by its code only: a job's, read from the ledger, or one that nobody will try again."""

    def __init__(self, message: str, retry_after_s: float | None = None, code: str = ErrorCode.INTERNAL) -> None:
        super().__init__(message, retry_after_s)
        self.args = (message, retry_after_s, code)
        known = code in set(ErrorCode)  # a ledger may hold a code of a newer version
        self.code = ErrorCode(code) if known else ErrorCode.INTERNAL  # type: ignore[misc]  # the one class whose code is its instance's

    @classmethod
    def of(cls, error: SlidewireError) -> Self:
        """Return the same error as one that is final."""
        return cls(error.message, None, error.code)


class JobCancelled(SlidewireError):
    """Somebody cancelled the job."""

    code = ErrorCode.CANCELLED
