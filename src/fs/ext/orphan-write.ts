/**
 * Entering inodes among the orphans, and taking them out: those without a name that are still in
 * use, and those that are being cut in several operations. What the list and the file are says
 * `orphan.ts`.
 *
 *     orphanAdd   a free slot of the orphan file, if there is one, else the head of the list
 *     orphanDel   the slot is cleared; or the inode before it in the list leads past it
 *
 *  1. An inode is entered in the operation that makes it an orphan, and taken out in the one that
 *     ends that.
 *  2. Without a journal nothing is entered, as in Linux: the list is worth what its order is worth.
 *  3. What is in memory says where each orphan of this mount stands; it is taken back with the
 *     operation.
 *
 * After fs/ext4/orphan.c of Linux (`ext4_orphan_add`, `ext4_orphan_del`).
 */
import { le32, putLe32 } from "../../lib/bytes.ts";
import { mutants } from "../../lib/mutants.ts";
import { orphanBlockChecksum } from "./checksum.ts";
import { COMPAT_HAS_JOURNAL, COMPAT_ORPHAN_FILE, RO_COMPAT_ORPHAN_PRESENT } from "./features.ts";
import type { Handle, Seal } from "./handle.ts";
import type { ExtInode } from "./inode.ts";
import { INO_BYTES, ORPHAN_TAIL_BYTES, orphanBlock, orphanBlockCount } from "./orphan.ts";
import type { ExtWriter } from "./writer.ts";

/** Where an orphan is entered. */
type OrphanPlace =
  | { readonly kind: "file"; readonly fileBlock: number; readonly at: number }
  | { readonly kind: "list"; previous: number; next: number };

/** The orphans of one mount. */
class Orphans {
  readonly places = new Map<number, OrphanPlace>();
  /** File blocks before this one have no free slot. */
  freeFrom = 0;

  set(handle: Handle, ino: number, place: OrphanPlace | undefined): void {
    const before = this.places.get(ino);
    handle.undo(() => this.#put(ino, before));
    this.#put(ino, place);
  }

  #put(ino: number, place: OrphanPlace | undefined): void {
    if (place === undefined) this.places.delete(ino);
    else this.places.set(ino, place);
  }

  setFreeFrom(handle: Handle, fileBlock: number): void {
    const before = this.freeFrom;
    handle.undo(() => {
      this.freeFrom = Math.min(before, this.freeFrom);
    });
    this.freeFrom = fileBlock;
  }
}

const orphansByWriter = new WeakMap<ExtWriter, Orphans>();

function orphansOf(ctx: ExtWriter): Orphans {
  let orphans = orphansByWriter.get(ctx);
  if (orphans === undefined) {
    orphans = new Orphans();
    orphansByWriter.set(ctx, orphans);
  }
  return orphans;
}

/** True if `inode` is entered among the orphans of this mount. */
export function isOrphan(ctx: ExtWriter, inode: ExtInode): boolean {
  return orphansOf(ctx).places.has(inode.ino);
}

/**
 * Computes the checksum of a block of the orphan file, with the seed of its inode.
 */
function orphanBlockSeal(checksumSeed: number): Seal {
  return (block, blocknr) => {
    const sum = orphanBlockChecksum(checksumSeed, blocknr, block);
    putLe32(block, block.length - ORPHAN_TAIL_BYTES + 4, sum);
  };
}

function orphanSeal(ctx: ExtWriter, file: ExtInode): Seal | undefined {
  return ctx.hasMetadataCsum ? orphanBlockSeal(file.checksumSeed) : undefined;
}

