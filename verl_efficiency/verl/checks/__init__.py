"""Start-up checks, one file per section of verl's config."""
