/**
 * A mounted ext2/3/4 file system: what `FileSystem` promises, on top of the decoders. Where it may
 * be written, `writer` changes it.
 *
 *     ExtFileSystem --> names: dir, xattr, symlink      content: file-ops (mpage, iomap)
 *           \------------------- ExtCore ------------------/
 *                    superblock, descriptors, inodes, block maps
 *
 *  1. An inode is given out only if a directory may lead to it: no reserved one, none that is free.
 *  2. Everything that walks is bounded by what the image can hold, not by what its fields say.
 *
 * After `fs/ext4/super.c`, `fs/ext4/file.c`, `fs/ext4/inode.c`. Made by `mountExt` in `ext-fs.ts`.
 */
import type { AddressSpace } from "../../cache/address-space.ts";
import { type CacheFile, openCacheFile } from "../../cache/cache-file.ts";
import type { PageCache } from "../../cache/page-cache.ts";
import { FsError, hasErrnoCode } from "../../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { FILE_BYTES_MAX } from "../../lib/units.ts";
import { iomapFiemap } from "../../mapping/iomap/fiemap.ts";
import { IOMAP_HOLE, type IomapOps } from "../../mapping/iomap/iomap.ts";
import { iomapSeekData, iomapSeekHole } from "../../mapping/iomap/seek.ts";
import type { DirectoryBatch, FileExtent, FileSystem, FileSystemUsage, VfsInode } from "../vfs.ts";
import type { ByteRange } from "../vfs-write.ts";
import type { ExtCore } from "./core.ts";
import { describeImage, type ImageFindings, typeNameOf } from "./describe.ts";
import { dirLookup, dirRead } from "./dir.ts";
import { dirReadStable } from "./dir-order.ts";
import type { EaProgress } from "./ea-inode.ts";
import type { ExtVolumeWriter } from "./ext-volume-writer.ts";
import { RO_COMPAT_SHARED_BLOCKS } from "./features.ts";
import { FileMappings } from "./file-ops.ts";
import { indirectReachBytes } from "./indirect.ts";
import type { ExtInode } from "./inode.ts";
import { EXT_ROOT_INO, EXTENT_ENTRY_BYTES } from "./layout.ts";
import { readSymlink } from "./symlink.ts";
import { type GroupSums, usageOf } from "./usage.ts";
import { usedRangesOf } from "./used-ranges.ts";
import { readXattrs } from "./xattr.ts";

/**
 * Steps of a walk over a map that each block of the image may cost: one for the block if it holds
 * data and one for the hole behind it, or, if it holds the map, the holes before, in and behind
 * its part.
 */
const STEPS_PER_BLOCK = 4;
/** Steps over what has no blocks: the inode's own pointers, and long holes in several pieces. */
const STEPS_SPARE = 4_000;

/** What `mountExt` found out while it opened the image. */
export interface MountFindings extends ImageFindings {
  readonly warnings: readonly string[];
}

/** Throws unless `inode` is one that a name may lead to. */
function checkNamed(core: ExtCore, inode: ExtInode): ExtInode {
  const { ino } = inode;
  if (ino !== EXT_ROOT_INO && (ino < core.sb.firstIno || ino === core.sb.orphanFileIno)) {
    throw new FsError("EUCLEAN", { detail: `inode ${ino} is reserved, no name may lead to it` });
  }
  if (inode.linksCount === 0) throw new FsError("ESTALE", { detail: `inode ${ino} is not in use` });
  if (inode.isEaInode) {
    throw new FsError("EUCLEAN", {
      detail: `inode ${ino} holds an attribute, no name may lead to it`,
    });
  }
  if (inode.type === "unknown") {
    const mode = inode.mode.toString(8);
    throw new FsError("EUCLEAN", { detail: `inode ${ino}: i_mode is ${mode}, no known type` });
  }
  return inode;
}

/** See the head of the file. */
export class ExtFileSystem implements FileSystem {
  readonly typeName: string;
  readonly rootIno: number = EXT_ROOT_INO;
  readonly core: ExtCore;
  readonly writer: ExtVolumeWriter | undefined;
  readonly #findings: MountFindings;
  readonly #files: FileMappings;

  /** With `writer`, over its core. */
  constructor(core: ExtCore, cache: PageCache, findings: MountFindings, writer?: ExtVolumeWriter) {
    this.core = core;
    this.typeName = typeNameOf(core.sb);
    this.#findings = findings;
    this.writer = writer;
    this.#files = writer?.mappings ?? new FileMappings(core, cache);
  }

  get warnings(): readonly string[] {
    return this.#findings.warnings;
  }

