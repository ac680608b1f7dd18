/** Where a file of an image has data, and where holes. */
import type { FileSystem, VfsInode } from "../../fs/vfs.ts";
import { FsError } from "../../lib/errno.ts";

/**
 * The data of a file as SEEK_DATA and SEEK_HOLE find it: [start, end) pairs in bytes.
 *
 * @throws {FsError} `EUCLEAN` for more pieces than the file system has blocks, and what seeking
 * throws
 */
export async function dataSegments(
  fs: FileSystem,
  inode: VfsInode,
  signal?: AbortSignal,
): Promise<[number, number][]> {
  const segments: [number, number][] = [];
  const { blockCount } = fs.usage();
  for (let at = 0; at < inode.size; ) {
    if (segments.length > blockCount) {
      const detail = `inode ${inode.ino}: its data is in more pieces than there are blocks`;
      throw new FsError("EUCLEAN", { detail });
    }
    const start = await fs.seekData(inode, at, signal);
    if (start === -1) break;
    const end = await fs.seekHole(inode, start, signal);
    if (end <= start) {
      const detail = `inode ${inode.ino}: the data at byte ${start} ends at byte ${end}`;
      throw new FsError("EUCLEAN", { detail });
    }
    segments.push([start, end]);
    at = end;
  }
  return segments;
}
