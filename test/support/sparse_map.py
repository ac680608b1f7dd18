"""Prints where the kernel sees data, holes and extents of files, one JSON object a line.

Each object has the path, "data" as [start, end) by SEEK_DATA and SEEK_HOLE, and "extents" by FIEMAP as
[logical, physical, length, flags] in bytes.
"""
import fcntl
import json
import os
import struct
import sys

FS_IOC_FIEMAP = 0xC020660B
EXTENTS = 500


def data_of(fd, size):
    ranges, at = [], 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        ranges.append([start, at])
    return ranges


def extents_of(fd):
    header = struct.pack("=QQLLLL", 0, 2**64 - 1, 0, 0, EXTENTS, 0)
    buffer = bytearray(header + bytes(56 * EXTENTS))
    fcntl.ioctl(fd, FS_IOC_FIEMAP, buffer)
    count = struct.unpack_from("=L", buffer, 20)[0]
    rows = []
    for index in range(count):
        logical, physical, length, _, _, flags = struct.unpack_from("=QQQQQL", buffer, 32 + 56 * index)
        rows.append([logical, physical, length, flags])
    return rows


for path in sys.argv[1:]:
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    print(json.dumps({"path": path, "data": data_of(fd, size), "extents": extents_of(fd)}))
    os.close(fd)
