"""What libraries of C++ write to standard error while they are imported, kept from the user's screen."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_STDERR: Final = 2
# absl's lines and the one about itself; TensorFlow's older form.
_NOISE: Final = re.compile(rb"[IWE]\d{4} |WARNING: All log messages before absl|\d{4}-\d\d-\d\d [\d:.]+: [IWE] ")


@contextmanager
def without_import_noise() -> Iterator[None]:
    """Hold back what is written to standard error in a block, by anybody; then say it, but for the log of libraries.

    TensorFlow remarks on the processor before any setting of its log is read; a command of ours says one line or none.
    """
    with tempfile.TemporaryFile() as said:
        kept = os.dup(_STDERR)
        os.dup2(said.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            said.seek(0)
            os.write(_STDERR, b"".join(line for line in said if not _NOISE.match(line)))
