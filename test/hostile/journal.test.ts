/**
 * Journals made to catch a reader out: names that are paths, maps in circles, records by the ten
 * thousand.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EXTENTS_FL, INODE, SB } from "../../src/fs/ext/layout.ts";
import { putLe16, putLe32 } from "../../src/lib/bytes.ts";
import { KIB } from "../../src/lib/units.ts";
import { creat, delRange, FastCommitBuilder, link } from "../support/fast-commit-builder.ts";
import { type JournalImage, makeJournalImage } from "../support/hostile-images.ts";
import { judgeBytes } from "../support/hostile-judge.ts";
import { ImagePatch } from "../support/hostile-patch.ts";
import { HostileWatch } from "../support/hostile-watch.ts";
import { JournalBuilder, replayCrafted } from "../support/journal-builder.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";

const hasTools = ["mke2fs", "debugfs"].map(requireTool).every(Boolean);
const directory = scratchDirectory("hostile-journal");
const watch = new HostileWatch();
afterAll(() => watch.stop());

const AREA_BLOCKS = 400;

function replay(fast: FastCommitBuilder): ReturnType<typeof replayCrafted> {
  const log = new JournalBuilder({
    blockCount: 1024 + AREA_BLOCKS,
    fastCommitBlocks: AREA_BLOCKS,
    sequence: 6,
  });
  log.D(6, 25).C(6);
  return replayCrafted(fast.commit().writeTo(log));
}

describe("fast commits", () => {
  test.each(["../evil", "/etc/passwd", "a/b", "..", ".", "a\0b"])(
    "with the name %j",
    async (name) => {
      for (const record of [creat(12, 16, name), link(12, 16, name)]) {
        const replaying = replay(new FastCommitBuilder(7).add(record));
        await expect(replaying).rejects.toMatchObject({ code: "EUCLEAN" });
      }
    },
  );

  test("with names of dots that are names", async () => {
    const fast = new FastCommitBuilder(7).add(creat(12, 16, "..."), creat(12, 17, ".a"));
    expect((await replay(fast)).replay.fastCommits?.directoryOf(12)?.peek(Buffer.from("..."))).toBe(
      16,
    );
  });

  test("that create 60,000 files take no time that grows with its square", async () => {
    const fast = new FastCommitBuilder(7);
    for (let index = 0; index < 60_000; index++) fast.add(creat(12, 16 + index, `${index}`));
    await watch.run("fast-commit/creat", async () => {
      const { replay: done } = await replay(fast);
      expect(done.fastCommits?.directoryOf(12)?.peek(Buffer.from("59999"))).toBe(60_015);
    });
  });

  test("that cut 60,000 pieces out of a file, from its end", async () => {
    const fast = new FastCommitBuilder(7);
    for (let index = 60_000; index > 0; index--) fast.add(delRange(12, 2 * index, 1));
    await watch.run("fast-commit/ranges", () => replay(fast));
  });
});

describe.skipIf(!hasTools)("the journal's own file", () => {
  let image: JournalImage;
  beforeAll(() => {
    image = makeJournalImage(directory, false);
  });

  test("in a circle of pointers, of 4 TiB", async () => {
    const patch = await ImagePatch.of(image);
    const raw = patch.inode(8);
    const self = image.blocks[0]!;
    putLe32(raw, INODE.i_flags, 0);
    putLe32(raw, INODE.i_size_high, 0x3ff);
    for (let word = 0; word < 15; word++) putLe32(raw, INODE.i_block + 4 * word, self);
    for (let at = 0; at < KIB; at += 4) putLe32(patch.block(self), at, self);
    const verdict = await watch.run("journal/pointers", () => judgeBytes(patch.bytes));
    expect(verdict.outcome).toBe("EUCLEAN");
  });

  test("of extents that all lie over one block", async () => {
    const patch = await ImagePatch.of(image);
    const raw = patch.inode(8);
    patch.superblock[SB.s_jnl_backup_type] = 0;
    putLe32(raw, INODE.i_flags, EXTENTS_FL);
    for (let entry = 0; entry < 4; entry++) {
      const at = INODE.i_block + 12 * (entry + 1);
      putLe32(raw, at, entry * 4000);
      putLe16(raw, at + 4, 4000);
      putLe32(raw, at + 8, 100);
    }
    putLe16(raw, INODE.i_block + 2, 4);
    putLe16(raw, INODE.i_block + 6, 0);
    putLe32(raw, INODE.i_size_lo, 16_000 * KIB);
    const verdict = await watch.run("journal/extents", () => judgeBytes(patch.bytes));
    expect(verdict.outcome).toBe("EUCLEAN");
  });
});
