import { describe, expect, test } from "vitest";
import { makeImage } from "../../../test/support/ext-images.ts";
import { bytesOfDump, EXTENT_BLOCK_K, SEED } from "../../../test/support/ext-vectors.ts";
import { type OpenWriter, openWriter } from "../../../test/support/ext-writer.ts";
import { requireTool, scratchDirectory } from "../../../test/support/tools.ts";
import { le16 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { Random } from "../../lib/random.ts";
import { MIB, SECTOR_BYTES } from "../../lib/units.ts";
import { inodeSeed } from "./checksum.ts";
import { extentAt, putExtent, sealExtentBlock } from "./extent-tree.ts";
import { entryCount, extentPath } from "./extents.ts";
import { convertExtents, extMapForWrite, removeExtents, shiftExtents } from "./extents-write.ts";
import type { Handle } from "./handle.ts";
import type { ExtInode } from "./inode.ts";
import { allocInode } from "./inode-alloc.ts";
import { EH, EXT_ROOT_INO, S_IFREG } from "./layout.ts";

const hasMke2fs = requireTool("mke2fs");
const scratch = scratchDirectory("extents-write");

/** What a block of the file is mapped to: its block on the device, negative if it is unwritten. */
type Model = Map<number, number>;

async function newFile(open: OpenWriter): Promise<ExtInode> {
  return open.run((handle) => {
    const root = open.core.inode(EXT_ROOT_INO);
    return allocInode(open.writer, handle, root, { mode: S_IFREG | 0o644, uid: 0, gid: 0 });
  });
}

/** The map of the file by the read decoder. */
async function mapOf(open: OpenWriter, inode: ExtInode, blockCount: number): Promise<Model> {
  return open.core.metadata.run(() => {
    const model: Model = new Map();
    for (let at = 0; at < blockCount; ) {
      const run = open.core.mapBlocks(inode, at, blockCount - at);
      for (let step = 0; step < run.count && run.physical !== 0; step++) {
        model.set(at + step, (run.physical + step) * (run.isUnwritten ? -1 : 1));
      }
      at += run.count;
    }
    return model;
  });
}

/** Number of nodes of the tree that are blocks. */
async function nodeCount(open: OpenWriter, inode: ExtInode, blockCount: number): Promise<number> {
  return open.core.metadata.run(() => {
    const nodes = new Set<number>();
    for (let at = 0; at < blockCount; at++) {
      for (const level of extentPath(open.writer, inode, at)) nodes.add(level.blocknr);
    }
    return nodes.size - 1;
  });
}

async function untilDone(step: () => Promise<boolean>): Promise<void> {
  while (!(await step()));
}

function sorted(model: Model): [number, number][] {
  return [...model].sort((a, b) => a[0] - b[0]);
}

describe.skipIf(!hasMke2fs)("writing extent trees", () => {
  const image = (): string =>
    makeImage(scratch, "plain", ["-t", "ext4", "-b", "1024", "-O", "^has_journal"], {
      sizeText: "24M",
    });

  test("a file that grows at its end is one extent", async () => {
    const open = await openWriter(image());
    const inode = await newFile(open);
    for (let at = 0; at < 2000; at += 100) {
      await open.run((handle) => extMapForWrite(open.writer, handle, inode, at, 100));
    }
    expect(entryCount(inode.iBlock)).toBe(1);
    expect(inode.sectorCount).toBe(4000);
    await open.close();
  });

  test("the node and checksum are those of the kernel's own file", async () => {
    const open = await openWriter(image());
    const inode = await newFile(open);
    const stored = bytesOfDump(EXTENT_BLOCK_K, 4096);
    const node = new Uint8Array(4096);
    node.set(stored.subarray(0, 12));
    for (let index = 0; index < entryCount(stored); index++) {
      putExtent(node, index, extentAt(stored, index));
    }
    sealExtentBlock(inodeSeed(SEED, 1819, 0xe07c_678d), node);
    expect(node).toEqual(stored);
    expect(inode.sectorCount).toBe(0);
    await open.close();
  });

  test("an operation that fails leaves the tree, the counts and the bitmaps as they were", async () => {
    const open = await openWriter(image());
    const random = new Random(11);
    const inode = await newFile(open);
    const { writer } = open;
    const abort = new FsError("EINTR");
    for (let round = 0; round < 300; round++) {
      const at = random.below(2000);
      const count = 1 + random.below(20);
      const before = await mapOf(open, inode, 3000);
      const { sectorCount, syncTid } = inode;
      const free = writer.groups.totals.freeBlockCount;
      const change = (handle: Handle): void => {
        if (round % 3 === 0) removeExtents(writer, handle, inode, at, at + 10 * count);
        else extMapForWrite(writer, handle, inode, at, count, { isUnwritten: round % 2 === 0 });
        convertExtents(writer, handle, inode, at, count, round % 5 === 0);
      };
      const failing = open.run((handle) => {
        change(handle);
        throw abort;
      });
      await expect(failing).rejects.toBe(abort);
      expect(sorted(await mapOf(open, inode, 3000))).toEqual(sorted(before));
      expect(inode).toMatchObject({ sectorCount, syncTid });
      expect(writer.groups.totals.freeBlockCount).toBe(free);
      await open.run(change);
    }
    await open.close();
  });

  test("extents that come in order fill their leaves", async () => {
    const open = await openWriter(image());
    const inode = await newFile(open);
    const { writer } = open;
    const perLeaf = 84;
    for (let at = 0; at < 8 * perLeaf; at++) {
      const isUnwritten = at % 2 === 0; // So that no two of them merge.
      await open.run((handle) => extMapForWrite(writer, handle, inode, at, 1, { isUnwritten }));
    }
    expect(le16(inode.iBlock, EH.eh_depth)).toBe(2);
    expect(await nodeCount(open, inode, 8 * perLeaf)).toBe(8 + 1);
    await open.close();
  });

  test("unwritten blocks that are written one by one in order stay two extents", async () => {
    const open = await openWriter(image());
    const inode = await newFile(open);
    await open.run((handle) =>
      extMapForWrite(open.writer, handle, inode, 0, 50, { isUnwritten: true }),
    );
    for (let at = 0; at < 50; at++) {
      await open.run((handle) => convertExtents(open.writer, handle, inode, at, 1));
      expect(entryCount(inode.iBlock)).toBe(at === 49 ? 1 : 2);
    }
    expect(le16(inode.iBlock, EH.eh_depth)).toBe(0);
    await open.close();
  });

  test.each([1, 2, 3, 4, 5, 6])(
    "random changes leave what a map of blocks says, seed %i",
    async (seed) => {
      const arenaBytes = (seed % 2 === 0 ? 4 : 16) * MIB;
      const open = await openWriter(image(), { arenaBytes });
      const random = new Random(seed);
      const inode = await newFile(open);
      const { writer } = open;
      const before = writer.groups.totals.freeBlockCount;
      const span = 3000;
      let model: Model = new Map();
      for (let round = 0; round < 500; round++) {
        const at = random.below(span);
        const count = 1 + random.below(random.chance(0.2) ? 60 : 3);
        const end = Math.min(span, at + count);
        const what = random.below(10);
        if (what < 6) {
          const isUnwritten = random.chance(0.5);
          const run = await open.run((handle) =>
            extMapForWrite(writer, handle, inode, at, end - at, { isUnwritten }),
          );
          for (let step = 0; step < run.count; step++) {
            const physical = (run.physical + step) * (run.isUnwritten ? -1 : 1);
            expect(model.has(at + step)).toBe(!run.isNew);
            if (run.isNew) model.set(at + step, physical);
            else expect(model.get(at + step)).toBe(physical);
          }
        } else if (what < 8) {
          const toUnwritten = random.chance(0.3);
          for (let done = at; done < end; ) {
            done += await open.run((handle) =>
              convertExtents(writer, handle, inode, done, end - done, toUnwritten),
            );
          }
          for (let block = at; block < end; block++) {
            const physical = model.get(block);
            if (physical !== undefined)
              model.set(block, Math.abs(physical) * (toUnwritten ? -1 : 1));
          }
        } else if (what < 9) {
          await untilDone(() =>
            open.run((handle) => removeExtents(writer, handle, inode, at, end)),
          );
          for (let block = at; block < end; block++) model.delete(block);
        } else {
          const isDown = random.chance(0.5);
          const delta = isDown ? at - end : end - at;
          if (isDown) {
            await untilDone(() =>
              open.run((handle) => removeExtents(writer, handle, inode, at, end)),
            );
            for (let block = at; block < end; block++) model.delete(block);
          }
          const from = isDown ? end : at;
          for (let next = -1, isFirst = true; isFirst || next >= 0; isFirst = false) {
            next = await open.run((handle) =>
              shiftExtents(writer, handle, inode, from, delta, next),
            );
          }
          model = new Map([...model].map(([key, at]) => [key >= from ? key + delta : key, at]));
        }
        if (round % 20 === 0) {
          const found = await mapOf(open, inode, span + 3000);
          expect(sorted(found), `seed ${seed}, round ${round}`).toEqual(sorted(model));
          if (random.chance(0.3)) await open.commit();
        }
      }
      const nodes = await nodeCount(open, inode, span + 3000);
      const sectors = ((model.size + nodes) * writer.sb.blockBytes) / SECTOR_BYTES;
      expect(inode.sectorCount).toBe(sectors);
      expect(nodes).toBeGreaterThan(2);
      await untilDone(() => open.run((handle) => removeExtents(writer, handle, inode, 0)));
      expect(inode.sectorCount).toBe(0);
      expect(le16(inode.iBlock, EH.eh_depth)).toBe(0);
      expect(writer.groups.totals.freeBlockCount).toBe(before);
      await open.close();
    },
  );
});
