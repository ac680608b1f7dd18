import { describe, expect, test } from "vitest";
import { makeImage } from "../../../test/support/ext-images.ts";
import { type OpenWriter, openWriter } from "../../../test/support/ext-writer.ts";
import { requireTool, scratchDirectory } from "../../../test/support/tools.ts";
import { FsError } from "../../lib/errno.ts";
import { Random } from "../../lib/random.ts";
import { MIB } from "../../lib/units.ts";
import { testBit } from "./bitmap.ts";
import type { BlockRun } from "./block-alloc.ts";
import { entryCount } from "./extents.ts";
import { allocInode } from "./inode-alloc.ts";
import { BG_BLOCK_UNINIT, EH, EXT_ROOT_INO, S_IFREG } from "./layout.ts";
import { mapForWrite } from "./truncate-blocks.ts";

const hasMke2fs = requireTool("mke2fs");
const scratch = scratchDirectory("block-alloc");

const small = (): string =>
  makeImage(scratch, "small", ["-t", "ext4", "-b", "1024", "-O", "^has_journal"], {
    sizeText: "32M",
  });

/** The blocks that the bitmaps say are free. */
async function freeBlocks(open: OpenWriter): Promise<Set<number>> {
  const { groups, sb } = open.writer;
  const free = new Set<number>();
  for (let group = 0; group < sb.groupCount; group++) {
    await open.core.metadata.run(() => {
      const words = groups.bitmap("blocks", group);
      for (let bit = 0; bit < groups.blocksIn(group); bit++) {
        if (!testBit(words, bit)) free.add(sb.firstBlockOf(group) + bit);
      }
    });
  }
  return free;
}

const blocksOf = ({ first, count }: BlockRun): number[] =>
  Array.from({ length: count }, (_, at) => first + at);

