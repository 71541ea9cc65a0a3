"""The six workflow steps, one plain module each: specs in, records out."""
