"""The task whose checks are pure waste, so that every good method reaches the shortest answers."""
