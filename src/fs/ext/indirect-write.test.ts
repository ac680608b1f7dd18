import { describe, expect, test } from "vitest";
import { makeImage } from "../../../test/support/ext-images.ts";
import { type OpenWriter, openWriter } from "../../../test/support/ext-writer.ts";
import { requireTool, scratchDirectory } from "../../../test/support/tools.ts";
import { le32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { Random } from "../../lib/random.ts";
import { MIB, SECTOR_BYTES } from "../../lib/units.ts";
import { indMapForWrite, pointerBlocksFor, removeIndirect } from "./indirect-write.ts";
import type { ExtInode } from "./inode.ts";
import { allocInode } from "./inode-alloc.ts";
import { EXT_ROOT_INO, S_IFREG } from "./layout.ts";

const hasMke2fs = requireTool("mke2fs");
const scratch = scratchDirectory("indirect-write");
/** Places in the direct pointers and in each of the three trees, with 256 pointers to a block. */
const PLACES = [
  0,
  9,
  250,
  12 + 256,
  12 + 256 + 700,
  12 + 256 + 65_536 - 5,
  12 + 256 + 65_536 + 900,
];

async function newFile(open: OpenWriter): Promise<ExtInode> {
  return open.run((handle) => {
    const root = open.core.inode(EXT_ROOT_INO);
    return allocInode(open.writer, handle, root, { mode: S_IFREG | 0o644, uid: 0, gid: 0 });
  });
}

/** Checks the blocks of `model` by the read decoder, and that there are no others near them. */
async function check(open: OpenWriter, inode: ExtInode, model: Map<number, number>): Promise<void> {
  for (const place of PLACES) {
    for (let at = place; at < place + 80; ) {
      const run = await open.core.metadata.run(() => open.core.mapBlocks(inode, at, 80));
      for (let step = 0; step < run.count && at + step < place + 80; step++) {
        const physical = run.physical === 0 ? undefined : run.physical + step;
        expect(physical).toBe(model.get(at + step));
      }
      at += run.count;
    }
  }
}

/** The pointer blocks that blocks of `model` need. */
function pointerBlocks(model: Map<number, number>): number {
  const needed = new Set<string>();
  for (const block of model.keys()) {
    let offset = block - 12;
    if (offset < 0) continue;
    if (offset < 256) needed.add("1");
    else if (offset < 256 + 65_536) {
      offset -= 256;
      needed.add("2").add(`2.${offset >> 8}`);
    } else {
      offset -= 256 + 65_536;
      needed
        .add("3")
        .add(`3.${offset >> 16}`)
        .add(`3.${offset >> 16}.${(offset >> 8) & 255}`);
    }
  }
  return needed.size;
}

describe.skipIf(!hasMke2fs)("writing block maps", () => {
  const image = (): string =>
    makeImage(scratch, "plain", ["-t", "ext2", "-b", "1024"], { sizeText: "24M" });

  test("a file that grows at its end has its pointer blocks between its data", async () => {
    const open = await openWriter(image());
    const inode = await newFile(open);
    const { writer } = open;
    for (let at = 0; at < 600; ) {
      at += (
        await open.run((handle) =>
          indMapForWrite(writer, handle, inode, at, Math.min(100, 600 - at)),
        )
      ).count;
    }
    const first = le32(inode.iBlock, 0);
    expect(le32(inode.iBlock, 11 * 4)).toBe(first + 11);
    expect(le32(inode.iBlock, 12 * 4)).toBe(first + 12);
    expect(le32(inode.iBlock, 13 * 4)).toBe(first + 12 + 1 + 256);
    expect(inode.sectorCount).toBe((600 + 1 + 3) * 2);
    await open.close();
  });

  test("a run ends with its array, as a boundary; blocks behind the reach are EFBIG", async () => {
    const open = await openWriter(image());
    const inode = await newFile(open);
    const { writer } = open;
    const run = await open.run((handle) => indMapForWrite(writer, handle, inode, 8, 100));
    expect(run).toMatchObject({ count: 4, isBoundary: true, isNew: true });
    const again = await open.run((handle) => indMapForWrite(writer, handle, inode, 8, 100));
    expect(again).toMatchObject({ count: 4, physical: run.physical, isNew: false });
    const far = open.run((handle) => indMapForWrite(writer, handle, inode, 2 ** 25, 1));
    await expect(far).rejects.toMatchObject({ code: "EFBIG" });
    expect([0, 12, 268, 65_804].map((at) => pointerBlocksFor(writer, inode, at))).toEqual([
      0, 1, 2, 3,
    ]);
    await open.close();
  });

  test.each([1, 2, 3, 4])("random changes leave what a map says, seed %i", async (seed) => {
    const arenaBytes = (seed % 2 === 0 ? 4 : 16) * MIB;
    const open = await openWriter(image(), { arenaBytes });
    const { writer } = open;
    const random = new Random(seed);
    const inode = await newFile(open);
    const before = writer.groups.totals.freeBlockCount;
    const model = new Map<number, number>();
    for (let round = 0; round < 300; round++) {
      const at = random.pick(PLACES) + random.below(60);
      const count = 1 + random.below(20);
      if (random.chance(0.15)) {
        const failing = open.run((handle) => {
          indMapForWrite(writer, handle, inode, at, count);
          removeIndirect(writer, handle, inode, at, at + 5);
          throw new FsError("EINTR");
        });
        await expect(failing).rejects.toMatchObject({ code: "EINTR" });
      } else if (random.chance(0.6)) {
        const run = await open.run((handle) => indMapForWrite(writer, handle, inode, at, count));
        for (let step = 0; step < run.count; step++) {
          expect(model.get(at + step)).toBe(run.isNew ? undefined : run.physical + step);
          model.set(at + step, run.physical + step);
        }
      } else {
        const end = random.chance(0.1) ? Number.MAX_SAFE_INTEGER : at + count;
        while (!(await open.run((handle) => removeIndirect(writer, handle, inode, at, end))));
        for (const block of model.keys()) if (block >= at && block < end) model.delete(block);
      }
      const sectors = (model.size + pointerBlocks(model)) * (1024 / SECTOR_BYTES);
      expect(inode.sectorCount, `seed ${seed}, round ${round}`).toBe(sectors);
      if (round % 30 === 0) await check(open, inode, model);
    }
    await check(open, inode, model);
    while (!(await open.run((handle) => removeIndirect(writer, handle, inode, 0))));
    expect(inode.sectorCount).toBe(0);
    expect(inode.iBlock).toEqual(new Uint8Array(60));
    expect(writer.groups.totals.freeBlockCount).toBe(before);
    await open.close();
  });
});
