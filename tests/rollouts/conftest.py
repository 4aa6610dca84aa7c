"""The cast of people, for the tests of pages."""

from tests.cast import cast, page_as

__all__ = ["cast", "page_as"]
