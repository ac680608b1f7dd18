import { describe, expect, test } from "vitest";
import { expectClean, openContent } from "../../../test/support/content-volume.ts";
import { makeImage } from "../../../test/support/ext-images.ts";
import { requireTool, scratchDirectory } from "../../../test/support/tools.ts";
import { Random } from "../../lib/random.ts";
import { KIB } from "../../lib/units.ts";
import { FALLOC_FL_INSERT_RANGE } from "../vfs-write.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck");
const scratch = scratchDirectory("fallocate");
const BLOCK_BYTES = 4 * KIB;

describe.skipIf(!hasTools)("a range that is inserted", () => {
  test("leaves the file as it was where there is no room for it", async () => {
    const args = ["-t", "ext4", "-b", `${BLOCK_BYTES}`];
    const path = makeImage(scratch, "insert", args, { sizeText: "8M" });
    const volume = await openContent(path);
    const file = await volume.create("file");
    const random = new Random(9);
    // As many extents as there is room for in the inode: cutting one takes a block.
    for (const block of [0, 2, 4]) {
      await volume.write(file, block * BLOCK_BYTES, random.bytes(BLOCK_BYTES));
    }
    await volume.write(file, 6 * BLOCK_BYTES, random.bytes(4 * BLOCK_BYTES));
    await volume.content.sync();
    const content = (await volume.read(file)).slice();
    const { blocks } = volume.ctx;
    const takenCount = blocks.availableCount(true);
    expect(blocks.reserve(takenCount, true)).toBe(true);
    const insert = async (): Promise<void> =>
      volume.content.fallocate(
        file.inode,
        FALLOC_FL_INSERT_RANGE,
        8 * BLOCK_BYTES,
        2 * BLOCK_BYTES,
      );
    await expect(insert()).rejects.toMatchObject({ code: "ENOSPC" });
    expect(file.inode.size).toBe(content.length);
    expect(await volume.read(file)).toEqual(content);
    blocks.unreserve(takenCount);
    await insert();
    expect(file.inode.size).toBe(content.length + 2 * BLOCK_BYTES);
    expect((await volume.read(file)).subarray(10 * BLOCK_BYTES)).toEqual(
      content.subarray(8 * BLOCK_BYTES),
    );
    await volume.close();
    expectClean(path);
  });
});
