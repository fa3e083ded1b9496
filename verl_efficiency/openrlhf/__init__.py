"""OpenRLHF: the launcher, and the classes that it puts in the place of the stock ones."""
