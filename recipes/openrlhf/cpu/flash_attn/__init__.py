"""In the place of flash-attn, which cannot be built without a GPU and which OpenRLHF imports (models/ring_attn_utils.py:3)."""

__version__ = "0.0.0"
