/**
 * What earlier mounts have left unfinished: inodes without a name that were in use, and inodes that
 * were being cut. On a volume that was just opened for writing they are brought to an end.
 *
 *     list, then file    no links -> evicted    links -> cut to its size    entry taken out
 *
 *  1. Each is taken out in the operation that ends it, so a crash meanwhile only means to go on.
 *  2. Damage ends the processing of the list, which is cleared, or of one block of the file: with a
 *     warning, and a note in the superblock that the volume is to be checked.
 *
 * After `ext4_orphan_cleanup` of Linux.
 */
import { le16, le32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { blocksOfBytes } from "../../lib/units.ts";
import { testBit } from "./bitmap.ts";
import { groupOfInode } from "./block-goal.ts";
import { evictInode, freeBlocksFrom } from "./evict.ts";
import { COMPAT_ORPHAN_FILE } from "./features.ts";
import { SB } from "./layout.ts";
import { INO_BYTES, ORPHAN_TAIL_BYTES, orphanBlock, orphanBlockCount } from "./orphan.ts";
import { adoptOrphan, orphanDel } from "./orphan-write.ts";
import { patchError, STATE_ERROR } from "./superblock-write.ts";
import type { ExtWriter } from "./writer.ts";

const DAMAGE_CODES: ReadonlySet<string> = new Set(["EUCLEAN", "EBADMSG", "ESTALE"]);
/** `EXT4_ERR_EFSCORRUPTED`. */
const ERROR_CORRUPTED = 5;

/** What `processOrphans` has done. */
export interface OrphanCleanup {
  readonly deletedCount: number;
  readonly truncatedCount: number;
}

/** A slot of the orphan file that is in use. */
interface Slot {
  readonly ino: number;
  readonly fileBlock: number;
  readonly at: number;
}

/**
 * Finishes what earlier mounts have left: to be called once, on a volume that is open for writing,
 * before anybody else works on it (`ext4_orphan_cleanup`). Where the volume has known errors the
 * list is only cleared.
 *
 * @throws {FsError} `EIO`, `EROFS`; `EUCLEAN` for an orphan file of an impossible size: other
 *   damage is a warning
 */
export async function processOrphans(ctx: ExtWriter, signal?: AbortSignal): Promise<OrphanCleanup> {
  const cleanup = new Cleanup(ctx, signal);
  if ((le16(ctx.sb.raw, SB.s_state) & STATE_ERROR) !== 0) {
    if (ctx.sb.lastOrphan !== 0) {
      ctx.warn("the volume has errors: its orphans are not deleted, the list is cleared");
      await cleanup.clearList();
    }
    return cleanup;
  }
  await cleanup.processList();
  if (ctx.sb.hasCompat(COMPAT_ORPHAN_FILE)) await cleanup.processFile();
  return cleanup;
}

class Cleanup implements OrphanCleanup {
  deletedCount = 0;
  truncatedCount = 0;
  readonly #ctx: ExtWriter;
  readonly #signal: AbortSignal | undefined;
  readonly #seen = new Set<number>();

  constructor(ctx: ExtWriter, signal: AbortSignal | undefined) {
    this.#ctx = ctx;
    this.#signal = signal;
  }

  async clearList(): Promise<void> {
    const { transactions, superblock } = this.#ctx;
    await transactions.run((handle) => superblock.setLastOrphan(handle, 0), this.#signal);
  }

  async processList(): Promise<void> {
    const { sb } = this.#ctx;
    while (sb.lastOrphan !== 0) {
      const ino = sb.lastOrphan;
      try {
        await this.#process(ino, undefined);
      } catch (thrown) {
        await this.#judge(thrown, "the list of orphans", ino);
        await this.clearList();
      }
    }
  }

  async processFile(): Promise<void> {
    const ctx = this.#ctx;
    const blockCount = await ctx.metadata.run(
      () => orphanBlockCount(ctx, ctx.inode(ctx.sb.orphanFileIno)),
      this.#signal,
    );
    for (let fileBlock = 0; fileBlock < blockCount; fileBlock++) {
      try {
        for (const slot of await this.#slotsOf(fileBlock, blockCount)) {
          await this.#process(slot.ino, slot);
        }
      } catch (thrown) {
        await this.#judge(thrown, `block ${fileBlock} of the orphan file`, ctx.sb.orphanFileIno);
      }
    }
  }

  /** Lets errors pass that are not damage; damage is noted in the volume, and told the user. */
  async #judge(thrown: unknown, where: string, ino: number): Promise<void> {
    const isDamage = thrown instanceof FsError && DAMAGE_CODES.has(thrown.code);
    if (!isDamage) throw thrown;
    const ctx = this.#ctx;
    ctx.warn(`${where} is damaged, and not processed further: ${thrown.message}`);
    const record = { code: ERROR_CORRUPTED, ino, block: 0, where: "orphan_cleanup" };
    await ctx.transactions.run((handle) => {
      patchError(ctx.superblock.edit(handle), record, ctx.now());
    }, this.#signal);
  }

  async #slotsOf(fileBlock: number, blockCount: number): Promise<readonly Slot[]> {
    const ctx = this.#ctx;
    return ctx.metadata.run(() => {
      const file = ctx.inode(ctx.sb.orphanFileIno);
      const { data } = orphanBlock(ctx, file, fileBlock, blockCount);
      const slots: Slot[] = [];
      for (let at = 0; at + INO_BYTES <= data.length - ORPHAN_TAIL_BYTES; at += INO_BYTES) {
        const ino = le32(data, at);
        if (ino !== 0) slots.push({ ino, fileBlock, at });
      }
      return slots;
    }, this.#signal);
  }

  async #process(ino: number, slot: Slot | undefined): Promise<void> {
    const ctx = this.#ctx;
    const isGood = ino >= ctx.sb.firstIno && ino <= ctx.sb.inodeCount && !this.#seen.has(ino);
    if (!isGood) throw new FsError("EUCLEAN", { detail: `inode ${ino} cannot be an orphan` });
    this.#seen.add(ino);
    const inode = await ctx.metadata.run(() => {
      // What a free inode says about its blocks is not true any more.
      if (!isInUse(ctx, ino)) throw new FsError("EUCLEAN", { detail: `inode ${ino} is free` });
      return ctx.inode(ino);
    }, this.#signal);
    adoptOrphan(ctx, inode, slot);
    if (inode.linksCount === 0) {
      await evictInode(ctx, inode, this.#signal);
      this.deletedCount++;
      return;
    }
    await freeBlocksFrom(ctx, inode, blocksOfBytes(inode.size, ctx.sb.blockBytes), this.#signal);
    await ctx.transactions.run((handle) => orphanDel(ctx, handle, inode), this.#signal);
    this.truncatedCount++;
  }
}

/** True if the bitmap says that inode `ino` is in use. Restartable. */
function isInUse(ctx: ExtWriter, ino: number): boolean {
  const group = groupOfInode(ctx.sb, ino);
  return testBit(ctx.groups.bitmap("inodes", group), (ino - 1) % ctx.sb.inodesPerGroup);
}
