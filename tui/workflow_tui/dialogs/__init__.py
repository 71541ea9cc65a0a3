"""The dialogs of the terminal app."""
