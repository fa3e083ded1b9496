"""What the adapters of all frameworks share. Nothing in this package imports verl, Ray or OpenRLHF."""
