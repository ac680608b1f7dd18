/**
 * How much room a tree takes in a file system: inodes, and blocks of files, directories and
 * attributes. An estimate that is rather too large than too small.
 */
import { pathKey, type TreeEntry } from "./tree-entry.ts";

/** Bytes of an entry of a directory beside its name, and what names are filled up to. */
const ENTRY_BYTES = 8;
const ENTRY_UNIT = 4;
/** Blocks of hashed directories are full to this share after they were split. */
const DIRECTORY_FILL = 0.6;
/** A symlink up to here lies in its inode. */
const FAST_LINK_BYTES = 59;
/** Room for attributes in an inode of 256 bytes, and what each takes beside name and value. */
const INODE_XATTR_BYTES = 96;
const XATTR_BYTES = 16;
/** Bytes that a block of a map leads to one block with. */
const POINTER_BYTES = 4;

/** See the head of the file. */
export class TreeMeasure {
  readonly #blockBytes: number;
  readonly #namesBytes = new Map<string, number>();
  #entries = 0;
  #blocks = 0;
  /** Of regular files, holes left out. */
  dataBytes = 0;

  constructor(blockBytes: number) {
    this.#blockBytes = blockBytes;
  }

  /** Counts one entry. */
  add(entry: TreeEntry): void {
    const cut = entry.path.lastIndexOf(0x2f);
    const parent = pathKey(entry.path.subarray(0, Math.max(cut, 0)));
    const nameBytes = entry.path.length - cut - 1;
    const bytes = ENTRY_BYTES + Math.ceil(nameBytes / ENTRY_UNIT) * ENTRY_UNIT;
    this.#namesBytes.set(parent, (this.#namesBytes.get(parent) ?? 0) + bytes);
    if (entry.linkTo !== undefined) return;
    this.#entries++;
    if (entry.type === "directory") this.#blocks++;
    if (entry.type === "symlink" && entry.target!.length > FAST_LINK_BYTES) this.#blocks++;
    if (entry.type === "file") this.#addFile(entry.dataBytes ?? entry.sizeBytes);
    this.#addXattrs(entry.xattrs);
  }

  /** Inodes that are needed. */
  get inodes(): number {
    return this.#entries;
  }

  /** Blocks that are needed. */
  get blocks(): number {
    let blocks = this.#blocks;
    for (const bytes of this.#namesBytes.values()) {
      blocks += Math.floor(bytes / (this.#blockBytes * DIRECTORY_FILL));
    }
    return blocks;
  }

  #addFile(dataBytes: number): void {
    const blocks = Math.ceil(dataBytes / this.#blockBytes);
    this.dataBytes += dataBytes;
    this.#blocks += blocks;
    // Whichever kind of map: extents need no more than pointers do.
    if (blocks > 4) this.#blocks += 1 + Math.ceil((blocks * POINTER_BYTES) / this.#blockBytes);
  }

  #addXattrs(xattrs: ReadonlyMap<string, Uint8Array>): void {
    let bytes = 0;
    for (const [name, value] of xattrs) bytes += XATTR_BYTES + name.length + value.length;
    if (bytes > INODE_XATTR_BYTES) this.#blocks += Math.ceil(bytes / this.#blockBytes);
  }
}
