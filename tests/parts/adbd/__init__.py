"""An Android phone without a phone: the device's side of adb, behind it a chroot with Android's layout.

`phone.py` starts one, `fixture.py` offers it to tests; the rest is the process `python -m tests.parts.adbd`.
It shows neither SELinux nor bionic, RSA keys, TLS pairing, USB, and no phone's scheduler, speed or heat.
"""
