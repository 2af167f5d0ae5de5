"""The body of a STOW-RS request (PS3.18 10.5.1): one DICOM file in multipart/related, sent by pieces."""

from collections.abc import Callable, Iterable, Iterator


class Upload:
    """A body of known length that is made anew each time it is sent, so that a second try sends it whole.

    Parameters
    ----------
    chunks : callable
        Returns the file's bytes in pieces; the same each time.
    size : int
        Of the file, in bytes.
    sha256 : str
        Of the file; what the boundary is made of, so that it is not in the file, and the same for the same file.
    """

    def __init__(self, chunks: Callable[[], Iterable[bytes]], size: int, sha256: str) -> None:
        boundary = f"slidewire-{sha256[:32]}"
        self.content_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
        self._head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._chunks = chunks
        self._length = len(self._head) + size + len(self._tail)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        yield from self._chunks()
        yield self._tail
