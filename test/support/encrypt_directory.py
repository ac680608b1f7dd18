"""Makes a directory of a mounted file system encrypted.

    encrypt_directory.py MOUNT DIRECTORY PADDING

Adds a fixed key to the file system and sets a policy of version 2 (AES-256-XTS, AES-256-CTS) on the
empty directory, through the fscrypt ioctls. PADDING is that of names: 4, 8, 16 or 32 bytes.
"""
import fcntl
import os
import struct
import sys

FS_IOC_ADD_ENCRYPTION_KEY = 0xC0506617
FS_IOC_SET_ENCRYPTION_POLICY = 0x800C6613
KEY_SPEC_TYPE_IDENTIFIER = 2
POLICY_V2 = 2
AES_256_XTS, AES_256_CTS = 1, 4
PADDING_FLAGS = {4: 0, 8: 1, 16: 2, 32: 3}


def main(mount: str, directory: str, padding: int) -> None:
    key = bytes(range(64))
    # struct fscrypt_add_key_arg: specifier (type, reserved, 32 bytes), raw_size, key_id, flags.
    head = struct.pack("<II32sIII7I", KEY_SPEC_TYPE_IDENTIFIER, 0, b"", len(key), 0, 0, *[0] * 7)
    argument = bytearray(head + key)
    descriptor = os.open(mount, os.O_RDONLY)
    fcntl.ioctl(descriptor, FS_IOC_ADD_ENCRYPTION_KEY, argument)
    os.close(descriptor)
    identifier = bytes(argument[8:24])
    modes = (AES_256_XTS, AES_256_CTS, PADDING_FLAGS[padding])
    policy = struct.pack("<BBBBB3s16s", POLICY_V2, *modes, 0, b"", identifier)
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.ioctl(descriptor, FS_IOC_SET_ENCRYPTION_POLICY, policy)
    os.close(descriptor)


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
