"""The engines and clients of the core's tests."""

from __future__ import annotations

from tests.core.conftest import attach, workspace

__all__ = ["attach", "workspace"]
