import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  type ContentVolume,
  contentByDebugfs,
  openContent,
} from "../../../test/support/content-volume.ts";
import { makeImage } from "../../../test/support/ext-images.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("fsync");

const KINDS: readonly (readonly [name: string, args: readonly string[]])[] = [
  ["ext4", ["-t", "ext4", "-b", "4096"]],
  ["ext3", ["-t", "ext3", "-b", "1024"]],
  ["ext4 without a journal", ["-t", "ext4", "-b", "4096", "-O", "^has_journal"]],
];

let imageCount = 0;

async function openVolume(args: readonly string[]): Promise<ContentVolume> {
  return openContent(makeImage(scratch, `image-${imageCount++}`, args, { sizeText: "8M" }));
}

/** The content of `name` after a crash right now. */
function afterCrash(volume: ContentVolume, name: string): string {
  const path = join(scratch, "crashed.img");
  volume.save(path);
  runTool("e2fsck", ["-fy", path], { okCodes: [0, 1] });
  return new TextDecoder().decode(contentByDebugfs(path, scratch, name));
}

describe.skipIf(!hasTools).each(KINDS)("fsync, %s", (_name, args) => {
  test("of an inode that was collected and read again commits what changed it before", async () => {
    const volume = await openVolume(args);
    const first = await volume.create("kept");
    await volume.write(first, 0, new TextEncoder().encode("content"));
    await volume.content.sync();
    // As if nobody had held it for a while.
    volume.core.inodes.delete(first.inode);
    await volume.content.mappings.evict(first.inode);
    const again = volume.open(await volume.inode(first.inode.ino));
    expect(again.inode).not.toBe(first.inode);
    await volume.content.fsync(again.inode, again.file, false);
    expect(afterCrash(volume, "kept")).toBe("content");
    await volume.close();
  });

  test("of the data of a new file without any keeps its name", async () => {
    const volume = await openVolume(args);
    const { inode, file } = await volume.create("empty");
    await volume.content.fsync(inode, file, true);
    const path = join(scratch, "crashed.img");
    volume.save(path);
    runTool("e2fsck", ["-fy", path], { okCodes: [0, 1] });
    expect(runTool("debugfs", ["-R", "ls -p /", path])).toContain("/empty/");
    await volume.close();
  });

  test("of an inode that was only read makes the data of the device durable", async () => {
    const volume = await openVolume(args);
    const { inode } = await volume.create("file");
    await volume.ctx.transactions.commit();
    volume.core.inodes.delete(inode);
    const again = await volume.inode(inode.ino);
    expect(again).not.toBe(inode);
    const before = volume.store.flushes;
    await volume.content.fsync(again, null, false);
    expect(volume.store.flushes).toBe(before + 1);
    await volume.close();
  });
});
