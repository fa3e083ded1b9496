"""A task in which short answers are often wrong: notes cost tokens, and hard sums go wrong without them."""
