"""Every method on the same work: the table of runs, their launch, and what is made of the results."""
