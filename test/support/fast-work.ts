/** What leaves fast commits behind when the kernel does it: work for `makeDirtyImage`. */

// With inline data the kernel's replay loses what a file that leaves its inode got in the same fast
// commit (Linux 6.18); so the files here are too large to begin in their inodes.
export const FAST_WORK: string = `
import os
os.mkdir("d")
def write(path, data):
    with open(path, "wb") as f: f.write(data)
def sync(path):
    fd = os.open(path, os.O_RDONLY); os.fsync(fd); os.close(fd)
write("d/f1", b"hello" * 60); write("d/f2", b"q" * 20000); write("d/xa", b"hi" * 200)
os.setxattr("d/xa", "user.big", b"v" * 900)
write("d/frag", b"-" * 400)
os.mkdir("d/old")
os.sync()
write("d/fcA", b"k" * 8192); sync("d/fcA")
write("d/fcB", b"B" * 9); sync("d/fcB")
os.link("d/fcA", "d/fcA2"); os.unlink("d/fcB")
with open("d/fcA", "ab") as f: f.write(b"z" * 9000)
sync("d/fcA"); os.truncate("d/fcA", 8292); sync("d/fcA")
os.rename("d/f1", "d/f1ren"); os.link("d/f1ren", "f1link")
with open("d/f1ren", "ab") as f: f.write(b"y" * 5000)
sync("d/f1ren")
os.rename("d/fcA2", "d/f2"); sync("d/f2")
fd = os.open("d/frag", os.O_RDWR)
for i in range(20): os.pwrite(fd, b"F" * 4096, i * 16384)
os.fsync(fd)
os.posix_fallocate(fd, 400000, 100000); os.pwrite(fd, b"w" * 10, 450000); os.fsync(fd)
with open("d/xa", "ab") as f: f.write(b"k" * 10000)
sync("d/xa")
os.mkdir("d/sub"); write("d/sub/in", b"i" * 100); sync("d/sub/in")
os.mkdir("d/sub/subsub"); os.rmdir("d/old"); write("d/sub/in2", b"i" * 5000); sync("d/sub/in2")
`;

/** Names of images, and options of mke2fs. */
export const FAST_ROWS: readonly (readonly [string, string])[] = [
  ["fast-4k", "-t ext4 -b 4096 -O fast_commit"],
  ["fast-1k", "-t ext4 -b 1024 -O fast_commit -J size=4"],
  ["fast-no-checksum", "-t ext4 -b 4096 -O fast_commit,^metadata_csum"],
  ["fast-inline", "-t ext4 -b 4096 -O fast_commit,inline_data -I 256"],
  ["fast-128-byte-inodes", "-t ext4 -b 1024 -O fast_commit -I 128"],
];
