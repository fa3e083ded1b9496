"""Adapter for stock veRL: everything enters through its registries, configuration keys and subclasses."""
