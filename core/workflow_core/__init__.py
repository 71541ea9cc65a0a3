"""The headless half of workflow-tui: specs, the six workflow steps, and the engine that runs them."""

__version__ = "0.1.0"
