"""The questions: a table of arms each, and where needed a module that draws the answer."""
