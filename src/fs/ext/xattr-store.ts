/**
 * Setting and removing one extended attribute as it is stored, wherever it finds room.
 *
 *     1. in the inode, behind `i_extra_isize`
 *     2. in the block that `i_file_acl` names, which may be shared: then it is copied first
 *     3. its value in an inode of its own, if the volume has the feature: large ones at once
 *
 *  1. An attribute is in one place when it was set, also if it was in both before.
 *  2. `system.data` never leaves the inode (`inline-tail.ts`).
 *  3. A block without attributes is given back.
 *
 * Left out: equal blocks are not made one again. After fs/ext4/xattr.c of Linux
 * (`ext4_xattr_set_handle`, `ext4_xattr_block_set`, `ext4_xattr_release_block`).
 */
import { equalBytes, le32, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { roundUp, SECTOR_BYTES } from "../../lib/units.ts";
import { XATTR_CREATE, XATTR_REPLACE } from "../vfs-write.ts";
import { addValueUser, dropValueUser, moveValueOut, unchargeValue } from "./ea-inode-write.ts";
import { COMPAT_EXT_ATTR, INCOMPAT_EA_INODE } from "./features.ts";
import type { Handle, Seal } from "./handle.ts";
import { writeInodeXattrs } from "./inline-tail.ts";
import type { ExtInode } from "./inode.ts";
import type { ExtWriter } from "./writer.ts";
import { blockEntries, inodeEntries, inodeXattrBounds } from "./xattr.ts";
import { XATTR_BLOCK_HEADER_BYTES, type XattrEntry, XH } from "./xattr-area.ts";
import {
  compareEntries,
  detached,
  writeXattrBlock,
  xattrAreaBytes,
  xattrBlockSeal,
  xattrEntryHash,
} from "./xattr-edit.ts";

/** Values that leave no room for another entry in a block have an inode of their own at once. */
const LARGE_LEAVES_BYTES = 56;

/** Which attribute, by its stored name. */
export interface XattrKey {
  readonly index: number;
  /** Behind the prefix that the index stands for, at most 255 bytes. */
  readonly name: Uint8Array;
}

function isKeyOf(key: XattrKey): (entry: XattrEntry) => boolean {
  return (entry) => entry.index === key.index && equalBytes(entry.name, key.name);
}

/** `list` with `entry` in the place of the one with its name, or at its end. */
function withEntry(list: readonly XattrEntry[], entry: XattrEntry): XattrEntry[] {
  const at = list.findIndex(isKeyOf(entry));
  if (at < 0) return [...list, entry];
  return list.with(at, entry);
}

function withoutEntry(list: readonly XattrEntry[], key: XattrKey): XattrEntry[] {
  const isMeant = isKeyOf(key);
  return list.filter((entry) => !isMeant(entry));
}

/** The attributes of one inode, being changed in one operation. */
class XattrSet {
  readonly #ctx: ExtWriter;
  readonly #handle: Handle;
  readonly #inode: ExtInode;
  readonly #inInode: readonly XattrEntry[];
  readonly #inBlock: readonly XattrEntry[];

  constructor(ctx: ExtWriter, handle: Handle, inode: ExtInode) {
    this.#ctx = ctx;
    this.#handle = handle;
    this.#inode = inode;
    ctx.editInode(handle, inode); // First: it may make room for attributes in an old inode.
    this.#inInode = detached(inodeEntries(ctx, inode));
    this.#inBlock = detached(blockEntries(ctx, inode));
  }

  has(key: XattrKey): boolean {
    return this.#inInode.some(isKeyOf(key)) || this.#inBlock.some(isKeyOf(key));
  }

  remove(key: XattrKey): void {
    this.#store(withoutEntry(this.#inInode, key), withoutEntry(this.#inBlock, key));
  }

  set(key: XattrKey, value: Uint8Array): void {
    const plain: XattrEntry = {
      ...key,
      value,
      valueBytes: value.length,
      valueIno: 0,
      hash: 0,
    };
    const { sb } = this.#ctx;
    const mayMoveOut = sb.hasIncompat(INCOMPAT_EA_INODE) && value.length > 0;
    const isLarge = roundUp(value.length, 4) > sb.blockBytes - LARGE_LEAVES_BYTES;
    if (!(mayMoveOut && isLarge) && this.#place(plain)) return;
    if (mayMoveOut && this.#place(moveValueOut(this.#ctx, this.#handle, this.#inode, plain)))
      return;
    throw new FsError("ENOSPC", {
      detail: `inode ${this.#inode.ino} has no room for the attribute`,
    });
  }

  /** Stores `entry` in the inode or else in the block; false if neither has room. */
  #place(entry: XattrEntry): boolean {
    const bounds = inodeXattrBounds(this.#inode);
    const inInode = withEntry(this.#inInode, entry);
    if (bounds !== undefined && bounds.entriesAt + xattrAreaBytes(inInode) <= bounds.end) {
      this.#store(inInode, withoutEntry(this.#inBlock, entry));
      return true;
    }
    const hash = entry.valueIno === 0 ? xattrEntryHash(entry.name, entry.value) : entry.hash;
    const inBlock = withEntry(this.#inBlock, { ...entry, hash }).sort(compareEntries);
    const roomBytes = this.#ctx.sb.blockBytes - XATTR_BLOCK_HEADER_BYTES;
    if (xattrAreaBytes(inBlock) > roomBytes) return false;
    this.#store(withoutEntry(this.#inInode, entry), inBlock);
    return true;
  }

  /** Writes both lists, as far as they have changed. */
  #store(inInode: readonly XattrEntry[], inBlock: readonly XattrEntry[]): void {
    if (isChanged(this.#inInode, inInode)) {
      writeInodeXattrs(this.#inode, inInode);
      for (const entry of goneFrom(this.#inInode, inInode)) this.#drop(entry, true);
    }
    if (isChanged(this.#inBlock, inBlock)) this.#storeBlock(inBlock);
    this.#ctx.superblock.setFeature(this.#handle, "compat", COMPAT_EXT_ATTR);
  }

  #drop(entry: XattrEntry, isOurs: boolean): void {
    unchargeValue(this.#ctx, this.#handle, this.#inode, entry);
    if (isOurs) dropValueUser(this.#ctx, this.#handle, this.#inode, entry);
  }

  #storeBlock(entries: readonly XattrEntry[]): void {
    const inode = this.#inode;
    const gone = goneFrom(this.#inBlock, entries);
    const isShared = inode.fileAclBlock !== 0 && refcountOf(this.#ctx, inode) > 1;
    for (const entry of gone) this.#drop(entry, !isShared);
    if (isShared) {
      // The others keep the block, with its values; what we go on using has one user more.
      for (const entry of entries) {
        if (this.#inBlock.includes(entry)) addValueUser(this.#ctx, this.#handle, inode, entry);
      }
    }
    if (entries.length === 0 || isShared) releaseBlock(this.#ctx, this.#handle, inode);
    if (entries.length === 0) return;
    const seal = blockSeal(this.#ctx);
    if (inode.fileAclBlock !== 0) {
      writeXattrBlock(this.#handle.write(inode.fileAclBlock, seal), entries);
    } else writeXattrBlock(allocBlock(this.#ctx, this.#handle, inode, seal), entries);
  }
}

function isChanged(before: readonly XattrEntry[], after: readonly XattrEntry[]): boolean {
  return before.length !== after.length || before.some((entry, at) => entry !== after[at]);
}

function goneFrom(before: readonly XattrEntry[], after: readonly XattrEntry[]): XattrEntry[] {
  return before.filter((entry) => !after.includes(entry));
}

const noSeal: Seal = () => undefined;

function blockSeal(ctx: ExtWriter): Seal {
  return ctx.hasMetadataCsum ? xattrBlockSeal(ctx.seed) : noSeal;
}

function refcountOf(ctx: ExtWriter, inode: ExtInode): number {
  return le32(ctx.metadata.block(inode.fileAclBlock), XH.refcount);
}

/** Sectors of an attribute block. */
function blockSectors(ctx: ExtWriter): number {
  return (ctx.sb.clusterRatio * ctx.sb.blockBytes) / SECTOR_BYTES;
}

function allocBlock(ctx: ExtWriter, handle: Handle, inode: ExtInode, seal: Seal): Uint8Array {
  const group = Math.floor((inode.ino - 1) / ctx.sb.inodesPerGroup);
  const goal = ctx.sb.firstBlockOf(group);
  const { isPrivileged } = ctx;
  const { first } = ctx.blocks.allocate(handle, { goal, count: 1, isPrivileged });
  inode.fileAclBlock = first;
  inode.sectorCount += blockSectors(ctx);
  return handle.create(first, seal);
}

/** `inode`, which is being edited, has its block no more; the last user frees it. */
function releaseBlock(ctx: ExtWriter, handle: Handle, inode: ExtInode): void {
  const blocknr = inode.fileAclBlock;
  const refcount = refcountOf(ctx, inode);
  if (refcount > 1) putLe32(handle.write(blocknr, blockSeal(ctx)), XH.refcount, refcount - 1);
  else ctx.blocks.free(handle, blocknr, 1, { isMetadata: true });
  inode.fileAclBlock = 0;
  inode.sectorCount = Math.max(0, inode.sectorCount - blockSectors(ctx));
}

/**
 * Sets the attribute `key` of `inode` to `value`, or removes it if that is null. `flags` are
 * `XATTR_CREATE` and `XATTR_REPLACE`.
 *
 * @throws {FsError} `EEXIST`, `ENODATA`, `ENOSPC`; `EUCLEAN`/`EBADMSG` for damaged attributes
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function setStoredXattr(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  key: XattrKey,
  value: Uint8Array | null,
  flags: number,
): void {
  const set = new XattrSet(ctx, handle, inode);
  const isThere = set.has(key);
  if (isThere && (flags & XATTR_CREATE) !== 0) throw new FsError("EEXIST");
  if (!isThere && (value === null || (flags & XATTR_REPLACE) !== 0)) throw new FsError("ENODATA");
  if (value === null) set.remove(key);
  else set.set(key, value);
}

/**
 * Gives back what the attributes of `inode` take outside of it, when it is about to be freed
 * (`ext4_xattr_delete_inode`). Those in the inode stay in its bytes, without their values.
 */
export function freeXattrs(ctx: ExtWriter, handle: Handle, inode: ExtInode): void {
  ctx.editInode(handle, inode);
  const inInode = inodeEntries(ctx, inode);
  for (const entry of detached(inInode)) {
    unchargeValue(ctx, handle, inode, entry);
    dropValueUser(ctx, handle, inode, entry);
  }
  if (inInode.some((entry) => entry.valueIno !== 0)) {
    writeInodeXattrs(inode, detached(inInode.filter((entry) => entry.valueIno === 0)));
  }
  const inBlock = detached(blockEntries(ctx, inode));
  if (inode.fileAclBlock === 0) return;
  const isLast = refcountOf(ctx, inode) <= 1;
  for (const entry of inBlock) {
    unchargeValue(ctx, handle, inode, entry);
    if (isLast) dropValueUser(ctx, handle, inode, entry);
  }
  releaseBlock(ctx, handle, inode);
}
