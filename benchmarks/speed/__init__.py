"""How fast the software is: `make bench` measures it against the published code, its peers and what the machine allows.

`sections` lists what is measured, each in a process of its own (`worker`); `report` writes the tables of SPEED.md.
"""
