"""Fixtures of the page tests."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext


@pytest.fixture
def count_queries():
    """Return a function that calls another and gives the number of its queries."""

    def count(action):
        with CaptureQueriesContext(connection) as captured:
            action()
        return len(captured)

    return count
