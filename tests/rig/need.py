"""Skipping by name, and not skipping where nothing may be missing."""

import os

import pytest

from . import Missing


def need(make):
    """Calls `make`. What the machine lacks skips the test by name; under CI=true, where `make setup` ran, it fails."""
    try:
        return make()
    except Missing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"missing under CI=true: {missing}", pytrace=False)
        pytest.skip(f"missing: {missing}")
