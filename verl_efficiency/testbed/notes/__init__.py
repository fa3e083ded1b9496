"""The task on which care pays: notes cost tokens, and without them hard sums go wrong."""
