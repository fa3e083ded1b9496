"""Methods: plain functions on plain tensors (who scored what, how long, in which group). No framework is known here."""
