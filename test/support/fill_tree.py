#!/usr/bin/env python3
"""Fills a mounted tree with files of every kind through ordinary system calls.

    fill_tree.py ROOT PART...

Each PART is a function below and makes one directory of that name. What it makes depends on its arguments and
on the block size of the file system alone (apart from the times that the kernel sets), so that a failure can be
repeated. An error of a system call ends it: a part that a file system cannot hold is not to be asked for.
"""
import errno
import fcntl
import os
import random
import stat
import struct
import sys

FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_COLLAPSE = 0x1, 0x2, 0x8
FALLOC_ZERO_RANGE, FALLOC_INSERT = 0x10, 0x20
EXTENTS_FL = 0x80000
KIB = 1024
MIB = 1024 * KIB
NS = 1_000_000_000


def noise(seed, length):
    return random.Random(seed).randbytes(length)


def put(path, content=b"", mode=0o644):
    fd = os.open(path, os.O_RDWR | os.O_CREAT, mode)
    at = 0
    while at < len(content):
        at += os.write(fd, content[at:])
    os.close(fd)
    return path


def block_size(root):
    return os.statvfs(root).f_bsize


def flags_of(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return struct.unpack("<I", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8))[:4])[0]
    finally:
        os.close(fd)


def add_flags(path, flags):
    fd = os.open(path, os.O_RDONLY)
    old = struct.unpack("<I", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8))[:4])[0]
    fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("<II", old | flags, 0))
    os.close(fd)


