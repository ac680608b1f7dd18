/**
 * Fast commits for a writable open: what they changed is worked out into blocks of inodes, maps,
 * directories and bitmaps, which then are one ordinary transaction.
 *
 *     FastCommitOverlay --> names go, inodes and blocks are freed    --commit-->
 *                       --> inodes, maps and names come              --commit-->  changed blocks
 *                           all of it on a CaptureDevice, nothing is written yet
 *
 *  1. What the records say is already so changes nothing: a replay that was broken off elsewhere
 *     may have come half way.
 *  2. Blocks that records name are theirs: no node or directory block is put there, and they are
 *     in use at the end whoever has freed them.
 *  3. An inode on the list of orphans stays on it.
 *  4. Link counts of directories and block counts are true, where the replay of the kernel leaves
 *     them for e2fsck.
 *
 * After `ext4_fc_replay` in `fs/ext4/fast_commit.c` of Linux, which works on the image itself.
 */
import type { BlockDevice } from "../../block/block-device.ts";
import type { PageCache } from "../../cache/page-cache.ts";
import { le16 } from "../../lib/bytes.ts";
import type { Clock } from "../../lib/clock.ts";
import { FsError } from "../../lib/errno.ts";
import type { Random } from "../../lib/random.ts";
import { testBit } from "./bitmap.ts";
import { groupOfInode } from "./block-goal.ts";
import { CaptureDevice } from "./capture-device.ts";
import { ExtCore } from "./core.ts";
import { dirRead } from "./dir.ts";
import { dirAdd, dirFindName, dirInit, dirRemove, dirReplace } from "./dir-write.ts";
import { freeBlocksFrom } from "./evict.ts";
import { ExtentTree, extentCountMax } from "./extent-tree.ts";
import { convertExtents, countBlocks, noteMapChange } from "./extents-write.ts";
import type { FastCommitOverlay } from "./fast-commit.ts";
import type { DirectoryPatch, PatchedName } from "./fast-commit-directory.ts";
import type { PatchRange } from "./fast-commit-map.ts";
import { primarySuperblockBlock } from "./group.ts";
import type { Handle } from "./handle.ts";
import { ExtInode } from "./inode.ts";
import { freeInode } from "./inode-alloc.ts";
import { checkInodeNumber } from "./inode-table.ts";
import { INDEX_FL, S_IFDIR, S_IFMT } from "./layout.ts";
import { addDirLink } from "./link-count.ts";
import { openTransactions } from "./open-transactions.ts";
import { readOrphans } from "./orphan.ts";
import type { Superblock } from "./superblock.ts";
import { removeBlocks } from "./truncate-blocks.ts";
import { ExtWriter } from "./writer.ts";
import { freeXattrs } from "./xattr-store.ts";

/** What the working out needs beside the image. */
export interface ApplyOptions {
  readonly cache: PageCache;
  readonly clock: Clock;
  readonly random: Random;
  readonly warn: (text: string) => void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The blocks that `fastCommits` change of the file system on `device`, which shows it with its log
 * replayed and `sb` as superblock. Nothing is written.
 *
 * @throws {FsError} `EUCLEAN`/`EBADMSG` for damage, `EOPNOTSUPP` for records about a file without
 *   extents, `ENOSPC` if there is no room for a node or a name, `EIO`
 */
export async function applyFastCommits(
  device: BlockDevice,
  sb: Superblock,
  fastCommits: FastCommitOverlay,
  options: ApplyOptions,
): Promise<ReadonlyMap<number, Uint8Array>> {
  const { cache, clock, random, warn, signal } = options;
  const capture = new CaptureDevice(device, sb.blockBytes, clock);
  const core = new ExtCore(sb, primarySuperblockBlock(sb), capture, cache, warn, false);
  const transactions = openTransactions(core, undefined, clock);
  try {
    const ctx = await ExtWriter.open(core, transactions, { clock, random }, signal);
    await new FastCommitApply(ctx, fastCommits, signal).run();
    return capture.blocks;
  } finally {
    transactions.abandon();
    await core.close();
  }
}

/** What the inode records come to, by what has to be done. */
interface Plan {
  /** In use at home, and nobody's afterwards; or another's before. */
  readonly dying: Set<number>;
  /** In use afterwards. */
  readonly living: Set<number>;
}

class FastCommitApply {
  readonly #ctx: ExtWriter;
  readonly #fast: FastCommitOverlay;
  readonly #signal: AbortSignal | undefined;
  #orphans: ReadonlySet<number> = new Set();
  /** Directories that were made, or in which subdirectories came or went. */
  readonly #recount = new Set<number>();

