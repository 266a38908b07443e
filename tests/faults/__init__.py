"""The fault suite, `make faults`: what kills, full disks and broken files do to a run.

Bounded (about a quarter of an hour on two cores), and not part of `make test`. It ends with the
line `faults: N kills, N inputs, N ranks, lost 0`, and with status 0 only if nothing was lost: no
saved checkpoint, no bit of the final weights, no error message.
"""
