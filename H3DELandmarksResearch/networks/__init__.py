"""Networks that ours are compared with."""
