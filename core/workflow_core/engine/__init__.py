"""The process edge: the engine that owns torch, its socket server and its session."""
