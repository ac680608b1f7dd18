import { describe, expect, test } from "vitest";
import {
  contentByDebugfs,
  expectClean,
  openContent,
} from "../../../test/support/content-volume.ts";
import { makeImage } from "../../../test/support/ext-images.ts";
import { requireTool, scratchDirectory } from "../../../test/support/tools.ts";
import { filemapFlush } from "../../cache/filemap-flush.ts";
import { equalBytes } from "../../lib/bytes.ts";
import { Random } from "../../lib/random.ts";
import { KIB } from "../../lib/units.ts";
import type { Handle } from "./handle.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("writeback");

describe.skipIf(!hasTools)("the write-out of extents", () => {
  test("writes nothing to blocks that went while it was told where they lie", async () => {
    const args = ["-t", "ext4", "-b", "4096"];
    const path = makeImage(scratch, "image", args, { sizeText: "8M" });
    const volume = await openContent(path);
    const { content, ctx } = volume;
    const file = await volume.create("file");
    const { mapping } = file.file;
    const folioBytes = 4 * KIB * 2 ** mapping.maxOrder;
    const bytes = new Random(4).bytes(4 * folioBytes);
    await volume.write(file, 0, bytes);
    // The first operation of the write-out gives places to all; its answer comes late.
    const { run } = ctx.transactions;
    ctx.transactions.run = async <T>(operation: (handle: Handle) => T): Promise<T> => {
      ctx.transactions.run = run;
      const value = await ctx.transactions.run(operation);
      await content.setSize(file.inode, folioBytes);
      await volume.write(file, folioBytes, bytes.subarray(folioBytes, 2 * folioBytes));
      return value;
    };
    await filemapFlush(mapping);
    await content.fsync(file.inode, file.file, false);
    expect(file.inode.delalloc).toBe(undefined);
    await volume.close();
    expectClean(path);
    const written = contentByDebugfs(path, scratch, "file");
    expect(equalBytes(written, bytes.subarray(0, 2 * folioBytes))).toBe(true);
  });
});
