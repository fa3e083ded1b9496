"""What a run is refused for at start-up: a file for each part of verl's configuration that concerns us."""
