import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  contentByDebugfs,
  expectClean,
  openContent,
} from "../../../test/support/content-volume.ts";
import { makeImage } from "../../../test/support/ext-images.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";
import { Random } from "../../lib/random.ts";
import { dirLookup } from "./dir.ts";
import { EXT_ROOT_INO } from "./layout.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("inline-write");
const ARGS: readonly string[] = ["-t", "ext4", "-b", "4096", "-I", "256", "-O", "inline_data"];

describe.skipIf(!hasTools)("a block that inline content moves into", () => {
  test.each([
    ["50", 50],
    ["100", 100],
  ])("and that cannot be written leaves %s bytes where they were", async (name, lengthBytes) => {
    const content = new Random(7).bytes(lengthBytes + 4000);
    const path = makeImage(scratch, `image-${name}`, ARGS, { sizeText: "8M" });
    writeFileSync(join(scratch, "file"), content.subarray(0, lengthBytes));
    runTool("debugfs", ["-w", "-R", `write ${join(scratch, "file")} file`, path]);
    const volume = await openContent(path);
    const ino = await volume.core.metadata.run(() =>
      dirLookup(volume.core, volume.core.inode(EXT_ROOT_INO), new TextEncoder().encode("file")),
    );
    const file = volume.open(await volume.inode(ino));
    expect(file.inode.isInline).toBe(true);
    const freeBefore = volume.ctx.groups.totals.freeBlockCount;
    const heal = volume.faulty.inject({ op: "write", calls: Infinity });
    const rest = content.subarray(lengthBytes);
    await expect(volume.write(file, lengthBytes, rest)).rejects.toMatchObject({ code: "EIO" });
    heal();
    expect(await volume.read(file)).toEqual(content.slice(0, lengthBytes));
    expect(file.inode.isInline).toBe(true);
    expect(volume.ctx.groups.totals.freeBlockCount).toBe(freeBefore);
    await volume.content.fsync(file.inode, file.file, false);
    await volume.write(file, lengthBytes, rest);
    expect(await volume.read(file)).toEqual(content);
    await volume.close();
    expectClean(path);
    expect(contentByDebugfs(path, scratch, "file")).toEqual(content);
  });
});
