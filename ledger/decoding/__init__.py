"""Strangers' files are opened in a process of its own, under limits of the kernel (decision 0013)."""
