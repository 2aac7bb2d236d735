"""Faults: failing disks, memory and users, and long use. See ``__main__``."""
