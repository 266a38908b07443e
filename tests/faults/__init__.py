"""The fault suite, `make faults`: kills, interrupts, full disks, two writers and hostile files.

Bounded (some twenty minutes on two cores); CI runs three minutes of it. It ends with a table
by kind and the line `faults: N kills, N inputs, N ranks, lost 0`, and with status 0 only if nothing
was lost: no saved checkpoint, no bit of a result, no error message.
"""