  constructor(ctx: ExtWriter, fast: FastCommitOverlay, signal: AbortSignal | undefined) {
    this.#ctx = ctx;
    this.#fast = fast;
    this.#signal = signal;
  }

  async run(): Promise<void> {
    const progress = { seen: new Set<number>(), next: this.#ctx.sb.lastOrphan };
    this.#orphans = new Set(await this.#read(() => readOrphans(this.#ctx, progress)));
    const plan = await this.#plan();
    await this.#claimAll(plan);
    for (const [ino, patch] of this.#fast.directories) {
      if (!patch.isNew && (await this.#isUsed(ino))) await this.#removeNames(ino, patch);
    }
    for (const ino of plan.living) if (!plan.dying.has(ino)) await this.#cutMap(ino);
    for (const ino of plan.dying) await this.#evict(ino);
    await this.#ctx.transactions.commit(); // What was freed may be used from here on.
    await this.#claimAll(plan);
    for (const ino of plan.living) await this.#install(ino, plan.dying.has(ino));
    for (const [ino, patch] of this.#fast.directories) {
      if (await this.#isUsed(ino)) await this.#addNames(ino, patch);
    }
    for (const ino of this.#recount) await this.#countLinks(ino);
    await this.#ctx.transactions.commit();
  }

  async #read<T>(read: () => T): Promise<T> {
    return await this.#ctx.metadata.run(read, this.#signal);
  }

  async #change<T>(operation: (handle: Handle) => T): Promise<T> {
    return await this.#ctx.transactions.run(operation, this.#signal);
  }

  #isUsed(ino: number): Promise<boolean> {
    const { sb, groups } = this.#ctx;
    const group = groupOfInode(sb, ino);
    return this.#read(() => testBit(groups.bitmap("inodes", group), (ino - 1) % sb.inodesPerGroup));
  }

  /** The slot of `ino` as the records leave it, over `home`. */
  #slotOf(ino: number, home: Uint8Array): ExtInode {
    const { sb } = this.#ctx;
    return new ExtInode(ino, this.#fast.inodeSlot(ino, () => home).slice(), sb);
  }

  async #plan(): Promise<Plan> {
    const ctx = this.#ctx;
    const plan: Plan = { dying: new Set(), living: new Set() };
    for (const ino of new Set([...this.#fast.inos, ...this.#fast.directories.keys()])) {
      checkInodeNumber(ctx.sb, ino);
      const { isNew, hasRecord, hasLostName } = this.#fast.fateOf(ino);
      const isUsed = await this.#isUsed(ino);
      const isFresh = isNew || !isUsed;
      if (isFresh && !hasRecord) continue; // A name came or went of what is not there.
      const home = isFresh ? undefined : await this.#read(() => ctx.inode(ino));
      const inode = this.#slotOf(ino, home?.raw ?? new Uint8Array(ctx.sb.inodeBytes));
      const isRemovedDir = home?.type === "directory" && hasLostName;
      const isAlive = inode.linksCount > 0 && !isRemovedDir;
      const isKept = this.#orphans.has(ino) && !isNew;
      if (isUsed && (isNew || !isAlive) && !isKept) plan.dying.add(ino);
      if (isAlive || (isKept && isUsed)) plan.living.add(ino);
    }
    return plan;
  }

  /** Invariant 2. */
  async #claimAll({ living }: Plan): Promise<void> {
    const { sb, blocks, groups } = this.#ctx;
    for (const ino of living) {
      for (const { physical, first, end } of this.#fast.mapOf(ino)?.ranges ?? []) {
        if (physical === 0) continue;
        for (let at = physical; at < physical + end - first; ) {
          const group = groups.groupOfBlock(at);
          const groupEnd = sb.firstBlockOf(group) + groups.blocksIn(group);
          const count = Math.min(physical + end - first, groupEnd) - at;
          const from = at;
          await this.#change((handle) => blocks.claim(handle, from, count));
          at += count;
        }
      }
    }
  }

  async #removeNames(ino: number, patch: DirectoryPatch): Promise<void> {
    const ctx = this.#ctx;
    for (const { name, ino: target } of patch.names) {
      if (target !== 0) continue;
      await this.#change((handle) => {
        const dir = ctx.inode(ino);
        const slot = dirFindName(ctx, dir, name);
        if (slot === undefined) return;
        if (ctx.inode(slot.walk.ino).type === "directory") this.#recount.add(ino);
        dirRemove(ctx, handle, dir, name);
        touch(ctx, handle, dir);
      });
    }
  }

