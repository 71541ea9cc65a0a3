"""`python -m workflow_tui` is `workflow-tui`."""

from __future__ import annotations

import sys

from workflow_tui.cli import main

if __name__ == "__main__":
    sys.exit(main())