  inode(ino: number, signal?: AbortSignal): MaybeAsync<ExtInode> {
    return this.core.metadata.run(() => this.#named(ino), signal);
  }

  lookup(dir: VfsInode, name: Uint8Array, signal?: AbortSignal): MaybeAsync<number> {
    return this.core.metadata.run(this.#searchFor(dir, name), signal);
  }

  find(dir: VfsInode, name: Uint8Array, signal?: AbortSignal): MaybeAsync<ExtInode | undefined> {
    const search = this.#searchFor(dir, name);
    return this.core.metadata.run(() => {
      const ino = search();
      return ino === 0 ? undefined : this.#named(ino);
    }, signal);
  }

  readdir(dir: VfsInode, cookie: number, signal?: AbortSignal): MaybeAsync<DirectoryBatch> {
    const inode = this.#directory(dir);
    return this.#nextBatch(inode, cookie, signal);
  }

  readlink(inode: VfsInode, signal?: AbortSignal): MaybeAsync<Uint8Array> {
    if (inode.type !== "symlink") throw new FsError("EINVAL", { syscall: "readlink" });
    const read = (): Uint8Array => readSymlink(this.core, present(inode as ExtInode));
    return this.core.metadata.run(read, signal);
  }

  xattrs(inode: VfsInode, signal?: AbortSignal): MaybeAsync<ReadonlyMap<string, Uint8Array>> {
    const progress: EaProgress = new Map();
    const read = (): ReadonlyMap<string, Uint8Array> =>
      readXattrs(this.core, present(inode as ExtInode), progress);
    return this.core.metadata.run(read, signal);
  }

  openFile(inode: VfsInode): CacheFile {
    const file = this.#regular(inode, "open");
    if (file.isEncrypted) {
      throw new FsError("ENOKEY", {
        syscall: "open",
        detail: "the content of the file is encrypted",
      });
    }
    if (file.size > FILE_BYTES_MAX) throw new FsError("EFBIG", { syscall: "open" });
    return openCacheFile(this.#files.of(file));
  }

  seekData(inode: VfsInode, posBytes: number): MaybeAsync<number> {
    return this.#seek(inode, posBytes, iomapSeekData);
  }

  seekHole(inode: VfsInode, posBytes: number): MaybeAsync<number> {
    return this.#seek(inode, posBytes, iomapSeekHole);
  }

  extents(inode: VfsInode): MaybeAsync<readonly FileExtent[]> {
    const file = inode as ExtInode;
    if (file.type !== "file" && file.type !== "directory") return [];
    const isIndirect = !file.hasExtents && !file.isInline;
    const request = {
      startBytes: 0,
      lengthBytes: isIndirect ? indirectReachBytes(file.blockBytes) : FILE_BYTES_MAX,
      maxExtents: Number.MAX_SAFE_INTEGER,
      flags: 0,
    };
    const result = iomapFiemap(file, this.#files.of(file), request, this.#boundedOps());
    return andThen(result, ({ extents }) =>
      extents.map((extent) => ({
        ...extent,
        physicalBytes: extent.physicalBytes === 0 ? -1 : extent.physicalBytes,
      })),
    );
  }

  usage(): FileSystemUsage {
    const sums = this.#sums;
    const promisedCount = this.writer?.promisedBlockCount ?? 0;
    const freeBlockCount = Math.max(0, sums.freeBlockCount - promisedCount);
    return usageOf(this.core.sb, { ...sums, freeBlockCount });
  }

  usedRanges(signal?: AbortSignal): AsyncIterable<ByteRange> {
    return usedRangesOf(this.core, signal);
  }

  describe(): Readonly<Record<string, unknown>> {
    return describeImage(this.core.sb, { ...this.#findings, sums: this.#sums });
  }

  async close(): Promise<void> {
    if (this.writer !== undefined) return this.writer.close();
    await this.#files.close();
    await this.core.close();
  }

  /** A restartable search for `name` in `dir`. */
  #searchFor(dir: VfsInode, name: Uint8Array): () => number {
    const inode = this.#directory(dir);
    const linear = { fileBlock: 0 };
    const home = (): number => dirLookup(this.core, present(inode), name, linear);
    const patch = this.core.fastCommits?.directoryOf(inode.ino);
    return patch === undefined ? home : (): number => patch.lookup(name, home);
  }

  /** Free counts as they are now. */
  get #sums(): GroupSums {
    const { sums } = this.#findings;
    return this.writer === undefined ? sums : { ...sums, ...this.writer.totals };
  }

  #directory(dir: VfsInode): ExtInode {
    if (dir.type !== "directory") throw new FsError("ENOTDIR");
    return dir as ExtInode;
  }

  #regular(inode: VfsInode, syscall: string): ExtInode {
    if (inode.type === "directory") throw new FsError("EISDIR", { syscall });
    if (inode.type !== "file") throw new FsError("EINVAL", { syscall });
    return inode as ExtInode;
  }

  /** An inode that a name may lead to, with what users see of an encrypted symlink. */
  #named(ino: number): ExtInode {
    const inode = checkNamed(this.core, this.core.inode(ino));
    if (inode.isEncrypted && inode.type === "symlink" && inode.targetBytes === undefined) {
      inode.targetBytes = readSymlink(this.core, inode).length;
    }
    return inode;
  }

  /**
   * The first stretch from `cookie` on that has an entry; each step has to move on. A step is run
   * by itself, so that a miss far behind in an emptied directory does not begin again at its
   * start.
   */
  #nextBatch(dir: ExtInode, cookie: number, signal?: AbortSignal): MaybeAsync<DirectoryBatch> {
    for (let from = cookie; ; ) {
      const at = from;
      const batch = this.core.metadata.run(() => this.#batchAt(dir, at), signal);
      if (isPromise(batch)) {
        return batch.then((read) => {
          return isLastStep(dir, at, read) ? read : this.#nextBatch(dir, read.nextCookie, signal);
        });
      }
      if (isLastStep(dir, at, batch)) return batch;
      from = batch.nextCookie;
    }
  }

  #batchAt(dir: ExtInode, cookie: number): DirectoryBatch {
    if (isGone(dir)) return { entries: [], nextCookie: -1 };
    if (this.writer !== undefined) return dirReadStable(this.core, dir, cookie);
    const home = (from: number): DirectoryBatch => dirRead(this.core, dir, from);
    return this.core.fastCommits?.directoryOf(dir.ino)?.read(cookie, home) ?? home(cookie);
  }