/**
 * Enters `inode` among the orphans; again, it does nothing.
 *
 * @throws {FsError} `EUCLEAN`/`EBADMSG` for a damaged orphan file
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function orphanAdd(ctx: ExtWriter, handle: Handle, inode: ExtInode): void {
  const orphans = orphansOf(ctx);
  if (!ctx.sb.hasCompat(COMPAT_HAS_JOURNAL) || orphans.places.has(inode.ino)) return;
  if (mutants.withoutOrphans) return;
  if (ctx.sb.hasCompat(COMPAT_ORPHAN_FILE) && addToFile(ctx, handle, orphans, inode.ino)) return;
  const next = ctx.sb.lastOrphan;
  ctx.editInode(handle, inode);
  inode.dtime = next;
  ctx.superblock.setLastOrphan(handle, inode.ino);
  const after = orphans.places.get(next);
  if (after?.kind === "list") orphans.set(handle, next, { ...after, previous: inode.ino });
  orphans.set(handle, inode.ino, { kind: "list", previous: 0, next });
}

/** False if the orphan file is full. */
function addToFile(ctx: ExtWriter, handle: Handle, orphans: Orphans, ino: number): boolean {
  const file = ctx.inode(ctx.sb.orphanFileIno);
  const blockCount = orphanBlockCount(ctx, file);
  for (let fileBlock = orphans.freeFrom; fileBlock < blockCount; fileBlock++) {
    const { data, blocknr } = orphanBlock(ctx, file, fileBlock, blockCount);
    const at = freeSlot(data);
    if (at < 0) continue;
    ctx.superblock.setFeature(handle, "roCompat", RO_COMPAT_ORPHAN_PRESENT);
    putLe32(handle.write(blocknr, orphanSeal(ctx, file)), at, ino);
    orphans.setFreeFrom(handle, fileBlock);
    orphans.set(handle, ino, { kind: "file", fileBlock, at });
    return true;
  }
  orphans.setFreeFrom(handle, blockCount);
  return false;
}

function freeSlot(data: Uint8Array): number {
  for (let at = 0; at + INO_BYTES <= data.length - ORPHAN_TAIL_BYTES; at += INO_BYTES) {
    if (le32(data, at) === 0) return at;
  }
  return -1;
}

/**
 * Takes `inode` out of the orphans; without effect if it is not among them. Its `i_dtime` is 0 then
 * if it stood in the list.
 *
 * @throws {FsError} as `orphanAdd`
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function orphanDel(ctx: ExtWriter, handle: Handle, inode: ExtInode): void {
  const orphans = orphansOf(ctx);
  const place = orphans.places.get(inode.ino);
  if (place === undefined) return;
  if (place.kind === "file") clearSlot(ctx, handle, orphans, place.fileBlock, place.at);
  else unlinkFromList(ctx, handle, orphans, inode, place);
  orphans.set(handle, inode.ino, undefined);
}

function clearSlot(
  ctx: ExtWriter,
  handle: Handle,
  orphans: Orphans,
  fileBlock: number,
  at: number,
): void {
  const file = ctx.inode(ctx.sb.orphanFileIno);
  const { blocknr } = orphanBlock(ctx, file, fileBlock, orphanBlockCount(ctx, file));
  putLe32(handle.write(blocknr, orphanSeal(ctx, file)), at, 0);
  orphans.setFreeFrom(handle, Math.min(orphans.freeFrom, fileBlock));
}

function unlinkFromList(
  ctx: ExtWriter,
  handle: Handle,
  orphans: Orphans,
  inode: ExtInode,
  { previous, next }: { readonly previous: number; readonly next: number },
): void {
  if (previous === 0) ctx.superblock.setLastOrphan(handle, next);
  else {
    const before = ctx.inode(previous);
    ctx.editInode(handle, before);
    before.dtime = next;
    const place = orphans.places.get(previous);
    if (place?.kind === "list") orphans.set(handle, previous, { ...place, next });
  }
  const after = orphans.places.get(next);
  if (after?.kind === "list") orphans.set(handle, next, { ...after, previous });
  ctx.editInode(handle, inode);
  inode.dtime = 0;
}

/**
 * Notes that the orphan file is empty, if it is: at the end of a mount (`orphan_present`).
 */
export function settleOrphanFile(ctx: ExtWriter, handle: Handle): void {
  for (const place of orphansOf(ctx).places.values()) if (place.kind === "file") return;
  ctx.superblock.setFeature(handle, "roCompat", RO_COMPAT_ORPHAN_PRESENT, false);
}

/**
 * Takes notice of an orphan that an earlier mount has left at the head of the list, or in this slot
 * of the file, so that `orphanDel` finds it. Nothing is changed on disk.
 */
export function adoptOrphan(
  ctx: ExtWriter,
  inode: ExtInode,
  slot: { readonly fileBlock: number; readonly at: number } | undefined,
): void {
  const place: OrphanPlace =
    slot === undefined
      ? { kind: "list", previous: 0, next: inode.dtime }
      : { kind: "file", ...slot };
  orphansOf(ctx).places.set(inode.ino, place);
}
