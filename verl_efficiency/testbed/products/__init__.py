"""A task in which one wrong token spoils the answer, and every token is needed: products, digit by digit."""
