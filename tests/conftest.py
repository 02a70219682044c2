"""For all tests: where a support module asserts, pytest explains it as in a test."""

import pytest

pytest.register_assert_rewrite("tests.support")
