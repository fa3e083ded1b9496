"""The task on which every method reaches the shortest answers, since its checks are pure waste."""
