"""TensorFlow without its notes."""

import os
import tempfile


def quiet_import():
    """Imports TensorFlow without the notes on its build, which no setting of it can turn off."""
    with tempfile.TemporaryFile() as notes:
        stderr = os.dup(2)
        os.dup2(notes.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
