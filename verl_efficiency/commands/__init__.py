"""The commands of ``verl-efficiency``: their options, and what they print. Each imports its work only when it runs."""
