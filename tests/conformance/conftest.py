"""The labs of the end-to-end tests: embedded always, real nodes where they are on PATH."""

from tests.e2e.conftest import lab, lab_directory, lab_kind

__all__ = ["lab", "lab_directory", "lab_kind"]