describe.skipIf(!hasMke2fs)("handing out blocks", () => {
  test("the goal is taken where it is free, else the next run that is long enough", async () => {
    const open = await openWriter(small());
    const { blocks } = open.writer;
    const goal = 20_000;
    const take = (count: number, at = goal): Promise<BlockRun> =>
      open.run((handle) => blocks.allocate(handle, { goal: at, count }));
    expect(await take(10)).toEqual({ first: goal, count: 10 });
    expect(await take(10, goal + 20)).toEqual({ first: goal + 20, count: 10 });
    expect(await take(15, goal + 10)).toEqual({ first: goal + 30, count: 15 });
    expect(await take(10, goal + 10)).toEqual({ first: goal + 10, count: 10 });
    await open.close();
  });

  test("a run that continues is taken as far as it goes; a tight one fills the smallest gap", async () => {
    const open = await openWriter(small());
    const { blocks } = open.writer;
    const goal = 20_000;
    await open.run((handle) => blocks.allocate(handle, { goal: goal + 4, count: 10 }));
    await open.run((handle) => blocks.allocate(handle, { goal: goal + 16, count: 10 }));
    const tight = await open.run((handle) =>
      blocks.allocate(handle, { goal, count: 1, isTight: true }),
    );
    expect(tight).toEqual({ first: goal + 14, count: 1 });
    const next = await open.run((handle) =>
      blocks.allocate(handle, { goal, count: 10, isContinuation: true }),
    );
    expect(next).toEqual({ first: goal, count: 4 });
    await open.close();
  });

  test("freed blocks are handed out after the commit, not before", async () => {
    const open = await openWriter(small());
    const { blocks, groups } = open.writer;
    const free = groups.totals.freeBlockCount;
    const run = await open.run((handle) => blocks.allocate(handle, { goal: 20_000, count: 50 }));
    await open.commit();
    await open.run((handle) => blocks.free(handle, run.first, run.count, { isMetadata: false }));
    expect(blocks.pendingCount).toBe(50);
    expect(groups.totals.freeBlockCount).toBe(free);
    const other = await open.run((handle) => blocks.allocate(handle, { goal: 20_010, count: 5 }));
    expect(other.first).toBe(run.first + run.count);
    await open.commit();
    expect(blocks.pendingCount).toBe(0);
    const again = await open.run((handle) => blocks.allocate(handle, { goal: 20_010, count: 5 }));
    expect(again.first).toBe(20_010);
    await open.close();
  });

  test("what an operation took that fails is the next one's", async () => {
    const open = await openWriter(small());
    const { blocks } = open.writer;
    const request = { goal: 0, count: 50 };
    const taken: BlockRun[] = [];
    const failing = open.run((handle) => {
      taken.push(blocks.allocate(handle, request), blocks.allocate(handle, request));
      throw new FsError("EINTR");
    });
    await expect(failing).rejects.toMatchObject({ code: "EINTR" });
    const first = taken[taken.length - 2]!;
    expect(await open.run((handle) => blocks.allocate(handle, request))).toEqual(first);
    await open.close();
  });

  test("blocks freed twice, and blocks outside, are EUCLEAN and change nothing", async () => {
    const open = await openWriter(small());
    const { blocks, groups } = open.writer;
    const before = groups.totals.freeBlockCount;
    const free = (first: number, count: number): Promise<void> =>
      open.run((handle) => blocks.free(handle, first, count, { isMetadata: true }));
    await expect(free(20_000, 3)).rejects.toMatchObject({ code: "EUCLEAN" });
    await expect(free(1, 1)).rejects.toMatchObject({ code: "EUCLEAN" });
    await expect(free(32_760, 10)).rejects.toMatchObject({ code: "EUCLEAN" });
    expect(groups.totals.freeBlockCount).toBe(before);
    expect(blocks.pendingCount).toBe(0);
    await open.close();
  });

  test("what is reserved is there for whom it was promised, and for nobody else", async () => {
    const open = await openWriter(small());
    const { blocks, sb } = open.writer;
    const forRoot = blocks.availableCount(true);
    const forUsers = blocks.availableCount(false);
    expect(forRoot - forUsers).toBe(sb.reservedBlockCount);
    expect(blocks.reserve(forUsers + 1, false)).toBe(false);
    expect(blocks.reserve(forUsers, false)).toBe(true);
    const take = (isReserved: boolean, count = 100): Promise<BlockRun> =>
      open.run((handle) =>
        blocks.allocate(handle, { goal: 0, count, isReserved, isPrivileged: false }),
      );
    await expect(take(false)).rejects.toMatchObject({ code: "ENOSPC" });
    for (let left = forUsers; left > 0; ) left -= (await take(true, Math.min(left, 100))).count;
    expect(blocks.reservedCount).toBe(0);
    await open.close();
  });

  test("structure of what was promised may use what is kept", async () => {
    const open = await openWriter(small());
    const { blocks, groups } = open.writer;
    const take = (request: object): Promise<BlockRun> =>
      open.run((handle) => blocks.allocate(handle, { goal: 0, count: 1000, ...request }));
    for (;;) {
      try {
        await take({ isPrivileged: true });
      } catch (thrown) {
        expect(thrown).toMatchObject({ code: "ENOSPC" });
        break;
      }
    }
    expect(groups.totals.freeBlockCount).toBe(blocks.poolCount);
    for (let left = blocks.poolCount; left > 0; ) left -= (await take({ isStructure: true })).count;
    await expect(take({ isStructure: true })).rejects.toMatchObject({ code: "ENOSPC" });
    expect(await freeBlocks(open)).toEqual(new Set());
    await open.close();
  });

  test.each([1, 2, 3])(
    "random requests never meet, undone ones leave nothing, seed %i",
    async (seed) => {
      const open = await openWriter(small());
      const random = new Random(seed);
      const { blocks, groups, sb } = open.writer;
      const free = await freeBlocks(open);
      const pending = new Set<number>();
      const held: BlockRun[] = [];
      const isFree = (block: number): boolean => free.has(block) && !pending.has(block);
      for (let round = 0; round < 700; round++) {
        const isUndone = random.chance(0.2);
        if (random.chance(0.55) || held.length === 0) {
          const count = 1 + random.below(random.chance(0.1) ? 3000 : 40);
          const request = { goal: random.below(sb.blockCount), count, isPrivileged: true };
          const taking = open.run((handle) => {
            const run = blocks.allocate(handle, request);
            if (isUndone) throw new FsError("EINTR", { detail: JSON.stringify(run) });
            return run;
          });
          const run = await taking.catch((thrown: { code: string }) => {
            expect(["EINTR", "ENOSPC"]).toContain(thrown.code);
          });
          if (run === undefined) continue;
          expect(blocksOf(run).every(isFree), `seed ${seed}, round ${round}`).toBe(true);
          for (const block of blocksOf(run)) free.delete(block);
          held.push(run);
        } else {
          const run = held.splice(random.below(held.length), 1)[0]!;
          const freeing = open.run((handle) => {
            blocks.free(handle, run.first, run.count, { isMetadata: random.chance(0.5) });
            if (isUndone) throw new FsError("EINTR");
          });
          if (isUndone) {
            await expect(freeing).rejects.toMatchObject({ code: "EINTR" });
            held.push(run);
            continue;
          }
          await freeing;
          for (const block of blocksOf(run)) {
            free.add(block);
            pending.add(block);
          }
        }
        expect(groups.totals.freeBlockCount).toBe(free.size);
        if (random.chance(0.05)) {
          await open.commit();
          pending.clear();
        }
        if (blocks.pendingCount === 0) pending.clear(); // The transactions commit by themselves.
      }
      await open.commit();
      expect(await freeBlocks(open)).toEqual(free);
      await open.close();
    },
  );

  test("groups without a bitmap get one when they are used", async () => {
    const open = await openWriter(small());
    const { blocks, groups, sb } = open.writer;
    const group = [...groups.flags.keys()].find(
      (at) => (groups.flags[at]! & BG_BLOCK_UNINIT) !== 0,
    )!;
    const goal = sb.firstBlockOf(group) + 5000;
    const free = groups.freeBlocks[group]!;
    await open.run((handle) => blocks.allocate(handle, { goal, count: 3 }));
    expect(groups.flags[group]! & BG_BLOCK_UNINIT).toBe(0);
    expect(groups.freeBlocks[group]).toBe(free - 3);
    await open.close();
  });

  test("a damaged bitmap is left out and told of", async () => {
    const first = await openWriter(small());
    const { blockBitmap } = first.writer.groups.descriptor(0);
    await first.close();
    first.bytes[blockBitmap * 1024 + 900]! ^= 1;
    const open = await openWriter(first.bytes);
    const run = await open.run((handle) =>
      open.writer.blocks.allocate(handle, { goal: 5000, count: 3 }),
    );
    expect(open.writer.groups.groupOfBlock(run.first)).toBe(1);
    expect(open.warnings.join()).toMatch(/EBADMSG.*block bitmap of group 0/);
    await open.close();
  });
});

describe.skipIf(!hasMke2fs)("a file of 200 MiB", () => {
  test.each([
    ["ext4", ["-t", "ext4", "-b", "4096"]],
    ["without flex groups", ["-t", "ext4", "-b", "4096", "-O", "^flex_bg"]],
  ])("%s: written in pieces of 8 MiB it has at most 4 extents", async (_name, args) => {
    const image = makeImage(scratch, "large", args as string[], { sizeText: "300M" });
    const open = await openWriter(image);
    const inode = await open.run((handle) => {
      const root = open.core.inode(EXT_ROOT_INO);
      const request = { mode: S_IFREG | 0o644, uid: 0, gid: 0 };
      return allocInode(open.writer, handle, root, request);
    });
    const end = (200 * MIB) / 4096;
    for (let at = 0; at < end; ) {
      const count = Math.min(2048, end - at);
      const run = await open.run((handle) => mapForWrite(open.writer, handle, inode, at, count));
      at += run.count;
    }
    expect(inode.iBlock[EH.eh_depth]).toBe(0);
    expect(entryCount(inode.iBlock)).toBeLessThanOrEqual(4);
    await open.close();
  });
});
