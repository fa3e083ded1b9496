"""A task that a model half knows: it multiplies digit by digit, and one slip spoils the answer."""
