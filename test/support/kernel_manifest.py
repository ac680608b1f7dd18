#!/usr/bin/env python3
"""Prints the manifest of a mounted tree, found out by ordinary system calls: the oracle of `quire manifest`.

    kernel_manifest.py ROOT

One JSON object a line, depth first, entries in byte order of their names. The mount should be fresh and
read-only, so that reading changes no times and no page cache decides what SEEK_DATA finds.
"""
import base64
import errno
import fcntl
import hashlib
import json
import os
import stat
import struct
import sys

WHOLE_BYTES_MAX = 64 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
FS_IOC_GETFLAGS = 0x80086601
LETTERS = {
    stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFCHR: "c",
    stat.S_IFBLK: "b", stat.S_IFIFO: "p", stat.S_IFSOCK: "s",
}


def text_fields(name, raw):
    try:
        return {name: raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {name: None, name + "_b64": base64.b64encode(raw).decode()}


def segments_of(fd, size):
    found, at = [], 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        found.append([start, end])
        at = end
    return found


def hash_range(fd, start, end, digest):
    at = start
    while at < end:
        chunk = os.pread(fd, min(CHUNK_BYTES, end - at), at)
        if not chunk:
            break
        digest.update(chunk)
        at += len(chunk)


def content_of(line, fd, size):
    # What another name of the file has brought into the cache counts as data in space had in advance.
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    segments = segments_of(fd, size)
    digest = hashlib.sha256()
    if size <= WHOLE_BYTES_MAX:
        hash_range(fd, 0, size, digest)
        line["sha256"] = digest.hexdigest()
    else:
        for start, end in segments:
            digest.update(struct.pack("<QQ", start, end - start))
            hash_range(fd, start, end, digest)
        line["sha256_segments"] = digest.hexdigest()
    line["data"] = segments


def flags_of(fd):
    buffer = bytearray(8)
    fcntl.ioctl(fd, FS_IOC_GETFLAGS, buffer)
    return format(struct.unpack_from("<I", buffer)[0], "x")


def line_of(full, shown):
    st = os.lstat(full)
    kind = stat.S_IFMT(st.st_mode)
    line = text_fields("path", shown)
    line.update({
        "type": LETTERS[kind], "mode": format(stat.S_IMODE(st.st_mode), "04o"), "uid": st.st_uid,
        "gid": st.st_gid, "nlink": st.st_nlink, "ino": st.st_ino, "mtime_ns": str(st.st_mtime_ns),
        "atime_ns": str(st.st_atime_ns), "blocks": st.st_blocks,
    })
    fd = -1
    try:
        if kind in (stat.S_IFREG, stat.S_IFDIR):
            try:
                fd = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME)
            except OSError as error:
                if error.errno != errno.ENOKEY:
                    raise
        if kind == stat.S_IFREG:
            line["size"] = st.st_size
            if fd >= 0:
                content_of(line, fd, st.st_size)
            else:
                line["error"] = "ENOKEY"
        elif kind == stat.S_IFLNK:
            line.update(text_fields("target", os.readlink(full)))
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            line["rdev"] = [os.major(st.st_rdev), os.minor(st.st_rdev)]
        names = sorted(os.listxattr(full, follow_symlinks=False), key=os.fsencode)
        line["xattrs"] = {
            name: base64.b64encode(os.getxattr(full, name, follow_symlinks=False)).decode()
            for name in names
        }
        if fd >= 0:
            line["flags"] = flags_of(fd)
    finally:
        if fd >= 0:
            os.close(fd)
    return line


def walk(full, shown, out):
    line = line_of(full, shown)
    out.write(json.dumps(line) + "\n")
    if line["type"] != "d":
        return
    for name in sorted(os.listdir(full)):
        walk(full + b"/" + name, name if shown == b"." else shown + b"/" + name, out)


if __name__ == "__main__":
    sys.setrecursionlimit(20000)
    walk(os.fsencode(sys.argv[1]), b".", sys.stdout)