  /** Frees the blocks at home that are not the file's any more. */
  async #cutMap(ino: number): Promise<void> {
    const ctx = this.#ctx;
    if (!(await this.#isUsed(ino))) return;
    const inode = await this.#read(() => ctx.inode(ino));
    if (inode.isInline) return;
    for (const { first, end, physical } of this.#fast.mapOf(ino)?.ranges ?? []) {
      if (physical === 0) await this.#free(inode, first, end);
      for (let at = physical === 0 ? end : first; at < end; ) {
        const from = at;
        const run = await this.#read(() => ctx.mapBlocks(inode, from, end - from));
        const isSame = run.physical === physical + from - first;
        if (run.physical !== 0 && !isSame) await this.#free(inode, from, from + run.count);
        at += run.count;
      }
    }
  }

  async #free(inode: ExtInode, from: number, end: number): Promise<void> {
    let isDone = false;
    while (!isDone) {
      isDone = await this.#change((handle) => removeBlocks(this.#ctx, handle, inode, from, end));
    }
  }

  async #evict(ino: number): Promise<void> {
    const ctx = this.#ctx;
    const inode = await this.#read(() => ctx.inode(ino));
    await freeBlocksFrom(ctx, inode, 0, this.#signal);
    await this.#change((handle) => {
      freeXattrs(ctx, handle, inode);
      freeInode(ctx, handle, inode);
    });
  }

  /** Makes inode `ino` what the records say; `isReborn` if its number was another's. */
  async #install(ino: number, isReborn: boolean): Promise<void> {
    const ctx = this.#ctx;
    const fate = this.#fast.fateOf(ino);
    const isFresh = isReborn || !(await this.#isUsed(ino));
    const inode = await this.#change((handle) => {
      const home = isFresh ? undefined : ctx.inode(ino);
      const made = this.#slotOf(ino, home?.raw ?? new Uint8Array(ctx.sb.inodeBytes));
      if (home !== undefined) {
        made.sectorCount = home.sectorCount;
        if (this.#orphans.has(ino)) made.dtime = home.dtime; // Invariant 3.
      }
      this.#adopt(handle, home, made, isFresh);
      if (fate.isNewDirectory && isFresh) {
        made.flags = (made.flags & ~INDEX_FL) >>> 0;
        made.size = 0;
        made.diskSize = 0;
        dirInit(ctx, handle, made, this.#fast.directoryOf(ino)?.parent ?? 0);
      }
      if (made.type === "directory" && isFresh) this.#recount.add(ino);
      return made;
    });
    if (inode.type === "directory" || inode.isInline) return;
    for (const range of this.#fast.mapOf(ino)?.ranges ?? []) await this.#map(inode, range);
  }

  /** Puts `made` in the place of `home`, in the cache and in the table. */
  #adopt(handle: Handle, home: ExtInode | undefined, made: ExtInode, isFresh: boolean): void {
    const ctx = this.#ctx;
    const { sb } = ctx;
    if (isFresh) {
      made.sectorCount = 0;
      const group = groupOfInode(sb, made.ino);
      const isDirectory = (le16(made.raw, 0) & S_IFMT) === S_IFDIR;
      ctx.inodeBits.claim(handle, group, (made.ino - 1) % sb.inodesPerGroup, isDirectory);
    }
    const known = home ?? ctx.core.inodes.get(made.ino);
    if (known !== undefined) ctx.core.inodes.delete(known);
    ctx.core.inodes.add(made);
    handle.undo(() => {
      ctx.core.inodes.delete(made);
      if (known !== undefined) ctx.core.inodes.add(known);
    });
    ctx.editInode(handle, made);
  }

  /** Maps the blocks of `range` as it says. */
  async #map(inode: ExtInode, { first, end, physical, isUnwritten }: PatchRange): Promise<void> {
    const ctx = this.#ctx;
    if (physical === 0) return;
    for (let at = first; at < end; ) {
      const from = at;
      const start = physical + from - first;
      at += await this.#change((handle) => {
        const run = ctx.mapBlocks(inode, from, end - from);
        if (run.physical !== 0 && run.isUnwritten === isUnwritten) return run.count;
        if (!inode.hasExtents) throw noExtents(inode.ino);
        if (run.physical !== 0) {
          return convertExtents(ctx, handle, inode, from, run.count, isUnwritten);
        }
        const count = Math.min(run.count, extentCountMax(isUnwritten));
        noteMapChange(ctx, handle, inode);
        countBlocks(ctx, inode, count);
        const tree = new ExtentTree(ctx, handle, inode, true);
        tree.insert({ key: from, count, start, isUnwritten });
        return count;
      });
    }
  }

  async #addNames(ino: number, patch: DirectoryPatch): Promise<void> {
    for (const name of patch.names) {
      if (name.ino !== 0 && (await this.#isUsed(name.ino))) await this.#addName(ino, name);
    }
  }

  async #addName(ino: number, { name, ino: target }: PatchedName): Promise<void> {
    const ctx = this.#ctx;
    await this.#change((handle) => {
      const dir = ctx.inode(ino);
      const { type } = ctx.inode(target);
      const slot = dirFindName(ctx, dir, name);
      if (type === "directory") this.#recount.add(ino);
      if (slot?.walk.ino === target) return;
      if (slot === undefined) dirAdd(ctx, handle, dir, name, target, type, true);
      else dirReplace(ctx, handle, dir, name, target, type);
      touch(ctx, handle, dir);
    });
  }

  /** Counts the subdirectories of directory `ino`, unless it has more than can be counted. */
  async #countLinks(ino: number): Promise<void> {
    const ctx = this.#ctx;
    let count = 0;
    for (let cookie = 0; cookie !== -1; ) {
      const at = cookie;
      const batch = await this.#read(() => dirRead(ctx, ctx.inode(ino), at));
      for (const { ino: child, type } of batch.entries) {
        const found = type === "unknown" ? await this.#read(() => ctx.inode(child).type) : type;
        if (found === "directory") count++; // Two of them are its dots.
      }
      cookie = batch.nextCookie;
    }
    await this.#change((handle) => {
      const dir = ctx.inode(ino);
      if (dir.linksCount === count || (dir.linksCount === 1 && dir.isHashedDir)) return;
      ctx.editInode(handle, dir);
      dir.linksCount = Math.max(1, count - 1);
      addDirLink(ctx, dir);
    });
  }
}

function touch(ctx: ExtWriter, handle: Handle, dir: ExtInode): void {
  ctx.editInode(handle, dir);
  const now = ctx.now();
  dir.setTime("mtime", now);
  dir.setTime("ctime", now);
}

function noExtents(ino: number): FsError {
  const detail = `fast commit of inode ${ino}: it has no extents, let e2fsck recover it`;
  return new FsError("EOPNOTSUPP", { detail });
}
