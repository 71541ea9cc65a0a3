"""The edge to a real terminal: what it may send, what it is sent, and that it is given back whatever happens."""