def sizes(root):
    bs = block_size(root)
    around = [0, 60, 128, 156, 160, bs, 2 * bs, 4096, 12 * bs, 13 * bs, 40 * bs]
    for size in sorted({s + d for s in around for d in (-1, 0, 1) if s + d >= 0}):
        put(root + b"/%d" % size, noise(size, size))
    put(root + b"/large", noise(7, MIB + 17))
    # Far behind the double indirect blocks of a small block size; its end is a block's end.
    fd = os.open(root + b"/ends-at-a-block", os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(fd, noise(1, bs), 299 * bs)
    os.close(fd)


def names(root):
    put(root + b"/" + b"n" * 255, b"the longest name")
    put(root + b"/" + "ü".encode() * 127, b"127 letters, 254 bytes")
    os.mkdir(root + b"/not\xff\xfeutf8\x80")
    put(root + b"/not\xff\xfeutf8\x80/\xc3\x28", b"inside")
    os.symlink(b"to\xff", root + b"/link\xfe")
    for name in [b" ", b"\n", b"\x01\x7f", b"...", b".hidden", b"a", b"a-b", b"a.b", b"b" * 8, b"\\", b'"', b"\xf0\x9f\x98\x80"]:
        put(root + b"/" + name, name)
    os.mkdir(root + b"/a!")
    put(root + b"/a!/x")
    os.mkdir(root + b"/empty")
    deep = root + b"/deep"
    for level in range(60):
        os.mkdir(deep)
        deep += b"/%d" % level
    put(deep, b"down here")


def links(root):
    bs = block_size(root)
    one = put(root + b"/one", b"three names")
    os.link(one, root + b"/two")
    os.mkdir(root + b"/sub")
    os.link(one, root + b"/sub/three")
    for length in [1, 58, 59, 60, 61, 62, 255, 256, 1000, min(bs, 4096) - 2, min(bs, 4096) - 1]:
        os.symlink(noise(length, length).hex().encode()[:length], root + b"/link-%d" % length)
    os.link(root + b"/link-60", root + b"/link-60-again", follow_symlinks=False)
    os.setxattr(root + b"/link-59", b"trusted.on-a-link", b"fast", follow_symlinks=False)
    os.setxattr(root + b"/link-60", b"trusted.on-a-link", b"slow" * 40, follow_symlinks=False)
    os.setxattr(root + b"/link-1", b"security.label", b"l" * 300, follow_symlinks=False)


def specials(root):
    for major, minor in [(1, 3), (0, 0), (0, 1), (255, 255), (256, 0), (255, 256), (259, 300), (4095, 1048575)]:
        for kind, letter in [(stat.S_IFCHR, "c"), (stat.S_IFBLK, "b")]:
            os.mknod(root + f"/{letter}-{major}-{minor}".encode(), kind | 0o640, os.makedev(major, minor))
    os.mkfifo(root + b"/fifo", 0o622)
    os.mknod(root + b"/socket", stat.S_IFSOCK | 0o755)
    os.setxattr(root + b"/fifo", b"trusted.pipe", b"p")
    os.utime(root + b"/c-1-3", ns=(5, 7 * NS + 9))


def owners(root):
    for uid, gid, mode in [
        (0, 0, 0), (1000, 100, 0o7777), (65534, 65534, 0o1644), (65535, 65536, 0o2755), (0xFFFFFFFE, 70000, 0o4711),
        (0x12345678, 0x7FFFFFFF, 0o444),
    ]:
        path = put(root + b"/%d-%d" % (uid, gid), b"x")
        os.chown(path, uid, gid)
        os.chmod(path, mode)
    os.mkdir(root + b"/sticky")
    os.chmod(root + b"/sticky", 0o3777)
    put(root + b"/sticky/inherits-the-group")


def times(root):
    seconds = [
        0, 1, -1, -2**31, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**33, 2**33 + 2**31 - 1, 2**34 - 2**31 - 1,
        2**34 - 2**31, 2**34 + 2**30, 15032385535, -2**31 - 5,
    ]
    for at, second in enumerate(seconds):
        path = put(root + b"/%d" % second)
        os.utime(path, ns=(second * NS + 999_999_999 - at, second * NS + at))
    os.mkdir(root + b"/dir")
    os.utime(root + b"/dir", ns=(123, -456))
    os.symlink(b"x", root + b"/link")
    os.utime(root + b"/link", ns=(-NS + 1, 2**33 * NS + 5), follow_symlinks=False)


def holes(root):
    """Sparse files, and what fallocate makes where files have extents."""
    bs = block_size(root)
    per = bs // 4
    fd = os.open(root + b"/scattered", os.O_RDWR | os.O_CREAT, 0o600)
    far = [12, 12 + per, 12 + per + per * per] if per < 1024 else [12, 12 + per]
    for block in [0, 2, 3, 11, 20, 25] + far + [b - 1 for b in far] + [b + 5 for b in far]:
        os.pwrite(fd, noise(block, bs // 2 + block % 100), block * bs + block % 50)
    os.close(fd)
    fd = os.open(root + b"/only-a-hole", os.O_RDWR | os.O_CREAT, 0o600)
    os.truncate(fd, 1234567)
    os.close(fd)
    fd = os.open(put(root + b"/cut", noise(3, 30 * bs)), os.O_RDWR)
    os.truncate(fd, 17 * bs + 5)
    os.truncate(fd, 29 * bs + 7)
    os.close(fd)
    punched = put(root + b"/punched", noise(4, 50 * bs))
    for at, length in [(0, 1), (3 * bs + 5, 4 * bs), (12 * bs, bs), (30 * bs, 2 * bs - 1), (49 * bs, 9 * bs)]:
        fallocate(punched, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, at, length)
    if flags_of(punched) & EXTENTS_FL:
        unwritten(root, bs)


def unwritten(root, bs):
    fallocate(put(root + b"/allocated"), 0, 0, 100 * bs + 3)
    fallocate(put(root + b"/behind-the-end", b"short"), FALLOC_KEEP_SIZE, 0, 64 * bs)
    zeroed = put(root + b"/zeroed", noise(5, 40 * bs))
    fallocate(zeroed, FALLOC_ZERO_RANGE, 5 * bs + 1, 10 * bs)
    fallocate(zeroed, FALLOC_ZERO_RANGE, 35 * bs, 20 * bs)
    kept = put(root + b"/zeroed-kept", noise(5, 10 * bs + 9))
    fallocate(kept, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE, 8 * bs, 20 * bs)
    partly = put(root + b"/partly-written")
    fallocate(partly, 0, 0, 200 * bs)
    fd = os.open(partly, os.O_RDWR)
    for block in [0, 7, 8, 50, 51, 52, 199]:
        os.pwrite(fd, noise(block, bs), block * bs)
    os.close(fd)
    try:
        moved = put(root + b"/collapsed", noise(6, 64 * bs))
        os.sync()
        fallocate(moved, FALLOC_COLLAPSE, 16 * bs, 16 * bs)
        moved = put(root + b"/inserted", noise(6, 64 * bs))
        os.sync()
        fallocate(moved, FALLOC_INSERT, 16 * bs, 16 * bs)
    except OSError as error:
        # Clusters of bigalloc that are longer than these ranges.
        if error.errno != errno.EINVAL:
            raise


def fallocate(path, mode, at, length):
    """`fallocate(2)`, which the os module offers without its mode."""
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDWR)
    arguments = [ctypes.c_int(fd), ctypes.c_int(mode), ctypes.c_int64(at), ctypes.c_int64(length)]
    result = libc.fallocate(*arguments)
    os.close(fd)
    if result != 0:
        raise OSError(ctypes.get_errno(), f"fallocate mode {mode}", path)


def flags(root):
    # Not journal-data (0x4000), for which a container's root may lack CAP_SYS_RESOURCE.
    for name, bits in [
        ("secrm", 0x1), ("unrm", 0x2), ("sync", 0x8), ("immutable", 0x10), ("append", 0x20), ("nodump", 0x40),
        ("noatime", 0x80), ("several", 0x10 | 0x40 | 0x80), ("notail", 0x8000),
    ]:
        add_flags(put(root + b"/" + name.encode(), name.encode()), bits)
    for name, bits in [("dirsync", 0x10000), ("topdir", 0x20000), ("fixed", 0x10)]:
        os.mkdir(root + b"/" + name.encode())
        put(root + b"/" + name.encode() + b"/inside")
        add_flags(root + b"/" + name.encode(), bits)


def xattrs(root):
    bs = block_size(root)
    for at, length in enumerate([0, 1, 2, 3, 4, 5, 30, 60, 90, 100, 120, 200, bs // 2, bs - 150]):
        path = put(root + b"/value-%d" % length, b"x" * (at * 20))
        os.setxattr(path, b"user.v", noise(at, length))
    spaces = put(root + b"/spaces")
    for name in [b"user.a", b"trusted.b", b"security.c", b"user." + b"n" * 250, b"trusted.\xff", b"user.\xc3\xa4"]:
        os.setxattr(spaces, name, name)
    os.setxattr(spaces, b"security.capability", struct.pack("<5I", 0x02000001, 0x2000, 0, 0, 0))
    many = put(root + b"/many")
    for at in range(min(40, bs // 40)):
        os.setxattr(many, b"user.n%02d" % at, b"%d" % at)
    for at in range(0, min(40, bs // 40), 3):
        os.removexattr(many, b"user.n%02d" % at)
    os.setxattr(many, b"user.n01", b"longer than before")
    for at in range(5):
        shared = put(root + b"/shared-%d" % at, b"%d" % at)
        os.setxattr(shared, b"user.first", b"f" * 300)
        os.setxattr(shared, b"trusted.second", b"s" * 300)
    os.mkdir(root + b"/dir")
    os.setxattr(root + b"/dir", b"user.on-a-directory", b"d" * 70)
    os.mknod(root + b"/device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.setxattr(root + b"/device", b"trusted.on-a-device", b"")


def ea_inode(root):
    for length in [1000, 4096, 5000, 20000, 65536]:
        path = put(root + b"/%d" % length)
        os.setxattr(path, b"user.big", noise(length, length))
        os.setxattr(path, b"user.small", b"s")
    for at in range(4):
        os.setxattr(put(root + b"/same-%d" % at), b"trusted.same", b"m" * 9000)
    several = put(root + b"/several")
    for at in range(6):
        os.setxattr(several, b"user.%d" % at, noise(at, 6000 + at))
    os.mkdir(root + b"/dir")
    os.setxattr(root + b"/dir", b"user.big", noise(5, 8000))


def acl(entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def acls(root):
    none = 0xFFFFFFFF
    base = [(1, 7, none), (4, 5, none), (32, 4, none)]
    named = [(1, 7, none), (2, 6, 1000), (2, 1, 70000), (4, 5, none), (8, 4, 100), (16, 7, none), (32, 0, none)]
    many = [(1, 6, none)] + [(2, uid % 8, uid) for uid in range(2000, 2030)] + [(4, 4, none), (16, 6, none), (32, 4, none)]
    os.setxattr(put(root + b"/minimal"), b"system.posix_acl_access", acl(base))
    os.setxattr(put(root + b"/named"), b"system.posix_acl_access", acl(named))
    os.setxattr(put(root + b"/many"), b"system.posix_acl_access", acl(many))
    os.mkdir(root + b"/dir")
    os.setxattr(root + b"/dir", b"system.posix_acl_default", acl(named))
    put(root + b"/dir/inherits", b"x", 0o666)
    os.mkdir(root + b"/dir/sub")
    os.setxattr(root + b"/dir/sub", b"user.beside", b"an ACL")
    os.setxattr(root + b"/dir/sub", b"system.posix_acl_default", acl(base))


def directories(root):
    """Directories of several sizes, with gaps where entries were removed."""
    for count in [1, 5, 40, 700]:
        directory = root + b"/%d" % count
        os.mkdir(directory)
        for at in range(count):
            name = b"%s/%s-%d" % (directory, b"n" * (at * 7 % 90), at)
            os.mkdir(name) if at % 50 == 7 else os.mknod(name, stat.S_IFREG | 0o644)
        for at in range(0, count, 3):
            name = b"%s/%s-%d" % (directory, b"n" * (at * 7 % 90), at)
            os.rmdir(name) if at % 50 == 7 else os.unlink(name)
        os.rename(directory, directory + b"-renamed")


def inline(root):
    """Around the borders of what fits into an inode of 256 to 1,024 bytes, with and without attributes."""
    for length in [0, 1, 59, 60, 61, 100, 127, 128, 132, 150, 155, 156, 157, 158, 160, 161, 300, 412, 420, 700, 900, 930]:
        put(root + b"/%d" % length, noise(length, length))
        path = put(root + b"/%d-and-xattr" % length, noise(length, length))
        os.setxattr(path, b"user.x", b"y" * 20)
    grown = put(root + b"/grown", b"g" * 30)
    os.truncate(grown, 70)
    os.truncate(put(root + b"/shrunk", b"s" * 150), 10)
    os.truncate(put(root + b"/hole", b"h" * 10), 5000)
    for count in [0, 1, 3, 4, 5, 6, 8, 12]:
        os.mkdir(root + b"/dir-%d" % count)
        for at in range(count):
            put(root + b"/dir-%d/name-%d" % (count, at))
    os.unlink(root + b"/dir-5/name-2")
    os.unlink(root + b"/dir-4/name-0")
    os.mkdir(root + b"/dir-1/below")


def churn(root):
    """Work that leaves its traces in a journal: removals, renames, growth and truncation."""
    bs = block_size(root)
    for at in range(120):
        put(root + b"/f%d" % at, noise(at, at * 37 % (3 * bs)))
    for at in range(0, 120, 4):
        os.unlink(root + b"/f%d" % at)
    for at in range(1, 120, 4):
        os.rename(root + b"/f%d" % at, root + b"/renamed-%d" % at)
    os.mkdir(root + b"/gone")
    for at in range(100):
        put(root + b"/gone/%d" % at, b"g")
    for at in range(100):
        os.unlink(root + b"/gone/%d" % at)
    os.rmdir(root + b"/gone")
    # Blocks that were metadata become data, which must not be overwritten by a replay.
    put(root + b"/reuse", noise(9, 80 * bs))
    os.truncate(root + b"/renamed-117", 3)
    os.setxattr(root + b"/reuse", b"user.after", b"a" * 200)


def hundred_thousand(root):
    """Most are FIFOs, of which there is less to compare."""
    for at in range(100_000):
        kind = stat.S_IFREG if at % 20 == 0 else stat.S_IFIFO
        os.mknod(root + b"/entry-%d" % at, kind | 0o644)


def long_names(root):
    """So many blocks of 1 KiB that their index needs three levels; few inodes with many names."""
    for at in range(50_000):
        name = root + b"/" + noise(at, 110).hex().encode() + b"-%d" % at
        if at % 5_000 == 0:
            first = name
            os.mkfifo(name)
        else:
            os.link(first, name)


def depth_three(root):
    """More extents than two levels of index blocks of 1 KiB can point to."""
    bs = block_size(root)
    fd = os.open(root + b"/every-other-block", os.O_RDWR | os.O_CREAT, 0o600)
    data = noise(1, bs)
    for at in range(31_000):
        os.pwrite(fd, data, at * 2 * bs)
    os.close(fd)
    fd = os.open(root + b"/unwritten-between", os.O_RDWR | os.O_CREAT, 0o600)
    os.posix_fallocate(fd, 0, 2_000 * bs)
    for at in range(1_000):
        os.pwrite(fd, data, at * 2 * bs)
    os.close(fd)


def enormous(root, end=3 * 1024 * 1024 * MIB):
    fd = os.open(root + b"/enormous", os.O_RDWR | os.O_CREAT, 0o600)
    for at in [0, 5 * MIB + 7, 2**31 - 3, 2**32 - 1, 2**32 + 65536, 2**40 + 12345, end // 2 + 1, end - 5]:
        os.pwrite(fd, b"here at %d" % at, at)
    os.pwrite(fd, noise(1, 3 * MIB), 700 * 1024 * MIB + 100)
    os.truncate(fd, end)
    os.close(fd)


def enormous_block_mapped(root):
    """Nearly the most that a block map of 4 KiB blocks can hold of 32-bit counts of sectors."""
    enormous(root, 2**41 - 2**33)


def far_apart(root):
    """Directories that the kernel puts into groups all over the device, with blocks of all kinds."""
    add_flags(root, 0x20000)
    for at in range(40):
        directory = root + b"/%d" % at
        os.mkdir(directory)
        path = put(directory + b"/file", noise(at, 9_000))
        os.setxattr(path, b"user.in-a-block", b"v" * 900)
        os.symlink(b"s" * 90, directory + b"/link")
        fd = os.open(directory + b"/scattered", os.O_RDWR | os.O_CREAT, 0o600)
        for hole in range(12):
            os.pwrite(fd, b"data", hole * 3 * 4096)
        os.close(fd)


def main():
    root = os.fsencode(sys.argv[1])
    os.umask(0o022)
    for part in sys.argv[2:]:
        directory = root + b"/" + part.encode()
        os.mkdir(directory)
        globals()[part](directory)


main()
