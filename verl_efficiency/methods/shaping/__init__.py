"""Length-aware rewards: each published way to ask for fewer tokens in a file of its own."""
