"""The terminal half of workflow-tui: screens and widgets on top of the engine's protocol, free of torch."""
