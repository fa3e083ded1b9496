"""OpenRLHF: the launcher, and the subclasses with which it replaces stock classes."""