  #seek(inode: VfsInode, posBytes: number, search: typeof iomapSeekData): MaybeAsync<number> {
    const file = this.#regular(inode, "lseek");
    const notFound = (thrown: unknown): number => {
      if (hasErrnoCode(thrown) && thrown.code === "ENXIO") return -1;
      throw thrown;
    };
    try {
      const mapping: AddressSpace = this.#files.of(file);
      const found = search(file, mapping, posBytes, this.#boundedOps());
      return isPromise(found) ? found.catch(notFound) : found;
    } catch (thrown) {
      return notFound(thrown);
    }
  }

  /**
   * The operations of a walk over one file, which ends when it has met more blocks, or more holes
   * between them, than an honest map can have. One in a circle would go on for ever.
   */
  #boundedOps(): IomapOps<ExtInode> {
    const { iomapOps } = this.#files;
    const { sb } = this.core;
    // Files of this feature may map one block often, and fast commits map without blocks of their
    // own: then the extents count that the image has room for.
    const isShared = sb.hasRoCompat(RO_COMPAT_SHARED_BLOCKS);
    const isDense = isShared || this.core.fastCommits !== undefined;
    const blockCountMax = isShared ? Number.POSITIVE_INFINITY : sb.blockCount;
    const stepsPerBlock = isDense ? sb.blockBytes / EXTENT_ENTRY_BYTES : STEPS_PER_BLOCK;
    let restBytes = blockCountMax * sb.blockBytes;
    let restSteps = STEPS_SPARE + sb.blockCount * stepsPerBlock;
    return {
      begin: (inode, posBytes, lengthBytes, flags, iomap, srcmap) => {
        const begun = iomapOps.begin(inode, posBytes, lengthBytes, flags, iomap, srcmap);
        return andThen(begun, () => {
          if (iomap.type !== IOMAP_HOLE) restBytes -= iomap.lengthBytes;
          if (restBytes >= 0 && restSteps-- > 0) return;
          throw new FsError("EUCLEAN", {
            detail: `inode ${inode.ino}: its map has more blocks than the file system`,
          });
        });
      },
    };
  }
}

/** True if `inode` is being deleted, or was: its blocks may be others' already. */
function isGone(inode: ExtInode): boolean {
  return inode.isDeleted || (inode.linksCount === 0 && inode.openCount === 0);
}

/** `inode`. Throws `ENOENT` if it is gone, as if its name had gone before it was looked up. */
function present(inode: ExtInode): ExtInode {
  if (isGone(inode)) throw new FsError("ENOENT", { detail: `inode ${inode.ino} was removed` });
  return inode;
}

/**
 * True if `batch`, read from `from` on, is what the caller gets; else the next one has to be
 * read.
 */
function isLastStep(dir: ExtInode, from: number, batch: DirectoryBatch): boolean {
  if (batch.entries.length > 0 || batch.nextCookie === -1) return true;
  if (batch.nextCookie > from) return false;
  throw new FsError("EUCLEAN", { detail: `directory ${dir.ino} does not move on at ${from}` });
}
