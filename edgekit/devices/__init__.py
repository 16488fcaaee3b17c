"""Devices that are not this machine: their kinds, how each is reached, and doing there what is done here.

    edgekit profile emotion.edge --device ssh://pi@raspberrypi

A kind is a module that says how a shell command is run on such a device (`access.Access`), and a line in
`edgekit.registry`. All else is common: `boot` and `agent` run there, `parcel` says what is copied, `channel` carries
it, `remote` puts it together. A device needs Python, numpy and an engine, and nothing of edgekit.
"""
